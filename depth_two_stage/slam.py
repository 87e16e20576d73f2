# SPDX-License-Identifier: Apache-2.0
"""Frames in, poses and map out: odometry or given poses, gating, keyframes, fusion.

The live node, the offline replay and the evaluation all run this. It knows no clock: time is the
integer nanoseconds of a frame's stamp. One thread calls `Slam.process`; `meshing.MapWorker` may
copy the map meanwhile (the map has a lock).
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import numpy as np

from depth_two_stage.camera import Camera
from depth_two_stage.config import MappingNodeParameters
from depth_two_stage.loop_closure import LoopCloser
from depth_two_stage.odometry import View, angle_degrees, reduced, rigid
from depth_two_stage.scale_filter import ScaleFilter, scale_against
from depth_two_stage.tracking import Tracker
from depth_two_stage.tsdf import MapError, TsdfMap
from depth_two_stage.weighting import pixel_weights

# Optical axes (z forward, x right, y down) to REP 103's (x forward, y left, z up).
LEVEL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
# A stamp that falls back by more is a restarted clock or bag; by less, a frame out of order.
TIME_JUMP_NS = 1_000_000_000
# Noise of given poses, which would be a great speed where two stamps nearly agree.
POSE_NOISE_M, POSE_NOISE_DEGREES = 0.1, 5.0
MIN_VALID = 0.02  # share of pixels with depth, below which a frame says nothing
SCALE_WIDTH = 160  # px, of the map's view that tells the scale


@dataclass(frozen=True)
class Frame:
    """One RGB-D frame: rgb uint8 (H, W, 3), depth float32 (H, W) m (0 = none), rectified.

    ``stamp`` is integer nanoseconds; ``confidence`` float32 (H, W) in 0…1 weighs in the
    map (None: 1 everywhere); ``scale_residual`` is the estimator's relative one (0: none left).
    """

    rgb: np.ndarray
    depth: np.ndarray
    camera: Camera
    stamp: int
    confidence: np.ndarray | None = None
    scale_residual: float = 0.0

    def __post_init__(self) -> None:
        size = self.camera.size
        if self.rgb.dtype != np.uint8 or self.rgb.shape != (*size, 3):
            raise ValueError(
                f"rgb: expected uint8 {(*size, 3)}, got {self.rgb.dtype} {self.rgb.shape}"
            )
        for name in ("depth", "confidence"):
            array = getattr(self, name)
            if array is None and name == "confidence":
                continue
            if array.shape != size or not np.issubdtype(array.dtype, np.floating):
                raise ValueError(f"{name}: expected float {size}, got {array.dtype} {array.shape}")
        # Open3D's odometry fails on NaN, so this door is the last place where it may be.
        depth = np.nan_to_num(self.depth, nan=0.0, posinf=0.0, neginf=0.0)
        object.__setattr__(self, "depth", np.maximum(depth, 0).astype(np.float32, copy=False))
        if self.confidence is not None:
            confidence = np.nan_to_num(self.confidence.astype(np.float32, copy=False), nan=0.0)
            if confidence.min() < 0 or confidence.max() > 1:
                raise ValueError(
                    f"confidence: expected 0 … 1, got {confidence.min():g} … {confidence.max():g}"
                )
            object.__setattr__(self, "confidence", confidence)


@dataclass(frozen=True)
class Step:
    """What became of a frame.

    ``T_world_camera`` float64 (4, 4), optical camera frame to the level world (None: lost or
    dropped); ``reason`` is empty or says why it is lost, dropped or was not fused, or that the time
    jumped; ``covariance`` (6, 6) of x y z (m) and the rotation about x y z (rad), world axes.
    """

    stamp: int
    T_world_camera: np.ndarray | None
    lost: bool
    reason: str
    fused: bool
    keyframe: bool = False
    covariance: np.ndarray | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)


class Slam:
    """``Slam(parameters).process(frame[, T_world_camera]) -> Step``.

    Loops are closed within the frame that finds them, so that two runs agree, or, ``background``,
    by a thread that delays no frame; `close` ends it.

    Attributes: ``map`` (`tsdf.TsdfMap`), ``trajectory`` (list of (stamp ns, T_world_camera)),
    ``counters`` (frames, tracked, fused, lost, and one for each cause of a drop), ``start``
    (T_world_camera (4, 4) of the first frame by own odometry: a level camera), ``T_world_odom``
    (4, 4), what loops have moved the camera by: inv(T_world_odom) · T_world_camera goes on
    without a jump when the map is corrected.
    """

    def __init__(
        self, parameters: MappingNodeParameters | None = None, background: bool = False
    ) -> None:
        self.parameters = parameters or MappingNodeParameters()
        self.map = TsdfMap(self.parameters.tsdf, self.parameters.pose.map_frame)
        self.tracker = Tracker(self.parameters.odometry, self.parameters.slam, self.map)
        self.scale = ScaleFilter(self.parameters.fusion.scale_rate)
        self.trajectory: list[tuple[int, np.ndarray]] = []
        self.counters: Counter[str] = Counter()
        self.start = LEVEL
        self.T_world_odom = np.eye(4)
        self._loops: LoopCloser | None = None
        if self.parameters.slam.loop_closure:
            self._loops = LoopCloser(self.parameters, self.tracker.odometry, background)
        self._hanging: list[tuple[int, np.ndarray]] = []  # node, T_node_camera of each pose
        self._last_stamp: int | None = None
        self._restarted = False  # the next frame's time may be any
        self._given: tuple[int, np.ndarray] | None = None  # the last given pose, used or not

    def process(self, frame: Frame, T_world_camera: np.ndarray | None = None) -> Step:
        """Track one frame, or take its given pose, and fuse it.

        Nothing is fused of a frame that is lost, out of order, given an impossible pose, without
        depth, or whose scale is off by more than ``slam.max_scale_residual``. A given pose that
        jumps is refused; when the next one agrees with it the poses are believed again.
        """
        with nullcontext() if self._loops is None else self._loops.frame():
            return self._process(frame, T_world_camera)

    def _process(self, frame: Frame, T_world_camera: np.ndarray | None) -> Step:
        self.counters["frames"] += 1
        # Frames whose stamp does not follow the last one's.
        refusal, jump = self._check_stamp(frame.stamp)
        if refusal:
            return self._dropped(frame, "out_of_order", refusal)
        frame = self._scaled(frame, self.scale.scale)
        # Pose.
        timings: dict[str, float] = {}
        begin = time.perf_counter()
        view = self.tracker.view(frame.rgb, frame.depth, frame.camera)
        if T_world_camera is not None:
            try:
                T_given = self.map.check_pose("pose", T_world_camera)
            except MapError as error:
                return self._dropped(frame, "bad_pose", str(error))
            leap = self._check_speed(frame.stamp, T_given)
            if leap:
                return self._dropped(frame, "pose_jumps", leap)
            if self._loops is not None:  # such poses are not ours to correct
                self._loops.clear(active=False)
            pose = self.tracker.follow(view, frame.stamp, T_given)
        elif view.valid_share < MIN_VALID:
            pose = self.tracker.lose(f"depth in {view.valid_share:.1%} of the pixels")
        elif self.tracker.empty:
            pose = self.tracker.follow(view, frame.stamp, self.start)
        else:
            if self.tracker.after_gap(frame.stamp):
                self.counters["gaps"] += 1
            pose = self.tracker.track(view, frame.stamp)
        timings["track"] = 1e3 * (time.perf_counter() - begin)
        if pose.T_world_camera is None:
            self.counters["lost"] += 1
            reason = "; ".join(filter(None, (jump, pose.reason)))
            return Step(frame.stamp, None, True, reason, False, timings_ms=timings)
        self.counters["tracked"] += 1
        self.trajectory.append((frame.stamp, pose.T_world_camera))
        # Fusion.
        begin = time.perf_counter()
        reason, frame = self._fuse(frame, pose.T_world_camera)
        timings["fuse"] = 1e3 * (time.perf_counter() - begin)
        # Keyframes, for recovery.
        keyframe = not reason and self.tracker.keep(view, pose.T_world_camera)
        # Loops, which correct the past and this pose.
        begin = time.perf_counter()
        T_now = self._close_loops(frame, view, pose.T_world_camera, fused=not reason)
        timings["loops"] = 1e3 * (time.perf_counter() - begin)
        return Step(
            frame.stamp,
            T_now,
            False,
            "; ".join(filter(None, (jump, reason))),
            not reason,
            keyframe,
            pose.covariance,
            timings,
        )

    def statistics(self) -> dict[str, float]:
        """Counts of `process` and of the map, as published on /diagnostics."""
        return {
            **self.counters,
            "keyframes": len(self.tracker.keyframes),
            "depth_scale": self.scale.scale,
            **({} if self._loops is None else self._loops.statistics()),
            **self.map.statistics(),
        }

    def clear(self) -> None:
        """Forget map, keyframes and trajectory; the next frame starts a new level world."""
        self.map.clear()
        self.tracker.clear()
        self.scale.reset()
        self._forget_loops(active=True)
        self.trajectory.clear()
        self._last_stamp, self._restarted, self._given = None, False, None

    def restart_time(self) -> None:
        """Take the next frame whatever its stamp: whoever knows the clock says that it jumped.

        By itself it follows only what falls back by more than a second; less may be disorder.
        """
        self._restarted = True

    def load(self, path: str) -> None:
        """Go on with a saved map; MapError leaves everything untouched.

        Its own odometry looks for the camera near the poses of the file's trajectory.
        """
        trajectory = self.map.load(path)
        self.tracker.clear()
        self.scale.reset()
        self.tracker.search([T for _, T in trajectory] or [LEVEL])
        self._forget_loops(active=False)  # no frames are left from which it could be built again
        self.trajectory[:] = trajectory
        self._last_stamp, self._restarted, self._given = None, False, None

    def close(self) -> None:
        """End the thread of the loops, if there is one."""
        if self._loops is not None:
            self._loops.close()

    def _forget_loops(self, active: bool) -> None:
        self._hanging.clear()
        self.T_world_odom = np.eye(4)
        if self._loops is not None:
            self._loops.clear(active)

    def _close_loops(
        self, frame: Frame, view: View, T_world_camera: np.ndarray, fused: bool
    ) -> np.ndarray:
        """Look for loops and take over what they correct → the frame's pose after that."""
        loops, tracker, correction = self._loops, self.tracker, None
        if loops is None or not loops.active:
            return T_world_camera
        if fused:
            images = frame.rgb, frame.depth, frame.confidence
            correction = loops.follow(images, view, T_world_camera, tracker.origin, tracker.anchor)
        base = tracker.hangs_from
        if base is None:  # nothing was fused yet: a pose that nothing corrects
            self._hanging.append((-1, T_world_camera))
            return T_world_camera
        self._hanging.append((base.node, np.linalg.inv(base.T_world_camera) @ T_world_camera))
        if correction is None:
            return T_world_camera
        self.map.adopt(correction.map)
        tracker.correct(correction.poses)
        nodes, motions = zip(*self._hanging, strict=True)
        poses = np.array([*correction.poses, np.eye(4)])[list(nodes)] @ np.array(motions)
        stamps = [stamp for stamp, _ in self.trajectory]
        self.trajectory[:] = zip(stamps, poses, strict=True)
        self.T_world_odom = rigid(poses[-1] @ np.linalg.inv(T_world_camera) @ self.T_world_odom)
        return poses[-1]

    def _check_stamp(self, stamp: int) -> tuple[str, str]:
        """Why a frame of this stamp cannot be used (empty when it can), and how the time jumped."""
        last, restarted = self._last_stamp, self._restarted
        self._restarted = False
        if last is not None and not restarted and last - TIME_JUMP_NS < stamp <= last:
            return f"stamp: expected one after {last} ns, got {stamp}", ""
        jump = ""
        if last is not None and stamp <= last:
            self.counters["time_jumps"] += 1
            self.tracker.restart()
            self._given = None
            jump = f"time went back by {(last - stamp) * 1e-9:.6g} s, the camera is looked for anew"
        self._last_stamp = stamp
        return "", jump

    def _check_speed(self, stamp: int, T_world_camera: np.ndarray) -> str:
        """Why a given pose cannot follow the one given before; empty when it can."""
        before, self._given = self._given, (stamp, T_world_camera)
        if before is None:
            return ""
        seconds = (stamp - before[0]) * 1e-9
        motion = np.linalg.inv(before[1]) @ T_world_camera
        moved = float(np.linalg.norm(motion[:3, 3]))
        turned = angle_degrees(motion)
        limits = self.parameters.slam
        if moved > POSE_NOISE_M + limits.max_speed * seconds:
            return (
                f"pose: expected at most {limits.max_speed:g} m/s (slam.max_speed), "
                f"got {moved:.2f} m in {seconds:.3f} s"
            )
        if turned > POSE_NOISE_DEGREES + limits.max_turn_rate * seconds:
            return (
                f"pose: expected at most {limits.max_turn_rate:g} degrees/s (slam.max_turn_rate), "
                f"got {turned:.0f} degrees in {seconds:.3f} s"
            )
        return ""

    def _fuse(self, frame: Frame, T_world_camera: np.ndarray) -> tuple[str, Frame]:
        """Fuse a frame → why not, or nothing; and what was fused: its confidence is the weight."""
        most = self.parameters.slam.max_scale_residual
        if not abs(frame.scale_residual) <= most:
            self.counters["scale_refused"] += 1
            reason = f"scale residual {frame.scale_residual:.2f}, expected at most {most:g}"
            return reason, frame
        ratio = self._map_to_frame(frame, T_world_camera)
        if ratio is not None:
            before = self.scale.scale
            frame = self._scaled(frame, self.scale.update(ratio) / before)
            left = ratio * before / self.scale.scale - 1
            if abs(left) > most:
                self.counters["scale_refused"] += 1
                return f"scale off the map's by {left:.2f}, expected at most {most:g}", frame
        weight = pixel_weights(frame.depth, frame.confidence, self.parameters.fusion)
        frame = replace(frame, confidence=weight)
        blocks = self.map.integrate(frame.depth, frame.rgb, frame.camera, T_world_camera, weight)
        if blocks == 0:
            self.counters["without_depth"] += 1
            return "no depth within tsdf.min_range … tsdf.max_range", frame
        self.counters["fused"] += 1
        return "", frame

    def _map_to_frame(self, frame: Frame, T_world_camera: np.ndarray) -> float | None:
        """The map's depth / the frame's at a pose; None: the scale is not held, or nothing seen."""
        if not self.scale.rate or self.map.frames == 0:
            return None
        width = min(SCALE_WIDTH, frame.camera.width)
        size = width, max(1, round(frame.camera.height * width / frame.camera.width))
        seen, _ = self.map.raycast(frame.camera.resized(*size), T_world_camera)
        return scale_against(reduced(frame.depth, size), seen)

    @staticmethod
    def _scaled(frame: Frame, scale: float) -> Frame:
        return frame if scale == 1 else replace(frame, depth=frame.depth * np.float32(scale))

    def _dropped(self, frame: Frame, cause: str, reason: str) -> Step:
        self.counters[cause] += 1
        return Step(frame.stamp, None, False, reason, False)
