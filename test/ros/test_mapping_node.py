# SPDX-License-Identifier: Apache-2.0
"""mapping_node as a process, fed over DDS with a rendered room."""

import signal
from itertools import pairwise

import numpy as np
import open3d
import pytest

pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from mapping_rig import FRAMES, Sender, at, call, listen, mapping_nodes, rendered_room
from nav_msgs.msg import Odometry, Path
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import Marker

from depth_two_stage.config import MappingNodeParameters, from_flat
from depth_two_stage.files import read_ply
from depth_two_stage.map_file import MapReader
from depth_two_stage.messages import stamp_ns, to_points, to_transform
from depth_two_stage.ros import build, markers
from depth_two_stage.ros.mapping_node import NAME, WATCH
from depth_two_stage.ros.motion import T_LINK_OPTICAL
from depth_two_stage.ros.poses import PoseError, between, interpolated
from depth_two_stage.ros.reports import diagnostics, status
from depth_two_stage.slam import Frame, Slam
from depth_two_stage.tsdf import Surface


@pytest.fixture(scope="module")
def room():
    """Frames of a hand-held camera in a rendered room, 120x160."""
    return rendered_room()


@pytest.fixture
def start(ros_domain, ros_env, tmp_path):
    with mapping_nodes(tmp_path, ros_domain) as begin:
        yield begin


def corners(marker: Marker) -> np.ndarray:
    return np.array([[p.x, p.y, p.z] for p in marker.points])


def _steps(poses: np.ndarray) -> np.ndarray:
    """Motion (N - 1, 4, 4) from each pose (N, 4, 4) to the next."""
    return np.linalg.inv(poses[:-1]) @ poses[1:]


