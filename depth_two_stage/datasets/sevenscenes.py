# SPDX-License-Identifier: Apache-2.0
"""7-Scenes (Shotton et al., CVPR 2013): a scene of sequences, or a folder made from one.

The real layout: seq-01/frame-000000.color.png, .depth.png (mm, 65535 = none), .pose.txt (4x4),
with TrainSplit.txt and TestSplit.txt ("sequence1" a line). Splits: ``train``, ``test`` (the default
where its file is there), ``all``, or one sequence's folder name.

The recordings' depth is *not* registered to the colour image, and no calibration comes with them.
The poses are the depth camera's. Here depth is moved into the colour camera by a forward splat
with a z-buffer (the nearest surface wins; a pixel nothing falls on has no depth), and the pose to
the colour camera: depth camera 585 px, centre (320, 240) (the data set's page); colour camera
525 px, centre (320, 240), unless a camera.json in the scene's folder says otherwise; T_colour_depth
of a Kinect of that series (LIRIS "Kinect calibration", as re-localisation papers use it for
7-Scenes: 25.6 mm baseline). That is another device of the same make: expect a few
millimetres and a pixel or so of error, which is below the depth noise but not nothing.

A folder with rgb/, depth/, pose/ and camera.json (depth already in the colour camera, poses the
colour camera's) is opened as `folder` does.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from depth_two_stage import files
from depth_two_stage.camera import Camera, Lens
from depth_two_stage.datasets import DatasetError, folder
from depth_two_stage.datasets.folder import read_pose
from depth_two_stage.datasets.frames import Frame, FrameDataset, all_there

DEPTH_CAMERA = Camera(640, 480, 585.0, 585.0, 320.0, 240.0)
COLOUR_CAMERA = Camera(640, 480, 525.0, 525.0, 320.0, 240.0)
T_COLOUR_DEPTH = np.array(
    [
        [9.9996518012567637e-01, 2.6765126468950343e-03, -7.9041012313000904e-03, -2.5558943e-02],
        [-2.7409311281316700e-03, 9.9996302803027592e-01, -8.1504520778013286e-03, 1.0109636e-04],
        [7.8819942130445332e-03, 8.1718328771890631e-03, 9.9993554558014031e-01, 2.0318322e-03],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
PERIOD_NS = 33_333_333  # the Kinect's 30 Hz


def open_sequence(root: Path, split: str | None) -> FrameDataset:
    """Open a scene's split, one sequence folder, or the prepared folder."""
    if (root / "rgb").is_dir():
        return folder.open_sequence(root, split)
    if any(root.glob("frame-*.color.png")):
        if split not in (None, root.name):
            raise DatasetError(f"split: expected {root.name} or none, got {split!r}")
        return _Scene(root.parent, root.name, [root.name])
    return _Scene(root, *_sequences(root, split))


def _sequences(root: Path, split: str | None) -> tuple[str, list[str]]:
    present = sorted(p.name for p in root.glob("seq-*") if p.is_dir())
    if not present:
        raise DatasetError(f"root: expected seq-01/, … or rgb/ and depth/, got neither in {root}")
    lists = {"train": root / "TrainSplit.txt", "test": root / "TestSplit.txt"}
    if split is None:
        split = "test" if lists["test"].is_file() else "all"
    if split == "all":
        return split, present
    if split in present:
        return split, [split]
    if split not in lists:
        wanted = ", ".join(["train", "test", "all", *present])
        raise DatasetError(f"split: expected one of {wanted}, got {split!r}")
    names = []
    for number, words in files.read_table(lists[split]):
        found = re.fullmatch(r"(?:sequence|seq-)(\d+)", words[0])
        name = f"seq-{int(found[1]):02d}" if found else words[0]
        if name not in present:
            raise DatasetError(
                f"{lists[split]}: line {number}: expected one of {', '.join(present)}, "
                f"got {words[0]!r}"
            )
        names.append(name)
    return split, names


class _Scene(FrameDataset):
    """Sequences of a scene, the depth of each frame splatted into its colour camera."""

    def __init__(self, root: Path, split: str, sequences: list[str]) -> None:
        frames, ends = [], (".depth.png", ".pose.txt")
        images = [rgb for name in sequences for rgb in _images(root / name)]
        wanted = [_beside(rgb, end) for rgb in images for end in ends]
        for name in sequences:  # a depth image without its colour is a missing colour
            for depth in sorted((root / name).glob("frame-*.depth.png")):
                wanted.append(depth.with_name(depth.name.replace(".depth.", ".color.")))
        all_there(root, wanted)
        for sequence in sequences:
            for rgb in _images(root / sequence):
                stem = rgb.name.removesuffix(".color.png")
                depth, pose = (_beside(rgb, end) for end in ends)
                T = read_pose(pose) @ np.linalg.inv(T_COLOUR_DEPTH)
                number = len(frames) if not stem[6:].isdecimal() else int(stem[6:])
                # Sequences follow each other an hour apart: stamps stay increasing.
                start = sequences.index(sequence) * 3600 * 10**9
                frames.append(
                    Frame(f"{sequence}/{stem}", rgb, depth, start + number * PERIOD_NS, T)
                )
        lens, scale = Lens(COLOUR_CAMERA.width, COLOUR_CAMERA.height, COLOUR_CAMERA.K), 1000.0
        if (root / "camera.json").is_file():
            lens, scale = files.read_camera(root / "camera.json", depth_scale=True)
        super().__init__("sevenscenes", split, frames, lens, scale)

    def read_depth(self, frame: Frame, size: tuple[int, int]) -> np.ndarray:
        """The frame's depth seen from its colour camera, float32 (H, W) m, 0 = none."""
        depth = files.read_depth(frame.depth, self.depth_scale)
        own = DEPTH_CAMERA.resized(depth.shape[1], depth.shape[0])
        points = own.backproject(depth)[depth > 0]
        colour = self.lens.rectified.resized(size[1], size[0])
        return colour.project(points, T_COLOUR_DEPTH)


def _images(folder: Path) -> list[Path]:
    return sorted(folder.glob("frame-*.color.png"))


def _beside(rgb: Path, end: str) -> Path:
    return rgb.with_name(rgb.name.removesuffix(".color.png") + end)
