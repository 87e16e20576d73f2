# SPDX-License-Identifier: Apache-2.0
"""What the nodes have to be told about a bag that is played to them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

from ..datasets.bag_reader import BagError, RawBag
from ..datasets.bag_topics import BagTopics, recognise
from ..datasets.static_transforms import StaticTransforms, frame_of
from ..messages import translation_quaternion

# Where our nodes write: a recorded topic of such a name would be a second publisher.
OUTPUTS = (
    *("depth/image_rect", "depth/camera_info", "depth/confidence", "depth/coarse"),
    *("points", "image_rect", "overlay", "scan", "odom", "path", "diagnostics"),
    *("map", "map/obstacles", "map/mesh", "map/points"),
)


@dataclass(frozen=True)
class Source:
    """Remappings of the nodes' topics, topics to play (empty: all), extrinsics, log lines."""

    remappings: dict[str, str] = field(default_factory=dict)
    topics: tuple[str, ...] = ()
    extrinsics: tuple[float, ...] = ()
    remarks: tuple[str, ...] = ()


def tf_is_installed() -> bool:
    """Whether transforms can be sent and heard here."""
    return all(importlib.util.find_spec(name) for name in ("tf2_ros", "tf2_msgs"))


def open_source(path: str | Path) -> Source:
    """Look into a bag; raises BagError when nothing in it can be taken for a camera."""
    with RawBag(path) as bag:
        found = recognise(bag)
        if not found.image:
            names = ", ".join(sorted(bag.topics)) or "none"
            raise BagError(f"bag: expected an image topic in {path}, got {names}")
        remappings = found.remappings()
        remarks = [f"{name}: {topic} of the bag" for name, topic in remappings.items()]
        topics, clashes = _without_clashes(bag, found)
        for name in clashes & set(remappings.values()):
            moved = name.strip("/")
            remappings[moved] = f"depth_two_stage/{moved}"
            remarks.append(f"{moved}: the bag has {name}, ours goes to depth_two_stage/{moved}")
        for name in sorted(clashes - set(remappings.values())):
            remarks.append(f"{name}: not played, our nodes publish it")
        extrinsics: tuple[float, ...] = ()
        if found.cloud and not tf_is_installed():
            extrinsics = lidar_extrinsics(bag, found)
            remarks.append(
                "lidar.extrinsics: from the bag's /tf_static"
                if extrinsics
                else "lidar.extrinsics: the bag's /tf_static does not join LiDAR and camera"
            )
    return Source(remappings, topics, extrinsics, tuple(remarks))


def _without_clashes(bag: RawBag, found: BagTopics) -> tuple[tuple[str, ...], set[str]]:
    """The topics to play (empty: all) and those that have the name of one of our outputs."""
    clashes = {name for name in bag.topics if name.strip("/") in OUTPUTS}
    hidden = clashes - {found.image, found.camera_info, found.cloud}
    return (tuple(sorted(set(bag.topics) - hidden)) if hidden else ()), clashes


def lidar_extrinsics(bag: RawBag, found: BagTopics) -> tuple[float, ...]:
    """T_camera_lidar as x y z (m) qx qy qz qw by /tf_static; empty if that does not join them."""
    camera, lidar = frame_of(bag, found.image), frame_of(bag, found.cloud)
    T_camera_lidar = StaticTransforms(bag).lookup(camera, lidar)
    if T_camera_lidar is None or not (camera and lidar):
        return ()
    return tuple(float(v) for part in translation_quaternion(T_camera_lidar) for v in part)
