# SPDX-License-Identifier: Apache-2.0
"""Whether to believe a motion that odometry found: two views compared under it.

Open3D's fitness cannot say (a black pair reaches 0.72). Three questions are asked here, on pixels
with depth only: do the depths agree about as often as they usually do (fitness); do the motion
forward and the motion backward cancel; do the images agree better than without any motion.
What is usual is learned from the accepted motions, because sensor depth agrees to 0.3 % of the
range and predicted depth to several per cent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from depth_two_stage.camera import Camera
from depth_two_stage.config import OdometryParameters

CHECK_WIDTH = 160  # px: views are compared at this width
MIN_OVERLAP = 0.3  # share of the frame's pixels that must meet the reference
INTENSITY_CLIP = 40.0  # grey levels: a larger difference counts as this much
LEAST_TOLERANCE, MOST_TOLERANCE = 0.02, 0.15  # depths that are one surface: share of the range
NOISE_TO_TOLERANCE = 4.0  # of the usual median difference
USUAL_STEPS = 30  # accepted motions from which the usual is learned
USUAL_FITNESS = 0.9  # before there are LEARNING_STEPS of them
LEARNING_STEPS = 5
LEAST_SIGMA = 1e-3  # m and rad: no motion is believed to be better known


@dataclass(frozen=True)
class Check:
    """A view reduced for the gate: grey levels 0…255 and depth m, float32 (h, w)."""

    grey: np.ndarray
    depth: np.ndarray
    camera: Camera

    @cached_property
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Points (N, 3) m of the pixels with depth, and their grey levels (N,)."""
        valid = self.depth > 0
        return self.camera.backproject(self.depth)[valid].astype(np.float64), self.grey[valid]


@dataclass(frozen=True)
class Agreement:
    """How well two views agree under a motion.

    ``overlap``: share of the frame's valid pixels that meet a valid pixel of the reference;
    ``fitness``: share of those whose depths agree; ``depth``: their median relative difference;
    ``intensity``: mean grey difference where nothing hides the other (clipped, 0…255 scale).
    """

    overlap: float
    fitness: float
    depth: float
    intensity: float


NOTHING = Agreement(0.0, 0.0, 1.0, INTENSITY_CLIP)


def agreement(
    reference: Check, frame: Check, T_reference_frame: np.ndarray, tolerance: float
) -> Agreement:
    """Compare two views: each valid pixel of the frame moved into the reference, nearest pixel.

    Depths agree when they differ by at most ``tolerance`` of the range (of 1 m when nearer).
    """
    points, grey = frame.points
    if len(points) == 0:
        return NOTHING
    points = points @ T_reference_frame[:3, :3].T + T_reference_frame[:3, 3]
    camera, front = reference.camera, points[:, 2] > 1e-3
    uv, z = camera.pixels(points[front])
    inside = (uv > -0.5).all(axis=1) & (uv[:, 0] < camera.width - 0.5)
    inside &= uv[:, 1] < camera.height - 0.5
    u, v = np.rint(uv[inside]).astype(np.int64).T
    z, grey = z[inside], grey[front][inside]
    there = reference.depth[v, u]
    both = there > 0
    if not both.any():
        return NOTHING
    difference = np.abs(there - z)[both] / np.maximum(z[both], 1.0)
    visible = difference < 5 * tolerance
    grey = np.abs(reference.grey[v, u] - grey)[both][visible]
    return Agreement(
        float(both.sum() / len(points)),
        float((difference < tolerance).mean()),
        float(np.median(difference)),
        float(np.minimum(grey, INTENSITY_CLIP).mean()) if visible.any() else INTENSITY_CLIP,
    )


@dataclass(frozen=True)
class Verdict:
    """What the gate says: ``reason`` is empty when it believes the motion.

    ``sigma``: standard deviation of translation (m) and rotation (rad), from the disagreement of
    forward and backward.
    """

    reason: str
    agreement: Agreement = NOTHING
    sigma: tuple[float, float] = (np.inf, np.inf)


class Gate:
    """Judges motions; one gate for each kind of reference, because the usual differs."""

    def __init__(self, parameters: OdometryParameters) -> None:
        self.parameters = parameters
        self._fitness: deque[float] = deque(maxlen=USUAL_STEPS)
        self._noise: deque[float] = deque(maxlen=USUAL_STEPS)

    def copy(self) -> Gate:
        """A gate that has learned as much and learns on by itself."""
        gate = Gate(self.parameters)
        gate._fitness.extend(self._fitness)
        gate._noise.extend(self._noise)
        return gate

    @property
    def tolerance(self) -> float:
        """Share of the range within which two depths are one surface."""
        if len(self._noise) < LEARNING_STEPS:
            return MOST_TOLERANCE if not self._noise else self._clipped(max(self._noise))
        return self._clipped(float(np.median(self._noise)))

    @staticmethod
    def _clipped(noise: float) -> float:
        return float(np.clip(NOISE_TO_TOLERANCE * noise, LEAST_TOLERANCE, MOST_TOLERANCE))

    @property
    def usual_fitness(self) -> float:
        """Median fitness of the accepted motions."""
        if len(self._fitness) < LEARNING_STEPS:
            return USUAL_FITNESS
        return float(np.median(self._fitness))

    def look(self, reference: Check, frame: Check, T: np.ndarray) -> Verdict:
        """Judge the motion T_reference_frame by the depths alone, before the way back is known."""
        found = agreement(reference, frame, T, self.tolerance)
        least = self.parameters.min_fitness * self.usual_fitness
        reason = ""
        if found.overlap < MIN_OVERLAP:
            reason = f"overlap {found.overlap:.2f}, expected at least {MIN_OVERLAP:g}"
        elif found.fitness < least:
            reason = f"fitness {found.fitness:.2f}, expected at least {least:.2f}"
        return Verdict(reason, found)

    def judge(
        self, reference: Check, frame: Check, T: np.ndarray, round_trip: np.ndarray
    ) -> Verdict:
        """Judge the motion T_reference_frame; ``round_trip`` is forward times backward."""
        return self.judge_way(self.look(reference, frame, T), reference, frame, round_trip)

    def judge_way(
        self,
        looked: Verdict,
        reference: Check,
        frame: Check,
        round_trip: np.ndarray,
        disagreement: float = 0.0,
    ) -> Verdict:
        """Judge on what `look` has found good; what it has refused stays so.

        ``disagreement`` (m) is allowed where it is more than ``odometry.max_disagreement``.
        """
        if looked.reason:
            return looked
        found = looked.agreement
        still = agreement(reference, frame, np.eye(4), self.tolerance)
        shift = float(np.linalg.norm(round_trip[:3, 3]))
        turn = float(np.linalg.norm(cv2.Rodrigues(round_trip[:3, :3])[0]))
        reason = ""
        most = max(self.parameters.max_disagreement, disagreement)
        if shift > most:
            reason = f"forward and backward differ by {shift:.3f} m, expected at most {most:g}"
        elif found.fitness < still.fitness and found.intensity > still.intensity:
            reason = "the images agree better without any motion"
        else:
            self._fitness.append(found.fitness)
            self._noise.append(found.depth)
        return Verdict(reason, found, (max(shift, LEAST_SIGMA), max(turn, LEAST_SIGMA)))
