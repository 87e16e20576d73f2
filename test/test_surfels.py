# SPDX-License-Identifier: Apache-2.0
"""Point-based fusion: averages by hand, what is removed and why, the memory bound."""

import dataclasses

import numpy as np
import pytest
from small_maps import CAMERA, PARAMETERS, pose, wall

from depth_two_stage.camera import Camera
from depth_two_stage.config import SurfelParameters
from depth_two_stage.surfel_frames import centrality, normal_map, samples
from depth_two_stage.surfel_index import associate, index_map, project
from depth_two_stage.surfel_store import SURFEL_BYTES
from depth_two_stage.surfels import MapError, SurfelMap

INNER = (CAMERA.height - 2) * (CAMERA.width - 2)  # pixels with four neighbours
QUICK = SurfelParameters(stable_confidence=3.0)
SMALL = Camera(80, 60, 65.0, 66.0, 39.2, 30.1)


def surfel_map(**changes):
    return SurfelMap(PARAMETERS, dataclasses.replace(QUICK, **changes))


def surfel(z, radius=0.01, confidence=1.0, x=0.0, y=0.0):
    """Values of one surfel that faces pose()."""
    return {
        "positions": np.array([[x, y, z]], np.float32),
        "normals": np.array([[0, 0, -1]], np.float32),
        "colors": np.full((1, 3), 100, np.float32),
        "radii": np.array([radius], np.float32),
        "confidence": np.array([confidence], np.float32),
        "stamps": np.array([1], np.int32),
    }


def test_a_frame_becomes_a_disc_for_each_pixel():
    map = surfel_map()
    depth, rgb = wall(1.5)
    assert map.integrate(depth, rgb, CAMERA, pose()) == INNER == len(map.store)
    assert len(map.points().points) == 0, "nothing is stable after one frame"
    cloud = map.points(unstable=True)
    np.testing.assert_allclose(cloud.points[:, 2], 1.5, rtol=1e-6)
    np.testing.assert_allclose(cloud.normals, np.tile([0, 0, -1], (INNER, 1)), atol=1e-5)
    # r = d / (√2 f |n_z|), alpha = exp(-gamma² / 2·0.6²) with gamma = 1 in the farthest corner.
    f = np.sqrt(131.0 * 132.0)
    np.testing.assert_allclose(cloud.radii, 1.5 / (np.sqrt(2) * f), rtol=1e-5)
    corner = np.hypot(159 - 79.3, 60.1)  # column 159, row 0
    wanted = np.exp(-(np.hypot(10 - 79.3, 20 - 60.1) ** 2 / corner**2) / 0.72)
    place = (20 - 1) * (CAMERA.width - 2) + (10 - 1)
    assert cloud.confidence[place] == pytest.approx(wanted, rel=1e-5)
    np.testing.assert_array_equal(cloud.colors[place], rgb[20, 10])
    np.testing.assert_allclose(centrality(CAMERA)[0, 159], np.exp(-1 / 0.72), rtol=1e-5)


def test_radius_and_normal_of_a_slanted_wall():
    for degrees, seen in ((60, 60), (80, 75)):  # no larger than at 75°
        tilt = np.deg2rad(degrees)
        normal = np.array([np.sin(tilt), 0, -np.cos(tilt)])
        rays = CAMERA.rays()
        depth = (-np.cos(tilt) * 1.5 / (rays @ normal)).astype(np.float32)
        depth[(depth < 0) | (depth > 2)] = 0
        normals, known = normal_map(depth, CAMERA)
        row, column = 60, 79
        assert known[row, column]
        assert np.degrees(np.arccos(min(1.0, normals[row, column] @ normal))) < 1
        one = np.ones(CAMERA.size, np.float32)
        frame = samples(depth, wall()[1], one, CAMERA, pose())
        place = np.flatnonzero(frame.pixels == row * CAMERA.width + column)[0]
        wanted = depth[row, column] / (np.sqrt(2) * CAMERA.focal * np.cos(np.deg2rad(seen)))
        assert frame.radii[place] == pytest.approx(wanted, rel=0.03)


def test_edges_have_no_normal_and_are_not_fused():
    depth, rgb = wall(2.0)
    depth[40:80, 60:100] = 1.0
    depth[10, 10] = 0
    map = surfel_map()
    assert map.integrate(depth, rgb, CAMERA, pose()) < INNER - 4 * 2 * 38
    assert set(np.unique(map.points(unstable=True).points[:, 2].round(3))) == {1.0, 2.0}


