# SPDX-License-Identifier: Apache-2.0
"""NYU Depth v2: the labelled .mat, and folders."""

import json

import numpy as np
import pytest
from trees import CAMERA, H, W, colour, depth_map, write_frame

from depth_two_stage.camera import Camera
from depth_two_stage.datasets import DatasetError, open_dataset


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
    (tmp_path / "train" / "rgb" / "0002.png").rename(tmp_path / "train" / "rgb" / "0003.png")
    with pytest.raises(DatasetError, match=r"2 missing: train/depth/0003\.png, train/rgb/0002"):
        open_dataset("nyu", tmp_path, "train")
    with pytest.raises(DatasetError, match=r"got 1 missing: val/depth/0002\.png"):
        open_dataset("nyu", tmp_path)


def test_a_mat_of_other_shapes_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    root = make_mat(tmp_path / "nyu", 3, (2,))
    for key, shape in (("images", (3, 4, 640, 480)), ("depths", (3, 480, 640))):
        with h5py.File(root / "nyu_depth_v2_labeled.mat", "a") as mat:
            whole = mat[key][()]
            del mat[key]
            mat[key] = np.zeros(shape, whole.dtype)
        with pytest.raises(DatasetError, match=r"expected images \(N, 3, W, H\) and depths"):
            open_dataset("nyu", root)
        with h5py.File(root / "nyu_depth_v2_labeled.mat", "a") as mat:
            del mat[key]
            mat[key] = whole
    assert len(open_dataset("nyu", root)) == 1


def test_what_is_no_depth_in_the_mat_is_none_and_counted(tmp_path):
    root = make_mat(tmp_path / "nyu", 3, (2,))
    first, other = open_dataset("nyu", root, "all")[:2]
    assert first.invalid_depth == 3 and other.invalid_depth == 0  # NaN, infinity, -1
