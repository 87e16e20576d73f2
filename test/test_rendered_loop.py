# SPDX-License-Identifier: Apache-2.0
"""The walk for loop closure: long, closed, free of walls, seen twice, the same every time."""

import numpy as np
import pytest

from depth_two_stage.datasets import open_dataset
from depth_two_stage.datasets.render.paths import loop
from depth_two_stage.datasets.render.scenes import build_scene

SPLIT = "path:loop,rooms:3x6,laps:1.12,lidar:0,size:48x64"


def walked(poses):
    return np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)


def rooms_of(poses, scene):
    """Which room each camera is in, (N, 2)."""
    return np.stack(
        [np.searchsorted(scene.split[i], poses[:, i, 3]) for i in (0, 1)],
        axis=1,
    )


@pytest.mark.parametrize("grid", [(2, 2), (3, 2), (2, 3), (3, 6), (6, 3), (4, 5)])
def test_the_ring_goes_through_every_room_once(grid):
    scene = build_scene(1, grid)
    assert scene.rooms.shape == (*grid, 4) and scene.lamps.shape == (*grid, 3)
    poses = loop(scene, 40 * grid[0] * grid[1], 1)
    rooms = rooms_of(poses, scene)
    changes = rooms[1:][(np.diff(rooms, axis=0) != 0).any(axis=1)]
    assert len(changes) == grid[0] * grid[1] == len(np.unique(changes, axis=0))
    steps = np.abs(np.diff(np.concatenate([changes, changes[:1]]), axis=0)).sum(axis=1)
    assert (steps == 1).all(), "from a room to its neighbour"
    # Inner walls stand where `split` says, and rooms fill the flat.
    np.testing.assert_allclose(scene.rooms[1:, 0, 0], scene.split[0])
    np.testing.assert_allclose(scene.rooms[0, 1:, 1], scene.split[1])


@pytest.mark.parametrize("seed", range(4))
def test_a_loop_of_sixty_metres_closes_and_touches_nothing(seed):
    scene = build_scene(seed, (3, 6))
    once, poses = loop(scene, None, seed), loop(scene, None, seed, 1.12)
    assert walked(once).sum() > 60
    np.testing.assert_allclose(once[0], once[-1], atol=1e-9)
    assert len(np.unique(rooms_of(once, scene), axis=0)) == 18
    assert scene.clearance(poses[:, :3, 3]).min() > 0.3
    # A robot's walk: 0.6 m/s at 10 Hz and a hand's shaking, no jump where the second lap begins.
    assert 0.05 < walked(poses).mean() < 0.065 and walked(poses).max() < 0.1
    turns = poses[:-1, :3, :3].transpose(0, 2, 1) @ poses[1:, :3, :3]
    angles = np.degrees(np.arccos(np.clip((np.trace(turns, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert angles.max() < 12
    # The last tenth sees the first rooms again: from within the shaking, looking the same way.
    tenth = len(poses) // 10
    gaps = np.linalg.norm(poses[-tenth:, None, :3, 3] - poses[None, : 2 * tenth, :3, 3], axis=2)
    again = gaps.argmin(axis=1)
    assert gaps.min(axis=1).max() < 0.15
    looking = np.einsum("ni,ni->n", poses[-tenth:, :3, 2], poses[again, :3, 2])
    assert np.degrees(np.arccos(looking.min())) < 25
    assert np.abs(poses[-tenth:] - poses[again]).max() > 0.01, "no second lap is the first"


def test_consecutive_frames_overlap():
    frames = open_dataset("rendered", "-", SPLIT)
    poses = frames._path(0, None)
    forward = poses[:, :3, 2]
    fastest = int(np.argmin(np.einsum("ni,ni->n", forward[1:], forward[:-1])))
    for index in (0, fastest, len(frames) - 2):
        first, second = frames[index], frames[index + 1]
        assert second.stamp - first.stamp == 10**8
        T = np.linalg.inv(second.T_world_camera) @ first.T_world_camera
        points = first.camera.backproject(first.depth).reshape(-1, 3) @ T[:3, :3].T + T[:3, 3]
        uv, z = second.camera.pixels(points)
        u, v = np.rint(uv).astype(int).T
        seen = (z > 0) & (u >= 0) & (v >= 0) & (u < 64) & (v < 48)
        assert seen.mean() > 0.7
        gap = np.abs(second.depth[v[seen], u[seen]] - z[seen]) / z[seen]
        assert (gap < 0.1).mean() > 0.85
        assert first.rgb.std() > 8, "something to track"


def test_frames_are_the_same_whatever_is_asked_first():
    frames, again = (open_dataset("rendered", "-", SPLIT) for _ in range(2))
    assert 1100 < len(frames) < 1900 and frames.names == again.names
    for index in (len(frames) - 1, 7):
        a, b = frames[index], again[index]
        np.testing.assert_array_equal(a.rgb, b.rgb)
        np.testing.assert_array_equal(a.depth, b.depth)
        np.testing.assert_array_equal(a.T_world_camera, b.T_world_camera)
        assert a.points is None and a.depth.shape == (48, 64)
    other = open_dataset("rendered", "-", SPLIT + ",seed:1")
    assert not np.array_equal(other[7].depth, frames[7].depth)


def test_a_run_of_two_thousand_frames():
    frames = open_dataset("rendered", "-", SPLIT.replace("1.12", "2"))
    assert len(frames) > 2000
    assert walked(frames._path(0, None)).sum() > 120
    fixed = open_dataset("rendered", "-", SPLIT + ",frames:300")
    assert len(fixed) == 300
    once = loop(build_scene(0, (3, 6)), 300, 0)
    assert walked(fixed._path(0, 300)).sum() > 1.05 * walked(once).sum()


def test_the_flat_of_four_rooms_is_that_on_which_networks_were_trained():
    scene = build_scene(0)
    np.testing.assert_allclose(
        scene.walk[1:4:2], [[5.2905037, 2.1751277], [7.3473625, 4.6585623]], atol=1e-6
    )
    assert len(scene.primitives) == 125
    assert scene.ambient == pytest.approx(0.4233900, abs=1e-6)
