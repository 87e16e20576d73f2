# SPDX-License-Identifier: Apache-2.0
"""The other side of mapping_node: a rendered room, sent as depth_node would, and its services."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from geometry_msgs.msg import PoseStamped
from rig import Process, Rig
from sensor_msgs.msg import CameraInfo, Image

from depth_two_stage.datasets import open_dataset
from depth_two_stage.ros import build
from depth_two_stage.ros.mapping_node import NAME

NODE = "depth_two_stage.ros.mapping_node"
FRAMES = 12
COARSE_MAP = ("-p", "tsdf.voxel_size:=0.02", "-p", "tsdf.memory_mb:=128.0")


def rendered_room(count: int = FRAMES) -> list:
    """Frames of a hand-held camera in a rendered room, 120x160."""
    return list(open_dataset("rendered", ".", f"frames:{FRAMES * 8},size:120x160"))[:count]


@contextmanager
def mapping_nodes(folder: Path, domain: int) -> Iterator[Callable[..., Process]]:
    """Starts nodes with a coarse map when called with more arguments; ends them all."""
    started = []

    def begin(*arguments: str) -> Process:
        started.append(Process(NODE, folder, domain, "--ros-args", *COARSE_MAP, *arguments))
        return started[-1]

    yield begin
    for process in started:
        process.end()


class Sender:
    """What depth_node publishes, made from a rendered room."""

    def __init__(self, rig: Rig, *, poses: bool = False) -> None:
        self.rig = rig
        self.depth = rig.publisher(Image, "depth/image_rect")
        self.info = rig.publisher(CameraInfo, "depth/camera_info")
        self.image = rig.publisher(Image, "image_rect")
        self.confidence = rig.publisher(Image, "depth/confidence")
        self.pose = rig.publisher(PoseStamped, "pose") if poses else None

    def connect(self) -> None:
        publishers = [self.depth, self.info, self.image, self.confidence]
        publishers += [self.pose] if self.pose else []
        assert self.rig.until(lambda: all(p.get_subscription_count() for p in publishers))
        # It knows its readers too, and waits for confidence since its last look at the topics.
        assert self.rig.until(lambda: all(map(self.rig.readers, self.rig.heard)))
        self.rig.fresh_values()

    def send(
        self, sample, *, depth=None, info=None, rgb=None, certain=1.0, frame="optical"
    ) -> None:
        header = build.header(sample.stamp, frame)
        self.info.publish(build.camera_info(sample.camera, header) if info is None else info)
        self.image.publish(build.rgb(sample.rgb if rgb is None else rgb, header))
        certain = np.full(sample.depth.shape, certain, np.float32)
        self.confidence.publish(build.confidence(certain, header))
        self.depth.publish(build.depth(sample.depth if depth is None else depth, header))

    def send_pose(self, T: np.ndarray, stamp: int) -> None:
        self.pose.publish(PoseStamped(header=build.header(stamp, "world"), pose=build.pose(T)))


def listen(rig: Rig, **topics: type) -> None:
    for name, kind in topics.items():
        topic = name.replace("__", "/")
        rig.heard[topic] = []
        rig.node.create_subscription(kind, topic, rig.heard[topic].append, 20)


def call(rig: Rig, kind: type, name: str, **request):
    return rig.call(kind, f"/{NAME}/{name}", kind.Request(**request))


def at(sample, stamp: int):
    """The same frame at another time, ns."""
    return sample.__class__(**{**vars(sample), "stamp": stamp})
