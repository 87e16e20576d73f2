# SPDX-License-Identifier: Apache-2.0
"""Camera and lens against closed forms and OpenCV."""

import cv2
import numpy as np
import pytest

from depth_two_stage.camera import Camera, Lens

CAMERA = Camera(64, 48, 50.0, 52.0, 31.2, 23.7)


def test_backproject_and_project_are_inverse():
    depth = np.random.default_rng(0).uniform(1, 5, CAMERA.size).astype(np.float32)
    points = CAMERA.backproject(depth)
    assert np.allclose(points[..., 2], depth)
    np.testing.assert_allclose(CAMERA.project(points.reshape(-1, 3)), depth, rtol=1e-6)


def test_resize_keeps_the_field_of_view():
    half = CAMERA.resized(32, 24)
    # The outer border of the image (-0.5) must see the same ray in both.
    for pixel, scaled in ((-0.5, -0.5), (63.5, 31.5)):
        assert (pixel - CAMERA.cx) / CAMERA.fx == pytest.approx((scaled - half.cx) / half.fx)
    assert CAMERA.resized(64, 48) == CAMERA


def test_resize_agrees_with_pixels_of_a_resized_image():
    ramp = np.tile(np.arange(64, dtype=np.float32), (48, 1))
    small = cv2.resize(ramp, (32, 24), interpolation=cv2.INTER_AREA)
    half = CAMERA.resized(32, 24)
    ray_full = (small[0, 7] - CAMERA.cx) / CAMERA.fx
    assert (7 - half.cx) / half.fx == pytest.approx(ray_full, abs=1e-6)


def test_crop_and_flip():
    assert CAMERA.cropped(4, 3, 20, 10).cx == pytest.approx(27.2)
    point = np.array([[0.3, 0.1, 2.0]])
    u = CAMERA.pixels(point)[0][0, 0]
    mirrored = CAMERA.flipped().pixels(point * [-1, 1, 1])[0][0, 0]
    assert mirrored == pytest.approx(63 - u)


def test_nearest_point_wins_and_bad_points_are_dropped():
    points = [
        [0, 0, 3],
        [0, 0, 2],
        [0, 0, 4],
        [0, 0, -1],
        [np.nan, 0, 1],
        [1e30, 0, 1e-5],
        [0, 0, 0],
    ]
    sparse = CAMERA.project(np.array(points))
    assert np.count_nonzero(sparse) == 1 and sparse.max() == 2


def test_project_applies_the_transform():
    T = np.eye(4)
    T[:3, 3] = [0, 0, 1]
    assert CAMERA.project(np.array([[0.0, 0, 1]]), T).max() == 2


@pytest.mark.parametrize(
    "values", [(0, 1, 1, 1, 0, 0), (4, 4, 0, 1, 0, 0), (4, 4, np.nan, 1, 0, 0)]
)
def test_bad_cameras_are_refused(values):
    with pytest.raises(ValueError, match="expected"):
        Camera(*values)


@pytest.mark.parametrize(
    ("model", "D"),
    [
        ("plumb_bob", [0.26, -0.95, -0.005, 0.002, 1.16]),
        ("rational_polynomial", [0.2, -0.1, 0.001, 0.001, 0.01, 0.1, 0.02, 0.01]),
        ("equidistant", [0.05, 0.01, 0.0, 0.0]),
    ],
)
def test_rectified_pixel_shows_the_ray_that_the_lens_bends(model, D):
    K = np.array([[300.0, 0, 160], [0, 302, 118], [0, 0, 1]])
    lens = Lens(320, 240, K, np.array(D), model)
    ray = np.array([[[0.2, -0.15, 1.0]]])
    if model == "equidistant":
        raw = cv2.fisheye.projectPoints(ray, np.zeros(3), np.zeros(3), K, np.array(D))[0]
    else:
        raw = cv2.projectPoints(ray, np.zeros(3), np.zeros(3), K, np.array(D))[0]
    u, v = lens.rectified.pixels(ray[0])[0][0]
    x = cv2.remap(lens.maps[0], np.float32([[u]]), np.float32([[v]]), cv2.INTER_LINEAR)[0, 0]
    y = cv2.remap(lens.maps[1], np.float32([[u]]), np.float32([[v]]), cv2.INTER_LINEAR)[0, 0]
    assert np.allclose([x, y], raw.reshape(2), atol=0.05)


def test_depth_is_rectified_without_mixing_values():
    lens = Lens(32, 24, np.float64([[30, 0, 16], [0, 30, 12], [0, 0, 1]]), [0.3, 0, 0, 0])
    depth = np.where(np.arange(32) < 16, 1.0, 4.0).astype(np.float32) * np.ones((24, 1), np.float32)
    assert set(np.unique(lens.rectify_depth(depth))) <= {0.0, 1.0, 4.0}
    assert not lens.is_rectified and Lens(32, 24, lens.K).is_rectified


def test_depth_follows_a_turned_axis():
    # A wall 2 m before the raw camera, seen by a rectified one turned by 10 degrees.
    a = np.deg2rad(10)
    R = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    K = np.array([[40.0, 0, 31.5], [0, 40, 23.5], [0, 0, 1]])
    lens = Lens(64, 48, K, R=R)
    depth = lens.rectify_depth(np.full((48, 64), 2, np.float32))
    points = lens.rectified.backproject(depth)[depth > 0] @ R
    assert len(points) > 1000
    np.testing.assert_allclose(points[:, 2], 2, rtol=1e-5)


def test_bad_lenses_are_refused():
    with pytest.raises(ValueError, match="distortion model"):
        Lens(32, 24, np.eye(3), model="thin_prism")
    with pytest.raises(ValueError, match="fx"):
        Lens(32, 24, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="expected the camera's size"):
        Lens(32, 24, np.eye(3)).rectify_image(np.zeros((3, 3), np.uint8))


@pytest.mark.parametrize(
    ("R", "says"),
    [
        (np.diag([1.0, 1.0, np.nan]), "expected finite K, D and R"),
        (np.arange(1.0, 10.0), "expected R to be a rotation"),
        (-np.eye(3), "expected R to be a rotation"),
    ],
)
def test_what_is_no_rotation_would_give_a_black_image_and_is_refused(R, says):
    K = [[60, 0, 31.5], [0, 60, 23.5], [0, 0, 1]]
    with pytest.raises(ValueError, match=says):
        Lens(64, 48, np.array(K), R=R)


def test_points_beyond_what_a_float_holds_are_left_out():
    """Turned by 45°, two coordinates near the largest float32 give a depth that is infinite."""
    s = np.sqrt(0.5)
    T = np.array([[s, 0, -s, 0], [0, 1, 0, 0], [s, 0, s, 0], [0, 0, 0, 1]])
    points = np.array([[3e38, 0, 3e38], [2, 0, 2]], np.float32)
    sparse = Camera(9, 7, 5.0, 5.0, 4.0, 3.0).project(points, T)
    assert np.count_nonzero(sparse) == 1 and np.isclose(sparse[3, 4], np.sqrt(8))
