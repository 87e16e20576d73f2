# SPDX-License-Identifier: Apache-2.0
"""What cameras do to an image: each change by its own numbers, and nothing where it is off."""

import dataclasses

import cv2
import numpy as np
import pytest

from depth_two_stage import networks, recipes
from depth_two_stage.camera import Camera
from depth_two_stage.datasets import Sample
from depth_two_stage.datasets.photometry import Photometry, disc, exposed, moved, streak
from depth_two_stage.training_data import make_example


def picture(size=(120, 160)):
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    return cv2.GaussianBlur(noise, (7, 7), 2)


def drawn(photometry, rgb=None, seed=0):
    rgb = picture() if rgb is None else rgb
    return photometry(rgb, np.random.default_rng(seed))


def test_off_is_off_and_draws_nothing():
    rgb, rng = picture(), np.random.default_rng(3)
    assert Photometry()(rgb, rng) is rgb
    assert rng.random() == np.random.default_rng(3).random()


def test_the_generator_decides():
    every = Photometry(exposure=1.0, noise=1.0, motion=1.0, defocus=1.0, jpeg=1.0)
    one, again, other = (drawn(every, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert one.dtype == np.uint8 and one.shape == (120, 160, 3)


def test_exposure_counts_in_light_and_gamma_in_grey_levels():
    grey = np.full((4, 4, 3), 100, np.uint8)
    # One stop more is twice the light: 100 · 2^(1/2.2) = 137.03.
    assert (exposed(grey, 1.0, 1.0) == 137).all()
    assert (exposed(grey, -1.0, 1.0) == 73).all()
    # 255 · (100/255)^1.25 = 79.1
    assert (exposed(grey, 0.0, 1.25) == 79).all()
    assert (exposed(np.full((4, 4, 3), 250, np.uint8), 1.0, 1.0) == 255).all()  # saturated
    levels = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2)
    assert np.array_equal(exposed(levels, 0.0, 1.0), levels)
    means = [drawn(Photometry(exposure=1.0, gamma=(1, 1)), grey, s).mean() for s in range(200)]
    assert 73 <= min(means) < 76 and 133 < max(means) <= 137


def test_an_offset_moves_the_image_as_far_as_it_says():
    rgb = picture((240, 320))
    down = moved(rgb, 3, np.pi / 2)
    assert np.array_equal(down[3:], rgb[:-3]) and np.array_equal(down[:3], rgb[[0, 0, 0]])
    # Of 640 px: half as many in an image of 320.
    beside = drawn(Photometry(offset=1.0, offset_px=(16.0, 16.0)), rgb).astype(np.float64)
    shift, _ = cv2.phaseCorrelate(rgb[..., 0].astype(np.float64), beside[..., 0])
    assert np.hypot(*shift) == pytest.approx(8, abs=0.5)


def test_noise_has_its_standard_deviation_and_no_colour():
    grey = np.full((120, 160, 3), 128, np.uint8)
    noisy = drawn(Photometry(noise=1.0, noise_std=(5.0, 5.0)), grey).astype(float)
    assert noisy.std() == pytest.approx(np.hypot(5, np.sqrt(1 / 12)), rel=0.02)
    assert noisy.mean() == pytest.approx(128, abs=0.1)
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.03
    white = drawn(Photometry(noise=1.0, noise_std=(5.0, 5.0)), np.full_like(grey, 255))
    assert white.max() == 255 and white.min() > 220  # clipped, not wrapped around


@pytest.mark.parametrize("radius", [0.0, 0.4, 1.5, 4.0])
def test_defocus_is_a_disc_of_its_radius(radius):
    kernel = disc(radius)
    assert kernel.sum() == pytest.approx(1) and np.allclose(kernel, kernel.T)
    y, x = np.mgrid[: len(kernel), : len(kernel)] - len(kernel) // 2
    # The mean square distance from the middle of a full disc is r² / 2.
    assert (kernel * (x**2 + y**2)).sum() == pytest.approx(radius**2 / 2, abs=0.3)
    if radius == 0:
        assert kernel.tolist() == [[1]]


@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 2, 2.5])
@pytest.mark.parametrize("length", [0.0, 1.0, 6.5])
def test_motion_blur_is_a_line_that_stays_where_it_was(length, angle):
    kernel = streak(length, angle)
    assert kernel.shape[0] == kernel.shape[1] and kernel.shape[0] % 2 == 1
    y, x = np.mgrid[: len(kernel), : len(kernel)] - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1)
    assert (kernel * x).sum() == pytest.approx(0, abs=1e-5)
    assert (kernel * y).sum() == pytest.approx(0, abs=1e-5)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    # A line of length L has a variance of L² / 12 along it; sharing pixels adds at most 1/4.
    assert length**2 / 12 - 1e-3 <= (kernel * along**2).sum() <= length**2 / 12 + 0.26
    assert (kernel * across**2).sum() <= 0.26


