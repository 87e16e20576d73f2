# SPDX-License-Identifier: Apache-2.0
"""What each paper draws its training views from, as data; where no figure is printed, it says so.

``RANGES[name]`` is for stage one's frames (`augmentation.Augmentation`), its ``pair`` for stage
two's depth maps (`augmentation.PairAugmentation`). Names are a paper's letter, with the data set
where a paper treats two differently.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass

Range = tuple[float, float]
NO_CHANGE = (1.0, 1.0)


def check_range(name: str, value: Range, least: float = 0.0) -> None:
    """Refuse what is no pair of finite factors, low ≤ high, both above ``least``."""
    fits = len(value) == 2 and all(math.isfinite(v) and v > least for v in value)
    if not fits or value[0] > value[1]:
        raise ValueError(
            f"{name}: expected two numbers above {least:g}, the lower first, got {value!r}"
        )


def check_share(name: str, value: float) -> None:
    """Refuse what is no probability."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a probability from 0 to 1, got {value!r}")


@dataclass(frozen=True)
class PairRanges:
    """Changes to a pair of depth maps (rough, target) before stage two; the picture is not there.

    The rough map times s, the target divided by s; both mirrored with probability ``flip``; both
    times a ``brightness`` factor.
    """

    scale: Range = NO_CHANGE
    flip: float = 0.0
    brightness: Range = NO_CHANGE

    def __post_init__(self) -> None:
        check_range("scale", self.scale)
        check_range("brightness", self.brightness)
        check_share("flip", self.flip)


@dataclass(frozen=True)
class Ranges:
    """Changes to a frame: image, truth, samples and camera move together.

    ``rotation`` ± degrees; ``scale`` of the image, by which depth is divided; ``flip``, the
    probability of left-right; ``gain``, a factor of each colour channel; ``translate``: a random
    crop instead of the centre's. ``note``: source, and what the text leaves open.
    """

    rotation: float = 0.0
    scale: Range = NO_CHANGE
    flip: float = 0.0
    gain: Range = NO_CHANGE
    translate: bool = False
    pair: PairRanges = PairRanges()
    note: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"rotation: expected 0 to 180 degrees, got {self.rotation!r}")
        check_range("scale", self.scale)
        check_range("gain", self.gain)
        check_share("flip", self.flip)


_EIGEN = {
    "rotation": 5.0,
    "scale": (1.0, 1.5),
    "flip": 0.5,
    "gain": (0.8, 1.2),
    "translate": True,
}
_E_NOTE = (
    "E, section 4.1: small rotations, scaling, colour, flips with 0.5 and random crops, "
    "'with values following Eigen et al.' (2014), whose are: rotation ±5°, scale 1 to 1.5 with "
    "depth divided by it, one factor 0.8 to 1.2 for each colour channel. "
)

RANGES: dict[str, Ranges] = {
    "E": Ranges(
        **_EIGEN,
        note=_E_NOTE + "E makes 95k pairs of 12k frames beforehand; here each view is new.",
    ),
    "E-Make3D": Ranges(
        **_EIGEN,
        note=_E_NOTE + "Section 4.3: about 15k pairs of 400 images; no other ranges are printed.",
    ),
    "A": Ranges(
        **_EIGEN,
        note="A prints no augmentation. Its stage one is E's network, so it is trained with E's; "
        "its stage two sees what stage one makes of these views, with no change of its own.",
    ),
    "B": Ranges(
        **_EIGEN,
        note="B, section 4.1: stage one 'is the same as that of Laina et al.' (E). Stage two is "
        "trained on the 795 images alone: no change.",
    ),
    "B-Make3D": Ranges(
        **_EIGEN,
        pair=PairRanges(scale=(10.0, 15.0), flip=0.9, brightness=(0.8, 1.2)),
        note="B, section 4.2: stage one as E, 15k pairs. Stage two, 15,598 pairs of 400: the rough "
        "map is scaled by s in [10, 15] and the truth divided by s, both flipped with 90 %, their "
        "brightness adjusted. As printed s takes the pair apart by 100 to 225 and the rough map "
        "out of [-1, 1]; Eigen et al.'s [1, 1.5] without its points is a likely reading. "
        "For brightness no figure is printed: the factor is that of Eigen et al.'s colours.",
    ),
    "C": Ranges(note="C prints no augmentation: centre crop."),
    "D": Ranges(note="D prints no augmentation and no crop: the frame is resized to the input."),
}


def ranges_of(name: str) -> Ranges:
    """The ranges of a paper: a name of ``RANGES``."""
    if name not in RANGES:
        near = difflib.get_close_matches(str(name), RANGES, 2, 0.4)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ValueError(f"ranges: expected one of {', '.join(RANGES)}, got {name!r}{hint}")
    return RANGES[name]
