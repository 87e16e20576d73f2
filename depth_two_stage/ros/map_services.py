# SPDX-License-Identifier: Apache-2.0
"""Save, load, clear, pause and resume, state: answered while frames go on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from threading import Thread
from typing import Any, Protocol

import rclpy
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from ..meshing import WorkerError
from ..tsdf import MapError
from .map_orders import MapOrders

PATIENCE = 300.0  # s, for a map of gigabytes on a slow disk
THREADS = 4  # a save that waits for the disk, and those who ask meanwhile


class Mapping(Protocol):
    """What the services need of the node."""

    paused: bool

    def state(self) -> dict[str, Any]:
        """Plain values; answered at once."""


class MapServices:
    """``~/save_map``, ``~/load_map``, ``~/clear``, ``~/state`` (Trigger), ``~/pause`` (SetBool).

    They are served by a node and threads of their own: a save takes seconds, in which frames go on
    and a second call is told so.
    """

    def __init__(self, node: Node, mapping: Mapping, orders: MapOrders) -> None:
        self._node, self._mapping, self._orders = node, mapping, orders
        self._own = rclpy.create_node(
            f"{node.get_name()}_services",
            namespace=node.get_namespace(),
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
        )
        name = node.get_fully_qualified_name()
        group = ReentrantCallbackGroup()
        for kind, service, answer in (
            (Trigger, "save_map", self._save),
            (Trigger, "load_map", self._load),
            (Trigger, "clear", self._clear),
            (Trigger, "state", self._state),
            (SetBool, "pause", self._pause),
        ):
            self._own.create_service(kind, f"{name}/{service}", answer, callback_group=group)
        self._executor = MultiThreadedExecutor(THREADS)
        self._executor.add_node(self._own)
        self._thread = Thread(target=self._spin, name="map-services", daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def _save(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(
            response,
            self._orders.request_save,
            lambda report: f"{report.path}: {report.size / 1e6:.1f} MB in {report.seconds:.1f} s",
        )

    def _load(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, self._orders.request_load, lambda path: f"{path} loaded")

    def _state(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, json.dumps(self._mapping.state())
        return response

    def _clear(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, self._orders.request_clear, lambda _: "the map is empty")

    def _pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        before, self._mapping.paused = self._mapping.paused, request.data
        response.success = True
        response.message = "paused" if request.data else "resumed"
        if before == request.data:
            response.message = "paused already" if request.data else "not paused"
        self._node.get_logger().info(response.message)
        return response

    def _answer(self, response, ask: Callable[[], Future], words: Callable):
        try:
            response.message = words(ask().result(PATIENCE))
            response.success = True
            self._node.get_logger().info(response.message)
        except (MapError, WorkerError, OSError, FutureTimeout) as error:
            response.success = False
            response.message = str(error) or f"no answer within {PATIENCE:g} s"
            self._node.get_logger().error(response.message)
        return response

    def close(self) -> None:
        """Stop serving."""
        self._executor.shutdown(timeout_sec=1.0)
        self._thread.join(2.0)
        self._own.destroy_node()
