# SPDX-License-Identifier: Apache-2.0
"""How a scene's surfaces and lights appear: as it was built, or at random (domain randomisation).

A network that has seen rooms in every look takes a real one for one more of them (Tobin et al.,
IROS 2017). Shape and depth do not change with the look.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import textures
from .scenes import Scene

#: Atlases of textures that random looks choose from; each takes 10 MB and half a second, once.
ATLASES = 6
_TEXTURE, _SCALE, _TINT = 6, 7, slice(8, 11)  # columns of `Scene.attributes`


@dataclass(frozen=True)
class Look:
    """What shading asks for: ``attributes`` (P, 12) as a scene's, and the light.

    ``lamps`` (X, Y, 3) m, one a room, of ``power`` at their place, falling off with the square of
    the distance times ``falloff``; ``ambient`` is there everywhere. ``contrast`` (P,) of textures
    about middle grey, None: as they are; ``channels`` an order of their colours. ``sun``: towards a
    light from far away, (3,), as long as it is strong; what it casts has the pattern of texture
    ``blind``, of which ``across`` (2, 3) are the axes, texels per metre. ``mean_level``: the camera
    exposes the picture to that mean grey level; None: as light as it is.
    """

    attributes: np.ndarray
    lamps: np.ndarray
    ambient: float
    power: float = 1.1
    falloff: float = 0.08
    atlas: int = 0
    contrast: np.ndarray | None = None
    channels: tuple[int, int, int] = (0, 1, 2)
    sun: np.ndarray | None = None
    blind: int = 0
    across: np.ndarray | None = None
    mean_level: float | None = None


def as_built(scene: Scene) -> Look:
    """The look that a scene has of itself."""
    return Look(scene.attributes, scene.lamps, scene.ambient)


def random_look(scene: Scene, rng: np.random.Generator) -> Look:
    """Other textures, colours and lights, plausible or not."""
    count = len(scene.primitives)
    # 1. Surfaces: every one its own texture, its scale, contrast (0: plain) and colour.
    attributes = scene.attributes.copy()
    attributes[:, _TEXTURE] = rng.integers(textures.KINDS, size=count)
    attributes[:, _SCALE] = np.exp(rng.uniform(np.log(30), np.log(600), count))
    grey = np.exp(rng.uniform(np.log(0.15), np.log(1.2), (count, 1)))
    lamp = 1 + rng.uniform(-0.2, 0.2, 3)  # warm or cold
    attributes[:, _TINT] = np.clip(grey * (1 + rng.normal(0, 0.15, (count, 3))), 0.05, 1.3) * lamp
    contrast = rng.uniform(0, 1.3, count).astype(np.float32)
    # 2. Lamps anywhere in their rooms.
    x, y, wide, deep = np.moveaxis(scene.rooms, 2, 0)
    u, v, z = rng.uniform(0.1, 0.9, (3, *x.shape))
    lamps = np.stack([x + u * wide, y + v * deep, 0.8 + z * (scene.lamps[..., 2] - 0.8)], axis=2)
    # 3. Every other time light from outside, in patches.
    sun = across = None
    if rng.random() < 0.5:
        direction = rng.normal(0, 1, 3)
        direction[2] = abs(direction[2])
        direction /= np.linalg.norm(direction)
        sun = (direction * rng.uniform(0.3, 1.5)).astype(np.float32)
        axes = np.linalg.qr(np.column_stack([direction, rng.normal(0, 1, (3, 2))]))[0][:, 1:]
        across = (axes.T * rng.uniform(20, 150)).astype(np.float32)
    return Look(
        attributes,
        lamps,
        rng.uniform(0.1, 0.8),
        rng.uniform(0.2, 1.8),
        rng.uniform(0.02, 0.25),
        int(rng.integers(1, ATLASES + 1)),
        contrast,
        tuple(int(i) for i in rng.permutation(3)),
        sun,
        int(rng.integers(textures.KINDS)),
        across,
        rng.uniform(60, 160),
    )
