# SPDX-License-Identifier: Apache-2.0
"""Times the SLAM core frame by frame beside what Open3D offers for the same, in one run.

Open3D's legacy ``ScalableTSDFVolume`` fuses the same frames at the same poses; its dense SLAM model
(``t.pipelines.slam``: frame to model, point to plane) tracks and fuses them by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from depth_two_stage import trajectories
from depth_two_stage.camera import Camera
from depth_two_stage.config import MappingNodeParameters
from depth_two_stage.datasets import Sample
from depth_two_stage.slam import Frame, Slam

__all__ = ["slam_rows"]

OURS, DENSE = "SLAM, a frame", "dense SLAM model, a frame"
LEGACY = "legacy volume, integrate"
DEPTH_DIFFERENCE = 0.07  # m, of the dense SLAM model's tracking: Open3D's default
MILLIMETRES = 1000.0


class LegacyVolume:
    """Open3D's ``ScalableTSDFVolume`` with a map's voxel size and truncation.

    Where it looks for blocks to allocate, Open3D 0.20 divides float depth by 1000: it allocates
    before the lens and fuses nothing. `works` says whether this one does; where it does not, it is
    given depth × 1000, so that it visits and updates the blocks of the scene: the same work, timed,
    but no surface.
    """

    def __init__(self, parameters: MappingNodeParameters) -> None:
        self.tsdf = parameters.tsdf
        self.volume, self.scale = self._volume(), 1.0
        wall = np.full((60, 80), 2.0 * self.tsdf.max_range / 3, np.float32)
        camera = Camera(80, 60, 70.0, 70.0, 39.5, 29.5)
        sample = Sample(np.zeros((60, 80, 3), np.uint8), wall, camera, 0, "wall")
        self.integrate(self.prepare(sample), np.eye(4))
        self.works = len(self.volume.extract_triangle_mesh().vertices) > 0
        self.volume, self.scale = self._volume(), 1.0 if self.works else 1000.0

    def _volume(self) -> Any:
        import open3d as o3d

        integration = o3d.pipelines.integration
        return integration.ScalableTSDFVolume(
            voxel_length=self.tsdf.voxel_size,
            sdf_trunc=self.tsdf.truncation * self.tsdf.voxel_size,
            color_type=integration.TSDFVolumeColorType.RGB8,
        )

    def prepare(self, sample: Sample) -> tuple[Any, Any]:
        """A frame as it takes it, and its camera."""
        import open3d as o3d

        image, camera = o3d.geometry.Image, sample.camera
        rgbd = o3d.geometry.RGBDImage.create_from_color_and_depth(
            image(np.ascontiguousarray(sample.rgb)),
            image(np.ascontiguousarray(sample.depth * self.scale, np.float32)),
            depth_scale=1.0,
            depth_trunc=self.tsdf.max_range * self.scale,
            convert_rgb_to_intensity=False,
        )
        pinhole = o3d.camera.PinholeCameraIntrinsic(
            camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy
        )
        return rgbd, pinhole

    def integrate(self, prepared: tuple[Any, Any], T_world_camera: np.ndarray) -> None:
        """Fuse a frame."""
        self.volume.integrate(*prepared, np.linalg.inv(T_world_camera))

    def mesh(self) -> None:
        """Extract its triangle mesh."""
        self.volume.extract_triangle_mesh()


class DenseSlam:
    """Open3D's dense SLAM model with a map's voxel size, truncation and bound of blocks."""

    def __init__(self, parameters: MappingNodeParameters, camera: Camera) -> None:
        import open3d as o3d
        import open3d.core as o3c

        slam, tsdf = o3d.t.pipelines.slam, parameters.tsdf
        self.tsdf = tsdf
        blocks = int(tsdf.memory_mb * 1e6) // 81_920
        self.model = slam.Model(
            tsdf.voxel_size, 16, blocks, o3c.Tensor(np.eye(4)), o3c.Device("CPU:0")
        )
        size = camera.height, camera.width, o3c.Tensor(camera.K), o3c.Device("CPU:0")
        self.input, self.seen = slam.Frame(*size), slam.Frame(*size)
        self.trajectory: list[tuple[int, np.ndarray]] = []

    def process(self, sample: Sample) -> None:
        """Track and fuse a frame; RuntimeError where its tracking has no solution."""
        import open3d as o3d
        import open3d.core as o3c

        image = o3d.t.geometry.Image
        depth = np.where(sample.depth <= self.tsdf.max_range, sample.depth, 0) * MILLIMETRES
        depth = image(o3c.Tensor(np.rint(depth).astype(np.uint16)))
        self.input.set_data_from_image("depth", depth)
        rgb = image(o3c.Tensor(np.ascontiguousarray(sample.rgb)))
        self.input.set_data_from_image("color", rgb)
        near, far = max(self.tsdf.min_range, 0.01), self.tsdf.max_range
        pose = np.eye(4)
        if self.trajectory:
            motion = self.model.track_frame_to_model(
                self.input, self.seen, MILLIMETRES, far, DEPTH_DIFFERENCE
            )
            pose = self.trajectory[-1][1] @ motion.transformation.cpu().numpy()
        self.trajectory.append((sample.stamp, pose))
        self.model.update_frame_pose(len(self.trajectory) - 1, o3c.Tensor(pose))
        self.model.integrate(self.input, MILLIMETRES, far, self.tsdf.truncation)
        self.model.synthesize_model_frame(
            self.seen, MILLIMETRES, near, far, self.tsdf.truncation, False
        )


def _quiet() -> Any:
    """Open3D's warnings about empty colours are no news here."""
    import open3d as o3d

    return o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error)


