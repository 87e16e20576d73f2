# SPDX-License-Identifier: Apache-2.0
"""What the value of a parameter has to look like, beyond its type and limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

UNIT = 0.01  # largest difference of a quaternion's norm from 1
MAP_ENDINGS = (".npz", ".ply", ".yaml", ".tum")  # what they stand for: map_formats


@dataclass(frozen=True)
class Form:
    """A rule for values, and what it asks for, in words."""

    words: str
    accepts: Callable[[Any], bool]


def _is_pose(values: tuple[float, ...]) -> bool:
    if not values:
        return True
    return len(values) == 7 and abs(math.hypot(*values[3:]) - 1.0) <= UNIT


def _is_frame(name: str) -> bool:
    """Whether TF takes the name; it refuses a leading slash."""
    return not name.startswith("/") and not any(character.isspace() for character in name)


POSE = Form("7 numbers x y z qx qy qz qw, the last four of norm 1, or none", _is_pose)
FRAME = Form(
    "a frame's name (no leading slash, no spaces)", lambda name: bool(name) and _is_frame(name)
)
FRAME_OR_NONE = Form("a frame's name (no leading slash, no spaces) or nothing", _is_frame)
_ENDING = "a name ending in .npz, .ply, .yaml or .tum"
MAP_FILE = Form(_ENDING, lambda path: path.endswith(MAP_ENDINGS))
MAP_FILE_OR_NONE = Form(
    f"{_ENDING}, or nothing", lambda path: not path or path.endswith(MAP_ENDINGS)
)
