# SPDX-License-Identifier: Apache-2.0
"""What is measured and learned from: one `Sample` a frame, whatever the recording's layout.

Each data set has one file, imported only when asked for, with one function
``open_sequence(root: Path, split: str | None) -> Dataset``.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from depth_two_stage.camera import Camera, Lens
from depth_two_stage.files import FileError
from depth_two_stage.naming import nearest

#: name → (module, what the root looks like)
DATASETS = {
    "nyu": ("nyu", "NYU Depth v2: nyu_depth_v2_labeled.mat + splits.mat, or train/ and val/"),
    "tum": ("tum", "TUM RGB-D sequence: rgb/, depth/, rgb.txt, depth.txt, groundtruth.txt"),
    "sevenscenes": ("sevenscenes", "7-Scenes scene: seq-01/frame-000000.color.png, …"),
    "nyu_h5": ("nyu_h5", "NYU Depth v2 as sparse-to-dense has it: train/SCENE/*.h5, val/official/"),
    "make3d": ("make3d", "Make3D: Train400Img/, Train400Depth/, Test134/, Gridlaserdata/"),
    "folder": ("folder", "rgb/, depth/, camera.json, optional pose/, associations.txt, sparse/"),
    "bag": ("bags", "rosbag2 (sqlite3 or MCAP) with colour, camera_info, depth or a cloud"),
    "rendered": ("rendered", "procedural rooms; needs no files"),
    "packed": ("packed", "what train --pack wrote: pack.json and its parts"),
    "kitti": (
        "kitti",
        "KITTI raw: a drive (image_02/, velodyne_points/), a date or the whole tree",
    ),
    "kitti_depth": ("kitti_depth", "KITTI depth completion: train/, val/, depth_selection/"),
    "kitti_tracking": ("kitti_tracking", "KITTI tracking: training/image_02, image_03, calib"),
    "lidar16": ("lidar16", "camera + 16-beam LiDAR stills: image_orig/, pointcloud/, config.json"),
}


#: what a median of depth in metres can be; beyond it the unit is another
METRES = (0.01, 500.0)


class DatasetError(ValueError):
    """A recording that is not there or not as its layout says: "name: expected …, got …"."""


@dataclass(frozen=True)
class Sample:
    """One rectified frame.

    ``rgb`` uint8 (H, W, 3); ``depth`` float32 (H, W) m along the optical axis, 0 = none, or None
    without truth; ``camera`` of both; ``stamp`` integer nanoseconds; ``points`` float32 (N, 3) m
    in the LiDAR's frame with ``T_camera_lidar`` (4, 4); ``T_world_camera`` float64 (4, 4), optical
    frame to world, or None; ``sparse`` float32 (H, W) m, 0 = none, measured with the frame.
    ``invalid_depth`` counts the pixels of truth that were NaN, infinite or negative as recorded or
    as given here; they are none.
    """

    rgb: np.ndarray
    depth: np.ndarray | None
    camera: Camera
    stamp: int
    name: str
    points: np.ndarray | None = None
    T_camera_lidar: np.ndarray | None = None
    T_world_camera: np.ndarray | None = None
    sparse: np.ndarray | None = None
    invalid_depth: int = 0

    def __post_init__(self) -> None:
        size = self.camera.size
        if self.rgb.dtype != np.uint8 or self.rgb.shape != (*size, 3):
            raise DatasetError(
                f"{self.name}: expected colour uint8 {(*size, 3)}, "
                f"got {self.rgb.dtype} {self.rgb.shape}"
            )
        for name in ("depth", "sparse"):
            image = getattr(self, name)
            if image is not None and (image.dtype != np.float32 or image.shape != size):
                raise DatasetError(
                    f"{self.name}: expected {name} float32 {size}, got {image.dtype} {image.shape}"
                )
            wrong = 0 if image is None else count_invalid(image)
            if wrong:
                object.__setattr__(self, name, clean_depth(image))
                if name == "depth":
                    object.__setattr__(self, "invalid_depth", self.invalid_depth + wrong)


class Dataset(Sequence):
    """A sequence of samples, decoded when asked for; slicing gives a shorter sequence.

    ``name`` and ``split`` say what was opened, ``camera`` is the rectified camera of the samples
    (None where it differs from frame to frame), ``lens`` the raw one where samples were rectified.
    ``source`` says of what a packed set was made; of all others it is None.
    """

    source: dict[str, Any] | None = None
    #: depth is that of the surfaces themselves, without noise or holes
    exact_depth: bool = False

    def __init__(
        self,
        name: str,
        split: str | None,
        names: Sequence[str],
        camera: Camera | None,
        lens: Lens | None = None,
    ) -> None:
        self.name = name
        self.split = split
        self.names = list(names)
        self.camera = camera
        self.lens = lens
        self._order = np.arange(len(self.names))

    def decode(self, index: int) -> Sample:
        """The sample at a position of ``names``, read from disk."""
        raise NotImplementedError

    def jpeg(self, index: int) -> Path | None:
        """The JPEG file whose pixels are the sample's colour as they are, if there is one."""
        return None

    @property
    def list_hash(self) -> str:
        """SHA-256 (hex) of the ordered frame names: which frames, in which order."""
        names = "\n".join(self.names[i] for i in self._order)
        return hashlib.sha256(names.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index):
        if isinstance(index, slice):
            part = copy.copy(self)
            part._order = self._order[index]
            return part
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name}: expected an index below {len(self)}, got {index}")
        try:
            sample = self.decode(int(self._order[index]))
        except FileError as error:
            raise DatasetError(str(error)) from error
        for name in ("depth", "sparse"):
            if getattr(sample, name) is not None:
                check_metres(getattr(sample, name), f"{self.name} {sample.name}: {name}")
        return sample

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, split={self.split!r}, {len(self)} frames)"


