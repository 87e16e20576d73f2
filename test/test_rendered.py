# SPDX-License-Identifier: Apache-2.0
"""Rendered rooms: depth is exact, frames agree with each other, the LiDAR with the walls."""

import numpy as np
import pytest

from depth_two_stage.camera import Camera
from depth_two_stage.datasets import DatasetError, open_dataset
from depth_two_stage.datasets.render.image import render
from depth_two_stage.datasets.render.paths import hand_held, loop
from depth_two_stage.datasets.render.primitives import BOX, CYLINDER, SHELL, Primitive, cast
from depth_two_stage.datasets.render.scenes import Scene, build_scene

CAMERA = Camera(96, 72, 78, 78, 47.5, 35.5)


def distances(primitives, points):
    """Signed distance bounds (P, N) m of points (N, 3), float64: 0 on a surface, below 0 inside."""
    rows = []
    for p in primitives:
        c, s = np.cos(p.yaw), np.sin(p.yaw)
        x, y, z = (points - np.array(p.centre)).T
        x, y = c * x + s * y, c * y - s * x
        if p.kind == CYLINDER:
            rows.append(np.maximum(np.hypot(x, y) - p.half[0], np.abs(z) - p.half[2]))
            continue
        reach = np.max([np.abs(v) - h for v, h in zip((x, y, z), p.half, strict=True)], axis=0)
        rows.append(-reach if p.kind == SHELL else reach)
    return np.stack(rows)


def looking(place, yaw):
    """T_world_camera of a level camera at a place (3,) m that looks along a yaw (rad)."""
    T = np.eye(4)
    T[:3, :3] = [[np.sin(yaw), 0, np.cos(yaw)], [-np.cos(yaw), 0, np.sin(yaw)], [0, -1, 0]]
    T[:3, 3] = place
    return T


def room(*pieces):
    """A hall of 10 x 8 x 3 m round the given pieces, with one lamp."""
    shell = Primitive(SHELL, (5.0, 4.0, 1.5), (5.0, 4.0, 1.5))
    lamps = np.full((2, 2, 3), (5.0, 4.0, 2.8))
    return Scene(
        [shell, *pieces], lamps, ((99.0,), (99.0,)), np.zeros((4, 2)), np.zeros((2, 2, 4)), 0.4
    )


def test_depth_of_a_wall_is_its_distance():
    _, depth = render(room(), CAMERA, looking((2.0, 4.0, 1.5), 0.0))
    sides = CAMERA.rays()
    y_hit = np.where(np.abs(sides[..., 0]) > 0, 4.0 / np.abs(sides[..., 0]), np.inf)
    z_hit = np.where(np.abs(sides[..., 1]) > 0, 1.5 / np.abs(sides[..., 1]), np.inf)
    np.testing.assert_allclose(depth, np.minimum(8.0, np.minimum(y_hit, z_hit)), rtol=2e-6)
    assert depth[35, 47] == pytest.approx(8.0, rel=1e-6)


def test_depth_of_a_cylinder_and_a_turned_box():
    pole = Primitive(CYLINDER, (6.0, 4.0, 1.5), (0.4, 0.4, 1.5))
    _, depth = render(room(pole), CAMERA, looking((2.0, 4.0, 1.5), 0.0))
    a, c = 1 + CAMERA.rays()[35, :, 0].astype(float) ** 2, 4.0**2 - 0.4**2
    hit = a * c < 16
    np.testing.assert_allclose(
        depth[35, hit], ((4 - np.sqrt(np.maximum(16 - a * c, 0))) / a)[hit], rtol=1e-5
    )
    assert (depth[35, ~hit] > 4).all() and 4 < hit.sum() < 30
    box = Primitive(BOX, (6.0, 4.0, 1.5), (0.5, 0.5, 1.5), yaw=np.pi / 4)
    _, depth = render(room(box), CAMERA, looking((2.0, 4.0, 1.5), 0.0))
    x = CAMERA.rays()[35, 44:51, 0]
    # The edge points at the camera: 4 - sqrt(1/2) away, receding at 45° to both sides.
    np.testing.assert_allclose(depth[35, 44:51], (4 - np.sqrt(0.5)) / (1 - np.abs(x)), rtol=1e-5)


