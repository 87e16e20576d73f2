# SPDX-License-Identifier: Apache-2.0
"""What is read and written on disk: depth PNG, PLY, trajectories, reports, pictures, atomicity."""

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_two_stage import files, pictures
from depth_two_stage.files import FileError, WriteError
from depth_two_stage.pictures import Panel


def test_depth_survives_the_png_within_half_a_unit(tmp_path):
    depth = np.random.default_rng(0).uniform(0.1, 9, (48, 64)).astype(np.float32)
    depth[0, :4] = [0, np.nan, np.inf, -1]
    depth[1, 0] = 70.0  # 16 bits end at 65.534 m
    files.write_depth(tmp_path / "d.png", depth)
    again = files.read_depth(tmp_path / "d.png")
    assert again.dtype == np.float32
    assert not again[0, :4].any() and again[1, 0] == 0
    assert np.abs(again - depth)[2:].max() <= 0.00051
    files.write_depth(tmp_path / "d.png", depth, scale=5000)
    assert np.abs(files.read_depth(tmp_path / "d.png", 5000) - depth)[2:].max() <= 0.00011


def test_saturated_depth_is_none(tmp_path):
    cv2.imwrite(str(tmp_path / "d.png"), np.array([[65535, 1000]], np.uint16))
    assert files.read_depth(tmp_path / "d.png").tolist() == [[0.0, 1.0]]


def test_images_are_rgb_and_grey_ones_become_so(tmp_path):
    rgb = np.zeros((8, 9, 3), np.uint8)
    rgb[..., 0] = 200
    files.write_image(tmp_path / "c.png", rgb)
    assert np.array_equal(files.read_image(tmp_path / "c.png"), rgb)
    cv2.imwrite(str(tmp_path / "g.png"), rgb[..., 0])
    assert files.read_image(tmp_path / "g.png").shape == (8, 9, 3)
    with pytest.raises(FileError, match=r"expected the suffix \.png, \.jpg or \.jpeg, got '\.bmp'"):
        files.write_image(tmp_path / "c.bmp", rgb)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_image_is_an_error_not_a_grey_half(tmp_path, suffix, share):
    path = tmp_path / f"image{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    files.write_image(path, noise)
    assert files.read_image(path).shape == (60, 80, 3)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(FileError, match=rf"image\{suffix}: expected a.* got "):
        files.read_image(path)


def test_padding_behind_a_png_is_no_damage(tmp_path):
    rgb = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    files.write_image(tmp_path / "a.png", rgb)
    with open(tmp_path / "a.png", "ab") as file:
        file.write(bytes(1000))
    assert np.array_equal(files.read_image(tmp_path / "a.png"), rgb)


@pytest.mark.parametrize("read", [files.read_image, files.read_depth])
def test_an_image_beyond_what_can_be_held_is_refused(tmp_path, read):
    (tmp_path / "a.pnm").write_bytes(b"P5\n99999999 99999999\n255\n")
    with pytest.raises(FileError, match=r"a\.pnm: expected an image"):
        read(tmp_path / "a.pnm")


def test_depth_of_another_kind_is_refused(tmp_path):
    files.write_image(tmp_path / "rgb.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(FileError, match="expected a 16-bit single-channel PNG, got uint8"):
        files.read_depth(tmp_path / "rgb.png")
    (tmp_path / "text.png").write_text("this is no image")
    with pytest.raises(FileError, match="undecodable"):
        files.read_depth(tmp_path / "text.png")
    with pytest.raises(FileError, match="No such file"):
        files.read_depth(tmp_path / "absent.png")


# camera.json


def camera_json(path, **changes):
    content = {
        "width": 64,
        "height": 48,
        "fx": 50,
        "fy": 51,
        "cx": 31.5,
        "cy": 23.5,
        "depth_scale": 1000,
    } | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return path


def test_camera_json_with_and_without_distortion(tmp_path):
    lens, scale = files.read_camera(camera_json(tmp_path / "camera.json"))
    assert lens.is_rectified and scale == 1000.0
    assert (lens.rectified.fx, lens.rectified.cy, lens.rectified.size) == (50, 23.5, (48, 64))
    path = camera_json(tmp_path / "camera.json", distortion_plumb_bob=[0.1, 0, 0, 0, 0])
    assert not files.read_camera(path)[0].is_rectified
    path = camera_json(tmp_path / "camera.json", distortion_equidistant=[0.1, 0, 0, 0])
    assert files.read_camera(path)[0].model == "equidistant"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fx": None}, "expected the key fx, got only width"),
        ({"depth_scale": None}, "expected the key depth_scale"),
        ({"depth_scale": 0}, "depth_scale: expected a positive number, got 0"),
        ({"fx": 0}, "camera fx: expected a positive number"),
        ({"width": 0}, "camera width: expected a positive integer"),
        ({"width": 64.5}, "camera width: expected a positive integer, got 64.5"),
        ({"width": float("inf")}, "infinity"),
        ({"fx": 10**400}, "too large"),
        ({"cx": "middle"}, "cx: expected a number, got 'middle'"),
        ({"distortion_kannala": [1]}, "distortion model: expected one of"),
        ({"distortion_plumb_bob": [1, 2]}, "distortion: expected 4, 5"),
    ],
)
def test_camera_json_says_what_is_wrong(tmp_path, changes, says):
    path = camera_json(tmp_path / "camera.json", **changes)
    with pytest.raises(FileError, match=says) as caught:
        files.read_camera(path, depth_scale=True)
    assert "camera.json" in str(caught.value) and "\n" not in str(caught.value)


