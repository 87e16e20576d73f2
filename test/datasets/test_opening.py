# SPDX-License-Identifier: Apache-2.0
"""What all data sets have in common: names, splits, samples, units, missing files."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from trees import H, W, colour, depth_map, make_folder

from depth_two_stage.camera import Camera
from depth_two_stage.datasets import DATASETS, DatasetError, Sample, check_metres, open_dataset


def test_unknown_names_roots_and_splits_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"dataset: expected one of nyu, tum, .* got 'nyuv2'"):
        open_dataset("nyuv2", tmp_path)
    with pytest.raises(DatasetError, match=r"got 'kiti_depht'; nearest: kitti_depth, kitti"):
        open_dataset("kiti_depht", tmp_path)
    with pytest.raises(DatasetError, match=r"got 'NYU-H5'; nearest: nyu_h5, nyu"):
        open_dataset("NYU-H5", tmp_path)
    with pytest.raises(DatasetError, match=r"got 'moon'$"):  # near nothing
        open_dataset("moon", tmp_path)
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


def test_of_missing_files_the_first_ten_are_named_and_all_counted(tmp_path):
    root = make_folder(tmp_path / "one", [f"{i:02d}" for i in range(15)])
    for i in range(1, 14):
        (root / "depth" / f"{i:02d}.png").unlink()
    with pytest.raises(DatasetError) as caught:
        open_dataset("folder", root)
    ten = ", ".join(f"depth/{i:02d}.png" for i in range(1, 11))
    assert str(caught.value) == (
        f"root: expected every file of {root}, got 13 missing: {ten} and 3 more"
    )


@pytest.mark.parametrize(
    ("scale", "says"),
    [
        (
            1.0,
            r"one a: depth: expected metres \(a median of 0.01 to 500\), got a median of 3\d\d\d",
        ),
        (1e6, r"got a median of 0\.003\d*: a wrong scale\?"),
    ],
)
def test_depth_that_cannot_be_metres_is_refused(tmp_path, scale, says):
    data = open_dataset("folder", make_folder(tmp_path / "one", depth_scale=scale))
    with pytest.raises(DatasetError, match=says):
        data[0]


@pytest.mark.parametrize(
    ("median", "fits"),
    [(0.009, False), (0.011, True), (499.0, True), (501.0, False)],
)
def test_the_limits_of_metres(median, fits):
    depth = np.zeros((48, 64), np.float32)
    depth[10:20, 10:20] = median
    depth[10, 10] = 1e6  # one wild pixel is not the unit
    if fits:
        check_metres(depth, "made")
    else:
        with pytest.raises(DatasetError, match="made: expected metres"):
            check_metres(depth, "made")
    lone = np.zeros((48, 64), np.float32)
    lone[1, 1] = median  # between the pixels that are looked at first
    if not fits:
        with pytest.raises(DatasetError, match="made: expected metres"):
            check_metres(lone, "made")
    check_metres(np.zeros((48, 64), np.float32), "made")  # no depth has no unit


def test_what_is_no_depth_becomes_none_in_a_sample_and_is_counted():
    depth = depth_map()
    depth[20, 20:24] = np.nan, np.inf, -np.inf, -1
    given = depth.copy()
    sample = Sample(colour(), depth, Camera(W, H, 50, 50, 32, 24), 0, "made", sparse=depth)
    assert not sample.depth[20, 20:24].any() and not sample.sparse[20, 20:24].any()
    assert sample.invalid_depth == 4 and np.array_equal(depth, given, equal_nan=True)
    assert np.array_equal(sample.depth[:20], depth[:20])
    assert replace(sample, stamp=1).invalid_depth == 4  # counted once


def test_a_missing_image_does_not_shorten_what_is_measured(tmp_path):
    root = make_folder(tmp_path / "one")
    (root / "rgb" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"got 1 missing: rgb/b\.png"):
        open_dataset("folder", root)
