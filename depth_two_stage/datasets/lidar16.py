# SPDX-License-Identifier: Apache-2.0
"""Stills of a camera with a 16-beam LiDAR: image_orig/N.jpg, pointcloud/N.pcd, config.json.

config.json holds cam.K (3x3), cam.D (plumb_bob) and tf (4x4, T_camera_lidar: LiDAR to the camera's
optical frame). No true depth. Images are rectified with focal lengths and centre kept.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depth_two_stage import files
from depth_two_stage.camera import Lens
from depth_two_stage.datasets import DatasetError
from depth_two_stage.datasets.clouds import read_cloud
from depth_two_stage.datasets.folder import rigid
from depth_two_stage.datasets.frames import (
    FRAME_PERIOD_NS,
    Frame,
    FrameDataset,
    all_there,
    images_for,
    images_of,
)


def open_sequence(root: Path, split: str | None) -> FrameDataset:
    """Open the stills; they have no splits."""
    if split is not None:
        raise DatasetError(f"split: expected none (lidar16 has no splits), got {split!r}")
    path = root / "config.json"
    content = files.read_json(path)
    images = images_of(root / "image_orig", "root")
    clouds = [root / "pointcloud" / f"{rgb.stem}.pcd" for rgb in images]
    all_there(root, [*clouds, *images_for(root / "pointcloud", ".pcd", images)])
    frames = []
    for index, (rgb, cloud) in enumerate(zip(images, clouds, strict=True)):
        frames.append(Frame(rgb.stem, rgb, None, index * FRAME_PERIOD_NS, points=cloud))
    height, width = files.read_image(frames[0].rgb).shape[:2]
    try:
        K, D = np.array(content["cam"]["K"], float), np.array(content["cam"]["D"], float)
        lens = Lens(width, height, K, D)
        T_camera_lidar = rigid(np.array(content["tf"], float), "tf")
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: expected cam.K, cam.D and tf, got {error!r}") from error
    return FrameDataset("lidar16", None, frames, lens, 1000.0, read_cloud, T_camera_lidar)
