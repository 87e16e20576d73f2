# SPDX-License-Identifier: Apache-2.0
"""TUM RGB-D sequences (Sturm et al., IROS 2012).

rgb/ and depth/ with rgb.txt and depth.txt ("stamp file"), paired here by nearest stamp within
20 ms, or associations.txt ("stamp file stamp file", either image first); groundtruth.txt holds
T_world_camera of the colour camera, interpolated to the colour image's stamp (None where the
motion capture has a gap of over 0.1 s). A sample's stamp is the colour image's.

Depth is 16-bit PNG of 5000 units per metre, registered to the colour image (the recordings are
already scaled by the per-camera depth correction). The camera comes from camera.json, or else from
the freiburg1, 2 or 3 in the folder's name: the "intrinsic camera calibration of the Kinect" of the
data set's "file formats" page. The depth map was registered through OpenNI onto the distorted
colour image, so both are rectified together, with the focal lengths and centre kept.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from depth_two_stage import files
from depth_two_stage.camera import Lens
from depth_two_stage.datasets import DatasetError
from depth_two_stage.datasets.frames import Frame, FrameDataset, all_there, existing
from depth_two_stage.datasets.poses import interpolate, pairs

DEPTH_SCALE = 5000.0
#: fx fy cx cy (px, 640x480) and plumb_bob k1 k2 p1 p2 k3 of the colour cameras
KINECTS = {
    "1": ((517.3, 516.5, 318.6, 255.3), (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    "2": ((520.9, 521.0, 325.1, 249.7), (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    "3": ((535.4, 539.2, 320.1, 247.6), (0.0, 0.0, 0.0, 0.0, 0.0)),
}

Pair = tuple[int, Path, int, Path]


def open_sequence(root: Path, split: str | None) -> FrameDataset:
    """Open one sequence; TUM has no splits."""
    if split is not None:
        raise DatasetError(f"split: expected none (tum has no splits), got {split!r}")
    lens, scale = camera_of(root)
    return FrameDataset("tum", None, frames_of(root), lens, scale)


def camera_of(root: Path) -> tuple[Lens, float]:
    """The lens and depth units per metre: camera.json, or by the Kinect the name tells."""
    if (root / "camera.json").is_file():
        return files.read_camera(root / "camera.json", depth_scale=True)
    found = re.search(r"(?:freiburg|fr)([123])", root.resolve().name)
    if not found:
        raise DatasetError(
            f"root: expected camera.json or freiburg1, 2 or 3 in the folder's name, got {root}"
        )
    (fx, fy, cx, cy), D = KINECTS[found[1]]
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    return Lens(640, 480, K, np.array(D)), DEPTH_SCALE


def frames_of(root: Path) -> list[Frame]:
    """The paired images of a sequence with poses where groundtruth.txt has them."""
    ready = (root / "associations.txt").is_file()
    found = read_associations(root) if ready else _associate(root)
    stamps = [stamp for stamp, _, _, _ in found]
    poses: list[np.ndarray | None] = [None] * len(found)
    if (root / "groundtruth.txt").is_file():
        poses = interpolate(stamps, files.read_trajectory(root / "groundtruth.txt"))
    return [
        Frame(rgb.relative_to(root).as_posix(), rgb, depth, stamp, pose)
        for (stamp, rgb, _, depth), pose in zip(found, poses, strict=True)
    ]


def read_associations(root: Path) -> list[Pair]:
    """associations.txt → (colour stamp ns, colour file, depth stamp ns, depth file), by stamp."""
    path, found = root / "associations.txt", []
    for number, words in files.read_table(path):
        where = f"{path}: line {number}"
        if len(words) != 4:
            raise DatasetError(f"{where}: expected 'stamp file stamp file', got {len(words)} words")
        stamps = [files.parse_stamp(words[i], where) for i in (0, 2)]
        images = [root / words[i] for i in (1, 3)]
        if words[1].startswith("depth"):  # the order of other tools
            stamps, images = stamps[::-1], images[::-1]
        found.append((stamps[0], images[0], stamps[1], images[1]))
    all_there(root, [image for pair in found for image in (pair[1], pair[3])], str(path))
    return sorted(found, key=lambda pair: pair[0])


def _associate(root: Path) -> list[Pair]:
    lists = []
    for name in ("rgb", "depth"):
        path = existing(root / f"{name}.txt", "root")
        entries = []
        for number, words in files.read_table(path):
            where = f"{path}: line {number}"
            if len(words) != 2:
                raise DatasetError(f"{where}: expected 'stamp file', got {len(words)} words")
            entries.append((files.parse_stamp(words[0], where), root / words[1]))
        lists.append(entries)
    rgb, depth = lists
    found = []
    for i, j in pairs([e[0] for e in rgb], [e[0] for e in depth]):
        found.append((*rgb[i], *depth[j]))
    if not found:
        raise DatasetError(f"root: expected colour and depth within 20 ms, got no pair in {root}")
    all_there(root, [image for pair in found for image in (pair[1], pair[3])])
    return sorted(found, key=lambda pair: pair[0])
