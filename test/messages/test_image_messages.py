# SPDX-License-Identifier: Apache-2.0
"""Images: rosbags' messages and rclpy's decode alike; bad ones are one clear line."""

import cv2
import numpy as np
import pytest
from made_messages import compressed, image

from depth_two_stage import messages
from depth_two_stage.messages import MessageError


@pytest.mark.parametrize("pad", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "order"),
    [
        ("rgb8", [0, 1, 2]),
        ("bgr8", [2, 1, 0]),
        ("8UC3", [2, 1, 0]),
        ("rgba8", [0, 1, 2, 0]),
        ("bgra8", [2, 1, 0, 0]),
    ],
)
def test_colour_orders(make, rgb, encoding, order, pad):
    result = messages.to_rgb(image(make, encoding, rgb[..., order], pad))
    np.testing.assert_array_equal(result, rgb)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_mono(make, rgb, encoding):
    result = messages.to_rgb(image(make, encoding, rgb[..., 0], pad=3))
    np.testing.assert_array_equal(result, np.repeat(rgb[..., :1], 3, axis=2))


@pytest.mark.parametrize("big", [0, 1])
def test_sixteen_bits_and_byte_order(make, rgb, big):
    wide = rgb.astype(np.uint16) * 256 + 17
    mono = messages.to_rgb(image(make, "mono16", wide[..., 1], pad=2, big=big))
    np.testing.assert_array_equal(mono, np.repeat(rgb[..., 1:2], 3, axis=2))
    colour = messages.to_rgb(image(make, "bgr16", wide[..., ::-1], big=big))
    np.testing.assert_array_equal(colour, rgb)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer(make, rgb, pattern, bits):
    mosaic = np.empty(rgb.shape[:2], np.uint8)
    for index, colour in enumerate(pattern):  # rows: first two letters, then last two
        cell = np.s_[index // 2 :: 2, index % 2 :: 2]
        mosaic[cell] = rgb[(*cell, "rgb".index(colour))]
    values = mosaic if bits == 8 else mosaic.astype(np.uint16) * 256
    result = messages.to_rgb(image(make, f"bayer_{pattern}{bits}", values, pad=4))
    inner = np.abs(result.astype(int) - rgb)[2:-2, 2:-2]
    assert inner.max() <= 2


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21"])
def test_yuv(make, rgb, encoding):
    # BT.601, studio range: luma 16…235, chroma 16…240.
    r, g, b = np.moveaxis(rgb.astype(np.float32) / 255, 2, 0)
    luma = 16 + 65.481 * r + 128.553 * g + 24.966 * b
    u = 128 - 37.797 * r - 74.203 * g + 112 * b
    v = 128 + 112 * r - 93.786 * g - 18.214 * b
    u, v = ((c[:, ::2] + c[:, 1::2]) / 2 for c in (u, v))
    if encoding.startswith("nv"):
        u, v = ((c[::2] + c[1::2]) / 2 for c in (u, v))
        pair = np.stack([u, v] if encoding == "nv12" else [v, u], axis=2)
        values = np.concatenate([luma, pair.reshape(len(u), -1)])
        message = image(make, encoding, np.rint(values).astype(np.uint8), height=24)
    else:
        chroma = np.stack([u, v], axis=2).reshape(luma.shape)
        order = [luma, chroma] if encoding in ("yuyv", "yuv422_yuy2") else [chroma, luma]
        message = image(make, encoding, np.rint(np.stack(order, axis=2)).astype(np.uint8), pad=6)
    result = messages.to_rgb(message)
    assert np.abs(result.astype(int) - rgb).max() <= 12


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8", "16UC1", "32FC1"])
def test_views_are_not_copied(make, encoding):
    kind = {"16UC1": np.uint16, "32FC1": np.float32}.get(encoding, np.uint8)
    values = np.ones((4, 6, 3) if encoding.endswith("gb8") or encoding == "bgr8" else (4, 6), kind)
    message = image(make, encoding, values)
    if encoding == "16UC1":
        result = messages.to_depth(message)  # millimetres become metres: one conversion
        assert result.dtype == np.float32 and np.allclose(result, 1e-3)
        return
    decode = messages.to_depth if encoding == "32FC1" else messages.to_rgb
    buffer = np.frombuffer(message.data, np.uint8)
    assert np.shares_memory(decode(message), buffer)


@pytest.mark.parametrize("big", [0, 1])
def test_depth_encodings(make, big):
    millimetres = np.array([[0, 1000], [2345, 65535]], np.uint16)
    for encoding in ("16UC1", "mono16"):
        depth = messages.to_depth(image(make, encoding, millimetres, pad=2, big=big))
        assert depth.dtype == np.float32
        # 65535 is a saturated reading, none as in a depth PNG, not a wall 65.5 m away.
        np.testing.assert_allclose(depth, [[0, 1], [2.345, 0]], rtol=1e-6)
    metres = np.array([[np.nan, 1.5], [-2, np.inf], [-np.inf, 3.25]], np.float32)
    depth = messages.to_depth(image(make, "32FC1", metres, pad=4, big=big))
    np.testing.assert_array_equal(depth, [[0, 1.5], [0, 0], [0, 3.25]])


def test_compressed_colour(make, rgb):
    bgr = rgb[..., ::-1]
    for extension, fmt, tolerance in (
        (".jpg", "rgb8; jpeg compressed bgr8", 12),
        (".png", "png", 0),
    ):
        data = cv2.imencode(extension, bgr)[1].tobytes()
        result = messages.to_rgb(compressed(make, fmt, data))
        assert np.abs(result.astype(int) - rgb).max() <= tolerance


def test_compressed_order_is_read_from_the_format(make, rgb):
    swapped = cv2.imencode(".png", rgb)[1].tobytes()  # RGB handed to the coder as it was
    result = messages.to_rgb(compressed(make, "rgb8; png compressed rgb8", swapped))
    np.testing.assert_array_equal(result, rgb)


def test_compressed_depth(make):
    millimetres = (np.arange(600, dtype=np.uint16) * 16).reshape(20, 30)
    png = cv2.imencode(".png", millimetres)[1].tobytes()
    for fmt, data in (
        ("16UC1; png compressed", png),
        ("16UC1; compressedDepth png", bytes(12) + png),
        ("16UC1; compressedDepth", bytes(12) + png),
    ):
        depth = messages.to_depth(compressed(make, fmt, data))
        np.testing.assert_allclose(depth, millimetres / 1000, rtol=1e-6)
    # compressed_depth_image_transport: quantised inverse depth, a / depth + b, 0 = none.
    truth, (a, b) = np.array([[0, 0.7, 2.0, 9.0]], np.float32), (1e4, -800.0)
    inverse = np.divide(a, truth, out=np.zeros_like(truth), where=truth > 0)
    coded = np.where(truth > 0, inverse + b, 0)
    head = np.array([0], "<i4").tobytes() + np.array([a, b], "<f4").tobytes()
    data = head + cv2.imencode(".png", np.rint(coded).astype(np.uint16))[1].tobytes()
    depth = messages.to_depth(compressed(make, "32FC1; compressedDepth png", data))
    np.testing.assert_allclose(depth, truth, rtol=2e-3)


@pytest.mark.parametrize("cut", [0, 3, 100, -1])
@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_damaged_compression(make, extension, cut):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    data = cv2.imencode(extension, noise)[1].tobytes()[:cut]
    with pytest.raises(
        MessageError, match=r"^image \(jpeg\): expected a complete JPEG or PNG, got"
    ):
        messages.to_rgb(compressed(make, "jpeg", data))


def test_truncated_jpeg_after_a_thumbnail(make, rgb):
    data = cv2.imencode(".jpg", rgb)[1].tobytes()
    thumbnail = b"\xff\xe1" + (2 + len(data)).to_bytes(2, "big") + data  # APP1 holding a JPEG
    whole = data[:2] + thumbnail + data[2:]
    assert messages.to_rgb(compressed(make, "jpeg", whole)).shape == rgb.shape
    with pytest.raises(MessageError):
        messages.to_rgb(compressed(make, "jpeg", whole[:-40]))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"encoding": "rgb42"}, "rgb8, bgr8"),
        ({"encoding": "16UC1"}, "image: expected one of the encodings"),
        ({"height": 0}, "expected a size above 0, got 0x32"),
        ({"width": 0}, "expected a size above 0, got 24x0"),
        ({"height": 25}, "expected step * height = 2400 bytes, got 2304"),
        ({"data": b""}, "expected step * height = 2304 bytes, got 0"),
        ({"step": 95}, "expected a step of at least 96 bytes"),
        ({"step": 0}, "expected a step of at least 96 bytes"),
    ],
)
def test_bad_images(make, rgb, changes, text):
    changes = dict(changes)
    with pytest.raises(MessageError) as error:
        messages.to_rgb(image(make, changes.pop("encoding", "rgb8"), rgb, **changes))
    assert text in str(error.value) and "\n" not in str(error.value)


def test_bad_depth(make, rgb):
    with pytest.raises(MessageError, match=r"expected one of the encodings 16UC1, mono16, 32FC1"):
        messages.to_depth(image(make, "rgb8", rgb))
    png = cv2.imencode(".png", rgb)[1].tobytes()
    with pytest.raises(MessageError, match="expected a 16-bit PNG of one channel"):
        messages.to_depth(compressed(make, "16UC1; png compressed", png))
    for fmt in ("16UC1; compressedDepth rvl", "16UC1; compressedDepth png"):
        with pytest.raises(MessageError, match="12 bytes of header"):
            messages.to_depth(compressed(make, fmt, b"short"))
    with pytest.raises(MessageError, match="expected a colour image"):
        messages.to_rgb(compressed(make, "16UC1; compressedDepth png", png))
