# SPDX-License-Identifier: Apache-2.0
"""What is read and written on disk: images, depth PNG, cameras, trajectories, reports."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_two_stage import files
from depth_two_stage.files import FileError


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
