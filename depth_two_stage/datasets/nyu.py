# SPDX-License-Identifier: Apache-2.0
"""NYU Depth v2, labelled part (Silberman et al., ECCV 2012): the .mat, or folders of images.

The .mat (HDF5) holds images (1449, 3, 640, 480) uint8 and in-painted depths (1449, 640, 480)
float32 m, both transposed by MATLAB; splits.mat (MATLAB v5) holds trainNdxs and testNdxs from 1.
Splits of the .mat: ``train`` (the official 795), ``test`` (654), ``all``, and two parts of train:
``val`` (its last 95) and ``fit`` (all others); without a split, ``test``.

Folders: ``train`` and ``val`` with rgb/NNNN.jpg and depth/NNNN.png (mm), and camera.json of the
480x640 frame beside them (without it, the toolbox's camera); without a split, ``val``. Where the
colour is halved (240x320, area), its camera is the full one resized with half-pixel centres:
colour pixel (i, j) is centred on full pixel (2i + 0.5, 2j + 0.5). The halved depth takes every
second row and column, so depth pixel (i, j) is exactly full pixel (2i, 2j), a quarter of a halved
pixel up and left of the colour pixel it is paired with. That shift is kept: undoing it would mix
depths across edges.

The labelled images carry no distortion model (the toolbox removed it) and a white border of
about 8 px.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depth_two_stage import files
from depth_two_stage.camera import Camera, Lens
from depth_two_stage.datasets import Dataset, DatasetError, Sample, clean_depth, count_invalid
from depth_two_stage.datasets.arrays import open_hdf5, read_mat
from depth_two_stage.datasets.frames import (
    FRAME_PERIOD_NS,
    Frame,
    FrameDataset,
    all_there,
    images_for,
    images_of,
)

#: Colour camera of the toolbox (camera_params.m, fx_rgb …), 480x640, principal point from 0.
CAMERA = Camera(640, 480, 518.858, 519.470, 325.582, 253.736)
MAT = "nyu_depth_v2_labeled.mat"
FOLDERS = ("train", "val", "test")
VAL = 95


def open_sequence(root: Path, split: str | None) -> Dataset:
    """Open the .mat layout or the folder layout below ``root``."""
    if root.is_file():
        return NyuMat(root, split)
    if (root / MAT).is_file():
        return NyuMat(root / MAT, split)
    return _open_folders(root, split)


def _open_folders(root: Path, split: str | None) -> FrameDataset:
    if (root / "rgb").is_dir():  # the folder of one split
        if split not in (None, root.name):
            raise DatasetError(f"split: expected {root.name} in {root}, got {split!r}")
        root, split = root.parent, root.name
    splits = [name for name in FOLDERS if (root / name / "rgb").is_dir()]
    if not splits:
        raise DatasetError(
            f"root: expected {MAT} or folders train/ and val/, got neither in {root}"
        )
    if split is None:
        split = "val" if "val" in splits else splits[0]
    if split not in splits:
        raise DatasetError(f"split: expected one of {', '.join(splits)}, got {split!r}")
    lens, scale = Lens(CAMERA.width, CAMERA.height, CAMERA.K), 1000.0
    for folder in (root / split, root):
        if (folder / "camera.json").is_file():
            lens, scale = files.read_camera(folder / "camera.json", depth_scale=True)
            break
    images = images_of(root / split / "rgb", "root")
    depths = [root / split / "depth" / f"{rgb.stem}.png" for rgb in images]
    all_there(root, [*depths, *images_for(root / split / "depth", ".png", images)])
    frames = []
    for index, (rgb, depth) in enumerate(zip(images, depths, strict=True)):
        frames.append(Frame(f"{split}/{rgb.stem}", rgb, depth, index * FRAME_PERIOD_NS))
    return FrameDataset("nyu", split, frames, lens, scale)


class NyuMat(Dataset):
    """The official labelled .mat; each frame is read by itself, the file is never held open."""

    def __init__(self, path: Path, split: str | None) -> None:
        self.path = path
        split = split or "test"
        with open_hdf5(self.path, ".mat") as mat:
            for key, ndim in (("images", 4), ("depths", 3)):
                if key not in mat or mat[key].ndim != ndim:
                    got = {k: v.shape for k, v in mat.items() if hasattr(v, "shape")}
                    raise DatasetError(f"{path}: expected {key} with {ndim} dimensions, got {got}")
            count, channels, width, height = mat["images"].shape
            depths = mat["depths"].shape
            if channels != 3 or depths != (count, width, height):
                raise DatasetError(
                    f"{path}: expected images (N, 3, W, H) and depths (N, W, H) of one size, "
                    f"got {mat['images'].shape} and {depths}"
                )
        self.indices = _split_indices(path, split, count)
        names = [f"{i:04d}" for i in self.indices]
        super().__init__("nyu", split, names, CAMERA.resized(width, height))

    def decode(self, index: int) -> Sample:
        """Read the image and the in-painted depth at a position of the split."""
        number = int(self.indices[index])
        with open_hdf5(self.path, ".mat") as mat:
            try:
                rgb, depth = mat["images"][number], mat["depths"][number]
            except OSError as error:
                raise DatasetError(f"{self.path}: expected frame {number}, got {error}") from error
        rgb = np.ascontiguousarray(rgb.transpose(2, 1, 0))
        depth, invalid = clean_depth(np.ascontiguousarray(depth.T)), count_invalid(depth)
        stamp = number * FRAME_PERIOD_NS
        return Sample(rgb, depth, self.camera, stamp, self.names[index], invalid_depth=invalid)


def _split_indices(path: Path, split: str, count: int) -> np.ndarray:
    wanted = ("train", "test", "all", "val", "fit")
    if split not in wanted:
        raise DatasetError(f"split: expected one of {', '.join(wanted)}, got {split!r}")
    if split == "all":
        return np.arange(count)
    lists = path.with_name("splits.mat")
    if not lists.is_file():
        raise DatasetError(f"split {split}: expected the file {lists}, got none")
    key = "testNdxs" if split == "test" else "trainNdxs"
    indices = read_mat(lists, key).ravel().astype(np.int64) - 1
    if len(indices) and not (indices.min() >= 0 and indices.max() < count):
        raise DatasetError(f"{lists}: expected indices 1 to {count}, got up to {indices.max() + 1}")
    if split in ("val", "fit"):
        return indices[-VAL:] if split == "val" else indices[:-VAL]
    return indices