def test_blur_goes_with_the_size_of_the_image():
    widths = []
    for width in (160, 640):
        line = np.zeros((65, width, 3), np.uint8)
        line[:, width // 2] = 255
        blurred = drawn(Photometry(defocus=1.0, defocus_px=(16.0, 16.0)), line)
        widths.append(np.count_nonzero(blurred[32, :, 0]))
    assert widths == [9, 33]  # 4 and 16 px to either side
    edge = np.zeros((65, 640, 3), np.uint8)
    edge[:, 320:] = 255
    blurred = drawn(Photometry(motion=1.0, motion_px=(20.0, 20.0)), edge, 1)
    assert blurred.mean() == pytest.approx(127.5, abs=1)


def test_jpeg_loses_the_more_the_lower_its_quality():
    rgb = picture()
    losses = [
        np.abs(drawn(Photometry(jpeg=1.0, quality=(q, q)), rgb).astype(int) - rgb).mean()
        for q in (20, 60, 95)
    ]
    assert losses[0] > losses[1] > losses[2] > 0 and losses[0] > 2 * losses[2]
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    assert np.abs(drawn(Photometry(jpeg=1.0, quality=(95, 95)), red).astype(int) - red).max() < 8


def test_each_happens_as_often_as_it_should():
    rgb = picture((24, 32))
    for name in ("exposure", "noise", "motion", "defocus", "jpeg"):
        one = Photometry(**{name: 0.3}, motion_px=(100, 100), defocus_px=(60, 80))
        share = np.mean([not np.array_equal(drawn(one, rgb, seed), rgb) for seed in range(300)])
        assert share == pytest.approx(0.3, abs=0.08), name


def test_an_example_changes_in_its_colour_alone():
    camera = Camera(160, 120, 130.0, 130.0, 79.5, 59.5)
    depth = np.full((120, 160), 2, np.float32)
    sample = Sample(picture(), depth, camera, 0, "made")
    plain = recipes.load("two-stage-rgbd-18", {"sparse.beams": 0.5})
    changed = dataclasses.replace(plain, photometry=Photometry(noise=1.0))
    settings = networks.NetworkSettings(input_size=(60, 80), focal=65.0, sparse_input="zeros")
    for seed in range(5):
        (x, target), (x2, target2) = (
            make_example(sample, recipe, settings, np.random.default_rng(seed))
            for recipe in (plain, changed)
        )
        assert np.array_equal(x[3], x2[3]) and np.array_equal(target, target2)
        assert not np.array_equal(x[:3], x2[:3])


def test_recipes_of_the_package_leave_images_as_the_papers_do():
    for name in recipes.names():
        if name.startswith("paper-"):
            assert recipes.load(name).photometry == Photometry()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"photometry.noise": 1.5}, "photometry.noise: expected at most 1, got 1.5"),
        ({"photometry.quality": [30, 101]}, "photometry.quality: expected at most 100"),
        ({"photometry.quality": [30.5, 90]}, "photometry.quality: expected int"),
        ({"photometry.stops": [1, -1]}, "photometry.stops: expected the lower number first"),
        ({"photometry.gamma": [0, 1]}, "photometry.gamma: expected at least 0.1, got 0"),
        ({"photometry.blur": 1}, "photometry.blur: expected one of exposure"),
    ],
)
def test_wrong_settings_are_named(changes, words):
    with pytest.raises(recipes.RecipeError, match=words):
        recipes.load("two-stage-rgbd-18", changes)
    assert recipes.load("two-stage-rgbd-18", {"photometry.stops": [-2, 1]}).photometry.stops == (
        -2,
        1,
    )
