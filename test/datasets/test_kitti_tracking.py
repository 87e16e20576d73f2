# SPDX-License-Identifier: Apache-2.0
"""KITTI tracking: depth that OpenCV matches from a pair whose disparity is known."""

import pickle

import cv2
import numpy as np
import pytest

from depth_two_stage import files
from depth_two_stage.datasets import DatasetError, open_dataset

SIZE = (96, 320)
FX, BASELINE = 180.0, 0.54
CALIBRATION = (
    "P0: 180 0 150 0 0 180 40 0 0 0 1 0\n"
    f"P2: {FX} 0 150 11.7 0 {FX} 40 0 0 0 1 0\n"
    f"P3: {FX} 0 {{cx}} {{t3}} 0 {FX} 40 0 0 0 1 0\n"
    "R_rect 1 0 0 0 1 0 0 0 1\nTr_velo_cam 0 -1 0 0 0 0 -1 0 1 0 0 0\n"
)


def pair(near=20, far=8, seed=0):
    """A textured far wall and a near box in its middle, as disparities in pixels."""
    rng = np.random.default_rng(seed)
    wide = (SIZE[0], SIZE[1] + 64)
    wall, box = (
        cv2.GaussianBlur(rng.integers(0, 256, (*wide, 3), np.uint8), (3, 3), 0) for _ in range(2)
    )
    left, right = wall[:, :320].copy(), wall[:, far : far + 320].copy()
    rows, columns = slice(30, 70), slice(140, 220)
    left[rows, columns] = box[rows, columns]
    right[rows, 140 - near : 220 - near] = box[rows, columns]
    return left, right


def make_tree(root, sequences=("0000", "0003"), cx=150.0):
    for sequence in sequences:
        for i in range(2):
            for folder, image in zip(("image_02", "image_03"), pair(seed=i), strict=True):
                path = root / "training" / folder / sequence / f"{i:06d}.png"
                files.write_image(path, image)
        calibration = root / "training" / "calib"
        calibration.mkdir(exist_ok=True)
        words = CALIBRATION.format(cx=cx, t3=11.7 - FX * BASELINE)
        (calibration / f"{sequence}.txt").write_text(words)
    return root


@pytest.mark.parametrize("matcher", ["sgbm", "bm"])
def test_depth_is_focal_length_times_baseline_over_disparity(tmp_path, matcher):
    data = open_dataset("kitti_tracking", make_tree(tmp_path), f"0000:{matcher}")
    assert data.camera.size == SIZE and data.camera.fx == FX and len(data) == 2
    depth = data[0].depth
    box, wall = depth[40:60, 155:205], depth[5:22, 80:300]
    for part, disparity in ((box, 20), (wall, 8)):
        assert (part > 0).mean() > 0.8
        assert np.median(part[part > 0]) == pytest.approx(FX * BASELINE / disparity, rel=0.02)
    # Where the right camera does not look there is no depth rather than a guess.
    assert not depth[:, :8].any()


def test_the_split_names_sequence_and_matcher(tmp_path):
    root = make_tree(tmp_path)
    every = open_dataset("kitti_tracking", root)
    assert every.names == ["0000/000000", "0000/000001", "0003/000000", "0003/000001"]
    assert every.matcher == "sgbm" and every.split is None
    stamps = [sample.stamp for sample in every]
    assert stamps == sorted(set(stamps))
    blocks = open_dataset("kitti_tracking", root, "bm")
    assert len(blocks) == 4 and blocks.matcher == "bm"
    assert not np.array_equal(blocks[0].depth, every[0].depth)
    one = open_dataset("kitti_tracking", root / "training", "0003")
    assert one.names == ["000000", "000001"]
    again = pickle.loads(pickle.dumps(one))
    assert np.array_equal(again[1].depth, one[1].depth)
    for split in ("0001", "elas", "0000:elas", "0000:0003", "sgbm:bm"):
        with pytest.raises(DatasetError, match="split: expected SEQUENCE:MATCHER with one of 0000"):
            open_dataset("kitti_tracking", root, split)


def test_shifted_principal_points_belong_to_the_disparity(tmp_path):
    # u_left - u_right = fx b / z + cx_left - cx_right: the right centre 3 px further left.
    plain = open_dataset("kitti_tracking", make_tree(tmp_path / "a"))[0].depth
    moved = open_dataset("kitti_tracking", make_tree(tmp_path / "b", cx=147.0))[0].depth
    assert np.median(plain[40:60, 155:205]) == pytest.approx(FX * BASELINE / 20, rel=0.02)
    assert np.median(moved[40:60, 155:205]) == pytest.approx(FX * BASELINE / 17, rel=0.02)


def test_missing_and_wrong_files_are_named(tmp_path):
    root = make_tree(tmp_path)
    right = root / "training" / "image_03" / "0003"
    files.write_image(right / "000001.png", np.zeros((96, 300, 3), np.uint8))
    with pytest.raises(
        DatasetError, match=r"000001\.png: expected the left image's size \(96, 320"
    ):
        open_dataset("kitti_tracking", root, "0003")[1]
    (root / "training" / "image_02" / "0000" / "000000.png").rename(tmp_path / "aside.png")
    with pytest.raises(DatasetError, match=r"got 1 missing: training/image_02/0000/000000\.png"):
        open_dataset("kitti_tracking", root, "0000")
    (tmp_path / "aside.png").rename(root / "training" / "image_02" / "0000" / "000000.png")
    for i in range(2):
        (right / f"{i:06d}.png").unlink()
    with pytest.raises(DatasetError, match=r"got 2 missing: training/image_03/0003/000000\.png"):
        open_dataset("kitti_tracking", root)
    assert len(open_dataset("kitti_tracking", root, "0000")) == 2
    calibration = root / "training" / "calib" / "0000.txt"
    calibration.write_text("P2: 1 2 3\n")
    with pytest.raises(DatasetError, match=r"0000\.txt: P2: expected \(3, 4\) numbers"):
        open_dataset("kitti_tracking", root, "0000")
    calibration.write_text(CALIBRATION.format(cx=150, t3=50))
    with pytest.raises(DatasetError, match=r"expected P3 to the right of P2, got -0\.2"):
        open_dataset("kitti_tracking", root, "0000")
    calibration.unlink()
    with pytest.raises(DatasetError, match=r"expected the file .*0000\.txt, got none"):
        open_dataset("kitti_tracking", root, "0000")
