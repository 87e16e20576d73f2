# SPDX-License-Identifier: Apache-2.0
"""KITTI tracking (Geiger et al., CVPR 2012): stereo sequences; paper D's data.

training/image_02/NNNN/NNNNNN.png (left colour), image_03/… (right), calib/NNNN.txt (P2, P3). No
depth comes with it: as in D, the target is matched from the pair, here by OpenCV's semi-global
matching (``sgbm``, the default) or block matching (``bm``); D's own choice, ELAS, is a program
of others. Depth is fx · baseline / disparity in the left camera, 0 where nothing matched.

The split is SEQUENCE, MATCHER or SEQUENCE:MATCHER: ``0000``, ``bm``, ``0000:bm``; without a
sequence, all. Which of the images D trained and tested on (12,482 and 2,518) is not said.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from depth_two_stage import files
from depth_two_stage.camera import Lens
from depth_two_stage.datasets import DatasetError
from depth_two_stage.datasets.frames import (
    FRAME_PERIOD_NS,
    Frame,
    FrameDataset,
    all_there,
    images_for,
    images_of,
)
from depth_two_stage.datasets.kitti import DRIVE_GAP_NS
from depth_two_stage.datasets.kitti_calibration import matrix, offset, read_tables

MATCHERS = ("sgbm", "bm")
LEFT, RIGHT = "image_02", "image_03"


def open_sequence(root: Path, split: str | None) -> FrameDataset:
    """Open all sequences or one, with the matcher that the split names."""
    top = root / "training" if (root / "training").is_dir() else root
    if not (top / LEFT).is_dir():
        raise DatasetError(f"root: expected training/{LEFT}/, got none in {root}")
    present = sorted(p.name for p in (top / LEFT).iterdir() if p.is_dir())
    words = [word for word in (split or "").split(":") if word]
    matchers = [word for word in words if word in MATCHERS]
    sequences = [word for word in words if word not in MATCHERS]
    if len(matchers) > 1 or len(sequences) > 1 or not set(sequences) <= set(present):
        raise DatasetError(
            f"split: expected SEQUENCE:MATCHER with one of {', '.join(present) or 'none'} and one "
            f"of {', '.join(MATCHERS)}, got {split!r}"
        )
    return KittiTracking(root, top, split, sequences or present, (matchers or MATCHERS)[0])


class KittiTracking(FrameDataset):
    """Left images with the depth that stereo matching gives."""

    def __init__(self, root: Path, top: Path, split, sequences: list[str], matcher: str) -> None:
        self.matcher = matcher
        self.pairs: dict[Path, Pair] = {}  # by the folder of left images
        frames, lacking = [], []
        for number, sequence in enumerate(sequences):
            images = images_of(top / LEFT / sequence, "root")
            pair = Pair.read(top / "calib" / f"{sequence}.txt", images[0])
            self.pairs[top / LEFT / sequence] = pair
            for index, rgb in enumerate(images):
                name = rgb.stem if len(sequences) == 1 else f"{sequence}/{rgb.stem}"
                stamp = number * DRIVE_GAP_NS + index * FRAME_PERIOD_NS
                right = top / RIGHT / sequence / rgb.name
                # The right image stands where other data sets have a depth image.
                frames.append(Frame(name, rgb, right, stamp, lens=pair.lens))
            lacking += images_for(top / RIGHT / sequence, images[0].suffix, images)
        all_there(root, [*(frame.depth for frame in frames), *lacking])
        super().__init__("kitti_tracking", split, frames, None, 1.0)

    def read_depth(self, frame: Frame, size: tuple[int, int]) -> np.ndarray:
        """The depth matched from a frame's pair, float32 (H, W) m, 0 = none."""
        left, right = (files.read_image(path) for path in (frame.rgb, frame.depth))
        if left.shape != right.shape:
            raise DatasetError(
                f"{frame.depth}: expected the left image's size {left.shape[:2]}, "
                f"got {right.shape[:2]}"
            )
        return self.pairs[frame.rgb.parent].depth(disparity(left, right, self.matcher))


class Pair:
    """Two rectified cameras: the left one's lens, and what turns disparity into depth."""

    def __init__(self, lens: Lens, baseline: float, shift: float) -> None:
        self.lens = lens
        self.baseline = baseline  # m
        self.shift = shift  # px: left principal point minus right

    @classmethod
    def read(cls, path: Path, image: Path) -> Pair:
        """P2 and P3 of a sequence's calibration, the size of its first image."""
        if not path.is_file():
            raise DatasetError(f"root: expected the file {path}, got none")
        tables = read_tables(path)
        P2, P3 = (matrix(tables, key, (3, 4), path) for key in ("P2", "P3"))
        height, width = files.read_image(image).shape[:2]
        try:
            lens, baseline = Lens(width, height, P2[:, :3]), float(offset(P2)[0] - offset(P3)[0])
        except (ValueError, np.linalg.LinAlgError) as error:
            raise DatasetError(f"{path}: expected two cameras P2 and P3, got {error}") from error
        if not baseline > 0:
            raise DatasetError(f"{path}: expected P3 to the right of P2, got {baseline:g} m")
        return cls(lens, baseline, P2[0, 2] - P3[0, 2])

    def depth(self, disparity: np.ndarray) -> np.ndarray:
        """Disparity (H, W) px, 0 = none → depth float32 (H, W) m, 0 = none."""
        true = disparity - np.float32(self.shift)
        valid = (disparity > 0) & (true > 0)
        distance = self.lens.K[0, 0] * self.baseline / np.where(valid, true, 1)
        return np.where(valid, distance, 0).astype(np.float32)


def disparity(left: np.ndarray, right: np.ndarray, matcher: str) -> np.ndarray:
    """Match a rectified pair, uint8 (H, W, 3): float32 (H, W) px, 0 = none.

    Searched from 1 px (on KITTI 390 m; less is sky) to a tenth of the width, 128 px on KITTI: 3 m.
    Settings are those of OpenCV's examples.
    """
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (left, right)]
    count = 16 * int(np.ceil(left.shape[1] / 160))
    if matcher == "bm":
        method = cv2.StereoBM_create(numDisparities=count, blockSize=15)
        method.setMinDisparity(1)
        method.setTextureThreshold(10)
        method.setUniquenessRatio(15)
        method.setSpeckleRange(32)
        method.setSpeckleWindowSize(100)
    else:
        method = cv2.StereoSGBM_create(
            minDisparity=1,
            numDisparities=count,
            blockSize=5,
            P1=8 * 5**2,
            P2=32 * 5**2,
            disp12MaxDiff=1,
            uniquenessRatio=10,
            speckleWindowSize=100,
            speckleRange=2,
        )
    found = method.compute(*grey).astype(np.float32) / 16
    return np.where(found >= 1, found, np.float32(0))
