# SPDX-License-Identifier: Apache-2.0
"""Layers in straight-line NumPy, and how near a network has to come."""

import numpy as np
import torch


def near(found, expected):
    """Equal to 1e-5, of the largest value where that is above one."""
    scale = max(1.0, float(np.abs(expected).max()))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)
    assert np.abs(expected).max() > 0.05  # not a comparison of nothings


def convolve(x, kernel, stride=1, pad=(0, 0, 0, 0), bias=None):
    """Input (C, H, W), kernel (kh, kw, in, out), pad (top, bottom, left, right) → (out, H', W')."""
    kh, kw = kernel.shape[:2]
    x = np.pad(x, ((0, 0), pad[:2], pad[2:]))
    height, width = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    out = np.zeros((kernel.shape[3], height, width))
    for i in range(kh):
        for j in range(kw):
            seen = x[:, i : i + stride * height : stride, j : j + stride * width : stride]
            out += np.tensordot(kernel[i, j].astype(np.float64), seen, ([0], [0]))
    return out if bias is None else out + bias[:, None, None]


def pool(x, pad):
    """3×3 maximum with stride 2; pad (before, after) on both axes."""
    x = np.pad(x, ((0, 0), pad, pad), constant_values=-np.inf)
    height, width = (x.shape[1] - 3) // 2 + 1, (x.shape[2] - 3) // 2 + 1
    windows = [
        x[:, i : i + 2 * height - 1 : 2, j : j + 2 * width - 1 : 2]
        for i in range(3)
        for j in range(3)
    ]
    return np.max(windows, axis=0)


def relu(x):
    return np.maximum(x, 0)


def image(shape=(3, 64, 96), seed=1):
    return np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32)


def ours(module, x):
    with torch.inference_mode():
        return module(torch.from_numpy(np.ascontiguousarray(x, np.float32))[None])[0].numpy()


def exactly(model, x):
    """Stage one's answer in double precision: so many layers add up the rounding of float32."""
    with torch.inference_mode():
        return model.stage_one.double()(torch.from_numpy(x).double()[None])[0].numpy()


def corners(field, height, width):
    """Bilinear, corner pixels on corner pixels."""
    at = [np.linspace(0, n - 1, m) for n, m in zip(field.shape, (height, width), strict=True)]
    for axis, where in enumerate(at):
        low = np.minimum(where.astype(int), field.shape[axis] - 2)
        part = (where - low)[(slice(None), None) if axis == 0 else (None, slice(None))]
        field = np.take(field, low, axis) * (1 - part) + np.take(field, low + 1, axis) * part
    return field


def half_pixel(field, height, width):
    """Bilinear with half-pixel centres, the edge repeated."""
    for axis, size in enumerate((height, width)):
        at = np.clip((np.arange(size) + 0.5) * field.shape[axis] / size - 0.5, 0, None)
        at = np.minimum(at, field.shape[axis] - 1)
        low = np.minimum(at.astype(int), field.shape[axis] - 2)
        part = (at - low)[(slice(None), None) if axis == 0 else (None, slice(None))]
        field = np.take(field, low, axis) * (1 - part) + np.take(field, low + 1, axis) * part
    return field