@pytest.mark.parametrize("seed", [0, 7])
def test_rays_end_on_the_first_surface(seed):
    scene, camera = build_scene(seed), CAMERA
    for T in (*loop(scene, 6, seed)[:5], *hand_held(scene, 3, seed)):
        _, depth = render(scene, camera, T)
        rays = camera.rays().reshape(-1, 3).astype(np.float64)[::7] @ T[:3, :3].T
        t = depth.reshape(-1)[::7].astype(np.float64)[:, None]
        end = np.abs(distances(scene.primitives, T[:3, 3] + t * rays)).min(axis=0)
        assert end.max() < 1e-4
        for share in np.linspace(0.02, 0.999, 25):
            inside = distances(scene.primitives, T[:3, 3] + share * t * rays).min(axis=0)
            assert inside.min() > -1e-4  # the way to the surface is free


def test_windows_do_not_cut():
    scene = build_scene(3)
    T = loop(scene, 20, 3)[4]
    _, depth = render(scene, CAMERA, T)
    world = np.moveaxis(CAMERA.rays() @ T[:3, :3].T.astype(np.float32), 2, 0)
    t, _ = cast(scene.primitives, T[:3, 3], tuple(world))
    np.testing.assert_allclose(depth, t, rtol=1e-5)


def test_two_frames_show_the_same_room():
    dataset = open_dataset("rendered", "-", "seed:1,frames:40,noise:0,size:120x160")
    first, second = dataset[10], dataset[12]
    T = np.linalg.inv(second.T_world_camera) @ first.T_world_camera
    points = first.camera.backproject(first.depth).reshape(-1, 3) @ T[:3, :3].T + T[:3, 3]
    uv, z = second.camera.pixels(points)
    uv = np.rint(uv).astype(int)
    inside = ((uv >= 0) & (uv < (160, 120))).all(axis=1) & (z > 0)
    assert inside.mean() > 0.6
    column, row = uv[inside].T
    gap = np.abs(second.depth[row, column] - z[inside])
    assert np.median(gap) < 0.01 and (gap < 0.05).mean() > 0.9
    seen = gap < 0.02
    colours = first.rgb.reshape(-1, 3)[inside].astype(int)[seen]
    change = np.abs(second.rgb[row, column].astype(int)[seen] - colours).mean(axis=1)
    assert np.median(change) < 4
    # and it is no empty statement: the same pixels without warping differ
    still = first.rgb[row, column].astype(int)[seen]
    assert np.mean(np.abs(still - colours)) > 2 * change.mean()