def test_a_plane_seen_twice_is_the_average_by_confidence():
    map = surfel_map()
    first, second, weight = 1.5, 1.53, 0.25
    depth, rgb = wall(first)
    map.integrate(depth, rgb, CAMERA, pose())
    alpha = map.points(unstable=True).confidence.copy()
    white = np.full_like(rgb, 255)
    found = map.integrate(
        np.full_like(depth, second), white, CAMERA, pose(), np.full_like(depth, weight)
    )
    assert found == INNER == len(map.store), "every pixel met its surfel"
    cloud = map.points(unstable=True)
    # Eq. 1 and 2: (c v + a v') / (c + a), c + a; here a is a quarter of c.
    np.testing.assert_allclose(cloud.points[:, 2], (first + weight * second) / 1.25, rtol=1e-5)
    np.testing.assert_allclose(cloud.confidence, 1.25 * alpha, rtol=1e-5)
    mean = (rgb[1:-1, 1:-1].reshape(-1, 3) + weight * 255.0) / 1.25
    np.testing.assert_allclose(cloud.colors, mean, atol=0.51)
    assert map.statistics()["map_stable_surfels"] == 0


def test_a_noisy_plane_converges():
    rng, noise, map = np.random.default_rng(0), 0.004, surfel_map()
    depth, rgb = wall(1.5, SMALL)
    for _ in range(12):
        noisy = depth + rng.normal(0, noise, depth.shape).astype(np.float32)
        map.integrate(noisy, rgb, SMALL, pose())
    cloud = map.points()
    pixels = (SMALL.height - 2) * (SMALL.width - 2)
    assert 0.95 * pixels < len(cloud.points) <= pixels and len(map.store) < 1.02 * pixels
    # The mean of 12 samples; a few were refused by their normals.
    assert (cloud.points[:, 2] - 1.5).std() < 1.2 * noise / np.sqrt(12)
    assert abs(cloud.points[:, 2].mean() - 1.5) < 0.0005
    slant = np.degrees(np.arccos(np.clip(-cloud.normals[:, 2], -1, 1)))
    assert np.median(slant) < 3


def test_from_afar_nothing_moves_what_was_seen_in_detail():
    map = surfel_map()
    depth, rgb = wall(1.0)
    map.integrate(depth, rgb, CAMERA, pose())
    before = map.points(unstable=True)
    # 1.6 m behind: radii 2.6 times as large, depth 2 cm off.
    far = np.full_like(depth, 2.62)
    met = map.integrate(far, rgb, CAMERA, pose(z=-1.6))
    after = map.points(unstable=True)
    grown = after.confidence[:INNER] > before.confidence
    assert 0.1 * INNER < grown.sum() < 0.2 * INNER, "one a pixel: 1/2.6² of them"
    np.testing.assert_array_equal(after.points[:INNER], before.points)
    assert met < INNER + 1 and len(after.points) == len(before.points) + met - grown.sum()
    # Half as far again is not yet coarser (δ_r = 1/2).
    map.clear()
    map.integrate(depth, rgb, CAMERA, pose())
    map.integrate(np.full_like(depth, 1.42), rgb, CAMERA, pose(z=-0.4))
    after = map.points(unstable=True)
    moved = np.abs(after.points[:, 2] - 1.0) > 0.005
    assert moved.sum() > 0.4 * INNER


def test_weight_zero_and_far_depth_change_nothing():
    map = surfel_map()
    depth, rgb = wall(1.5)
    assert map.integrate(depth, rgb, CAMERA, pose(), np.zeros_like(depth)) == 0
    assert map.integrate(np.full_like(depth, 5.5), rgb, CAMERA, pose()) == 0
    assert map.integrate(np.full_like(depth, np.nan), rgb, CAMERA, pose()) == 0
    assert map.frames == len(map.store) == 0


def test_index_map_has_sixteen_cells_a_pixel_and_the_nearest_in_each():
    # Pixel (row 60, column 79); its cells are 1/4 px wide.
    def at(u, v, z):
        return [(u - CAMERA.cx) / CAMERA.fx * z, (v - CAMERA.cy) / CAMERA.fy * z, z]

    points = np.array(
        [
            at(79.1, 60.1, 2.0),
            at(79.1, 60.1, 1.0),  # the same cell, nearer
            at(78.6, 60.1, 3.0),  # another cell of the pixel
            at(79.6, 60.1, 1.5),  # the next pixel
            at(79.1, 60.1, -1.0),  # behind the lens
            at(-0.6, 60.0, 1.0),  # beside the image
            at(159.4, 119.4, 1.0),  # its last cell
        ],
        np.float32,
    )
    index = index_map(project(points, CAMERA, np.eye(4)))
    assert index.ids.tolist() == [1, 2, 3, 6]
    row = 60 * CAMERA.width
    assert index.pixels.tolist() == [row + 79, row + 79, row + 80, 120 * CAMERA.width - 1]


