# SPDX-License-Identifier: Apache-2.0
"""mapping_node: depth, colour and confidence in; poses, a mesh and a map that can be kept out."""

from __future__ import annotations

import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from threading import Condition, Event
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from ..config import ConfigError, MappingNodeParameters
from ..map_keeping import MapKeeper
from ..meshing import MapWorker, SaveReport, WorkerError
from ..slam import Frame, Slam
from ..tsdf import MapError
from . import build, process
from .lockstep import LAST_STAMP
from .map_orders import MapOrders
from .map_outputs import MapOutputs
from .map_services import MapServices
from .mapping_inputs import DEPTH, MappingInputs, decode
from .motion import Motion, Mount, check_frames
from .params import Parameters
from .poses import OwnOdometry, PoseError, Poses, TfPoses, TopicPoses
from .reports import READERS, Drops, Steps, diagnostics, readers, status
from .transforms import NoTransforms, TransformError, extrinsics, tf_listener
from .watchdog import Watchdog

NAME = "mapping_node"
SAVE_PATIENCE = 50.0  # s, for the map on exit
CLOSE_PATIENCE = 55.0  # s in all; launch and `live` kill after 60
# Of `Slam.statistics`, what ~/state tells.
STATE = ("frames", "fused", "lost", "keyframes", "map_blocks", "map_used_mb", "map_memory_mb")
WATCH = 5.0  # s without a frame after which the missing link is named


