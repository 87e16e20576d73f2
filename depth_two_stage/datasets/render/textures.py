# SPDX-License-Identifier: Apache-2.0
"""An atlas of procedural textures with mip levels, sampled for a whole image at once."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

SIZE, LEVELS, PAD = 256, 6, 2
KINDS = 24


@lru_cache(maxsize=8)
def atlas(number: int = 0) -> np.ndarray:
    """Textures side by side, mip levels below each other, uint8 (rows, columns, 3)."""
    rng = np.random.default_rng(20 + number)
    makers = (_plaster, _checker, _bricks, _planks, _stripes, _speckle, _posters, _tiles)
    columns = []
    for kind in range(KINDS):
        image = np.clip(makers[kind % len(makers)](rng), 0, 1).astype(np.float32)
        levels = []
        for level in range(LEVELS):
            size = SIZE >> level
            small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
            padded = cv2.copyMakeBorder(small, PAD, PAD, PAD, PAD, cv2.BORDER_WRAP)
            levels.append(np.pad(padded, ((0, 0), (0, SIZE - size), (0, 0))))
        columns.append(np.concatenate(levels))
    return np.round(np.concatenate(columns, axis=1) * 255).astype(np.uint8)


def sample(
    kind: np.ndarray, u: np.ndarray, v: np.ndarray, texels: np.ndarray, number: int = 0
) -> np.ndarray:
    """Colour uint8 (H, W, 3) at texture coordinates u, v (texels of level 0, any range).

    ``kind`` is the texture's place in the atlas of this number and ``texels`` how many texels one
    pixel covers, all (H, W).
    """
    level = np.clip(np.log2(np.maximum(texels, 1)) + 0.5, 0, LEVELS - 1).astype(np.int32)
    size = (SIZE >> level).astype(np.float32)
    share = size / SIZE
    # Level l begins below SIZE + SIZE/2 + … rows and 2 PAD rows for each level above.
    top = (2 * SIZE - 2 * size) + 2 * PAD * level
    x = np.mod(u, SIZE) * share + (kind * (SIZE + 2 * PAD) + PAD) - np.float32(0.5)
    y = np.mod(v, SIZE) * share + (top + PAD) - np.float32(0.5)
    return cv2.remap(atlas(number), x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)


def _noise(rng: np.random.Generator, cells: int, octaves: int = 4) -> np.ndarray:
    """Periodic value noise 0…1, float32 (SIZE, SIZE), from a grid of ``cells`` upward."""
    total, weight = np.zeros((SIZE, SIZE), np.float32), 0.0
    for octave in range(octaves):
        n = min(cells << octave, SIZE)
        grid = cv2.copyMakeBorder(rng.random((n, n), np.float32), 1, 1, 1, 1, cv2.BORDER_WRAP)
        step = SIZE // n
        big = cv2.resize(grid, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
        total += big[step : step + SIZE, step : step + SIZE] * 0.6**octave
        weight += 0.6**octave
    return total / weight


def _coloured(value: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return low + value[..., None] * (high - low)


def _colours(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random colours (count, 3) of moderate saturation, 0.15…1."""
    grey = rng.uniform(0.35, 0.9, (count, 1))
    return np.clip(grey + rng.normal(0, 0.08, (count, 3)), 0.15, 1)


def _plaster(rng: np.random.Generator) -> np.ndarray:
    return _coloured(_noise(rng, 4, 6), *(_colours(rng, 1)[0] * f for f in (0.75, 1.1)))


def _checker(rng: np.random.Generator) -> np.ndarray:
    y, x = np.indices((SIZE, SIZE)) // 32
    return _coloured((x + y) % 2 * 0.8 + 0.2 * _noise(rng, 8), *_colours(rng, 2))


def _bricks(rng: np.random.Generator) -> np.ndarray:
    y, x = np.indices((SIZE, SIZE))
    shift = (y // 32 % 2) * 32
    mortar = (y % 32 < 4) | ((x + shift) % 64 < 4)
    tone = rng.random((8, 4))[y // 32, (x + shift) // 64 % 4]
    low, high = _colours(rng, 2)
    image = _coloured((0.6 * tone + 0.4 * _noise(rng, 16)).astype(np.float32), low, high)
    return np.where(mortar[..., None], 0.5 * (low + high) + 0.2, image)


def _planks(rng: np.random.Generator) -> np.ndarray:
    y, x = np.indices((SIZE, SIZE))
    grain = cv2.resize(_noise(rng, 8, 5)[:, ::8], (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    tone = rng.random(8)[y // 32] + 0.15 * (x // 128)
    image = _coloured((0.4 * tone + 0.6 * grain).astype(np.float32), *_colours(rng, 2))
    return np.where((y % 32 < 2)[..., None], image * 0.5, image)


def _stripes(rng: np.random.Generator) -> np.ndarray:
    widths = rng.integers(4, 24, 40)
    which = np.repeat(np.arange(40), widths)[:SIZE]
    which = np.pad(which, (0, SIZE - len(which)), mode="edge")
    image = np.broadcast_to(_colours(rng, 40)[which][None], (SIZE, SIZE, 3))
    return image * (0.8 + 0.3 * _noise(rng, 8)[..., None])


def _speckle(rng: np.random.Generator) -> np.ndarray:
    fine = cv2.GaussianBlur(rng.random((SIZE, SIZE)).astype(np.float32), (3, 3), 0)
    return _coloured(0.6 * fine + 0.4 * _noise(rng, 4), *_colours(rng, 2))


def _posters(rng: np.random.Generator) -> np.ndarray:
    image = np.empty((SIZE, SIZE, 3))
    image[:] = _colours(rng, 1)[0]
    for colour in _colours(rng, 40):
        x, y = rng.integers(0, SIZE - 8, 2)
        w, h = rng.integers(6, 80, 2)
        image[y : y + h, x : x + w] = np.clip(colour * rng.uniform(0.4, 1.3), 0, 1)
    return image


def _tiles(rng: np.random.Generator) -> np.ndarray:
    y, x = np.indices((SIZE, SIZE))
    tone = rng.random((4, 4))[y // 64, x // 64]
    image = _coloured((0.4 * tone + 0.6 * _noise(rng, 8)).astype(np.float32), *_colours(rng, 2))
    return np.where(((y % 64 < 3) | (x % 64 < 3))[..., None], image * 0.6, image)
