# SPDX-License-Identifier: Apache-2.0
"""Bad input over DDS: depth_node goes on, loses nothing good, and says one clear line."""

import time
from array import array

import numpy as np
import pytest

pytest.importorskip("rclpy")

import sensors
from sensor_msgs.msg import Image, PointCloud2
from sensors import SIZE, TestCamera

from depth_two_stage.messages import stamp_ns
from depth_two_stage.ros import build
from depth_two_stage.ros.reports import REPEAT

DEPTH = "depth/image_rect"


@pytest.fixture
def good(depth_node, camera):
    """Sends a good frame and waits for its depth: the node has survived; the frame's stamp."""
    camera.reach(DEPTH)

    def check(**messages) -> int:
        stamp = camera.send(**messages)
        arrived = depth_node.rig.until(lambda: depth_node.rig.got(DEPTH, stamp))
        assert arrived, depth_node.process.text()
        return stamp

    check()
    return check


@pytest.fixture(scope="module")
def lidar(depth_node):
    """A LiDAR that depth_node reads."""
    made = depth_node.rig.publisher(PointCloud2, "lidar")
    assert depth_node.rig.until(lambda: made.get_subscription_count() > 0)
    yield made
    depth_node.rig.node.destroy_publisher(made)


@pytest.fixture
def said_once(depth_node):
    """Waits for a line: it comes in one piece, and only once for several bad messages."""
    began, before = time.monotonic(), len(depth_node.process.text())

    def check(line: str) -> None:
        text = depth_node.process.text
        assert depth_node.rig.until(lambda: line in text()), text()
        said = [each for each in text()[before:].splitlines() if line in each]
        drops = [each for each in said if "no output for" not in each]  # that is the watchdog
        assert len(drops) <= 1 + (time.monotonic() - began) // REPEAT, text()  # what lasts repeats
        assert "Traceback" not in text()

    return check


def broken_image(**changes) -> Image:
    image = sensors.rgb_image()
    for name, value in changes.items():
        setattr(image, name, value)
    return image


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
def test_unusable_image(depth_node, camera, good, said_once, broken, line):
    before = depth_node.rig.values
    for number in (1, 2):  # one at a time: a newer image would take its place
        camera.send(image=broken_image(**broken))
        assert depth_node.rig.grown("dropped: unusable image", before, number)
    good()
    said_once(line)


@pytest.mark.parametrize(
    ("info", "line"),
    [
        (sensors.camera_info(f=0.0), "camera_info.k: expected focal lengths above 0, got fx = 0"),
        (sensors.camera_info((30, 40)), "camera_info: expected the image's size 60x80, got 30x40"),
        (sensors.camera_info(D=(float("nan"),) * 5), "camera_info.d: expected finite numbers"),
    ],
    ids=["zero fx", "another size", "NaN"],
)
def test_unusable_camera_info(depth_node, camera, good, said_once, info, line):
    before = depth_node.rig.values
    camera.send(info=info)
    assert depth_node.rig.grown("dropped: unusable image", before, 1)
    good()
    said_once(line)


def test_images_without_their_camera_info(depth_node, camera, good, said_once):
    """Constant or missing camera_info is never stamped anew: no depth, and the reason."""
    line = "camera_info: expected a message on /camera_info with the image's stamp"
    alone = []

    def send_alone() -> None:
        image = sensors.rgb_image()
        alone.append(depth_node.rig.now())
        image.header.stamp = build.time(alone[-1])
        camera.images.publish(image)

    depth_node.rig.repeat(send_alone, lambda: line in depth_node.process.text(), period=0.05)
    said_once(line)
    good()
    assert not [stamp for stamp in alone if depth_node.rig.got(DEPTH, stamp)]


def test_stamps_zero_repeated_and_backwards(depth_node, camera, good, said_once):
    before = depth_node.rig.values
    camera.send(stamp=0)
    assert depth_node.rig.grown("dropped: stamp zero", before, 1)
    again = good()
    camera.send(stamp=again)
    assert depth_node.rig.grown("dropped: stamp repeated", before, 1)
    camera.send(stamp=again - 30_000_000)
    assert depth_node.rig.grown("dropped: stamp backwards", before, 1)
    said_once("image: expected a stamp above 0, got 0")
    said_once("image: expected a stamp after the last, got one 30.0 ms before")
    good()
    stamps = [stamp_ns(message) for message in depth_node.rig.heard[DEPTH]]
    assert stamps.count(again) == 1
    assert again - 30_000_000 not in stamps


