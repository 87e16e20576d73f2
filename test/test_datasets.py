# SPDX-License-Identifier: Apache-2.0
"""Each data set from a tiny tree in its real format, and the real recordings where they are."""

import json
import pickle
import shutil

import cv2
import numpy as np
import pytest

from depth_two_stage import files
from depth_two_stage.camera import Camera
from depth_two_stage.datasets import DATASETS, DatasetError, Sample, open_dataset
from depth_two_stage.datasets.poses import interpolate, pairs
from depth_two_stage.datasets.sparse import SparsePattern

H, W = 48, 64
CAMERA = {
    "width": W, "height": H, "fx": 52.0, "fy": 53.0, "cx": 31.0, "cy": 24.5, "depth_scale": 1000.0,
}  # fmt: skip


def colour(seed=0, size=(H, W)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def depth_map(seed=0, size=(H, W)):
    depth = np.random.default_rng(seed).integers(500, 6000, size).astype(np.float32) / 1000
    depth[:5, :7] = 0
    return depth


def write_frame(root, name, seed=0, scale=1000.0):
    files.write_image(root / "rgb" / f"{name}.png", colour(seed))
    files.write_depth(root / "depth" / f"{name}.png", depth_map(seed), scale)


def make_folder(root, names=("a", "b", "c"), **camera):
    for seed, name in enumerate(names):
        write_frame(root, name, seed)
    (root / "camera.json").write_text(json.dumps(CAMERA | camera))
    return root


def pose(x=0.0):
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.array([0.1, -0.2, 0.3]))[0]
    T[0, 3] = x
    return T


# what all have in common


def test_unknown_names_roots_and_splits_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"dataset: expected one of nyu, tum, .* got 'nyuv2'"):
        open_dataset("nyuv2", tmp_path)
    with pytest.raises(DatasetError, match=r"root: expected an existing tum recording, got .*/no"):
        open_dataset("tum", tmp_path / "no")
    make_folder(tmp_path / "one")
    with pytest.raises(DatasetError, match=r"split: expected none .* got 'val'"):
        open_dataset("folder", tmp_path / "one", "val")


