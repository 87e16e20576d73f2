# SPDX-License-Identifier: Apache-2.0
"""Bags as a data set: every storage, ROS 1 and 2, damaged ones, and topics that are not there."""

import logging
import pickle
import re

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from depth_two_stage.camera import Lens
from depth_two_stage.datasets import DatasetError, open_dataset
from depth_two_stage.datasets import bag_messages as build
from depth_two_stage.datasets.bag_ros1 import ros1_typestore
from depth_two_stage.datasets.sparse import R_CAMERA_LIDAR

START, STEP = 1_700_000_000_000_000_000, 100_000_000
K = np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]])
POINTS = np.array([[2.0, 0, 0], [3, 0.5, 0.2], [np.nan, 0, 0]], np.float32)


def picture(index):
    y, x = np.mgrid[:48, :64]
    return np.stack([x * 3, y * 4, np.full_like(x, 20 * index)], axis=2).astype(np.uint8)


def raw_image(stamp, rgb, frame="camera", encoding="rgb8"):
    return build.message(
        "sensor_msgs/msg/Image",
        header=build.header(stamp, frame),
        height=rgb.shape[0],
        width=rgb.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=rgb.shape[1] * 3,
        data=np.ascontiguousarray(rgb).reshape(-1),
    )


def pose_of(index):
    T = np.eye(4)
    T[0, 3] = 0.1 * index
    return T


def recording(frames=6, lens=None):
    """List (topic, time, message) of a camera with depth, a LiDAR, poses and static transforms."""
    lens = lens or Lens(64, 48, K)
    T_camera_lidar = np.eye(4)
    T_camera_lidar[:3, :3], T_camera_lidar[:3, 3] = R_CAMERA_LIDAR, (0, -0.1, 0.05)
    tree = [("base", "camera", np.eye(4)), ("camera", "lidar", T_camera_lidar)]
    items = [("/tf_static", START, build.transforms(START, tree))]
    for i in range(frames):
        stamp = START + i * STEP
        items += [
            ("/cam/camera_info", stamp, build.camera_info(stamp, "camera", lens)),
            ("/truth/pose", stamp - STEP // 2, build.pose(stamp - STEP // 2, "map", pose_of(i))),
            ("/velodyne_points", stamp, build.cloud(stamp + 5_000_000, "lidar", POINTS)),
            ("/cam/image_raw", stamp, raw_image(stamp, picture(i))),
        ]
        if i % 2 == 0:
            depth = np.full((48, 64), 1 + i, np.float32)
            items.append(("/cam/depth/image", stamp, build.depth_image(stamp, "camera", depth)))
    return items


def write(path, items, storage=StoragePlugin.MCAP, compression=None, damaged=None):
    """Write a rosbag2 of (topic, time, message); `damaged` is topic → what to write instead."""
    store = build.typestore()
    writer = Writer(path, version=8, storage_plugin=storage)
    if compression is not None:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for topic, time, message in items:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            raw = (damaged or {}).get(topic) or store.serialize_cdr(message, kind)
            writer.write(connections[topic], time, raw)
    return path


def write_ros1(path, items):
    """Write the same as a ROS 1 bag: its header has a seq, its camera_info K, D, R, P."""
    old = ros1_typestore()

    def back(message):
        if isinstance(message, list):
            return [back(item) for item in message]
        if not hasattr(message, "__msgtype__"):
            return message
        cls = old.types[message.__msgtype__]
        fields = {k: back(getattr(message, k)) for k in message.__dataclass_fields__}
        fields.pop("__msgtype__", None)
        if message.__msgtype__ == "std_msgs/msg/Header":
            fields["seq"] = 7
        if message.__msgtype__ == "sensor_msgs/msg/CameraInfo":
            fields = {k.upper() if k in "dkrp" else k: v for k, v in fields.items()}
        return cls(**fields)

    with Writer1(path) as writer:
        connections = {}
        for topic, time, message in items:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=old)
            writer.write(connections[topic], time, old.serialize_ros1(back(message), kind))
    return path