def test_own_odometry_mesh_services_and_the_map_on_exit(rig, start, room, tmp_path):
    exit_path = tmp_path / "exit.npz"
    node = start("-p", f"map.save_on_exit:={exit_path}", "-p", f"map.save_path:={tmp_path}/m.ply")
    listen(rig, odom=Odometry, path=Path, map__mesh=Marker, map__points=PointCloud2)
    sender = Sender(rig)
    sender.connect()
    for count, sample in enumerate(room, 1):
        sender.send(sample)
        assert rig.until(lambda count=count: len(rig.heard["odom"]) == count), node.text()

    # Poses: stamps as sent, level at the start, motion as in truth.
    poses = rig.heard["odom"]
    assert [stamp_ns(message) for message in poses] == [sample.stamp for sample in room]
    assert {(m.header.frame_id, m.child_frame_id) for m in poses} == {("odom", "camera_link")}
    found = np.array([to_transform(message) @ T_LINK_OPTICAL for message in poses])
    true = np.array([sample.T_world_camera for sample in room])
    for estimate, truth in zip(_steps(found), _steps(true), strict=True):
        assert np.abs(estimate - truth).max() < 0.04
    assert np.allclose(to_transform(poses[0]), np.eye(4), atol=1e-6)
    variances = np.array(poses[-1].pose.covariance).reshape(6, 6).diagonal()
    assert (variances > 0).all() and (variances < 1).all()

    # The map: in front of the first camera_link, x forward; in colour.
    heard = rig.heard
    assert rig.until(lambda: heard["map/mesh"] and len(heard["map/mesh"][-1].points) > 300)
    assert rig.until(lambda: heard["map/points"] and heard["map/points"][-1].width > 300)
    mesh = rig.heard["map/mesh"][-1]
    assert mesh.header.frame_id == "map" and len(mesh.points) == len(mesh.colors)
    surface = corners(mesh)
    view = true[0][:3, :3].T @ (true[0][:3, 3] - true[0][:3, 3])
    depth = room[0].depth[room[0].depth > 0]
    assert view @ view == 0 and abs(np.median(surface[:, 0]) - np.median(depth)) < 1.0
    assert surface[:, 0].min() > 0
    assert len(to_points(rig.heard["map/points"][-1])) > 300
    assert rig.until(lambda: rig.heard["path"])

    def malformed(count: str) -> None:  # one at a time: a newer frame would take its place
        assert rig.until(lambda: rig.values.get("dropped: malformed") == count), node.text()

    # What cannot be used is dropped by name, and the node goes on.
    bad = build.camera_info(room[0].camera, build.header(room[-1].stamp + 10**8, "optical"))
    bad.k[0] = bad.p[0] = 0.0
    late = room[-1].__class__(**{**vars(room[-1]), "stamp": room[-1].stamp + 10**8})
    sender.send(late, info=bad)
    malformed("1")
    later = room[-1].__class__(**{**vars(late), "stamp": late.stamp + 10**8})
    sender.send(later, rgb=later.rgb[::2, ::2].copy())
    malformed("2")
    sender.send(at(late, later.stamp + 10**7), certain=1e30)
    malformed("3")
    blind = room[-1].__class__(**{**vars(late), "stamp": late.stamp + 2 * 10**8})
    sender.send(blind, depth=np.zeros_like(blind.depth))
    assert rig.until(lambda: rig.values.get("last stamp") == str(blind.stamp)), node.text()
    assert len(rig.heard["odom"]) == FRAMES
    assert rig.values["dropped: lost"] == "1"
    assert float(rig.values["map_blocks"]) > 0

    saved = call(rig, Trigger, "save_map")
    assert saved.success, saved.message
    assert len(read_ply(tmp_path / "m.ply").triangles) > 100
    assert call(rig, SetBool, "pause", data=True).success
    sender.send(room[0].__class__(**{**vars(room[0]), "stamp": blind.stamp + 10**8}))
    assert rig.until(lambda: rig.values.get("dropped: paused") == "1")
    assert call(rig, SetBool, "pause", data=False).success

    assert node.end(signal.SIGHUP, 60.0) == 0, node.text()  # its terminal was closed
    assert exit_path.is_file() and "exit.npz saved" in node.text()

    # Another process goes on from that file: the map is there before any frame.
    listen(rig, map__mesh=Marker)
    second = start("-p", f"map.load:={exit_path}")
    assert rig.until(lambda: rig.heard["map/mesh"]), second.text()
    assert len(rig.heard["map/mesh"][0].points) > 300
    assert call(rig, Trigger, "clear").success
    assert rig.until(lambda: rig.heard["map/mesh"][-1].action == Marker.DELETE)


@pytest.mark.parametrize(
    ("stamps", "dropped"),
    [
        ([200.0, 201.0, 100.0, 101.0], 0),
        # A short clip in a loop, or a clock set back: the third image in a row is believed.
        ([200.0, 200.5, 200.1, 200.2, 200.3, 200.4], 2),
    ],
)
def test_stamps_that_go_back_start_again(rig, start, room, stamps, dropped):
    """Every frame after that is used, one line says it, the map goes on."""
    node = start()
    listen(rig, odom=Odometry)
    sender = Sender(rig)
    sender.connect()
    views = [room[0], *[room[1]] * (len(stamps) - 2), room[0]]  # there and back: no leap
    stamps = [round(stamp * 10**9) for stamp in stamps]
    used = stamps[:2] + stamps[2 + dropped :]
    for sample, stamp in zip(views, stamps, strict=True):
        sender.send(at(sample, stamp))
        if stamp in used:
            count = used.index(stamp) + 1
            assert rig.until(lambda n=count: len(rig.heard["odom"]) == n), node.text()
        else:
            rig.spin(0.3)
    assert [stamp_ns(message) for message in rig.heard["odom"]] == used
    assert node.text().count("image stamps went back by") == 1
    assert node.end(signal.SIGINT) == 0, node.text()
    assert "Traceback" not in node.text()


def test_a_map_without_frames_carries_the_present(rig, start):
    listen(rig, map__points=PointCloud2)
    before = rig.now()
    node = start()
    assert rig.until(lambda: rig.heard["map/points"]), node.text()
    assert before < stamp_ns(rig.heard["map/points"][0]) < rig.now()


