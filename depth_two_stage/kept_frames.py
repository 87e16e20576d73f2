# SPDX-License-Identifier: Apache-2.0
"""Frames kept compressed in memory, from which a map is built again when poses are corrected.

Colour is a JPEG, depth a 16-bit PNG in millimetres (coarser beyond 65 m), confidence an 8-bit PNG:
about 0.2 MB for 640×480. When the bound is reached, the frame goes that lies nearest between its
two neighbours, so that what is left covers the way evenly.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import cv2
import numpy as np

from depth_two_stage.camera import Camera
from depth_two_stage.odometry import angle_degrees

MILLIMETRE = 1e-3
LARGEST = 65535  # of a 16-bit image
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 92]
FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]
METRES_A_DEGREE = 0.015  # 20 degrees count as 0.3 m


@dataclass(frozen=True)
class KeptFrame:
    """A frame that was fused: T_node_frame (4, 4) from keyframe ``node``, and its images."""

    node: int
    T_node_frame: np.ndarray
    camera: Camera
    colour: np.ndarray
    depth: np.ndarray
    unit: float  # m, of the depth image
    weight: np.ndarray | None
    number: int = 0  # in the order in which frames were kept

    @classmethod
    def pack(
        cls,
        node: int,
        T_node_frame: np.ndarray,
        images: tuple[np.ndarray, np.ndarray, np.ndarray | None],
        camera: Camera,
        max_range: float,
        number: int = 0,
    ) -> KeptFrame:
        """Compress (rgb uint8 (H, W, 3), depth (H, W) m, confidence (H, W) or None).

        Depths beyond ``max_range`` (m) are not kept.
        """
        rgb, depth, weight = images
        unit = max(MILLIMETRE, max_range / LARGEST)
        steps = np.where(depth <= max_range, np.rint(depth / np.float32(unit)), 0)
        if weight is not None:
            weight = cv2.imencode(".png", np.rint(weight * 255).astype(np.uint8), FAST)[1]
        return cls(
            node,
            T_node_frame,
            camera,
            cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), QUALITY)[1],
            cv2.imencode(".png", steps.astype(np.uint16), FAST)[1],
            unit,
            weight,
            number,
        )

    def images(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Rgb uint8 (H, W, 3), depth float32 (H, W) m, confidence float32 (H, W) or None."""
        rgb = cv2.cvtColor(cv2.imdecode(self.colour, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        depth = cv2.imdecode(self.depth, cv2.IMREAD_UNCHANGED) * np.float32(self.unit)
        if self.weight is None:
            return rgb, depth, None
        weight = cv2.imdecode(self.weight, cv2.IMREAD_UNCHANGED) / np.float32(255)
        return rgb, depth, weight

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(
            part.nbytes for part in (self.colour, self.depth, self.weight) if part is not None
        )


class KeptFrames:
    """``KeptFrames(megabytes)``: frames in the order of the way, thinned to a bound."""

    def __init__(self, megabytes: float) -> None:
        self.limit = megabytes * 1e6
        self.lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        with self.lock:
            self._frames: list[KeptFrame] = []
            self._ways: list[float] = []  # to each frame from the one before, m
            self.size = self.dropped = self.count = 0

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, frame: KeptFrame, T_before_frame: np.ndarray) -> None:
        """Keep a frame; T_before_frame (4, 4) is its motion since the one kept before."""
        way = np.linalg.norm(T_before_frame[:3, 3])
        with self.lock:
            self._frames.append(frame)
            self._ways.append(float(way) + METRES_A_DEGREE * angle_degrees(T_before_frame))
            self.size += frame.size
            self.count += 1
            while self.size > self.limit and len(self._frames) > 2:
                self._drop()

    def since(self, number: int) -> list[KeptFrame]:
        """The frames kept after the one of this number, in order."""
        with self.lock:
            return [frame for frame in self._frames if frame.number > number]

    def _drop(self) -> None:
        ways = np.array(self._ways)
        position = 1 + int(np.argmin(ways[1:-1] + ways[2:]))
        self._ways[position + 1] += self._ways[position]
        self.size -= self._frames[position].size
        del self._frames[position], self._ways[position]
        self.dropped += 1
