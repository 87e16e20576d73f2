# SPDX-License-Identifier: Apache-2.0
"""Near the points of a dense scan: between neighbours on a line, halfway to interpolation."""

import numpy as np

from depth_two_stage.dense_scan import DENSE, DenseScan


def test_a_few_points_are_no_dense_scan():
    sparse = np.zeros((240, 320), np.float32)
    assert DenseScan.of(sparse) is None
    sparse.flat[:DENSE] = 2
    assert DenseScan.of(sparse) is None


def test_only_near_points_interpolation_has_half_of_the_say():
    sparse = np.zeros((240, 320), np.float32)
    sparse[100:200:2, ::2] = 2
    scan = DenseScan.of(sparse)
    np.testing.assert_allclose(scan.plain, 2, rtol=1e-5)
    scan = DenseScan(scan.plain, scan.share, np.zeros_like(sparse), np.full_like(sparse, np.inf))
    found = scan.tie(np.full(sparse.shape, 4, np.float32))
    np.testing.assert_allclose(found[100:199], 3, rtol=1e-5)
    np.testing.assert_array_equal(found[:90], 4)
    assert 3 < found[201, 100] < 4 and found.dtype == np.float32


def test_between_two_points_of_a_scan_line_depth_lies_between_theirs():
    sparse = np.zeros((480, 640), np.float32)
    sparse[400:, ::2] = 3  # elsewhere, so that they are many
    sparse[4, [100, 108, 300]] = 2, 4, 7
    depth = np.full(sparse.shape, 10, np.float32)
    depth[:, :104] = 1
    scan = DenseScan.of(sparse)
    found = DenseScan(scan.plain, np.zeros_like(depth), scan.low, scan.high).tie(depth)
    expected = depth.copy()
    expected[3:6, 100:104], expected[3:6, 104:109] = 2, 4  # the points' row and those beside it
    expected[3:6, 300] = 7  # a point alone has no neighbours
    np.testing.assert_array_equal(found[:390], expected[:390])
