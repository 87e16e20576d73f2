# SPDX-License-Identifier: Apache-2.0
"""Bad input over DDS: depth_node goes on, loses nothing good, and says one clear line."""

from array import array

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rig
from rig import SIZE, TestCamera, stamp_of
from sensor_msgs.msg import Image, PointCloud2

DEPTH = "depth/image_rect"


@pytest.fixture
def good(depth_node, camera):
    """Sends a good frame and waits for its depth: the node has survived."""
    depth_node.rig.listen(DEPTH)
    depth_node.rig.spin(0.3)

    def check(**messages) -> None:
        stamp = camera.send(**messages)
        heard = depth_node.rig.heard[DEPTH]
        assert depth_node.rig.until(lambda: any(stamp_of(m) == stamp for m in heard), 15.0), (
            depth_node.process.text()
        )

    check()
    return check


def said_once(node, line: str) -> None:
    """The line comes, in one piece, and only once for several bad messages."""
    assert node.rig.until(lambda: line in node.process.text(), 10.0), node.process.text()
    assert node.process.text().count(line) == 1
    assert "Traceback" not in node.process.text()


def broken_image(**changes) -> Image:
    image = rig.rgb_image()
    for name, value in changes.items():
        setattr(image, name, value)
    return image


def counted(node, key: str, more: int, before: dict) -> bool:
    """Whether the diagnostics' counter has grown by so much (more would show as well)."""
    wanted = int(before.get(key, 0)) + more
    return node.rig.until(lambda: int(node.rig.values.get(key, 0)) == wanted, 5.0)


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        ({"encoding": "rgb99"}, "got 'rgb99'"),
        ({"encoding": "32FC1"}, "got '32FC1'"),
        ({"encoding": ""}, "got ''"),
        ({"data": array("B", bytes(100))}, "image: expected step * height = 14400 bytes, got 100"),
        ({"step": 10}, "image: expected a step of at least 240 bytes"),
        ({"height": 0, "data": array("B")}, "image: expected a size above 0, got"),
        ({"width": 0, "step": 0, "data": array("B")}, "image: expected a size above 0, got"),
    ],
    ids=["unknown encoding", "depth", "no encoding", "short", "step", "no rows", "no columns"],
)
def test_unusable_image(depth_node, camera, good, broken, line):
    before = depth_node.rig.values
    for _ in range(2):
        camera.send(image=broken_image(**broken))
        depth_node.rig.spin(0.2)
    good()
    assert counted(depth_node, "dropped: unusable image", 2, before)
    said_once(depth_node, line)


@pytest.mark.parametrize(
    ("info", "line"),
    [
        (rig.camera_info(f=0.0), "camera_info.k: expected focal lengths above 0, got fx = 0"),
        (rig.camera_info((30, 40)), "camera_info: expected the image's size 60x80, got 30x40"),
        (rig.camera_info(D=(float("nan"),) * 5), "camera_info.d: expected finite numbers"),
    ],
    ids=["zero fx", "another size", "NaN"],
)
def test_unusable_camera_info(depth_node, camera, good, info, line):
    before = depth_node.rig.values
    camera.send(info=info)
    depth_node.rig.spin(0.2)
    good()
    assert counted(depth_node, "dropped: unusable image", 1, before)
    said_once(depth_node, line)


def test_images_without_their_camera_info(depth_node, camera, good):
    """Constant or missing camera_info is never stamped anew: no depth, and the reason."""
    heard = len(depth_node.rig.heard[DEPTH])
    for _ in range(8):
        image = rig.rgb_image()
        image.header.stamp = rig.ros_time(depth_node.rig.now())
        camera.images.publish(image)
        depth_node.rig.spin(0.05)
    depth_node.rig.spin(0.3)
    assert len(depth_node.rig.heard[DEPTH]) == heard
    said_once(depth_node, "camera_info: expected a message on /camera_info with the image's stamp")
    good()


def test_stamps_zero_repeated_and_backwards(depth_node, camera, good):
    heard = depth_node.rig.heard[DEPTH]
    before = depth_node.rig.values
    camera.send(stamp=0)
    depth_node.rig.spin(0.2)
    good()
    again = stamp_of(heard[-1])
    for stamp in (again, again - 30_000_000):
        camera.send(stamp=stamp)
        depth_node.rig.spin(0.2)
    assert [stamp_of(m) for m in heard].count(again) == 1
    assert again - 30_000_000 not in [stamp_of(m) for m in heard]
    for reason in ("stamp zero", "stamp repeated", "stamp backwards"):
        assert counted(depth_node, f"dropped: {reason}", 1, before)
    said_once(depth_node, "image: expected a stamp above 0, got 0")
    said_once(depth_node, "image: expected a stamp after the last, got one 30.0 ms before")
    good()


