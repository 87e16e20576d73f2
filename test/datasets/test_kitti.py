# SPDX-License-Identifier: Apache-2.0
"""KITTI raw: a drive, a date, the tree."""

import json

import numpy as np
import pytest
from trees import colour, write_cloud

from depth_two_stage import files
from depth_two_stage.datasets import DatasetError, open_dataset
from depth_two_stage.datasets.sparse import SparsePattern


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


P2 = [[50.0, 0, 31, 5.0], [0, 50, 24, 1.0], [0, 0, 1, 0.002]]
R = [[1, 0.001, 0], [-0.001, 1, 0], [0, 0, 1]]
T_VELO = [[0, -1, 0, 0.0], [0, 0, -1, -0.1], [1, 0, 0, -0.3], [0, 0, 0, 1.0]]


def text(values):
    return " ".join(f"{v:e}" for v in np.ravel(values))


def write_date(folder, size=(48, 64)):
    """The calibration of a date as KITTI raw has it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "calib_cam_to_cam.txt").write_text(
        "calib_time: 09-Jan-2012 13:57:47\ncorner_dist: 9.950000e-02\n"
        f"R_rect_00: {text(R)}\nP_rect_00: {text(np.eye(3, 4))}\n"
        f"S_rect_02: {text(size[::-1])}\nR_rect_02: {text(np.eye(3))}\nP_rect_02: {text(P2)}\n"
    )
    T = np.array(T_VELO)
    (folder / "calib_velo_to_cam.txt").write_text(
        f"calib_time: 15-Mar-2012 11:37:16\nR: {text(T[:3, :3])}\nT: {text(T[:3, 3])}\n"
        "delta_f: 0.000000e+00 0.000000e+00\n"
    )


def write_drive(date, name, frames=2, size=(48, 64), start=0):
    for i in range(start, start + frames):
        files.write_image(date / name / "image_02" / "data" / f"{i:010d}.png", colour(i, size))
        clouds = date / name / "velodyne_points" / "data"
        clouds.mkdir(parents=True, exist_ok=True)
        write_cloud(clouds / f"{i:010d}.bin", np.array([[5 + i, 0.3, 0.1]], np.float32), "bin")


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "raw"
    write_date(root / "2011_09_26")
    write_date(root / "2011_09_28", (40, 60))
    write_drive(root / "2011_09_26", "2011_09_26_drive_0001_sync")
    write_drive(root / "2011_09_26", "2011_09_26_drive_0002_sync")
    write_drive(root / "2011_09_28", "2011_09_28_drive_0001_sync", size=(40, 60))
    return root


def test_the_raw_tree_by_drive_by_date_and_whole(tree):
    drive = open_dataset("kitti", tree / "2011_09_26" / "2011_09_26_drive_0001_sync")
    assert (drive.split, drive.names) == (None, ["0000000000", "0000000001"])
    assert drive.camera.size == (48, 64) and drive.camera.fx == 50
    date = open_dataset("kitti", tree / "2011_09_26")
    assert date.split == "all" and date.names[-1] == "2011_09_26_drive_0002_sync/0000000001"
    whole = open_dataset("kitti", tree)
    assert len(whole) == 6 and whole.camera is None  # dates differ in their cameras
    assert [s.camera.size for s in whole] == [(48, 64)] * 4 + [(40, 60)] * 2
    stamps = [s.stamp for s in whole]
    assert stamps == sorted(set(stamps))
    one = open_dataset("kitti", tree, "2011_09_28_drive_0001_sync")
    assert [s.rgb.shape for s in one] == [(40, 60, 3)] * 2
    with pytest.raises(DatasetError, match="split: expected one of all, 2011_09_26_drive_0001_sy"):
        open_dataset("kitti", tree, "2011_09_26_drive_0003_sync")
    with pytest.raises(DatasetError, match=r"split: expected none \(this is one drive\), got"):
        open_dataset("kitti", tree / "2011_09_26" / "2011_09_26_drive_0001_sync", "train")


def test_points_of_the_raw_tree_fall_where_kittis_formula_says(tree):
    sample = open_dataset("kitti", tree, "2011_09_26_drive_0001_sync")[0]
    R4 = np.eye(4)
    R4[:3, :3] = R
    x = np.array(P2) @ R4 @ np.array(T_VELO) @ [5, 0.3, 0.1, 1]
    column, row = np.rint(x[:2] / x[2]).astype(int)
    sparse = SparsePattern.parse("points")(sample, np.random.default_rng(0))
    assert np.count_nonzero(sparse) == 1
    assert sparse[row, column] == pytest.approx(x[2], abs=1e-4)


def test_missing_scans_are_counted_but_for_the_unpublished_ones(tree, tmp_path):
    date = tree / "2011_09_26"
    write_drive(date, "2011_09_26_drive_0009_sync", 8, start=175)
    clouds = date / "2011_09_26_drive_0009_sync" / "velodyne_points" / "data"
    for i in range(177, 181):
        (clouds / f"{i:010d}.bin").unlink()
    drive = open_dataset("kitti", tree, "2011_09_26_drive_0009_sync")
    assert drive.names == [f"{i:010d}" for i in (175, 176, 181, 182)]
    image = date / "2011_09_26_drive_0009_sync" / "image_02" / "data" / "0000000182.png"
    image.rename(tmp_path / "aside.png")
    with pytest.raises(DatasetError, match=r"got 1 missing: .*/image_02/data/0000000182\.png"):
        open_dataset("kitti", tree)
    (tmp_path / "aside.png").rename(image)
    (clouds / "0000000181.bin").unlink()
    with pytest.raises(DatasetError, match=r"got 1 missing: .*0009_sync/.*/0000000181\.bin"):
        open_dataset("kitti", tree)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("calib_cam_to_cam.txt", None, r"expected calib\.json in .* or calib_cam_to_cam\.txt"),
        ("calib_velo_to_cam.txt", None, r"expected the file .*calib_velo_to_cam\.txt, got none"),
        ("calib_cam_to_cam.txt", "R: 1 2", "calib_cam_to_cam.txt: expected the key S_rect_02"),
        ("calib_velo_to_cam.txt", "R: 1 2", r"R: expected \(3, 3\) numbers, got"),
        ("calib_velo_to_cam.txt", "R: " + "1 " * 9 + "\nT: 0 0 0", "expected a rotation"),
        ("calib_velo_to_cam.txt", "R: nan" + " 1" * 8 + "\nT: 0 0 0", "expected finite numbers"),
    ],
)
def test_damaged_calibration_is_named(tree, name, content, says):
    path = tree / "2011_09_26" / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(DatasetError, match=says):
        open_dataset("kitti", tree)