def test_broken_json_is_named(tmp_path):
    (tmp_path / "camera.json").write_text('{"width": 64,')
    with pytest.raises(FileError, match=r"camera\.json: expected JSON"):
        files.read_camera(tmp_path / "camera.json")
    (tmp_path / "camera.json").write_text("[" * 200_000)
    with pytest.raises(FileError, match=r"camera\.json: expected JSON"):
        files.read_camera(tmp_path / "camera.json")
    (tmp_path / "camera.json").write_text("[1, 2]")
    with pytest.raises(FileError, match="expected a JSON object, got list"):
        files.read_camera(tmp_path / "camera.json")


# trajectories


def random_poses(count):
    from scipy.spatial.transform import Rotation

    T = np.tile(np.eye(4), (count, 1, 1))
    turns = np.random.default_rng(1).normal(size=(count, 3))
    T[:, :3, :3] = Rotation.from_rotvec(turns).as_matrix()
    T[:, :3, 3] = np.random.default_rng(0).normal(size=(count, 3))
    return T


def test_trajectories_keep_nanoseconds_and_poses(tmp_path):
    stamps = [1305031102175304123, 1305031102175304124, 5, 0]
    poses = random_poses(4)
    path = tmp_path / "trajectory.txt"
    files.write_trajectory(path, list(zip(stamps, poses, strict=True)))
    again = files.read_trajectory(path)
    assert [stamp for stamp, _ in again] == stamps
    assert np.allclose([T for _, T in again], poses, atol=1e-8)


def test_trajectories_of_evo_and_ours_agree(tmp_path):
    evo = pytest.importorskip("evo.tools.file_interface")
    poses = random_poses(3)
    files.write_trajectory(tmp_path / "t.txt", [(i * 10**9, T) for i, T in enumerate(poses)])
    read = evo.read_tum_trajectory_file(str(tmp_path / "t.txt"))
    assert np.allclose(read.poses_se3, poses, atol=1e-6)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1.0 0 0 0 0 0 1", "line 2: expected 8 numbers, got 7"),
        ("one 0 0 0 0 0 0 1", "line 2: expected a stamp"),
        ("1.0 0 0 zero 0 0 0 1", "line 2: expected numbers"),
        ("1.0 0 0 0 0 0 0 0", "line 2: expected a finite pose"),
        ("1.0 nan 0 0 0 0 0 1", "line 2: expected a finite pose"),
        (f"{10**30} 0 0 0 0 0 0 1", "line 2: expected a stamp below"),
    ],
)
def test_bad_trajectory_lines_are_named(tmp_path, line, says):
    (tmp_path / "t.txt").write_text(f"# comment\n{line}\n")
    with pytest.raises(FileError, match=says):
        files.read_trajectory(tmp_path / "t.txt")


def test_an_empty_trajectory_is_empty(tmp_path):
    files.write_trajectory(tmp_path / "t.txt", [])
    assert files.read_trajectory(tmp_path / "t.txt") == []


# PLY


POINTS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
COLORS = np.random.default_rng(1).integers(0, 256, (50, 3), np.uint8)
TRIANGLES = np.random.default_rng(2).integers(0, 50, (20, 3)).astype(np.int32)


def test_ply_comes_back_as_written(tmp_path):
    path = tmp_path / "mesh.ply"
    files.write_ply(path, POINTS, COLORS, TRIANGLES, normals=POINTS)
    again = files.read_ply(path)
    assert np.array_equal(again.points, POINTS) and np.array_equal(again.normals, POINTS)
    assert np.array_equal(again.colors, COLORS) and np.array_equal(again.triangles, TRIANGLES)
    files.write_ply(path, POINTS[:0])
    again = files.read_ply(path)
    assert again.points.shape == (0, 3) and again.colors is None and again.triangles is None


