# SPDX-License-Identifier: Apache-2.0
"""depth_node: a camera, maybe a LiDAR → metric depth, cloud, overlay, at the image's stamps.

A thin shell: callbacks put the newest frame into a mailbox, one worker thread runs the estimator
and publishes. What it cannot use it drops, counts and names; it never waits for a LiDAR.
"""

from __future__ import annotations

import sys
import time
import warnings
from threading import Event, Thread

import cv2
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node

from ..config import DepthNodeParameters
from .build import SECOND
from .depth_report import DepthReport
from .frames import Frame, FrameDecoder, Mailbox
from .inputs import Inputs
from .outputs import NEED_NETWORK, POINTS, Outputs, View
from .params import Parameters
from .process import NodeFailure, run
from .reports import REPEAT, Drops
from .sparse_input import SparseInput
from .transforms import open_transforms
from .watchdog import NOBODY, LossWatch, Watchdog, foreign_publisher, missing_link, missing_points

_JOIN = 3.0  # s for the worker to end; launch kills after 5
WRONG = "taken for wrong"  # of a point: the estimator left it out
_OTHER_CLOCK = 60.0  # s of age beyond which a stamp belongs to another clock


class DepthNode(Node):
    """Parameters, inputs, outputs, and the worker between them."""

    def __init__(self) -> None:
        super().__init__("depth_node")
        self.parameters = Parameters(self, DepthNodeParameters)
        self.failure: NodeFailure | None = None
        self._stopped = Event()
        self.drops = Drops(self.get_logger(), quiet=("superseded",))
        self.unused_points = Drops(self.get_logger(), quiet=("lidar not moved", WRONG))
        self._mailbox = Mailbox(self.drops)
        self._decoder = FrameDecoder()
        self._input_group = MutuallyExclusiveCallbackGroup()
        self._report_group = MutuallyExclusiveCallbackGroup()
        self._sparse = SparseInput(open_transforms(self, self._stopped), self.unused_points)
        self.outputs = Outputs(self)
        self.inputs = Inputs(
            self,
            lambda: self.parameters.values.input,
            self.drops,
            self._sparse,
            self._input_group,
            self._mailbox.put,
        )
        self.report = DepthReport(self)
        self._watchdog = Watchdog(self._say)
        self._points_watchdog = Watchdog(self.get_logger().warning, "points")
        self._losses = LossWatch()
        # On the steady clock: these also work while /clock stands still.
        self._timer = self.create_timer(
            1.0,
            self._each_second,
            callback_group=self._report_group,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(seconds=-0.5), on_clock_change=False
            ),
            post_callback=lambda jump: self.inputs.jump(
                "the node's clock went back: starting again"
            ),
        )
        self._estimator = None
        self._worker = Thread(target=self._work, name="depth_node worker", daemon=True)
        self._worker.start()

    def close(self) -> bool:
        """Stop the worker; False if it is still inside a frame after a while."""
        self._stopped.set()
        self._mailbox.close()
        self._worker.join(_JOIN)
        return not self._worker.is_alive()

    # --- the worker's thread ---------------------------------------------------------------------

    def _work(self) -> None:
        """Load the network, then process frames until the mailbox closes."""
        done = False
        try:
            self._load()
            while (frame := self._mailbox.take()) is not None:
                try:
                    self._process(frame)
                except (ValueError, cv2.error) as error:
                    self.drops.add("unusable image", " ".join(str(error).split()))
                self.report.last_stamp = frame.stamp
            done = True
        except NodeFailure as failure:
            self.failure = failure
        except RuntimeError:
            if self.context.ok():
                raise
            done = True  # a signal has shut down what the frame was to be published with
        finally:
            # Nothing may end this thread unseen: the whole process ends with it.
            if not (done or self.failure):
                self.failure = NodeFailure("ended by the error above")
            self.context.try_shutdown()

    def _load(self) -> None:
        from ..estimator import DepthEstimator
        from ..networks import CheckpointError

        asked = self.parameters.values.estimator
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", RuntimeWarning)
                estimator = DepthEstimator(
                    weights=asked.weights,
                    device=asked.device,
                    precision=asked.precision,
                    engine=asked.engine,
                    threads=asked.threads,
                    anchor=asked.anchor,
                    register=asked.register,
                    prior=asked.prior,
                    joint_filter=asked.joint_filter,
                )
                estimator.warm_up()
        except (CheckpointError, ValueError, OSError) as error:
            raise NodeFailure(" ".join(str(error).split())) from error
        for warning in caught:
            if issubclass(warning.category, RuntimeWarning):
                self.get_logger().warning(str(warning.message))
        self.report.loaded(estimator)
        self.inputs.start()
        self._watchdog.feed()
        self._points_watchdog.feed()
        self._estimator = estimator  # last: from here on the watchdogs ask for output

    def _process(self, frame: Frame) -> None:
        """One frame: decode, points, network, publish; only as far as someone subscribes."""
        parameters, steps = self.parameters.values, self.report.steps
        wanted = self.outputs.wanted()
        self.report.input_age = self._age(frame.stamp)
        if not wanted:
            self.report.idle += 1
            return
        with steps.time("decode"):
            rgb, lens, camera = self._decoder(
                frame, rectified=parameters.input.rectified, scale=parameters.output.scale
            )
        with steps.time("points"):
            sparse = self._sparse.at(
                frame.stamp, frame.image.header.frame_id, lens, camera, parameters.lidar
            )
        estimate = None
        if wanted & NEED_NETWORK:
            self._estimator.anchor = parameters.estimator.anchor
            self._estimator.register = parameters.estimator.register
            self._estimator.prior = parameters.estimator.prior
            self._estimator.joint_filter = parameters.estimator.joint_filter
            estimate = self._estimator(rgb, sparse.depth, camera)
            for name, milliseconds in estimate.timings_ms.items():
                steps.add(f"estimator {name}", milliseconds)
            if estimate.left_out:
                self.unused_points.add(WRONG, count=estimate.left_out)
        latency = self._latency(frame)
        if 0 < parameters.output.max_latency < latency:
            self.drops.add(
                "too late",
                f"output.max_latency: expected depth at most {parameters.output.max_latency:g} s "
                f"after its image, got {latency:.2f} s",
            )
            return
        with steps.time("publish"):
            view = View(frame.image.header, rgb, camera, sparse.depth)
            self.outputs.publish(wanted, view, estimate, parameters)
        steps.add("total", (time.monotonic() - frame.received) * 1e3)
        self.report.published(sparse, estimate)
        self._watchdog.feed()
        if sparse.depth is not None:
            self._points_watchdog.feed()

    def _age(self, stamp: int) -> float:
        """Time since a stamp by the node's clock, s."""
        return (self.get_clock().now().nanoseconds - stamp) / SECOND

    def _latency(self, frame: Frame) -> float:
        """Age of a frame, s; counted from its arrival where its stamp is of another clock."""
        age = self._age(frame.stamp)
        since_arrival = time.monotonic() - frame.received
        if -1.0 <= age <= _OTHER_CLOCK + since_arrival:
            return age
        self.get_logger().warning(
            f"image stamps are {age:.0f} s from the node's clock (a recording without /clock and "
            "use_sim_time?): output.max_latency counts from an image's arrival",
            once=True,
        )
        return since_arrival

    # --- the executor's thread -------------------------------------------------------------------

    def _each_second(self) -> None:
        """Publish diagnostics; name what is missing."""
        period = self.parameters.values.watchdog.period
        if self._estimator is not None:
            self._watchdog.check(period, self._missing)
            if clash := foreign_publisher(self, POINTS, "lidar"):
                self.get_logger().warning(clash, throttle_duration_sec=REPEAT)
            if lost := self._losses.check(self.inputs, period):
                self.get_logger().warning(lost, throttle_duration_sec=REPEAT)
            if time.monotonic() - self._watchdog.fed < period:
                self._points_watchdog.check(
                    period, lambda since: missing_points(self.inputs, self.unused_points, since)
                )
        self.report.publish(self._missing(time.monotonic() - max(period, 1.0)))

    def _say(self, line: str) -> None:
        """Log what the watchdog says; that nobody listens is no fault."""
        if NOBODY in line:
            self.get_logger().info(line)
        else:
            self.get_logger().warning(line)

    def _missing(self, since: float) -> str | None:
        """Why there has been no output since then; None while there is some."""
        if self._watchdog.fed >= since:
            return None
        link = missing_link(self.inputs, self.drops, since)
        if link is None and not self.outputs.wanted():
            link = NOBODY
        return link


def main() -> None:
    """Entry point of the `depth_node` executable."""
    sys.exit(run("depth_node", DepthNode))


if __name__ == "__main__":
    main()
