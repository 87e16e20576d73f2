# SPDX-License-Identifier: Apache-2.0
"""The plain folder, and the clouds it may hold."""

import json
import shutil

import cv2
import numpy as np
import pytest
from trees import H, W, colour, depth_map, make_folder, pose, write_cloud

from depth_two_stage import files
from depth_two_stage.camera import Camera
from depth_two_stage.datasets import DatasetError, open_dataset
from depth_two_stage.datasets.sparse import SparsePattern


def test_folder_gives_what_was_written(tmp_path):
    root = make_folder(tmp_path / "one")
    (root / "pose").mkdir()
    for x, name in enumerate("abc"):
        np.savetxt(root / "pose" / f"{name}.txt", pose(x))
    data = open_dataset("folder", root)
    assert data.camera == Camera(W, H, 52, 53, 31, 24.5)
    sample = data[1]
    assert np.array_equal(sample.rgb, colour(1))
    assert np.allclose(sample.depth, depth_map(1), atol=1e-6)
    assert np.allclose(sample.T_world_camera, pose(1))
    assert [s.stamp for s in data] == [0, 100_000_000, 200_000_000]
    assert sample.points is None and sample.sparse is None


def test_folder_with_splits(tmp_path):
    make_folder(tmp_path / "train")
    make_folder(tmp_path / "val", ("x",))
    assert len(open_dataset("folder", tmp_path, "train")) == 3
    assert open_dataset("folder", tmp_path, "val")[0].name == "x"
    with pytest.raises(DatasetError, match="split: expected one of train, val, got None"):
        open_dataset("folder", tmp_path)


