# SPDX-License-Identifier: Apache-2.0
"""What a bag asks of nodes that run already: its clock, and LiDAR extrinsics where TF is absent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.client import Client
from rclpy.node import Node

from ..config import NODES

EXTRINSICS, SIM_TIME = "lidar.extrinsics", "use_sim_time"
PERIOD = 0.5  # s between looks for a node
ANSWER = 5.0  # s; a node that does not know of our side yet sends no answer: it is asked again


@dataclass(frozen=True)
class Wish:
    """A parameter of a node, its value, and by which present value it is to be set."""

    target: str
    name: str
    value: ParameterValue
    if_now: Callable[[ParameterValue], bool]
    words: str


def extrinsics(values: tuple[float, ...]) -> Wish:
    """T_camera_lidar for a depth_node that has none."""
    kind = ParameterType.PARAMETER_DOUBLE_ARRAY
    value = ParameterValue(type=kind, double_array_value=list(values))
    words = "set from the bag's /tf_static"
    return Wish("depth_node", EXTRINSICS, value, lambda now: not now.double_array_value, words)


def sim_time() -> list[Wish]:
    """The clock of the bag for our nodes that take the present."""
    value = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=True)
    words = "set: the bag gives the time"
    return [Wish(node, SIM_TIME, value, lambda now: not now.bool_value, words) for node in NODES]


class Errand:
    """Fulfils one wish once its node is there; call `tick` now and then, the executor spinning."""

    def __init__(self, node: Node, wish: Wish) -> None:
        self._node, self.wish = node, wish
        self._get = node.create_client(GetParameters, f"{wish.target}/get_parameters")
        self._set = node.create_client(SetParameters, f"{wish.target}/set_parameters")
        self._asking: tuple[Client, Any] | None = None
        self._future, self._due, self._asked_at = None, 0.0, 0.0
        self.done, self.changed = False, False

    @property
    def waiting(self) -> bool:
        """Whether an answer is on its way."""
        return self._future is not None and not self.done

    def tick(self) -> None:
        """Ask, then set, one step a call."""
        now = time.monotonic()
        if self.done or (self._future is None and now < self._due):
            return
        self._due = now + PERIOD
        if self._future is None:
            if self._get.service_is_ready() and self._set.service_is_ready():
                self._ask(self._get, GetParameters.Request(names=[self.wish.name]))
        elif self._future.done():
            answer = self._future.result()
            if isinstance(answer, GetParameters.Response):
                self._asked(answer)
            else:
                self._answered(answer)
        elif now >= self._asked_at + ANSWER:
            self._ask(*self._asking)

    def _ask(self, client: Client, request: Any) -> None:
        self._asking, self._asked_at = (client, request), time.monotonic()
        self._future = client.call_async(request)

    def _asked(self, answer: GetParameters.Response) -> None:
        if not answer.values or not self.wish.if_now(answer.values[0]):
            self.done = True  # not declared there, or as it should be
            return
        self._ask(self._set, self._request(self.wish.value))
        self.changed = True  # as far as we know: a signal may come before the answer

    def _request(self, value: ParameterValue) -> SetParameters.Request:
        return SetParameters.Request(parameters=[Parameter(name=self.wish.name, value=value)])

    def _answered(self, answer: SetParameters.Response) -> None:
        self.done = True
        (result,) = answer.results
        self.changed = result.successful
        logger, what = self._node.get_logger(), f"{self.wish.target}: {self.wish.name}"
        if result.successful:
            logger.info(f"{what} {self.wish.words}")
        else:
            logger.warning(f"{what} could not be set: {result.reason}")

    def undo(self) -> None:
        """Ask for the present's clock again where the bag's was set; does not wait."""
        if self.changed and self.wish.name == SIM_TIME and self._set.service_is_ready():
            present = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=False)
            self._set.call_async(self._request(present))
