# SPDX-License-Identifier: Apache-2.0
"""Camera motion between two RGB-D views.

The motion is Open3D's (tensor pipeline, Gauss–Newton over an image pyramid): ``intensity`` is paper
E's tracking (Kerl et al.: differences of pixel intensity), ``hybrid`` adds depth differences,
``point_to_plane`` uses depth alone. `gating.Gate` says whether to believe it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from depth_two_stage.camera import Camera
from depth_two_stage.config import OdometryParameters
from depth_two_stage.gating import CHECK_WIDTH, Check, Gate, Verdict

ITERATIONS = (20, 10, 5)  # Gauss–Newton steps from the coarsest level to the finest
DEPTH_OUTLIER = 0.07  # m: larger depth differences are not minimised (Open3D's default)
ONE_SURFACE = 0.02  # share of the range: depths that may be averaged into one pixel
WRONG_STEP = 0.03  # m: what `gate_statistics` calls a wrong step


class View:
    """One RGB-D image, reduced for tracking; depth float32 (h, w) m, 0 = none."""

    def __init__(
        self, rgb: np.ndarray, depth: np.ndarray, camera: Camera, width: int, max_range: float
    ) -> None:
        scale = min(1.0, width / camera.width)
        size = max(8, round(camera.width * scale)), max(8, round(camera.height * scale))
        self.camera = camera.resized(*size)
        self.rgb = rgb if scale == 1.0 else cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        depth = np.where(depth <= max_range, depth, np.float32(0)).astype(np.float32, copy=False)
        self.depth = reduced(depth, size)
        self._seen: tuple[Camera, View] | None = None  # by another camera, the last one asked for

    @cached_property
    def image(self) -> Any:
        """Open3D's RGBDImage of this view."""
        import open3d as o3d
        import open3d.core as o3c

        color, depth = (
            o3d.t.geometry.Image(o3c.Tensor(np.ascontiguousarray(array)))
            for array in (self.rgb, self.depth)
        )
        return o3d.t.geometry.RGBDImage(color, depth)

    @cached_property
    def check(self) -> Check:
        """The view reduced further, as the gate compares it."""
        height = max(8, round(CHECK_WIDTH * self.camera.height / self.camera.width))
        size = CHECK_WIDTH, height
        grey = cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY)
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        return Check(grey, reduced(self.depth, size), self.camera.resized(*size))

    def seen_by(self, camera: Camera) -> View:
        """The view as another camera at the same place sees it: the image's size has changed."""
        if camera == self.camera:
            return self
        if self._seen is None or self._seen[0] != camera:
            mine = self.camera
            u = (np.arange(camera.width) - camera.cx) * (mine.fx / camera.fx) + mine.cx
            v = (np.arange(camera.height) - camera.cy) * (mine.fy / camera.fy) + mine.cy
            # Beyond the edge is beyond the edge: a larger number would not fit OpenCV's.
            u, v = np.clip(u, -2, mine.width + 1), np.clip(v, -2, mine.height + 1)
            x, y = np.meshgrid(u.astype(np.float32), v.astype(np.float32))
            rgb = cv2.remap(self.rgb, x, y, cv2.INTER_LINEAR)
            depth = cv2.remap(self.depth, x, y, cv2.INTER_NEAREST)
            self._seen = camera, View(rgb, depth, camera, camera.width, np.inf)
        return self._seen[1]

    @property
    def valid_share(self) -> float:
        """Share of pixels with depth."""
        return float(np.count_nonzero(self.depth) / self.depth.size)

    def forget_image(self) -> None:
        """Give back the memory of `image`, which is made again when needed."""
        self.__dict__.pop("image", None)


@dataclass(frozen=True)
class Motion:
    """T_reference_frame (4, 4) and the gate's verdict on it."""

    T_reference_frame: np.ndarray
    verdict: Verdict

    @property
    def accepted(self) -> bool:
        """True when the gate believes the motion."""
        return not self.verdict.reason


