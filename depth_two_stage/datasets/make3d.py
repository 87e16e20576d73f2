# SPDX-License-Identifier: Apache-2.0
"""Make3D (Saxena et al., PAMI 2009): outdoor images with the depth of a coarse laser scan.

``train`` (400): Train400Img/img-NAME.jpg with Train400Depth/depth_sph_corr-NAME.mat; ``test``
(134, the default): Test134/img-NAME.jpg with Gridlaserdata/depth_sph_corr-NAME.mat, as the archives
unpack (Test134Img/ and Test134Depth/, also with Gridlaserdata/ in it, are taken, too).

Each .mat (v5) holds Position3DGrid (55, 305, 4) in metres: Y, X, Z and, fourth, the measured
distance, which all published figures use as depth. Its first axis runs down the image, 55 rows over
2272 pixels, its second across, 305 columns over 1704: it is far coarser down than across, the other
way round than the portrait image, and needs neither transposing nor turning. (The papers write
sizes as width × height: 305×55, 1704×2272, 345×460.)

As papers E and B have it, images are resized (area) to 460x345 and truth to the same by nearest
neighbour; sky is mapped to about 80 m, and only 0 < d < 70 m is truth (`protocols`, make3d). Here
all of it is kept. No calibration comes with the data: the focal length is that of the camera's
sheet (7.1 mm, sensor 7.2 mm along 2272 pixels), the principal point the centre. A few images are
2204 rows high, not 2272, and are resized like the others: their focal length down is longer by 3 %.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from depth_two_stage import files
from depth_two_stage.camera import Camera
from depth_two_stage.datasets import Dataset, DatasetError, Sample, clean_depth, count_invalid
from depth_two_stage.datasets.arrays import read_mat
from depth_two_stage.datasets.frames import FRAME_PERIOD_NS, all_there, images_of

SIZE = (460, 345)
FOCAL = 7.1 / 7.2 * SIZE[0]  # px, of the resized image
CAMERA = Camera(SIZE[1], SIZE[0], FOCAL, FOCAL, (SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2)
GRID = (55, 305, 4)
#: split → where images may lie, where depth may lie
FOLDERS = {
    "train": (("Train400Img",), ("Train400Depth",)),
    "test": (
        ("Test134", "Test134Img"),
        ("Gridlaserdata", "Test134Depth/Gridlaserdata", "Test134Depth"),
    ),
}


def open_sequence(root: Path, split: str | None) -> Dataset:
    """Open the training or the test images."""
    present = [n for n, (images, _) in FOLDERS.items() if any((root / i).is_dir() for i in images)]
    if not present:
        raise DatasetError(f"root: expected Train400Img/ or Test134/, got neither in {root}")
    if split is None:
        split = "test" if "test" in present else "train"
    if split not in present:
        raise DatasetError(f"split: expected one of {', '.join(present)}, got {split!r}")
    images, depths = (_first_folder(root, names) for names in FOLDERS[split])
    return Make3d(root, split, images_of(images, "root"), depths)


def _first_folder(root: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise DatasetError(f"root: expected the folder {root / names[0]}, got none")


class Make3d(Dataset):
    """The images of one split with their scans, both at 460x345."""

    def __init__(self, root: Path, split: str, images: list[Path], depths: Path) -> None:
        names = [image.stem.removeprefix("img-") for image in images]
        self.images = images
        self.depths = [depths / f"depth_sph_corr-{name}.mat" for name in names]
        known = set(self.depths)
        scans = [p for p in sorted(depths.glob("depth_sph_corr-*.mat")) if p not in known]
        lacking = [p.stem.removeprefix("depth_sph_corr-") for p in scans]
        wanted = [images[0].with_name(f"img-{name}{images[0].suffix}") for name in lacking]
        all_there(root, [*self.depths, *wanted])
        super().__init__("make3d", split, names, CAMERA)

    def decode(self, index: int) -> Sample:
        """Read and resize the image and the scan at a position of ``names``."""
        image = files.read_image(self.images[index])
        height, width = image.shape[:2]
        if not 1.25 < height / width < 1.4:
            raise DatasetError(
                f"{self.images[index]}: expected a portrait of 4:3 such as 2272x1704, "
                f"got {height}x{width}"
            )
        fy = FOCAL * (SIZE[0] / SIZE[1] * width / height)
        depth = read_grid(self.depths[index])
        return Sample(
            cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_AREA),
            cv2.resize(clean_depth(depth), SIZE[::-1], interpolation=cv2.INTER_NEAREST_EXACT),
            CAMERA if abs(fy - FOCAL) < 1 else dataclasses.replace(CAMERA, fy=fy),
            index * FRAME_PERIOD_NS,
            self.names[index],
            invalid_depth=count_invalid(depth),
        )


def read_grid(path: Path) -> np.ndarray:
    """The distances of one scan, float (55, 305) m, rows down the image, as recorded."""
    grid = read_mat(path, "Position3DGrid")
    if grid.shape != GRID:
        raise DatasetError(
            f"{path}: expected Position3DGrid of shape {GRID}, got {grid.dtype} {grid.shape}"
        )
    return grid[:, :, 3].astype(np.float64)
