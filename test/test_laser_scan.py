# SPDX-License-Identifier: Apache-2.0
"""The scan of a depth image: angles by REP 103, ranges by REP 117, a level slab."""

import dataclasses

import numpy as np
import pytest

from depth_two_stage.camera import Camera
from depth_two_stage.config import ScanParameters
from depth_two_stage.laser_scan import laser_scan

CAMERA = Camera(64, 48, 50.0, 50.0, 31.5, 23.5)
PARAMETERS = ScanParameters(min_range=0.3, max_range=5.0)


def angles(scan):
    return scan.start + scan.increment * np.arange(len(scan.ranges))


def test_a_wall_stands_square_before_the_camera():
    scan = laser_scan(np.full(CAMERA.size, 2.0, np.float32), CAMERA, PARAMETERS)
    assert scan.ranges.dtype == np.float32 and np.isfinite(scan.ranges).all()
    edge = np.arctan(31.5 / 50.0)
    assert scan.start == pytest.approx(-edge) and angles(scan)[-1] <= edge + 1e-6
    np.testing.assert_allclose(scan.ranges * np.cos(angles(scan)), 2.0, rtol=0.015)


def test_the_left_of_the_image_has_positive_angles():
    depth = np.full(CAMERA.size, 2.0, np.float32)
    depth[:, :10] = 1.0
    scan = laser_scan(depth, CAMERA, PARAMETERS)
    left = angles(scan) > np.arctan(22.5 / 50.0)
    np.testing.assert_allclose((scan.ranges * np.cos(angles(scan)))[left], 1.0, rtol=0.02)
    assert (scan.ranges[angles(scan) < np.arctan(20.5 / 50.0)] > 1.9).all()


def test_too_near_too_far_and_nothing_are_told_apart():
    depth = np.zeros(CAMERA.size, np.float32)
    depth[:, 40:48], depth[:, 16:24], depth[:, 0:8] = 0.2, 9.0, 1.0
    depth[20, 0:8] = 0.2  # nearer, and not measured: the range that is stays
    scan = laser_scan(depth, CAMERA, PARAMETERS)
    column = np.rint(31.5 - 50.0 * np.tan(angles(scan))).astype(int)
    for low, high, expected in ((41, 46, -np.inf), (17, 22, np.inf)):
        assert (scan.ranges[(column >= low) & (column <= high)] == expected).all()
    assert np.isfinite(scan.ranges[column < 7]).all()
    for low, high in ((9, 14), (25, 38), (50, 63)):
        assert np.isnan(scan.ranges[(column >= low) & (column <= high)]).all()
    nothing = laser_scan(np.zeros(CAMERA.size, np.float32), CAMERA, PARAMETERS)
    assert np.isnan(nothing.ranges).all() and len(nothing.ranges) == len(scan.ranges)


def test_what_lies_outside_the_slab_is_not_in_it():
    """A floor 0.3 m below a level camera, and a step of 0.1 m on it."""
    rows = np.arange(CAMERA.height)[:, None]
    with np.errstate(divide="ignore"):
        floor = np.where(rows > 23.5, 0.3 * 50.0 / (rows - 23.5), 0.0)
    depth = np.broadcast_to(floor, CAMERA.size).astype(np.float32).copy()
    scan = laser_scan(depth, CAMERA, PARAMETERS)
    assert not np.isfinite(scan.ranges).any()
    low = dataclasses.replace(PARAMETERS, min_height=-0.25, max_height=-0.15)
    assert not np.isfinite(laser_scan(depth, CAMERA, low).ranges).any()
    step = (rows - 23.5) * 1.5 / 50.0 > 0.2  # its top is 0.2 m below the camera, 1.5 m away
    step = np.broadcast_to(step & ((rows - 23.5) * 1.5 / 50.0 < 0.3), CAMERA.size)
    depth[step] = 1.5
    scan = laser_scan(depth, CAMERA, low)
    np.testing.assert_allclose(scan.ranges * np.cos(angles(scan)), 1.5, rtol=0.02)
    assert not np.isfinite(laser_scan(depth, CAMERA, PARAMETERS).ranges).any()