def test_candidates_are_chosen_by_depth_normal_confidence_and_ray():
    depth, rgb = wall(1.5)
    frame = samples(depth, rgb, np.ones_like(depth), CAMERA, pose())
    pixel = 60 * CAMERA.width + 79
    row = int(np.flatnonzero(frame.pixels == pixel)[0])
    straight, turned = (0, 0, -1), (np.sin(0.4), 0, -np.cos(0.4))  # 23°

    def chosen(*candidates):
        """Which of candidates (u, z, normal, confidence) the pixel takes, None for none."""
        points = [
            [(u - CAMERA.cx) / CAMERA.fx * z, (60 - CAMERA.cy) / CAMERA.fy * z, z]
            for u, z, _, _ in candidates
        ]
        index = index_map(project(np.array(points, np.float32), CAMERA, np.eye(4)))
        normals = np.array([c[2] for c in candidates], np.float32)
        confidence = np.array([c[3] for c in candidates], np.float32)
        rows, places = associate(index, normals, confidence, frame, 0.03, 20.0)
        assert set(rows.tolist()) <= {row}
        return int(index.ids[places[0]]) if len(places) else None

    assert chosen((79.0, 1.5, straight, 1)) == 0
    assert chosen((79.0, 1.54, straight, 1)) == 0 and chosen((79.0, 1.56, straight, 1)) is None
    assert chosen((79.0, 1.5, turned, 1)) is None
    assert chosen((79.3, 1.51, straight, 2), (79.0, 1.5, straight, 1)) == 0, "the more confident"
    assert chosen((79.3, 1.5, straight, 1), (78.9, 1.52, straight, 1)) == 1, "nearest to the ray"
    assert chosen((79.3, 1.6, straight, 9), (79.0, 1.5, turned, 9), (78.7, 1.5, straight, 1)) == 2


def test_what_moved_away_is_removed():
    map = surfel_map()
    empty, rgb = wall(2.0, SMALL)
    with_thing = empty.copy()
    with_thing[20:40, 30:50] = 1.2
    for _ in range(6):
        map.integrate(with_thing, rgb, SMALL, pose())
    stable = map.points().points
    assert (stable[:, 2] < 1.3).sum() == 18 * 18, "the thing is part of the map"
    counts = []
    for _ in range(7):
        map.integrate(empty, rgb, SMALL, pose())
        counts.append(int((map.points(unstable=True).points[:, 2] < 1.3).sum()))
    # Only once the wall behind is stable may what stands before it go.
    assert counts[0] == 18 * 18 and counts[-1] == 0
    assert map.statistics()["map_violating_surfels"] == 18 * 18
    wall_behind = np.abs(map.points().points[:, 2] - 2.0) < 1e-3
    assert wall_behind.sum() == 58 * 78 == len(map.store), "the wall is whole"


def test_a_thing_before_an_unstable_wall_stays():
    map = surfel_map(stable_confidence=100.0)
    map.store.append(**surfel(1.2))
    map.integrate(*wall(2.0, SMALL), SMALL, pose())
    map.integrate(*wall(2.0, SMALL), SMALL, pose())
    assert (map.points(unstable=True).points[:, 2] < 1.3).sum() == 1


def test_unstable_surfels_expire_when_nothing_meets_them_and_stable_ones_stay():
    map = surfel_map(max_unstable_frames=3)
    depth, rgb = wall(1.5, SMALL)
    for _ in range(5):
        map.integrate(depth, rgb, SMALL, pose())
    stable = map.statistics()["map_stable_surfels"]
    unstable = len(map.store) - stable
    assert stable > 1000 and unstable > 100, "the image's edge counts for less"
    for left in (unstable, unstable, unstable, 0):  # looking elsewhere
        map.integrate(depth, rgb, SMALL, pose(turn=np.pi))
        here = map.points(unstable=True).points[:, 2] > 0
        assert here.sum() == stable + left
    assert map.statistics()["map_expired_surfels"] == unstable


def test_the_same_twice_is_united():
    map = surfel_map()
    at = pose()
    # Two discs in cells of one pixel, each centre in the other; and one aside, outside of both.
    map.store.append(**surfel(1.500, radius=0.006, confidence=4.0))
    map.store.append(**surfel(1.504, radius=0.005, confidence=1.0, x=-0.002))
    map.store.append(**surfel(1.500, radius=0.001, confidence=1.0, x=0.002, y=0.003))
    depth = np.zeros(CAMERA.size, np.float32)
    depth[55:66, 74:85] = 1.5
    map.integrate(depth, wall()[1], CAMERA, at)
    near = np.hypot(*map.store.positions[:, :2].T) < 0.0025
    assert near.sum() == 1 and map.statistics()["map_merged_surfels"] == 1
    (place,) = np.flatnonzero(near)
    alpha = float(centrality(CAMERA)[60, 79])
    assert map.store.confidence[place] == pytest.approx(5 + alpha, rel=1e-5)
    # The first is averaged with the sample, then with the second, each by confidence.
    z = (4 * 1.5 + alpha * 1.5 + 1 * 1.504) / (5 + alpha)
    assert map.store.positions[place, 2] == pytest.approx(z, abs=1e-5)
    assert map.store.radii[place] == pytest.approx(0.005)
    assert (map.store.radii == np.float32(0.001)).sum() == 1, "the disc aside is another"


