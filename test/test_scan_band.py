# SPDX-License-Identifier: Apache-2.0
"""The scanned band: by hand, and against the beams that made a scan."""

import numpy as np

from depth_two_stage.camera import Camera
from depth_two_stage.datasets.sparse import Beams, lines
from depth_two_stage.scan_band import scan_band


def test_rows_between_the_outermost_points_gaps_between_columns_closed_over():
    sparse = np.zeros((10, 40), np.float32)  # the window is 3 columns
    for row, column in ((2, 10), (7, 10), (5, 11), (2, 12), (6, 12), (4, 20)):
        sparse[row, column] = 1.5
    expected = np.zeros((10, 40), bool)
    expected[2:8, 10] = True
    expected[2:7, 11] = True  # has one beam only: its neighbours' limits, the narrower of them
    expected[2:7, 12] = True
    expected[4, 20] = True  # alone: only itself
    np.testing.assert_array_equal(scan_band(sparse), expected)


def test_the_band_reaches_the_border_over_half_a_window_and_nothing_gives_none():
    sparse = np.zeros((6, 80), np.float32)  # the window is 5 columns
    sparse[1:4, 2:79:4] = 2.0
    band = scan_band(sparse)
    assert band[1:4].all() and band.sum() == 3 * 80
    assert not scan_band(np.zeros((6, 80), np.float32)).any()


def test_a_scans_band_is_between_its_outermost_beams():
    camera = Camera(640, 480, 519.0, 519.0, 320.0, 240.0)
    depth = np.full(camera.size, 3.0, np.float32)
    beams = Beams(16, offset=(0.0, 0.0, 0.0))
    rng = np.random.default_rng(0)
    band = scan_band(lines(depth, camera, beams, rng))
    # A beam at elevation e meets the image at rows cy -+ f tan(e) |ray across|.
    across = np.hypot(1, (np.arange(640) - 320.0) / 519.0)
    reach = 519.0 * np.tan(np.deg2rad(15)) * across
    rows = np.arange(480)[:, None]
    ideal = np.abs(rows - 240.0) <= reach
    assert band.any(axis=0).all()
    wrong = np.count_nonzero(band != ideal, axis=0)
    assert wrong.max() <= 6 and wrong.mean() < 3  # a pixel or two at each end