def test_a_source_that_still_loads_is_waited_for_then_named(rig, start):
    said = rig.node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    state = ["stale", "loading the model"]
    rig.node.create_timer(
        0.2,
        lambda: said.publish(diagnostics(build.time(rig.now()), status("rig", "", *state, {}))),
    )
    node = start()
    Sender(rig).connect()
    waiting = "waiting for rig: loading the model"
    assert rig.until(lambda: waiting in node.text()), node.text()
    begun = node.text().index(waiting)
    rig.spin(WATCH + 2.0)
    assert "no frames" not in node.text()[begun:], node.text()
    state[:] = "warn", "image: no publisher on /image"
    line = "nothing received on /depth/image_rect; rig says: image: no publisher on /image"
    assert rig.until(lambda: line in node.text()), node.text()
    rig.spin(2 * WATCH)
    text = node.text()[begun:]
    assert text.count(line) == text.count("no frames for ") == 1, text


def test_given_poses_are_interpolated_and_missing_ones_named(rig, start, room, tmp_path):
    node = start(
        "-p", "pose.source:=pose", "-p", "pose.timeout:=0.3", "-p", "map.save_path:=/proc/x.npz"
    )
    listen(rig, odom=Odometry, map__mesh=Marker)
    sender = Sender(rig, poses=True)
    sender.connect()
    sender.send(room[0])
    assert rig.until(lambda: rig.values.get("dropped: no pose") == "1"), node.text()
    assert "pose: expected poses, got nothing on /pose" in node.text()
    # From here on a pose that comes late is waited for.
    assert rig.set_parameter("pose.timeout", 5.0, node=NAME).successful
    sender.send_pose(np.diag([1.0, 1.0, 1.0, 1.0]), 10**9)
    for broken in (float("nan"), 0.0):  # no rotation: counted, the poses before are kept
        message = PoseStamped(header=build.header(2 * 10**9, "world"), pose=build.pose(np.eye(4)))
        message.pose.orientation.w = broken
        sender.pose.publish(message)
    assert rig.until(lambda: rig.values.get("dropped: malformed pose") == "2"), node.text()
    assert "pose: expected a quaternion of norm 1, got [0.0, 0.0, 0.0, nan]" in node.text()
    for frame in ("elsewhere", ""):  # another world, or none: counted and not mixed in
        message = PoseStamped(header=build.header(3 * 10**9, frame), pose=build.pose(np.eye(4)))
        sender.pose.publish(message)
    assert rig.until(lambda: rig.values.get("dropped: pose frame") == "2"), node.text()
    assert "pose: expected the frame 'world', got 'elsewhere'" in node.text()
    half = 20_000_000
    for before, sample in pairwise(room):
        T = sample.T_world_camera
        sender.send_pose(between(before.T_world_camera, T, 0.5), sample.stamp - half)
        sender.send_pose(
            T @ np.linalg.inv(between(before.T_world_camera, T, 0.5)) @ T, sample.stamp + half
        )
        heard = len(rig.heard["odom"])
        sender.send(sample)
        assert rig.until(lambda heard=heard: len(rig.heard["odom"]) > heard), node.text()
    found = np.array([to_transform(message) @ T_LINK_OPTICAL for message in rig.heard["odom"]])
    true = np.array([sample.T_world_camera for sample in room[1:]])
    assert np.abs(found[:, :3, 3] - true[:, :3, 3]).max() < 2e-3
    assert {message.header.frame_id for message in rig.heard["odom"]} == {"world"}
    assert rig.until(lambda: rig.heard["map/mesh"] and rig.heard["map/mesh"][-1].points)
    assert rig.heard["map/mesh"][-1].header.frame_id == "world"
    # A disk that takes nothing: the service says so, the node lives.
    saved = call(rig, Trigger, "save_map")
    assert not saved.success and "/proc/x.npz" in saved.message
    # The map is in the frame of its poses, and so is its file.
    assert rig.set_parameter("map.save_path", f"{tmp_path}/map.npz", node=NAME).successful
    saved = call(rig, Trigger, "save_map")
    assert saved.success, saved.message
    with MapReader(tmp_path / "map.npz") as file:
        assert file.meta.frame == "world"
    assert node.end(signal.SIGINT) == 0, node.text()


