# SPDX-License-Identifier: Apache-2.0
"""The SLAM core over a recording, measured: trajectory against true poses, maps against a map."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from depth_two_stage import files, trajectories
from depth_two_stage.config import MappingNodeParameters, SurfelParameters
from depth_two_stage.datasets import Sample
from depth_two_stage.kidnapping import recoveries
from depth_two_stage.reconstruction import surface_points, surface_scores, thinned
from depth_two_stage.slam import Frame, Slam, Step
from depth_two_stage.surfels import SurfelCloud, SurfelMap
from depth_two_stage.tsdf import Surface, TsdfMap

__all__ = ["Reference", "SeenSurfaces", "SlamRun", "write_surface"]

DISTANCE = 0.05  # metres, of the F-score
MANY = 2_000_000  # points that are collected before they are thinned again


class Reference:
    """The map of the sensor's depth from the true poses: what other maps are compared with."""

    def __init__(self, parameters: MappingNodeParameters) -> None:
        self.map = TsdfMap(parameters.tsdf)
        self.spacing = parameters.tsdf.voxel_size
        self.frames = 0
        self._points: np.ndarray | None = None

    def add(self, sample: Sample) -> None:
        """Fuse a frame that has sensor depth and a pose."""
        if sample.depth is not None and sample.T_world_camera is not None:
            self.map.integrate(sample.depth, sample.rgb, sample.camera, sample.T_world_camera)
            self.frames += 1

    def surface(self) -> Surface:
        """Return what others are compared with: the mesh of what was fused."""
        return self.map.mesh()

    def compare(
        self, surface: Surface | SurfelCloud, T_truth_surface: np.ndarray | None = None
    ) -> dict:
        """Return the scores of a mesh or of surfels, moved into this world first."""
        if self._points is None:
            self._points = _evenly(self.surface(), self.spacing)
        points = _evenly(surface, self.spacing)
        if T_truth_surface is not None:
            points = points @ T_truth_surface[:3, :3].T + T_truth_surface[:3, 3]
        return surface_scores(points, self._points, DISTANCE)


class SeenSurfaces(Reference):
    """The surfaces themselves, where depth is exact: what the frames saw of them within range.

    One point for each cell of a voxel's size that any frame's pixel met.
    """

    def __init__(self, parameters: MappingNodeParameters) -> None:
        self.spacing = parameters.tsdf.voxel_size
        self.range = parameters.tsdf.min_range, parameters.tsdf.max_range
        self.frames = 0
        self._points = None
        self._parts: list[np.ndarray] = []

    def add(self, sample: Sample) -> None:
        """Collect the points of a frame's exact depth."""
        if sample.depth is None or sample.T_world_camera is None:
            return
        near, far = self.range
        seen = sample.camera.backproject(sample.depth)[
            (sample.depth >= near) & (sample.depth <= far)
        ]
        T = sample.T_world_camera
        self._parts.append(thinned(seen @ T[:3, :3].T + T[:3, 3], self.spacing))
        self.frames += 1
        if sum(map(len, self._parts)) > MANY + len(self._parts[0]):
            self._parts = [thinned(np.concatenate(self._parts), self.spacing)]

    def surface(self) -> Surface:
        """Return the points seen, (N, 3) metres, as a surface without triangles or colours."""
        points = np.concatenate([np.zeros((0, 3)), *self._parts])
        self._parts = [thinned(points, self.spacing)]
        points = self._parts[0].astype(np.float32)
        grey = np.full(points.shape, 128, np.uint8)
        return Surface(points, grey, np.zeros((0, 3), np.int32))


def _evenly(surface: Surface | SurfelCloud, spacing: float) -> np.ndarray:
    """Points (N, 3) m of a mesh by its area, of surfels and points one for each cell."""
    triangles = getattr(surface, "triangles", ())
    if len(triangles):
        return surface_points(surface.points, triangles, spacing)
    return thinned(surface.points.astype(np.float64), spacing)


