# SPDX-License-Identifier: Apache-2.0
"""Leaves out points that a trained network (`networks.outliers`) takes to be wrong."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from depth_two_stage.framing import Framing
from depth_two_stage.point_graph import NEIGHBOURS, PointGraph

__all__ = ["OutlierFilter"]

#: logit from which a point is left out. At 0, as probably wrong as not, right points that nothing
#: else replaces cost more than wrong ones spoil: RMSE at 50 samples is 0.8 % higher (`nyu/val`).
LIMIT = 0.5
#: points, more of which are not asked about: each is one of many, and their time would be missed
MOST = 1000


class OutlierFilter:
    """Call it with an image of the network's input, its place and sparse depth (H, W) m, 0 = none.

    It answers with sparse depth without the wrong points. On the CPU, whatever the engine: 200
    points are too few for a GPU.
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
        wrong = self.logits(image, framing, rows, columns, sparse[rows, columns]) > LIMIT
        if not wrong.any():
            return sparse
        sparse = sparse.copy()
        sparse[rows[wrong], columns[wrong]] = 0
        return sparse

    def logits(
        self,
        image: np.ndarray,
        framing: Framing,
        rows: np.ndarray,
        columns: np.ndarray,
        depth: np.ndarray,
    ) -> np.ndarray:
        """Return the network's answer (N,) for points (N,) at pixels of the camera's image."""
        import torch

        graph = PointGraph.of(image, *framing.places(rows, columns), depth)
        with torch.inference_mode():
            return self.network(graph.to("cpu")).numpy()
