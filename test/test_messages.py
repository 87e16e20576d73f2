# SPDX-License-Identifier: Apache-2.0
"""Messages of rosbags (ROS 1 and 2) and of rclpy decode alike; bad content is one clear line."""

import array
import importlib

import cv2
import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from depth_two_stage import messages
from depth_two_stage.messages import MessageError

STORES = {"humble": Stores.ROS2_HUMBLE, "ros1": Stores.ROS1_NOETIC}


class Rosbags:
    """Builds messages as rosbags' deserialiser does: ndarray fields."""

    def __init__(self, store):
        self.types = get_typestore(store).types
        self.ros1 = store is Stores.ROS1_NOETIC

    def __call__(self, kind, /, **fields):
        cls = self.types[kind]
        if self.ros1 and kind.endswith("CameraInfo"):
            fields = {k.upper() if k in "dkrp" else k: v for k, v in fields.items()}
        if self.ros1 and kind == "std_msgs/msg/Header":
            fields["seq"] = 0
        for key, value in fields.items():
            if isinstance(value, bytes):
                fields[key] = np.frombuffer(value, np.uint8)
        return cls(**fields)


class Rclpy:
    """Builds messages as rclpy does: array.array fields."""

    def __call__(self, kind, /, **fields):
        package, _, cls = kind.split("/")
        message = getattr(importlib.import_module(f"{package}.msg"), cls)()
        for key, value in fields.items():
            if isinstance(value, bytes):
                value = array.array("B", value)
            elif isinstance(value, np.ndarray):
                value = value.tolist()
            setattr(message, key, value)
        return message


@pytest.fixture(params=["humble", "ros1", "rclpy"], scope="module")
def make(request):
    """Build messages of one of the three origins."""
    if request.param in STORES:
        return Rosbags(STORES[request.param])
    pytest.importorskip("rclpy")
    return Rclpy()


def header(make, sec=3, nanosec=4, frame="camera"):
    stamp = make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def image(make, encoding, values, pad=0, big=0, **changes):
    """Build an Image of ``values`` (H, W[, C]) whose rows end in ``pad`` bytes of rubbish."""
    values = values.astype(values.dtype.newbyteorder(">" if big else "<"))
    rows = values.reshape(len(values), -1).view(np.uint8).reshape(len(values), -1)
    rows = np.pad(rows, ((0, 0), (0, pad)), constant_values=0xEE)
    fields = {
        "header": header(make),
        "height": values.shape[0],
        "width": values.shape[1],
        "encoding": encoding,
        "is_bigendian": big,
        "step": rows.shape[1],
        "data": rows.tobytes(),
    }
    return make("sensor_msgs/msg/Image", **{**fields, **changes})


def compressed(make, fmt, data):
    return make("sensor_msgs/msg/CompressedImage", header=header(make), format=fmt, data=data)


def camera_info(make, **changes):
    roi = {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False}
    roi |= changes.pop("roi", {})
    fields = {
        "header": header(make),
        "height": 480,
        "width": 640,
        "distortion_model": "plumb_bob",
        "d": np.zeros(5),
        "k": np.array([500.0, 0, 320, 0, 510, 240, 0, 0, 1]),
        "r": np.eye(3).ravel(),
        "p": np.array([500.0, 0, 320, 0, 0, 510, 240, 0, 0, 0, 1, 0]),
        "binning_x": 0,
        "binning_y": 0,
        "roi": make("sensor_msgs/msg/RegionOfInterest", **roi),
    }
    return make("sensor_msgs/msg/CameraInfo", **{**fields, **changes})


def cloud(make, dtype, values, row_pad=0, height=1, **changes):
    """Build a PointCloud2 with the fields of a structured dtype."""
    kinds = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
    dtype = np.dtype(dtype)
    fields = [
        make(
            "sensor_msgs/msg/PointField",
            name=name,
            offset=offset,
            datatype=kinds[sub.str[1:]],
            count=1,
        )
        for name, (sub, offset) in ((n, dtype.fields[n][:2]) for n in dtype.names)
    ]
    points = np.zeros(len(values), dtype)
    for axis, name in enumerate("xyz"):
        if name in dtype.names:
            points[name] = values[:, axis]
    width = len(values) // height
    rows = points.view(np.uint8).reshape(height, -1) if len(values) else np.zeros((1, 0), np.uint8)
    rows = np.pad(rows, ((0, 0), (0, row_pad)), constant_values=0xEE)
    given = {
        "header": header(make),
        "height": height,
        "width": width,
        "fields": fields,
        "is_bigendian": any(dtype.fields[n][0].str[0] == ">" for n in dtype.names),
        "point_step": dtype.itemsize,
        "row_step": rows.shape[1],
        "data": rows.tobytes(),
        "is_dense": True,
    }
    return make("sensor_msgs/msg/PointCloud2", **{**given, **changes})


@pytest.fixture
def rgb():
    """Make a smooth RGB picture (24, 32, 3), so that interpolating encodings keep it."""
    y, x = np.mgrid[:24, :32]
    return np.stack([x * 7, y * 9, 255 - x * 3 - y * 2], axis=2).astype(np.uint8)


