# SPDX-License-Identifier: Apache-2.0
"""Sparse depth for a sample: random pixels (paper A), a simulated LiDAR, or its own points."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from depth_two_stage.camera import Camera
from depth_two_stage.datasets import DatasetError, Sample
from depth_two_stage.datasets.disturbances import LIMITS as DISTURBANCES
from depth_two_stage.datasets.disturbances import Disturbance

#: LiDAR axes (x forward, y left, z up; REP 103) seen from an optical frame (x right, y down,
#: z forward).
R_CAMERA_LIDAR = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
WANTED = "none, bernoulli:N, lines:N or points"
#: smallest and largest value of a LiDAR's settings
BEAMS = {
    "elevation": (0.1, 89.0),
    "azimuth_step": (0.01, 10.0),
    "noise": (0.0, 1.0),
    "dropout": (0.0, 1.0),
}


@dataclass(frozen=True)
class Beams:
    """A spinning LiDAR near the camera: ``count`` beams spread over ±``elevation`` degrees.

    ``azimuth_step`` degrees between shots, ``offset`` of the LiDAR's origin in the camera's
    optical frame (m; y points down, so -0.1 is 10 cm above), ``noise`` standard deviation of the
    range (m), ``dropout`` share of returns lost.
    """

    count: int = 16
    elevation: float = 15.0
    azimuth_step: float = 0.4
    offset: tuple[float, float, float] = (0.0, -0.1, 0.05)
    noise: float = 0.0
    dropout: float = 0.0

    @property
    def T_camera_lidar(self) -> np.ndarray:
        """LiDAR frame (x forward, y left, z up) → camera's optical frame, float64 (4, 4)."""
        T = np.eye(4)
        T[:3, :3] = R_CAMERA_LIDAR
        T[:3, 3] = self.offset
        return T

    def scan(self, depth: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
        """What these beams hit of the depth map (H, W) m: points float32 (N, 3), LiDAR frame."""
        return scan(
            depth,
            camera,
            self.T_camera_lidar,
            self.count,
            self.elevation,
            self.azimuth_step,
            self.noise,
            self.dropout,
            rng,
        )


def scan(
    depth: np.ndarray,
    camera: Camera,
    T_camera_lidar: np.ndarray,
    beams: int,
    elevation: float,
    azimuth_step: float,
    noise: float,
    dropout: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Sample a depth map (H, W) m as a LiDAR elsewhere would: points float32 (N, 3), its frame.

    Surface points come from the pixels; one belongs to a beam when the beam passes within
    three quarters of a pixel of it. Of the points in one shot (beam × azimuth step) the nearest
    stands before the others and is the return. Surfaces that the camera does not see give none.
    """
    # 1. Every pixel's surface point in the LiDAR's frame, R^T (depth · ray - t), as three planes.
    R, t = np.asarray(T_camera_lidar, np.float64)[:3, :3], np.asarray(T_camera_lidar)[:3, 3]
    planes = _turned_rays(camera, R.tobytes())
    x, y, z = (depth * ray - np.float32(c) for ray, c in zip(planes, R.T @ t, strict=True))
    # 2. The nearest beam of each, kept where that beam passes through the pixel.
    limit, reach = np.deg2rad(elevation), 0.75 / camera.fy
    first, step = (-limit, 2 * limit / (beams - 1)) if beams > 1 else (0.0, np.pi)
    level = np.sqrt(x * x + y * y)
    near = _near_a_beam(z, level, depth > 0, (beams, float(first), float(step), reach))
    angle = np.arctan2(z.ravel().take(near), level.ravel().take(near))
    beam = np.rint((angle - np.float32(first)) * np.float32(1 / step))
    beam = np.clip(beam, 0, beams - 1)
    on_beam = np.abs(angle - (beam * np.float32(step) + np.float32(first))) < reach
    hit, beam = near[on_beam], beam[on_beam]
    x, y, z = (plane.ravel().take(hit) for plane in (x, y, z))
    # 3. One return a shot, the nearest; of two as near the later pixel's.
    azimuth = np.arctan2(y, x) + np.pi
    shots = round(360 / azimuth_step)
    shot = beam.astype(np.int64) * shots
    shot += np.rint(azimuth / (2 * np.pi) * shots).astype(np.int64) % shots
    distance = np.sqrt(x * x + y * y + z * z)
    nearest = np.full(beams * shots, np.inf, np.float32)
    np.minimum.at(nearest, shot, distance)
    returned = np.flatnonzero(distance == nearest[shot])
    returns = np.full(beams * shots, -1)
    returns[shot[returned]] = returned
    chosen = returns[returns >= 0]
    if dropout > 0:
        chosen = chosen[rng.random(len(chosen)) >= dropout]
    points = np.stack([x[chosen], y[chosen], z[chosen]], axis=1)
    distance = distance[chosen]
    if noise > 0:
        shift = rng.normal(0.0, noise, len(points)).astype(np.float32)
        points = points * (1 + shift / np.maximum(distance, 1e-3))[:, None]
    return points


def _near_a_beam(
    z: np.ndarray, level: np.ndarray, there: np.ndarray, beams: tuple[int, float, float, float]
) -> np.ndarray:
    """Flat indices of the pixels that a beam may pass, by their slope z / level; some too many.

    An angle costs twenty times a slope, and with few beams nearly no pixel needs one.
    """
    marked, most = _slopes_near_beams(*beams)
    with np.errstate(divide="ignore", invalid="ignore"):  # the LiDAR's own axis, and no depth
        place = (z / level + np.float32(most)) * np.float32(len(marked) / (2 * most))
        place = np.clip(place, 0, len(marked) - 1).astype(np.int32)
    return np.flatnonzero(marked.take(place, mode="clip") & there)


@lru_cache(maxsize=64)
def _slopes_near_beams(
    beams: int, first: float, step: float, reach: float
) -> tuple[np.ndarray, float]:
    """Which of many intervals of slope a beam passes within ``reach`` rad: bool (N,), ± range."""
    last = first + (beams - 1) * step
    steepest = max(abs(first), abs(last)) + 2 * reach
    most = np.tan(min(steepest, np.deg2rad(89.9)))
    edges = np.arctan(np.linspace(-most, most, 2049))
    reach = reach * 1.01 + 1e-4  # rounding must lose none
    lowest = np.ceil((edges[:-1] - reach - first) / step)
    highest = np.floor((edges[1:] + reach - first) / step)
    marked = np.maximum(lowest, 0) <= np.minimum(highest, beams - 1)
    marked[[0, -1]] |= steepest > np.deg2rad(89.9)  # they stand for all that is steeper
    return marked, float(most)


@lru_cache(maxsize=8)
def _turned_rays(camera: Camera, rotation: bytes) -> np.ndarray:
    """R^T · ray of each pixel, float32 (3, H, W); the same for all frames of a recording."""
    rays = camera.rays().astype(np.float64) @ np.frombuffer(rotation).reshape(3, 3)
    return np.ascontiguousarray(np.moveaxis(rays, 2, 0).astype(np.float32))


@dataclass(frozen=True)
class SparsePattern:
    """How sparse depth is drawn from a sample; ``kind`` and ``count`` as in "bernoulli:200".

    Call it with a sample and a generator: float32 (H, W) m, 0 = none, or None for "none".
    """

    kind: str
    count: int = 0
    beams: Beams = field(default_factory=Beams)
    disturbance: Disturbance = field(default_factory=Disturbance)

    @classmethod
    def parse(cls, text: str) -> SparsePattern:
        """Read "none", "bernoulli:N" (N ≥ 0 expected samples), "lines:N" (N ≥ 1) or "points".

        A LiDAR's settings may follow: "lines:16,elevation=15,azimuth_step=0.4,noise=0.02,
        dropout=0.1"; and, of drawn samples and lines, those of a `Disturbance`:
        "bernoulli:200,outliers=0.05", "lines:16,wrong=0.05,shift=8".
        """
        head, *settings = str(text).strip().split(",")
        kind, _, number = head.partition(":")
        if kind in ("none", "points") and not number and not settings:
            return cls(kind)
        if kind not in ("bernoulli", "lines") or not number.isdecimal():
            raise DatasetError(f"sparse: expected {WANTED}, got {text!r}")
        count = int(number)
        limits = DISTURBANCES if kind == "bernoulli" else BEAMS | DISTURBANCES
        values = _settings(text, settings, limits)
        wrong = Disturbance(**{name: values.pop(name) for name in DISTURBANCES if name in values})
        if wrong.outliers + wrong.wrong > 1:
            raise DatasetError(f"sparse: expected outliers + wrong of at most 1, got {text!r}")
        if kind == "bernoulli":
            return cls(kind, count, disturbance=wrong)
        if count < 1:
            raise DatasetError(f"sparse: expected {WANTED}, got {text!r}")
        return cls(kind, count, Beams(count, **values), wrong)

    def __str__(self) -> str:
        return f"{self.kind}:{self.count}" if self.kind in ("bernoulli", "lines") else self.kind

    def __call__(self, sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
        """Sparse depth of one sample; the same generator state gives the same pixels."""
        if self.kind == "none":
            return None
        if self.kind == "points":
            return own_points(sample)
        if sample.depth is None:
            raise DatasetError(f"sparse {self}: expected depth in {sample.name}, got none")
        if self.kind == "bernoulli":
            sparse = bernoulli(sample.depth, self.count, rng)
        else:
            sparse = lines(sample.depth, sample.camera, self.beams, rng)
        return self.disturbance(sparse, rng)


def undisturbed(text: str) -> str:
    """Return the pattern's text without its disturbance: what its points are drawn by."""
    parts = str(text).strip().split(",")
    return ",".join(part for part in parts if part.partition("=")[0] not in DISTURBANCES)


def bernoulli(depth: np.ndarray, count: float, rng: np.random.Generator) -> np.ndarray:
    """Keep each of the m valid pixels of (H, W) m with probability count/m (paper A)."""
    sparse = np.zeros(depth.shape, np.float32)
    valid = np.flatnonzero(depth)
    if len(valid):
        kept = valid[rng.random(len(valid), np.float32) < count / len(valid)]
        sparse.flat[kept] = depth.flat[kept]
    return sparse


def lines(depth: np.ndarray, camera: Camera, beams: Beams, rng: np.random.Generator) -> np.ndarray:
    """A scan of the depth map (H, W) m seen again by the camera through the offset, z-buffered."""
    return camera.project(beams.scan(depth, camera, rng), beams.T_camera_lidar)


def own_points(sample: Sample) -> np.ndarray:
    """The sample's LiDAR points projected with a z-buffer, or else its measured sparse depth."""
    if sample.points is not None:
        return sample.camera.project(sample.points, sample.T_camera_lidar)
    if sample.sparse is None:
        raise DatasetError(
            f"sparse points: expected LiDAR points or sparse depth in {sample.name}, got neither"
        )
    return sample.sparse


def _settings(
    text: str, settings: list[str], limits: dict[str, tuple[float, float]]
) -> dict[str, float]:
    values = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            values[name] = float(value)
        except ValueError as error:
            raise DatasetError(
                f"sparse: expected name=number, got {setting!r} in {text!r}"
            ) from error
        if name not in limits or not limits[name][0] <= values[name] <= limits[name][1]:
            ranges = ", ".join(
                f"{key} ({low:g} to {high:g})" for key, (low, high) in limits.items()
            )
            raise DatasetError(f"sparse: expected one of {ranges}, got {setting!r} in {text!r}")
    return values