@pytest.mark.parametrize("name", [n for n in DATASETS if n not in ("rendered", "bag")])
def test_an_empty_folder_is_an_error_of_one_line(tmp_path, name):
    with pytest.raises(DatasetError, match="expected") as caught:
        open_dataset(name, tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_sequence_is_sliced_hashed_and_pickled(tmp_path):
    data = open_dataset("folder", make_folder(tmp_path / "one", ("a", "b", "c", "d")))
    assert len(data) == 4 and data.name == "one" and data.split is None
    assert [sample.name for sample in data] == ["a", "b", "c", "d"]
    assert data[-1].name == "d" and [s.name for s in data[1::2]] == ["b", "d"]
    assert data[:2].list_hash != data.list_hash != data[::-1].list_hash
    again = open_dataset("folder", tmp_path / "one")
    assert again.list_hash == data.list_hash and len(data.list_hash) == 64
    other = pickle.loads(pickle.dumps(data[1:]))
    assert np.array_equal(other[0].rgb, data[1].rgb)
    with pytest.raises(IndexError):
        data[4]


def test_a_sample_checks_its_arrays():
    camera = Camera(W, H, 50, 50, 32, 24)
    with pytest.raises(DatasetError, match="made: expected colour uint8"):
        Sample(colour()[..., :2], None, camera, 0, "made")
    with pytest.raises(DatasetError, match="made: expected depth float32"):
        Sample(colour(), np.zeros((H, W)), camera, 0, "made")


# folder


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


def write_cloud(path, cloud, kind="pcd"):
    head = "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\n"
    head += f"COUNT 1 1 1 1\nWIDTH {len(cloud)}\nHEIGHT 1\nPOINTS {len(cloud)}\nDATA "
    table = np.column_stack([cloud, np.ones(len(cloud))]).astype("<f4")
    if kind == "pcd":
        path.write_bytes(head.encode() + b"binary\n" + table.tobytes())
    elif kind == "ascii.pcd":
        rows = "\n".join(" ".join(str(x) for x in row) for row in table)
        path.write_text(head + "ascii\n" + rows + "\n")
    elif kind == "bin":
        path.write_bytes(table.tobytes())
    elif kind == "npy":
        np.save(path, cloud)
    else:
        files.write_ply(path, cloud)


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
        (lambda r: (r / "depth" / "b.png").unlink(), r"expected .*b\.png to go with b\.png"),
        (lambda r: shutil.rmtree(r / "depth"), "expected the folder .*depth, got none"),
        (lambda r: (r / "pose").mkdir(), r"pose/a\.txt: expected a readable file"),
        (lambda r: (r / "points").mkdir(), "expected T_camera_lidar for points/"),
        (
            lambda r: (r / "associations.txt").write_text("1.0 rgb/a.png 1.0 depth/none.png\n"),
            r"associations\.txt: line 1: expected the file .*none\.png, got none",
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


# TUM RGB-D


def make_tum(root, ready=False):
    """Three colour and depth images with stamps a few milliseconds apart, poses at 100 Hz."""
    stamps = [100.0, 100.1, 100.2]
    rgb, depth, both = ["# color images"], ["# depth maps"], []
    for i, stamp in enumerate(stamps):
        a, b = f"{stamp:.6f}", f"{stamp + 0.004:.6f}"
        files.write_image(root / "rgb" / f"{a}.png", colour(i, (480, 640)))
        files.write_depth(root / "depth" / f"{b}.png", depth_map(i, (480, 640)), 5000.0)
        rgb.append(f"{a} rgb/{a}.png")
        depth.append(f"{b} depth/{b}.png")
        both.append(f"{a} rgb/{a}.png {b} depth/{b}.png")
    rgb.append("100.150000 rgb/absent_but_unpaired.png")
    if ready:
        (root / "associations.txt").write_text("\n".join(both))
    else:
        (root / "rgb.txt").write_text("\n".join(rgb))
        (root / "depth.txt").write_text("\n".join(depth))
    times = [99.995, 100.005, 100.095, 100.105]
    files.write_trajectory(root / "groundtruth.txt", [(round(t * 1e9), pose(t)) for t in times])
    return root


@pytest.mark.parametrize("ready", [True, False])
def test_tum_pairs_images_and_interpolates_poses(tmp_path, ready):
    data = open_dataset("tum", make_tum(tmp_path / "rgbd_dataset_freiburg3_desk", ready))
    assert len(data) == 3
    assert data.camera == Camera(640, 480, 535.4, 539.2, 320.1, 247.6)
    sample = data[1]
    assert sample.stamp == 100_100_000_000
    assert np.array_equal(sample.rgb, colour(1, (480, 640)))
    assert np.allclose(sample.depth, depth_map(1, (480, 640)), atol=1e-4)
    assert np.allclose(sample.T_world_camera, pose(100.1), atol=1e-6)
    assert data[2].T_world_camera is None  # the motion capture has ended before


def test_tum_rectifies_by_the_kinect_of_the_name(tmp_path):
    root = make_tum(tmp_path / "rgbd_dataset_freiburg1_xyz")
    data = open_dataset("tum", root)
    assert data.camera == Camera(640, 480, 517.3, 516.5, 318.6, 255.3)
    raw, rectified = data.raw(0)[1], data[0].depth
    assert np.allclose(raw, depth_map(0, (480, 640)), atol=1e-4)
    assert not np.array_equal(raw, rectified)
    # Near the centre hardly anything moves; towards the corners it does.
    assert (raw == rectified)[245:265, 309:329].mean() > 0.9
    assert (raw == rectified)[50:100, 50:100].mean() < 0.1


def test_tum_camera_json_comes_before_the_name(tmp_path):
    root = make_tum(tmp_path / "rgbd_dataset_freiburg3_desk")
    content = CAMERA | {"width": 640, "height": 480, "depth_scale": 2500.0}
    (root / "camera.json").write_text(json.dumps(content))
    data = open_dataset("tum", root)
    assert data.camera.fx == 52.0
    assert np.allclose(data[0].depth, 2 * depth_map(0, (480, 640)), atol=1e-3)


def test_tum_without_any_calibration_or_pair_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"camera\.json or freiburg1, 2 or 3"):
        open_dataset("tum", make_tum(tmp_path / "desk"))
    root = make_tum(tmp_path / "freiburg2_late")
    late = (root / "depth.txt").read_text().replace("\n100.", "\n200.")
    (root / "depth.txt").write_text(late)
    with pytest.raises(DatasetError, match="colour and depth within 20 ms, got no pair"):
        open_dataset("tum", root)
    with pytest.raises(DatasetError, match="tum has no splits"):
        open_dataset("tum", root, "train")


def test_pairs_are_the_nearest_and_used_once():
    assert pairs([0, 10, 20], [9, 11, 100], 15) == [(1, 0), (2, 1)]
    assert pairs([0, 10], [4, 9], 5) == [(0, 0), (1, 1)]
    assert pairs([0, 50], [30], 5) == [] and pairs([], [1], 5) == []


def test_poses_between_measured_ones():
    turn = np.eye(4)
    turn[:3, :3] = cv2.Rodrigues(np.array([0.0, 0.0, 0.8]))[0]
    turn[:3, 3] = [2, 0, 0]
    known = [(0, np.eye(4)), (80_000_000, turn), (80_000_000, np.eye(4)), (400_000_000, turn)]
    found = interpolate([-1, 0, 20_000_000, 80_000_000, 200_000_000, 400_000_001], known)
    assert [T is None for T in found] == [True, False, False, False, True, True]
    assert np.array_equal(found[0 + 1], np.eye(4)) and np.allclose(found[3], turn)
    assert np.allclose(found[2][:3, 3], [0.5, 0, 0])
    assert np.allclose(cv2.Rodrigues(found[2][:3, :3])[0].ravel(), [0, 0, 0.2])


# NYU Depth v2


def make_mat(root, count=6, test=(2, 5)):
    """The labelled .mat as MATLAB 7.3 stores it: transposed images, indices from 1."""
    h5py = pytest.importorskip("h5py")
    from scipy.io import savemat

    root.mkdir(parents=True)
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as mat:
        images = np.stack([colour(i, (480, 640)).transpose(2, 1, 0) for i in range(count)])
        depths = np.stack([depth_map(i, (480, 640)).T for i in range(count)])
        depths[0, 0, 10:13] = [np.nan, np.inf, -1]  # column 0, rows 10 to 12
        mat["images"], mat["depths"], mat["rawDepths"] = images, depths, np.zeros_like(depths)
    train = [i + 1 for i in range(count) if i + 1 not in test]
    lists = {"trainNdxs": np.array(train)[:, None], "testNdxs": np.array(test)[:, None]}
    savemat(root / "splits.mat", lists)
    return root


def test_nyu_labelled_mat(tmp_path):
    root = make_mat(tmp_path / "nyu")
    test, train = open_dataset("nyu", root), open_dataset("nyu", root, "train")
    assert test.split == "test" and [s.name for s in test] == ["0001", "0004"]
    assert len(train) == 4 and len(open_dataset("nyu", root, "all")) == 6
    sample = test[0]
    assert np.array_equal(sample.rgb, colour(1, (480, 640)))
    assert np.array_equal(sample.depth, depth_map(1, (480, 640)))
    assert sample.camera == Camera(640, 480, 518.858, 519.47, 325.582, 253.736)
    invalid = train[0].depth
    assert not invalid[10:13, 0].any() and np.isfinite(invalid).all()
    by_file = open_dataset("nyu", root / "nyu_depth_v2_labeled.mat", "test")
    assert by_file.list_hash == test.list_hash


def test_nyu_mat_val_is_the_last_95_of_train(tmp_path):
    from depth_two_stage.datasets.nyu import _split_indices

    make_mat(tmp_path / "nyu")
    from scipy.io import savemat

    savemat(
        tmp_path / "nyu" / "splits.mat",
        {"trainNdxs": np.arange(1, 796)[:, None], "testNdxs": np.arange(796, 1450)[:, None]},
    )
    mat = tmp_path / "nyu" / "nyu_depth_v2_labeled.mat"
    val, fit, train, test = (
        _split_indices(mat, split, 1449) for split in ("val", "fit", "train", "test")
    )
    assert (len(fit), len(val), len(train), len(test)) == (700, 95, 795, 654)
    assert np.array_equal(np.concatenate([fit, val]), train) and test[0] == 795


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda r: (r / "splits.mat").unlink(), r"expected the file .*splits\.mat, got none"),
        (lambda r: (r / "splits.mat").write_bytes(b"x" * 200), r"splits\.mat: expected a MATLAB"),
        (
            lambda r: (r / "nyu_depth_v2_labeled.mat").write_bytes(b"MATLAB 5.0" * 99),
            "expected an HDF5 .mat file",
        ),
        (
            lambda r: (r / "nyu_depth_v2_labeled.mat").write_bytes(
                (r / "nyu_depth_v2_labeled.mat").read_bytes()[:100000]
            ),
            "expected an HDF5 .mat file",
        ),
    ],
)
def test_a_damaged_mat_is_named(tmp_path, harm, says):
    root = make_mat(tmp_path / "nyu", 3, (2,))
    harm(root)
    with pytest.raises(DatasetError, match=says):
        open_dataset("nyu", root)