def test_memory_is_bounded_and_the_oldest_unstable_go_first():
    megabytes = 9000 * SURFEL_BYTES / 1e6
    map = SurfelMap(dataclasses.replace(PARAMETERS, memory_mb=megabytes), QUICK)
    depth, rgb = wall(1.5, SMALL)
    for _ in range(5):
        map.integrate(depth, rgb, SMALL, pose())
    stable = map.points().points.copy()
    assert 1000 < len(stable) < 4000
    for step in range(1, 4):  # places of their own, each seen once: 4,524 pixels
        map.integrate(depth, rgb, SMALL, pose(x=10.0 * step))
        assert len(map.store) <= map.store.capacity == 9000
    np.testing.assert_array_equal(map.points().points, stable)
    found = map.statistics()
    assert found["map_evicted_surfels"] == 4 * 4524 - 9000
    assert found["map_used_mb"] <= found["map_memory_mb"] <= megabytes
    x = map.points(unstable=True).points[:, 0]
    assert (x > 25).sum() == 4524, "the newest are whole"
    assert 0 < ((x > 15) & (x < 25)).sum() < 4524 and not ((x > 5) & (x < 15)).any()
    tiny = SurfelMap(dataclasses.replace(PARAMETERS, memory_mb=1000 * SURFEL_BYTES / 1e6), QUICK)
    tiny.integrate(depth, rgb, SMALL, pose())
    assert len(tiny.store) == 1000 and tiny.statistics()["map_skipped_surfels"] == 3524
    assert tiny.store.confidence.min() > 0.8, "those near the image's centre"


def test_the_pose_moves_everything_alike_and_two_runs_are_identical():
    rng = np.random.default_rng(2)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    T = np.eye(4)
    T[:3, :3] = rotation * np.sign(np.linalg.det(rotation))
    T[:3, 3] = rng.uniform(-1, 1, 3)
    noise = rng.normal(0, 0.004, (3, *SMALL.size)).astype(np.float32)
    maps = [surfel_map() for _ in range(3)]
    depth, rgb = wall(1.5, SMALL)
    for i, step in enumerate((pose(), pose(0.02, 0, 0.01, 0.02), pose(0.04, 0.01, 0, 0.03))):
        maps[0].integrate(depth + noise[i], rgb, SMALL, step)
        maps[1].integrate(depth + noise[i], rgb, SMALL, step)
        maps[2].integrate(depth + noise[i], rgb, SMALL, T @ step)
    clouds = [map.points(unstable=True) for map in maps]
    for field in dataclasses.fields(clouds[0]):
        np.testing.assert_array_equal(*(getattr(cloud, field.name) for cloud in clouds[:2]))
    assert len(clouds[0].points) > 4524
    # Rounding decides which pixel a few surfels are on the edge of.
    assert abs(len(clouds[2].points) - len(clouds[0].points)) < 0.01 * len(clouds[0].points)
    plane = (clouds[2].points - T[:3, 3]) @ T[:3, :3]
    assert abs(np.median(plane[:, 2]) - np.median(clouds[0].points[:, 2])) < 1e-4
    slant = (clouds[2].normals @ T[:3, :3])[:, 2]
    assert np.median(slant) < -0.99


def test_bad_arguments_are_named_and_change_nothing():
    map = surfel_map()
    depth, rgb = wall()
    broken = pose()
    broken[0, 3] = np.nan
    for arguments, says in (
        ((depth[:5], rgb, CAMERA, pose()), "depth: expected shape"),
        ((depth, rgb[..., :2], CAMERA, pose()), "rgb: expected uint8"),
        ((depth, rgb, CAMERA, pose()[:3]), "T_world_camera: expected shape"),
        ((depth, rgb, CAMERA, 2 * pose()), "expected a rotation"),
        ((depth, rgb, CAMERA, broken), "expected finite numbers"),
        ((depth, rgb, CAMERA, pose(), depth[:5]), "weight: expected shape"),
        ((depth, rgb, CAMERA, pose(), depth), "weight: expected 0 … 1"),
    ):
        with pytest.raises(MapError, match=says):
            map.integrate(*arguments)
    assert map.frames == len(map.store) == 0


def test_clear_forgets_everything():
    map = surfel_map()
    map.integrate(*wall(), CAMERA, pose())
    map.clear()
    assert map.frames == len(map.points(unstable=True).points) == 0
    map.integrate(*wall(0.9), CAMERA, pose())
    assert abs(map.points(unstable=True).points[:, 2].max() - 0.9) < 1e-5
