# SPDX-License-Identifier: Apache-2.0
"""Boundary error: how far the depth edges of an answer lie from the true ones, in pixels."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["CAP", "JUMP", "BoundaryErrors", "TrueEdges", "edges"]

JUMP = 0.10  # relative step between neighbours that is an edge
CAP = 10.0  # pixels of an image 640 pixels wide
WIDTH = 640
REDUCED = "_160"  # ending of the figures of reduced images


def edges(depth: np.ndarray) -> np.ndarray:
    """Return the edge pixels of depth (H, W) m, 0 = none: bool (H, W).

    An edge stands where of two neighbours in a row or column, both with depth, one is more than
    10 % deeper; its pixel is the nearer one, to whose surface the contour belongs.
    """
    found = np.zeros(depth.shape, bool)
    for turned, edge in ((depth, found), (depth.T, found.T)):
        a, b = turned[:-1], turned[1:]
        limit = np.float32(1 + JUMP)
        edge[:-1] |= (a > 0) & (b > limit * a)
        edge[1:] |= (b > 0) & (a > limit * b)
    return found


class TrueEdges:
    """The edges of a truth (H, W) m, 0 = none; `width` is the pixels of the whole image across.

    The depth boundary errors of T. Koch, L. Liebel, F. Fraundorfer, M. Körner, Evaluation of
    CNN-based Single-Image Depth Estimation Methods (ECCV workshops 2018): accuracy is the mean
    distance from the answer's edges to the nearest true one, completeness that from the true edges
    to the nearest of the answer. Distances are pixels of an image 640 pixels wide, at most 10.

    What differs: their edges are marked by hand and found by Canny's method, here both are jumps
    of depth; they leave out edges of the answer that are farther than 10 pixels from all true
    ones, here those count 10, so that invented edges cost. An answer's edge that lies nearer to
    pixels without truth than to a true edge (and within 10) is left out: its own may lie there.
    """

    def __init__(self, truth: np.ndarray, width: float) -> None:
        self.scale = WIDTH / width
        self.edges = edges(truth)
        self.any = bool(self.edges.any())
        if self.any:
            self.distance = self._distance(self.edges)
            hole = self._distance(truth <= 0)
            self.judged = (truth > 0) & ((self.distance <= hole) | (hole >= CAP))

    def compare(self, depth: np.ndarray) -> tuple[float, float]:
        """Return accuracy and completeness of depth (H, W) m, 0 = none, against `any` edges.

        Without an edge both are 10; accuracy is NaN where none can be judged.
        """
        found = edges(depth)
        if not found.any():
            return CAP, CAP
        judged = self.distance[found & self.judged]
        accuracy = float(judged.mean()) if judged.size else float("nan")
        return accuracy, float(self._distance(found)[self.edges].mean())

    def _distance(self, marked: np.ndarray) -> np.ndarray:
        """Return the distance (H, W) to the nearest marked pixel, capped."""
        if not marked.any():  # OpenCV has no distance then
            return np.full(marked.shape, CAP, np.float32)
        away = cv2.distanceTransform((~marked).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return np.minimum(away * np.float32(self.scale), np.float32(CAP))


class BoundaryErrors:
    """Gathers the boundary errors of several methods over images, between pixels of two distances.

    Besides neighbours: pixels a 160th of the image's width apart, of images reduced to every such
    pixel. An answer enlarged from a small network's output has its jumps there, and none of 10 %
    between neighbours.
    """

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], list[tuple[float, float]]] = {}
        self.without_edges = dict.fromkeys(("", REDUCED), 0)

    def add(self, depths: dict[str, np.ndarray], truth: np.ndarray, width: int) -> None:
        """Add an image: the methods' depths and the truth (H, W) m, 0 = none.

        `width` is the pixels of the whole image across, of which these may be a part.
        """
        for ending, step in (("", 1), (REDUCED, max(1, round(width / 160)))):
            true = TrueEdges(truth[::step, ::step], width / step)
            if not true.any:
                self.without_edges[ending] += 1
                continue
            for name, depth in depths.items():
                found = true.compare(depth[::step, ::step])
                self.values.setdefault((name, ending), []).append(found)

    def result(self, name: str) -> dict:
        """Return the means over the images with edges, of one method; None without any.

        `dbe_acc` and `dbe_comp` in pixels of an image 640 wide, `edge_images` averaged, and the
        images `without_edges` left out; the same with the ending `_160` of reduced images.
        """
        result = {}
        for ending, without in self.without_edges.items():
            values = np.array(self.values.get((name, ending), ())).reshape(-1, 2)
            judged = values[np.isfinite(values[:, 0]), 0]
            result |= {
                f"dbe_acc{ending}": float(judged.mean()) if len(judged) else None,
                f"dbe_comp{ending}": float(values[:, 1].mean()) if len(values) else None,
                f"edge_images{ending}": len(values),
                f"without_edges{ending}": without,
            }
        return result
