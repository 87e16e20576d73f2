# SPDX-License-Identifier: Apache-2.0
"""A recording in which the camera is kidnapped, and how well it is found again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from depth_two_stage import trajectories
from depth_two_stage.datasets import Sample
from depth_two_stage.slam import Step

__all__ = ["KINDS", "Kidnapped", "Kidnapping", "recoveries"]

KINDS = ("cut", "dark", "hand")
HAND = 0.25  # m before the lens
GREY = 120  # of the hand
WRONG = 0.1  # m: a pose that is off by more is wrong


@dataclass(frozen=True)
class Kidnapping:
    """``count`` frames from position ``at`` on: cut out, dark, or with a hand before the lens.

    In the dark there is neither colour nor depth, as for a camera without a light of its own.
    """

    kind: str
    at: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Kidnapping:
        """Read "cut:60:20"; ValueError."""
        kind, *numbers = text.split(":")
        if kind not in KINDS or len(numbers) != 2 or not all(n.isdigit() for n in numbers):
            raise ValueError(
                f"--kidnap: expected {', '.join(KINDS)} with :FIRST:COUNT, got {text!r}"
            )
        at, count = map(int, numbers)
        if at < 1 or count < 1:
            raise ValueError(f"--kidnap: expected FIRST and COUNT of at least 1, got {text!r}")
        return cls(kind, at, count)

    @property
    def end(self) -> int:
        """Position of the first frame after it."""
        return self.at + self.count

    def change(self, sample: Sample) -> Sample:
        """A sample as the camera sees it meanwhile."""
        # Nobody compares with a hand: such a frame has no true pose.
        seen: dict = {"T_world_camera": None}
        seen |= {"rgb": np.full_like(sample.rgb, GREY if self.kind == "hand" else 0)}
        for name in ("depth", "sparse"):
            image = getattr(sample, name)
            if image is not None:
                seen[name] = np.full_like(image, HAND if self.kind == "hand" else 0)
        return dataclasses.replace(sample, **seen)


class Kidnapped(Sequence):
    """The samples of a recording with kidnappings, in order and apart from each other."""

    def __init__(self, dataset: Sequence[Sample], kidnappings: Sequence[Kidnapping]) -> None:
        self.dataset = dataset
        self.kidnappings = sorted(kidnappings, key=lambda kidnapping: kidnapping.at)
        self.name, self.split = getattr(dataset, "name", None), getattr(dataset, "split", None)
        ends = [0, *(kidnapping.end for kidnapping in self.kidnappings)]
        starts = [*(kidnapping.at for kidnapping in self.kidnappings), len(dataset)]
        if any(start <= end for start, end in zip(starts, ends, strict=True)):
            raise ValueError(
                f"--kidnap: expected frames between kidnappings and after them among "
                f"{len(dataset)}, got " + " ".join(f"{k.at} … {k.end}" for k in self.kidnappings)
            )
        cut = {i for k in self.kidnappings if k.kind == "cut" for i in range(k.at, k.end)}
        self._kept = [i for i in range(len(dataset)) if i not in cut]

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, position: int) -> Sample:
        index = self._kept[position]
        sample = self.dataset[index]
        for kidnapping in self.kidnappings:
            if kidnapping.at <= index < kidnapping.end:
                return kidnapping.change(sample)
        return sample

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def returns(self) -> list[int]:
        """Stamps (ns) of the first frames after the kidnappings."""
        return [self.dataset[kidnapping.end].stamp for kidnapping in self.kidnappings]


def recoveries(
    steps: Sequence[Step], truth: trajectories.Trajectory, returns: Sequence[int]
) -> dict:
    """What became of the camera after each of its ``returns`` (stamps, ns).

    ``frames_to_recovery``: frames that were lost from each return to the first that was not (None:
    there was none); ``wrong_fusions``: fused frames whose pose is off by more than 10 cm in the
    world of the frames before the first return.
    """
    waits = []
    for number, stamp in enumerate(returns):
        last = returns[number + 1] if number + 1 < len(returns) else np.inf
        lost = [step.lost for step in steps if stamp <= step.stamp < last]
        waits.append(lost.index(False) if False in lost else None)
    fused = [(step.stamp, step.T_world_camera) for step in steps if step.fused]
    stamps, poses, true = trajectories.associate(fused, truth)
    before = stamps < returns[0]
    wrong = 0
    if before.any():
        T = trajectories.align_poses(poses[before], true[before])
        wrong = int((np.linalg.norm((T @ poses - true)[:, :3, 3], axis=1) > WRONG).sum())
    return {"frames_to_recovery": waits, "wrong_fusions": wrong, "compared_fusions": len(stamps)}