@pytest.mark.parametrize("ascii", [True, False])
def test_ply_of_open3d_and_ours_agree(tmp_path, ascii):
    o3d = pytest.importorskip("open3d")
    ours, theirs = str(tmp_path / "ours.ply"), str(tmp_path / "theirs.ply")
    files.write_ply(ours, POINTS, COLORS, TRIANGLES)
    mesh = o3d.io.read_triangle_mesh(ours)
    assert np.array_equal(np.asarray(mesh.vertices), POINTS.astype(np.float64))
    assert np.array_equal(np.asarray(mesh.triangles), TRIANGLES)
    assert np.allclose(np.asarray(mesh.vertex_colors) * 255, COLORS, atol=1e-3)
    assert o3d.io.write_triangle_mesh(theirs, mesh, write_ascii=ascii)
    again = files.read_ply(theirs)
    assert np.allclose(again.points, POINTS, atol=1e-5)
    assert np.array_equal(again.colors, COLORS)
    assert np.array_equal(again.triangles, TRIANGLES)


PLY_XYZ = b"ply\nformat ascii 1.0\nelement vertex 1\n" + b"".join(
    b"property float %s\n" % axis for axis in (b"x", b"y", b"z")
)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "expected a PLY header"),
        (b"not a ply", "expected a PLY header"),
        (b"ply\nformat binary_middle_endian 1.0\nend_header\n", "expected a PLY line"),
        (b"ply\nelement vertex 0\nend_header\n", "expected a format line"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n", "x, y, z"),
        (b"ply\nformat ascii 1.0\nelement vertex two\nend_header\n", "expected a PLY line"),
        (b"ply\nformat ascii 1.0\nelement vertex -1\nend_header\n", "expected a PLY line"),
        (b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nend_header\n", "got none"),
        (PLY_XYZ + b"property float x\nend_header\n", "vertex: expected properties of different"),
    ],
)
def test_bad_ply_is_named(tmp_path, data, says):
    (tmp_path / "bad.ply").write_bytes(data)
    with pytest.raises(FileError, match=says):
        files.read_ply(tmp_path / "bad.ply")


def test_truncated_ply_is_an_error(tmp_path):
    path = tmp_path / "mesh.ply"
    files.write_ply(path, POINTS, COLORS, TRIANGLES)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(FileError, match="face: expected 20 entries, got 19"):
        files.read_ply(path)


def test_a_mesh_with_corners_that_are_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="triangles: expected indices below 50"):
        files.write_ply(tmp_path / "mesh.ply", POINTS, triangles=[[0, 1, 50]])
    with pytest.raises(ValueError, match=r"points: expected shape \(N, 3\), got \(50, 2\)"):
        files.write_ply(tmp_path / "mesh.ply", POINTS[:, :2])
    assert not list(tmp_path.iterdir())


# reports


def test_reports_hold_numbers_and_no_nan(tmp_path):
    @dataclass
    class Row:
        rmse: float
        path: Path

    content = {
        "a": np.float32(0.5),
        "nan": float("nan"),
        "inf": np.array([1.0, np.inf]),
        3: Row(np.nan, Path("x/y")),
        "n": np.int64(7),
        "ok": np.bool_(True),
    }
    files.write_json(tmp_path / "deep" / "report.json", content)
    again = json.loads((tmp_path / "deep" / "report.json").read_text())
    assert again == {
        "a": 0.5,
        "nan": None,
        "inf": [1.0, None],
        "3": {"rmse": None, "path": "x/y"},
        "n": 7,
        "ok": True,
    }
    with pytest.raises(FileError, match="report: expected what JSON can hold, got object"):
        files.write_json(tmp_path / "report.json", {"x": object()})
    assert not (tmp_path / "report.json").exists()


# atomic writing


def test_a_failing_body_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "map.npz"
    path.write_text("old")
    with pytest.raises(KeyError), files.atomic_write(path) as file:
        file.write(b"half of the new")
        raise KeyError("in the middle")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["map.npz"]


def test_the_name_appears_only_when_the_body_has_ended(tmp_path):
    path = tmp_path / "new" / "map.txt"
    with files.atomic_write(path, "w") as file:
        file.write("käse")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "käse"
    assert path.stat().st_mode & 0o077 == ~_umask() & 0o066


def _umask():
    value = os.umask(0)
    os.umask(value)
    return value


