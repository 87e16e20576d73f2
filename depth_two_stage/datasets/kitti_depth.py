# SPDX-License-Identifier: Apache-2.0
"""KITTI depth completion (Uhrig et al., 3DV 2017): dense truth and raw scans as 16-bit PNG.

Splits ``train``, ``val``: SPLIT/DRIVE/proj_depth/groundtruth/image_02/NNNNNNNNNN.png and …/
velodyne_raw/image_02/…, depth in 1/256 m, 0 = none; the colour is KITTI raw's, looked for in
SPLIT/DRIVE, DATE/DRIVE, raw/DATE/DRIVE and kitti_raw/DATE/DRIVE below the root, and the last two
beside it, with DATE/calib_cam_to_cam.txt there. ``selection`` (the default where it is there):
depth_selection/val_selection_cropped/{image,groundtruth_depth,velodyne_raw,intrinsics}, 1000 images
of 352x1216. ``test``: depth_selection/test_depth_completion_anonymous/, without truth.

The archives may be unpacked into one folder, or lie in data_depth_annotated/, data_depth_velodyne/
and data_rgb/. Frames of the left colour camera (image_02) for train and val, of both in the
selection. A sample's ``depth`` is the truth, its ``sparse`` the scan.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from depth_two_stage import files
from depth_two_stage.camera import Lens
from depth_two_stage.datasets import DatasetError
from depth_two_stage.datasets.frames import (
    FRAME_PERIOD_NS,
    Frame,
    FrameDataset,
    all_there,
    images_of,
)
from depth_two_stage.datasets.kitti import DRIVE_GAP_NS, DRIVES
from depth_two_stage.datasets.kitti_calibration import Rig, raw_rig

SCALE = 256.0  # units per metre
SELECTED = ("depth_selection", "data_depth_selection", "data_depth_selection/depth_selection")
SELECTIONS = {"selection": "val_selection_cropped", "test": "test_depth_completion_anonymous"}
CAMERA = "image_02"


def open_sequence(root: Path, split: str | None) -> FrameDataset:
    """Open one split; see the module's text for where it may lie."""
    selections = {name: _selection_folder(root, name) for name in SELECTIONS}
    folders = selections | {name: _truth_folder(root, name) for name in ("val", "train")}
    order = ("selection", "val", "train", "test")  # the first that is there is the default
    present = [name for name in order if folders[name] is not None]
    if not present:
        raise DatasetError(
            f"root: expected train/, val/ with DRIVE/proj_depth/, or depth_selection/, "
            f"got none of them in {root}"
        )
    split = split or present[0]
    if split not in present:
        raise DatasetError(f"split: expected one of {', '.join(present)}, got {split!r}")
    if split in SELECTIONS:
        frames = _selection(root, selections[split], truth=split == "selection")
    else:
        frames = _drives(root, split)
    return FrameDataset("kitti_depth", split, frames, None, SCALE)


def _selection_folder(root: Path, split: str) -> Path | None:
    for folder in (root, *(root / name for name in SELECTED)):
        if (folder / SELECTIONS[split] / "image").is_dir():
            return folder / SELECTIONS[split]
    return root if root.name == SELECTIONS[split] and (root / "image").is_dir() else None


def _truth_folder(root: Path, split: str) -> Path | None:
    for folder in (root / split, root / "data_depth_annotated" / split):
        if any(folder.glob(f"{DRIVES}/proj_depth/groundtruth")):
            return folder
    return None