def test_a_recording_that_begins_again_goes_on(depth_node, camera, good):
    """Old stamps, as of a bag without /clock, and a jump back: used, and said."""
    good(stamp=1_300_000_010_000_000_000)
    good(stamp=1_300_000_010_100_000_000)
    good(stamp=1_300_000_000_000_000_000)
    said_once(depth_node, "image stamps went back by 10.100 s: starting again from there")
    good(stamp=depth_node.rig.now())


def cloud_without_z() -> PointCloud2:
    message = rig.cloud(rig.wall(), 1)
    message.fields = message.fields[:2]
    return message


def cloud_cut_short() -> PointCloud2:
    message = rig.cloud(rig.wall(), 1)
    message.data = message.data[:-100]
    return message


def cloud_of_text() -> PointCloud2:
    message = rig.cloud(rig.wall(), 1)
    message.fields[0].datatype = 42
    return message


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (cloud_without_z(), "lidar malformed"),
        (cloud_cut_short(), "lidar malformed"),
        (cloud_of_text(), "lidar malformed"),
        (rig.cloud(np.full((50, 3), np.nan), 1), "lidar out of view"),
        (rig.cloud(np.full((50, 3), np.inf), 1), "lidar out of view"),
        (rig.cloud(np.zeros((0, 3)), 1), "lidar out of view"),
        (rig.cloud(rig.wall(-4.0), 1), "lidar out of view"),
    ],
    ids=["no z", "cut short", "wrong type", "NaN", "infinite", "empty", "behind"],
)
def test_bad_clouds_leave_the_image_alone(depth_node, camera, good, message, reason):
    lidar = depth_node.rig.publisher(PointCloud2, "lidar")
    assert depth_node.rig.until(lambda: lidar.get_subscription_count() > 0)
    before = depth_node.rig.values
    stamp = depth_node.rig.now() + 300_000_000
    message.header.stamp = rig.ros_time(stamp)
    lidar.publish(message)
    depth_node.rig.spin(0.2)
    good(stamp=stamp)
    assert counted(depth_node, f"points unused: {reason}", 1, before)
    assert depth_node.rig.values["mode"] == "rgb"
    depth_node.rig.node.destroy_publisher(lidar)
    depth_node.rig.spin(0.4)


def test_corrupt_jpeg(depth_node):
    camera = TestCamera(depth_node.rig, compressed=True)
    camera.connect()
    depth_node.rig.listen(DEPTH)
    depth_node.rig.spin(0.3)
    whole = bytes(rig.jpeg_image().data)
    before = depth_node.rig.values
    header = b"\x89PNG\r\n\x1a\n" + bytes(100)  # of which OpenCV would say something of its own
    for data in (b"", b"no image at all", whole[: len(whole) // 2], header):
        image = rig.jpeg_image()
        image.data = array("B", data)
        camera.send(image=image)
        depth_node.rig.spin(0.2)
    stamp = camera.send(image=rig.jpeg_image())
    heard = depth_node.rig.heard[DEPTH]
    assert depth_node.rig.until(lambda: any(stamp_of(m) == stamp for m in heard))
    assert counted(depth_node, "dropped: unusable image", 4, before)
    lines = depth_node.process.text().splitlines()
    assert [line for line in lines if not line.startswith(("[INFO] [", "[WARN] ["))] == []
    about = [line for line in lines if "expected a complete JPEG or PNG" in line]
    assert len(about) == 1, about  # the same but for its numbers
    depth_node.rig.ignore()
    camera.close()


def test_padded_rows_and_other_encodings_are_read(depth_node, camera):
    """bgra8 with padded rows gives the same picture."""
    depth_node.rig.listen("image_rect")
    depth_node.rig.spin(0.3)
    padded = np.zeros((SIZE[0], SIZE[1] * 4 + 12), np.uint8)
    pixels = padded[:, : SIZE[1] * 4].reshape(*SIZE, 4)
    pixels[..., :3] = rig.texture()[..., ::-1]
    image = Image(height=SIZE[0], width=SIZE[1], encoding="bgra8", step=padded.shape[1])
    image.data = rig.data(padded)
    stamp = camera.send(image=image)
    heard = depth_node.rig.heard["image_rect"]
    assert depth_node.rig.until(lambda: any(stamp_of(m) == stamp for m in heard))
    assert np.array_equal(rig.image_values(heard[-1]), rig.texture())
