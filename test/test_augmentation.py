# SPDX-License-Identifier: Apache-2.0
"""Image, truth, samples and camera move together: checked on a textured plane."""

import numpy as np
import pytest
from slanted_plane import CAMERA, NORMAL, OFFSET, plane, samples

from depth_two_stage.datasets.augmentation import Augmentation, PairAugmentation


def test_switched_off_it_changes_nothing():
    rgb, depth = plane()
    sparse = samples(depth)
    view = Augmentation(np.random.default_rng(0), enabled=False)(rgb, depth, sparse, CAMERA)
    assert np.array_equal(view.rgb, rgb)
    assert np.array_equal(view.depth, depth)
    assert np.array_equal(view.sparse, sparse)
    assert view.camera == CAMERA


def test_centre_crop_is_a_crop():
    rgb, depth = plane()
    augment = Augmentation(np.random.default_rng(0), size=(228, 304), enabled=False)
    view = augment(rgb, depth, None, CAMERA)
    assert np.array_equal(view.rgb, rgb[6:234, 8:312])
    assert np.array_equal(view.depth, depth[6:234, 8:312])
    assert view.camera == CAMERA.cropped(8, 6, 304, 228)
    assert view.sparse is None


@pytest.mark.parametrize("seed", range(6))
def test_samples_agree_with_the_truth_and_none_is_doubled(seed):
    rgb, depth = plane()
    sparse = samples(depth, seed)
    augment = Augmentation(np.random.default_rng(seed), size=(228, 304))
    view = augment(rgb, depth, sparse, CAMERA)
    kept = view.sparse > 0
    assert 60 < kept.sum() <= 400
    both = kept & (view.depth > 0)
    # A pixel's step on this plane is below 1 %: rounding a position costs no more.
    assert np.abs(view.sparse / np.where(both, view.depth, 1) - 1)[both].max() < 0.01


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_new_view_is_the_plane_seen_by_the_new_camera(seed, flip):
    # Zooming by s with depth / s keeps a point's x and y and divides z: the plane n · p = o becomes
    # (nx, ny, s nz) · p = o, rolled. It comes out so only if depth, centre, crop and flip agree.
    rgb, depth = plane()
    augment = Augmentation(np.random.default_rng(seed), size=(228, 304), flip=flip)
    view = augment(rgb, depth, None, CAMERA)
    s = np.random.default_rng(seed).uniform(1.0, 1.5)
    points = view.camera.backproject(view.depth)[view.depth > 0].astype(np.float64)
    fit, *_ = np.linalg.lstsq(points, np.ones(len(points)), rcond=None)
    assert np.abs(points @ fit - 1).max() < 0.01
    want = NORMAL * [1, 1, s] / OFFSET
    assert fit[2] == pytest.approx(want[2], rel=5e-3)
    assert np.hypot(*fit[:2]) == pytest.approx(np.hypot(*want[:2]), rel=2e-2)


def test_scale_divides_the_depth_and_keeps_the_focal_length():
    rgb = np.zeros((240, 320, 3), np.uint8)
    depth = np.full((240, 320), 3.0, np.float32)
    augment = Augmentation(np.random.default_rng(0), scale=(1.5, 1.5), rotation=0)
    view = augment(rgb, depth, depth, CAMERA)
    assert np.allclose(view.depth, 2.0) and np.allclose(view.sparse[view.sparse > 0], 2.0)
    assert (view.camera.fx, view.camera.fy) == (CAMERA.fx, CAMERA.fy)


def test_flip_mirrors_image_truth_samples_and_centre():
    rgb, depth = plane()
    sparse = samples(depth)
    augment = Augmentation(np.random.default_rng(0), rotation=0, scale=(1, 1), flip=1.0, colour=0.0)
    view = augment(rgb, depth, sparse, CAMERA)
    assert np.array_equal(view.rgb, rgb[:, ::-1])
    assert np.array_equal(view.depth, depth[:, ::-1])
    assert np.array_equal(view.sparse, sparse[:, ::-1])
    assert view.camera.cx == 319 - CAMERA.cx


def test_flips_happen_half_of_the_time():
    rgb, depth = plane()
    augment = Augmentation(np.random.default_rng(0), rotation=0, scale=(1, 1))
    mirrored = [augment(rgb, depth, None, CAMERA).camera.cx != CAMERA.cx for _ in range(100)]
    assert 30 < sum(mirrored) < 70