def test_atomic_path_keeps_the_suffix_for_libraries_that_write_by_it(tmp_path):
    with files.atomic_path(tmp_path / "a.npz") as temporary:
        assert temporary.suffix == ".npz" and temporary.parent == tmp_path
        np.savez(temporary, x=np.arange(3))
    assert np.load(tmp_path / "a.npz")["x"].tolist() == [0, 1, 2]
    with pytest.raises(WriteError), files.atomic_path(tmp_path / "b.npz"):
        pass  # nothing was written under the temporary name
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_a_full_disk_is_one_clear_line_and_the_old_file_stays(tmp_path):
    path = tmp_path / "depth.png"
    files.write_image(path, np.zeros((4, 4, 3), np.uint8))
    old = path.read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # a real short write
    try:
        with pytest.raises(WriteError) as caught:
            files.write_image(path, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert str(caught.value) == f"{path}: expected a writable file, got File too large"
    assert isinstance(caught.value, OSError) and caught.value.errno
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["depth.png"]


def test_a_pipe_is_written_and_stays_one(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    files.write_json(pipe, {"a": 1})
    assert json.loads(os.read(reader, 100)) == {"a": 1}
    os.close(reader)
    assert pipe.is_fifo() and os.listdir(tmp_path) == ["pipe"]


def test_a_link_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "old.json").write_text("{}")
    (tmp_path / "link.json").symlink_to("old.json")
    files.write_json(tmp_path / "link.json", {"a": 1})
    assert (tmp_path / "link.json").is_symlink()
    assert files.read_json(tmp_path / "old.json") == {"a": 1}


def test_unwritable_places_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"file/x\.json: expected a writable file, got "):
        files.write_json(tmp_path / "file" / "x.json", {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match="folder: expected a file name, got a folder"):
        files.write_json(tmp_path / "folder", {})
    with pytest.raises(WriteError, match="expected a writable file, got "):
        files.write_json("/proc/no_such_place/x.json", {})


def test_killed_in_the_middle_of_writing_the_old_file_is_whole(tmp_path):
    path = tmp_path / "checkpoint.bin"
    path.write_bytes(b"old")
    code = (
        "import sys; from depth_two_stage.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as f:\n"
        "    f.write(b'new' * 100000); f.flush(); print('half', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(files.__file__).parents[1],
    )
    with child:
        assert child.stdout.readline() == b"half\n"
        child.kill()
    assert path.read_bytes() == b"old"


# pictures


def test_pictures_hold_every_panel_with_none_in_black(tmp_path):
    rgb = np.full((48, 64, 3), 77, np.uint8)
    depth = np.tile(np.linspace(1, 5, 64, dtype=np.float32), (48, 1))
    depth[:10] = 0
    sparse = np.zeros_like(depth)
    sparse[30, 40] = 3.0
    row = pictures.depth_row(rgb, sparse, depth, depth * 1.1, depth)
    assert [panel.title.split(",")[0] for panel in row] == [
        "RGB", "sparse", "coarse", "refined", "truth", "error |refined - truth|",
    ]  # fmt: skip
    files.write_picture(tmp_path / "row.png", row)
    picture = files.read_image(tmp_path / "row.png")
    pitch = pictures.PANEL_WIDTH + pictures.MARGIN
    assert picture.shape[1] == 6 * pitch
    top = pictures.HEAD
    assert (picture[top + 5, 5] == 77).all()
    dots = picture[top : top + 240, pitch : pitch + 320].reshape(-1, 3)
    assert 0 < np.count_nonzero(dots.any(axis=1)) <= 9
    coarse = picture[top : top + 240, 2 * pitch : 2 * pitch + 320]
    assert not coarse[:45].any() and coarse[60:].any(axis=2).all()
    assert coarse[100, 5, 2] > coarse[100, 5, 0] and coarse[100, 315, 0] > coarse[100, 315, 2]


def test_pictures_may_have_rows_of_different_length_and_empty_maps(tmp_path):
    empty = Panel("nothing", np.zeros((20, 30), np.float32))
    image = Panel("grey", np.zeros((40, 30, 3), np.uint8))
    picture = pictures.grid([[empty], [image, empty]])
    assert picture.shape[1] == 2 * (pictures.PANEL_WIDTH + pictures.MARGIN)
    with pytest.raises(ValueError, match="panels: expected at least one"):
        pictures.grid([])


@pytest.mark.parametrize(
    ("name", "folder", "says"),
    [
        ("new.json", False, None),
        ("new/deep/report.json", False, None),
        ("file.json", False, None),
        ("new", True, None),
        ("folder", True, None),
        ("folder", False, "expected a writable file, got a folder"),
        ("file.json", True, "expected a writable folder, got a file"),
        ("file.json/report.json", False, "expected a writable file, got Not a directory"),
        ("x" * 300, False, "expected a writable file, got File name too long"),
    ],
)
def test_what_could_not_be_written_is_refused_beforehand(tmp_path, name, folder, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.json").write_text("old")
    if says is None:
        files.check_writable(tmp_path / name, folder)
    else:
        with pytest.raises(files.WriteError, match=says):
            files.check_writable(tmp_path / name, folder)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file.json", "folder"]
    assert (tmp_path / "file.json").read_text() == "old"


def test_devices_and_places_where_no_file_can_be_made():
    files.check_writable(None)
    files.check_writable("/dev/stdout")
    with pytest.raises(files.WriteError, match=r"/proc/report\.json: expected a writable file"):
        files.check_writable("/proc/report.json")
