# SPDX-License-Identifier: Apache-2.0
"""Rendered frames to train from: any look, any lens, anywhere, and depth as exact as ever."""

import dataclasses

import numpy as np
import pytest
from test_rendered import CAMERA, distances, looking, room

from depth_two_stage.datasets import open_dataset
from depth_two_stage.datasets.render.image import render
from depth_two_stage.datasets.render.looks import as_built, random_look
from depth_two_stage.datasets.render.paths import anywhere
from depth_two_stage.datasets.render.primitives import BOX, CYLINDER, Primitive
from depth_two_stage.datasets.render.scenes import build_scene

SPLIT = "path:anywhere,size:48x64,scenes:6,frames:40,lidar:0"


def rooms(extra="", split=SPLIT):
    return open_dataset("rendered", "-", f"{split},{extra}" if extra else split)


def test_looks_change_colours_and_nothing_else():
    plain, wild = rooms(), rooms("look:random,photo:random")
    changes, tones = [], []
    for a, b in zip(plain, wild, strict=True):
        assert np.array_equal(a.depth, b.depth) and np.array_equal(
            a.T_world_camera, b.T_world_camera
        )
        assert a.camera == b.camera and a.name == b.name
        changes.append(np.abs(a.rgb.astype(int) - b.rgb).mean())
        tones.append(b.rgb.mean(axis=(0, 1)) / b.rgb.mean())
    assert min(changes) > 10
    assert np.std(tones, axis=0).min() > 0.05  # each its own colours
    quiet = rooms("look:random")
    assert all(40 < sample.rgb.mean() < 200 for sample in quiet)
    assert not any(np.array_equal(a.rgb, b.rgb) for a, b in zip(quiet, wild, strict=True))


def test_a_frame_is_a_function_of_seed_and_index():
    text = "look:random,photo:random,fov:50-90,centre:0.05"
    many = rooms(text, SPLIT.replace("frames:40", "frames:100000"))
    few = rooms(text)
    assert len(many) == 100_000 and many.camera is None
    for index in (7, 0, 39):  # in any order, of however many
        for field in ("rgb", "depth", "T_world_camera"):
            assert np.array_equal(getattr(many[index], field), getattr(few[index], field))
        assert many[index].camera == few[index].camera
    far = many[99_999]
    assert far.name == "anywhere-00003-16666" and not np.array_equal(far.depth, many[3].depth)
    other = rooms(text + ",seed:1")
    assert not np.array_equal(other[0].depth, few[0].depth)


def test_scenes_take_turns():
    names = rooms().names[:8]
    assert [name.split("-")[1] for name in names] == [f"{i % 6:05d}" for i in range(8)]


@pytest.mark.parametrize("seed", [0, 4])
def test_anywhere_is_inside_a_room_free_all_round_and_looks_into_it(seed):
    scene, rng = build_scene(seed), np.random.default_rng(seed)
    poses = np.stack([anywhere(scene, rng) for _ in range(150)])
    places = poses[:, :3, 3]
    assert (distances(scene.primitives, places).min(axis=0) > 0.24).mean() > 0.98
    assert (distances(scene.primitives, places).min(axis=0) > 0).all()
    assert {tuple(r) for r in (places[:, :2] > np.ravel(scene.split)).tolist()} == {
        (a, b) for a in (True, False) for b in (True, False)
    }
    assert np.ptp(places[:, 2]) > 1.2 and np.ptp(places, axis=0)[:2].min() > 5
    np.testing.assert_allclose(np.linalg.det(poses[:, :3, :3]), 1, atol=1e-9)
    forward = poses[:, :3, 2]
    # All round; more down than up, for rooms are looked into from above the middle.
    assert np.histogram(np.arctan2(forward[:, 1], forward[:, 0]), 4, (-np.pi, np.pi))[0].min() > 15
    assert np.abs(forward[:, 2]).max() < 0.85 and forward[:, 2].mean() < 0
    depths = [render(scene, CAMERA, T)[1] for T in poses[:20]]
    assert np.median([np.median(d) for d in depths]) > 1.2
    assert min(d.min() for d in depths) > 0.15


def test_clearance_is_the_distance_of_the_nearest_surface():
    scene = room(
        Primitive(BOX, (6.0, 4.0, 0.5), (1.0, 0.5, 0.5), yaw=np.pi / 2),
        Primitive(CYLINDER, (2.0, 2.0, 1.0), (0.3, 0.3, 1.0)),
    )
    points = np.array([[5.0, 4.0, 0.5], [6, 4, 0.5], [2, 3, 1.0], [2, 2, 2.4], [0.1, 1, 1.5]])
    # The turned box reaches 0.5 m in x; walls, floor and ceiling are at 0 and (10, 8, 3) m.
    assert scene.clearance(points) == pytest.approx([0.5, -0.5, 0.7, 0.4, 0.1])
    many = np.random.default_rng(0).uniform((0, 0, 0), (10, 8, 3), (200, 3))
    flat = build_scene(3)
    assert np.allclose(flat.clearance(many), distances(flat.primitives, many).min(axis=0))


