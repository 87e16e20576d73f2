# SPDX-License-Identifier: Apache-2.0
"""A plain folder: rgb/, depth/ and camera.json, the layout that is easiest to make.

- rgb/NAME.jpg or .png; depth/NAME.png, 16 bit, ``depth_scale`` units per metre, of the colour's
  size or its aspect ratio (then resampled by nearest neighbour).
- camera.json: width, height, fx, fy, cx, cy, depth_scale; optional distortion_plumb_bob (or
  distortion_rational_polynomial, distortion_equidistant), then all is rectified.
- optional pose/NAME.txt (4x4, T_world_camera), or associations.txt + groundtruth.txt as in TUM,
  which then also pair the images and give their stamps.
- optional sparse/NAME.png (as depth), or points/NAME.pcd, .bin (float32 x y z i), .npy or .ply in
  a LiDAR's frame, with ``T_camera_lidar`` (4x4) in camera.json.

Frames without stamps are 0.1 s apart. Sub-folders with rgb/ in them are splits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depth_two_stage import files
from depth_two_stage.datasets import DatasetError
from depth_two_stage.datasets.clouds import CLOUD_SUFFIXES, read_cloud
from depth_two_stage.datasets.frames import (
    FRAME_PERIOD_NS,
    Frame,
    FrameDataset,
    all_there,
    images_for,
    images_of,
)


def open_sequence(root: Path, split: str | None) -> FrameDataset:
    """Open the folder, or its sub-folder ``split``."""
    top = root
    if not (root / "rgb").is_dir():
        splits = sorted(p.parent.name for p in root.glob("*/rgb")) if root.is_dir() else []
        if not splits:
            raise DatasetError(
                f"root: expected rgb/, depth/ and camera.json, got no rgb/ in {root}"
            )
        if split not in splits:
            raise DatasetError(f"split: expected one of {', '.join(splits)}, got {split!r}")
        root = root / split
    elif split is not None:
        raise DatasetError(f"split: expected none (this folder has no splits), got {split!r}")
    path = root / "camera.json"
    if not path.is_file() and (top / "camera.json").is_file():
        path = top / "camera.json"
    lens, scale = files.read_camera(path, depth_scale=True)
    T_camera_lidar = _extrinsics(path)
    if (root / "associations.txt").is_file():
        from depth_two_stage.datasets.tum import frames_of

        frames = frames_of(root)
    else:
        frames = _frames_of(root, T_camera_lidar is not None)
    return FrameDataset(
        root.name, split, frames, lens, scale, read_points=read_cloud, T_camera_lidar=T_camera_lidar
    )


def _frames_of(root: Path, lidar: bool) -> list[Frame]:
    optional = {name: (root / name).is_dir() for name in ("pose", "sparse", "points")}
    if optional["points"] and not lidar:
        raise DatasetError(f"{root}/camera.json: expected T_camera_lidar for points/, got none")
    if not (root / "depth").is_dir():
        raise DatasetError(f"root: expected the folder {root / 'depth'}, got none")
    frames, images = [], images_of(root / "rgb", "root")
    wanted = [root / "depth" / f"{rgb.stem}.png" for rgb in images]
    wanted += images_for(root / "depth", ".png", images)
    if optional["pose"]:
        wanted += [root / "pose" / f"{rgb.stem}.txt" for rgb in images]
    all_there(root, wanted)
    for index, rgb in enumerate(images):
        depth, sparse = root / "depth" / f"{rgb.stem}.png", None
        pose = read_pose(root / "pose" / f"{rgb.stem}.txt") if optional["pose"] else None
        if optional["sparse"] and (root / "sparse" / f"{rgb.stem}.png").is_file():
            sparse = root / "sparse" / f"{rgb.stem}.png"
        points = _cloud_of(root / "points", rgb.stem) if optional["points"] else None
        frames.append(Frame(rgb.stem, rgb, depth, index * FRAME_PERIOD_NS, pose, sparse, points))
    return frames


def read_pose(path: Path) -> np.ndarray:
    """A 4x4 text matrix T_world_camera as float64 (4, 4)."""
    rows = [words for _, words in files.read_table(path)]
    try:
        T = np.array(rows, np.float64)
    except ValueError as error:
        raise DatasetError(f"{path}: expected a 4x4 matrix of numbers, got {error}") from error
    return rigid(T, str(path))


def rigid(T: np.ndarray, name: str) -> np.ndarray:
    """Check that a matrix is a rigid motion (4, 4); rotations rounded in text pass."""
    T = np.asarray(T, np.float64)
    if T.shape != (4, 4) or not np.isfinite(T).all():
        raise DatasetError(f"{name}: expected a finite 4x4 matrix, got shape {T.shape}")
    if np.abs(T[:3, :3] @ T[:3, :3].T - np.eye(3)).max() > 0.01 or np.linalg.det(T[:3, :3]) < 0:
        raise DatasetError(f"{name}: expected a rotation and a translation, got a scaled matrix")
    return T


def _extrinsics(camera: Path) -> np.ndarray | None:
    T = files.read_json(camera).get("T_camera_lidar")
    if T is None:
        return None
    try:
        return rigid(np.array(T, np.float64), f"{camera}: T_camera_lidar")
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{camera}: T_camera_lidar: {error}") from error


def _cloud_of(folder: Path, stem: str) -> Path | None:
    for suffix in CLOUD_SUFFIXES:
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    return None  # a LiDAR slower than the camera
