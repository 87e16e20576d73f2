# SPDX-License-Identifier: Apache-2.0
"""KITTI raw (Geiger et al., IJRR 2013): left colour camera and HDL-64, no true depth.

A drive (DATE_drive_NNNN_sync) holds image_02/data/NNNNNNNNNN.png (rectified) and
velodyne_points/data/NNNNNNNNNN.bin (float32 x y z reflectance); its date's folder above it holds
calib_cam_to_cam.txt and calib_velo_to_cam.txt. The root is one drive, a date, or the whole tree;
above a drive the split is a drive's name, or ``all`` (the default). The files may also lie without
data/, with a calib.json of P_rect_02 (3x4), R_rect_00 (3x3) and T_cam0_velo (4x4) in the drive.

The four scans that drive 0009 of 2011_09_26 lacks were never published: those frames are left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depth_two_stage import files
from depth_two_stage.camera import Lens
from depth_two_stage.datasets import DatasetError
from depth_two_stage.datasets.clouds import read_cloud
from depth_two_stage.datasets.frames import (
    FRAME_PERIOD_NS,
    Frame,
    FrameDataset,
    all_there,
    images_for,
    images_of,
)
from depth_two_stage.datasets.kitti_calibration import Rig, matrix, raw_rig, to_camera

DRIVES = "*_drive_*_sync"
DRIVE_GAP_NS = 3600 * 10**9  # drives follow each other an hour apart: stamps stay increasing
UNPUBLISHED = {"2011_09_26_drive_0009_sync": range(177, 181)}


def open_sequence(root: Path, split: str | None) -> FrameDataset:
    """Open one drive, or the drives below a date or the whole tree."""
    if (root / "image_02").is_dir() or not root.is_dir():
        if split not in (None, root.name):
            raise DatasetError(f"split: expected none (this is one drive), got {split!r}")
        drives = [root]
    else:
        drives = [p for p in sorted([*root.glob(DRIVES), *root.glob(f"*/{DRIVES}")]) if p.is_dir()]
        if not drives:
            raise DatasetError(
                f"root: expected image_02/ and velodyne_points/, or drives such as "
                f"2011_09_26/2011_09_26_drive_0001_sync, got neither in {root}"
            )
        split = split or "all"
        if split != "all":
            names = [drive.name for drive in drives]
            if split not in names:
                wanted = ", ".join(["all", *names[:10], *["…"] * (len(names) > 10)])
                raise DatasetError(f"split: expected one of {wanted}, got {split!r}")
            drives = [drives[names.index(split)]]
    found = [_drive(drive) for drive in drives]
    wanted = [cloud for _, pairs in found for _, cloud in pairs]
    for _, pairs in found:
        wanted += images_for(pairs[0][1].parent, ".bin", [rgb for rgb, _ in pairs])
    all_there(root, wanted)
    frames, rigs = [], {}
    for number, (drive, pairs) in enumerate(found):
        rig = _rig(drive, pairs[0][0], rigs)
        for index, (rgb, cloud) in enumerate(pairs):
            name = rgb.stem if len(drives) == 1 else f"{drive.name}/{rgb.stem}"
            stamp = number * DRIVE_GAP_NS + index * FRAME_PERIOD_NS
            frames.append(
                Frame(
                    name,
                    rgb,
                    None,
                    stamp,
                    points=cloud,
                    lens=rig.lens,
                    T_camera_lidar=rig.T_camera_lidar,
                )
            )
    return FrameDataset("kitti", split, frames, None, 256.0, read_cloud)


def _drive(drive: Path) -> tuple[Path, list[tuple[Path, Path]]]:
    images, clouds = (_data(drive / name) for name in ("image_02", "velodyne_points"))
    gap = [f"{i:010d}" for i in UNPUBLISHED.get(drive.name, ())]
    found = [rgb for rgb in images_of(images, "root") if rgb.stem not in gap]
    return drive, [(rgb, clouds / f"{rgb.stem}.bin") for rgb in found]


def _data(folder: Path) -> Path:
    return folder / "data" if (folder / "data").is_dir() else folder


def _rig(drive: Path, image: Path, known: dict[Path, Rig]) -> Rig:
    """The rig of a drive's calib.json, or of its date, which is read once."""
    if (drive / "calib.json").is_file():
        return _json_rig(drive / "calib.json", image)
    folders = (drive, drive.resolve().parent)
    date = next((f for f in folders if (f / "calib_cam_to_cam.txt").is_file()), None)
    if date is None:
        raise DatasetError(
            f"root: expected calib.json in {drive} or calib_cam_to_cam.txt above it, got neither"
        )
    if date not in known:
        known[date] = raw_rig(date)
        if known[date].T_camera_lidar is None:
            raise DatasetError(
                f"root: expected the file {date / 'calib_velo_to_cam.txt'}, got none"
            )
    return known[date]


def _json_rig(path: Path, image: Path) -> Rig:
    content = files.read_json(path)
    P, R, T = (
        matrix(content, key, shape, path)
        for key, shape in (("P_rect_02", (3, 4)), ("R_rect_00", (3, 3)), ("T_cam0_velo", (4, 4)))
    )
    height, width = files.read_image(image).shape[:2]
    return Rig(Lens(width, height, P[:, :3]), to_camera(P, np.asarray(R), T, path))
