# SPDX-License-Identifier: Apache-2.0
"""depth_node in a process of its own, over DDS: what it publishes, from what, and when."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

import sensors
from sensor_msgs.msg import Image, PointCloud2
from sensors import SIZE, TestCamera, image_values

from depth_two_stage.ros import build
from depth_two_stage.ros.outputs import TYPES

DEPTH, INFO, POINTS = "depth/image_rect", "depth/camera_info", "points"
DISTORTION = (-0.3, 0.1, 0.001, -0.001, 0.0)


def one_frame(node, camera, *topics, **messages):
    """Send one pair; the outputs with its stamp, in the order of ``topics``."""
    stamp = camera.send(**messages)
    arrived = node.rig.until(lambda: all(node.rig.got(topic, stamp) for topic in topics))
    assert arrived, node.process.text()
    return [node.rig.got(topic, stamp) for topic in topics]


def frame_with_points(node, camera, publish, mode, *topics):
    """Send points, ``publish(stamp)``, then a pair of that stamp; the outputs made in that mode.

    Again, should the points come after their image: then they are too old for the next.
    """
    outputs = []

    def send() -> None:
        stamp = node.rig.now() + 300_000_000  # farther than lidar.max_age from all before
        publish(stamp)
        node.rig.handled()
        outputs[:] = one_frame(node, camera, *topics, stamp=stamp)
        assert node.rig.until(lambda: node.rig.values["last stamp"] == str(stamp))
        assert node.rig.until(lambda: node.rig.now() > stamp)

    assert node.rig.repeat(send, lambda: node.rig.values["mode"] == mode), node.rig.values
    return outputs


def test_every_output_has_the_images_stamp_frame_and_size(depth_node, camera):
    camera.reach(*TYPES)
    messages = dict(zip(TYPES, one_frame(depth_node, camera, *TYPES), strict=True))
    for topic, message in messages.items():
        assert message.header.frame_id == ("camera_scan" if topic == "scan" else "camera")
    for topic in (DEPTH, INFO, "depth/confidence", "depth/coarse", "image_rect", "overlay"):
        assert (messages[topic].height, messages[topic].width) == SIZE, topic
    depth = image_values(messages[DEPTH])
    assert messages[DEPTH].encoding == "32FC1"
    assert np.isfinite(depth).mean() > 0.9
    assert (depth[np.isfinite(depth)] > 0).all()
    confidence = image_values(messages["depth/confidence"])
    assert 0 <= confidence.min() < confidence.max() <= 1
    assert [field.name for field in messages[POINTS].fields] == ["x", "y", "z", "rgb"]
    assert np.array_equal(image_values(messages["image_rect"]), sensors.texture())


def test_cloud_falls_on_its_pixels_through_the_published_camera_info(depth_node, camera):
    """Projects points through the camera_info of a distorted camera, at half size."""
    assert depth_node.rig.set_parameter("output.scale", 0.5).successful
    assert depth_node.rig.set_parameter("cloud.organized", True).successful
    assert depth_node.rig.set_parameter("cloud.step", 1).successful
    try:
        camera.reach(DEPTH, INFO, POINTS, "image_rect")
        depth, info, cloud, image = one_frame(
            depth_node,
            camera,
            *(DEPTH, INFO, POINTS, "image_rect"),
            info=sensors.camera_info(D=DISTORTION),
        )
    finally:
        depth_node.rig.set_parameter("output.scale", 1.0)
        depth_node.rig.set_parameter("cloud.organized", False)
        depth_node.rig.set_parameter("cloud.step", 2)
    half = (SIZE[0] // 2, SIZE[1] // 2)
    for message in (depth, info, cloud, image):
        assert (message.height, message.width) == half
    assert not any(info.d)
    assert info.r.reshape(3, 3).tolist() == np.eye(3).tolist()
    P = np.array(info.p).reshape(3, 4)
    K = np.array([[35.0, 0, 19.5], [0, 35.0, 14.5], [0, 0, 1]])  # half-pixel centres
    assert np.allclose(P, np.hstack([K, np.zeros((3, 1))]))
    assert np.allclose(np.array(info.k).reshape(3, 3), K)
    points = np.frombuffer(bytes(cloud.data), np.float32).reshape(-1, 4)
    rows, columns = np.divmod(np.arange(len(points)), half[1])
    seen = np.isfinite(points[:, 2])
    assert seen.mean() > 0.5
    u, v, w = P[:, :3] @ points[seen, :3].T.astype(np.float64)
    assert np.abs(u / w - columns[seen]).max() < 1e-3
    assert np.abs(v / w - rows[seen]).max() < 1e-3
    assert np.allclose(points[seen, 2], image_values(depth).ravel()[seen])
    # The colour of a point is that of the pixel it falls on.
    packed = points[:, 3].copy().view(np.uint32)[seen]
    colours = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1)
    assert np.array_equal(colours, image_values(image).reshape(-1, 3)[seen])


def test_the_scan_is_the_middle_of_the_depth(depth_node, camera):
    """Its rays, put back into the image by the published camera, end where the depth is."""
    camera.reach(DEPTH, INFO, "scan")
    assert depth_node.rig.set_parameter("scan.max_height", 0.02).successful
    assert depth_node.rig.set_parameter("scan.frame", "camera_link").successful
    try:
        depth, info, scan = one_frame(depth_node, camera, DEPTH, INFO, "scan")
    finally:
        depth_node.rig.set_parameter("scan.max_height", 0.05)
        depth_node.rig.set_parameter("scan.frame", "")
    assert scan.header.frame_id == "camera_link"
    assert (scan.range_min, scan.range_max) == (pytest.approx(0.3), 10.0)
    angles = scan.angle_min + scan.angle_increment * np.arange(len(scan.ranges))
    assert angles[-1] == pytest.approx(scan.angle_max, abs=1e-5)
    ranges, values = np.array(scan.ranges), image_values(depth)
    assert np.isfinite(ranges).mean() > 0.9
    K = np.array(info.k).reshape(3, 3)
    columns = np.rint(K[0, 2] - K[0, 0] * np.tan(angles)).astype(int)
    row = values[round(K[1, 2]), columns]
    assert np.nanmedian(np.abs(ranges * np.cos(angles) - row)) < 0.01


def test_lidar_may_come_stop_and_return(depth_node, camera):
    """The depth follows the points, the mode says which; the flow never stops."""
    camera.reach(DEPTH, "overlay")
    lidar = depth_node.rig.publisher(PointCloud2, "lidar")
    assert depth_node.rig.until(lambda: lidar.get_subscription_count() > 0)
    for wall, mode in ((3.0, "rgb+lidar"), (None, "rgb"), (5.0, "rgb+lidar")):

        def publish(stamp: int, wall=wall) -> None:
            if wall is not None:
                lidar.publish(sensors.cloud(sensors.wall(wall), stamp - 20_000_000))

        depth, overlay = frame_with_points(depth_node, camera, publish, mode, DEPTH, "overlay")
        assert (int(depth_node.rig.values["points in view"]) > 50) is (wall is not None)
        values = image_values(depth)
        expected = 2.8 * 70 / 80 * 76 / 64.75 if wall is None else wall
        assert np.nanmedian(values) == pytest.approx(expected, rel=0.02)
        drawn = not np.array_equal(image_values(overlay), sensors.texture())
        assert drawn is (wall is not None)
    depth_node.rig.node.destroy_publisher(lidar)


def test_sparse_depth_image_is_used_like_points(depth_node, camera):
    camera.reach(DEPTH)
    sparse = depth_node.rig.publisher(Image, "sparse_depth")
    assert depth_node.rig.until(lambda: sparse.get_subscription_count() > 0)
    values = np.zeros(SIZE, np.uint16)
    values[::6, ::6] = 1500

    def publish(stamp: int) -> None:
        message = Image(height=SIZE[0], width=SIZE[1], encoding="16UC1", step=2 * SIZE[1])
        message.data = build.data(values)
        message.header.stamp = build.time(stamp)
        sparse.publish(message)

    (depth,) = frame_with_points(depth_node, camera, publish, "rgb+sparse_depth", DEPTH)
    assert np.nanmedian(image_values(depth)) == pytest.approx(1.5, rel=0.02)
    # One that no other supports is left out, and counted.
    values[24, 36] = 9000
    (depth,) = frame_with_points(depth_node, camera, publish, "rgb+sparse_depth", DEPTH)
    assert image_values(depth)[24, 36] == pytest.approx(1.5, rel=0.05)
    key = "points unused: taken for wrong"
    assert depth_node.rig.until(lambda: depth_node.rig.count(key) > 0)
    # One that holds nothing is counted, and the image goes on without.
    values[:] = 0
    key = "points unused: sparse_depth empty"
    assert depth_node.rig.repeat(
        lambda: frame_with_points(depth_node, camera, publish, "rgb", DEPTH),
        lambda: depth_node.rig.count(key) > 0,
    )
    assert depth_node.rig.count(key) == 1
    depth_node.rig.node.destroy_publisher(sparse)


def test_image_size_may_change_while_it_runs(depth_node, camera):
    camera.reach(DEPTH, INFO)
    for size in (SIZE, (48, 101), (33, 64), SIZE):
        depth, info = one_frame(
            depth_node,
            camera,
            DEPTH,
            INFO,
            image=sensors.rgb_image(size),
            info=sensors.camera_info(size),
        )
        assert (depth.height, depth.width) == (info.height, info.width) == size


def test_nothing_is_computed_for_nobody(depth_node, camera):
    # The readers of the test before are gone, for the node too.
    assert depth_node.rig.until(lambda: not any(map(depth_node.rig.readers, TYPES)))
    before = depth_node.rig.fresh_values()
    key = "frames without subscriber"
    assert camera.stream(lambda: depth_node.rig.count(key) >= int(before[key]) + 5)
    after = depth_node.rig.fresh_values()
    assert after["frames processed"] == before["frames processed"]
    # The rectified image alone needs no network.
    camera.reach("image_rect")
    network = after.get("estimator total ms")
    one_frame(depth_node, camera, "image_rect")
    assert depth_node.rig.fresh_values().get("estimator total ms") == network


def test_newest_frame_wins_and_every_frame_is_accounted_for(depth_node, camera):
    camera.reach(DEPTH)
    one_frame(depth_node, camera, DEPTH)  # losses are counted from the first frame on
    before = depth_node.rig.fresh_values()
    last = [camera.send() for _ in range(40)][-1]
    assert depth_node.rig.until(lambda: depth_node.rig.got(DEPTH, last))
    after = depth_node.rig.fresh_values()

    def more(key):
        return int(after.get(key, 0)) - int(before.get(key, 0))

    dropped = sum(more(key) for key in after if key.startswith("dropped: "))
    assert more("frames in") == 40
    assert more("frames processed") + dropped == 40
    assert more("frames processed") > 0
    assert dropped > 0


def test_compressed_images_are_used_when_there_are_no_others(depth_node):
    camera = TestCamera(depth_node.rig, compressed=True)
    camera.connect()
    camera.reach("image_rect")
    (image,) = one_frame(depth_node, camera, "image_rect", image=sensors.jpeg_image())
    difference = image_values(image).astype(int) - sensors.texture().astype(int)
    assert np.abs(difference).mean() < 8
    depth_node.rig.ignore()
    camera.close()


def test_best_effort_camera_is_adopted_and_said(depth_node):
    camera = TestCamera(depth_node.rig, reliable=False)
    camera.connect()
    camera.reach(DEPTH)
    assert "/image (Image) from rig: best effort, volatile (as its publisher)" in (
        depth_node.process.text()
    )
    depth_node.rig.ignore()
    camera.close()


def test_the_weakest_of_two_publishers_is_adopted(depth_node, camera):
    """A best-effort publisher that joins a reliable one must be heard too."""
    camera.reach(DEPTH)

    def adopted() -> str:
        lines = depth_node.process.text().splitlines()
        return next((line for line in lines[::-1] if "/image (Image) from rig: " in line), "")

    assert camera.stream(lambda: "reliable" in adopted())
    weak = TestCamera(depth_node.rig, reliable=False)
    line = "best effort, volatile (the weakest of 2 publishers)"
    assert weak.stream(lambda: adopted().endswith(line))
    weak.connect()
    sent = []  # each of them may be lost
    assert depth_node.rig.repeat(
        lambda: sent.append(weak.send()),
        lambda: any(depth_node.rig.got(DEPTH, stamp) for stamp in sent),
    )
    weak.close()


def test_parameters_change_at_run_time_or_are_read_only(depth_node, camera):
    camera.reach(DEPTH)
    assert depth_node.rig.set_parameter("output.encoding", "16UC1").successful
    (depth,) = one_frame(depth_node, camera, DEPTH)
    assert depth_node.rig.set_parameter("output.encoding", "32FC1").successful
    assert depth.encoding == "16UC1"
    assert 2000 < np.median(image_values(depth)) < 4000
    for name, value, said in (
        ("estimator.engine", "openvino", "read-only"),
        ("lidar.max_age", 11.0, "out of range"),
        ("estimator.anchor", "glue", "expected one of 'none', 'scale', 'residual', got 'glue'"),
        ("lidar.extrinsics", [1.0, 2.0], "lidar.extrinsics: expected 7 numbers"),
    ):
        result = depth_node.rig.set_parameter(name, value)
        assert not result.successful
        assert said in result.reason


def test_depth_that_comes_too_late_is_not_published(depth_node, camera):
    camera.reach(DEPTH)
    assert depth_node.rig.set_parameter("output.max_latency", 20).successful  # an integer will do
    late = camera.send(stamp=depth_node.rig.now() - 50_000_000_000)
    assert depth_node.rig.until(lambda: depth_node.rig.count("dropped: too late") == 1)
    (_,) = one_frame(depth_node, camera, DEPTH)
    assert depth_node.rig.set_parameter("output.max_latency", 0.0).successful
    assert depth_node.rig.got(DEPTH, late) is None
    assert depth_node.rig.fresh_values()["dropped: too late"] == "1"
    assert "output.max_latency: expected depth at most 20 s after its image" in (
        depth_node.process.text()
    )


def test_diagnostics_say_what_runs(depth_node, camera, tiny):
    camera.reach(DEPTH)
    one_frame(depth_node, camera, DEPTH)
    values = depth_node.rig.fresh_values()
    assert depth_node.rig.status.name == "depth_node"
    assert values["model"] == tiny.stem
    assert len(values["checksum"]) >= 12
    assert (values["engine"], values["precision"], values["device"]) == ("torch", "fp32", "cpu")
    for step in ("decode", "points", "estimator network", "publish", "total"):
        assert float(values[f"{step} ms"]) >= 0
    assert 0 <= float(values["input age ms"]) < 10_000
    assert values["mode"] == "rgb"