def test_nyu_unknown_split(tmp_path):
    root = make_mat(tmp_path / "nyu", 3, (2,))
    with pytest.raises(DatasetError, match=r"split: expected one of train, test, .* got 'dev'"):
        open_dataset("nyu", root, "dev")


def test_nyu_folders(tmp_path):
    for split in ("train", "val"):
        write_frame(tmp_path / split, "0002", 1)
    (tmp_path / "camera.json").write_text(json.dumps(CAMERA | {"width": 2 * W, "height": 2 * H}))
    data = open_dataset("nyu", tmp_path)
    assert (data.split, data[0].name) == ("val", "val/0002")
    assert data.camera.cx == (31 + 0.5) / 2 - 0.5 and data.camera.fx == 26.0
    assert open_dataset("nyu", tmp_path / "train").split == "train"
    with pytest.raises(DatasetError, match="split: expected one of train, val, got 'test'"):
        open_dataset("nyu", tmp_path, "test")
    write_frame(tmp_path / "kitchen", "0002", 1)  # another recording is no split
    with pytest.raises(DatasetError, match="split: expected one of train, val, got 'kitchen'"):
        open_dataset("nyu", tmp_path, "kitchen")
    (tmp_path / "val" / "depth" / "0002.png").unlink()
    with pytest.raises(
        DatasetError, match=r"expected the depth .*0002\.png of 0002\.png, got none"
    ):
        open_dataset("nyu", tmp_path)


