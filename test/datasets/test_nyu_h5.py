# SPDX-License-Identifier: Apache-2.0
"""NYU Depth v2 as sparse-to-dense has it: one HDF5 file a frame."""

import numpy as np
import pytest
from trees import colour, depth_map

from depth_two_stage.camera import Camera
from depth_two_stage.datasets import DatasetError, open_dataset

h5py = pytest.importorskip("h5py")
SIZE = (480, 640)


def write(path, seed=0, **arrays):
    content = {"rgb": colour(seed, SIZE).transpose(2, 0, 1), "depth": depth_map(seed, SIZE)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, array in (content | arrays).items():
            if array is not None:
                file[key] = array


def make_tree(root):
    write(root / "train" / "kitchen_0001" / "00006.h5", 1)
    write(root / "train" / "kitchen_0001" / "00001.h5", 0)
    write(root / "train" / "attic_0002" / "00001.h5", 2)
    write(root / "val" / "official" / "00001.h5", 3)
    return root


def test_splits_and_content(tmp_path):
    root = make_tree(tmp_path)
    val, train = open_dataset("nyu_h5", root), open_dataset("nyu_h5", root, "train")
    assert (val.split, val.names) == ("val", ["val/official/00001"])
    assert train.names == [
        "train/attic_0002/00001",
        "train/kitchen_0001/00001",
        "train/kitchen_0001/00006",
    ]
    assert len(open_dataset("nyu_h5", root, "train/kitchen_0001")) == 2
    sample = val[0]
    assert np.array_equal(sample.rgb, colour(3, SIZE))
    assert np.array_equal(sample.depth, depth_map(3, SIZE)) and sample.invalid_depth == 0
    assert sample.camera == Camera(640, 480, 518.858, 519.47, 325.582, 253.736)


def test_nan_is_none_and_counted(tmp_path):
    depth = depth_map(0, SIZE).astype(np.float64)
    depth[100, 200:203] = np.nan, np.inf, -0.5
    write(tmp_path / "val" / "official" / "00001.h5", depth=depth)
    sample = open_dataset("nyu_h5", tmp_path)[0]
    assert not sample.depth[100, 200:203].any() and sample.invalid_depth == 3
    assert sample.depth.dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"rgb": None}, "expected the array rgb, got depth"),
        ({"rgb": np.zeros((480, 640, 3), np.uint8)}, r"expected rgb uint8 \(3, 480, 640\), got"),
        ({"rgb": np.zeros((4, 480, 640), np.uint8)}, r"got uint8 \(4, 480, 640\)"),
        ({"rgb": np.zeros((3, 480, 640))}, "got float64"),
        ({"depth": np.ones((640, 480))}, r"expected depth float \(480, 640\) m, got float64 \(640"),
        ({"depth": np.ones((480, 640), np.uint16)}, "got uint16"),
        ({"depth": 1000 * depth_map(0, SIZE)}, "depth: expected metres .* millimetres"),
    ],
)
def test_wrong_content_is_named(tmp_path, arrays, says):
    write(tmp_path / "val" / "official" / "00001.h5", **arrays)
    with pytest.raises(DatasetError, match=says) as caught:
        open_dataset("nyu_h5", tmp_path)[0]
    assert "official/00001" in str(caught.value)


def test_damaged_files_and_unknown_splits(tmp_path):
    root = make_tree(tmp_path)
    path = root / "val" / "official" / "00001.h5"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DatasetError, match=r"00001\.h5: expected an HDF5 \.h5 file"):
        open_dataset("nyu_h5", root)[0]
    for split in ("test", "train/cellar", "train/../val", "../x"):
        with pytest.raises(DatasetError, match=r"split: expected one of train, val.*, got '"):
            open_dataset("nyu_h5", root, split)
    (root / "train" / "attic_0002" / "00001.h5").unlink()
    with pytest.raises(DatasetError, match=r"split train/attic_0002: expected \*\.h5"):
        open_dataset("nyu_h5", root, "train/attic_0002")