def test_poses_of_another_world_are_not_fused_into_a_loaded_map(rig, start, room, tmp_path):
    slam = Slam(from_flat(MappingNodeParameters, {"tsdf.memory_mb": 128.0}))
    slam.process(Frame(room[0].rgb, room[0].depth, room[0].camera, 1), room[0].T_world_camera)
    slam.map.save(tmp_path / "map.npz")
    node = start("-p", "pose.source:=pose", "-p", f"map.load:={tmp_path}/map.npz")
    sender = Sender(rig, poses=True)
    sender.connect()
    sender.send_pose(room[0].T_world_camera, room[0].stamp)
    sender.send(room[0])
    assert rig.until(lambda: rig.values.get("dropped: pose frame") == "1"), node.text()
    assert "expected poses in the map's frame 'map', got 'world'" in node.text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-p", "map.load:=/nowhere/map.npz"), "mapping_node: map.load: "),
        (("-p", "pose.camera_extrinsics:=[1.0, 2.0]"), "pose.camera_extrinsics: expected 7"),
        (("-p", "tsdf.voxel_sise:=0.1"), "tsdf.voxel_sise: expected a parameter"),
        (("-p", "pose.map_frame:=camera_link"), "pose.map_frame: expected another frame than"),
        (("-p", "pose.base_frame:=odom"), "pose.odom_frame: expected another frame than pose.base"),
        (("-p", "tsdf.device:=cuda"), "tsdf.device: expected a CUDA device"),
        (("-p", "grid.resolution:=0.01"), "grid.resolution: expected at least tsdf.voxel_size"),
    ],
)
def test_wrong_parameters_end_it_in_one_line(start, arguments, message):
    if "tsdf.device:=cuda" in arguments and open3d.core.cuda.is_available():
        pytest.skip("there is a CUDA device")
    node = start(*arguments)
    assert node.wait() != 0
    assert message in node.text() and "Traceback" not in node.text()


def test_a_mesh_is_the_marker_that_ros_reads():
    rng = np.random.default_rng(0)
    for frame in ("m", "ma", "map", "odom", "world"):  # every alignment of what follows
        surface = Surface(
            rng.random((7, 3), np.float32),
            rng.integers(0, 255, (7, 3)).astype(np.uint8),
            rng.integers(0, 7, (5, 3)),
        )
        marker = deserialize_message(markers.mesh(surface, Header(frame_id=frame)), Marker)
        corner = surface.triangles.reshape(-1)
        assert np.allclose(corners(marker), surface.points[corner])
        colours = [[c.r, c.g, c.b, c.a] for c in marker.colors]
        assert np.allclose(np.array(colours)[:, :3] * 255, surface.colors[corner], atol=1e-3)
        assert marker.header.frame_id == frame and marker.type == Marker.TRIANGLE_LIST
    empty = Surface(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros((0, 3), int))
    assert markers.mesh(empty, Header()).action == Marker.DELETE


def test_poses_are_interpolated_never_extrapolated():
    A, B = np.eye(4), np.eye(4)
    B[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    B[:3, 3] = 1, 2, 3
    known = [(100, A, "base"), (200, B, "base")]
    T, child = interpolated(known, 150, 100, "pose")
    assert child == "base"
    assert np.allclose(T[:3, 3], (0.5, 1, 1.5))
    assert np.allclose(T[:2, 0], np.sqrt(0.5))
    assert np.allclose(interpolated(known, 200, 100, "pose")[0], B)
    for stamp, gap in ((99, 100), (201, 100), (150, 99)):
        with pytest.raises(PoseError, match="pose: expected poses"):
            interpolated(known, stamp, gap, "pose")