# 7-Scenes


def make_scene(root, size=(480, 640)):
    for sequence in ("seq-01", "seq-03"):
        (root / sequence).mkdir(parents=True)
        for i in range(2):
            stem = root / sequence / f"frame-{i:06d}"
            files.write_image(stem.with_name(stem.name + ".color.png"), colour(i, size))
            units = np.full(size, 2000, np.uint16)
            units[:100] = 65535
            units[200:300, 300:340] = 1000
            cv2.imwrite(str(stem.with_name(stem.name + ".depth.png")), units)
            np.savetxt(stem.with_name(stem.name + ".pose.txt"), pose(i))
    (root / "TrainSplit.txt").write_text("sequence1\n")
    (root / "TestSplit.txt").write_text("sequence3\n")
    return root


def test_sevenscenes_splits_poses_and_registered_depth(tmp_path):
    root = make_scene(tmp_path / "chess")
    test = open_dataset("sevenscenes", root)
    assert test.split == "test" and [s.name for s in test] == [
        "seq-03/frame-000000",
        "seq-03/frame-000001",
    ]
    train, both = (open_dataset("sevenscenes", root, split) for split in ("train", "all"))
    assert train[0].name == "seq-01/frame-000000" and len(both) == 4
    stamps = [sample.stamp for sample in both]
    assert stamps == sorted(set(stamps))
    assert len(open_dataset("sevenscenes", root / "seq-01")) == 2

    sample = test[0]
    depth = sample.depth
    seen = depth > 0
    assert depth.max() < 2.1 and not depth[:60].any()  # 65535 is none, not 65 m
    # Seen from 2.5 cm to the side, the near box keeps its surface and throws a shadow.
    assert 0.9 < np.median(depth[215:280, 295:330]) < 1.1
    # A world point is the same one by the depth camera's own pose and by the sample's.
    points = sample.camera.backproject(depth)[seen].astype(np.float64)
    world = points @ sample.T_world_camera[:3, :3].T + sample.T_world_camera[:3, 3]
    own = (world - pose(0)[:3, 3]) @ pose(0)[:3, :3]
    assert np.isin(np.round(own[:, 2], 2), [1.0, 2.0]).mean() > 0.99


