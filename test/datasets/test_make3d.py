# SPDX-License-Identifier: Apache-2.0
"""Make3D: the scans' axes, sizes, splits; wrong files."""

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from depth_two_stage import files
from depth_two_stage.datasets import DatasetError, open_dataset
from depth_two_stage.protocols import PROTOCOLS


def grid():
    """Distance grows down the image by rows and, less, across by columns."""
    scan = np.zeros((55, 305, 4))
    scan[..., 3] = 1 + np.arange(55)[:, None] + np.arange(305) / 1000
    scan[0, 0, 3], scan[0, 1, 3], scan[54, 304, 3] = np.nan, -1, 80.0
    return scan


def write(root, images, depths, name, scan=None, size=(568, 426)):
    rgb = np.full((*size, 3), 60, np.uint8)
    rgb[: size[0] // 2] = 200  # sky above
    files.write_image(root / images / f"img-{name}.jpg", rgb)
    (root / depths).mkdir(parents=True, exist_ok=True)
    content = {"Position3DGrid": grid() if scan is None else scan}
    savemat(root / depths / f"depth_sph_corr-{name}.mat", content)


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "Train400Img", "Train400Depth", "math7-p-220t0")
    write(tmp_path, "Train400Img", "Train400Depth", "60705-17.10.14-p-018t000")
    write(tmp_path, "Test134", "Gridlaserdata", "10.21op2-p-015t000", size=(2272, 1704))
    return tmp_path


def test_rows_run_down_and_columns_across(root):
    train, test = open_dataset("make3d", root, "train"), open_dataset("make3d", root)
    assert (test.split, test.names) == ("test", ["10.21op2-p-015t000"])
    assert train.names == ["60705-17.10.14-p-018t000", "math7-p-220t0"]
    for sample in (train[0], test[0]):
        assert sample.rgb.shape == (460, 345, 3) and sample.depth.shape == (460, 345)
        assert sample.camera.size == (460, 345) and sample.invalid_depth == 2
        assert sample.rgb[20:200].min() > 190 and sample.rgb[260:].max() < 70
        # Nearest neighbour: pixel (v, u) shows cell (55 (v + 0.5) / 460, 305 (u + 0.5) / 345).
        v, u = np.array([3, 100, 230, 459]), np.array([10, 120, 200, 300])
        cells = (55 * (v + 0.5) / 460).astype(int), (305 * (u + 0.5) / 345).astype(int)
        assert np.allclose(sample.depth[v, u], grid()[(*cells, 3)])
        assert sample.depth[0, 0] == 0 and sample.depth[459, 344] == 80
    # The camera's long side is that of the sensor: 7.1 mm over 7.2 mm, 2272 px.
    assert sample.camera.fy == pytest.approx(7.1 / 7.2 * 460) == sample.camera.fx


def test_the_images_that_are_less_high_are_stretched_to_the_same_size(tmp_path):
    write(tmp_path, "Test134", "Gridlaserdata", "op39-p-015t000", size=(2204, 1704))
    sample = open_dataset("make3d", tmp_path)[0]
    assert sample.rgb.shape == (460, 345, 3)
    assert sample.camera.fy / sample.camera.fx == pytest.approx(2272 / 2204)


def test_protocol_c1_leaves_out_the_sky(root):
    protocol, sample = PROTOCOLS["make3d"], open_dataset("make3d", root)[0]
    protocol.check(sample.camera, "none")
    truth = protocol.truth(sample.depth)
    out = (sample.depth == 0) | (sample.depth >= 70)
    assert out.sum() > 2 and np.array_equal(truth == 0, out)


def test_other_names_of_the_unpacked_archives(tmp_path):
    write(tmp_path, "Test134Img", "Test134Depth/Gridlaserdata", "a")
    assert open_dataset("make3d", tmp_path)[0].name == "a"
    with pytest.raises(DatasetError, match="split: expected one of test, got 'train'"):
        open_dataset("make3d", tmp_path, "train")


@pytest.mark.parametrize(
    ("scan", "says"),
    [
        (np.ones((305, 55, 4)), r"expected Position3DGrid of shape \(55, 305, 4\), got float64"),
        (np.ones((55, 305)), r"got float64 \(55, 305\)"),
        (np.ones((55, 305, 3)), r"got float64 \(55, 305, 3\)"),
        (np.full((55, 305, 4), 5000.0), "depth: expected metres .* millimetres"),
    ],
)
def test_scans_of_another_shape_or_unit(tmp_path, scan, says):
    write(tmp_path, "Test134", "Gridlaserdata", "a", scan)
    with pytest.raises(DatasetError, match=says):
        open_dataset("make3d", tmp_path)[0]


def test_wrong_files_are_named(root):
    path = root / "Gridlaserdata" / "depth_sph_corr-10.21op2-p-015t000.mat"
    whole = path.read_bytes()
    for cut in (0, 10, 150, len(whole) // 2):
        path.write_bytes(whole[:cut])
        with pytest.raises(DatasetError, match=r"015t000\.mat: expected"):
            open_dataset("make3d", root)[0]
    savemat(path, {"Position3DGrid": grid()}, do_compression=True)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DatasetError, match=r"015t000\.mat: expected a MATLAB v5 file"):
        open_dataset("make3d", root)[0]
    savemat(path, {"depth": np.ones((55, 305))})
    with pytest.raises(DatasetError, match="expected Position3DGrid, got depth"):
        open_dataset("make3d", root)[0]
    image = root / "Test134" / "img-10.21op2-p-015t000.jpg"
    cv2.imwrite(str(image), np.zeros((426, 568, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"expected a portrait of 4:3 .*, got 426x568"):
        open_dataset("make3d", root)[0]
    image.unlink()
    write(root, "Test134", "Gridlaserdata", "b")
    with pytest.raises(DatasetError, match=r"got 1 missing: Test134/img-10\.21op2-p-015t000\.jpg"):
        open_dataset("make3d", root)
    write(root, "Test134", "Gridlaserdata", "10.21op2-p-015t000")
    path.unlink()
    with pytest.raises(DatasetError, match=r"got 1 missing: Gridlaserdata/depth_sph_corr-10"):
        open_dataset("make3d", root)