class SlamRun:
    """One pass of the SLAM core over the frames of a recording.

    With `surfels` a point-based map beside the TSDF fuses the same frames at the same poses.
    ``returns``: stamps (ns) at which a kidnapped camera is back.
    """

    def __init__(
        self,
        parameters: MappingNodeParameters,
        given_poses: bool,
        surfels: SurfelParameters | None = None,
        returns: Sequence[int] = (),
    ) -> None:
        self.slam = Slam(parameters)
        self.surfels = None if surfels is None else SurfelMap(parameters.tsdf, surfels)
        self.fuse_ms: dict[str, list[float]] = {"tsdf": [], "surfels": []}
        self.given_poses = given_poses
        self.frames = self.lost = self.fused = self.unposed = 0
        self.truth: trajectories.Trajectory = []
        self.returns = returns
        self.steps: list[Step] = []

    def add(
        self,
        sample: Sample,
        depth: np.ndarray,
        confidence: np.ndarray | None = None,
        scale_residual: float = 0.0,
    ) -> None:
        """Track and fuse a sample with this depth (H, W) metres.

        Of given poses some may be missing, as where the motion capture lost sight: such frames
        are left out and counted.
        """
        pose = sample.T_world_camera
        if self.given_poses and pose is None:
            self.unposed += 1
            return
        if pose is not None:
            self.truth.append((sample.stamp, pose))
        frame = Frame(sample.rgb, depth, sample.camera, sample.stamp, confidence, scale_residual)
        step = self.slam.process(frame, pose if self.given_poses else None)
        self.steps.append(step)
        self.frames += 1
        self.lost += step.lost
        self.fused += step.fused
        if not step.fused:
            return
        self.fuse_ms["tsdf"].append(step.timings_ms["fuse"])
        if self.surfels is not None:
            begin = time.perf_counter()
            T = step.T_world_camera
            self.surfels.integrate(frame.depth, frame.rgb, frame.camera, T, frame.confidence)
            self.fuse_ms["surfels"].append(1e3 * (time.perf_counter() - begin))

    def result(self) -> dict:
        """Return the errors of the trajectory (metres, degrees) and what became of the frames.

        ValueError where poses are given, but to no frame.
        """
        if self.unposed and not self.frames:
            raise ValueError(f"poses: expected true poses, got none in {self.unposed} frames")
        stamps, poses, truth = trajectories.associate(self.slam.trajectory, self.truth)
        frame = trajectories.rpe(poses, truth, stamps, 1) or (None, None)
        second = trajectories.rpe(poses, truth, stamps, 1.0) or (None, None)
        scaled = trajectories.ate_scaled(poses, truth) or (None, None)
        result = {
            "ate_rmse": trajectories.ate(poses, truth),
            "ate_rmse_unaligned": trajectories.ate(poses, truth, aligned=False),
            "ate_rmse_scaled": scaled[0],
            "trajectory_scale": scaled[1],
            "rpe_rmse": frame[0],
            "rpe_rmse_degrees": frame[1],
            "rpe_second_rmse": second[0],
            "rpe_second_rmse_degrees": second[1],
            "lost_frames": self.lost,
            "fused_frames": self.fused,
            "slam_frames": self.frames,
            "frames_without_pose": self.unposed,
            "compared_poses": len(stamps),
            "fuse_ms": {n: float(np.median(times)) for n, times in self.fuse_ms.items() if times},
        }
        if self.returns:
            result["kidnappings"] = recoveries(self.steps, self.truth, self.returns)
        return result

    def surfaces(self) -> dict[str, Surface | SurfelCloud]:
        """Return the map's mesh as "" and of surfels the stable ones, and all."""
        found = {"": self.slam.map.mesh()}
        if self.surfels is not None:
            found["_surfels"] = self.surfels.points()
            found["_surfels_all"] = self.surfels.points(unstable=True)
        return found

    def T_truth_world(self) -> np.ndarray:
        """Return the rigid motion from this map's world to that of the true poses (4, 4)."""
        _, poses, truth = trajectories.associate(self.slam.trajectory, self.truth)
        if self.given_poses or len(poses) == 0:
            return np.eye(4)
        return trajectories.align_poses(poses, truth)


def write_surface(path: Path, surface) -> None:
    """Write a `tsdf.Surface` or a `surfels.SurfelCloud` as PLY."""
    triangles, normals = (getattr(surface, name, None) for name in ("triangles", "normals"))
    files.write_ply(path, surface.points, surface.colors, triangles, normals)
