# SPDX-License-Identifier: Apache-2.0
"""Bags as a data set, without ROS: rosbag2 (sqlite3, MCAP) and ROS 1.

Topics are recognised by type; a split names them where that guesses wrong or must not look, as in
"image=/cam/image_raw,camera_info=/cam/camera_info,points=none". Poses are T_world_camera of the
camera's optical frame (an Odometry's child frame is brought there by /tf_static).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..camera import Lens
from ..messages import MessageError, stamp_ns, to_depth, to_lens, to_points, to_rgb, to_transform
from . import Dataset, DatasetError, Sample
from .bag_messages import decoded
from .bag_reader import BagError, RawBag
from .bag_topics import CAMERA_INFO, CLOUD, COMPRESSED, IMAGE, recognise
from .poses import interpolate
from .static_transforms import StaticTransforms

TYPES = {
    "image": (IMAGE, COMPRESSED),
    "camera_info": (CAMERA_INFO,),
    "depth": (IMAGE, COMPRESSED),
    "points": (CLOUD,),
    "pose": (
        "geometry_msgs/msg/PoseStamped",
        "geometry_msgs/msg/PoseWithCovarianceStamped",
        "geometry_msgs/msg/TransformStamped",
        "nav_msgs/msg/Odometry",
    ),
}
ROLES = tuple(TYPES)
#: How far the stamp of what belongs to an image may lie from it, ns.
DEPTH_WITHIN, POINTS_WITHIN, POSES_APART = 20_000_000, 100_000_000, 200_000_000


@dataclass(frozen=True)
class Entry:
    """Where a message lies: stamp and time of recording (ns), its place among equal times."""

    stamp: int
    time: int
    place: int


class BagDataset(Dataset):
    """The frames of one image topic with all that belongs to them.

    ``problem`` is None, or one line that says what of the bag could not be read.
    """

    def __init__(self, path: Path, split: str | None) -> None:
        self.path = path
        self._raw: RawBag | None = None
        bag = self._bag()
        self.topics = _chosen(bag, split)
        self._entries: dict[str, list[Entry]] = {role: [] for role in ROLES}
        frames: dict[str, str] = {}
        lenses, poses = [], []
        for role, entry, message in self._all():
            self._entries[role].append(entry)
            frames.setdefault(role, message.header.frame_id.lstrip("/"))
            if role == "camera_info":
                lenses.append((entry.stamp, to_lens(message)))
            elif role == "pose":
                poses.append((entry.stamp, message))
        images = self._entries["image"]
        self.problem = bag.problem
        if self.problem:
            last = (images[-1].time - bag.start) / 1e9 if images else 0.0
            self.problem += f"; {len(images)} frames, until {last:.1f} s"
            logging.getLogger(__name__).warning(self.problem)
        for role in ("image", "camera_info"):
            if not self._entries[role]:
                raise DatasetError(f"{path}: expected a message on {self.topics[role]}, got none")
        if frames.get("depth", frames["image"]) != frames["image"]:
            raise DatasetError(
                f"{self.topics['depth']}: expected depth registered to the image's frame "
                f"{frames['image']}, got frame {frames['depth']} (depth=none leaves it out)"
            )
        static = StaticTransforms(bag)
        self._T_camera_lidar = self._extrinsics(static, frames)
        poses = [(stamp, self._pose(m, static, frames)) for stamp, m in poses]
        self._poses = interpolate([entry.stamp for entry in images], poses, POSES_APART)
        self._lenses = lenses
        names = [str(entry.stamp) for entry in images]
        super().__init__("bag", split, names, lenses[0][1].rectified, lenses[0][1])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open files out: a worker process opens its own."""
        return {**self.__dict__, "_raw": None}

    def raw(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Colour uint8 (H, W, 3) and depth (H, W) m or None as recorded, not rectified."""
        return self._read(int(self._order[index]))

    def _read(self, place: int) -> tuple[np.ndarray, np.ndarray | None]:
        entry = self._entries["image"][place]
        rgb = to_rgb(self._fetch("image", entry))
        nearest = _nearest(self._entries["depth"], entry.stamp, DEPTH_WITHIN)
        if nearest is None:
            return rgb, None
        depth = to_depth(self._fetch("depth", nearest))
        if depth.shape != rgb.shape[:2]:
            if depth.shape[0] * rgb.shape[1] != depth.shape[1] * rgb.shape[0]:
                raise DatasetError(
                    f"{self.topics['depth']}: expected the image's size {rgb.shape[:2]} or its "
                    f"aspect ratio, got {depth.shape}"
                )
            depth = cv2.resize(depth, rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        return rgb, depth

    def decode(self, index: int) -> Sample:
        """Decode and rectify the frame at a position of ``names``."""
        entry = self._entries["image"][index]
        try:
            rgb, depth = self._read(index)
            cloud = _nearest(self._entries["points"], entry.stamp, POINTS_WITHIN)
            points = None if cloud is None else to_points(self._fetch("points", cloud))
        except MessageError as error:
            raise DatasetError(f"{self.path}, frame {entry.stamp}: {error}") from error
        lens = min(self._lenses, key=lambda item: abs(item[0] - entry.stamp))[1]
        if rgb.shape[:2] != (lens.height, lens.width):
            raise DatasetError(
                f"{self.path}, frame {entry.stamp}: expected the camera_info's size "
                f"{lens.height}x{lens.width}, got {rgb.shape[0]}x{rgb.shape[1]}"
            )
        rgb = self._rectified("image", lens, rgb)
        depth = None if depth is None else self._rectified("depth", lens, depth)
        return Sample(
            np.ascontiguousarray(rgb),
            depth,
            lens.rectified,
            entry.stamp,
            self.names[index],
            points=points,
            T_camera_lidar=None if points is None else self._T_camera_lidar,
            T_world_camera=self._poses[index],
        )

    def _rectified(self, role: str, lens: Lens, image: np.ndarray) -> np.ndarray:
        if "image_rect" in self.topics[role]:  # image_pipeline's name for what is rectified
            return image
        if role == "depth":
            return lens.rectify_depth(image)
        return lens.rectify_image(np.ascontiguousarray(image))

    def _bag(self) -> RawBag:
        """The open bag; a forked process opens it again, since files share their position."""
        if self._raw is None or self._pid != os.getpid():
            try:
                self._raw = RawBag(self.path).__enter__()
            except BagError as error:
                raise DatasetError(str(error)) from error
            self._pid = os.getpid()
        return self._raw

    def _all(self) -> Iterator[tuple[str, Entry, Any]]:
        """(role, entry, message) of all topics in use, in one pass over the bag.

        A stamp of zero is replaced by the time of recording.
        """
        bag, roles = self._bag(), {topic: role for role, topic in self.topics.items() if topic}
        latest: dict[str, tuple[int, int]] = {}
        for topic, time, raw in bag.messages(tuple(roles)):
            before, place = latest.get(topic, (-1, 0))
            place = place + 1 if time == before else 0
            latest[topic] = time, place
            message = self._decoded(raw, bag.topics[topic].type)
            yield roles[topic], Entry(stamp_ns(message) or time, time, place), message

    def _fetch(self, role: str, entry: Entry) -> Any:
        bag, topic = self._bag(), self.topics[role]
        found = list(bag.messages((topic,), entry.time, entry.time + 1))
        if len(found) <= entry.place:
            raise DatasetError(f"{bag.path}: expected the message {entry} on {topic}, got none")
        return self._decoded(found[entry.place][2], bag.topics[topic].type)

    def _decoded(self, raw: bytes, kind: str) -> Any:
        return decoded(raw, kind, str(self.path))

    def _extrinsics(self, static: StaticTransforms, frames: dict[str, str]) -> np.ndarray | None:
        if "points" not in frames:
            return None
        T = static.lookup(frames["image"], frames["points"])
        if T is None:
            raise DatasetError(
                f"{self.path}: expected /tf_static to join {frames['points']} to "
                f"{frames['image']}, got no chain (points=none leaves the cloud out)"
            )
        return T

    def _pose(self, message: Any, static: StaticTransforms, frames: dict[str, str]) -> np.ndarray:
        T_world_child = to_transform(message)
        child = getattr(message, "child_frame_id", "") or frames["image"]
        T_child_camera = static.lookup(child, frames["image"])
        if T_child_camera is None:
            raise DatasetError(
                f"{self.topics['pose']}: expected /tf_static to join {child} to "
                f"{frames['image']}, got no chain (pose=none leaves the poses out)"
            )
        return T_world_child @ T_child_camera


def open_sequence(root: Path, split: str | None) -> BagDataset:
    """Open a bag folder or file; ``split`` may name topics: "image=/a,depth=/b,points=none"."""
    try:
        return BagDataset(root, split)
    except MessageError as error:
        raise DatasetError(f"{root}: {error}") from error


def _nearest(entries: list[Entry], stamp: int, within: int) -> Entry | None:
    best = min(entries, key=lambda entry: abs(entry.stamp - stamp), default=None)
    return best if best is not None and abs(best.stamp - stamp) <= within else None


def _chosen(bag: RawBag, split: str | None) -> dict[str, str]:
    """Role → topic ("" = none): recognised, or as the split says."""
    if bag.problem and not bag.topics:
        raise DatasetError(f"{bag.problem}: expected a readable message, got none")
    found = recognise(bag)
    names = (found.image, found.camera_info, found.depth, found.cloud, found.pose)
    topics = dict(zip(ROLES, names, strict=True))
    listed = ", ".join(sorted(bag.topics)) or "none"
    for choice in (split or "").split(","):
        if not choice.strip():
            continue
        role, _, topic = (part.strip() for part in choice.partition("="))
        if role not in ROLES:
            raise DatasetError(f"split: expected ROLE=TOPIC of {', '.join(ROLES)}, got {choice!r}")
        if topic not in bag.topics and topic != "none":
            raise DatasetError(f"split {role}: expected one of the topics {listed}; got {topic!r}")
        kind = "" if topic == "none" else bag.topics[topic].type
        if kind and kind not in TYPES[role]:
            wanted = ", ".join(name.rpartition("/")[2] for name in TYPES[role])
            raise DatasetError(f"split {role}: expected a topic of {wanted}; got {kind} on {topic}")
        topics[role] = "" if topic == "none" else topic
    for role in ("image", "camera_info"):
        if not topics[role]:
            raise DatasetError(f"{bag.path}: expected a {role} topic, got only {listed}")
    return topics