def test_the_colour_follows_the_ray_through_rotation_scale_and_crop():
    # Without flip and jitter, colour is a function of the ray; after a roll by a and an approach
    # by s the pixel with ray r shows the old ray R(-a) r / s.
    rgb, depth = plane()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        view = Augmentation(rng, size=(200, 260), flip=0.0, colour=0.0)(rgb, depth, None, CAMERA)
        rng = np.random.default_rng(seed)
        s, angle = rng.uniform(1.0, 1.5), np.deg2rad(rng.uniform(-5, 5))
        rays = view.camera.rays().astype(np.float64)[..., :2]
        c, d = np.cos(angle), np.sin(angle)
        old = np.stack([c * rays[..., 0] + d * rays[..., 1], -d * rays[..., 0] + c * rays[..., 1]])
        want = 128 + 150 * old / s
        inside = view.depth > 0
        error = np.abs(view.rgb[..., 0] - want[0])[inside]
        assert np.median(error) < 1.5 and np.percentile(error, 99) < 3
        error = np.abs(view.rgb[..., 1] - want[1])[inside]
        assert np.median(error) < 1.5 and np.percentile(error, 99) < 3


def test_another_cameras_frame_is_brought_to_the_canonical_focal_length():
    big = CAMERA.resized(640, 480)
    rgb, depth = plane(big)
    augment = Augmentation(np.random.default_rng(0), (228, 304), focal=260.0, enabled=False)
    view = augment(rgb, depth, samples(depth), big)
    assert view.rgb.shape == (228, 304, 3)
    assert view.camera.focal == pytest.approx(260.0, rel=1e-3)
    points = view.camera.backproject(view.depth)[view.depth > 0]
    assert np.abs(points @ NORMAL - OFFSET).max() < 0.02
    kept = view.sparse > 0
    assert np.allclose(view.sparse[kept], view.depth[kept], rtol=0.01)


def test_a_frame_smaller_than_the_crop_has_no_truth_outside():
    rgb, depth = plane()
    augment = Augmentation(np.random.default_rng(0), size=(300, 400), enabled=False)
    view = augment(rgb, depth, None, CAMERA)
    assert view.depth.shape == (300, 400)
    assert np.count_nonzero(view.depth) == depth.size
    assert np.array_equal(view.depth[30:270, 40:360], depth)


def test_no_truth_stays_no_truth_and_values_are_never_blended():
    rgb, depth = plane()
    depth[:, :160] = 0
    depth[:, 160:] = np.where(np.indices((240, 160)).sum(axis=0) % 2, 1, 9)
    view = Augmentation(np.random.default_rng(1), scale=(1, 1))(rgb, depth, None, CAMERA)
    assert set(np.unique(view.depth)) <= {0.0, 1.0, 9.0}


def test_the_seed_decides_the_view_and_jitter_changes_the_image_only():
    rgb, depth = plane()
    one, two = (Augmentation(np.random.default_rng(5))(rgb, depth, None, CAMERA) for _ in range(2))
    assert np.array_equal(one.rgb, two.rgb) and one.camera == two.camera
    augment = Augmentation(np.random.default_rng(5), rotation=0, scale=(1, 1), flip=0)
    view = augment(rgb, depth, None, CAMERA)
    assert not np.array_equal(view.rgb, rgb)
    assert np.array_equal(view.depth, depth)


def test_nan_in_the_truth_stays_its_own_pixels_and_is_no_sample():
    rgb, depth = plane()
    sparse = samples(depth)
    depth[100, 100] = np.nan
    sparse[sparse > 0] = np.where(np.arange(400) % 2, np.nan, sparse[sparse > 0])
    view = Augmentation(np.random.default_rng(0), scale=(1, 1))(rgb, depth, sparse, CAMERA)
    assert 0 < np.isnan(view.depth).sum() <= 4  # not blended into its neighbours
    assert np.isfinite(view.sparse).all() and 100 < np.count_nonzero(view.sparse) <= 200


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": -1}, "rotation: expected 0 to 180 degrees, got -1"),
        ({"scale": (0.0, 1.0)}, "scale: expected two numbers above 0"),
        ({"scale": (1.5, 1.0)}, "scale: expected two numbers above 0, the lower first"),
        ({"scale": (1.0, float("inf"))}, "scale: expected"),
        ({"scale": (1.0,)}, "scale: expected"),
        ({"gain": (1.0, float("nan"))}, "gain: expected"),
        ({"flip": 1.5}, "flip: expected a probability from 0 to 1, got 1.5"),
        ({"colour": 1.0}, "colour: expected"),
        ({"focal": 0.0}, "focal: expected"),
    ],
)
def test_wrong_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(np.random.default_rng(0), **options)


def test_frames_whose_parts_do_not_fit_are_refused():
    rgb, depth = plane()
    augment = Augmentation(np.random.default_rng(0))
    for parts, message in (
        ((rgb[:100], depth, None), r"rgb: expected uint8 of the camera's size \(240, 320, 3\)"),
        ((rgb[..., 0], depth, None), "rgb: expected"),
        ((rgb / 255, depth, None), "rgb: expected uint8 .*got float64"),
        ((rgb, depth[:, :10], None), "depth: expected the camera's size"),
        ((rgb, depth, depth[::2]), "sparse: expected the camera's size"),
    ):
        with pytest.raises(ValueError, match=message):
            augment(*parts, CAMERA)
    with pytest.raises(ValueError, match="target: expected rough's shape"):
        PairAugmentation(np.random.default_rng(0))(depth, depth[:10])