def test_every_frame_has_a_lens_of_its_own_and_its_depth_fits_it():
    data = rooms("fov:45-95,centre:0.06")
    views, offs = [], []
    for index, sample in enumerate(data):
        camera, T = sample.camera, sample.T_world_camera
        assert camera.fx == camera.fy and camera.size == (48, 64)
        views.append(np.rad2deg(2 * np.arctan(32 / camera.fx)))
        offs.append(((camera.cx - 31.5) / 64, (camera.cy - 23.5) / 48))
        if index < 6:
            points = camera.backproject(sample.depth).reshape(-1, 3)[::17].astype(float)
            world = points @ T[:3, :3].T + T[:3, 3]
            scene = build_scene(index % 6)
            assert np.abs(distances(scene.primitives, world)).min(axis=0).max() < 1e-4
    assert 45 <= min(views) < 50 and 90 < max(views) <= 95
    assert np.abs(offs).max() <= 0.06 and np.ptp(offs, axis=0).min() > 0.09
    assert rooms("centre:0.06")[0].camera.fx == rooms()[0].camera.fx == pytest.approx(0.81 * 64)


def test_without_lidar_the_rest_is_the_same():
    split = "frames:3,size:48x64"
    with_points, without = rooms("", split), rooms("lidar:0", split)
    assert with_points[1].points is not None
    assert without[1].points is None and without[1].T_camera_lidar is None
    assert np.array_equal(with_points[1].rgb, without[1].rgb)


def plain_grey(scene, **changes):
    """A look without textures, of white surfaces, and no light but what is given."""
    attributes = scene.attributes.copy()
    attributes[:, 8:11] = 1
    contrast = np.zeros(len(attributes), np.float32)
    dark = {"ambient": 0.0, "power": 0.0, "contrast": contrast}
    return dataclasses.replace(as_built(scene), attributes=attributes, **(dark | changes))


def test_light_adds_up_as_it_should():
    scene, T = room(), looking((2.0, 4.0, 1.5), 0.0)
    rgb, depth = render(scene, CAMERA, T, plain_grey(scene, ambient=0.5))
    assert (rgb == 64).all()  # half of middle grey
    rgb, _ = render(scene, CAMERA, T, plain_grey(scene, ambient=0.5, mean_level=100.0))
    assert (rgb == 100).all()
    # A lamp of power 1 straight before the far wall's middle, 2 m from it: 1 / (1 + 0.25 · 2²).
    lamps = np.full((2, 2, 3), (8.0, 4.0, 1.5))
    rgb, _ = render(scene, CAMERA, T, plain_grey(scene, power=1.0, falloff=0.25, lamps=lamps))
    assert rgb[35, 47].tolist() == [64, 64, 64]
    # The sun from above: in patches on the floor, nowhere on walls and ceiling.
    sun = {"sun": np.float32([0, 0, 1]), "across": np.float32([[60, 0, 0], [0, 60, 0]]), "blind": 1}
    rgb, depth = render(scene, CAMERA, T, plain_grey(scene, ambient=0.25, **sun))
    floor = np.abs(1.5 - depth * CAMERA.rays()[..., 1]) < 1e-3
    assert (rgb[~floor] == 32).all() and floor.sum() > 500
    lit = rgb[floor][:, 0]
    assert lit.min() < 45 and 147 < lit.max() <= 160 and 0.2 < (lit > 96).mean() < 0.8


def test_random_looks_keep_the_scene_and_differ_from_each_other():
    scene = build_scene(2)
    before = scene.attributes.copy()
    looks = [random_look(scene, np.random.default_rng(seed)) for seed in range(60)]
    assert np.array_equal(scene.attributes, before)
    for look in looks:
        unchanged = [0, 1, 2, 3, 4, 5, 11]  # place, turn, radius, glowing
        assert np.array_equal(look.attributes[:, unchanged], before[:, unchanged])
        assert look.attributes[:, 8:11].min() > 0
        x, y, wide, deep = np.moveaxis(scene.rooms, 2, 0)
        assert ((look.lamps[..., 0] > x) & (look.lamps[..., 0] < x + wide)).all()
        assert ((look.lamps[..., 1] > y) & (look.lamps[..., 1] < y + deep)).all()
        assert (look.lamps[..., 2] < scene.lamps[..., 2] + 1e-9).all()
    assert len({look.atlas for look in looks}) == 6 and len({look.channels for look in looks}) == 6
    assert 15 < sum(look.sun is not None for look in looks) < 45
