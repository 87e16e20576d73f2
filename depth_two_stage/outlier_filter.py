# SPDX-License-Identifier: Apache-2.0
"""Corrects points that a trained network (`networks.outliers`) takes to be wrong.

Of a point that is wrong with probability p and of which its neighbours say another depth, the
expected depth lies p of the way to that: it has the least expected squared error. To take or leave
the point, whatever p is, costs up to twice as much where the network is not sure.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from depth_two_stage.framing import Framing
from depth_two_stage.point_graph import NEIGHBOURS, PointGraph

__all__ = ["OutlierFilter"]

#: probability of being wrong below which a point stays as it is, and from which it is left out
LEAST, CERTAIN = 0.05, 0.8
#: points, more of which are not asked about: each is one of many, and their time would be missed
MOST = 1000


class OutlierFilter:
    """Call it with an image of the network's input, its place and sparse depth (H, W) m, 0 = none.

    It answers with sparse depth without points that are wrong, and with the expected depth of those
    that may be. On the CPU, whatever the engine: 200 points are too few for a GPU.
    """

    def __init__(self, network: Any) -> None:
        self.network = network

    @classmethod
    def of(cls, model: Any) -> OutlierFilter | None:
        """Return that of a `networks.TwoStage`, which keeps its own; None if it has none."""
        return None if model.outliers is None else cls(copy.deepcopy(model.outliers).eval())

    def __call__(self, image: np.ndarray, framing: Framing, sparse: np.ndarray) -> np.ndarray:
        """Return sparse itself where nothing is wrong, or too few or too many points to tell."""
        places = np.flatnonzero(sparse)
        if not NEIGHBOURS < len(places) <= MOST:
            return sparse
        rows, columns = np.divmod(places, sparse.shape[1])
        depth = sparse[rows, columns]
        found = self.expected(image, framing, rows, columns, depth)
        if np.array_equal(found, depth):
            return sparse
        sparse = sparse.copy()
        sparse[rows, columns] = found
        return sparse

    def expected(
        self,
        image: np.ndarray,
        framing: Framing,
        rows: np.ndarray,
        columns: np.ndarray,
        depth: np.ndarray,
    ) -> np.ndarray:
        """Return the expected depth (N,) m of points (N,) at pixels of the camera's image.

        0 = to be left out.
        """
        import torch

        graph = PointGraph.of(image, *framing.places(rows, columns), depth)
        with torch.inference_mode():
            wrong = self.network(graph.to("cpu")).sigmoid().numpy()
        found = np.where(wrong < LEAST, depth, depth * np.exp(wrong * graph.expected))
        return np.where(wrong < CERTAIN, found, np.float32(0))