def _selection(root: Path, folder: Path, truth: bool) -> list[Frame]:
    """Frames of a folder of chosen images; a camera file holds nine numbers for each."""
    images = images_of(folder / "image", "root")
    names = [
        (image, image.name.replace("_sync_image_", "_sync_groundtruth_depth_")) for image in images
    ]
    depths = [folder / "groundtruth_depth" / name for _, name in names]
    scans = [
        folder / "velodyne_raw" / name.replace("_groundtruth_depth_", "_velodyne_raw_")
        for _, name in names
    ]
    cameras = [folder / "intrinsics" / f"{image.stem}.txt" for image in images]
    all_there(root, [*(depths if truth else ()), *scans, *cameras])
    lenses: dict[bytes, Lens] = {}
    frames = []
    for index, (image, depth, scan, camera) in enumerate(
        zip(images, depths, scans, cameras, strict=True)
    ):
        lens = _intrinsics(camera, image, lenses)
        stamp, known = index * FRAME_PERIOD_NS, depth if truth else None
        frames.append(Frame(image.stem, image, known, stamp, sparse=scan, lens=lens))
    return frames


def _intrinsics(path: Path, image: Path, known: dict[bytes, Lens]) -> Lens:
    words = [word for _, row in files.read_table(path) for word in row]
    try:
        K = np.array(words, np.float64).reshape(3, 3)
        if K.tobytes() not in known:
            height, width = files.read_image(image).shape[:2]
            known[K.tobytes()] = Lens(width, height, K)
    except ValueError as error:
        raise DatasetError(f"{path}: expected nine numbers of a camera, got {error}") from error
    return known[K.tobytes()]


def _drives(root: Path, split: str) -> list[Frame]:
    """Frames of every drive of a split that have truth."""
    truths = _truth_folder(root, split)
    scans = truths
    if truths.parent.name == "data_depth_annotated":
        scans = root / "data_depth_velodyne" / split
    wanted, rigs, found = [], {}, []
    for number, drive in enumerate(sorted(truths.glob(DRIVES))):
        folder = drive / "proj_depth" / "groundtruth" / CAMERA
        if not folder.is_dir():
            continue  # the drive's archive of the other camera alone
        colour = _colour_folder(root, split, drive.name)
        rig = _rig(root, colour, drive.name, rigs)
        images = {path.stem: path for path in images_of(colour, "root")}  # PNG, or re-coded
        for index, depth in enumerate(images_of(folder, "root")):
            scan = scans / drive.name / "proj_depth" / "velodyne_raw" / CAMERA / depth.name
            rgb = images.get(depth.stem, colour / depth.name)
            wanted += [rgb, scan]
            stamp = number * DRIVE_GAP_NS + index * FRAME_PERIOD_NS
            name = f"{drive.name}/{depth.stem}"
            found.append(Frame(name, rgb, depth, stamp, sparse=scan, lens=rig.lens))
    all_there(root, wanted)
    return found


def _raw_places(root: Path, split: str, drive: str) -> Iterator[Path]:
    """Where a drive of KITTI raw may lie."""
    date = drive[:10]
    yield root / split / drive
    yield root / "data_rgb" / split / drive
    yield root / date / drive
    for top in (root, root.parent):
        for name in ("raw", "kitti_raw"):
            yield top / name / date / drive


def _colour_folder(root: Path, split: str, drive: str) -> Path:
    for place in _raw_places(root, split, drive):
        for folder in (place / CAMERA / "data", place / CAMERA):
            if folder.is_dir():
                return folder
    raise DatasetError(
        f"root: expected the colour of KITTI raw, {drive[:10]}/{drive}/{CAMERA}/data, "
        f"in {root}, its raw/ or kitti_raw/, got none"
    )


def _rig(root: Path, colour: Path, drive: str, known: dict[Path, Rig]) -> Rig:
    """The camera of a drive's date, read once."""
    date = drive[:10]
    above = [
        root / date,
        *(t / n / date for t in (root, root.parent) for n in ("raw", "kitti_raw")),
    ]
    for folder in (*list(colour.parents)[:4], *above):
        if (folder / "calib_cam_to_cam.txt").is_file():
            if folder not in known:
                known[folder] = raw_rig(folder)
            return known[folder]
    raise DatasetError(
        f"root: expected {date}/calib_cam_to_cam.txt of KITTI raw in or beside {root}, got none"
    )