FORMATS = {
    "mcap": (StoragePlugin.MCAP, None),
    "mcap, zstd chunks": (StoragePlugin.MCAP, CompressionMode.STORAGE),
    "mcap, zstd messages": (StoragePlugin.MCAP, CompressionMode.MESSAGE),
    "sqlite3": (StoragePlugin.SQLITE3, None),
    "sqlite3, zstd file": (StoragePlugin.SQLITE3, CompressionMode.FILE),
    "ros1": None,
}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_storage_gives_the_same_samples(tmp_path, kind):
    if kind == "ros1":
        path = write_ros1(tmp_path / "old.bag", recording())
    else:
        path = write(tmp_path / "bag", recording(), *FORMATS[kind])
    dataset = open_dataset("bag", path)
    assert dataset.problem is None and len(dataset) == 6
    assert dataset.topics == {
        "image": "/cam/image_raw",
        "camera_info": "/cam/camera_info",
        "depth": "/cam/depth/image",
        "points": "/velodyne_points",
        "pose": "/truth/pose",
    }
    for i in (4, 0, 5, 3):  # random access
        sample = dataset[i]
        assert sample.stamp == START + i * STEP
        np.testing.assert_array_equal(sample.rgb, picture(i))
        np.testing.assert_allclose(sample.camera.K, K)
        np.testing.assert_array_equal(sample.points, POINTS[:2])
        np.testing.assert_allclose(sample.T_camera_lidar[:3, 3], [0, -0.1, 0.05], atol=1e-12)
        if i % 2:
            assert sample.depth is None
        else:
            np.testing.assert_array_equal(sample.depth, np.full((48, 64), 1 + i))
        if i < 5:  # between two poses of half a frame before and after
            np.testing.assert_allclose(sample.T_world_camera[0, 3], 0.1 * i + 0.05, atol=1e-9)
        else:
            assert sample.T_world_camera is None
    assert [s.stamp for s in dataset[2:4]] == [START + 2 * STEP, START + 3 * STEP]


def test_a_copy_for_another_process(tmp_path):
    dataset = open_dataset("bag", write(tmp_path / "bag", recording(3)))
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[2].rgb, dataset[2].rgb)


def test_distortion_is_rectified_together_unless_done_already(tmp_path):
    lens = Lens(64, 48, K, np.array([0.3, -0.4, 0, 0, 0]))
    items = recording(1, lens)
    sample = open_dataset("bag", write(tmp_path / "raw", items))[0]
    np.testing.assert_array_equal(sample.rgb, lens.rectify_image(picture(0)))
    np.testing.assert_array_equal(sample.depth, lens.rectify_depth(np.ones((48, 64), np.float32)))
    rgb, depth = open_dataset("bag", tmp_path / "raw").raw(0)
    np.testing.assert_array_equal(rgb, picture(0))
    assert (depth == 1).all()
    renamed = [(t.replace("image_raw", "image_rect"), time, m) for t, time, m in items]
    sample = open_dataset("bag", write(tmp_path / "rect", renamed))[0]
    np.testing.assert_array_equal(sample.rgb, picture(0))


