# SPDX-License-Identifier: Apache-2.0
"""NYU Depth v2 as sparse-to-dense (Ma and Karaman, ICRA 2018) prepared it: one HDF5 file a frame.

train/SCENE/00001.h5, … (frames sampled from the raw recordings, holes in-painted) and
val/official/00001.h5, … (the 654 labelled test images), each with ``rgb`` (3, 480, 640) uint8 and
``depth`` (480, 640) float32 m. Splits: ``train``, ``val`` (the default), or one folder of them such
as ``train/kitchen_0001``. The camera is the toolbox's, as in `nyu`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depth_two_stage.datasets import Dataset, DatasetError, Sample, clean_depth, count_invalid
from depth_two_stage.datasets.arrays import open_hdf5
from depth_two_stage.datasets.frames import FRAME_PERIOD_NS
from depth_two_stage.datasets.nyu import CAMERA

SPLITS = ("train", "val")


def open_sequence(root: Path, split: str | None) -> Dataset:
    """Open train/, val/ or one scene of them below ``root``."""
    present = [name for name in SPLITS if (root / name).is_dir()]
    if not present:
        raise DatasetError(f"root: expected train/ or val/ with *.h5, got neither in {root}")
    if split is None:
        split = "val" if "val" in present else "train"
    top, _, scene = split.partition("/")
    if top not in present or ".." in scene or not (root / split).is_dir():
        scenes = sorted(p.name for p in (root / top).iterdir()) if top in present else []
        wanted = ", ".join([*present, *(f"{top}/{name}" for name in scenes[:10])])
        raise DatasetError(f"split: expected one of {wanted}, got {split!r}")
    paths = sorted((root / split).rglob("*.h5"))
    if not paths:
        raise DatasetError(f"split {split}: expected *.h5 in {root / split}, got none")
    return NyuH5(root, split, paths)


class NyuH5(Dataset):
    """The frames of one split, each file opened for itself."""

    def __init__(self, root: Path, split: str, paths: list[Path]) -> None:
        self.paths = paths
        names = [path.relative_to(root).with_suffix("").as_posix() for path in paths]
        super().__init__("nyu_h5", split, names, CAMERA)

    def decode(self, index: int) -> Sample:
        """Read the frame at a position of ``names``."""
        path = self.paths[index]
        with open_hdf5(path, ".h5") as file:
            rgb, depth = (_array(file, path, key) for key in ("rgb", "depth"))
        size = CAMERA.size
        if rgb.dtype != np.uint8 or rgb.shape != (3, *size):
            raise DatasetError(
                f"{path}: expected rgb uint8 {(3, *size)}, got {rgb.dtype} {rgb.shape}"
            )
        if depth.dtype.kind != "f" or depth.shape != size:
            raise DatasetError(
                f"{path}: expected depth float {size} m, got {depth.dtype} {depth.shape}"
            )
        return Sample(
            np.ascontiguousarray(rgb.transpose(1, 2, 0)),
            clean_depth(depth),
            CAMERA,
            index * FRAME_PERIOD_NS,
            self.names[index],
            invalid_depth=count_invalid(depth),
        )


def _array(file, path: Path, key: str) -> np.ndarray:
    if not hasattr(file.get(key), "shape"):
        raise DatasetError(f"{path}: expected the array {key}, got {', '.join(file) or 'nothing'}")
    try:
        return file[key][()]
    except OSError as error:
        raise DatasetError(f"{path}: expected a whole {key}, got {error}") from error