def open_dataset(name: str, root: str | Path, split: str | None = None) -> Dataset:
    """Open a data set by its name in `DATASETS`; nothing is decoded yet.

    Raises `DatasetError` for an unknown name or split and for files that are not there.
    """
    if name not in DATASETS:
        raise DatasetError(
            f"dataset: expected one of {', '.join(DATASETS)}, got {name!r}{nearest(name, DATASETS)}"
        )
    root = Path(root).expanduser()
    if name != "rendered" and not root.exists():
        raise DatasetError(f"root: expected an existing {name} recording, got {root}")
    module = import_module(f"{__name__}.{DATASETS[name][0]}")
    try:
        sequence = module.open_sequence(root, split)
    except FileError as error:
        raise DatasetError(str(error)) from error
    if not len(sequence):
        raise DatasetError(f"root: expected at least one {name} frame, got none in {root}")
    return sequence


def clean_depth(depth: np.ndarray) -> np.ndarray:
    """Depth (H, W) m as float32 in which everything invalid (NaN, infinite, negative) is 0."""
    depth = np.asarray(depth, np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def without_extremes(depth: np.ndarray) -> np.ndarray:
    """Depth (H, W) m, 0 = none, without its own smallest and largest values (paper C, section 4).

    They are what windows, open doors and shiny surfaces read in a Kinect's image.
    """
    recorded = depth[depth > 0]
    if not len(recorded):
        return depth
    inner = (depth > recorded.min()) & (depth < recorded.max())
    return np.where(inner, depth, np.float32(0))


def count_invalid(depth: np.ndarray) -> int:
    """How many pixels of a recorded depth are no depth and not 0: NaN, infinite, negative."""
    return int(np.count_nonzero(~np.isfinite(depth) | (depth < 0)))


def check_metres(depth: np.ndarray, name: str) -> None:
    """Refuse depth (H, W), 0 = none, whose median (of every fourth pixel) cannot be metres."""
    values = depth[::4, ::4]
    values = values[values > 0]
    if not len(values):
        values = depth[depth > 0]
    if not len(values):
        return
    median = float(np.median(values))
    if not METRES[0] <= median <= METRES[1]:
        guess = "millimetres, or a wrong depth_scale" if median > METRES[1] else "a wrong scale"
        raise DatasetError(
            f"{name}: expected metres (a median of {METRES[0]:g} to {METRES[1]:g}), "
            f"got a median of {median:g}: {guess}?"
        )