def test_sevenscenes_bad_splits_and_missing_files(tmp_path):
    root = make_scene(tmp_path / "chess")
    with pytest.raises(DatasetError, match="split: expected one of train, test, all, seq-01"):
        open_dataset("sevenscenes", root, "val")
    (root / "TestSplit.txt").write_text("sequence9\n")
    with pytest.raises(DatasetError, match=r"line 1: expected one of seq-01, seq-03, got 'seq"):
        open_dataset("sevenscenes", root, "test")
    (root / "seq-01" / "frame-000001.depth.png").unlink()
    with pytest.raises(DatasetError, match=r"expected .*000001\.depth\.png to go with"):
        open_dataset("sevenscenes", root, "train")


def test_sevenscenes_opens_a_prepared_folder(tmp_path):
    data = open_dataset("sevenscenes", make_folder(tmp_path / "kitchen"))
    assert len(data) == 3 and np.allclose(data[0].depth, depth_map(0), atol=1e-6)


# cameras with a LiDAR


def test_kitti_raw(tmp_path):
    P = [[50.0, 0, 31, 5.0], [0, 50, 24, 1.0], [0, 0, 1, 0.002]]
    T = [[0, -1, 0, 0.0], [0, 0, -1, -0.1], [1, 0, 0, -0.3], [0, 0, 0, 1.0]]
    content = {"P_rect_02": P, "R_rect_00": np.eye(3).tolist(), "T_cam0_velo": T}
    (tmp_path / "calib.json").write_text(json.dumps(content))
    files.write_image(tmp_path / "image_02" / "data" / "0000000000.png", colour())
    (tmp_path / "velodyne_points" / "data").mkdir(parents=True)
    cloud = np.array([[5, 0.3, 0.1], [9, -1, 0.2]], np.float32)
    write_cloud(tmp_path / "velodyne_points" / "data" / "0000000000.bin", cloud, "bin")
    sample = open_dataset("kitti", tmp_path)[0]
    assert sample.depth is None and np.array_equal(sample.points, cloud)
    # Projecting by our camera and extrinsics equals P · R_rect · T (KITTI's own formula).
    x = np.array(P) @ np.array(T) @ np.column_stack([cloud, np.ones(2)]).T
    want = np.rint(x[:2] / x[2]).astype(int)
    sparse = SparsePattern.parse("points")(sample, np.random.default_rng(0))
    assert np.allclose(sparse[want[1], want[0]], x[2], atol=1e-5)
    assert np.count_nonzero(sparse) == 2
    del content["R_rect_00"]
    (tmp_path / "calib.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"calib\.json: expected the key R_rect_00"):
        open_dataset("kitti", tmp_path)


def test_lidar16(tmp_path):
    K, D = [[50.0, 0, 31], [0, 50, 24], [0, 0, 1]], [-0.3, 0.08, 0, 0, 0]
    T = [[0, -1, 0, 0.0], [0, 0, -1, -0.1], [1, 0, 0, 0], [0, 0, 0, 1.0]]
    (tmp_path / "config.json").write_text(json.dumps({"cam": {"K": K, "D": D}, "tf": T}))
    files.write_image(tmp_path / "image_orig" / "0.jpg", colour())
    (tmp_path / "pointcloud").mkdir()
    write_cloud(tmp_path / "pointcloud" / "0.pcd", np.array([[5, 0.3, 0.1]], np.float32))
    data = open_dataset("lidar16", tmp_path)
    assert data[0].depth is None and len(data[0].points) == 1
    assert not data.lens.is_rectified and not np.array_equal(data[0].rgb, data.raw(0)[0])
    assert np.array_equal(data[0].T_camera_lidar, T)
    (tmp_path / "config.json").write_text(json.dumps({"cam": {"K": K}}))
    with pytest.raises(DatasetError, match=r"expected cam\.K, cam\.D and tf"):
        open_dataset("lidar16", tmp_path)


# the real recordings


@pytest.mark.parametrize(
    ("name", "folder", "split", "frames", "size"),
    [
        ("nyu", "nyu", "train", 700, (240, 320)),
        ("nyu", "nyu", "val", 95, (480, 640)),
        ("tum", "tum_fr1_xyz", None, 266, (480, 640)),
        ("folder", "tum_fr1_xyz", None, 266, (480, 640)),
        ("folder", "kitchen", None, 200, (480, 640)),
        ("sevenscenes", "kitchen", None, 200, (480, 640)),
        ("folder", "icsl", None, 110, (480, 640)),
        ("kitti", "kitti_raw", None, 8, (375, 1242)),
        ("lidar16", "lidar16", None, 4, (1080, 1920)),
    ],
)
def test_real_recordings_open_and_decode(recordings, name, folder, split, frames, size):
    data = open_dataset(name, recordings / folder, split)
    assert len(data) == frames
    for sample in (data[0], data[-1]):
        assert sample.rgb.shape[:2] == size == sample.camera.size
        if sample.depth is not None:
            assert (sample.depth > 0).mean() > 0.5 and sample.depth.max() < 11
        sparse = SparsePattern.parse("lines:16" if sample.points is None else "points")
        assert np.count_nonzero(sparse(sample, np.random.default_rng(0))) > 500
    stamps = [data.frames[i].stamp for i in range(frames)]
    assert stamps == sorted(set(stamps))


@pytest.mark.parametrize(("name", "folder"), [("tum", "tum_fr1_xyz"), ("sevenscenes", "kitchen")])
def test_real_depth_and_poses_agree_between_frames(recordings, name, folder):
    # A surface seen in one frame lies where the other measured it: poses, camera and registration.
    data = open_dataset(name, recordings / folder)
    errors = []
    for i in range(20, 140, 20):
        a, b = data[i], data[i + 3]
        points = a.camera.backproject(a.depth)[::4, ::4].reshape(-1, 3)
        T_b_a = np.linalg.inv(b.T_world_camera) @ a.T_world_camera
        moved = b.camera.project(points[points[:, 2] > 0], T_b_a)
        both = (moved > 0) & (b.depth > 0)
        errors.append(np.median(np.abs(moved - b.depth)[both]))
    assert np.median(errors) < 0.03
