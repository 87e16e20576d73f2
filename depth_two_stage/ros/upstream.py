# SPDX-License-Identifier: Apache-2.0
"""What the node that sends an input says about itself on /diagnostics."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node


class Upstream:
    """Listens until ``close``: from then on a robot's /diagnostics cost nothing."""

    def __init__(self, node: Node, group: CallbackGroup) -> None:
        self._node, self._said = node, {}
        self._subscription = node.create_subscription(
            DiagnosticArray, "/diagnostics", self._heard, 20, callback_group=group
        )

    def _heard(self, message: DiagnosticArray) -> None:
        self._said |= {status.name: status for status in message.status}

    def status(self, publishers: list) -> DiagnosticStatus | None:
        """The last status of a node among these publishers (endpoints); None: nothing heard."""
        names = (f"{item.node_namespace}/{item.node_name}".lstrip("/") for item in publishers)
        return next((self._said[name] for name in names if name in self._said), None)

    def close(self) -> None:
        """Listen no longer."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
            self._said.clear()