def test_stamp(make):
    message = image(make, "mono8", np.zeros((2, 2), np.uint8), header=header(make, 1_700_000_000))
    assert messages.stamp_ns(message.header) == 1_700_000_000_000_000_004
    assert messages.stamp_ns(message) == 1_700_000_000_000_000_004


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


def test_camera_info(make):
    d = np.array([0.26, -0.95, -0.005, 0.003, 1.16])
    p = np.array([480.0, 0, 310, 0, 0, 490, 235, 0, 0, 0, 1, 0])
    lens = messages.to_lens(camera_info(make, d=d, p=p), (480, 640))
    np.testing.assert_array_equal(lens.D, d)
    assert lens.model == "plumb_bob" and not lens.is_rectified
    np.testing.assert_array_equal(lens.K, [[500, 0, 320], [0, 510, 240], [0, 0, 1]])
    camera = messages.to_camera(camera_info(make, d=d, p=p))
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (480, 490, 310, 235)
    assert (camera.width, camera.height) == (640, 480)
    without_p = messages.to_camera(camera_info(make, d=d, p=np.zeros(12), r=np.zeros(9)))
    assert (without_p.fx, without_p.fy, without_p.cx, without_p.cy) == (500, 510, 320, 240)
    plain = messages.to_lens(camera_info(make, distortion_model="", d=np.zeros(0)))
    assert plain.is_rectified


@pytest.mark.parametrize(
    ("model", "size", "kept"),
    [
        ("rational_polynomial", 8, "rational_polynomial"),
        ("equidistant", 4, "equidistant"),
        ("fisheye", 4, "equidistant"),
    ],
)
def test_distortion_models(make, model, size, kept):
    info = camera_info(make, distortion_model=model, d=np.full(size, 0.01))
    assert messages.to_lens(info).model == kept


def test_rectified_frame_rotation(make):
    r = cv2.Rodrigues(np.array([0.0, 0.02, 0.01]))[0]
    np.testing.assert_allclose(messages.to_lens(camera_info(make, r=r.ravel())).R, r)


def test_roi_and_binning(make):
    roi = {"x_offset": 100, "y_offset": 40, "width": 400, "height": 300, "do_rectify": True}
    camera = messages.to_camera(camera_info(make, roi=roi))
    assert (camera.width, camera.height) == (400, 300)
    assert (camera.fx, camera.cx, camera.cy) == (500, 220, 200)
    info = camera_info(make, roi=roi, binning_x=2, binning_y=2)
    lens = messages.to_lens(info, (150, 200))
    expected = camera.resized(200, 150)
    np.testing.assert_allclose(lens.K, expected.K)
    np.testing.assert_allclose(lens.rectified.K, expected.K)
    # The same ray falls on the same place of the scene in full and in binned pixels.
    full = np.array([500 * 0.1 + 320, 510 * 0.2 + 240])
    binned = lens.K @ [0.1, 0.2, 1]
    np.testing.assert_allclose(binned[:2], (full - [100, 40] + 0.5) / 2 - 0.5)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"k": np.zeros(9)}, r"camera_info.k: expected focal lengths above 0, got fx = 0"),
        ({"p": np.array([0, 0, 9.0, 0, 0, 5, 9, 0, 0, 0, 1, 0])}, r"camera_info.p: expected focal"),
        ({"k": np.array([np.nan] * 9)}, r"camera_info.k: expected finite numbers"),
        ({"distortion_model": "ds"}, r"expected one of plumb_bob, rational_polynomial, equidist"),
        ({"d": np.zeros(3)}, r"expected 4, 5, 8, 12 or 14 values, got 3"),
        ({"width": 0}, r"expected a size above 0"),
        ({"roi": {"x_offset": 600, "width": 100, "height": 10}}, r"camera_info.roi: expected"),
        ({"width": 320}, r"expected the image's size 480x640, got 480x320"),
        ({"binning_x": 2, "binning_y": 2}, r"expected the image's size 480x640, got 240x320"),
    ],
)
def test_bad_camera_info(make, changes, text):
    with pytest.raises(MessageError, match=text):
        messages.to_lens(camera_info(make, **changes), (480, 640))


XYZ = [("x", "f4"), ("y", "f4"), ("z", "f4")]
LAYOUTS = {
    "plain": XYZ,
    "padded": {"names": list("xyz"), "formats": ["f4"] * 3, "offsets": [0, 4, 8], "itemsize": 32},
    "shuffled": [("intensity", "f4"), ("z", "f4"), ("ring", "u2"), ("x", "f4"), ("y", "f4")],
    "double": [("t", "u1"), ("y", "f8"), ("x", "f8"), ("z", "f8")],
    "mixed": [("x", "f8"), ("y", "f4"), ("z", "f4")],
    "big": [("x", ">f4"), ("y", ">f4"), ("z", ">f4"), ("rgb", ">u4")],
}


