# SPDX-License-Identifier: Apache-2.0
"""7-Scenes: registered depth, splits."""

import cv2
import numpy as np
import pytest
from trees import colour, depth_map, make_folder, pose

from depth_two_stage import files
from depth_two_stage.datasets import DatasetError, open_dataset


def make_scene(root, size=(480, 640)):
    for sequence in ("seq-01", "seq-03"):
        (root / sequence).mkdir(parents=True)
        for i in range(2):
            stem = root / sequence / f"frame-{i:06d}"
            files.write_image(stem.with_name(stem.name + ".color.png"), colour(i, size))
            units = np.full(size, 2000, np.uint16)
            units[:100] = 65535
            units[200:300, 300:340] = 1000
            cv2.imwrite(str(stem.with_name(stem.name + ".depth.png")), units)
            np.savetxt(stem.with_name(stem.name + ".pose.txt"), pose(i))
    (root / "TrainSplit.txt").write_text("sequence1\n")
    (root / "TestSplit.txt").write_text("sequence3\n")
    return root


def test_sevenscenes_splits_poses_and_registered_depth(tmp_path):
    root = make_scene(tmp_path / "chess")
    test = open_dataset("sevenscenes", root)
    assert test.split == "test" and [s.name for s in test] == [
        "seq-03/frame-000000",
        "seq-03/frame-000001",
    ]
    train, both = (open_dataset("sevenscenes", root, split) for split in ("train", "all"))
    assert train[0].name == "seq-01/frame-000000" and len(both) == 4
    stamps = [sample.stamp for sample in both]
    assert stamps == sorted(set(stamps))
    assert len(open_dataset("sevenscenes", root / "seq-01")) == 2

    sample = test[0]
    depth = sample.depth
    seen = depth > 0
    assert depth.max() < 2.1 and not depth[:60].any()  # 65535 is none, not 65 m
    # Seen from 2.5 cm to the side, the near box keeps its surface and throws a shadow.
    assert 0.9 < np.median(depth[215:280, 295:330]) < 1.1
    # A world point is the same one by the depth camera's own pose and by the sample's.
    points = sample.camera.backproject(depth)[seen].astype(np.float64)
    world = points @ sample.T_world_camera[:3, :3].T + sample.T_world_camera[:3, 3]
    own = (world - pose(0)[:3, 3]) @ pose(0)[:3, :3]
    assert np.isin(np.round(own[:, 2], 2), [1.0, 2.0]).mean() > 0.99


def test_sevenscenes_bad_splits_and_missing_files(tmp_path):
    root = make_scene(tmp_path / "chess")
    with pytest.raises(DatasetError, match="split: expected one of train, test, all, seq-01"):
        open_dataset("sevenscenes", root, "val")
    (root / "TestSplit.txt").write_text("sequence9\n")
    with pytest.raises(DatasetError, match=r"line 1: expected one of seq-01, seq-03, got 'seq"):
        open_dataset("sevenscenes", root, "test")
    (root / "seq-03" / "frame-000000.color.png").unlink()
    with pytest.raises(DatasetError, match=r"got 1 missing: seq-03/frame-000000\.color\.png"):
        open_dataset("sevenscenes", root, "seq-03")
    (root / "seq-01" / "frame-000001.depth.png").unlink()
    with pytest.raises(DatasetError, match=r"got 1 missing: seq-01/frame-000001\.depth\.png"):
        open_dataset("sevenscenes", root, "train")


def test_sevenscenes_opens_a_prepared_folder(tmp_path):
    data = open_dataset("sevenscenes", make_folder(tmp_path / "kitchen"))
    assert len(data) == 3 and np.allclose(data[0].depth, depth_map(0), atol=1e-6)
