# SPDX-License-Identifier: Apache-2.0
"""KITTI raw (Geiger et al., IJRR 2013): left colour camera and HDL-64, no true depth.

image_02/NNNNNNNNNN.png (rectified), velodyne_points/NNNNNNNNNN.bin (float32 x y z reflectance; the
originals' sub-folder data/ is entered) and calib.json with P_rect_02 (3x4), R_rect_00 (3x3) and
T_cam0_velo (4x4). The camera is P_rect_02's; points come to it by
T_cam2_cam0 · R_rect_00 · T_cam0_velo, where T_cam2_cam0 is the translation in P's last column.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depth_two_stage import files
from depth_two_stage.camera import Lens
from depth_two_stage.datasets import DatasetError
from depth_two_stage.datasets.clouds import read_cloud
from depth_two_stage.datasets.folder import rigid
from depth_two_stage.datasets.frames import FRAME_PERIOD_NS, Frame, FrameDataset, images_of


def open_sequence(root: Path, split: str | None) -> FrameDataset:
    """Open one drive; it has no splits."""
    if split is not None:
        raise DatasetError(f"split: expected none (kitti has no splits), got {split!r}")
    P, T_camera_lidar = _calibration(root / "calib.json")
    images, clouds = (_data(root / name) for name in ("image_02", "velodyne_points"))
    frames = []
    for index, rgb in enumerate(images_of(images, "root")):
        cloud = clouds / f"{rgb.stem}.bin"
        if not cloud.is_file():
            raise DatasetError(f"root: expected the scan {cloud} of {rgb.name}, got none")
        frames.append(Frame(rgb.stem, rgb, None, index * FRAME_PERIOD_NS, points=cloud))
    height, width = files.read_image(frames[0].rgb).shape[:2]
    lens = Lens(width, height, P[:, :3])
    return FrameDataset("kitti", None, frames, lens, 256.0, read_cloud, T_camera_lidar)


def _data(folder: Path) -> Path:
    return folder / "data" if (folder / "data").is_dir() else folder


def _calibration(path: Path) -> tuple[np.ndarray, np.ndarray]:
    content = files.read_json(path)
    found = []
    for key, shape in (("P_rect_02", (3, 4)), ("R_rect_00", (3, 3)), ("T_cam0_velo", (4, 4))):
        if key not in content:
            raise DatasetError(f"{path}: expected the key {key}, got {', '.join(content)}")
        try:
            found.append(np.array(content[key], np.float64).reshape(shape))
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{path}: {key}: expected {shape} numbers, got {error}") from error
    P, R, T = found
    T_rect, T_cam2 = np.eye(4), np.eye(4)
    T_rect[:3, :3] = R
    T_cam2[:3, 3] = np.linalg.solve(P[:, :3], P[:, 3])
    return P, rigid(T_cam2 @ T_rect @ T, f"{path}: T_camera_lidar")
