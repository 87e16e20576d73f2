# SPDX-License-Identifier: Apache-2.0
"""KITTI depth completion: drives with raw colour, and the chosen images."""

import numpy as np
import pytest
from test_kitti import write_date
from trees import colour

from depth_two_stage import files
from depth_two_stage.datasets import DatasetError, open_dataset

DRIVE = "2011_09_26_drive_0001_sync"


def truth(seed=0, size=(48, 64)):
    """16-bit depth in 1/256 m as metres, exact in binary."""
    depth = np.random.default_rng(seed).integers(512, 20000, size) / 256
    depth[np.random.default_rng(seed + 1).random(size) < 0.7] = 0
    return depth.astype(np.float32)


def write_truth(drive, index, kinds=("groundtruth", "velodyne_raw"), camera="image_02"):
    for k, kind in enumerate(kinds):
        path = drive / "proj_depth" / kind / camera / f"{index:010d}.png"
        files.write_depth(path, truth(10 * index + k), 256.0)


def write_colour(folder, index):
    files.write_image(folder / "image_02" / "data" / f"{index:010d}.png", colour(index))


@pytest.fixture(params=["one folder", "kitti_raw beside", "raw tree in", "data_ folders"])
def root(request, tmp_path):
    """Drives as the archives unpack, and as other programs arrange them; truth begins at 5."""
    root, places = tmp_path / "depth", {"": ("groundtruth", "velodyne_raw")}
    colours = {
        "one folder": root / "val" / DRIVE,
        "kitti_raw beside": tmp_path / "kitti_raw" / "2011_09_26" / DRIVE,
        "raw tree in": root / "2011_09_26" / DRIVE,
        "data_ folders": root / "data_rgb" / "val" / DRIVE,
    }
    folder = colours[request.param]
    date = folder.parent if folder.parent.name == "2011_09_26" else root / "2011_09_26"
    write_date(date)
    if request.param == "data_ folders":
        places = {
            "data_depth_annotated": ("groundtruth",),
            "data_depth_velodyne": ("velodyne_raw",),
        }
    for index in (5, 6, 7):
        for place, kinds in places.items():
            write_truth(root / place / "val" / DRIVE, index, kinds or ("groundtruth",))
    if request.param == "data_ folders":
        for index in (5, 6, 7):  # seeds differ by the kind's position
            path = root / "data_depth_velodyne" / "val" / DRIVE / "proj_depth" / "velodyne_raw"
            files.write_depth(path / "image_02" / f"{index:010d}.png", truth(10 * index + 1), 256.0)
    for index in range(10):
        write_colour(folder, index)
    return root


def test_truth_scan_and_colour_go_together(root):
    data = open_dataset("kitti_depth", root)
    assert (data.split, data.name, len(data)) == ("val", "kitti_depth", 3)
    assert data.names[0] == f"{DRIVE}/0000000005"
    sample = data[1]
    assert np.array_equal(sample.rgb, colour(6))
    assert np.array_equal(sample.depth, truth(60)) and np.array_equal(sample.sparse, truth(61))
    assert sample.camera.size == (48, 64) and sample.camera.fx == 50
    with pytest.raises(DatasetError, match="split: expected one of val, got 'train'"):
        open_dataset("kitti_depth", root, "train")


def make_selection(root, test=False):
    folder = (
        root
        / "depth_selection"
        / ("test_depth_completion_anonymous" if test else "val_selection_cropped")
    )
    (folder / "intrinsics").mkdir(parents=True)
    for index, fx in ((8, 721.5), (23, 707.1)):
        stem = f"{DRIVE}_{{}}_{index:010d}_image_02"
        names = {k: stem.format(k) for k in ("image", "groundtruth_depth", "velodyne_raw")}
        if test:
            names = dict.fromkeys(names, f"{index:010d}")
        files.write_image(folder / "image" / f"{names['image']}.png", colour(index, (352, 1216)))
        if not test:
            path = folder / "groundtruth_depth" / f"{names['groundtruth_depth']}.png"
            files.write_depth(path, truth(index, (352, 1216)), 256.0)
        path = folder / "velodyne_raw" / f"{names['velodyne_raw']}.png"
        files.write_depth(path, truth(index + 1, (352, 1216)), 256.0)
        (folder / "intrinsics" / f"{names['image']}.txt").write_text(
            f"{fx} 0.0 596.5 0.0 {fx} 149.8 0.0 0.0 1.0"
        )
    return folder


def test_the_chosen_validation_images_with_a_camera_each(tmp_path):
    folder = make_selection(tmp_path)
    for root in (tmp_path, tmp_path / "depth_selection", folder):
        data = open_dataset("kitti_depth", root)
        assert data.split == "selection" and len(data) == 2 and data.camera is None
    assert [s.camera.fx for s in data] == [721.5, 707.1]
    assert data[0].camera.size == (352, 1216) and data[0].camera.cy == 149.8
    assert np.array_equal(data[1].depth, truth(23, (352, 1216)))
    assert np.array_equal(data[1].sparse, truth(24, (352, 1216)))


def test_the_test_images_have_no_truth(tmp_path):
    make_selection(tmp_path, test=True)
    data = open_dataset("kitti_depth", tmp_path)
    assert data.split == "test" and data[0].depth is None and data[0].sparse.any()


def test_colour_that_was_re_coded_is_found(tmp_path):
    write_truth(tmp_path / "val" / DRIVE, 5)
    write_date(tmp_path / "2011_09_26")
    files.write_image(tmp_path / "val" / DRIVE / "image_02" / "0000000005.jpg", colour(5))
    sample = open_dataset("kitti_depth", tmp_path)[0]
    assert sample.rgb.shape == (48, 64, 3) and np.array_equal(sample.depth, truth(50))


def test_what_lacks_is_said(tmp_path):
    root = tmp_path / "depth"
    for index in range(5, 19):
        write_truth(root / "train" / DRIVE, index)
    with pytest.raises(DatasetError, match=r"expected the colour of KITTI raw, 2011_09_26/2011"):
        open_dataset("kitti_depth", root)
    for index in range(5, 8):
        write_colour(root / "train" / DRIVE, index)
    with pytest.raises(DatasetError, match=r"expected 2011_09_26/calib_cam_to_cam\.txt of KITTI"):
        open_dataset("kitti_depth", root)
    write_date(root / "2011_09_26")
    with pytest.raises(DatasetError, match=r"got 11 missing: train/.*/0000000008\.png, .* 1 more"):
        open_dataset("kitti_depth", root)


def test_other_sizes_and_channels_are_refused(tmp_path):
    folder = make_selection(tmp_path)
    path = next((folder / "groundtruth_depth").glob("*8_image_02.png"))
    files.write_depth(path, truth(0, (100, 200)), 256.0)
    data = open_dataset("kitti_depth", tmp_path)
    with pytest.raises(DatasetError, match=r"expected the colour's size \(352, 1216\)"):
        data[0]
    files.write_image(path, colour(0, (352, 1216)))
    with pytest.raises(DatasetError, match="expected a 16-bit single-channel PNG, got uint8"):
        data[0]
    path = next((folder / "intrinsics").iterdir())
    path.write_text("721.5 0 596")
    with pytest.raises(DatasetError, match="expected nine numbers of a camera"):
        open_dataset("kitti_depth", tmp_path)
