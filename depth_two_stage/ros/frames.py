# SPDX-License-Identifier: Apache-2.0
"""One image with its camera_info: waiting for the worker, then messages → rectified arrays."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Condition
from typing import Any

import cv2
import numpy as np

from ..camera import Camera, Lens
from ..messages import COLOUR_ENCODINGS, MessageError, to_lens, to_rgb
from .reports import Drops


@dataclass(frozen=True)
class Frame:
    """An image with its camera_info, still as messages."""

    stamp: int  # ns
    image: Any
    info: Any
    received: float  # monotonic, s


class Mailbox:
    """One slot: the newest frame wins, what it pushes out is counted."""

    def __init__(self, drops: Drops) -> None:
        self._drops, self._arrived = drops, Condition()
        self._frame: Frame | None = None
        self._closed = False

    def put(self, frame: Frame) -> None:
        """Leave a frame; an older one that still lies there is dropped."""
        with self._arrived:
            if self._frame is not None:
                self._drops.add("superseded")
            self._frame = frame
            self._arrived.notify()

    def take(self) -> Frame | None:
        """Wait for a frame; None when the mailbox is closed."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._frame is not None or self._closed)
            frame, self._frame = self._frame, None
            return None if self._closed else frame

    def close(self) -> None:
        """Wake the waiting thread for good."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()


class FrameDecoder:
    """Messages → rectified arrays; a lens is kept as long as camera_info says the same."""

    def __init__(self) -> None:
        self._key: tuple | None = None
        self._lens: Lens | None = None

    def __call__(
        self, frame: Frame, *, rectified: bool = False, scale: float = 1.0
    ) -> tuple[np.ndarray, Lens, Camera]:
        """Frame → rgb uint8 (H, W, 3) rectified and scaled, the lens, the camera of that rgb.

        ``rectified``: the image is so already, its camera is P.
        """
        rgb = decode_image(frame.image)
        lens = self._lens_of(frame.info, rgb.shape[:2], rectified)
        if not lens.is_rectified:
            rgb = lens.rectify_image(np.ascontiguousarray(rgb))
        camera = lens.rectified
        if scale < 1.0:
            width, height = (max(1, round(scale * side)) for side in (camera.width, camera.height))
            rgb = cv2.resize(
                np.ascontiguousarray(rgb), (width, height), interpolation=cv2.INTER_AREA
            )
            camera = camera.resized(width, height)
        return np.ascontiguousarray(rgb), lens, camera

    def _lens_of(self, info: Any, size: tuple[int, int], rectified: bool) -> Lens:
        roi = info.roi
        key = (
            (size, rectified),
            (info.width, info.height, info.binning_x, info.binning_y, info.distortion_model),
            (roi.x_offset, roi.y_offset, roi.width, roi.height),
            *(bytes(np.asarray(part, np.float64)) for part in (info.d, info.k, info.r, info.p)),
        )
        if self._lens is None or key != self._key:
            lens = to_lens(info, size)
            if rectified:  # P describes the image as it is
                lens = Lens(lens.width, lens.height, lens.rectified.K)
            self._key, self._lens = key, lens
        return self._lens


def decode_image(message: Any) -> np.ndarray:
    """Image or CompressedImage → RGB uint8 (H, W, 3); encodings beyond ours by cv_bridge.

    ROS's own cv_bridge where it is installed, else rosbags-image.
    """
    if not hasattr(message, "encoding") or message.encoding in COLOUR_ENCODINGS:
        return to_rgb(message)
    unknown = f"image: expected one of {', '.join(COLOUR_ENCODINGS)}; got {message.encoding!r}"
    needed = message.step * message.height
    if message.height < 1 or message.width < 1 or len(message.data) < max(1, needed):
        raise MessageError(
            f"image: expected step * height = {needed} bytes of a size above 0, got "
            f"{len(message.data)} bytes, {message.height}x{message.width} {message.encoding!r}"
        )
    try:
        with np.errstate(invalid="ignore"):
            rgb = _bridge(message)
    except (ImportError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MessageError(f"{unknown} ({type(error).__name__})") from error
    if rgb.dtype != np.uint8 or rgb.shape != (message.height, message.width, 3):
        raise MessageError(unknown)
    return rgb


def _bridge(message: Any) -> np.ndarray:
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except ImportError:
        from rosbags.image import ImageError, message_to_cvimage

        try:
            return message_to_cvimage(message, "rgb8")
        except (ImageError, cv2.error) as error:
            raise ValueError(str(error)) from error
    try:
        return CvBridge().imgmsg_to_cv2(message, "rgb8")
    except (CvBridgeError, cv2.error) as error:
        raise ValueError(str(error)) from error
