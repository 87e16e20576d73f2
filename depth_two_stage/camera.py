# SPDX-License-Identifier: Apache-2.0
"""The rectified pinhole camera, and the lens that has to be rectified first.

Pixel centres lie at integer coordinates (OpenCV and ROS): the image spans [-0.5, width - 0.5].
Frames are optical (REP 103): x right, y down, z forward; depth is metres along z, 0 = none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

DISTORTION_MODELS = ("plumb_bob", "rational_polynomial", "equidistant")


@dataclass(frozen=True)
class Camera:
    """Pinhole camera: size in pixels, focal lengths and principal point in pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            value = getattr(self, name)
            if int(value) != value or value < 1:
                raise ValueError(f"camera {name}: expected a positive integer, got {value!r}")
            object.__setattr__(self, name, int(value))
        for name in ("fx", "fy", "cx", "cy"):
            value = float(getattr(self, name))
            if not np.isfinite(value) or (name[0] == "f" and value <= 0):
                wanted = "a positive number of pixels" if name[0] == "f" else "a finite number"
                raise ValueError(f"camera {name}: expected {wanted}, got {value!r}")
            object.__setattr__(self, name, value)

    @property
    def K(self) -> np.ndarray:
        """Intrinsic matrix, float64 (3, 3), pixels."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    @property
    def focal(self) -> float:
        """Geometric mean of the focal lengths, pixels."""
        return float(np.sqrt(self.fx * self.fy))

    @classmethod
    def from_K(cls, K: np.ndarray, width: int, height: int) -> Camera:
        """Camera from an intrinsic matrix (3, 3); skew is not modelled."""
        K = np.asarray(K, np.float64).reshape(3, 3)
        return cls(width, height, K[0, 0], K[1, 1], K[0, 2], K[1, 2])

    def resized(self, width: int, height: int) -> Camera:
        """The camera of the image resized to (height, width), half-pixel centres."""
        sx, sy = width / self.width, height / self.height
        cx, cy = (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5
        return Camera(width, height, self.fx * sx, self.fy * sy, cx, cy)

    def cropped(self, x: int, y: int, width: int, height: int) -> Camera:
        """The camera of image[y:y + height, x:x + width]; negative x, y mean padding."""
        return Camera(width, height, self.fx, self.fy, self.cx - x, self.cy - y)

    def flipped(self) -> Camera:
        """The camera of the image mirrored left to right."""
        return Camera(self.width, self.height, self.fx, self.fy, self.width - 1 - self.cx, self.cy)

    def rays(self) -> np.ndarray:
        """Points at depth 1 m for each pixel, float32 (H, W, 3), optical frame."""
        x = ((np.arange(self.width) - self.cx) / self.fx).astype(np.float32)
        y = ((np.arange(self.height) - self.cy) / self.fy).astype(np.float32)
        rays = np.ones((self.height, self.width, 3), np.float32)
        rays[..., 0] = x
        rays[..., 1] = y[:, None]
        return rays

    def backproject(self, depth: np.ndarray) -> np.ndarray:
        """Depth (H, W) m → points float32 (H, W, 3) m, optical frame; no depth gives (0, 0, 0)."""
        if depth.shape != self.size:
            raise ValueError(f"depth: expected shape {self.size}, got {depth.shape}")
        return self.rays() * np.asarray(depth, np.float32)[..., None]

    def pixels(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points (N, 3) m, optical frame → (pixel coordinates (N, 2), depth (N,) m)."""
        z = points[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            u = points[:, 0] / z * self.fx + self.cx
            v = points[:, 1] / z * self.fy + self.cy
        return np.stack([u, v], axis=1), z

    def project(self, points: np.ndarray, T_camera_points: np.ndarray | None = None) -> np.ndarray:
        """Points (N, 3) m → sparse depth float32 (H, W) m, 0 = none; the nearest point wins.

        ``T_camera_points`` (4, 4) moves the points into the optical frame first.
        """
        points = np.asarray(points)
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"points: expected shape (N, 3), got {points.shape}")
        points = points.astype(np.float64)
        if T_camera_points is not None:
            T = np.asarray(T_camera_points, np.float64)
            points = points @ T[:3, :3].T + T[:3, 3]
        x, y, z = points.T
        ahead = (z > 1e-6) & (z < np.finfo(np.float32).max) & np.isfinite(x) & np.isfinite(y)
        uv, z = self.pixels(points[ahead])
        u, v = uv.T
        # The bound is checked before the cast: a huge coordinate would wrap around in an integer.
        inside = (u > -0.5) & (v > -0.5) & (u < self.width - 0.5) & (v < self.height - 0.5)
        u, v = (np.rint(place[inside]).astype(np.int64) for place in (u, v))
        nearest = np.full(self.height * self.width, np.inf, np.float32)
        np.minimum.at(nearest, v * self.width + u, z[inside].astype(np.float32))
        nearest[np.isinf(nearest)] = 0
        return nearest.reshape(self.size)


