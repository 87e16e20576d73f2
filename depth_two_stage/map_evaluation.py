# SPDX-License-Identifier: Apache-2.0
"""The SLAM core over a recording, measured: trajectory against true poses, mesh against a mesh."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from depth_two_stage import trajectories
from depth_two_stage.config import MappingNodeParameters
from depth_two_stage.datasets import Sample
from depth_two_stage.kidnapping import recoveries
from depth_two_stage.reconstruction import surface_points, surface_scores
from depth_two_stage.slam import Frame, Slam, Step
from depth_two_stage.tsdf import Surface, TsdfMap

__all__ = ["Reference", "SlamRun"]

DISTANCE = 0.05  # metres, of the F-score


class Reference:
    """The map of the sensor's depth from the true poses: what other maps are compared with."""

    def __init__(self, parameters: MappingNodeParameters) -> None:
        self.map = TsdfMap(parameters.tsdf)
        self.spacing = parameters.tsdf.voxel_size
        self._points: np.ndarray | None = None

    def add(self, sample: Sample) -> None:
        """Fuse a frame that has sensor depth and a pose."""
        if sample.depth is not None and sample.T_world_camera is not None:
            self.map.integrate(sample.depth, sample.rgb, sample.camera, sample.T_world_camera)

    def mesh(self) -> Surface:
        """Return the mesh of what was fused."""
        return self.map.mesh()

    def compare(self, mesh: Surface, T_truth_mesh: np.ndarray | None = None) -> dict:
        """Return the scores of a mesh, moved into this world first."""
        if self._points is None:
            true = self.mesh()
            self._points = surface_points(true.points, true.triangles, self.spacing)
        points = surface_points(mesh.points, mesh.triangles, self.spacing)
        if T_truth_mesh is not None:
            points = points @ T_truth_mesh[:3, :3].T + T_truth_mesh[:3, 3]
        return surface_scores(points, self._points, DISTANCE)


class SlamRun:
    """One pass of the SLAM core over the frames of a recording.

    ``returns``: stamps (ns) at which a kidnapped camera is back.
    """

    def __init__(
        self,
        parameters: MappingNodeParameters,
        given_poses: bool,
        returns: Sequence[int] = (),
    ) -> None:
        self.slam = Slam(parameters)
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

    def result(self) -> dict:
        """Return the errors of the trajectory (metres, degrees) and what became of the frames.

        ValueError where poses are given, but to no frame.
        """
        if self.unposed and not self.frames:
            raise ValueError(f"poses: expected true poses, got none in {self.unposed} frames")
        stamps, poses, truth = trajectories.associate(self.slam.trajectory, self.truth)
        frame = trajectories.rpe(poses, truth, stamps, 1) or (None, None)
        second = trajectories.rpe(poses, truth, stamps, 1.0) or (None, None)
        result = {
            "ate_rmse": trajectories.ate(poses, truth),
            "ate_rmse_unaligned": trajectories.ate(poses, truth, aligned=False),
            "rpe_rmse": frame[0],
            "rpe_rmse_degrees": frame[1],
            "rpe_second_rmse": second[0],
            "rpe_second_rmse_degrees": second[1],
            "lost_frames": self.lost,
            "fused_frames": self.fused,
            "slam_frames": self.frames,
            "frames_without_pose": self.unposed,
            "compared_poses": len(stamps),
        }
        if self.returns:
            result["kidnappings"] = recoveries(self.steps, self.truth, self.returns)
        return result

    def mesh(self) -> Surface:
        """Return the mesh of the map."""
        return self.slam.map.mesh()

    def T_truth_world(self) -> np.ndarray:
        """Return the rigid motion from this map's world to that of the true poses (4, 4)."""
        _, poses, truth = trajectories.associate(self.slam.trajectory, self.truth)
        if self.given_poses or len(poses) == 0:
            return np.eye(4)
        return trajectories.align_poses(poses, truth)
