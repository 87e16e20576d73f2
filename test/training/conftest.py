# SPDX-License-Identifier: Apache-2.0
"""The frames on which the tests of training train."""

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """Eight training frames and one to validate on, in the folders' layout of NYU."""
    root = tmp_path_factory.mktemp("nyu")
    rng = np.random.default_rng(0)
    for split, count, size in (("train", 8, (240, 320)), ("val", 1, (480, 640))):
        for kind in ("rgb", "depth"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            ramp = np.linspace(1000, 4000, size[1]) + 300 * index
            depth = (ramp + np.linspace(0, 500, size[0])[:, None]).astype(np.uint16)
            rgb = np.dstack([depth // 24, depth // 48, rng.integers(0, 255, size)]).astype(np.uint8)
            cv2.imwrite(str(root / split / "depth" / f"{index:04d}.png"), depth)
            cv2.imwrite(str(root / split / "rgb" / f"{index:04d}.jpg"), rgb)
    return root