@dataclass(frozen=True)
class Lens:
    """A raw camera as CameraInfo describes it: K (3, 3), distortion D (n,), R (3, 3), P's camera.

    ``model`` is one of plumb_bob, rational_polynomial, equidistant. ``R`` turns the raw optical
    frame into the rectified one; ``rectified`` is the pinhole camera of the rectified image.
    """

    width: int
    height: int
    K: np.ndarray
    D: np.ndarray = field(default_factory=lambda: np.zeros(5))
    model: str = "plumb_bob"
    R: np.ndarray = field(default_factory=lambda: np.eye(3))
    P: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.model not in DISTORTION_MODELS:
            raise ValueError(
                f"distortion model: expected one of {', '.join(DISTORTION_MODELS)}, "
                f"got {self.model!r}"
            )
        object.__setattr__(self, "K", np.asarray(self.K, np.float64).reshape(3, 3))
        object.__setattr__(self, "D", np.asarray(self.D, np.float64).reshape(-1))
        object.__setattr__(self, "R", np.asarray(self.R, np.float64).reshape(3, 3))
        if self.model == "equidistant" and self.D.size not in (0, 4):
            raise ValueError(f"distortion: expected 4 values (equidistant), got {self.D.size}")
        if self.model != "equidistant" and self.D.size not in (0, 4, 5, 8, 12, 14):
            raise ValueError(f"distortion: expected 4, 5, 8, 12 or 14 values, got {self.D.size}")
        if not all(np.isfinite(part).all() for part in (self.K, self.D, self.R)):
            raise ValueError("lens: expected finite K, D and R, got NaN or infinity")
        if (
            np.abs(self.R).max() > 1.01
            or np.abs(self.R @ self.R.T - np.eye(3)).max() > 0.01
            or np.linalg.det(self.R) < 0
        ):
            raise ValueError(f"lens: expected R to be a rotation, got {self.R.tolist()}")
        raw = Camera.from_K(self.K, self.width, self.height)  # raises on a focal length of 0
        object.__setattr__(self, "width", raw.width)  # 640.0 from a file is 640
        object.__setattr__(self, "height", raw.height)

    @cached_property
    def rectified(self) -> Camera:
        """The pinhole camera of the rectified image: P's left 3×3 block, or K without a P."""
        K = self.K if self.P is None else np.asarray(self.P, np.float64).reshape(3, -1)[:, :3]
        return Camera.from_K(K, self.width, self.height)

    @cached_property
    def is_rectified(self) -> bool:
        """True when rectifying would change nothing: no distortion, no rotation, P = K."""
        return (
            not np.any(self.D)
            and np.allclose(self.R, np.eye(3), atol=1e-9)
            and np.allclose(self.K, self.rectified.K, rtol=1e-6, atol=1e-6)
        )

    @cached_property
    def maps(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each rectified pixel lies in the raw image, two float32 (H, W)."""
        D = self.D if self.D.size else np.zeros(4)
        size = (self.width, self.height)
        if self.model == "equidistant":
            return cv2.fisheye.initUndistortRectifyMap(
                self.K, D, self.R, self.rectified.K, size, cv2.CV_32FC1
            )
        return cv2.initUndistortRectifyMap(self.K, D, self.R, self.rectified.K, size, cv2.CV_32FC1)

    def rectify_image(self, image: np.ndarray) -> np.ndarray:
        """Raw image (H, W[, 3]) → rectified image of the same size, bilinear, black outside."""
        self._check(image)
        if self.is_rectified:
            return image
        return cv2.remap(image, *self.maps, cv2.INTER_LINEAR)

    def rectify_depth(self, depth: np.ndarray) -> np.ndarray:
        """Raw depth (H, W) m → rectified depth, nearest neighbour, 0 outside.

        Values are depth along the rectified axis: R turns it, so with R = identity they are kept.
        """
        self._check(depth)
        if self.is_rectified:
            return depth
        moved = cv2.remap(depth, *self.maps, cv2.INTER_NEAREST)
        if np.allclose(self.R, np.eye(3), atol=1e-9):
            return moved
        # A pixel's ray (1 m deep when rectified) is so deep along the raw axis.
        raw = self.rectified.rays() @ self.R.astype(np.float32)[:, 2]
        return np.where(raw > 1e-6, moved / np.maximum(raw, 1e-6), np.float32(0))

    def _check(self, image: np.ndarray) -> None:
        if image.shape[:2] != (self.height, self.width):
            raise ValueError(
                f"image: expected the camera's size {self.height}x{self.width}, "
                f"got {image.shape[0]}x{image.shape[1]}"
            )
