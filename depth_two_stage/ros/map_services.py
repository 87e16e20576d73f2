# SPDX-License-Identifier: Apache-2.0
"""Save, clear, pause and resume, answered while frames go on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from threading import Thread
from typing import Protocol

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from ..meshing import WorkerError
from ..tsdf import MapError

PATIENCE = 300.0  # s, for a map of gigabytes on a slow disk


class Mapping(Protocol):
    """What the services need of the node; futures fail with MapError, WorkerError or OSError."""

    paused: bool

    def request_save(self) -> Future:
        """Future of a `meshing.SaveReport`."""

    def request_clear(self) -> Future:
        """Future of the map's being empty."""


class MapServices:
    """``~/save_map``, ``~/clear`` (Trigger) and ``~/pause`` (SetBool) of a node.

    They are served by a node and a thread of their own: a save takes seconds, and rclpy's
    executors either hold up images meanwhile or spin without rest.
    """

    def __init__(self, node: Node, mapping: Mapping) -> None:
        self._node, self._mapping = node, mapping
        self._own = rclpy.create_node(
            f"{node.get_name()}_services",
            namespace=node.get_namespace(),
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
        )
        name = node.get_fully_qualified_name()
        self._own.create_service(Trigger, f"{name}/save_map", self._save)
        self._own.create_service(Trigger, f"{name}/clear", self._clear)
        self._own.create_service(SetBool, f"{name}/pause", self._pause)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._own)
        self._thread = Thread(target=self._spin, name="map-services", daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def _save(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(
            response,
            self._mapping.request_save,
            lambda report: f"{report.path}: {report.size / 1e6:.1f} MB in {report.seconds:.1f} s",
        )

    def _clear(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, self._mapping.request_clear, lambda _: "the map is empty")

    def _pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._mapping.paused = request.data
        response.success = True
        response.message = "paused" if request.data else "resumed"
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
