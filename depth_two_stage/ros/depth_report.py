# SPDX-License-Identifier: Apache-2.0
"""What depth_node says once a second on /diagnostics."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray

from .reports import READERS, REPEAT, Steps, diagnostics, readers, status
from .sparse_input import Sparse

if TYPE_CHECKING:
    from ..estimator import DepthEstimator, Estimate
    from ..image_registration import ImageOffset
    from .depth_node import DepthNode


class DepthReport:
    """Counts of depth_node and the state of its last frame, as /diagnostics."""

    def __init__(self, node: DepthNode) -> None:
        self._node, self.steps = node, Steps()
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.processed = self.idle = self.last_stamp = 0
        self.input_age: float | None = None  # s, by the node's clock, when processing began
        self._mode, self._points, self._points_age = "none", 0, None
        self._said_mode, self._said_at = "none", deque([-REPEAT, -REPEAT], maxlen=2)
        self._corrected = 0
        self._residual: float | None = None
        self._offset: ImageOffset | None = None
        self._estimator: DepthEstimator | None = None

    def loaded(self, estimator: DepthEstimator) -> None:
        """Say which network answers, and on what it runs."""
        self._estimator = estimator
        self._node.get_logger().info(
            f"model {estimator.model_name} ({estimator.checksum[:12]}) on {estimator.engine}, "
            f"{estimator.device}, {estimator.precision}"
        )

    def published(self, sparse: Sparse, estimate: Estimate | None) -> None:
        """Count a frame that went out, and say when the mode changes."""
        self.processed += 1
        self._say_mode(sparse)
        self._mode, self._points, self._points_age = sparse.mode, sparse.points, sparse.age
        if estimate is not None:
            self._corrected += estimate.corrected
            self._residual = float(estimate.scale_residual)
            self._offset = estimate.image_offset

    def _say_mode(self, sparse: Sparse) -> None:
        """Say another mode than the last said one; at most two lines within REPEAT seconds."""
        now = time.monotonic()
        if sparse.mode == self._said_mode or now - self._said_at[0] < REPEAT:
            return
        self._said_mode = sparse.mode
        self._said_at.append(now)
        self._node.get_logger().info(f"mode: {sparse.mode}, {sparse.points} points in view")

    def publish(self, missing: str | None) -> None:
        """Publish the state; ``missing`` is the reason why nothing comes out, if so."""
        node = self._node
        if self._estimator is None:
            level, text = "stale", "loading the model"
        elif missing is not None and missing.startswith("subscriber:"):
            level, text = "ok", "idle: " + missing
        elif missing is not None:
            level, text = "warn", missing
        else:
            level, text = "ok", f"publishing, mode {self._mode}"
        name = node.get_fully_qualified_name().lstrip("/")
        model = "" if self._estimator is None else self._estimator.model_name
        self._publisher.publish(
            diagnostics(
                node.get_clock().now().to_msg(), status(name, model, level, text, self._values())
            )
        )

    def _values(self) -> dict[str, Any]:
        inputs = self._node.inputs
        values: dict[str, Any] = {
            "frames in": inputs.received + inputs.missed,
            "frames processed": self.processed,
            "frames without subscriber": self.idle,
            "last stamp": self.last_stamp,
            "mode": self._mode,
            "points in view": self._points,
            READERS: readers(self._node),
            "dropped: in transport": inputs.missed,
        }
        for reason, count in sorted(self._node.drops.counts().items()):
            values[f"dropped: {reason}"] = count
        for reason, count in sorted(self._node.unused_points.counts().items()):
            values[f"points unused: {reason}"] = count
        if self._corrected:
            values["points corrected"] = self._corrected
        if self.input_age is not None:
            values["input age ms"] = self.input_age * 1e3
        if self._points_age is not None:
            values["points age ms"] = self._points_age * 1e3
        if self._residual is not None:
            values["scale residual"] = self._residual
        if self._offset is not None:
            off = self._offset
            values["image beside points px"] = (
                f"x {off.columns:+.1f} ± {off.columns_deviation:.1f}, "
                f"y {off.rows:+.1f} ± {off.rows_deviation:.1f}"
            )
        values |= self.steps.values()
        if self._estimator is not None:
            estimator = self._estimator
            values |= {
                "model": estimator.model_name,
                "checksum": estimator.checksum,
                "engine": estimator.engine,
                "device": estimator.device,
                "precision": estimator.precision,
            }
        return values
