# SPDX-License-Identifier: Apache-2.0
"""A depth_node in a process of its own and, in this process, its camera, LiDAR and listener."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from array import array
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField

from depth_two_stage.ros.build import SECOND, data
from depth_two_stage.ros.build import time as ros_time
from depth_two_stage.ros.outputs import TYPES

SIZE = (60, 80)  # height, width of the test camera
EXTRINSICS = (0.0, -0.1, 0.05, 0.0, 0.0, 0.0, 1.0)  # T_camera_lidar of the test LiDAR


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

    def wait(self, timeout: float = 60.0) -> int:
        """Its exit code when it ends by itself."""
        return self.child.wait(timeout)

    def end(self, number: int = signal.SIGINT, timeout: float = 60.0) -> int:
        """Send a signal; the exit code."""
        if self.child.poll() is None:
            self.child.send_signal(number)
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.child.kill()
            raise


class Rig:
    """The other side of depth_node's topics, in the given ROS domain."""

    def __init__(self, domain: int, *, name: str = "rig") -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node(name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard: dict[str, list] = {}
        self.status = None
        self._listeners: dict[str, object] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnostics, 10)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    # --- listening -----------------------------------------------------------------------------

    def _diagnostics(self, message: DiagnosticArray) -> None:
        self.status = message.status[0]

    @property
    def values(self) -> dict[str, str]:
        """The values of the last diagnostics."""
        return {item.key: item.value for item in self.status.values} if self.status else {}

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

    def spin(self, seconds: float) -> None:
        self.until(lambda: False, seconds)

    def until(self, condition, timeout: float = 30.0) -> bool:
        """Spin until the condition holds; whether it does."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.executor.spin_once(timeout_sec=0.02)
        return True

    def fresh_values(self, timeout: float = 10.0) -> dict[str, str]:
        """The next two diagnostics' values, the later one."""
        for _ in range(2):
            before = self.status
            assert self.until(lambda before=before: self.status is not before, timeout)
        return self.values

    def set_parameter(self, name: str, value, node: str = "depth_node"):
        """Set a parameter of another node as `ros2 param set` does; the result."""
        client = self.node.create_client(SetParameters, f"/{node}/set_parameters")
        assert client.wait_for_service(10.0)
        parameter = Parameter(name, value=value).to_parameter_msg()
        future = client.call_async(SetParameters.Request(parameters=[parameter]))
        assert self.until(future.done)
        self.node.destroy_client(client)
        return future.result().results[0]

    def get_parameters(self, *names: str, node: str = "depth_node") -> list:
        """Values of parameters of another node, as `ros2 param get` sees them."""
        response = self._call(GetParameters, f"/{node}/get_parameters", names)
        return [parameter_value_to_python(value) for value in response.values]

    def describe(self, name: str, node: str = "depth_node"):
        """Descriptor of a parameter of another node."""
        return self._call(DescribeParameters, f"/{node}/describe_parameters", [name]).descriptors[0]

    def _call(self, kind: type, service: str, names):
        client = self.node.create_client(kind, service)
        assert client.wait_for_service(10.0)
        future = client.call_async(kind.Request(names=list(names)))
        assert self.until(future.done)
        self.node.destroy_client(client)
        return future.result()

    # --- speaking ------------------------------------------------------------------------------

    def publisher(self, kind: type, topic: str, *, reliable: bool = True):
        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        return self.node.create_publisher(kind, topic, QoSProfile(depth=5, reliability=policy))

    def now(self) -> int:
        """The present, ns."""
        return self.node.get_clock().now().nanoseconds


