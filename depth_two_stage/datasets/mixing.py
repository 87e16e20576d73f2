# SPDX-License-Identifier: Apache-2.0
"""Several data sets in one training: each takes a share of the places in every batch.

A place of the main data set that falls to another set takes a frame of it drawn anew each time; so
an epoch stays as long as the main set, and a set without end (`rendered`, path:random) hardly shows
a frame twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import Dataset, DatasetError, open_dataset


@dataclass(frozen=True)
class Mix:
    """A data set beside the main one and its ``share`` of the images; `rendered` needs no root."""

    dataset: str = "rendered"
    root: str | None = None
    split: str | None = None
    share: float = 0.0


class Mixture(Sequence):
    """The main data set by index, and beside it others of which `draw` names frames.

    ``list_hash`` covers every set with its frames and its share.
    """

    def __init__(self, main: Dataset, mix: Sequence[Mix]) -> None:
        self.main, self.mix = main, tuple(mix)
        self.others = [_open(entry, f"data.mix[{i}]") for i, entry in enumerate(self.mix)]
        self.limits = np.cumsum([entry.share for entry in self.mix])
        if self.limits[-1] > 1:
            raise DatasetError(
                f"data.mix: expected shares of at most 1 together, got {self.limits[-1]:g}"
            )

    def __len__(self) -> int:
        return len(self.main)

    def __getitem__(self, index):
        return self.main[index]

    @property
    def list_hash(self) -> str:
        """SHA-256 (hex) of all lists of frames, each with what was opened and its share."""
        # Names alone do not tell a rendered frame's size or look; the split does.
        parts = [self.main.list_hash]
        for entry, other in zip(self.mix, self.others, strict=True):
            parts.append([entry.dataset, entry.split, entry.share, other.list_hash])
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def source(self) -> dict | None:
        """Of what the main set was made, if it is a packed one."""
        return self.main.source

    def draw(self, rng: np.random.Generator) -> tuple[int, int] | None:
        """Which of the others a place falls to, and which of its frames; None: it stays main's."""
        which = int(np.searchsorted(self.limits, rng.random(), side="right"))
        if which == len(self.others):
            return None
        return which, int(rng.integers(len(self.others[which])))


def _open(entry: Mix, name: str) -> Dataset:
    if entry.root is None and entry.dataset != "rendered":
        raise DatasetError(f"{name}.root: expected the folder of {entry.dataset}, got none")
    try:
        return open_dataset(entry.dataset, entry.root or ".", entry.split)
    except DatasetError as error:
        raise DatasetError(f"{name}: {error}") from error
