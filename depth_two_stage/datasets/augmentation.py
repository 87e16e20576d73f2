# SPDX-License-Identifier: Apache-2.0
"""Random views for training in which image, depth, sparse points and camera move together.

Paper E: small rotation (±5°), scale s in [1, 1.5] with depth divided by s, colour, left-right
flip with probability 0.5, random crop; each paper's figures are in `ranges`. Rotation and
scale are about the principal point: there rotation is exactly a camera's roll, and the zoomed
image with depth / s is, for the unchanged focal length, the scene pressed together along the axis
by s (x and y of a point stay, z becomes z / s).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np

from depth_two_stage.camera import Camera

from .ranges import Ranges, check_range, check_share, ranges_of


class View(NamedTuple):
    """What an augmentation gives: uint8 (h, w, 3), float32 (h, w) m, 0 = none, and the camera."""

    rgb: np.ndarray
    depth: np.ndarray
    sparse: np.ndarray | None
    camera: Camera


@dataclass
class Augmentation:
    """Call with (rgb, depth, sparse, camera) for a random `View`; seeded by its generator.

    ``size`` (h, w) is the crop; None keeps the input's size. ``focal`` px first brings an image
    of a longer focal length down to it (area-averaged), so that recordings of any camera train
    the network's canonical one; None keeps the input's. ``rotation`` degrees, ``scale`` low and
    high, ``flip`` probability. Colour: brightness and contrast factors within 1 ± ``colour``,
    each channel's gain within 1 ± ``colour``/2; then ``gain`` low and high, a factor of each
    channel (E, after Eigen et al., has this alone). ``translate`` False crops the centre.
    ``enabled`` False gives the centre crop alone.

    Truth moves by nearest neighbour; samples move one by one, so none is doubled or blended.
    Where the rotated frame does not reach, the image is mirrored and there is no truth. A NaN in
    the truth stays one pixel's NaN, for the training's door to count; among samples it is none.
    """

    rng: np.random.Generator
    size: tuple[int, int] | None = None
    focal: float | None = None
    rotation: float = 5.0
    scale: tuple[float, float] = (1.0, 1.5)
    flip: float = 0.5
    colour: float = 0.2
    enabled: bool = True
    gain: tuple[float, float] = (1.0, 1.0)
    translate: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"rotation: expected 0 to 180 degrees, got {self.rotation!r}")
        if not 0 <= self.colour < 1:
            raise ValueError(f"colour: expected at least 0, less than 1, got {self.colour!r}")
        if self.focal is not None and not self.focal > 0:
            raise ValueError(f"focal: expected a positive number of pixels, got {self.focal!r}")
        check_range("scale", self.scale)
        check_range("gain", self.gain)
        check_share("flip", self.flip)

    @classmethod
    def of(cls, ranges: str | Ranges, rng: np.random.Generator, **options: Any) -> Augmentation:
        """The views of a paper: a name of `ranges.RANGES` or ranges; ``options``: size, focal."""
        r = ranges_of(ranges) if isinstance(ranges, str) else ranges
        return cls(
            rng,
            rotation=r.rotation,
            scale=r.scale,
            flip=r.flip,
            colour=0.0,
            gain=r.gain,
            translate=r.translate,
            **options,
        )

    def __call__(
        self,
        rgb: np.ndarray,
        depth: np.ndarray,
        sparse: np.ndarray | None,
        camera: Camera,
    ) -> View:
        """Draw one view of a frame: uint8 (H, W, 3), float32 (H, W) m, 0 = none."""
        _check_frame(rgb, depth, sparse, camera)
        if self.focal is not None and camera.focal > 1.01 * self.focal:
            rgb, depth, sparse, camera = shrink(
                rgb, depth, sparse, camera, self.focal / camera.focal
            )
        h, w = self.size or camera.size
        s, angle, flip = 1.0, 0.0, False
        place = np.array([0.5, 0.5])
        if self.enabled:
            s = self.rng.uniform(*self.scale)
            angle = np.deg2rad(self.rng.uniform(-self.rotation, self.rotation))
            flip = self.rng.random() < self.flip
            place = self.rng.random(2) if self.translate else place
        M, cx, cy = _motion(camera, s, angle, place, (h, w))
        rgb = cv2.warpAffine(
            rgb, M, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        depth = cv2.warpAffine(depth, M, (w, h), flags=cv2.INTER_NEAREST) / np.float32(s)
        sparse = None if sparse is None else _move_points(sparse, M, (h, w), s)
        camera = Camera(w, h, camera.fx, camera.fy, cx, cy)
        if flip:
            rgb, depth = np.ascontiguousarray(rgb[:, ::-1]), np.ascontiguousarray(depth[:, ::-1])
            sparse = None if sparse is None else np.ascontiguousarray(sparse[:, ::-1])
            camera = camera.flipped()
        if self.enabled and self.colour > 0:
            rgb = self._jitter(rgb)
        if self.enabled and self.gain != (1.0, 1.0):
            levels = np.arange(256)[:, None] * self.rng.uniform(*self.gain, 3)
            rgb = cv2.LUT(rgb, np.clip(np.rint(levels), 0, 255).astype(np.uint8)[None])
        return View(rgb, depth, sparse, camera)

    def _jitter(self, rgb: np.ndarray) -> np.ndarray:
        contrast, brightness = self.rng.uniform(1 - self.colour, 1 + self.colour, 2)
        gain = self.rng.uniform(1 - self.colour / 2, 1 + self.colour / 2, 3)
        mean = float(rgb.mean())
        # One table a channel: (value - mean) · contrast + mean · brightness, times its gain.
        levels = (np.arange(256) - mean) * contrast + mean * brightness
        table = np.clip(levels[:, None] * gain, 0, 255).astype(np.uint8)
        return cv2.LUT(rgb, table[None])


@dataclass
class PairAugmentation:
    """Call with (rough, target) for a random pair before stage two (B, section 4.2, Make3D).

    Both are depth in metres (…, H, W), NumPy's or torch's, 0 = none: rough × s, target / s, both
    mirrored with probability ``flip``, both times one ``brightness`` factor. A batch gets one draw:
    B trains with batch 1.
    """

    rng: np.random.Generator
    scale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    brightness: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        check_range("scale", self.scale)
        check_range("brightness", self.brightness)
        check_share("flip", self.flip)

    @classmethod
    def of(cls, ranges: str | Ranges, rng: np.random.Generator) -> PairAugmentation:
        """The pairs of a paper: a name of `ranges.RANGES` or ranges, whose ``pair`` is taken."""
        pair = (ranges_of(ranges) if isinstance(ranges, str) else ranges).pair
        return cls(rng, pair.scale, pair.flip, pair.brightness)

    def __call__(self, rough: Any, target: Any) -> tuple[Any, Any]:
        """Draw one pair."""
        if rough.shape != target.shape or rough.ndim < 2:
            raise ValueError(
                f"target: expected rough's shape {tuple(rough.shape)}, got {tuple(target.shape)}"
            )
        s = float(self.rng.uniform(*self.scale))
        mirrored = self.rng.random() < self.flip
        light = float(self.rng.uniform(*self.brightness))
        rough, target = rough * (s * light), target * (light / s)
        if mirrored:
            columns = list(range(rough.shape[-1] - 1, -1, -1))  # what both kinds of array take
            rough, target = rough[..., columns], target[..., columns]
        return rough, target


def _check_frame(
    rgb: np.ndarray, depth: np.ndarray, sparse: np.ndarray | None, camera: Camera
) -> None:
    """One frame has one size; the colours are bytes."""
    if rgb.dtype != np.uint8 or rgb.shape != (*camera.size, 3):
        raise ValueError(
            f"rgb: expected uint8 of the camera's size {(*camera.size, 3)}, "
            f"got {rgb.dtype} {rgb.shape}"
        )
    for name, value in (("depth", depth), ("sparse", sparse)):
        if value is not None and value.shape != camera.size:
            raise ValueError(f"{name}: expected the camera's size {camera.size}, got {value.shape}")


def shrink(
    rgb: np.ndarray,
    depth: np.ndarray,
    sparse: np.ndarray | None,
    camera: Camera,
    factor: float,
) -> View:
    """The frame at ``factor`` < 1 of its size: image area-averaged, truth nearest, points moved."""
    small = camera.resized(
        max(1, round(camera.width * factor)), max(1, round(camera.height * factor))
    )
    h, w = small.size
    sx, sy = w / camera.width, h / camera.height
    rgb = cv2.resize(rgb, (w, h), interpolation=cv2.INTER_AREA)
    depth = cv2.resize(depth, (w, h), interpolation=cv2.INTER_NEAREST_EXACT)
    if sparse is not None:
        M = np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5]])
        sparse = _move_points(sparse, M, (h, w), 1.0)
    return View(rgb, depth, sparse, small)


def _motion(
    camera: Camera, s: float, angle: float, place: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, float, float]:
    """Affine map (2, 3) of input to output pixels, and where the principal point comes to lie.

    The frame scaled about the principal point spans s·(H, W); the crop lies in it at ``place``
    (0…1), or centred where the frame is smaller than the crop.
    """
    h, w = size
    left, top = s * (-0.5 - camera.cx), s * (-0.5 - camera.cy)
    spare_x, spare_y = s * camera.width - w, s * camera.height - h
    x0 = left + spare_x * (place[0] if spare_x > 0 else 0.5)
    y0 = top + spare_y * (place[1] if spare_y > 0 else 0.5)
    cx, cy = -0.5 - x0, -0.5 - y0
    c, d = s * np.cos(angle), s * np.sin(angle)
    # Focal lengths differ by less than 1 % in real cameras; the shear keeps the roll exact.
    ratio = camera.fx / camera.fy
    A = np.array([[c, -d * ratio], [d / ratio, c]])
    t = np.array([cx, cy]) - A @ np.array([camera.cx, camera.cy])
    return np.column_stack([A, t]), float(cx), float(cy)


def _move_points(sparse: np.ndarray, M: np.ndarray, size: tuple[int, int], s: float) -> np.ndarray:
    """Each sample to the pixel where it comes to lie, depth divided by s; the nearest wins."""
    h, w = size
    v, u = np.nonzero(np.isfinite(sparse) & (sparse > 0))
    z = sparse[v, u] / np.float32(s)
    moved = np.rint(np.column_stack([u, v]) @ M[:, :2].T + M[:, 2]).astype(np.int64)
    inside = (moved >= 0).all(axis=1) & (moved[:, 0] < w) & (moved[:, 1] < h)
    moved, z = moved[inside], z[inside]
    order = np.argsort(-z, kind="stable")
    out = np.zeros(size, np.float32)
    out[moved[order, 1], moved[order, 0]] = z[order]
    return out
