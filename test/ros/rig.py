# SPDX-License-Identifier: Apache-2.0
"""A node in a process of its own and, in this process, who speaks to it and hears it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensors import EXTRINSICS, PATIENCE

from depth_two_stage.messages import stamp_ns
from depth_two_stage.ros.outputs import TYPES
from depth_two_stage.ros.reports import READERS


def tiny_weights(folder: Path) -> Path:
    """A checkpoint whose network answers the filled points, or 2.8 m where there are none."""
    import torch

    from depth_two_stage import networks

    spec = {
        "stage_one": {"name": "fcrn", "encoder": "resnet18", "decoder": "upproj", "width": 0.125},
        "stage_two": None,
        "settings": {
            "sparse_input": "filled",
            "input_size": [57, 76],
            "refined_size": [64, 64],
            "focal": 64.75,
        },
    }
    torch.manual_seed(0)
    model = networks.build(spec)
    torch.nn.init.zeros_(model.stage_one.predict.weight)
    torch.nn.init.zeros_(model.stage_one.predict.bias)
    networks.save(str(folder / "tiny.safetensors"), model, spec, {})
    return folder / "tiny.safetensors"


class Process:
    """A node as a child process; what it prints goes to a file."""

    def __init__(self, module: str, folder: Path, domain: int, *arguments: str) -> None:
        self.log = folder / f"{module.rsplit('.', 1)[-1]}-{time.monotonic_ns()}.log"
        environment = os.environ | {"ROS_DOMAIN_ID": str(domain), "OMP_NUM_THREADS": "1"}
        with self.log.open("w") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text()

    def wait(self, timeout: float = 3 * PATIENCE) -> int:
        """Its exit code when it ends by itself."""
        return self.child.wait(timeout)

    def end(self, number: int = signal.SIGINT, timeout: float = 2 * PATIENCE) -> int:
        """Send a signal; the exit code."""
        if self.child.poll() is None:
            self.child.send_signal(number)
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.child.kill()
            raise


class Rig:
    """The other side of a node's topics, in the given ROS domain."""

    def __init__(self, domain: int, *, name: str = "rig") -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node(name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard: dict[str, list] = {}
        self.status, self.made = None, 0  # the last diagnostics, and their stamp, ns
        self._listeners: dict[str, object] = {}
        self._clients: dict[str, object] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnostics, 10)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    # --- listening -----------------------------------------------------------------------------

    def _diagnostics(self, message: DiagnosticArray) -> None:
        if message.status[0].name != self.node.get_name():  # what a test says itself
            self.status, self.made = message.status[0], stamp_ns(message)

    @property
    def values(self) -> dict[str, str]:
        """The values of the last diagnostics."""
        return {item.key: item.value for item in self.status.values} if self.status else {}

    def count(self, key: str) -> int:
        """A counter of the last diagnostics; 0 where nothing was counted."""
        return int(self.values.get(key, 0))

    def readers(self, topic: str) -> int:
        """How many readers the node counted on its topic when it made the last diagnostics."""
        if self.status is None:
            return 0
        counts = [entry.rsplit(" ", 1) for entry in self.values[READERS].split(", ")]
        return int(dict(counts)[f"/{topic}"])

    def listen(self, *topics: str) -> None:
        for topic in topics:
            self.heard.setdefault(topic, [])
            self._listeners[topic] = self.node.create_subscription(
                TYPES[topic], topic, self.heard[topic].append, 10
            )

    def ignore(self, *topics: str) -> None:
        for topic in topics or tuple(self._listeners):
            self.node.destroy_subscription(self._listeners.pop(topic))
            self.heard.pop(topic)

    def got(self, topic: str, stamp: int):
        """The message of that stamp (ns) on a topic listened to; None: it has not come."""
        return next((m for m in reversed(self.heard[topic]) if stamp_ns(m) == stamp), None)

    def spin(self, seconds: float) -> None:
        self.until(lambda: False, seconds)

    def until(self, condition, timeout: float = PATIENCE) -> bool:
        """Spin until the condition holds; whether it does."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.executor.spin_once(timeout_sec=0.02)
        return True

    def repeat(self, action, condition, period: float = 0.1, timeout: float = PATIENCE) -> bool:
        """Do it once a ``period`` (s) until the condition holds; whether it does."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            action()
            if self.until(condition, period):
                return True
        return False

    def fresh_values(self) -> dict[str, str]:
        """Values of the second diagnostics made from now on: what was done before is in them."""
        made = self.now()
        for _ in range(2):
            assert self.until(lambda made=made: self.made > made), "no diagnostics come"
            made = self.made
        return self.values

    def grown(self, key: str, before: dict[str, str], more: int) -> bool:
        """Whether a counter of the diagnostics grows by so much since ``before``, and no more."""
        wanted = int(before.get(key, 0)) + more
        return self.until(lambda: self.count(key) >= wanted) and self.count(key) == wanted

    def handled(self, node: str = "depth_node") -> None:
        """Wait until the node's callbacks have had all that this rig has published to it.

        A request arrives behind the messages, and an executor serves subscriptions before services.
        """
        self.get_parameters("use_sim_time", node=node)

    def call(self, kind: type, service: str, request):
        """The response of a service; what it asks for may be done twice."""
        if service not in self._clients:
            self._clients[service] = self.node.create_client(kind, service)
        client, futures = self._clients[service], []
        assert self.until(client.service_is_ready), f"nobody offers {service}"
        # A server that does not know our side of the service yet drops its response.
        assert self.repeat(
            lambda: futures.append(client.call_async(request)),
            lambda: any(future.done() for future in futures),
            period=20.0,
        ), f"{service} does not answer"
        return next(future for future in futures if future.done()).result()

    def set_parameter(self, name: str, value, node: str = "depth_node"):
        """Set a parameter of another node as `ros2 param set` does; the result."""
        parameter = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        return self.call(SetParameters, f"/{node}/set_parameters", request).results[0]

    def get_parameters(self, *names: str, node: str = "depth_node") -> list:
        """Values of parameters of another node, as `ros2 param get` sees them."""
        request = GetParameters.Request(names=list(names))
        response = self.call(GetParameters, f"/{node}/get_parameters", request)
        return [parameter_value_to_python(value) for value in response.values]

    def describe(self, name: str, node: str = "depth_node"):
        """Descriptor of a parameter of another node."""
        request = DescribeParameters.Request(names=[name])
        response = self.call(DescribeParameters, f"/{node}/describe_parameters", request)
        return response.descriptors[0]

    # --- speaking ------------------------------------------------------------------------------

    def publisher(self, kind: type, topic: str, *, reliable: bool = True):
        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        return self.node.create_publisher(kind, topic, QoSProfile(depth=5, reliability=policy))

    def now(self) -> int:
        """The present, ns."""
        return self.node.get_clock().now().nanoseconds


def parameters(weights: Path, **others: str | None) -> list[str]:
    """Arguments after --ros-args for a fast node with the test LiDAR's extrinsics; None: leave."""
    values = {
        "estimator.weights": str(weights),
        "estimator.engine": "torch",
        "estimator.threads": "1",
        "lidar.extrinsics": "[" + ", ".join(str(value) for value in EXTRINSICS) + "]",
        "output.max_latency": "0.0",
    } | others
    given = {name: value for name, value in values.items() if value is not None}
    return [part for name, value in given.items() for part in ("-p", f"{name}:={value}")]
