# SPDX-License-Identifier: Apache-2.0
"""The camera and LiDAR of the node tests: a camera that streams, and the messages of both."""

from __future__ import annotations

from array import array

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField

from depth_two_stage.ros.build import data
from depth_two_stage.ros.build import time as ros_time

SIZE = (60, 80)  # height, width of the test camera
# s for what must happen: a busy machine may hold a process for seconds, and only a test that fails
# waits so long.
PATIENCE = 90.0
EXTRINSICS = (0.0, -0.1, 0.05, 0.0, 0.0, 0.0, 1.0)  # T_camera_lidar of the test LiDAR


class TestCamera:
    """A camera: image (raw or compressed) and camera_info with equal stamps."""

    __test__ = False

    def __init__(self, rig, *, compressed: bool = False, reliable: bool = True) -> None:
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self.rig = rig
        self.images = rig.publisher(kind, topic, reliable=reliable)
        self.infos = rig.publisher(CameraInfo, "camera_info")
        self._image = jpeg_image if compressed else rgb_image

    def connect(self) -> None:
        """Wait until the node reads both topics, with the QoS that this camera offers.

        A subscription that it still has to adopt to us would be renewed under an image's feet.
        """
        for publisher in (self.images, self.infos):
            assert self.rig.until(lambda publisher=publisher: self._adopted(publisher)), (
                f"the node does not subscribe to {publisher.topic_name} as it is offered"
            )

    def _adopted(self, publisher) -> bool:
        readers = self.rig.node.get_subscriptions_info_by_topic(publisher.topic_name)
        offered = publisher.qos_profile.reliability
        return publisher.get_subscription_count() == len(readers) > 0 and all(
            reader.qos_profile.reliability == offered for reader in readers
        )

    def reach(self, *topics: str) -> None:
        """Listen to outputs of the node and stream until each is heard: all are connected."""
        self.rig.listen(*topics)
        assert self.stream(lambda: all(self.rig.heard[topic] for topic in topics)), (
            f"nothing arrives on {[topic for topic in topics if not self.rig.heard[topic]]}"
        )

    def close(self) -> None:
        self.rig.node.destroy_publisher(self.images)
        self.rig.node.destroy_publisher(self.infos)

    def send(self, image=None, info=None, stamp: int | None = None) -> int:
        """Publish one pair; the stamp, ns."""
        stamp = self.rig.now() if stamp is None else stamp
        image = self._image() if image is None else image
        info = camera_info() if info is None else info
        for message in (image, info):
            message.header.stamp = ros_time(stamp)
            message.header.frame_id = "camera"
        self.images.publish(image)
        self.infos.publish(info)
        return stamp

    def stream(self, condition, period: float = 0.1, timeout: float = PATIENCE, **messages) -> bool:
        """Publish pairs until the condition holds; whether it does."""

        def send() -> None:
            self.send(**{name: make() for name, make in messages.items()})

        return self.rig.repeat(send, condition, period, timeout)


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
