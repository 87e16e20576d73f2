# SPDX-License-Identifier: Apache-2.0
"""Placing images in the network's input and bringing fields back, at odd sizes and shapes."""

import itertools

import cv2
import numpy as np
import pytest

from depth_two_stage.camera import Camera
from depth_two_stage.framing import Framing, resample

INPUT = (228, 304)
SIZES = [(480, 640), (375, 1242), (640, 480), (101, 333), (1080, 1920), (60, 80), (7, 1000)]


@pytest.mark.parametrize("size", SIZES)
def test_the_whole_image_is_covered_and_not_stretched(size):
    framing = Framing.fit(size, INPUT)
    height, width = framing.content_size
    assert height == INPUT[0] or width == INPUT[1]
    assert 0 <= framing.top <= INPUT[0] - height and 0 <= framing.left <= INPUT[1] - width
    scales = np.divide(framing.content_size, size)
    assert abs(scales[0] - scales[1]) * max(size) <= max(size) / min(size)  # rounding to a pixel


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("field_size", [(228, 304), (256, 256), (128, 160)])
def test_a_linear_field_comes_back_where_it_was(size, field_size):
    """A plane over the network's input must be the same plane over the image's pixels."""
    framing = Framing.fit(size, INPUT)
    camera = framing.camera(Camera(size[1], size[0], 500, 500, size[1] / 2, size[0] / 2))
    rows = ((np.arange(field_size[0]) + 0.5) / field_size[0] * INPUT[0] - 0.5)[:, None]
    columns = (np.arange(field_size[1]) + 0.5) / field_size[1] * INPUT[1] - 0.5
    field = 2 * (rows - camera.cy) + 3 * (columns - camera.cx)
    back = framing.restore(field.astype(np.float32))
    y, x = np.indices(size)
    scale = np.divide(framing.content_size, size)
    expected = 2 * (y - size[0] / 2) * scale[0] + 3 * (x - size[1] / 2) * scale[1]
    inner = (slice(size[0] // 8, -size[0] // 8), slice(size[1] // 8, -size[1] // 8))
    np.testing.assert_allclose(back[inner], expected[inner], atol=2e-2)
    assert back.shape == size and back.dtype == np.float32


def test_restoring_a_full_frame_equals_opencv():
    field = np.random.default_rng(0).random((256, 256), np.float32)
    expected = cv2.resize(field, (640, 480), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(Framing.fit((480, 640), INPUT).restore(field), expected, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_no_point_is_lost_and_the_nearest_wins(size):
    framing = Framing.fit(size, INPUT)
    rng = np.random.default_rng(1)
    sparse = np.where(rng.random(size) < 0.2, rng.uniform(1, 9, size), 0).astype(np.float32)
    small = framing.sparse(sparse)
    # One by one: each point is in its pixel unless a nearer one is.
    camera = framing.camera(Camera(size[1], size[0], 100, 100, 0, 0))
    rows, columns = np.nonzero(sparse)
    scale = np.divide(framing.content_size, size)
    expected = np.full(INPUT, np.inf, np.float32)
    for r, c in zip(rows, columns, strict=True):
        y, x = int((r + 0.5) * scale[0]) + framing.top, int((c + 0.5) * scale[1]) + framing.left
        expected[y, x] = min(expected[y, x], sparse[r, c])
    expected[np.isinf(expected)] = 0
    np.testing.assert_array_equal(small, expected)
    assert camera.size == INPUT


def test_padding_repeats_the_edge():
    rgb = np.random.default_rng(2).integers(0, 255, (100, 400, 3), dtype=np.uint8)
    framing = Framing.fit((100, 400), INPUT)
    image = framing.image(rgb)
    assert image.shape == (*INPUT, 3)
    top = framing.top
    assert top > 0 and (image[:top] == image[top]).all()
    assert (image[top + 76 :] == image[top + 75]).all()


def test_resampling_a_single_pixel_field_is_constant():
    np.testing.assert_array_equal(resample(np.full((1, 1), 3.0), np.arange(-2, 3), np.arange(4)), 3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("field_size", [INPUT, (30, 40), (7, 9)])
def test_resampling_is_linear_along_both_axes(size, field_size):
    """Whole numbers of pixels go through OpenCV, others do not: both are what NumPy says."""
    field = np.random.default_rng(3).random(field_size, np.float32)
    shift = np.array([0.0, 0.3, 2.0, -4.0])
    for dy, dx in itertools.product(shift, shift):
        rows, columns = (
            (np.arange(n) + 0.5) * m / n - 0.5 + d
            for n, m, d in zip(size, field_size, (dy, dx), strict=True)
        )
        down = np.stack([np.interp(rows, np.arange(len(c)), c) for c in field.T], axis=1)
        expected = np.stack([np.interp(columns, np.arange(len(r)), r) for r in down])
        np.testing.assert_allclose(resample(field, rows, columns), expected, atol=2e-6)


@pytest.mark.parametrize("size", SIZES)
def test_opencv_enlarges_what_it_can(size, monkeypatch):
    """A padded input, too, where a pixel of it is a whole number of the image's."""
    framing, field = Framing.fit(size, INPUT), np.random.default_rng(4).random(INPUT, np.float32)
    back = framing.restore(field)
    monkeypatch.setattr("depth_two_stage.framing._grid", lambda at, count: None)
    np.testing.assert_allclose(back, framing.restore(field), atol=2e-7)