def test_depth_scale_and_another_depth_size(tmp_path):
    root = make_folder(tmp_path / "one", ("a",), depth_scale=5000.0)
    small = depth_map(3, (H // 2, W // 2))
    files.write_depth(root / "depth" / "a.png", small, 5000.0)
    depth = open_dataset("folder", root)[0].depth
    assert np.allclose(depth, np.kron(small, np.ones((2, 2))), atol=1e-4)
    files.write_depth(root / "depth" / "a.png", depth_map(3, (H, W - 8)), 5000.0)
    with pytest.raises(DatasetError, match=r"a\.png: expected the colour's size \(48, 64\)"):
        open_dataset("folder", root)[0]


def test_halved_colour_takes_the_camera_with_half_pixel_centres(tmp_path):
    root = make_folder(tmp_path / "one", ("a",), width=2 * W, height=2 * H)
    camera = open_dataset("folder", root).camera
    assert camera == Camera(2 * W, 2 * H, 52, 53, 31, 24.5).resized(W, H)
    assert camera.cx == (31 + 0.5) / 2 - 0.5


def test_image_and_truth_are_rectified_together(tmp_path):
    # A dot of colour and of depth on the same raw pixel stay together and land where the rectified
    # camera sees that pixel's ray.
    D = [-0.3, 0.1, 0.001, -0.002, 0.0]
    root = make_folder(tmp_path / "one", ("a",), distortion_plumb_bob=D)
    rgb, depth = np.zeros((H, W, 3), np.uint8), np.zeros((H, W), np.float32)
    rgb[8:11, 9:12] = 255
    depth[8:11, 9:12] = 2.0
    files.write_image(root / "rgb" / "a.png", rgb)
    files.write_depth(root / "depth" / "a.png", depth)
    data = open_dataset("folder", root)
    sample = data[0]
    K = np.array([[52, 0, 31], [0, 53, 24.5], [0, 0, 1.0]])
    want = cv2.undistortPoints(np.array([[[10.0, 9.0]]]), K, np.array(D), P=K)[0, 0]
    assert np.hypot(*(want - [10, 9])) > 2
    for image in (sample.rgb[..., 0].astype(float), sample.depth):
        v, u = np.nonzero(image)
        weights = image[v, u]
        centre = np.array([(u * weights).sum(), (v * weights).sum()]) / weights.sum()
        assert np.abs(centre - want).max() < 0.7
    assert set(np.unique(sample.depth)) == {0.0, 2.0}
    assert np.array_equal(data.raw(0)[0], rgb)


def test_measured_sparse_depth_keeps_each_point_when_rectified(tmp_path):
    D = [-0.3, 0.1, 0.0, 0.0, 0.0]
    root = make_folder(tmp_path / "one", ("a", "b"), distortion_plumb_bob=D)
    sparse = np.zeros((H, W), np.float32)
    sparse[8:40:6, 9:60:7] = np.arange(1, 49).reshape(6, 8) / 10
    files.write_depth(root / "sparse" / "a.png", sparse)
    data = open_dataset("folder", root)
    again = data[0].sparse
    assert sorted(again[again > 0]) == pytest.approx(sorted(sparse[sparse > 0]))
    assert data[1].sparse is None
    assert np.array_equal(SparsePattern.parse("points")(data[0], np.random.default_rng(0)), again)


@pytest.mark.parametrize("kind", ["pcd", "ascii.pcd", "bin", "npy", "ply"])
def test_folder_with_points_of_a_lidar(tmp_path, kind):
    T = [[0, -1, 0, 0.0], [0, 0, -1, 0.1], [1, 0, 0, 0], [0, 0, 0, 1.0]]
    root = make_folder(tmp_path / "one", ("a", "b"), T_camera_lidar=T)
    cloud = np.array([[2, 0, 0], [4, 0, 0], [np.nan, 1, 1], [3, 0.5, 0.2]], np.float32)
    (root / "points").mkdir()
    path = root / "points" / f"a.{kind.split('.')[-1]}"
    write_cloud(path, cloud, kind)
    data = open_dataset("folder", root)
    sample = data[0]
    assert np.allclose(sample.points, cloud[[0, 1, 3]]) and sample.points.dtype == np.float32
    sparse = SparsePattern.parse("points")(sample, np.random.default_rng(0))
    assert sorted(sparse[sparse > 0]) == [2.0, 3.0, 4.0]
    assert data[1].points is None and data[1].T_camera_lidar is None


PCD = b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\n"
HUGE_NPY = b"\x93NUMPY\x01\x00\x76\x00" + (
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999, 3), }".ljust(117) + b"\n"
)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.pcd", b"VERSION 0.7\n", "expected a PCD header"),
        ("a.pcd", b"FIELDS x y\nSIZE 4 4\nTYPE F F\nPOINTS 0\nDATA ascii\n", "fields x, y, z"),
        ("a.pcd", b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 2\nDATA binary\n1234", "2 points"),
        ("a.pcd", b"FIELDS x y z\nSIZE 4 4 4\nTYPE Q F F\nPOINTS 2\nDATA binary\n", "PCD header"),
        ("a.pcd", b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 1\nDATA zip\n", "DATA ascii or"),
        ("a.bin", b"12345", "expected float32 x y z reflectance, got 5 bytes"),
        ("a.npy", b"\x93NUMPY", "expected a NumPy array"),
        ("a.npy", b"PK\x03\x04 an archive", "expected a NumPy array"),
        ("a.npy", b"\x93NUMPY\x01\x00\x08\x00((((((( ", "expected a NumPy array"),
        ("a.npy", HUGE_NPY, "expected a NumPy array"),
        ("a.pcd", PCD + b"COUNT 0 0 0\nPOINTS 1\nDATA binary\n", "got .*1 points of"),
        ("a.pcd", PCD + b"POINTS -2\nDATA binary\n" + bytes(24), "got .*-2 points of"),
        ("a.ply", b"ply", "expected a PLY header"),
    ],
)
def test_malformed_clouds_are_named(tmp_path, name, data, says):
    root = make_folder(tmp_path / "one", ("a",), T_camera_lidar=np.eye(4).tolist())
    (root / "points").mkdir()
    (root / "points" / name).write_bytes(data)
    with pytest.raises(DatasetError, match=says) as caught:
        open_dataset("folder", root)[0]
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda r: (r / "camera.json").unlink(), r"camera\.json: expected a readable file"),
        (
            lambda r: (r / "camera.json").write_text(json.dumps({"width": 64})),
            r"camera\.json: expected the key height, got only width",
        ),
        (lambda r: (r / "camera.json").write_text("{"), r"camera\.json: expected JSON"),
        (lambda r: (r / "depth" / "b.png").unlink(), r"got 1 missing: depth/b\.png$"),
        (lambda r: shutil.rmtree(r / "depth"), "expected the folder .*depth, got none"),
        (lambda r: (r / "pose").mkdir(), r"got 3 missing: pose/a\.txt, pose/b"),
        (lambda r: (r / "points").mkdir(), "expected T_camera_lidar for points/"),
        (
            lambda r: (r / "associations.txt").write_text("1.0 rgb/a.png 1.0 depth/none.png\n"),
            r"associations\.txt: expected every file of .*, got 1 missing: depth/none\.png",
        ),
        (
            lambda r: (r / "associations.txt").write_text("1.0 rgb/a.png 1.0\n"),
            r"associations\.txt: line 1: expected 'stamp file stamp file', got 3 words",
        ),
        (
            lambda r: (r / "associations.txt").write_text("x rgb/a.png 1.0 depth/a.png\n"),
            r"associations\.txt: line 1: expected a stamp in seconds, got 'x'",
        ),
    ],
)
def test_a_damaged_folder_is_named_when_opened(tmp_path, harm, says):
    root = make_folder(tmp_path / "one")
    open_dataset("folder", root)
    harm(root)
    with pytest.raises(DatasetError, match=says):
        open_dataset("folder", root)


@pytest.mark.parametrize("which", ["rgb", "depth"])
def test_a_truncated_png_is_named_when_decoded(tmp_path, which):
    root = make_folder(tmp_path / "one")
    path = root / which / "b.png"
    path.write_bytes(path.read_bytes()[:-200])
    data = open_dataset("folder", root)
    assert data[0].name == "a"
    with pytest.raises(DatasetError, match=rf"{which}/b\.png: expected a whole image"):
        data[1]


@pytest.mark.parametrize("matrix", ["1 0 0 0\n0 1 0 0\n", "a b c d\n" * 4, "2 0 0 0\n" * 4])
def test_a_pose_that_is_no_pose_is_named(tmp_path, matrix):
    root = make_folder(tmp_path / "one", ("a",))
    (root / "pose").mkdir()
    (root / "pose" / "a.txt").write_text(matrix)
    with pytest.raises(DatasetError, match=r"pose/a\.txt: expected a"):
        open_dataset("folder", root)
