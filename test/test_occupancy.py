# SPDX-License-Identifier: Apache-2.0
"""Cells, bands, rays and views: the occupancy grid without a map. With one: test_meshing."""

import dataclasses

import numpy as np
import pytest

from depth_two_stage.camera import Camera
from depth_two_stage.config import GridParameters
from depth_two_stage.occupancy import (
    Cells,
    FreeSpace,
    compose,
    crowded,
    in_band,
    observed_free,
    ray_free,
    select_views,
)
from depth_two_stage.slam import LEVEL

GRID = GridParameters(resolution=0.1, min_height=0.2, max_height=1.0)


def cells(*pairs):
    return np.array(pairs, np.int64).reshape(-1, 2)


def as_set(found):
    return {tuple(cell) for cell in found.tolist()}


def test_occupied_is_painted_over_free_and_the_rest_is_unknown():
    free, occupied = Cells(GRID, (0, 0)), Cells(GRID, (0, 0))
    free.add(cells((-3, 2), (-2, 2), (0, 5)))
    occupied.add(cells((-2, 2)))
    free.add(cells((100, 2)))  # the array grows, what was there stays
    grid = compose([(free, 0), (occupied, 100)], GRID.resolution)
    assert grid.data.dtype == np.int8 and grid.data.shape == (4, 104)
    assert grid.origin == pytest.approx((-0.3, 0.2))
    assert grid.data[0, :3].tolist() == [0, 100, -1]
    assert grid.data[3, 3] == grid.data[0, 103] == 0
    assert (grid.data == -1).sum() == grid.data.size - 4 and not grid.cropped


def test_a_grid_is_bounded_and_says_what_it_leaves_out():
    small = dataclasses.replace(GRID, max_size=2.0)
    free = Cells(small, (5.0, 5.0))
    free.add(cells((45, 45), (10**7, 50), (50, -(10**9))))
    grid = compose([(free, 0)], GRID.resolution)
    assert grid.cropped and grid.data.tolist() == [[0]]
    assert grid.origin == pytest.approx((4.5, 4.5))
    free.add(cells((40, 40), (59, 59), (60, 59)))
    assert compose([(free, 0)], GRID.resolution).data.shape == (20, 20)
    assert free.marked.size <= 400


def test_what_knows_nothing_is_one_unknown_cell():
    grid = compose([(Cells(GRID, (1.0, 2.0)), 0)], GRID.resolution)
    assert grid.data.tolist() == [[-1]] and grid.origin == pytest.approx((1.0, 2.0))


def test_the_band_is_above_the_floor():
    deep = dataclasses.replace(GRID, floor=-1.2)
    heights = np.array([-1.2, -1.01, -0.99, -0.21, -0.19])
    assert in_band(heights, deep).tolist() == [False, False, True, True, False]


def test_cells_with_few_points_are_not_occupied():
    points = np.array([[0.01, 0.01, 0.5], [0.09, 0.05, 0.5], [-0.01, 0.0, 0.5]])
    assert as_set(crowded(points, GRID)) == {(0, 0), (-1, 0)}
    assert as_set(crowded(points, dataclasses.replace(GRID, min_points=2))) == {(0, 0)}
    assert crowded(points[:0], GRID).shape == (0, 2)


def test_voxels_seen_before_a_surface_are_free_in_the_band_alone():
    voxel = 0.05
    keys = np.array([[0, 0, 0], [-1, 2, 0], [0, 0, 5]], np.int32)
    tsdf = np.full((3, 16, 16, 16), 1.0, np.float32)
    weight = np.zeros((3, 16, 16, 16), np.float32)
    weight[0, 3, 8, 4] = 1  # z 0.15 m: below the band
    weight[0, 4, 8, 6] = 1  # z 0.20 m, y 0.40, x 0.30
    weight[0, 4, 0, 0], tsdf[0, 4, 0, 0] = 1, 0.1  # near a surface
    weight[1, 10, 15, 15] = 1  # x -0.05, y 2.35
    weight[2] = 1  # 4 m up
    flat = tsdf.reshape(3, -1), weight.reshape(3, -1)
    found = observed_free(keys, *flat, voxel, 0.5, GRID)
    assert as_set(found) == {(3, 4), (-1, 23)}
    assert len(observed_free(keys, *flat, voxel, 1.0, GRID)) == 0


def test_rays_free_what_they_cross_within_the_band_and_stop_before_their_end():
    eye = np.array([0.05, 0.05, 0.5])
    found = as_set(ray_free(eye, np.array([[2.05, 0.05, 0.5]]), GRID))
    assert found == {(x, 0) for x in range(20)}
    # To the floor: only while it is in the band (0.2 m is reached at 60 % of the way).
    found = as_set(ray_free(eye, np.array([[2.05, 0.05, 0.0]]), GRID))
    assert found == {(x, 0) for x in range(13)}
    # From above the band into it, backwards and across.
    found = as_set(ray_free(np.array([0.0, 0.0, 2.0]), np.array([[-1.0, -1.0, 0.0]]), GRID))
    assert found and all(x == y and -9 <= x <= -5 for x, y in found)
    above = np.array([[1.0, 0.0, 3.0], [0.0, 0.0, 0.5], [0.0, 0.0, -0.5]])
    assert len(ray_free(np.array([0.0, 0.0, 2.0]), above[:1], GRID)) == 0
    assert len(ray_free(np.array([0.0, 0.0, 2.0]), above[1:], GRID)) == 0  # straight down
    assert ray_free(eye, above[:0], GRID).shape == (0, 2)


def straight(count, step=0.05):
    poses = np.tile(LEVEL, (count, 1, 1))
    poses[:, 0, 3] = step * np.arange(count)
    return poses


def test_views_follow_motion_and_a_longer_trajectory_goes_on_with_them():
    poses = straight(1000)
    assert select_views(poses)[:3] == [0, 4, 8]
    assert select_views(poses[:50]) == [i for i in select_views(poses) if i < 50]
    assert select_views(straight(600, 0.0)) == [0]
    turning = straight(40, 0.0)
    angles = np.radians(2.0 * np.arange(40))
    for T, angle in zip(turning, angles, strict=True):
        c, s = np.cos(angle), np.sin(angle)
        T[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ LEVEL[:3, :3]
    assert select_views(turning) == [0, 8, 16, 24, 32]
    assert select_views(poses[:0]) == []


def test_free_space_is_traced_once_and_anew_when_poses_are_corrected():
    camera = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)
    looked = []

    def cast(small, T):
        looked.append(T[0, 3])
        return np.full(small.size, max(0.0, 4.0 - T[0, 3]), np.float32)  # a wall at x = 4

    poses = straight(9)
    poses[:, 2, 3] = 0.5
    stamps = np.arange(9) * 10**8
    free = FreeSpace(GRID, (0, 0))
    free.update((stamps[:5], poses[:5]), camera, 5.0, cast)
    assert looked == pytest.approx([0.0, 0.2, 0.2])  # two views, and the newest pose
    one = compose([(free.cells, 0)], GRID.resolution)
    assert one.origin[0] + one.data.shape[1] * 0.1 == pytest.approx(3.9, abs=0.11)
    looked.clear()
    free.update((stamps, poses), camera, 5.0, cast)
    assert looked == pytest.approx([0.0, 0.2, 0.4, 0.4])
    corrected = poses.copy()
    corrected[:, 1, 3] += 50.0
    free.update((stamps, corrected), camera, 5.0, cast)
    moved = compose([(free.cells, 0)], GRID.resolution)
    assert moved.origin[1] > 40.0