class MappingNode(Node):
    """Joins frames on the executor's thread and maps them, newest first, on its own."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self._declared = Parameters(self, MappingNodeParameters)
        values = self.parameters
        if values.grid.resolution < values.tsdf.voxel_size:
            raise ConfigError(
                f"grid.resolution: expected at least tsdf.voxel_size = {values.tsdf.voxel_size:g}, "
                f"got {values.grid.resolution:g}"
            )
        self.failure: process.NodeFailure | None = None
        self.paused = False
        self.drops = Drops(self.get_logger(), quiet=("newer frame", "paused"))
        self.steps = Steps()
        self._stopped, self._news = Event(), Condition()
        self._waiting: tuple[int, dict[str, Any], float, bool] | None = None
        self._restarted = False  # time has jumped back since the last frame delivered
        self._last_stamp, self._version = 0, 0
        self._watchdog = Watchdog(self.get_logger().warning, "frames")
        self._situation = "waiting"  # for a frame; then mapping, lost or refused

        check_frames(values.pose)
        try:
            self._slam = Slam(values, background=True)
        except MapError as error:  # no such device, or not so much memory
            raise ConfigError(str(error)) from error
        if values.map.load:
            self._load(values.map.load)
        # A copy: asking the map would wait for the frame that is being fused.
        self._statistics = self._slam.statistics()
        self._worker = MapWorker(self._slam.map, values.grid)
        self._keeper = MapKeeper(self._slam, self._worker, self.get_logger().error)
        self._orders = MapOrders(
            self._keeper, lambda: self.parameters.map, self._news, self._changed
        )
        group = MutuallyExclusiveCallbackGroup()
        self._transforms = tf_listener(self, self._stopped) or NoTransforms()
        T_base_camera = extrinsics(values.pose.camera_extrinsics, "pose.camera_extrinsics")
        self._mount = Mount(self, values.pose, T_base_camera, self._transforms)
        self._poses = self._open_poses(self._mount, group)
        self._motion = Motion(self, values.pose, self._mount)
        self._map = MapOutputs(self, self._worker, self.drops, lambda: self._slam.trajectory)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._inputs = MappingInputs(
            self,
            values.input,
            self._poses.subscriptions,
            self.drops,
            group,
            self._deliver,
            self._jumped,
        )
        self._map_services = MapServices(self, self, self._orders)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self.report, callback_group=group, clock=steady)
        self.create_timer(0.25, self._publish_map, callback_group=group, clock=steady)
        self._pool = ThreadPoolExecutor(1, "mapping")
        self._work_done = self._pool.submit(self._work)
        self._work_done.add_done_callback(self._on_work_done)

    @property
    def parameters(self) -> MappingNodeParameters:
        """The present values."""
        return self._declared.values

    def _load(self, path: str) -> None:
        try:
            self._slam.load(path)
        except (MapError, OSError) as error:
            raise ConfigError(f"map.load: {error}") from error
        self.get_logger().info(f"map.load: {path} loaded")

    def _open_poses(self, mount: Mount, group: MutuallyExclusiveCallbackGroup) -> Poses:
        pose = self.parameters.pose
        if pose.source == "own":
            return OwnOdometry(pose.odom_frame)
        if pose.source == "tf":
            if isinstance(self._transforms, NoTransforms):
                raise ConfigError("pose.source: expected tf2_ros to be installed for tf, got none")
            return TfPoses(self._transforms, lambda: self.parameters)
        return TopicPoses(self, mount, lambda: self.parameters, group, self.drops)

    # --- on the executor's thread -----------------------------------------------------------------

    def _deliver(self, stamp: int, messages: dict[str, Any]) -> None:
        self._watchdog.feed()
        if self.paused:
            self._refused("paused", "", stamp)
            return
        restarted, self._restarted = self._restarted, False
        with self._news:
            if self._waiting is not None:
                self.drops.add("newer frame")
                restarted |= self._waiting[-1]
            self._waiting = stamp, messages, time.monotonic(), restarted
            self._news.notify()

    def _jumped(self, reason: str) -> None:
        self.get_logger().warning(reason)
        self._poses.reset()
        self._last_stamp, self._restarted = 0, True

    def _publish_map(self) -> None:
        own = self.parameters.pose.source == "own"
        frame = self.parameters.pose.map_frame if own else self._poses.frame
        if frame and self._map_stamp():
            self._map.tick(
                self._version,
                self.parameters.map.publish_period,
                lambda: build.header(self._map_stamp(), frame),
            )

    def _map_stamp(self) -> int:
        """ns: of the last frame, before the first one the present; 0 while /clock is awaited."""
        return self._last_stamp or self.get_clock().now().nanoseconds

    def report(self) -> None:
        """Publish /diagnostics; name the missing link when nothing comes."""
        missing, loading = "", self._inputs.loading()
        if loading:
            self._watchdog.feed()
            self.get_logger().info(loading, once=True)
        if time.monotonic() - self._watchdog.fed >= WATCH:
            missing = self._inputs.missing()
        self._watchdog.check(WATCH, lambda _: missing or None)
        values: dict[str, Any] = {
            "depth images": self._inputs.received,
            "frames": self._inputs.joined,
            **self._statistics,
        }
        values |= {f"dropped: {reason}": n for reason, n in self.drops.counts().items()}
        values |= self.steps.values()
        values |= {"pose source": self.parameters.pose.source, LAST_STAMP: self._last_stamp}
        values |= {
            "autosaves": self._keeper.autosaves,
            "failed autosaves": self._keeper.failed_autosaves,
        }
        values[READERS] = readers(self)
        level = "warn" if missing else "ok"
        words = missing or loading or ("paused" if self.paused else "mapping")
        self._diagnostics.publish(
            diagnostics(
                self.get_clock().now().to_msg(),
                status(
                    self.get_fully_qualified_name()[1:],
                    self._orders.camera_frame,
                    level,
                    words,
                    values,
                ),
            )
        )

    # --- on the mapping thread --------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stopped.is_set():
            with self._news:
                self._news.wait_for(
                    lambda: self._waiting or self._orders or self._stopped.is_set(), 1.0
                )
                waiting, self._waiting = self._waiting, None
            ordered = self._orders.work()
            if waiting is not None and not self._stopped.is_set():
                self._process(*waiting)
            if ordered:
                self._statistics = self._slam.statistics()
            keep = self.parameters.map
            self._keeper.autosave(
                keep.autosave_path or keep.save_path, keep.autosave_period, self._version
            )

    def _process(
        self, stamp: int, messages: dict[str, Any], received: float, restarted: bool
    ) -> None:
        began = time.monotonic()
        if restarted:  # by less than a second, too: the inputs know that it is no disorder
            self._slam.restart_time()
        frame_id = messages[DEPTH].header.frame_id
        self._orders.camera_frame = frame_id
        self.steps.add("waiting", (began - received) * 1e3)
        if frame_id in (self._slam.map.frame, self._poses.frame):
            self._refused(
                "camera frame",
                f"pose.map_frame: expected a frame other than the images', got {frame_id!r}",
                stamp,
            )
            return
        try:
            with self.steps.time("conversion"):
                frame = decode(stamp, messages)
            with self.steps.time("pose"):
                T_given = self._poses.at(stamp, frame_id)
                if T_given is None and self._slam.tracker.empty:
                    start = self._mount.first_pose(frame_id, stamp)
                    self._slam.start = self._slam.map.check_pose("T_base_camera", start)
        except ValueError as error:
            self._refused("malformed", " ".join(str(error).split()), stamp)
            return
        except (PoseError, TransformError) as error:
            self._refused("no pose", str(error), stamp)
            return
        if T_given is not None and not self._fits_map():
            self._refused(
                "pose frame",
                f"pose.map_frame: expected poses in the map's frame {self._slam.map.frame!r}, "
                f"got {self._poses.frame!r}",
                stamp,
            )
            return
        self._map_frame(frame, T_given, frame_id)
        self.steps.add("total", (time.monotonic() - began) * 1e3)

    def _fits_map(self) -> bool:
        """Whether the given poses are the map's; an empty map takes their frame."""
        map, frame = self._slam.map, self._poses.frame
        if map.frame != frame and len(map.blocks) == 0:
            map.frame = frame
        return map.frame == frame

    def _map_frame(self, frame: Frame, T_given: Any, frame_id: str) -> None:
        step = self._slam.process(frame, T_given)
        self._statistics = self._slam.statistics()
        for name, milliseconds in step.timings_ms.items():
            self.steps.add(name, milliseconds)
        self._version += step.fused
        if step.lost or step.T_world_camera is None:
            what = self._situation = "lost" if step.lost else "refused"
            self._refused(what, f"{what}: {step.reason}", frame.stamp)
            return
        self._situation = "mapping"
        if not step.fused and step.reason:
            self.drops.add("not fused", f"not fused: {step.reason}")
        self._last_stamp = frame.stamp
        self._motion.correct(self._slam.T_world_odom)
        try:
            self._motion.publish(
                step.T_world_camera, step.covariance, frame.stamp, frame_id, self._poses.frame
            )
        except TransformError as error:
            self._refused("no base frame", str(error), frame.stamp)

    def _refused(self, reason: str, detail: str, stamp: int) -> None:
        """Count a frame that gives no pose and say so on /diagnostics now: lockstep waits."""
        self.drops.add(reason, detail)
        self._last_stamp = stamp
        self.report()

    # --- for the services -------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What it does and what it holds, plain values."""
        counts = {name: self._statistics.get(name, 0) for name in STATE}
        situation = "paused" if self.paused else self._situation
        return {"state": situation, "frame": self._slam.map.frame, **counts, **self._keeper.state()}

    def _changed(self) -> None:
        """The map is another one."""
        self._motion.clear()
        self._version += 1

    # --- the end ----------------------------------------------------------------------------------

    def _on_work_done(self, work: Future) -> None:
        error = work.exception()
        if error is not None:
            self._orders.close()  # nobody waits for an answer that does not come
            sys.excepthook(type(error), error, error.__traceback__)
            self.failure = process.NodeFailure("ended by the error above")
            rclpy.try_shutdown()

    def close(self) -> bool:
        """Stop, save the map if asked; whether the mapping thread has ended."""
        deadline = time.monotonic() + CLOSE_PATIENCE
        self._stopped.set()
        with self._news:
            self._news.notify_all()
        self._pool.shutdown(wait=True)
        self._orders.close()
        self._slam.close()
        path = self.parameters.map.save_on_exit
        if path:
            try:
                saved = self._worker.request_save(path, self._slam.trajectory)
                report: SaveReport = saved.result(SAVE_PATIENCE)
                print(f"{NAME}: {report.path} saved, {report.size / 1e6:.1f} MB", file=sys.stderr)
            except (MapError, WorkerError, OSError, FutureTimeout) as error:
                self.failure = process.NodeFailure(f"map.save_on_exit: {error}")
        self._worker.close(max(1.0, deadline - time.monotonic()))  # a save may be under way
        self._map_services.close()  # last: whoever waits for a save has an answer now
        return True


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `mapping_node`."""
    return process.run(NAME, MappingNode, arguments)


if __name__ == "__main__":
    sys.exit(main())
