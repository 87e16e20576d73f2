# SPDX-License-Identifier: Apache-2.0
"""Images as messages carry them → arrays: raw encodings, JPEG, PNG and image_transport's depth.

An array is a view of the message's buffer wherever a view can be (rgb8, bgr8, mono8, 16UC1, 32FC1),
so it may be read-only, strided or reversed in its last axis. Apart from `messages.py` nothing
imports this file: it is that door's larger half.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

# encoding: (type of one value, values per pixel, OpenCV's conversion to RGB; None: a view will do).
# OpenCV names a Bayer pattern by its second row, ROS by its first: rggb is OpenCV's BG.
_COLOUR = {
    "rgb8": ("u1", 3, None),
    "bgr8": ("u1", 3, None),
    "8UC3": ("u1", 3, None),  # channel order unsaid; BGR as in cv_bridge
    "mono8": ("u1", 1, None),
    "8UC1": ("u1", 1, None),
    "rgba8": ("u1", 4, None),
    "bgra8": ("u1", 4, None),
    "8UC4": ("u1", 4, None),
    "rgb16": ("u2", 3, None),
    "bgr16": ("u2", 3, None),
    "mono16": ("u2", 1, None),
    "bayer_rggb8": ("u1", 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": ("u1", 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": ("u1", 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": ("u1", 1, cv2.COLOR_BayerGB2RGB),
    "bayer_rggb16": ("u2", 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr16": ("u2", 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg16": ("u2", 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg16": ("u2", 1, cv2.COLOR_BayerGB2RGB),
    "yuv422": ("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": ("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": ("u1", 2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": ("u1", 2, cv2.COLOR_YUV2RGB_YUY2),
    "nv12": ("u1", 1, cv2.COLOR_YUV2RGB_NV12),
    "nv21": ("u1", 1, cv2.COLOR_YUV2RGB_NV21),
}
_DEPTH = {"16UC1": ("u2", 1, 1e-3), "mono16": ("u2", 1, 1e-3), "32FC1": ("f4", 1, 1.0)}
COLOUR_ENCODINGS = tuple(_COLOUR)
DEPTH_ENCODINGS = tuple(_DEPTH)
#: No reading in 16-bit depth, beside REP 118's 0: what saturated (7-Scenes' Kinect, the first
#: DepthAI cameras). Taken for 65.5 m it would be a wall far behind every room.
SATURATED = 65535


class MessageError(ValueError):
    """A message whose content cannot be used: "name: expected …, got …"."""


def to_rgb(message: Any, name: str = "image") -> np.ndarray:
    """Image or CompressedImage → RGB uint8 (H, W, 3), a view of the message where possible."""
    if not hasattr(message, "encoding"):
        return _decompressed_rgb(message, name)
    pixels = _pixels(message, _COLOUR, name)
    conversion = _COLOUR[message.encoding][2]
    if pixels.dtype.itemsize == 2:
        pixels = (pixels >> 8).astype(np.uint8)
    if conversion is not None:
        if min(pixels.shape[:2]) < 2 or (pixels.ndim == 3 and pixels.shape[1] % 2):
            raise MessageError(
                f"{name}: expected an even size of at least 2x2 for {message.encoding}, "
                f"got {message.height}x{message.width}"
            )
        return cv2.cvtColor(np.ascontiguousarray(pixels), conversion)
    if pixels.ndim == 2:
        return np.broadcast_to(pixels[..., None], (*pixels.shape, 3))
    if message.encoding.startswith(("bgr", "8U")):
        return pixels[..., 2::-1]
    return pixels[..., :3]


def to_depth(message: Any, name: str = "depth") -> np.ndarray:
    """Depth Image (16UC1 mm, 32FC1 m) or CompressedImage → float32 (H, W) m, 0 = none.

    In 16UC1 both 0 and 65535 are none.
    """
    if hasattr(message, "encoding"):
        values = _pixels(message, _DEPTH, name)
        scale = _DEPTH[message.encoding][2]
    else:
        values, scale = _decompressed_depth(message, name)
    if scale != 1.0:
        depth = values * np.float32(scale)
        depth[values == SATURATED] = 0
        return depth
    depth = values.astype(np.float32, copy=False)
    valid = np.isfinite(depth) & (depth > 0)
    return depth if valid.all() else np.where(valid, depth, np.float32(0))


def buffer(data: Any) -> np.ndarray:
    """Bytes, array.array or ndarray as a flat uint8 view."""
    if isinstance(data, np.ndarray):
        return data.reshape(-1).view(np.uint8)
    return np.frombuffer(data, np.uint8) if len(data) else np.empty(0, np.uint8)


def _pixels(message: Any, table: dict, name: str) -> np.ndarray:
    """View the values as (H, W) or (H, W, C), rows by ``step``, byte order honoured."""
    if message.encoding not in table:
        raise MessageError(
            f"{name}: expected one of the encodings {', '.join(table)}; got {message.encoding!r}"
        )
    kind, channels, _ = table[message.encoding]
    dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    height, width, step = int(message.height), int(message.width), int(message.step)
    if height < 1 or width < 1:
        raise MessageError(f"{name}: expected a size above 0, got {height}x{width}")
    if step < width * channels * dtype.itemsize:
        raise MessageError(
            f"{name}: expected a step of at least {width * channels * dtype.itemsize} bytes "
            f"({width} pixels of {message.encoding}), got {step}"
        )
    if message.encoding in ("nv12", "nv21"):  # half as many rows of chroma follow
        if height % 2 or width % 2:
            raise MessageError(
                f"{name}: expected an even size for {message.encoding}, got {height}x{width}"
            )
        height = height * 3 // 2
    data = buffer(message.data)
    if data.size < step * height:
        raise MessageError(
            f"{name}: expected step * height = {step * height} bytes, got {data.size}"
        )
    shape, strides = (height, width), (step, channels * dtype.itemsize)
    if channels > 1:
        shape, strides = (*shape, channels), (*strides, dtype.itemsize)
    return np.ndarray(shape, dtype, data, 0, strides)


def _decode(data: np.ndarray, flags: int, name: str) -> np.ndarray:
    """JPEG or PNG bytes → array as OpenCV decodes them; a damaged file is an error."""
    image = None
    # A truncated JPEG ends without the end marker FFD9 after its last scan (FFDA); older OpenCV
    # would fill the missing rows with grey and call it an image.
    raw = data.tobytes()
    complete = raw[:2] != b"\xff\xd8" or raw.find(b"\xff\xd9", max(0, raw.rfind(b"\xff\xda"))) > 0
    if data.size and complete:
        try:
            image = cv2.imdecode(data, flags)
        except cv2.error as error:
            text = " ".join(str(error).split())
            raise MessageError(f"{name}: expected a JPEG or PNG, got {text}") from error
    if image is None:
        raise MessageError(
            f"{name}: expected a complete JPEG or PNG, got {data.size} bytes that do not decode"
        )
    return image


def _decompressed_rgb(message: Any, name: str) -> np.ndarray:
    if "compressedDepth" in message.format:
        raise MessageError(f"{name}: expected a colour image, got format {message.format!r}")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = _decode(buffer(message.data), flags, f"{name} ({message.format})")
    # image_transport names the order of what it compressed; unsaid, it is OpenCV's.
    return image if "compressed rgb" in message.format else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _decompressed_depth(message: Any, name: str) -> tuple[np.ndarray, float]:
    """CompressedImage "16UC1; png compressed" or "…; compressedDepth png" → values, scale to m."""
    data, header = buffer(message.data), None
    if "compressedDepth" in message.format:
        # image_transport: int32 kind, float32 a, b, then a PNG of a / depth + b for 32FC1.
        if "rvl" in message.format or data.size < 12:
            raise MessageError(
                f"{name}: expected compressedDepth as PNG with its 12 bytes of header, "
                f"got {message.format!r} with {data.size} bytes"
            )
        header, data = data[4:12].view("<f4"), data[12:]
    values = _decode(data, cv2.IMREAD_UNCHANGED, f"{name} ({message.format})")
    if values.dtype != np.uint16 or values.ndim != 2:
        raise MessageError(
            f"{name}: expected a 16-bit PNG of one channel, got {values.dtype} {values.shape} "
            f"(format {message.format!r})"
        )
    if header is None or not message.format.startswith("32FC1"):
        return values, 1e-3
    quantised = values.astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(values > 0, header[0] / (quantised - header[1]), np.float32(0)), 1.0
