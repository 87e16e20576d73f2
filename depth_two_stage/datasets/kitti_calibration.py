# SPDX-License-Identifier: Apache-2.0
"""KITTI's calibration files: the rectified colour cameras and the way from the scanner to them.

Raw recordings have calib_cam_to_cam.txt (S_rect_02, P_rect_02, R_rect_00, …) and
calib_velo_to_cam.txt (R, T) for each date; tracking has one file a sequence (P2, P3, R_rect,
Tr_velo_cam). A camera's points come from the scanner's by T_cam_cam0 · R_rect_00 · T_cam0_velo,
where T_cam_cam0 is the translation in the last column of its projection P (3, 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from depth_two_stage import files
from depth_two_stage.camera import Lens
from depth_two_stage.datasets import DatasetError
from depth_two_stage.datasets.folder import rigid

Tables = dict[str, list[float]]


@dataclass(frozen=True)
class Rig:
    """A rectified colour camera: its lens, and T_camera_lidar (4, 4) or None."""

    lens: Lens
    T_camera_lidar: np.ndarray | None


def read_tables(path: Path) -> Tables:
    """``KEY: numbers`` lines (tracking leaves out some colons); lines of words are left out."""
    found = {}
    for _, words in files.read_table(path):
        try:
            found[words[0].rstrip(":")] = [float(word) for word in words[1:]]
        except ValueError:  # calib_time, and the names of cameras
            continue
    return found


def matrix(tables: dict, key: str, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """One matrix of a calibration file as float64."""
    if key not in tables:
        raise DatasetError(f"{path}: expected the key {key}, got {', '.join(tables) or 'nothing'}")
    try:
        values = np.array(tables[key], np.float64).reshape(shape)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{path}: {key}: expected {shape} numbers, got {error}") from error
    if not np.isfinite(values).all():
        raise DatasetError(f"{path}: {key}: expected finite numbers, got {values.tolist()}")
    return values


def raw_rig(folder: Path, camera: str = "02") -> Rig:
    """The camera of a date's folder, with the scanner where calib_velo_to_cam.txt is there."""
    path = folder / "calib_cam_to_cam.txt"
    tables = read_tables(path)
    width, height = matrix(tables, f"S_rect_{camera}", (2,), path)
    P = matrix(tables, f"P_rect_{camera}", (3, 4), path)
    R = matrix(tables, "R_rect_00", (3, 3), path)
    scanner = folder / "calib_velo_to_cam.txt"
    if not scanner.is_file():
        return Rig(_lens(P, width, height, path), None)
    tables, T = read_tables(scanner), np.eye(4)
    T[:3, :3] = matrix(tables, "R", (3, 3), scanner)
    T[:3, 3] = matrix(tables, "T", (3,), scanner)
    return Rig(_lens(P, width, height, path), to_camera(P, R, T, scanner))


def to_camera(P: np.ndarray, R_rect: np.ndarray, T_cam0_lidar: np.ndarray, path: Path):
    """T_camera_lidar (4, 4) of the camera with projection P (3, 4)."""
    T_rect, T_camera = np.eye(4), np.eye(4)
    T_rect[:3, :3] = R_rect
    T_camera[:3, 3] = offset(P)
    return rigid(T_camera @ T_rect @ T_cam0_lidar, f"{path}: T_camera_lidar")


def offset(P: np.ndarray) -> np.ndarray:
    """Where camera 0's origin lies in the camera of P (3, 4), metres."""
    return np.linalg.solve(P[:, :3], P[:, 3])


def _lens(P: np.ndarray, width: float, height: float, path: Path) -> Lens:
    try:
        return Lens(width, height, P[:, :3])
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from error
