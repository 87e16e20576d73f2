# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the point-based map, which only `evaluate --fusion surfels` makes.

No node reads them, so they stand in no node's group and not in ``config/default.yaml``.
"""

from __future__ import annotations

from dataclasses import dataclass

from .declaring import parameter


@dataclass(frozen=True)
class SurfelParameters:
    """The point-based map; range and memory bound are those of the tsdf group."""

    stable_confidence: float = parameter(
        10.0,
        "A surfel is stable from this confidence on, in central observations of confidence 1.",
        low=0.0,
        high=1e6,
    )
    max_unstable_frames: int = parameter(
        30, "An unstable surfel not met for more frames than this is removed.", low=1, high=100000
    )
    depth_tolerance: float = parameter(
        0.03,
        "A surfel and a pixel are one surface when their ranges differ by less (share; 1 cm at "
        "least).",
        low=0.0,
        high=1.0,
    )
    normal_tolerance: float = parameter(
        20.0, "And when their normals differ by less, degrees.", low=0.0, high=180.0
    )
