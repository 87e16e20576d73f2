# SPDX-License-Identifier: Apache-2.0
"""Which of a bag's topics are the camera, the LiDAR, …: recognised by type, then by name."""

from __future__ import annotations

from dataclasses import dataclass

from .bag_messages import decoded
from .bag_reader import RawBag

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO, CLOUD = "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/PointCloud2"
_DEPTH_ENCODINGS = ("16UC1", "32FC1", "mono16")


@dataclass(frozen=True)
class BagTopics:
    """Names of the recognised topics; empty where there is none."""

    image: str = ""
    compressed: bool = False
    camera_info: str = ""
    depth: str = ""
    cloud: str = ""
    pose: str = ""

    def remappings(self) -> dict[str, str]:
        """From the depth node's inputs to the bag's topics."""
        image = "image/compressed" if self.compressed else "image"
        pairs = {image: self.image, "camera_info": self.camera_info, "lidar": self.cloud}
        return {source: target for source, target in pairs.items() if target}


def recognise(bag: RawBag) -> BagTopics:
    """Find camera image, its camera_info, true depth, LiDAR cloud and true pose of an open bag.

    Colour comes before grey and raw before compressed only by number of messages: the image topic
    with a camera_info beside it and the most messages wins.
    """
    by_type: dict[str, list[str]] = {}
    for topic in bag.topics.values():
        if topic.count:
            by_type.setdefault(topic.type, []).append(topic.name)
    depths = [name for name in by_type.get(IMAGE, []) if _is_depth(bag, name)]
    images = [name for name in by_type.get(IMAGE, []) if name not in depths]
    packed = [name for name in by_type.get(COMPRESSED, []) if "depth" not in name.lower()]
    infos = by_type.get(CAMERA_INFO, [])

    def rank(name: str) -> tuple:
        return (bool(_info_beside(name, infos)), bag.topics[name].count, name in images, name)

    image = max([*images, *packed], key=rank, default="")
    info = _info_beside(image, infos) or (infos[0] if len(infos) == 1 else "")
    poses = [n for n in by_type.get("geometry_msgs/msg/PoseStamped", []) if "truth" in n.lower()]
    return BagTopics(
        image=image,
        compressed=image in packed,
        camera_info=info if image else "",
        depth=max(depths, key=lambda name: bag.topics[name].count, default=""),
        cloud=max(by_type.get(CLOUD, []), key=lambda n: bag.topics[n].count, default=""),
        pose=poses[0] if poses else "",
    )


def _info_beside(image: str, infos: list[str]) -> str:
    """The camera_info of the nearest namespace above the image, as image_transport lays it out."""
    folder = image
    while "/" in folder:
        folder = folder.rsplit("/", 1)[0]
        if f"{folder}/camera_info" in infos:
            return f"{folder}/camera_info"
    return ""


def _is_depth(bag: RawBag, name: str) -> bool:
    """Whether an Image topic holds depth, by the encoding of its first message."""
    for _, _, raw in bag.messages((name,)):
        return decoded(raw, IMAGE, name).encoding in _DEPTH_ENCODINGS
    return False
