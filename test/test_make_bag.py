# SPDX-License-Identifier: Apache-2.0
"""Bags made from a data set: what is in them, that it fits together, none half written."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import Reader

from depth_two_stage import messages
from depth_two_stage.camera import Lens
from depth_two_stage.datasets import Dataset, DatasetError, Sample, open_dataset
from depth_two_stage.datasets.bag_messages import typestore
from depth_two_stage.datasets.make_bag import MAX_POINTS, TOPICS, make_bag

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "resource" / "bags" / "tum_fr1_xyz_15s"
START, STEP = 1_700_000_000_123_456_789, 100_000_000
LENS = Lens(
    160,
    120,
    np.array([[130.0, 0, 80], [0, 131, 61], [0, 0, 1]]),
    np.array([0.26, -0.95, -0.005, 0.003, 1.16]),
)
UP = np.array([0.0, 0.0, 1.0])


class Corner(Dataset):
    """A floor and a wall seen through a distorting lens by a camera that looks down by 20°."""

    def __init__(self, frames=7, points=None):
        names = [str(i) for i in range(frames)]
        super().__init__("corner", None, names, LENS.rectified, LENS)
        self.points = points
        self.start = START

    def raw(self, index):
        camera, pose = LENS.rectified, self.pose(index)
        rays = camera.rays() @ pose[:3, :3].T.astype(np.float32)
        wall = (4.0 - pose[0, 3]) / rays[..., 0]  # the plane x = 4 of the world
        down = rays[..., 2] < -1e-3
        floor = np.where(down, pose[2, 3] / np.where(down, -rays[..., 2], 1), np.inf)
        depth = np.minimum(wall, floor).astype(np.float32)
        depth[:5] = 0
        y, x = np.mgrid[:120, :160]
        rgb = np.stack([x + 20, y + 50, x + index], axis=2).astype(np.uint8)
        return rgb, depth

    def pose(self, index):
        tilt, T = np.deg2rad(20), np.eye(4)
        forward = [np.cos(tilt), 0, -np.sin(tilt)]
        T[:3, :3] = np.stack([[0, -1, 0], np.cross(forward, [0, -1, 0]), forward], axis=1)
        T[:3, 3] = 0.05 * index, 0.2, 1.2
        return T

    def decode(self, index):
        rgb, depth = self.raw(index)
        return Sample(
            LENS.rectify_image(rgb),
            LENS.rectify_depth(depth),
            LENS.rectified,
            self.start + index * STEP,
            self.names[index],
            points=self.points,
            T_camera_lidar=None if self.points is None else np.eye(4),
            T_world_camera=self.pose(index),
        )


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """Make a bag of seven frames of the corner."""
    return make_bag(Corner(), tmp_path_factory.mktemp("bags") / "corner", up="z")


def contents(path):
    found = {}
    with Reader(path) as reader:
        for connection, time, raw in reader.messages():
            message = typestore().deserialize_cdr(raw, connection.msgtype)
            found.setdefault(connection.topic, []).append((time, message))
    return found


def test_topics_counts_and_stamps(bag):
    found = contents(bag)
    counts = {topic: len(items) for topic, items in found.items()}
    assert counts == {
        TOPICS["image"]: 7,
        TOPICS["camera_info"]: 7,
        TOPICS["points"]: 7,
        TOPICS["pose"]: 7,
        TOPICS["depth"]: 2,
        TOPICS["tf_static"]: 1,
    }
    for topic, items in found.items():
        if topic != TOPICS["tf_static"]:
            assert all(time == messages.stamp_ns(message) for time, message in items)
    stamps = [time for time, _ in found[TOPICS["image"]]]
    assert stamps == [START + i * STEP for i in range(7)]
    assert [time for time, _ in found[TOPICS["depth"]]] == [START, START + 5 * STEP]


def test_format(bag):
    text = (bag / "metadata.yaml").read_text()
    assert "version: 8" in text and "storage_identifier: mcap" in text
    assert b"zstd" in next(bag.glob("*.mcap")).read_bytes()
    with Reader(bag) as reader:
        durability = {c.topic: c.ext.offered_qos_profiles[0].durability for c in reader.connections}
    latched = {t for t, d in durability.items() if d is QosDurability.TRANSIENT_LOCAL}
    assert latched == {TOPICS["tf_static"]}


def test_colour_and_depth_are_as_recorded(bag):
    found, corner = contents(bag), Corner()
    lens = messages.to_lens(found[TOPICS["camera_info"]][0][1])
    np.testing.assert_array_equal(lens.K, LENS.K)
    np.testing.assert_array_equal(lens.D, LENS.D)
    assert lens.rectified == LENS.rectified and not lens.is_rectified
    rgb, depth = corner.raw(5)
    decoded = messages.to_rgb(found[TOPICS["image"]][5][1])
    assert np.abs(decoded.astype(int) - rgb).mean() < 3
    np.testing.assert_allclose(
        messages.to_depth(found[TOPICS["depth"]][1][1]), depth, atol=5.1e-4, rtol=0
    )


def frames(found):
    static = found[TOPICS["tf_static"]][0][1].transforms
    return {(t.header.frame_id, t.child_frame_id): messages.to_transform(t) for t in static}


def test_cloud_lies_on_the_truth(bag):
    found, tree = contents(bag), frames(contents(bag))
    T_camera_link = np.linalg.inv(tree["camera_link", "camera_color_optical_frame"])
    T_camera_lidar = T_camera_link @ tree["camera_link", "lidar"]
    np.testing.assert_allclose(T_camera_lidar[:3, 3], [0, -0.1, 0.05], atol=1e-12)
    for index in (0, 5):
        message = found[TOPICS["points"]][index][1]
        points = messages.to_points(message)
        assert 300 < len(points) <= MAX_POINTS and message.header.frame_id == "lidar"
        sparse = LENS.rectified.project(points, T_camera_lidar)
        truth = Corner()[index].depth
        seen = sparse > 0
        assert seen.sum() > 0.95 * len(points)
        assert (truth[seen] > 0).all()
        # Half a millimetre of rounding; the rounded point stays in its pixel or the next one.
        assert np.percentile(np.abs(sparse - truth)[seen], 95) < 2e-3
        elevation = np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
        rings = (elevation + 15) / 2
        assert rings.min() > -0.2 and rings.max() < 15.2
        assert np.abs(rings - np.rint(rings)).max() < 0.2  # within three quarters of a pixel
        assert len(np.unique(np.rint(rings))) >= 14


def test_base_is_level_and_poses_are_the_camera(bag):
    found, tree, corner = contents(bag), frames(contents(bag)), Corner()
    T_base_camera = (
        tree["base_link", "camera_link"] @ tree["camera_link", "camera_color_optical_frame"]
    )
    T_world_camera = messages.to_transform(found[TOPICS["pose"]][0][1])
    np.testing.assert_allclose(T_world_camera, corner.pose(0), atol=1e-9)
    T_world_base = T_world_camera @ np.linalg.inv(T_base_camera)
    np.testing.assert_allclose(T_world_base[:3, 2], UP, atol=1e-9)
    assert T_base_camera[2, 2] == pytest.approx(-np.sin(np.deg2rad(20)))  # looking down


def test_the_same_twice_and_read_back(bag, tmp_path):
    again = make_bag(Corner(), tmp_path / "corner", up="z")
    assert (again / "corner.mcap").read_bytes() == (bag / "corner.mcap").read_bytes()
    dataset = open_dataset("bag", bag)
    assert len(dataset) == 7
    for sample, expected in zip(dataset, Corner(), strict=True):
        assert sample.stamp == expected.stamp and sample.camera == expected.camera
        np.testing.assert_allclose(sample.T_world_camera, expected.T_world_camera, atol=1e-9)
        assert np.abs(sample.rgb.astype(int) - expected.rgb).mean() < 3


def test_own_points_and_rectified_data_are_kept(tmp_path):
    points = np.random.default_rng(0).uniform(1, 5, (2000, 3)).astype(np.float32)
    source = Corner(2, points)
    source.lens = None
    path = make_bag(source, tmp_path / "own", depth_every=1)
    found = contents(path)
    np.testing.assert_array_equal(messages.to_points(found[TOPICS["points"]][0][1]), points)
    assert messages.to_lens(found[TOPICS["camera_info"]][0][1]).is_rectified
    assert len(found[TOPICS["depth"]]) == 2


class Moved(Corner):
    """A recording whose LiDAR stands elsewhere from the fourth frame on, as drives of KITTI do."""

    def decode(self, index):
        T = np.eye(4)
        T[0, 3] = 0.1 * (index > 2)
        return replace(super().decode(index), T_camera_lidar=T)


def test_a_bag_has_one_place_of_the_lidar(tmp_path):
    recording = Moved(points=np.ones((5, 3), np.float32))
    make_bag(recording[:3], tmp_path / "one")
    with pytest.raises(DatasetError, match=r"3: expected the LiDAR's place of 0 .*, got another"):
        make_bag(recording, tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_a_recording_without_stamps_does_not_begin_at_zero(tmp_path):
    """The nodes drop what is stamped 0: the first frame would be lost."""
    source = Corner(3)
    source.start = 0
    found = contents(make_bag(source, tmp_path / "zero", depth_every=1))
    for topic in ("image", "camera_info", "depth", "points", "pose"):
        stamps = [time for time, _ in found[TOPICS[topic]]]
        assert stamps == [10**9 + i * STEP for i in range(3)], topic


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"quality": 0}, "quality: expected 1 to 100, got 0"),
        ({"depth_every": -1}, "expected 0 or more"),
        ({"up": "w"}, "up: expected auto, none, x, y, z, -x, -y or -z, got 'w'"),
    ],
)
def test_bad_arguments(tmp_path, changes, text):
    with pytest.raises(DatasetError, match=text):
        make_bag(Corner(1), tmp_path / "bad", **changes)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_or_left_half_done(bag, tmp_path):
    with pytest.raises(DatasetError, match="output: expected a path that does not exist"):
        make_bag(Corner(1), bag)

    def interrupt(done):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_bag(Corner(3), tmp_path / "cut", progress=interrupt)
    assert not list(tmp_path.iterdir())


def command(*arguments, **options):
    line = [sys.executable, "-m", "depth_two_stage.cli", "make-bag", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, **options)


def test_command(tmp_path):
    out, report = tmp_path / "bag", tmp_path / "report.json"
    split = "seed:1,frames:6,size:60x80"
    made = command("rendered", "--split", split, "--start", 1, "-o", out, "--json", report)
    assert made.returncode == 0, made.stderr
    topics = {row["topic"]: row["messages"] for row in json.loads(report.read_text())["topics"]}
    assert topics[TOPICS["image"]] == 5 and topics[TOPICS["depth"]] == 1
    assert len(open_dataset("bag", out)) == 5
    again = command("rendered", "--split", split, "-o", out)
    assert again.returncode == 1 and again.stderr.count("\n") == 1
    assert "output: expected a path that does not exist" in again.stderr


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    def small_files():
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    arguments = "--split", "frames:60,size:120x160", "-o", tmp_path / "bag"
    made = command("rendered", *arguments, preexec_fn=small_files)
    assert made.returncode == 1
    line = made.stderr.strip().splitlines()[-1]
    assert f"output: expected room for the bag {tmp_path / 'bag'}, got File too large" in line
    assert not list(tmp_path.iterdir())


def test_shipped_bag():
    assert sum(f.stat().st_size for f in SHIPPED.iterdir()) <= 10e6
    with Reader(SHIPPED) as reader:
        duration = reader.duration
        counts = {c.topic: c.msgcount for c in reader.connections}
        clouds = [c for c in reader.connections if c.topic == TOPICS["points"]]
        widths = [
            typestore().deserialize_cdr(raw, c.msgtype).width
            for c, _, raw in reader.messages(clouds)
        ]
    about = " ".join((SHIPPED / "metadata.yaml").read_text().split())
    assert "J. Sturm et al." in about and "CC BY 4.0" in about and "changes: 150 frames" in about
    assert duration == pytest.approx(15e9, rel=0.02)
    assert counts[TOPICS["image"]] == counts[TOPICS["points"]] == 150
    assert counts[TOPICS["depth"]] == 30 and counts[TOPICS["tf_static"]] == 1
    assert np.mean(widths) > 1000 and max(widths) <= MAX_POINTS


def test_shipped_bag_is_the_recording(recordings):
    shipped = open_dataset("bag", SHIPPED)
    source = open_dataset("tum", recordings / "tum_fr1_xyz")
    for index in (0, 75, 145):
        sample, expected = shipped[index], source[index]
        assert sample.stamp == expected.stamp and sample.camera == expected.camera
        assert np.abs(sample.rgb.astype(int) - expected.rgb).mean() < 4
        np.testing.assert_allclose(sample.T_world_camera, expected.T_world_camera, atol=1e-9)
        if sample.depth is not None:
            np.testing.assert_allclose(sample.depth, expected.depth, atol=5.1e-4, rtol=0)
