# SPDX-License-Identifier: Apache-2.0
"""Pictures of several panels."""

import numpy as np
import pytest

from depth_two_stage import files, pictures
from depth_two_stage.pictures import Panel


def test_pictures_hold_every_panel_with_none_in_black(tmp_path):
    rgb = np.full((48, 64, 3), 77, np.uint8)
    depth = np.tile(np.linspace(1, 5, 64, dtype=np.float32), (48, 1))
    depth[:10] = 0
    sparse = np.zeros_like(depth)
    sparse[30, 40] = 3.0
    row = pictures.depth_row(rgb, sparse, depth, depth * 1.1, depth)
    assert [panel.title.split(",")[0] for panel in row] == [
        "RGB", "sparse", "coarse", "refined", "truth", "error |refined - truth|",
    ]  # fmt: skip
    files.write_picture(tmp_path / "row.png", row)
    picture = files.read_image(tmp_path / "row.png")
    pitch = pictures.PANEL_WIDTH + pictures.MARGIN
    assert picture.shape[1] == 6 * pitch
    top = pictures.HEAD
    assert (picture[top + 5, 5] == 77).all()
    dots = picture[top : top + 240, pitch : pitch + 320].reshape(-1, 3)
    assert 0 < np.count_nonzero(dots.any(axis=1)) <= 9
    coarse = picture[top : top + 240, 2 * pitch : 2 * pitch + 320]
    assert not coarse[:45].any() and coarse[60:].any(axis=2).all()
    assert coarse[100, 5, 2] > coarse[100, 5, 0] and coarse[100, 315, 0] > coarse[100, 315, 2]


def test_pictures_may_have_rows_of_different_length_and_empty_maps(tmp_path):
    empty = Panel("nothing", np.zeros((20, 30), np.float32))
    image = Panel("grey", np.zeros((40, 30, 3), np.uint8))
    picture = pictures.grid([[empty], [image, empty]])
    assert picture.shape[1] == 2 * (pictures.PANEL_WIDTH + pictures.MARGIN)
    with pytest.raises(ValueError, match="panels: expected at least one"):
        pictures.grid([])
