# SPDX-License-Identifier: Apache-2.0
"""Frames kept compressed: as good as they were, bounded, spread over the way."""

import numpy as np
import pytest
from small_maps import CAMERA

from depth_two_stage.datasets import open_dataset
from depth_two_stage.kept_frames import KeptFrame, KeptFrames


@pytest.fixture(scope="module")
def sample():
    return open_dataset("rendered", ".", "seed:5,frames:2,size:120x160,lidar:0")[0]


def step(x):
    T = np.eye(4)
    T[0, 3] = x
    return T


def test_images_come_back(sample):
    confidence = np.linspace(0, 1, sample.depth.size, dtype=np.float32).reshape(sample.depth.shape)
    confidence[:10] = 0
    images = sample.rgb, sample.depth, confidence
    frame = KeptFrame.pack(7, step(0.1), images, sample.camera, 5.0, 3)
    rgb, depth, weight = frame.images()
    assert (frame.node, frame.number, frame.camera) == (7, 3, sample.camera)
    assert rgb.dtype == np.uint8 and np.abs(rgb.astype(int) - sample.rgb).mean() < 6
    near = sample.depth <= 5.0
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth[near], sample.depth[near], atol=0.0006)
    assert (depth[~near] == 0).all()
    np.testing.assert_allclose(weight, confidence, atol=0.002)
    assert (weight[:10] == 0).all()
    assert frame.size < sample.rgb.nbytes
    # Without confidence there is none; far depth is coarser, not cut.
    far = KeptFrame.pack(0, step(0), (sample.rgb, sample.depth * 20, None), sample.camera, 120.0)
    assert far.images()[2] is None
    np.testing.assert_allclose(far.images()[1], sample.depth * 20, atol=0.001)


def test_the_bound_holds_and_what_is_left_is_spread(sample):
    images = sample.rgb, sample.depth, None
    size = KeptFrame.pack(0, step(0), images, CAMERA, 5.0).size
    kept = KeptFrames(10.5 * size / 1e6)
    # A metre in steps of 1 cm, then ten metres in steps of 1 m.
    places = [*np.arange(0, 1, 0.01), *np.arange(1, 11)]
    before = 0.0
    for number, x in enumerate(places, 1):
        kept.add(KeptFrame.pack(0, step(x), images, CAMERA, 5.0, number), step(x - before))
        before = x
        assert kept.size <= kept.limit
    assert len(kept) == 10
    assert kept.count == len(places)
    assert kept.dropped == len(places) - 10
    left = [frame.T_node_frame[0, 3] for frame in kept.since(0)]
    assert left[0] == 0 and left[-1] == 10
    assert np.diff(left).max() <= 2.5
    assert [frame.number for frame in kept.since(len(places) - 2)] == [109, 110]
    kept.clear()
    assert len(kept) == kept.size == 0
