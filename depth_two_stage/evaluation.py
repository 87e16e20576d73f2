# SPDX-License-Identifier: Apache-2.0
"""Measures the estimator, and the SLAM core behind it, on every frame of a recording.

The frames walk through the same estimator and the same `slam.py` as in the live nodes, without ROS.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from depth_two_stage import files, interpolation, pictures
from depth_two_stage.config import MappingNodeParameters, SurfelParameters
from depth_two_stage.consistency import Consistency
from depth_two_stage.datasets import DatasetError, Sample, open_dataset
from depth_two_stage.datasets.sparse import SparsePattern, own_points, undisturbed
from depth_two_stage.depth_scores import DepthScores
from depth_two_stage.doubt import Doubt
from depth_two_stage.estimator import DepthEstimator
from depth_two_stage.map_evaluation import Reference, SeenSurfaces, SlamRun, write_surface
from depth_two_stage.morphology import morphological
from depth_two_stage.naming import nearest
from depth_two_stage.odometry import gate_statistics
from depth_two_stage.protocols import PROTOCOLS
from depth_two_stage.scan_band import scan_band
from depth_two_stage.unfamiliar import COLOURS, recoloured

__all__ = ["Plan", "default_sparse", "evaluate", "mean_depth"]

Progress = Callable[[Iterable, str], Iterable]
DRAWN = ("bernoulli", "lines")  # patterns whose samples are taken from the depth
SCANNED = ("lines", "points")  # patterns whose samples lie in a band
DEPTHS, POSES = ("predicted", "sensor"), ("odometry", "given")
FUSIONS, REFERENCES = ("tsdf", "surfels"), ("sensor", "surfaces")


@dataclass(frozen=True)
class Plan:
    """What is measured.

    `sparse` are patterns as on the command line. `baselines` adds nearest, linear and smooth
    interpolation and morphological completion, and what the spread of linear interpolation's
    triangles is worth as a confidence; without points the mean depth of the training split.
    `temporal` measures from frame to frame. `colours` is how the network sees the image (recorded,
    inverted, night). With `slam`, `depth` (predicted or sensor) is fused
    from `poses` (odometry, or given: the true ones); `fusion` surfels adds the point-based map.
    `reference` is what maps are compared with: sensor (its depth's TSDF), or surfaces (exact ones).
    `returns` are stamps (ns) at which a kidnapped camera is back (`kidnapping`). `slam_only`
    measures trajectory and map of sensor depth alone: neither the network runs nor the gate.
    """

    sparse: Sequence[str] = ("bernoulli:200",)
    baselines: bool = False
    protocol: str = "full"
    pooled: bool = False
    seed: int = 0
    temporal: bool = False
    colours: str = "recorded"
    slam: bool = False
    depth: str = "predicted"
    poses: str = "odometry"
    fusion: str = "tsdf"
    reference: str = "sensor"
    mapping: MappingNodeParameters = field(default_factory=MappingNodeParameters)
    surfels: SurfelParameters = field(default_factory=SurfelParameters)
    returns: Sequence[int] = ()
    slam_only: bool = False
    pictures: Path | None = None
    pictures_count: int = 12

    def __post_init__(self) -> None:
        choices = {"protocol": PROTOCOLS, "colours": COLOURS, "depth": DEPTHS, "poses": POSES}
        choices |= {"fusion": FUSIONS, "reference": REFERENCES}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                expected = ", ".join(known)
                given = getattr(self, name)
                near = nearest(given, known)
                raise ValueError(f"{name}: expected one of {expected}, got {given!r}{near}")
        if self.slam and PROTOCOLS[self.protocol].stretched:
            raise ValueError(
                f"--slam: expected a protocol that keeps the camera's geometry, "
                f"got {self.protocol!r}"
            )
        if self.fusion == "surfels" and self.poses != "given":
            raise ValueError(f"--fusion surfels: expected --poses given, got {self.poses!r}")
        if self.slam_only and not (self.slam and self.depth == "sensor"):
            raise ValueError("--slam-only: expected --slam --depth sensor, got another depth")
        for text in self.sparse:
            SparsePattern.parse(text)


def evaluate(
    dataset: Sequence[Sample],
    estimator: DepthEstimator,
    plan: Plan,
    mean: np.ndarray | None = None,
    progress: Progress = lambda items, _: items,
) -> dict:
    """Return the report: `results[sparse][method][measure]`, and what was run.

    `mean` is the training set's per-pixel mean depth (h, w) metres, of any resolution, measured as
    the method `mean` where there are no points. With `slam` the trajectory's and the map's errors
    stand beside the methods. Frames without depth are left out of rows that draw samples from it or
    fuse it, and counted as `frames_without_depth`; DatasetError where no frame has any.
    """
    report = {
        "dataset": getattr(dataset, "name", None),
        "split": getattr(dataset, "split", None),
        "frames": len(dataset),
        "weights": estimator.model_name,
        "checksum": estimator.checksum,
        "engine": estimator.engine,
        "device": estimator.device,
        "precision": estimator.precision,
        "anchor": estimator.anchor,
        "protocol": plan.protocol,
        "protocol_terms": PROTOCOLS[plan.protocol].terms(),
        "averaging": "per pixel" if plan.pooled else "per image, then over images",
        "seed": plan.seed,
        "colours": plan.colours,
    }
    if plan.slam:
        report |= {"slam_depth": plan.depth, "slam_poses": plan.poses}
        report |= {"slam_fusion": plan.fusion, "slam_reference": plan.reference}
    report["results"] = {
        text: Row(text, dataset, estimator, plan, mean).run(progress) for text in plan.sparse
    }
    own = plan.slam and plan.depth == "sensor" and plan.poses == "odometry"
    if own and not plan.slam_only:
        measured = (sample for sample in progress(dataset, "gate") if sample.depth is not None)
        steps = gate_statistics(measured, plan.mapping.odometry)
        report["gate"] = files.plain(steps)
    return report


class Row:
    """One sparse setting: every frame through the estimator, the baselines and the SLAM core."""

    def __init__(self, text: str, dataset, estimator, plan: Plan, mean) -> None:
        self.text, self.dataset, self.estimator, self.plan = text, dataset, estimator, plan
        self.pattern = SparsePattern.parse(text)
        self.label = text.replace(":", "")  # in names of files
        if estimator.anchor != "residual":
            self.label += f"_{estimator.anchor}"
        self.protocol = PROTOCOLS[plan.protocol]
        self.mean = mean if self.pattern.kind == "none" else None
        self.scores = DepthScores(aligned=self.pattern.kind == "none")
        self.doubt = Doubt()
        self.temporal = Consistency() if plan.temporal else None
        self.points: list[int] = []
        self.timings: list[dict] = []
        self.without_depth = 0  # a bag may hold true depth in some of its frames only
        self.needs_depth = self.pattern.kind in DRAWN or (plan.slam and plan.depth == "sensor")
        self.slam = self.linear = self.reference = None
        if plan.slam:
            given = plan.poses == "given"
            surfels = plan.surfels if plan.fusion == "surfels" else None
            self.slam = SlamRun(plan.mapping, given, surfels, plan.returns)
            exact = plan.reference == "surfaces"
            if exact and not getattr(dataset, "exact_depth", False):
                raise DatasetError(
                    "--reference surfaces: expected exact depth, as of rendered, "
                    f"got {getattr(dataset, 'name', 'frames')}"
                )
            self.reference = (SeenSurfaces if exact else Reference)(plan.mapping)
            if plan.baselines and plan.depth == "predicted":
                self.linear = SlamRun(plan.mapping, given, surfels)

    def run(self, progress: Progress) -> dict:
        """Return the results of all frames."""
        step = max(1, len(self.dataset) // max(1, self.plan.pictures_count))
        for index, sample in enumerate(progress(self.dataset, self.text)):
            if sample.depth is None and self.needs_depth:
                self.without_depth += 1
                continue
            self.add(index, sample, picture=self.plan.pictures is not None and index % step == 0)
        if not self.points:
            drawn = self.pattern.kind in DRAWN
            wanted = f"sparse {self.text}" if drawn else "depth sensor"
            raise DatasetError(f"{wanted}: expected depth in some of the frames, got none")
        result = self.scores.result(self.plan.pooled)
        if self.without_depth:
            result["frames_without_depth"] = self.without_depth
        result["confidence"] = self.doubt.result()
        result["points"] = float(np.mean(self.points))
        result["milliseconds"] = {
            name: float(np.median([t[name] for t in self.timings]))
            for name in (self.timings or [{}])[0]
        }
        if self.temporal is not None:
            result["temporal"] = self.temporal.result()
        if self.slam is not None:
            result |= self.slam.result() | {"map": self.compare_maps()}
            if self.linear is not None and self.linear.frames:
                result["linear_slam"] = self.linear.result()
        return result

    def add(self, index: int, sample: Sample, picture: bool) -> None:
        """Run and measure one frame."""
        self.protocol.check(sample.camera, self.text)
        recorded, sample = sample, self.protocol.prepare(sample)
        if self.plan.slam_only:
            self.points.append(0)
            self.fuse(sample, None, {})
            return
        sparse, truth = self.samples(index, sample)
        rgb, camera = self.protocol.view(sample.rgb, sample.camera)
        rgb = recoloured(rgb, self.plan.colours, np.random.default_rng([self.plan.seed, index]))
        estimate = self.estimator(rgb, sparse, camera)
        size = sample.camera.size
        depths = {
            "coarse": self.protocol.frame(estimate.coarse, size),
            "refined": self.protocol.frame(estimate.depth, size),
        }
        spread = None
        if self.plan.baselines and sparse is not None and sparse.any():
            triangles = interpolation.triangulate(sparse)
            depths["nearest"] = interpolation.nearest(sparse)
            depths["linear"] = interpolation.linear(sparse, triangles)
            depths["smooth"] = interpolation.smooth(sparse)
            depths["morphological"] = morphological(sparse)
            spread = interpolation.triangle_spread(sparse, triangles)
        if self.mean is not None:
            mean = self.protocol.seen(_resized(self.mean, recorded.camera.size))
            depths["mean"] = _resized(mean, size)
        self.points.append(0 if sparse is None else int(np.count_nonzero(sparse)))
        self.timings.append(estimate.timings_ms)
        if truth is not None:
            confidence = self.protocol.frame(estimate.confidence, size)
            self.measure(sample, depths, truth, sparse, confidence, spread)
        if self.temporal is not None:
            self.follow(index, sample, depths, truth, sparse)
        if self.slam is not None:
            self.fuse(sample, estimate, depths)
        if picture:
            panels = pictures.depth_row(
                sample.rgb, sparse, depths["coarse"], depths["refined"], truth
            )
            name = f"{sample.name}_{self.label}".replace("/", "_")
            files.write_picture(self.plan.pictures / f"{name}.png", panels)

    def samples(self, index: int, sample: Sample) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return the points given and the truth, the same for the same seed, frame and pattern.

        Without sensor depth, half of the measured points are given and the other half is truth; if
        none are given, a protocol of scans has all of them as truth.
        """
        # A disturbed pattern has the points of the clean one, so that the two can be compared.
        drawn_by = zlib.crc32(undisturbed(self.text).encode())
        rng = np.random.default_rng([self.plan.seed, index, drawn_by])
        sparse = self.pattern(sample, rng)
        scanned = sample.points is not None or sample.sparse is not None
        if self.protocol.lidar and scanned and sparse is None and sample.depth is None:
            return None, own_points(sample)
        if sample.depth is not None or self.pattern.kind != "points":
            return sparse, sample.depth
        given = rng.random(sparse.shape) < 0.5
        return np.where(given, sparse, np.float32(0)), np.where(given, np.float32(0), sparse)

    def measure(self, sample: Sample, depths: dict, truth, sparse, confidence, spread) -> None:
        """Score every method, and how well the confidence tells right from wrong."""
        protocol = self.protocol
        target = protocol.truth(truth)
        answers = {name: protocol.answer(depth) for name, depth in depths.items()}
        band = None
        if self.pattern.kind in SCANNED and sparse is not None:
            band = protocol.cut(scan_band(sparse))
        # What was no depth in the recording (NaN, negative) is none and counted.
        self.scores.add(answers, target, sample.invalid_depth, band)
        self.scores.add_change(protocol.cut(depths["coarse"]), protocol.cut(depths["refined"]))
        if sample.depth is not None:  # points are no neighbours of each other
            self.scores.add_boundaries(answers, target, truth.shape[1])
        spread = None if spread is None else protocol.cut(spread)
        self.doubt.add(answers["refined"], target, protocol.cut(confidence), spread)

    def follow(self, index: int, sample: Sample, depths: dict, truth, sparse) -> None:
        """Compare the frame with the one before it; linear interpolation is measured always."""
        if "linear" not in depths and sparse is not None and sparse.any():
            depths = depths | {"linear": interpolation.linear(sparse)}
        self.temporal.add(index, sample, depths, truth)

    def fuse(self, sample: Sample, estimate, depths: dict) -> None:
        """Hand the frame to the SLAM core and to the maps it is compared with."""
        if self.plan.depth == "sensor":
            self.slam.add(sample, sample.depth)
        else:
            self.slam.add(sample, estimate.depth, estimate.confidence, estimate.scale_residual)
        self.reference.add(sample)
        if self.linear is not None and "linear" in depths:
            self.linear.add(sample, depths["linear"])

    def compare_maps(self) -> dict:
        """Return the errors of the maps against the reference."""
        runs = {"refined" if self.plan.depth == "predicted" else "sensor": self.slam}
        if self.linear is not None:
            runs["linear"] = self.linear
        result = {}
        folder = self.plan.pictures
        for method, run in runs.items():
            for kind, surface in run.surfaces().items():
                if self.reference.frames:
                    scores = self.reference.compare(surface, run.T_truth_world())
                    result[method + kind] = scores
                if folder is not None:
                    write_surface(folder / f"mesh_{method}{kind}_{self.label}.ply", surface)
        if folder is not None and self.reference.frames:
            write_surface(folder / "mesh_reference.ply", self.reference.surface())
        return result


def default_sparse(dataset: Sequence[Sample]) -> str:
    """Return the pattern that suits a recording: its own points, else 200 samples of its depth."""
    first = dataset[0]
    if first.points is not None or first.sparse is not None:
        return "points"
    return "none" if first.depth is None else "bernoulli:200"


def mean_depth(
    name: str,
    root: Path,
    progress: Progress = lambda items, _: items,
    split: str | None = "train",
) -> np.ndarray | None:
    """Return the per-pixel mean depth (120, 160) m of the recording's training split, or None."""
    try:
        train = open_dataset(name, root, split)
    except DatasetError:  # most recordings have no training split
        return None
    total, count = np.zeros((120, 160)), np.zeros((120, 160))
    for sample in progress(train, "mean depth of train"):
        if sample.depth is None:
            continue
        depth = cv2.resize(sample.depth, (160, 120), interpolation=cv2.INTER_NEAREST)
        total += depth
        count += depth > 0
    return (total / np.maximum(count, 1)).astype(np.float32) if count.any() else None


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
