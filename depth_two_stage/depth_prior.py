# SPDX-License-Identifier: Apache-2.0
"""What depth is expected by the image alone (`networks.prior`), where points are few or none.

Interpolation of a few points knows nothing between them. Where the image tells that a floor comes
nearer, it is better to interpolate by how much the points depart from that.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from depth_two_stage.framing import Framing, pixels
from depth_two_stage.interpolation import enlarge, spread
from depth_two_stage.networks.inputs import (
    DISTANCE,
    LACK,
    NEAREST,
    POINTS,
    SMOOTH,
    nearest_fill,
)
from depth_two_stage.networks.prior import Rough
from depth_two_stage.runtimes import beside

__all__ = ["MOST", "DepthPrior", "expecting", "mirrored"]

#: so many points and more need no prior. Up to there it counts less the more there are, so that
#: depth does not jump when their number passes this
MOST = 128
#: farther from a point than this (32 px, as `inputs.assemble` has it) the network trusts its own
#: idea of depth, which is worse than the prior: it is told to be no farther
NEAR = 0.5


class DepthPrior:
    """Call it with the network's input x (1, 8, h, w) and the place of the image in it.

    It answers with an input that expects depth.
    """

    def __init__(self, start: Callable[[], Any]) -> None:
        self.start = start

    @cached_property
    def rough(self) -> Any:
        """The engine, started when it is asked first: OpenVINO takes 3 s for that."""
        return self.start()

    @classmethod
    def of(cls, model: Any, runtime: Any, x: np.ndarray, threads: int = 0) -> DepthPrior | None:
        """Return that of a `networks.TwoStage`, which keeps its own; None if it has none.

        It is run by an engine as `runtime` is, for inputs like x.
        """
        if model.prior is None:
            return None
        network = Rough(copy.deepcopy(model.prior).eval())
        return cls(lambda: beside(runtime, network, x, threads))

    def __call__(self, x: np.ndarray, framing: Framing) -> np.ndarray:
        """Return x itself with `MOST` points or more."""
        count = np.count_nonzero(x[0, POINTS])
        if count >= MOST:
            return x
        (rough,) = self.rough(mirrored(x, framing))
        prior = cv2.resize(rough, x.shape[:1:-1], interpolation=cv2.INTER_LINEAR)
        return expecting(x[0], prior * np.float32(1 - count / MOST))[None]


def mirrored(x: np.ndarray, framing: Framing) -> np.ndarray:
    """Return x (1, C, h, w) with the image mirrored where its edge was repeated round it.

    The network never saw such an edge: without points images of 3:4 have 30 % more error by it.
    """
    (h, w), (height, width) = framing.content_size, framing.input_size
    if (h, w) == (height, width):
        return x
    rows = (framing.top, height - h - framing.top)
    columns = (framing.left, width - w - framing.left)
    inside = x[0, :3, rows[0] : rows[0] + h, columns[0] : columns[0] + w]
    x = x.copy()
    x[0, :3] = np.pad(inside, ((0, 0), rows, columns), mode="symmetric")
    return x


def expecting(x: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Put the prior (h, w), a logarithm of depth, into an input x (8, h, w) of relative depth.

    Without points it is what both interpolations say; its unit has to be that of x
    (`inputs.scene_unit`). With points both become the prior and the interpolation of what the
    points depart from it, in logarithms: the prior's scale is gone then, its shape stays.
    """
    x = x.copy()
    np.minimum(x[DISTANCE], NEAR, out=x[DISTANCE])
    rows, columns = pixels(x[POINTS])
    if len(rows) == 0:
        x[SMOOTH] = x[NEAREST] = prior
        return x
    depth = x[SMOOTH, rows, columns] + x[LACK, rows, columns]
    left = (depth - prior[rows, columns]).astype(np.float64)
    field = enlarge(spread(rows, columns, left, prior.shape), *prior.shape)
    x[SMOOTH] = prior + np.clip(field, left.min(), left.max())
    x[LACK, rows, columns] = depth - x[SMOOTH, rows, columns]
    factors = np.zeros(prior.shape, np.float32)
    factors[rows, columns] = np.exp(left)
    x[NEAREST] = prior + np.log(nearest_fill(factors)[0])
    return x