class TestCamera:
    """A camera: image (raw or compressed) and camera_info with equal stamps."""

    __test__ = False

    def __init__(self, rig: Rig, *, compressed: bool = False, reliable: bool = True) -> None:
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self.rig = rig
        self.images = rig.publisher(kind, topic, reliable=reliable)
        self.infos = rig.publisher(CameraInfo, "camera_info")

    def connect(self, timeout: float = 60.0) -> None:
        """Wait until the node reads both topics."""
        assert self.rig.until(
            lambda: self.images.get_subscription_count() and self.infos.get_subscription_count(),
            timeout,
        ), "the node does not subscribe to the camera"
        self.rig.spin(0.1)

    def close(self) -> None:
        self.rig.node.destroy_publisher(self.images)
        self.rig.node.destroy_publisher(self.infos)

    def send(self, image=None, info=None, stamp: int | None = None) -> int:
        """Publish one pair; the stamp, ns."""
        stamp = self.rig.now() if stamp is None else stamp
        image = rgb_image() if image is None else image
        info = camera_info() if info is None else info
        for message in (image, info):
            message.header.stamp = ros_time(stamp)
            message.header.frame_id = "camera"
        self.images.publish(image)
        self.infos.publish(info)
        return stamp

    def stream(self, condition, period: float = 0.1, timeout: float = 30.0, **messages) -> bool:
        """Publish pairs until the condition holds; whether it does."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            made = {name: make() for name, make in messages.items()}
            self.send(**made)
            if self.rig.until(condition, period):
                return True
        return False


def texture(size: tuple[int, int] = SIZE) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return np.stack([x * 3 % 256, y * 4 % 256, (x + y) * 2 % 256], axis=-1).astype(np.uint8)


def rgb_image(size: tuple[int, int] = SIZE) -> Image:
    height, width = size
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = data(texture(size))
    return message


def jpeg_image(size: tuple[int, int] = SIZE) -> CompressedImage:
    import cv2

    coded = cv2.imencode(".jpg", texture(size)[..., ::-1])[1]
    message = CompressedImage(format="rgb8; jpeg compressed bgr8")
    message.data = array("B", coded.tobytes())
    return message


def camera_info(size: tuple[int, int] = SIZE, D: tuple = (), f: float = 70.0) -> CameraInfo:
    height, width = size
    f = f * width / SIZE[1]
    K = np.array([[f, 0, width / 2 - 0.5], [0, f, height / 2 - 0.5], [0, 0, 1]])
    message = CameraInfo(height=height, width=width, distortion_model="plumb_bob")
    message.d, message.k, message.r = list(D), K.reshape(-1), np.eye(3).reshape(-1)
    message.p = np.hstack([K, np.zeros((3, 1))]).reshape(-1)
    return message


def cloud(points: np.ndarray, stamp: int, frame: str = "lidar") -> PointCloud2:
    """Points (N, 3) m → PointCloud2 as a LiDAR sends it, with intensity."""
    message = PointCloud2(height=1, width=len(points), point_step=16, is_dense=True)
    message.header.stamp, message.header.frame_id = ros_time(stamp), frame
    message.row_step = 16 * len(points)
    message.fields = [
        PointField(name=name, offset=4 * place, datatype=PointField.FLOAT32, count=1)
        for place, name in enumerate(("x", "y", "z", "intensity"))
    ]
    message.data = data(np.hstack([points, np.zeros((len(points), 1))]).astype(np.float32))
    return message


def wall(depth: float = 3.0) -> np.ndarray:
    """Points (N, 3) m of a wall at ``depth`` in front of the camera, in the LiDAR's frame."""
    x, y = np.meshgrid(np.linspace(-1.2, 1.2, 25), np.linspace(-0.9, 0.9, 9))
    camera = np.stack([x.ravel(), y.ravel(), np.full(x.size, depth)], axis=1)
    return camera - np.array(EXTRINSICS[:3])


def image_values(message: Image) -> np.ndarray:
    """32FC1, 16UC1 or rgb8 Image → array."""
    dtype, channels = {"32FC1": ("f4", 1), "16UC1": ("u2", 1), "rgb8": ("u1", 3)}[message.encoding]
    values = np.frombuffer(bytes(message.data), dtype).reshape(message.height, message.width, -1)
    assert values.shape[2] == channels
    return values[..., 0] if channels == 1 else values


def stamp_of(message) -> int:
    return message.header.stamp.sec * SECOND + message.header.stamp.nanosec


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
