# SPDX-License-Identifier: Apache-2.0
"""DepthEstimator: an image, maybe some measured points, and a camera in; metric depth out.

The only door to a network. It reproduces the geometry of training for any camera and undoes it:

1. the whole image is resized to fit the network's input, the rest padded (`framing`); points that
   contradict their neighbours are left out or corrected (`anchoring.without_strays`,
   `outlier_filter`);
2. focal lengths are made canonical: with r = focal length after resizing / the network's own, a
   thing at Z looks to the network as if at Z / r, so points are divided by r and depth times r;
   a network of relative depth answers in units of the scene (`networks.inputs.scene_unit`);
   where points are few or none the image alone says what to expect (`depth_prior`);
   an image that lies beside its points is brought to them (`image_registration`);
3. the network answers coarse (stage one) and refined (stage two) depth (`runtimes`);
4. what is left is anchored to the points (`anchoring`), of which many, but no dense scan, let it
   be filtered by what the image shows (`depth_filter`);
5. each pixel gets a probability of being right (`confidence`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from depth_two_stage import anchoring, networks, runtimes
from depth_two_stage.camera import Camera
from depth_two_stage.confidence import Confidence
from depth_two_stage.dense_scan import DenseScan
from depth_two_stage.depth_filter import JointFilter
from depth_two_stage.depth_prior import DepthPrior
from depth_two_stage.framing import Framing
from depth_two_stage.image_registration import ImageOffset, ImageRegistration
from depth_two_stage.networks.inputs import assemble, scene_unit
from depth_two_stage.outlier_filter import OutlierFilter

__all__ = ["DepthEstimator", "Estimate"]


@dataclass(frozen=True)
class Estimate:
    """What `DepthEstimator` answers; images are (H, W) float32 of the input's size.

    `depth` and `coarse` (stage one, anchored alike) in metres along the optical axis, 0 = none;
    `confidence` 0…1, the probability that depth is within 5 % of the truth, 0 where there is no
    depth; `scale_residual` the median |depth - point| / point at the points that is left (0
    without points); `timings_ms` milliseconds of each step and in `total`; `left_out` the number of
    points that were taken for wrong before the network saw them, `corrected` that of points that
    may be and were given another depth (`outlier_filter`); `image_offset` how far the image
    lies beside its points, px of the camera's image, where many points tell.
    """

    depth: np.ndarray
    coarse: np.ndarray
    confidence: np.ndarray
    scale_residual: float
    timings_ms: dict[str, float]
    left_out: int = 0
    corrected: int = 0
    image_offset: ImageOffset | None = None


class DepthEstimator:
    """Arrays in, arrays out: `estimator(rgb, sparse, camera) -> Estimate`.

    `weights` is the name of shipped weights or a file. `device`, `precision` and `engine` are as in
    `runtimes` and resolved once; what was asked for by name and is missing is an error. `anchor`
    (none, scale, residual), `register` (an image beside its points is brought to them) and `prior`
    (where points are few or none the image alone tells what to expect) and `joint_filter` (depth
    that is anchored to many points, by `residual`, is filtered; of a dense scan it is not) may be
    changed between calls. Attributes `engine`, `device`, `precision`, `model_name` and `checksum`
    say what is in use.
    """

    def __init__(
        self,
        weights: str = "default",
        device: str = "auto",
        precision: str = "auto",
        engine: str = "auto",
        threads: int = 0,
        anchor: str = "residual",
        register: bool = True,
        prior: bool = True,
        joint_filter: bool = True,
    ) -> None:
        runtimes.pick(engine, device, precision)  # before the weights are read: cheap to refuse
        self.anchor, self.register, self.prior = anchor, register, prior
        self.joint_filter = joint_filter
        model, checkpoint = networks.load(weights)
        self.settings = model.settings
        self.model_name, self.checksum = checkpoint.name, checkpoint.checksum
        self.confidence = Confidence.of(checkpoint)
        self.outliers = OutlierFilter.of(model)
        x = self._example()
        self.runtime = runtimes.start(model, x, engine, device, precision, threads)
        self.registration = ImageRegistration.of(model, self.runtime, x, threads)
        self.depth_prior = DepthPrior.of(model, self.runtime, x, threads)
        self.depth_filter = JointFilter.of(model, self.runtime, x, threads)

    @property
    def anchor(self) -> str:
        """How depth is tied to the points: none, scale or residual."""
        return self._anchor

    @anchor.setter
    def anchor(self, method: str) -> None:
        if method not in anchoring.METHODS:
            expected = ", ".join(anchoring.METHODS)
            raise ValueError(f"anchor: expected one of {expected}, got {method!r}")
        self._anchor = method

    @property
    def engine(self) -> str:
        """Name of the engine in use."""
        return self.runtime.name

    @property
    def device(self) -> str:
        """Device in use: cpu or cuda."""
        return self.runtime.device

    @property
    def precision(self) -> str:
        """Arithmetic in use: fp32, fp16 or bf16."""
        return self.runtime.precision

    def __call__(self, rgb: np.ndarray, sparse: np.ndarray | None, camera: Camera) -> Estimate:
        """Estimate depth of rgb uint8 (H, W, 3), rectified, seen by `camera`.

        `sparse` float32 (H, W) metres along the optical axis, 0 = none; None or all 0 without
        points.
        """
        check(rgb, sparse, camera)
        clock = Clock()
        # Into the network's geometry.
        framing = Framing.fit(camera.size, self.settings.input_size)
        r = framing.camera(camera).focal / self.settings.focal
        image = framing.image(rgb)
        middle = points = unknown = None
        left_out = corrected = 0
        if sparse is not None and sparse.any():
            given, sparse = sparse, anchoring.without_strays(sparse)
            if self.outliers is not None:
                sparse = self.outliers(image, framing, sparse)
            left_out, corrected = _changes(given, sparse)
            if sparse.any():
                middle = float(np.median(sparse[sparse > 0])) / r
        valid = tuple(limit * r for limit in self.settings.valid_range(middle))
        if middle is not None:
            sparse, unknown = anchoring.within_range(sparse, *valid)
        if sparse is not None and sparse.any():
            # A point far beyond what the network was trained for still says "beyond", no more.
            points = np.minimum(framing.sparse(sparse), np.float32(1.5 * valid[1])) / np.float32(r)
        x, offset = self._input(image, points), None
        if self.prior and self.depth_prior is not None:
            x = self.depth_prior(x, framing)
        if self.register and self.registration is not None and points is not None:
            x, offset = self.registration(x)
        scale = r * scene_unit(points, self.settings.sparse_input, self.settings.mean_depth)
        clock.stop("prepare")
        # Both stages.
        answers = self.runtime(x)
        coarse, refined, *logit = answers
        clock.stop("network")
        # Back to the image, metric, tied to the points.
        tied, dense = None, None
        if sparse is not None:
            tied = np.where((sparse >= valid[0]) & (sparse <= valid[1]), sparse, np.float32(0))
            dense = DenseScan.of(tied) if self.anchor == "residual" else None
        place = (framing, scale, tied, dense, valid)
        filtered = None
        asked = self.joint_filter and self.anchor == "residual" and dense is None
        if asked and self.depth_filter is not None:
            filtered = self.depth_filter.of_frame(x, answers, framing, scale)
        depth, residual, kept = self._metric(refined, *place, filtered)
        rough, _, _ = self._metric(coarse, *place)
        if unknown is not None:
            depth[unknown] = rough[unknown] = 0
        clock.stop("anchor")
        if points is not None:
            points = framing.sparse(np.where(kept, sparse, np.float32(0)))
        confidence = framing.restore(self.confidence(refined, coarse, points, *logit))
        confidence[depth == 0] = 0
        clock.stop("confidence")
        offset = None if offset is None else offset.of_camera(framing)
        timings = clock.total()
        return Estimate(depth, rough, confidence, residual, timings, left_out, corrected, offset)

    def warm_up(self) -> None:
        """Answer a made-up frame with points and without: a live first one waits for no plans."""
        height, width = self.settings.input_size
        focal = self.settings.focal
        camera = Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
        rgb = np.full((height, width, 3), 128, np.uint8)
        rgb[:, : width // 2] = 64
        sparse = np.zeros((height, width), np.float32)
        middle = (self.settings.min_depth + self.settings.max_depth) / 2
        sparse[:: max(1, height // 28), :: max(1, width // 32)] = middle
        for points in (sparse, None):
            self(rgb, points, camera)

    def _input(self, rgb: np.ndarray, points: np.ndarray | None) -> np.ndarray:
        """Return the network's input x (1, C, h, w) from image and canonical points, same size."""
        if points is None:
            points = np.zeros(rgb.shape[:2], np.float32)
        x = assemble(
            rgb,
            points,
            self.settings.sparse_input,
            self.settings.mean_depth,
            self.settings.colour,
        )
        return np.ascontiguousarray(x[None], np.float32)

    def _metric(
        self,
        field: np.ndarray,
        framing: Framing,
        scale: float,
        sparse: np.ndarray | None,
        dense: DenseScan | None,
        valid: tuple[float, float],
        filtered: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> tuple[np.ndarray, float, np.ndarray | None]:
        """Turn the network's depth (h, w) into anchored metres (H, W), none outside `valid` (m).

        `filtered` makes of anchored metres what is in their place.
        """
        low, high = valid
        depth = framing.restore(np.nan_to_num(field, nan=0.0)) * np.float32(scale)
        np.maximum(depth, 0, out=depth)
        residual, kept = 0.0, None
        if sparse is not None:
            depth, residual, kept = anchoring.anchor(depth, sparse, self.anchor, dense)
            if filtered is not None:
                depth = filtered(depth)
                residual = anchoring.residual(depth, sparse, kept)
        depth = np.where((depth >= low) & (depth <= high), depth, np.float32(0))
        return depth, residual, kept

    def _example(self) -> np.ndarray:
        """Return an input x with texture and 200 points, by which engines are compared."""
        height, width = self.settings.input_size
        rng = np.random.default_rng(0)
        y, x = np.mgrid[:height, :width]
        rgb = (96 + 64 * np.sin(x[..., None] / (7, 11, 17)) + 32 * np.cos(y[..., None] / 9)).clip(
            0, 255
        )
        low, high = self.settings.min_depth, self.settings.max_depth
        surface = low + (high - low) * (0.15 + 0.3 * y / height)
        points = np.where(rng.random((height, width)) < 200 / (height * width), surface, 0)
        return self._input(rgb.astype(np.uint8), points.astype(np.float32))


class Clock:
    """Milliseconds of consecutive steps, by name."""

    def __init__(self) -> None:
        self.began = self.last = time.perf_counter()
        self.steps: dict[str, float] = {}

    def stop(self, name: str) -> None:
        """End the step that ran since the last `stop`."""
        now = time.perf_counter()
        self.steps[name] = (now - self.last) * 1e3
        self.last = now

    def total(self) -> dict[str, float]:
        """Return all steps and their `total`."""
        return self.steps | {"total": (self.last - self.began) * 1e3}


def _changes(given: np.ndarray, kept: np.ndarray) -> tuple[int, int]:
    """Return how many points of (H, W) m, 0 = none, are left out, and how many are changed."""
    left = np.count_nonzero(kept)
    return np.count_nonzero(given) - left, left - np.count_nonzero((kept == given) & (kept > 0))


def check(rgb: np.ndarray, sparse: np.ndarray | None, camera: Camera) -> None:
    """Refuse what is not an image, its points and its camera."""
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ValueError(f"rgb: expected uint8 (H, W, 3), got {rgb.dtype} {rgb.shape}")
    if camera.size != rgb.shape[:2]:
        raise ValueError(f"camera: expected the image's size {rgb.shape[:2]}, got {camera.size}")
    if sparse is None:
        return
    if sparse.dtype != np.float32 or sparse.shape != rgb.shape[:2]:
        raise ValueError(
            f"sparse: expected float32 {rgb.shape[:2]}, got {sparse.dtype} {sparse.shape}"
        )
    low = sparse.min()
    if not (low >= 0 and np.isfinite(sparse.max())):  # NaN fails the first
        raise ValueError("sparse: expected finite metres, 0 = none, got NaN, infinite or negative")