class Odometry:
    """``Odometry(parameters).align(reference, frame, guess) -> Motion``."""

    def __init__(self, parameters: OdometryParameters | None = None) -> None:
        self.parameters = parameters or OdometryParameters()
        self._gates: dict[str, Gate] = {}

    def view(self, rgb: np.ndarray, depth: np.ndarray, camera: Camera) -> View:
        """A frame prepared for `align`."""
        return View(rgb, depth, camera, self.parameters.width, self.parameters.max_range)

    def copy(self) -> Odometry:
        """One for another thread that has learned as much; of keyframes at least what of frames."""
        made = Odometry(self.parameters)
        made._gates = {kind: gate.copy() for kind, gate in self._gates.items()}
        for kind in ("frame", "model"):
            if "keyframe" not in made._gates and kind in made._gates:
                made._gates["keyframe"] = made._gates[kind].copy()
        return made

    def align(
        self,
        reference: View,
        frame: View,
        guess: np.ndarray | None = None,
        kind: str = "frame",
        disagreement: float = 0.0,
    ) -> Motion:
        """Motion T_reference_frame from a guess (None: no motion), gated as its kind usually is.

        ``disagreement`` (m) of the ways there and back is allowed where it is more than usual.
        """
        guess = np.eye(4) if guess is None else guess
        reference = reference.seen_by(frame.camera)
        gate = self._gates.setdefault(kind, Gate(self.parameters))
        try:
            T = self.estimate(reference, frame, guess)
            looked = gate.look(reference.check, frame.check, T)
            if looked.reason:  # the way back, half of the time, would change nothing
                return Motion(T, looked)
            back = self.estimate(frame, reference, np.linalg.inv(guess))
        except RuntimeError as error:  # Open3D: "singular 6x6 linear system"
            return Motion(guess, Verdict(f"odometry failed: {_first_line(error)}"))
        checks = reference.check, frame.check
        return Motion(T, gate.judge_way(looked, *checks, T @ back, disagreement))

    def estimate(self, reference: View, frame: View, guess: np.ndarray) -> np.ndarray:
        """T_reference_frame (4, 4) by Open3D, not gated; RuntimeError when it has no solution."""
        import open3d as o3d
        import open3d.core as o3c

        odometry = o3d.t.pipelines.odometry
        methods = {
            "intensity": odometry.Method.Intensity,
            "hybrid": odometry.Method.Hybrid,
            "point_to_plane": odometry.Method.PointToPlane,
        }
        with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
            result = odometry.rgbd_odometry_multi_scale(
                frame.image,
                reference.image,
                o3c.Tensor(frame.camera.K),
                o3c.Tensor(np.ascontiguousarray(guess, np.float64)),
                1.0,
                self.parameters.max_range,
                [odometry.OdometryConvergenceCriteria(steps) for steps in ITERATIONS],
                methods[self.parameters.method],
                odometry.OdometryLossParams(DEPTH_OUTLIER),
            )
        T = result.transformation.cpu().numpy()
        if not np.isfinite(T).all():
            raise RuntimeError("expected a finite motion, got NaN")
        return rigid(T)

    def information(
        self, reference: View, frame: View, T_reference_frame: np.ndarray
    ) -> np.ndarray:
        """How well two views fix the motion between them, as a pose graph wants it (6, 6)."""
        import open3d as o3d
        import open3d.core as o3c

        matrix = o3d.t.pipelines.odometry.compute_odometry_information_matrix(
            frame.image.depth,
            reference.seen_by(frame.camera).image.depth,
            o3c.Tensor(frame.camera.K),
            o3c.Tensor(np.ascontiguousarray(T_reference_frame, np.float64)),
            DEPTH_OUTLIER,
            1.0,
            self.parameters.max_range,
        )
        return matrix.cpu().numpy().astype(np.float64)


@dataclass(frozen=True)
class GateStatistics:
    """What the gate did with the frame-to-frame steps of a recording with true poses.

    ``wrong`` steps are off by more than 3 cm, the others are ``good``; counts.
    """

    wrong: int
    caught: int
    good: int
    refused: int

    @property
    def caught_share(self) -> float | None:
        """Share of the wrong steps that the gate refused (None: there was none)."""
        return self.caught / self.wrong if self.wrong else None

    @property
    def refused_share(self) -> float | None:
        """Share of the good steps that the gate refused."""
        return self.refused / self.good if self.good else None


def gate_statistics(
    dataset: Iterable, parameters: OdometryParameters | None = None, motion_prior: bool = True
) -> GateStatistics:
    """Judge every step from sample to sample of a data set with sensor depth and true poses.

    The guess is the last accepted motion (``motion_prior``) or none, as in paper E.
    """
    odometry = Odometry(parameters)
    wrong = caught = good = refused = 0
    before, guess = None, np.eye(4)
    for sample in dataset:
        if sample.depth is None or sample.T_world_camera is None:
            continue
        view, T_world = (
            odometry.view(sample.rgb, sample.depth, sample.camera),
            sample.T_world_camera,
        )
        if before is not None:
            motion = odometry.align(before[0], view, guess)
            true = np.linalg.inv(before[1]) @ T_world
            error = np.linalg.norm((np.linalg.inv(true) @ motion.T_reference_frame)[:3, 3])
            if error > WRONG_STEP:
                wrong, caught = wrong + 1, caught + (not motion.accepted)
            else:
                good, refused = good + 1, refused + (not motion.accepted)
            if motion_prior and motion.accepted:
                guess = motion.T_reference_frame
        before = view, T_world
    return GateStatistics(wrong, caught, good, refused)


def rigid(T: np.ndarray) -> np.ndarray:
    """The transform with its rotation made orthonormal again (polar decomposition)."""
    made = np.eye(4)
    u, _, vt = np.linalg.svd(T[:3, :3])
    made[:3, :3] = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    made[:3, 3] = T[:3, 3]
    return made


def angle_degrees(T: np.ndarray) -> float:
    """The angle of a transform's rotation, degrees."""
    return float(np.degrees(np.arccos(np.clip((np.trace(T[:3, :3]) - 1) / 2, -1, 1))))


def power(T: np.ndarray, exponent: float) -> np.ndarray:
    """A share (or multiple) of a motion: rotation vector and translation scaled."""
    made = np.eye(4)
    made[:3, :3] = cv2.Rodrigues(cv2.Rodrigues(T[:3, :3])[0] * exponent)[0]
    made[:3, 3] = T[:3, 3] * exponent
    return made


def reduced(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Depth m of a smaller size (width, height), 0 = none.

    The mean of a pixel's area where it lies on one surface, which keeps the pixel's centre where
    the reduced camera has it; elsewhere the nearest pixel, so that no edge is averaged away.
    """
    if depth.shape == size[::-1]:
        return depth
    nearest = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST)
    mean = cv2.resize(depth, size, interpolation=cv2.INTER_AREA)
    # A hole in the area lowers the mean far below the surface, so one test finds edges and holes.
    return np.where(np.abs(mean - nearest) <= ONE_SURFACE * nearest, mean, nearest)


# Open3D writes colours, a signature, and its source's path and line before what it has to say.
_OPEN3D = re.compile(r"\x1b\[[0-9;]*m|\[Open3D \w+\] (\(.*\) )?\S+:\d+: ")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in _OPEN3D.sub("", str(error)).splitlines() if line.strip()]
    return lines[0][:120] if lines else type(error).__name__
