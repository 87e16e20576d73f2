# SPDX-License-Identifier: Apache-2.0
"""A camera that turns once round in a rendered room, with a lens that is not quite as believed."""

import dataclasses

import numpy as np

from depth_two_stage.camera import Camera
from depth_two_stage.datasets.render.image import render
from depth_two_stage.datasets.render.scenes import build_scene
from depth_two_stage.slam import LEVEL, Frame

PERIOD = 10**8
SETTINGS = {
    **{"tsdf.memory_mb": 96.0, "tsdf.device": "cpu", "tsdf.voxel_size": 0.06},
    **{"tsdf.max_range": 6.0, "odometry.max_range": 6.0},
}


def circle(frames=52, beyond=0, wrong=1.05, size=(128, 96)):
    """Frames of a full turn and ``beyond`` more, and their true poses from the first one.

    The focal length given is ``wrong`` times the true one, so that odometry turns too little.
    """
    scene = build_scene(5)
    room = scene.rooms.reshape(-1, 4)[0]
    width, height = size
    camera = Camera(width, height, 0.6 * width, 0.6 * width, (width - 1) / 2, (height - 1) / 2)
    believed = dataclasses.replace(camera, fx=camera.fx * wrong, fy=camera.fy * wrong)
    made, poses = [], []
    for number in range(frames + beyond):
        angle = 2 * np.pi * number / frames
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        T = turn @ LEVEL
        T[:3, 3] = room[0] + room[2] / 2, room[1] + room[3] / 2, 1.4
        T[:2, 3] += 0.15 * np.cos(angle), 0.15 * np.sin(angle)
        rgb, depth = render(scene, camera, T)
        made.append(Frame(rgb, depth, believed, (number + 1) * PERIOD))
        poses.append(T)
    poses = np.array(poses)
    return made, LEVEL @ np.linalg.inv(poses[0]) @ poses