@pytest.mark.parametrize("row_pad", [0, 7])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_cloud_layouts(make, layout, row_pad):
    values = np.random.default_rng(1).uniform(-50, 50, (12, 3)).astype(np.float32)
    result = messages.to_points(cloud(make, LAYOUTS[layout], values, row_pad, height=3))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, values)


def test_cloud_without_returns(make):
    values = np.array([[1, 2, 3], [np.nan, 0, 0], [0, np.inf, 1], [0, 0, 0], [0, 0, 4]], np.float64)
    np.testing.assert_array_equal(
        messages.to_points(cloud(make, XYZ, values)), [[1, 2, 3], [0, 0, 4]]
    )
    huge = np.array([[1e300, 0, 1], [1, 1, 1]])
    double = [(n, "f8") for n in "xyz"]
    np.testing.assert_array_equal(messages.to_points(cloud(make, double, huge)), [[1, 1, 1]])
    for empty in (
        cloud(make, XYZ, np.zeros((0, 3))),
        cloud(make, XYZ, np.zeros((0, 3)), fields=[], point_step=0),
        cloud(make, XYZ, np.full((4, 3), np.nan)),
    ):
        assert messages.to_points(empty).shape == (0, 3)


@pytest.mark.parametrize(
    ("dtype", "changes", "text"),
    [
        (XYZ[:2], {}, "expected fields x, y, z, got x, y"),
        ([("x", "f4"), ("y", "i4"), ("z", "f4")], {}, r"points.y: expected datatype 7"),
        (XYZ, {"point_step": 0}, "expected point_step above 0, got 0"),
        (XYZ, {"row_step": 40}, r"width \* point_step = 60, got 40"),
        (XYZ, {"data": bytes(59)}, r"row_step \* height = 60 bytes, got 59"),
        (XYZ, {"point_step": 8, "width": 5}, r"points.z: expected an offset of at most 4"),
        (XYZ, {"point_step": 3}, r"points: expected point_step of at least 4 \(x\), got 3"),
    ],
)
def test_malformed_clouds(make, dtype, changes, text):
    with pytest.raises(MessageError, match=text):
        messages.to_points(cloud(make, dtype, np.ones((5, 3)), **changes))


def pose(make, q=(0.1, -0.2, 0.3, 0.9), t=(1.0, 2.0, 3.0), kind="Pose"):
    rotation = make("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", q, strict=True)))
    if kind == "Pose":
        position = make("geometry_msgs/msg/Point", **dict(zip("xyz", t, strict=True)))
        return make("geometry_msgs/msg/Pose", position=position, orientation=rotation)
    translation = make("geometry_msgs/msg/Vector3", **dict(zip("xyz", t, strict=True)))
    return make("geometry_msgs/msg/Transform", translation=translation, rotation=rotation)


def test_transforms(make):
    expected = np.array(
        [
            [0.7263157894736842, -0.6105263157894737, -0.3157894736842105],
            [0.5263157894736842, 0.7894736842105263, -0.3157894736842105],
            [0.4421052631578947, 0.0631578947368421, 0.8947368421052632],
        ]
    )
    stamped = make(
        "geometry_msgs/msg/TransformStamped",
        header=header(make),
        child_frame_id="lidar",
        transform=pose(make, kind="Transform"),
    )
    posed = make("geometry_msgs/msg/PoseStamped", header=header(make), pose=pose(make))
    covariant = make(
        "geometry_msgs/msg/PoseWithCovariance", pose=pose(make), covariance=np.zeros(36)
    )
    zero = make("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
    twist = make("geometry_msgs/msg/Twist", linear=zero, angular=zero)
    odometry = make(
        "nav_msgs/msg/Odometry",
        header=header(make),
        child_frame_id="base",
        pose=covariant,
        twist=make("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=np.zeros(36)),
    )
    for message in (pose(make), pose(make, kind="Transform"), stamped, posed, odometry):
        T = messages.to_transform(message)
        np.testing.assert_allclose(T[:3, :3], expected, atol=1e-9)
        np.testing.assert_array_equal(T[:, 3], [1, 2, 3, 1])


@pytest.mark.parametrize(
    ("q", "t", "text"),
    [
        ((0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0), "expected a quaternion of norm 1"),
        ((float("nan"), 0.0, 0.0, 1.0), (0.0, 0.0, 0.0), "expected a quaternion of norm 1"),
        ((0.0, 0.0, 0.0, 1.0), (0.0, float("inf"), 0.0), "expected a finite translation"),
    ],
)
def test_bad_transforms(make, q, t, text):
    with pytest.raises(MessageError, match=text):
        messages.to_transform(pose(make, q, t))


def test_quaternion_round_trip():
    rng = np.random.default_rng(2)
    quaternions = rng.normal(size=(50, 4))
    quaternions[:4] = np.eye(4)  # half turns about each axis, and none
    for q in quaternions:
        T = messages.matrix([1, 2, 3], q)
        np.testing.assert_allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-12)
        t, back = messages.translation_quaternion(T)
        np.testing.assert_array_equal(t, [1, 2, 3])
        assert back[3] >= 0
        np.testing.assert_allclose(messages.matrix(t, back), T, atol=1e-12)