def test_a_recording_that_begins_again_goes_on(depth_node, camera, good, said_once):
    """Old stamps, as of a bag without /clock, and a jump back: used, and said."""
    good(stamp=1_300_000_010_000_000_000)
    good(stamp=1_300_000_010_100_000_000)
    good(stamp=1_300_000_000_000_000_000)
    said_once("image stamps went back by 10.100 s: starting again from there")
    good(stamp=depth_node.rig.now())


def cloud_without_z() -> PointCloud2:
    message = sensors.cloud(sensors.wall(), 1)
    message.fields = message.fields[:2]
    return message


def cloud_cut_short() -> PointCloud2:
    message = sensors.cloud(sensors.wall(), 1)
    message.data = message.data[:-100]
    return message


def cloud_of_text() -> PointCloud2:
    message = sensors.cloud(sensors.wall(), 1)
    message.fields[0].datatype = 42
    return message


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (cloud_without_z(), "lidar malformed"),
        (cloud_cut_short(), "lidar malformed"),
        (cloud_of_text(), "lidar malformed"),
        (sensors.cloud(np.full((50, 3), np.nan), 1), "lidar out of view"),
        (sensors.cloud(np.full((50, 3), np.inf), 1), "lidar out of view"),
        (sensors.cloud(np.zeros((0, 3)), 1), "lidar out of view"),
        (sensors.cloud(sensors.wall(-4.0), 1), "lidar out of view"),
    ],
    ids=["no z", "cut short", "wrong type", "NaN", "infinite", "empty", "behind"],
)
def test_bad_clouds_leave_the_image_alone(depth_node, lidar, good, message, reason):
    before = depth_node.rig.values
    key = f"points unused: {reason}"

    def send() -> None:
        stamp = depth_node.rig.now() + 300_000_000
        message.header.stamp = build.time(stamp)
        lidar.publish(message)
        depth_node.rig.handled()
        good(stamp=stamp)
        assert depth_node.rig.until(lambda: depth_node.rig.values["last stamp"] == str(stamp))
        assert depth_node.rig.until(lambda: depth_node.rig.now() > stamp)

    # Again, should the cloud come after its image: then it is too old for the next.
    assert depth_node.rig.repeat(send, lambda: depth_node.rig.count(key) > int(before.get(key, 0)))
    assert depth_node.rig.grown(key, before, 1)
    assert depth_node.rig.values["mode"] == "rgb"


def test_corrupt_jpeg(depth_node, said_once):
    camera = TestCamera(depth_node.rig, compressed=True)
    camera.connect()
    camera.reach(DEPTH)
    whole = bytes(sensors.jpeg_image().data)
    before = depth_node.rig.values
    header = b"\x89PNG\r\n\x1a\n" + bytes(100)  # of which OpenCV would say something of its own
    for number, data in enumerate((b"", b"no image at all", whole[: len(whole) // 2], header), 1):
        image = sensors.jpeg_image()
        image.data = array("B", data)
        camera.send(image=image)
        assert depth_node.rig.grown("dropped: unusable image", before, number)
    stamp = camera.send()
    assert depth_node.rig.until(lambda: depth_node.rig.got(DEPTH, stamp))
    lines = depth_node.process.text().splitlines()
    assert [line for line in lines if not line.startswith(("[INFO] [", "[WARN] ["))] == []
    said_once("expected a complete JPEG or PNG")  # the same but for its numbers
    depth_node.rig.ignore()
    camera.close()


def test_padded_rows_and_other_encodings_are_read(depth_node, camera):
    """bgra8 with padded rows gives the same picture."""
    camera.reach("image_rect")
    padded = np.zeros((SIZE[0], SIZE[1] * 4 + 12), np.uint8)
    pixels = padded[:, : SIZE[1] * 4].reshape(*SIZE, 4)
    pixels[..., :3] = sensors.texture()[..., ::-1]
    image = Image(height=SIZE[0], width=SIZE[1], encoding="bgra8", step=padded.shape[1])
    image.data = build.data(padded)
    stamp = camera.send(image=image)
    assert depth_node.rig.until(lambda: depth_node.rig.got("image_rect", stamp))
    found = sensors.image_values(depth_node.rig.got("image_rect", stamp))
    assert np.array_equal(found, sensors.texture())