def slam_rows(
    samples: Iterable[Sample],
    parameters: MappingNodeParameters | None = None,
    progress: Callable[[Iterable, str], Iterable] = lambda items, _: items,
) -> list[dict]:
    """Medians (ms) of the core's steps over frames with depth, and of Open3D's beside them.

    Rows have `what`, `median`, `p95`, `ratio` and `to` as `benchmark.benchmark`'s; the ratio is the
    median over frames of the other's time ÷ ours. Where the frames have true poses, rows of both
    trackers have `ate` (m, SE(3)-aligned). ValueError without any frame that has depth.
    """
    parameters = parameters or MappingNodeParameters()
    core, legacy, dense = Slam(parameters), LegacyVolume(parameters), None
    times: dict[str, list[float]] = {}
    truth: list[tuple[int, np.ndarray]] = []
    for sample in progress(samples, "SLAM"):
        if sample.depth is None:
            continue
        if dense is None:
            dense = DenseSlam(parameters, sample.camera)
        if sample.T_world_camera is not None:
            truth.append((sample.stamp, sample.T_world_camera))
        frame = Frame(sample.rgb, sample.depth, sample.camera, sample.stamp)
        prepared = legacy.prepare(sample)
        step, took = _timed(lambda frame=frame: core.process(frame))
        if step.T_world_camera is None:  # lost: the others would do work that we did not
            continue
        found = {OURS: took}
        found |= {f"SLAM, {name}": took for name, took in step.timings_ms.items()}
        pose = step.T_world_camera
        found[LEGACY] = _timed(lambda p=prepared, T=pose: legacy.integrate(p, T))[1]
        with _quiet():
            found[DENSE] = _timed(lambda s=sample, d=dense: d.process(s))[1]
        for name, value in found.items():
            times.setdefault(name, []).append(value)
    if not times:
        raise ValueError("recording: expected frames with depth that can be tracked, got none")
    rows = [_row(name, values, times) for name, values in times.items()]
    ours = _timed(core.map.mesh)[1]
    rows.append(_row("SLAM, mesh", [ours], {}))
    if legacy.works:
        theirs = _timed(legacy.mesh)[1]
        compared = {"ratio": theirs / ours, "to": "× ours"}
        rows.append(_row("legacy volume, mesh", [theirs], {}) | compared)
    if len(truth) > 2:
        for name, trajectory in ((OURS, core.trajectory), (DENSE, dense.trajectory)):
            _, poses, true = trajectories.associate(trajectory, truth)
            next(row for row in rows if row["what"] == name)["ate"] = trajectories.ate(poses, true)
    return rows


#: what another's time is compared with
AGAINST = {
    LEGACY: "SLAM, fuse",
    DENSE: OURS,
}


def _row(name: str, values: list[float], times: dict[str, list[float]]) -> dict:
    # The first frame starts the map and tracks nothing; its allocations are nobody's usual cost.
    usual = np.array(values[1:] or values)
    against = AGAINST.get(name) if times else None
    ratio = None
    if against is not None:
        ratio = float(np.median(usual / np.array(times[against][1:] or times[against])))
    return {
        "what": name,
        "median": float(np.median(usual)),
        "p95": float(np.percentile(usual, 95)),
        "ratio": ratio,
        "to": "× ours" if ratio is not None else None,
    }


def _timed(job: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = job()
    return result, 1e3 * (time.perf_counter() - began)
