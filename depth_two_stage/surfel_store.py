# SPDX-License-Identifier: Apache-2.0
"""Surfels as arrays of bounded length: added at the end, removed by closing the gaps."""

from __future__ import annotations

import numpy as np

#: field → (type, numbers a surfel): world m, unit vector, 0…255, m, sum of alpha, frame number.
FIELDS = {
    "positions": (np.float32, 3),
    "normals": (np.float32, 3),
    "colors": (np.float32, 3),
    "radii": (np.float32, 1),
    "confidence": (np.float32, 1),
    "stamps": (np.int32, 1),
}
SURFEL_BYTES = sum(np.dtype(kind).itemsize * count for kind, count in FIELDS.values())


class SurfelStore:
    """Up to ``capacity`` surfels, in the order in which they came."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        # Memory that is never written costs nothing.
        self._arrays = {
            name: np.empty((capacity, count) if count > 1 else capacity, kind)
            for name, (kind, count) in FIELDS.items()
        }

    def __len__(self) -> int:
        return self.count

    def __getattr__(self, name: str) -> np.ndarray:
        """The values (N,) or (N, 3) of a field: a view, to read and write."""
        if name not in FIELDS:
            raise AttributeError(name)
        return self._arrays[name][: self.count]

    def append(self, **values: np.ndarray) -> None:
        """Add surfels; there must be room for them."""
        end = self.count + len(values["positions"])
        for name, array in self._arrays.items():
            array[self.count : end] = values[name]
        self.count = end

    def keep(self, kept: np.ndarray) -> None:
        """Forget all but the surfels of a mask (N,)."""
        if kept.all():
            return
        left = int(np.count_nonzero(kept))
        for array in self._arrays.values():
            array[:left] = array[: self.count][kept]
        self.count = left
