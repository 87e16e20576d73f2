# SPDX-License-Identifier: Apache-2.0
"""Evaluation protocols: crops, masks, limits, clipping, sizes and units, each by hand."""

import numpy as np
import pytest

from depth_two_stage import files, metrics
from depth_two_stage.camera import Camera
from depth_two_stage.datasets import Sample
from depth_two_stage.protocols import PROTOCOLS

CAMERA = Camera(640, 480, 518.8, 519.4, 325.6, 253.7)


def nyu(depth=None, seed=0, **more):
    rgb = np.random.default_rng(seed).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    return Sample(rgb, depth, CAMERA, 0, "made", **more)


def positions(size=(480, 640)):
    """Depth that tells its pixel: 1 + row + column / 1000 m."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (1 + rows + columns / 1000).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "first", "shape"),
    [
        ("full", (0, 0), (480, 640)),
        ("E", (0, 0), (480, 640)),
        ("eigen", (45, 41), (426, 560)),
        ("centre", (12, 16), (456, 608)),
        ("kitti", (0, 0), (480, 640)),
        ("C", (0, 0), (480, 640)),
        ("garg", (195, 23), (281, 593)),
    ],
)
def test_crops(name, first, shape):
    protocol = PROTOCOLS[name]
    frame = protocol.cut(protocol.prepare(nyu(positions())).depth)
    assert frame.shape == shape
    if name != "C":  # whose first pixel is an extreme
        assert frame[0, 0] == np.float32(1 + first[0] + first[1] / 1000)


def test_gargs_crop_of_kitti():
    assert PROTOCOLS["garg"].cut(np.zeros((375, 1242))).shape == (371 - 153, 1197 - 44)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("full", [0.002, 0.5, 9.9, 10, 69.9, 70, 79.9, 80, 200]),
        ("E", [0.002, 0.5, 9.9, 10, 69.9, 70, 79.9, 80, 200]),
        ("eigen", [0.002, 0.5, 9.9]),
        ("centre", [0.002, 0.5, 9.9, 10, 69.9, 70, 79.9, 80, 200]),
        ("make3d", [0.0005, 0.002, 0.5, 9.9, 10, 69.9]),
        ("garg", [0.002, 0.5, 9.9, 10, 69.9, 70, 79.9]),
        ("kitti", [0.0005, 0.002, 0.5, 9.9, 10, 69.9, 70, 79.9, 80, 200]),
    ],
)
def test_limits_of_the_truth(name, kept):
    values = np.array([0, 0.0005, 0.002, 0.5, 9.9, 10, 69.9, 70, 79.9, 80, 200], np.float32)
    truth = PROTOCOLS[name].truth(np.tile(np.repeat(values, 60), (480, 1)))
    assert sorted({*truth.ravel()} - {0}) == pytest.approx(kept)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_predictions_are_clipped_only_where_said_and_missing_ones_never(name):
    protocol = PROTOCOLS[name]
    bad = [0, -1, np.nan, np.inf]
    depth = np.tile(np.repeat(np.array([1e-5, 5, 500, *bad], np.float32), 90), (480, 1))
    answer = protocol.answer(depth) * protocol.unit
    low, high = {"eigen": (1e-3, 10), "garg": (1e-3, 80)}.get(name, (1e-5, 500))
    assert sorted({*answer.ravel()}) == pytest.approx([0, low, 5, high])
    missing = protocol.cut(~np.isfinite(depth) | (depth <= 0))
    assert np.array_equal(answer == 0, missing)


def test_c_masks_the_recorded_extremes_of_each_image():
    depth = np.full((480, 640), 3, np.float32)
    depth[:10], depth[10:20], depth[20:30], depth[30:40] = 0, 0.7, 1.5, 9.99
    masked = PROTOCOLS["C"].prepare(nyu(depth)).depth
    assert sorted({*masked.ravel()}) == [0, 1.5, 3]
    assert not masked[:20].any() and not masked[30:40].any()
    flat = np.full((480, 640), 3, np.float32)
    assert not PROTOCOLS["C"].prepare(nyu(flat)).depth.any()  # all of it is both extremes
    none = np.zeros((480, 640), np.float32)
    assert not PROTOCOLS["C"].prepare(nyu(none)).depth.any()
    assert PROTOCOLS["C"].prepare(nyu()).depth is None


def test_centre_cuts_all_that_the_network_sees():
    sparse = positions()
    sample = nyu(positions(), sparse=sparse, invalid_depth=3)
    seen = PROTOCOLS["centre"].prepare(sample)
    assert np.array_equal(seen.rgb, sample.rgb[12:468, 16:624])
    assert np.array_equal(seen.sparse, sparse[12:468, 16:624])
    assert seen.camera == CAMERA.cropped(16, 12, 608, 456) and seen.invalid_depth == 3


@pytest.mark.parametrize(
    ("name", "size", "unit"),
    [("D-kitti-small", (37, 147), 80), ("D-kitti", (94, 310), 80), ("D-nyu", (240, 320), 10)],
)
def test_d_is_small_and_in_units(name, size, unit):
    protocol = PROTOCOLS[name]
    depth = np.full((480, 640), 4, np.float32)
    depth[:240] = 6
    depth[:, :320] += 0.5
    sample = protocol.prepare(nyu(depth))
    assert sample.rgb.shape == (*size, 3) and sample.camera == CAMERA.resized(*size[::-1])
    truth = protocol.truth(sample.depth)
    # Nearest neighbour: no depth between the surfaces.
    assert sorted({*truth.ravel()}) == pytest.approx([4 / unit, 4.5 / unit, 6 / unit, 6.5 / unit])
    assert np.allclose(protocol.answer(np.full(size, 5, np.float32)), 5 / unit)
    with pytest.raises(ValueError, match=f"protocol {name}: expected --sparse none .resizing mov"):
        protocol.check(CAMERA, "bernoulli:200")


def test_e_sees_the_centre_and_stretches():
    protocol, sample = PROTOCOLS["E"], nyu()
    view, seen = protocol.view(sample.rgb, CAMERA)
    np.testing.assert_array_equal(view, sample.rgb[12:468:2, 16:624:2])
    assert seen.size == (228, 304) and seen.fx == pytest.approx(259.4)
    assert protocol.frame(np.ones((228, 304), np.float32), (480, 640)).shape == (480, 640)
    with pytest.raises(ValueError, match="protocol E: expected --sparse none"):
        protocol.check(CAMERA, "bernoulli:200")


def test_e_has_the_floor_that_is_known():
    # The frame's own depth, seen through the centre crop and stretched, is not the frame's depth.
    protocol, truth = PROTOCOLS["E"], positions() / 100
    perfect = truth[12:468:2, 16:624:2]
    s = metrics.score(protocol.answer(protocol.frame(perfect, (480, 640))), protocol.truth(truth))
    # 1 + row is stretched from rows 12 … 466 over 480 rows: errors up to 0.12 m at the ends.
    assert 0.05 < s["rmse"] < 0.1


@pytest.mark.parametrize(
    ("name", "size"),
    [("E", "640x480"), ("eigen", "640x480"), ("centre", "640x480"), ("make3d", "345x460")],
)
def test_images_of_another_size_are_refused(name, size):
    small = Camera(320, 240, 300, 300, 160, 120)
    with pytest.raises(ValueError, match=f"protocol {name}: expected images of {size}, got 320x24"):
        PROTOCOLS[name].check(small, "none")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_data_that_a_report_can_hold(name):
    protocol = PROTOCOLS[name]
    terms = files.plain(protocol.terms())
    assert terms["name"] == name and terms["measures"] in metrics.GROUPS
    assert protocol.help and "\n" not in protocol.help