def test_topics_can_be_chosen_or_left_out(tmp_path):
    items = recording(2) + [
        ("/other/image", START + i * STEP, raw_image(START + i * STEP, picture(i) // 2))
        for i in range(2)
    ]
    path = write(tmp_path / "bag", items)
    assert open_dataset("bag", path).topics["image"] == "/cam/image_raw"
    split = "image=/other/image, points=none,depth=none,pose=none"
    sample = open_dataset("bag", path, split)[1]
    np.testing.assert_array_equal(sample.rgb, picture(1) // 2)
    assert sample.points is None and sample.depth is None and sample.T_world_camera is None
    with pytest.raises(DatasetError) as error:
        open_dataset("bag", path, "image=/camera/color")
    assert "'/camera/color'" in str(error.value) and "/cam/image_raw, /other" in str(error.value)
    with pytest.raises(DatasetError, match="split: expected ROLE=TOPIC of image, camera_info"):
        open_dataset("bag", path, "train")
    with pytest.raises(DatasetError, match=r"split pose: expected a topic of .*Odometry; got sens"):
        open_dataset("bag", path, "pose=/cam/depth/image")


@pytest.mark.parametrize("storage", StoragePlugin)
def test_a_bag_cut_off_whose_messages_are_compressed_is_read(tmp_path, storage):
    path = write(tmp_path / "bag", recording(6), storage, CompressionMode.MESSAGE)
    (path / "metadata.yaml").unlink()  # which said that they are
    np.testing.assert_array_equal(open_dataset("bag", path)[3].rgb, picture(3))


@pytest.mark.parametrize("storage", StoragePlugin)
def test_a_compressed_file_cut_off_is_an_error(tmp_path, storage):
    path = write(tmp_path / "bag", recording(6), storage, CompressionMode.FILE)
    file = next(path.glob("*.zstd"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DatasetError, match="bag: expected a readable rosbag2"):
        open_dataset("bag", path)


@pytest.mark.parametrize("topic", ["/cam/image_raw", "/tf_static", "/cam/camera_info"])
def test_damaged_messages_are_named(tmp_path, topic):
    items, damaged = recording(2), bytes(range(3, 23))
    path = write(tmp_path / "bag", items, damaged={topic: damaged})
    with pytest.raises(DatasetError, match=r"expected a .*, got bad data"):
        open_dataset("bag", path)


@pytest.mark.parametrize(
    ("without", "text"),
    [
        ("/cam/image_raw", "expected a image topic, got only /cam/camera_info"),
        ("/cam/camera_info", "expected a camera_info topic, got only /cam/depth/image"),
        ("/tf_static", r"expected /tf_static to join lidar to camera, got no chain"),
    ],
)
def test_what_is_missing_is_named(tmp_path, without, text):
    items = [item for item in recording(2) if item[0] != without]
    with pytest.raises(DatasetError, match=text):
        open_dataset("bag", write(tmp_path / "bag", items))


def test_unregistered_depth_is_refused(tmp_path):
    items = recording(2)
    depth = build.depth_image(START, "depth_frame", np.ones((48, 64), np.float32))
    items = [i if i[0] != "/cam/depth/image" else (*i[:2], depth) for i in items]
    path = write(tmp_path / "bag", items)
    with pytest.raises(DatasetError, match="expected depth registered to the image's frame camera"):
        open_dataset("bag", path)
    assert open_dataset("bag", path, "depth=none")[0].depth is None


def test_depth_of_half_size(tmp_path):
    half = np.arange(24 * 32, dtype=np.float32).reshape(24, 32) / 100 + 1
    items = [i for i in recording(1) if i[0] != "/cam/depth/image"]
    items.append(("/cam/depth/image", START, build.depth_image(START, "camera", half)))
    depth = open_dataset("bag", write(tmp_path / "bag", items))[0].depth
    np.testing.assert_allclose(depth, half.repeat(2, 0).repeat(2, 1), atol=6e-4)


def test_bad_messages_name_the_frame(tmp_path):
    items = recording(3)
    jpeg = build.jpeg(START, "camera", picture(0), 90)
    packed = [(f"{t}/compressed", *rest) if t.endswith("raw") else (t, *rest) for t, *rest in items]
    packed = [
        (t, time, build.jpeg(time, "camera", picture(0), 90)) if "compressed" in t else (t, time, m)
        for t, time, m in packed
    ]
    place = [i for i, item in enumerate(packed) if "compressed" in item[0]][1]
    jpeg.data, stamp = jpeg.data[:200], packed[place][1]
    jpeg.header = build.header(stamp, "camera")
    packed[place] = (*packed[place][:2], jpeg)
    dataset = open_dataset("bag", write(tmp_path / "jpeg", packed))
    assert dataset[0].rgb.shape == (48, 64, 3)
    with pytest.raises(DatasetError, match=f"frame {stamp}: image .*expected a complete JPEG"):
        dataset[1]
    small = recording(1)
    small = [
        i if i[0] != "/cam/image_raw" else (*i[:2], raw_image(START, picture(0)[:40]))
        for i in small
    ]
    with pytest.raises(DatasetError, match="expected the camera_info's size 48x64, got 40x64"):
        open_dataset("bag", write(tmp_path / "small", small), "depth=none")[0]
    K0 = build.camera_info(START, "camera", Lens(64, 48, K))
    K0.k = np.zeros(9)
    bad = [i if i[0] != "/cam/camera_info" else (*i[:2], K0) for i in recording(1)]
    with pytest.raises(DatasetError, match=r"camera_info.k: expected focal lengths above 0"):
        open_dataset("bag", write(tmp_path / "k", bad))


def test_stamps_of_zero_and_repeated_times(tmp_path):
    items = [i for i in recording(1) if i[0] != "/cam/image_raw"]
    for index in range(3):  # three images recorded in the same nanosecond, without a stamp
        items.append(("/cam/image_raw", START, raw_image(0, picture(index))))
    dataset = open_dataset("bag", write(tmp_path / "bag", items))
    assert [sample.stamp for sample in dataset] == [START] * 3
    for index in range(3):
        np.testing.assert_array_equal(dataset[index].rgb, picture(index))


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_truncated_bags_say_how_far_they_go(tmp_path, caplog, storage):
    compression = CompressionMode.STORAGE if storage is StoragePlugin.MCAP else None
    rng = np.random.default_rng(0)
    items = recording(60)
    for place, (topic, time, _) in enumerate(items):
        if topic == "/cam/image_raw":  # noise, so that the file has many chunks
            noise = rng.integers(0, 255, (240, 320, 3), np.uint8)
            items[place] = (topic, time, raw_image(time, noise))
    whole = write(tmp_path / "bag", items, storage, compression)
    file = next(p for p in whole.iterdir() if p.suffix in (".mcap", ".db3"))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with caplog.at_level(logging.WARNING):
        dataset = open_dataset("bag", whole, "depth=none")
    assert 10 < len(dataset) < 50
    frames, until = re.search(r"; (\d+) frames, until ([\d.]+) s$", dataset.problem).groups()
    assert int(frames) == len(dataset)
    assert float(until) == pytest.approx((len(dataset) - 1) / 10, abs=0.11)
    assert "damaged" in dataset.problem and "\n" not in dataset.problem
    assert dataset.problem in caplog.text
    file.write_bytes(content[:50])
    with pytest.raises(DatasetError, match="expected"):
        open_dataset("bag", whole)


def test_no_bag_at_all(tmp_path):
    with pytest.raises(DatasetError, match="expected an existing bag recording"):
        open_dataset("bag", tmp_path / "nothing")
    (tmp_path / "text.bag").write_text("no bag")
    with pytest.raises(DatasetError, match="expected a readable ROS 1 bag, got"):
        open_dataset("bag", tmp_path / "text.bag")
    (tmp_path / "text.mcap").write_text("no bag")
    with pytest.raises(DatasetError, match="expected a readable rosbag2, got"):
        open_dataset("bag", tmp_path / "text.mcap")


def test_a_real_ros1_camera(recordings):
    dataset = open_dataset("bag", recordings / "bags" / "aruco_images.bag")
    sample = dataset[0]
    assert sample.rgb.shape == (960, 1280, 3) and sample.rgb.std() > 20
    assert not dataset.lens.is_rectified and sample.camera == dataset.lens.rectified
    assert dataset.lens.K[0, 0] == pytest.approx(1014.3431)
    assert sample.camera.fx == pytest.approx(1031.868408)
