# SPDX-License-Identifier: Apache-2.0
"""Unfamiliar colours by hand."""

import numpy as np
import pytest

from depth_two_stage.unfamiliar import COLOURS, recoloured


def test_colours_by_hand():
    rgb = np.full((200, 200, 3), (200, 100, 0), np.uint8)
    pictures = {name: recoloured(rgb, name, np.random.default_rng(0)) for name in COLOURS}
    assert pictures["recorded"] is rgb
    assert (pictures["inverted"] == (55, 155, 255)).all()
    night = pictures["night"].reshape(-1, 3)
    # A hundredth of the light is 0.1233 of the value; noise is cut at 0 only where it is dark.
    assert night.mean(axis=0)[:2] == pytest.approx([24.65, 12.33], abs=0.1)
    assert night[:, 0].std() == pytest.approx(4, abs=0.1) and night.dtype == np.uint8
    assert np.array_equal(pictures["night"], recoloured(rgb, "night", np.random.default_rng(0)))
