# SPDX-License-Identifier: Apache-2.0
"""The inputs of depth_node: images joined with their camera_info, LiDAR or sparse depth beside."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from ..config import InputParameters
from ..messages import stamp_ns
from .build import SECOND
from .frames import Frame
from .reports import Drops
from .sparse_input import SparseInput
from .subscriptions import AdoptingSubscription, Follower, StampPairing

_IMAGES_WAITING, _INFOS_WAITING = 4, 100
_INFO_DEPTH = 5  # small messages; losing one would cost a whole image
_REALLY_BACK = 3  # images in a row behind the newest: the stream has started again


class StampGuard:
    """Refuses images whose stamps are zero, repeated or older than one already taken.

    A step back of more than a second, or several images in a row behind the newest, is taken for a
    new start of the stream (a bag that loops): ``jumped`` is called and the image is used.
    """

    def __init__(self, drops: Drops, jumped: Callable[[str], None]) -> None:
        self._drops, self._jumped = drops, jumped
        self._newest, self._behind = 0, 0

    def accepts(self, stamp: int) -> bool:
        """Whether the image with this stamp (ns) is to be used."""
        if stamp <= 0:
            self._drops.add(
                "stamp zero", f"image: expected a stamp above 0, got {stamp} (set by the driver?)"
            )
            return False
        if stamp == self._newest:
            self._drops.add("stamp repeated", f"image: expected a new stamp, got {stamp} ns again")
            return False
        back = self._newest - stamp
        if back > 0:
            self._behind += 1
            if back <= SECOND and self._behind < _REALLY_BACK:
                self._drops.add(
                    "stamp backwards",
                    f"image: expected a stamp after the last, got one {back / 1e6:.1f} ms before",
                )
                return False
            self._jumped(f"image stamps went back by {back / 1e9:.3f} s: starting again from there")
        self._newest, self._behind = stamp, 0
        return True

    def restart(self) -> None:
        """Take the next image whatever its stamp."""
        self._newest, self._behind = 0, 0


def _compressed_topic(node: Node) -> str:
    """The topic of compressed images: as remapped, else beside the raw one, wherever that is."""
    own = "image/compressed"
    remapped = node.resolve_topic_name(own)
    if remapped != node.resolve_topic_name(own, only_expand=True):
        return remapped
    return node.resolve_topic_name("image") + "/compressed"


class Inputs:
    """Subscribes what has publishers and hands out whole frames, the newest as it comes."""

    def __init__(
        self,
        node: Node,
        parameters: Callable[[], InputParameters],
        drops: Drops,
        sparse: SparseInput,
        group: CallbackGroup,
        deliver: Callable[[Frame], None],
    ) -> None:
        self._parameters, self._drops, self._deliver = parameters, drops, deliver
        self._sparse, self._node = sparse, node
        self._last_paired = -np.inf  # monotonic, s
        self.newest = 0  # stamp of the newest image taken, ns
        self._newest_info: int | None = None

        def subscribe(kind: type, topic: str, callback: Callable, depth: int = 1):
            return AdoptingSubscription(
                node,
                kind,
                topic,
                callback,
                reliability=lambda: parameters().reliability,
                depth=depth,
                group=group,
            )

        self.raw = subscribe(Image, "image", self._take_image)
        self.compressed = subscribe(CompressedImage, _compressed_topic(node), self._take_image)
        self.info = subscribe(CameraInfo, "camera_info", self._take_info, _INFO_DEPTH)
        self.lidar = subscribe(PointCloud2, "lidar", sparse.add_cloud)
        self.sparse_depth = subscribe(Image, "sparse_depth", sparse.add_depth)
        self.pairing = StampPairing(
            {"image": _IMAGES_WAITING, "camera_info": _INFOS_WAITING}, self._ready, self._unpaired
        )
        self._guard = StampGuard(drops, self.jump)
        everything = [self.raw, self.compressed, self.info, self.lidar, self.sparse_depth]
        self._follower = Follower(node, everything, group, self._choose_transport)
        self._follower.paused = True

    def start(self) -> None:
        """Begin to subscribe; before the network is loaded, images would only be dropped."""
        self._follower.paused = False

    @property
    def images(self) -> list[AdoptingSubscription]:
        """The image topics that count: one once chosen, both while neither has a publisher."""
        return [subscription for subscription in (self.raw, self.compressed) if subscription.wanted]

    @property
    def received(self) -> int:
        """Images taken so far."""
        return self.raw.received + self.compressed.received

    @property
    def missed(self) -> int:
        """Images that were sent and replaced by newer ones, or lost, before they were taken."""
        return self.raw.missed + self.compressed.missed

    def paired_since(self, since: float) -> bool:
        """Whether an image found its camera_info after ``since`` (monotonic)."""
        return self._last_paired >= since

    def jump(self, reason: str) -> None:
        """Start again: time went backwards."""
        self._node.get_logger().warning(reason)
        self._guard.restart()
        self._sparse.reset()

    def _choose_transport(self) -> None:
        transport = self._parameters().transport
        raw, compressed = transport == "raw", transport == "compressed"
        if transport == "auto":
            raw = bool(self.raw.publishers())
            compressed = not raw and bool(self.compressed.publishers())
            if not raw and not compressed:
                return  # as it was
        self.raw.wanted, self.compressed.wanted = raw, compressed

    def _take_image(self, message: Any) -> None:
        stamp = stamp_ns(message)
        if self._guard.accepts(stamp):
            self.newest = stamp
            self.pairing.add("image", stamp, message)

    def _take_info(self, message: Any) -> None:
        self._newest_info = stamp_ns(message)
        self.pairing.add("camera_info", self._newest_info, message)

    def _ready(self, stamp: int, joined: dict[str, Any]) -> None:
        self._last_paired = time.monotonic()
        frame = Frame(stamp, joined["image"], joined["camera_info"], self._last_paired)
        self._deliver(frame)

    def _unpaired(self, stamp: int, missing: list[str]) -> None:
        self._drops.add("no camera_info", self.why_unpaired(stamp))

    def why_unpaired(self, stamp: int) -> str:
        """One line: why the image of that stamp (ns) found no camera_info."""
        topic = self.info.topic
        nearest = self.pairing.nearest("camera_info", stamp)
        nearest = self._newest_info if nearest is None else nearest
        if not self.info.publishers():
            return f"camera_info: no publisher on {topic}"
        if nearest is None:
            return f"camera_info: nothing received on {topic}"
        return (
            f"camera_info: expected a message on {topic} with the image's stamp, "
            f"the nearest is {abs(nearest - stamp) / 1e6:.3f} ms off"
        )
