# SPDX-License-Identifier: Apache-2.0
"""Filters anchored depth by what the image shows (`networks.joint_filter`), where points are many.

Where an edge lies between two scan lines the stages take a side, and anchoring bends what they
said towards the points. What is best in the mean of many such places is learned afterwards, from
depth as it is then. Dense scans (`dense_scan`) are left alone: of simulated ones depth becomes
better by it, of the real ones of `kitti_raw` and `lidar16` worse by a tenth to a sixth.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from depth_two_stage.framing import Framing
from depth_two_stage.networks.inputs import DISTANCE, LACK, POINTS, SMOOTH
from depth_two_stage.networks.joint_filter import ABOVE, Change
from depth_two_stage.runtimes import beside

__all__ = ["FEWEST", "LEAST", "JointFilter", "seen", "sized"]

#: points, fewer of which are not asked
FEWEST = 800
#: units of the scene: the least depth that has a logarithm
LEAST = 1e-3


class JointFilter:
    """Of the frames of a network of relative depth that predicts its confidence."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self.start = start

    @cached_property
    def change(self) -> Any:
        """The engine, started when it is asked first: that takes OpenVINO seconds."""
        return self.start()

    @classmethod
    def of(cls, model: Any, runtime: Any, x: np.ndarray, threads: int = 0) -> JointFilter | None:
        """Return that of a `networks.TwoStage`, which keeps its own; None if it has none.

        It is run by an engine as `runtime` is, for inputs of the size of x.
        """
        if model.joint_filter is None:
            return None
        network = Change(copy.deepcopy(model.joint_filter).eval())
        example = seen(x[0], *np.ones((2, *x.shape[2:]), np.float32), x[0, 0], x[0, SMOOTH])
        return cls(lambda: beside(runtime, network, example[None], threads))

    def of_frame(
        self, x: np.ndarray, answers: Sequence[np.ndarray], framing: Framing, scale: float
    ) -> Callable[[np.ndarray], np.ndarray] | None:
        """Return what filters anchored depth (H, W) m; None with fewer points than `FEWEST`.

        The network's input x (1, 8, h, w) and its answers, three fields, whose unit is `scale` m.
        """
        if np.count_nonzero(x[0, POINTS]) < FEWEST:
            return None

        def filtered(depth: np.ndarray) -> np.ndarray:
            log = np.log(np.maximum(depth / np.float32(scale), np.float32(LEAST)))
            (change,) = self.change(seen(x[0], *answers, framing.image(log))[None])
            return depth * np.exp(framing.restore(change))

        return filtered


def seen(
    x: np.ndarray, coarse: np.ndarray, refined: np.ndarray, logit: np.ndarray, tied: np.ndarray
) -> np.ndarray:
    """Return what the network is shown: float32 (12, h, w), of about one standard deviation each.

    The network's input x (8, h, w), its answers of any size in units of the scene, and `tied`, the
    logarithm of the anchored one (h, w): colours; tied less the smooth interpolation, coarse less
    refined and tied less refined; what the points lack from the smooth interpolation, where they
    are, how far; what they lack from tied; the logit of stage two's confidence; tied less its mean.
    """
    coarse, refined, logit = (sized(each, tied.shape) for each in (coarse, refined, logit))
    coarse, refined = (np.log(np.maximum(each, np.float32(LEAST))) for each in (coarse, refined))
    there = x[POINTS] > 0
    above = tied - x[SMOOTH]
    return np.stack(
        [
            *(0.5 * x[:3]),
            ABOVE * above,
            5 * (coarse - refined),
            5 * (tied - refined),
            3 * x[LACK],
            there,
            4 * x[DISTANCE],
            np.where(there, 3 * (x[LACK] - above), 0),
            0.3 * logit,
            tied - tied.mean(),
        ]
    ).astype(np.float32)


def sized(field: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a field float32 (h, w) at another size (H, W), bilinear."""
    return field if field.shape == size else cv2.resize(field, size[::-1])
