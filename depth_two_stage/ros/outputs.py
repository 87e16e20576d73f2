# SPDX-License-Identifier: Apache-2.0
"""What depth_node publishes; work for a topic is done only if someone subscribes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2
from std_msgs.msg import Header

from ..camera import Camera
from ..clouds import coloured_points, flying_pixels
from ..config import ConfigError, DepthNodeParameters
from ..laser_scan import laser_scan
from . import build
from .motion import T_LINK_OPTICAL
from .transforms import Broadcaster

if TYPE_CHECKING:  # the estimator brings torch, which is imported when the node is up
    from ..estimator import Estimate

DEPTH, INFO, CONFIDENCE = "depth/image_rect", "depth/camera_info", "depth/confidence"
COARSE, POINTS, IMAGE, OVERLAY = "depth/coarse", "points", "image_rect", "overlay"
SCAN = "scan"
TYPES = {
    DEPTH: Image,
    INFO: CameraInfo,
    CONFIDENCE: Image,
    COARSE: Image,
    POINTS: PointCloud2,
    IMAGE: Image,
    OVERLAY: Image,
    SCAN: LaserScan,
}
NEED_NETWORK = frozenset({DEPTH, CONFIDENCE, COARSE, POINTS, SCAN})
# A reader that learns of us a moment after we learned of it asks for what it missed: kept so long.
_QUEUE = 10
_OVERLAY_RANGE = 10.0  # m, from red to blue
_DOT = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class View:
    """One image on its way through the node: what caused the outputs."""

    header: Header
    rgb: np.ndarray  # uint8 (H, W, 3), rectified, of the depth's size
    camera: Camera
    sparse: np.ndarray | None  # float32 (H, W) m, 0 = none


def _publisher(node: Node, topic: str) -> Publisher:
    """A publisher whose QoS can be overridden; raises ConfigError on a value that is none."""
    # A profile for each: rclpy writes the topic's overrides into it.
    profile = QoSProfile(
        depth=_QUEUE, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE
    )
    try:
        return node.create_publisher(
            TYPES[topic],
            topic,
            profile,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
    except RuntimeError as error:
        raise ConfigError(f"qos_overrides of {topic}: {' '.join(str(error).split())}") from error


class Outputs:
    """The publishers of depth_node. They are reliable: that serves best-effort readers too."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publishers = {topic: _publisher(node, topic) for topic in TYPES}
        self._broadcaster: Broadcaster | None = None
        self._sent: set[str] = set()  # camera frames below which TF has a scan frame of ours

    def wanted(self) -> set[str]:
        """Topics with at least one subscriber."""
        return {
            topic
            for topic, publisher in self._publishers.items()
            if publisher.get_subscription_count() > 0
        }

    def publish(
        self,
        wanted: set[str],
        view: View,
        estimate: Estimate | None,
        parameters: DepthNodeParameters,
    ) -> None:
        """Publish what is wanted; what needs the network needs its estimate."""
        for topic in TYPES:  # camera_info follows its image at once
            if topic in wanted and (estimate is not None or topic not in NEED_NETWORK):
                if topic == SCAN and not parameters.scan.frame:
                    self._send_scan_frame(view.header.frame_id)
                self._publishers[topic].publish(_message(topic, view, estimate, parameters))

    def _send_scan_frame(self, camera_frame: str) -> None:
        """Tell TF of the scan's frame: the camera's, turned from optical axes to REP 103's."""
        if camera_frame in self._sent:
            return
        self._sent.add(camera_frame)
        self._broadcaster = self._broadcaster or Broadcaster(self._node)
        self._broadcaster.send_static(T_LINK_OPTICAL.T, camera_frame, _scan_frame(camera_frame), 0)


def _scan_frame(camera_frame: str) -> str:
    return f"{camera_frame}_scan"


def _scan(view: View, depth: np.ndarray, parameters: DepthNodeParameters) -> LaserScan:
    """The scan of a depth (H, W) m, without the flying pixels that the cloud leaves out."""
    depth = np.where(flying_pixels(depth, parameters.cloud.edge_jump), np.float32(0), depth)
    frame = parameters.scan.frame or _scan_frame(view.header.frame_id)
    header = Header(stamp=view.header.stamp, frame_id=frame)
    return build.scan(laser_scan(depth, view.camera, parameters.scan), header)


def _message(
    topic: str, view: View, estimate: Estimate | None, parameters: DepthNodeParameters
) -> Image | CameraInfo | LaserScan | PointCloud2:
    if topic == SCAN:
        return _scan(view, estimate.depth, parameters)
    if topic == INFO:
        return build.camera_info(view.camera, view.header)
    if topic == IMAGE:
        return build.rgb(view.rgb, view.header)
    if topic == OVERLAY:
        return build.rgb(overlay(view.rgb, view.sparse), view.header)
    if topic == CONFIDENCE:
        return build.confidence(estimate.confidence, view.header)
    if topic == POINTS:
        cloud = parameters.cloud
        points, colours = coloured_points(
            estimate.depth,
            view.rgb,
            view.camera,
            step=cloud.step,
            min_range=cloud.min_range,
            max_range=cloud.max_range,
            edge_jump=cloud.edge_jump,
            organized=cloud.organized,
        )
        return build.cloud(points, colours, view.header)
    depth = estimate.depth if topic == DEPTH else estimate.coarse
    return build.depth(depth, view.header, parameters.output.encoding)


def overlay(rgb: np.ndarray, sparse: np.ndarray | None) -> np.ndarray:
    """Points over the image, near red, far blue, 3 pixels wide; to check extrinsics by eye."""
    if sparse is None or not sparse.any():
        return rgb
    # Nearness instead of depth: where two dots overlap the nearer one is seen.
    nearness = np.zeros(sparse.shape, np.float32)
    seen = sparse > 0
    nearness[seen] = 1.0 / sparse[seen]
    nearness = cv2.dilate(nearness, _DOT)
    dots = nearness > 0
    depth = 1.0 / nearness[dots]
    level = (255 * (1.0 - np.clip(depth / _OVERLAY_RANGE, 0.0, 1.0))).astype(np.uint8)
    drawn = np.array(rgb)
    colours = cv2.applyColorMap(level[:, None], cv2.COLORMAP_JET)[:, 0, ::-1]
    drawn[dots] = colours
    return drawn
