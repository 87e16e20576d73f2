# SPDX-License-Identifier: Apache-2.0
"""Coloured points and the flying pixels at depth edges."""

import numpy as np
import pytest

from depth_two_stage.camera import Camera
from depth_two_stage.clouds import coloured_points, flying_pixels

CAMERA = Camera(40, 30, 50.0, 52.0, 19.5, 14.5)


def ramp(low: float = 2.0, high: float = 4.0, start: int = 16, width: int = 6) -> np.ndarray:
    """Two walls joined as a network joins them: by a ramp that lies on no surface."""
    row = np.interp(np.arange(40), [start, start + width], [low, high])
    return np.tile(row, (30, 1)).astype(np.float32)


def test_no_point_is_left_between_two_surfaces():
    depth = ramp()
    rgb = np.zeros((30, 40, 3), np.uint8)
    points, _ = coloured_points(depth, rgb, CAMERA, edge_jump=0.05)
    between = (points[:, 2] > 2.05) & (points[:, 2] < 3.95)
    assert not between.any()
    assert (points[:, 2] < 2.05).sum() >= 30 * 14
    assert (points[:, 2] > 3.95).sum() >= 30 * 14
    everything, _ = coloured_points(depth, rgb, CAMERA, edge_jump=0.0)
    assert len(everything) == depth.size


def test_holes_are_not_edges():
    depth = np.full((30, 40), 3.0, np.float32)
    depth[10:12, 20:25] = 0
    assert not flying_pixels(depth, 0.05).any()


def test_an_inclined_floor_stays():
    """A floor 1 m below the camera changes depth steadily: only near the horizon it is steep."""
    v = np.arange(30)[:, None] - 14.5
    depth = np.where(v > 10, 52.0 / np.maximum(v, 1), 0) * np.ones((1, 40))
    assert not flying_pixels(depth.astype(np.float32)[26:], 0.2).any()


@pytest.mark.parametrize("organized", [False, True])
def test_points_fall_back_on_their_pixels(organized):
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.5, 6.0, (30, 40)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.2] = 0
    rgb = rng.integers(0, 256, (30, 40, 3), np.uint8)
    points, colours = coloured_points(
        depth, rgb, CAMERA, step=3, min_range=1.0, max_range=5.0, organized=organized
    )
    points, colours = points.reshape(-1, 3), colours.reshape(-1, 3)
    seen = np.isfinite(points[:, 2])
    expected = depth[::3, ::3]
    kept = (expected >= 1.0) & (expected <= 5.0)
    assert seen.sum() == kept.sum()
    uv, z = CAMERA.pixels(points[seen])
    columns, rows = np.rint(uv).astype(int).T
    assert np.abs(uv - np.rint(uv)).max() < 1e-3
    assert np.allclose(z, depth[rows, columns])
    assert np.array_equal(colours[seen], rgb[rows, columns])