def test_lidar_meets_the_walls():
    dataset = open_dataset("rendered", "-", "seed:5,frames:4")
    sample, scene = dataset[2], build_scene(5)
    points = sample.points
    assert points.dtype == np.float32 and 800 < len(points) <= 1600
    T = sample.T_world_camera @ sample.T_camera_lidar
    np.testing.assert_allclose(sample.T_camera_lidar[:3, 3], [0, -0.1, 0.05])
    distance = np.linalg.norm(points, axis=1, keepdims=True)
    rays = (points / distance) @ T[:3, :3].T
    exact, _ = cast(scene.primitives, T[:3, 3], tuple(rays.T.astype(np.float32)))
    error = distance[:, 0] - exact
    assert 0.008 < error[np.abs(error) < 0.1].std() < 0.012 and (np.abs(error) < 0.1).mean() > 0.99
    sparse = sample.camera.project(points, sample.T_camera_lidar)
    seen = sparse > 0
    assert seen.sum() > 500
    assert np.median(np.abs(sparse - sample.depth)[seen]) < 0.015
    elevation = np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
    np.testing.assert_allclose(elevation / 2 + 7.5, np.rint(elevation / 2 + 7.5), atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_walks_close_and_touch_nothing(seed):
    scene = build_scene(seed)
    walk, hand = loop(scene, None, seed), hand_held(scene, 150, seed)
    np.testing.assert_allclose(walk[0, :3, 3], walk[-1, :3, 3], atol=1e-9)
    # Looking ahead is the same at both ends; only the shaking has faded out.
    np.testing.assert_allclose(walk[0, :3, :3], walk[-1, :3, :3], atol=1e-9)
    rooms = {tuple(place) for place in (walk[:, :2, 3] > np.ravel(scene.split)).tolist()}
    assert len(rooms) == 4
    for poses in (walk, hand):
        np.testing.assert_allclose(np.linalg.det(poses[:, :3, :3]), 1, atol=1e-9)
        assert distances(scene.primitives, poses[:, :3, 3]).min() > 0.15
        steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
        turns = poses[:-1, :3, :3].transpose(0, 2, 1) @ poses[1:, :3, :3]
        angles = np.degrees(np.arccos(np.clip((np.trace(turns, axis1=1, axis2=2) - 1) / 2, -1, 1)))
        assert steps.max() < 0.12 and angles.max() < 12
    assert np.ptp(hand[:, :3, 3], axis=0).max() < 1


def test_the_same_split_gives_the_same_samples():
    split = "seed:4,frames:5,size:60x80,scenes:2"
    first, again = (open_dataset("rendered", "-", split) for _ in range(2))
    assert first.names == again.names and first.list_hash == again.list_hash
    assert len(first) == 5 and first.camera.size == (60, 80)
    for a, b in zip(first, reversed(list(reversed(again))), strict=True):
        for field in ("rgb", "depth", "points", "T_world_camera"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
        assert a.stamp == b.stamp
    other = open_dataset("rendered", "-", "seed:6,frames:5,size:60x80")
    assert not np.array_equal(other[0].rgb, first[0].rgb)
    assert not np.array_equal(first[0].depth, first[3].depth)  # two scenes


def test_pictures_have_texture_light_and_noise():
    dataset = open_dataset("rendered", "-", "seed:2,frames:12,size:120x160,scenes:12")
    for sample in dataset:
        assert sample.rgb.std() > 8 and 30 < sample.rgb.mean() < 230
    quiet = open_dataset("rendered", "-", "seed:2,frames:12,size:120x160,scenes:12,noise:0")
    difference = dataset[0].rgb.astype(float) - quiet[0].rgb
    assert 1.5 < difference.std() < 2.5


def test_the_nearer_to_the_lamp_the_brighter():
    scene = room(Primitive(BOX, (5.0, 4.0, -0.1), (5.0, 4.0, 0.11), texture=0))
    T = looking((5.0, 0.2, 1.5), np.pi / 2)
    rgb, depth = render(scene, CAMERA, T)
    floor = (T[2, 3] - depth[:, 47] * CAMERA.rays()[:, 47, 1]) < 0.02
    places = 0.2 + depth[floor, 47]
    near, far = np.abs(places - 4) < 0.8, places > 6.5
    assert rgb[floor, 47][near].mean() > 1.2 * rgb[floor, 47][far].mean()


@pytest.mark.parametrize(
    ("split", "text"),
    [
        ("train", "split: expected NAME:VALUE of seed, frames, path, size, scenes, noise"),
        ("seed:-1", "split seed: expected a number from 0, got '-1'"),
        ("frames:0", "split frames: expected a number from 1, got '0'"),
        ("path:fly", "split path: expected hand or loop or anywhere, got 'fly'"),
        ("size:200", "split size: expected a number from 16, got ''"),
        ("noise:loud", "split noise: expected a number from 0, got 'loud'"),
        ("look:wild", "split look: expected plain or random, got 'wild'"),
        ("photo:1", "split photo: expected plain or random, got '1'"),
        ("fov:60", "split fov: expected a number from 10 to 150, got ''"),
        ("fov:60-200", "split fov: expected a number from 10 to 150, got '200'"),
        ("fov:80-60", "split fov: expected the lower first, got '80-60'"),
        ("centre:0.7", "split centre: expected a number from 0 to 0.5, got '0.7'"),
        ("rooms:3", "split rooms: expected a number from 2 to 20, got ''"),
        ("rooms:1x4", "split rooms: expected a number from 2 to 20, got '1'"),
        ("rooms:3x5", "split rooms: expected an even number, got '3x5'"),
        ("laps:0", "split laps: expected a number from 0.01 to 1000, got '0'"),
        ("lidar:2", "split lidar: expected a number from 0 to 1, got '2'"),
        ("scenes:9,frames:3", r"split scenes: expected at most 3 \(frames\), got 9"),
    ],
)
def test_bad_splits(split, text):
    with pytest.raises(DatasetError, match=text):
        open_dataset("rendered", "-", split)
