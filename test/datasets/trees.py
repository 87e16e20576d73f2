# SPDX-License-Identifier: Apache-2.0
"""Images, folders and clouds that the tests of several data sets write."""

import json

import cv2
import numpy as np

from depth_two_stage import files

H, W = 48, 64
CAMERA = {
    "width": W, "height": H, "fx": 52.0, "fy": 53.0, "cx": 31.0, "cy": 24.5, "depth_scale": 1000.0,
}  # fmt: skip


def colour(seed=0, size=(H, W)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def depth_map(seed=0, size=(H, W)):
    depth = np.random.default_rng(seed).integers(500, 6000, size).astype(np.float32) / 1000
    depth[:5, :7] = 0
    return depth


def write_frame(root, name, seed=0, scale=1000.0):
    files.write_image(root / "rgb" / f"{name}.png", colour(seed))
    files.write_depth(root / "depth" / f"{name}.png", depth_map(seed), scale)


def make_folder(root, names=("a", "b", "c"), **camera):
    for seed, name in enumerate(names):
        write_frame(root, name, seed)
    (root / "camera.json").write_text(json.dumps(CAMERA | camera))
    return root


def pose(x=0.0):
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.array([0.1, -0.2, 0.3]))[0]
    T[0, 3] = x
    return T


def write_cloud(path, cloud, kind="pcd"):
    head = "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\n"
    head += f"COUNT 1 1 1 1\nWIDTH {len(cloud)}\nHEIGHT 1\nPOINTS {len(cloud)}\nDATA "
    table = np.column_stack([cloud, np.ones(len(cloud))]).astype("<f4")
    if kind == "pcd":
        path.write_bytes(head.encode() + b"binary\n" + table.tobytes())
    elif kind == "ascii.pcd":
        rows = "\n".join(" ".join(str(x) for x in row) for row in table)
        path.write_text(head + "ascii\n" + rows + "\n")
    elif kind == "bin":
        path.write_bytes(table.tobytes())
    elif kind == "npy":
        np.save(path, cloud)
    else:
        files.write_ply(path, cloud)
