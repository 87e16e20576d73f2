# SPDX-License-Identifier: Apache-2.0
"""Which points a training frame gets: patterns of sensors, and what goes wrong with them.

Everything is drawn from one generator; what is switched off draws nothing, so that a recipe that
does not name it gets the same points whatever else this module learns.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from . import Sample, disturbances
from .sparse import Beams, bernoulli, lines

#: Lengths in pixels are those of an image of this width, and go with the frame's.
WIDTH = 640
#: The lowest corner response that counts, as a share of the image's strongest.
CORNER_QUALITY = 1e-3


@dataclass(frozen=True)
class Corruption:
    """What is wrong with a frame's points: ``noise``, ``outliers``, ``shift`` are probabilities.

    ``noise``: Gaussian along the optical axis, of a standard deviation in ``noise_std`` (m) and one
    in ``noise_relative`` (share of the depth), added up in squares. ``outliers``: a share in
    ``outlier_share`` of the points takes another depth; of all frames half get depths uniform in
    ``outlier_depth`` (m), half a factor within 1 ± ``outlier_factor``. ``shift``: all points move
    by a length in ``shift_px`` (px of a 640 px wide image) in one direction, to whole pixels.
    """

    noise: float = 0.0
    noise_std: tuple[float, float] = (0.01, 0.03)
    noise_relative: tuple[float, float] = (0.0, 0.01)
    outliers: float = 0.0
    outlier_share: tuple[float, float] = (0.0, 0.1)
    outlier_depth: tuple[float, float] = (0.5, 10.0)
    outlier_factor: float = 0.3
    shift: float = 0.0
    shift_px: tuple[float, float] = (1.0, 8.0)


@dataclass(frozen=True)
class Sparse:
    """Which points a training image gets: none, beams, corners, clusters, or else Bernoulli n/m.

    ``none``, ``beams``, ``corners`` and ``clusters`` are shares of the images; where they are more
    than all together, the first come first. n is drawn log-uniformly from ``samples``, counted over
    the full image; where that begins at 0, n + 1 is (A: n = 200).

    Beams: a number of ``beam_counts`` within ± ``elevation`` (degrees, drawn), the LiDAR's origin
    up to ``offset`` m along each axis from its usual place; what it cannot see is not hit; range
    noise up to ``noise`` m, dropout up to ``dropout``. Corners: the n strongest of the image.
    Clusters: n points in ``discs`` discs of ``radius`` (share of the image's width). ``half`` is
    the probability that the points on one side of a random line are missing, of any pattern.
    """

    none: float = 0.0
    beams: float = 0.0
    samples: tuple[float, float] = (200.0, 200.0)
    beam_counts: tuple[int, ...] = (4, 8, 16, 32, 64)
    noise: float = 0.0
    dropout: float = 0.0
    elevation: tuple[float, float] = (15.0, 15.0)
    offset: float = 0.0
    corners: float = 0.0
    clusters: float = 0.0
    discs: tuple[int, int] = (1, 5)
    radius: tuple[float, float] = (0.05, 0.2)
    half: float = 0.0
    corruption: Corruption = field(default_factory=Corruption)


def draw_points(sample: Sample, sparse: Sparse, rng: np.random.Generator) -> np.ndarray:
    """Points of a training frame as sparse depth float32 (H, W) m, 0 = none."""
    points = _draw_pattern(sample, sparse, rng)
    wrong = sparse.corruption
    if sparse.half and rng.random() < sparse.half:
        points = without_half(points, rng)
    if wrong.shift and rng.random() < wrong.shift:
        points = shifted(points, rng.uniform(*wrong.shift_px), rng.uniform(0, 2 * np.pi))
    if wrong.noise and rng.random() < wrong.noise:
        points = noisy(
            points, rng.uniform(*wrong.noise_std), rng.uniform(*wrong.noise_relative), rng
        )
    if wrong.outliers and rng.random() < wrong.outliers:
        share, absolute = rng.uniform(*wrong.outlier_share), rng.random() < 0.5
        limits = wrong.outlier_depth if absolute else None
        points = with_outliers(points, share, limits, wrong.outlier_factor, rng)
    return points


def _draw_pattern(sample: Sample, sparse: Sparse, rng: np.random.Generator) -> np.ndarray:
    kind, limits = rng.random(), np.cumsum([sparse.none, sparse.beams, sparse.corners])
    if kind < limits[0]:
        return np.zeros(sample.camera.size, np.float32)
    if kind < limits[1]:
        return lines(sample.depth, sample.camera, _draw_beams(sparse, rng), rng)
    count = _draw_count(sparse.samples, rng)
    if kind < limits[2]:
        return corners(sample.rgb, sample.depth, round(count))
    if kind < limits[2] + sparse.clusters:
        discs = int(rng.integers(sparse.discs[0], sparse.discs[1] + 1))
        return clustered(sample.depth, count, rng.uniform(*sparse.radius, discs), rng)
    return bernoulli(sample.depth, count, rng)


def _draw_beams(sparse: Sparse, rng: np.random.Generator) -> Beams:
    settings = {
        "count": int(rng.choice(sparse.beam_counts)),
        "noise": rng.uniform(0, sparse.noise),
        "dropout": rng.uniform(0, sparse.dropout),
        "elevation": sparse.elevation[0],
    }
    if sparse.elevation[1] > sparse.elevation[0]:
        settings["elevation"] = rng.uniform(*sparse.elevation)
    if sparse.offset:
        settings["offset"] = tuple(Beams.offset + rng.uniform(-sparse.offset, sparse.offset, 3))
    return Beams(**settings)


def _draw_count(samples: tuple[float, float], rng: np.random.Generator) -> float:
    if samples[0] == 0:
        return float(np.expm1(rng.uniform(0, np.log1p(samples[1]))))
    low, high = (max(value, 1.0) for value in samples)
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


# --- patterns ------------------------------------------------------------------------------------


def corners(rgb: np.ndarray, depth: np.ndarray, count: int) -> np.ndarray:
    """Depth (H, W) m at the ``count`` strongest corners of the image, as of a visual SLAM's map.

    They lie at least six pixels of a 640 px wide image apart (Shi and Tomasi, CVPR 1994).
    """
    sparse = np.zeros(depth.shape, np.float32)
    if count < 1:  # to OpenCV 0 means all
        return sparse
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    apart = max(1.0, 6 * rgb.shape[1] / WIDTH)
    found = cv2.goodFeaturesToTrack(grey, count, CORNER_QUALITY, apart)
    if found is not None:
        u, v = np.rint(found.reshape(-1, 2)).astype(np.int64).T
        sparse[v, u] = depth[v, u]
    return sparse


def clustered(
    depth: np.ndarray, count: float, radii: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """About ``count`` points of (H, W) m, all in discs of these radii (shares of the width)."""
    height, width = depth.shape
    inside = np.zeros(depth.shape, np.uint8)
    for radius, (x, y) in zip(radii, rng.random((len(radii), 2)), strict=True):
        centre = int(x * width), int(y * height)
        cv2.circle(inside, centre, round(radius * width), 1, cv2.FILLED)
    return bernoulli(depth * inside, count, rng)


def without_half(sparse: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The points (H, W) m on one side of a line through a random pixel, at a random angle."""
    index = np.flatnonzero(sparse)
    v, u = np.divmod(index, sparse.shape[1])
    (x, y), angle = rng.random(2) * sparse.shape[::-1], rng.uniform(0, 2 * np.pi)
    index = index[(u - x) * np.cos(angle) + (v - y) * np.sin(angle) > 0]
    return _replaced(sparse, index, sparse.ravel().take(index))


# --- what goes wrong -----------------------------------------------------------------------------


def shifted(sparse: np.ndarray, length: float, angle: float) -> np.ndarray:
    """All points (H, W) m moved by ``length`` px of a 640 px wide image; what leaves it is gone.

    ``angle`` is from right (0) to down (π/2), in radians.
    """
    length = length * sparse.shape[1] / WIDTH
    return disturbances.shifted(
        sparse, round(length * np.sin(angle)), round(length * np.cos(angle))
    )


def noisy(sparse: np.ndarray, std: float, relative: float, rng: np.random.Generator) -> np.ndarray:
    """Points (H, W) m with Gaussian noise of ``std`` m and of a share of the depth."""
    index = np.flatnonzero(sparse)
    z = sparse.ravel().take(index)
    z = z + np.hypot(std, relative * z) * rng.standard_normal(len(z), np.float32)
    return _replaced(sparse, index, np.maximum(z, 0))  # noise beyond the camera leaves no point


def with_outliers(
    sparse: np.ndarray,
    share: float,
    limits: tuple[float, float] | None,
    factor: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Points (H, W) m of which a share has a wrong depth: within limits (m), or × (1 ± factor)."""
    index = np.flatnonzero(sparse)
    z = sparse.ravel().take(index)
    wrong = np.flatnonzero(rng.random(len(z)) < share)
    if limits is None:
        z[wrong] *= rng.uniform(1 - factor, 1 + factor, len(wrong)).astype(np.float32)
    else:
        z[wrong] = rng.uniform(*limits, len(wrong))
    return _replaced(sparse, index, z)


def _replaced(sparse: np.ndarray, index: np.ndarray, z: np.ndarray) -> np.ndarray:
    out = np.zeros_like(sparse)
    out.flat[index] = z
    return out
