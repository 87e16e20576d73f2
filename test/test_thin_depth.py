# SPDX-License-Identifier: Apache-2.0
"""Depth that lies beside the pixels at which Open3D looks is fused as well as any other."""

import dataclasses

import numpy as np
import pytest
from small_maps import CAMERA, PARAMETERS, pose, wall

from depth_two_stage.camera import Camera
from depth_two_stage.config import MappingNodeParameters
from depth_two_stage.slam import Frame, Slam
from depth_two_stage.tsdf import TsdfMap

FAR = PARAMETERS.max_range


def ground(depth):
    """Too far but for the last rows, as of a camera that looks down a corridor."""
    depth[:] = 2 * FAR
    depth[-3:] = FAR - 0.1


def patch(depth):
    depth[50:53, 61:64] = 2.0


def scattered(depth):
    depth[1::4, 1::4] = 2.0


def at_the_limit(depth):
    """As of a simulator that gives its far plane for nothing."""
    depth[:] = FAR


@pytest.mark.parametrize("fill", [ground, patch, scattered, at_the_limit])
def test_it_is_fused_where_it_is(fill):
    depth = np.zeros(CAMERA.size, np.float32)
    fill(depth)
    T = pose(0.4, -0.2, 0.3, turn=0.7)
    map = TsdfMap(PARAMETERS)
    assert map.integrate(depth, wall()[1], CAMERA, T) > 0
    seen, _ = map.raycast(CAMERA, T)
    usable = (depth > 0) & (depth <= FAR)
    # Some pixels do not make a surface; where one is seen it lies where it was measured.
    both = usable & (seen > 0)
    assert fill in (patch, scattered) or both.sum() > 0.3 * usable.sum()
    assert np.abs(seen[both] - depth[both]).max(initial=0) < 0.1  # m: the truncation is 0.08
    assert map.blocks.read(map.blocks.slots())["weight"].max() == 1.0


def test_every_pixel_finds_the_blocks_that_open3d_finds():
    """The same wall, seen by every fourth pixel and, these left out, by the others."""
    depth, rgb = wall()
    T = pose(turn=0.3)
    by_open3d, by_pixels = TsdfMap(PARAMETERS), TsdfMap(PARAMETERS)
    by_open3d.integrate(depth, rgb, CAMERA, T)
    depth[::4, ::4] = 0
    by_pixels.integrate(depth, rgb, CAMERA, T)
    keys = by_open3d.blocks.keys(by_open3d.blocks.slots())
    found = by_pixels.blocks.find(keys)[1]
    assert found.mean() > 0.95 and len(by_pixels.blocks) < 1.2 * len(keys)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 90), (90, 3)])
def test_images_of_a_few_pixels_end_nothing(size):
    height, width = size
    camera = Camera(width, height, float(width), float(width), width / 2, height / 2)
    tsdf = dataclasses.replace(PARAMETERS, memory_mb=16.0)
    core = Slam(MappingNodeParameters(tsdf=tsdf))
    rgb, depth = np.zeros((*size, 3), np.uint8), np.full(size, 1.5, np.float32)
    assert core.process(Frame(rgb, depth, camera, 1), pose()).fused
    assert not core.process(Frame(rgb, depth, camera, 2), pose(0.01)).lost
    core.process(Frame(rgb, depth, camera, 3))
    assert core.counters["frames"] == 3
