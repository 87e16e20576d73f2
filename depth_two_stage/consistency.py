# SPDX-License-Identifier: Apache-2.0
"""How steady depth is from frame to frame: its scale, and one frame's depth in the next view."""

from __future__ import annotations

import numpy as np

from depth_two_stage.datasets import Sample

__all__ = ["Consistency", "median_ratio"]

WARPED = ("refined", "linear")  # compared on the same pixels


def median_ratio(a: np.ndarray, b: np.ndarray) -> float | None:
    """Return the median of a / b over the pixels where both (H, W) m have depth, or None."""
    both = (a > 0) & (b > 0)
    return float(np.median(a[both].astype(np.float64) / b[both])) if both.any() else None


class Consistency:
    """Gathers the depths of a recording's frames in their order.

    Scale: the standard deviation over frames of the median ratio of depth to truth, of every
    method. Motion: the depth of the frame before, moved by the true motion into the present view
    (each pixel's point by itself, the nearest in a pixel stands before others), against the present
    depth: the mean of |difference| / present depth, of refined and linear depth on the pixels where
    both have both. What moves in the scene, and what one view hides, counts in either.
    """

    def __init__(self) -> None:
        self.ratios: dict[str, list[float]] = {}
        self.differences: list[dict[str, float]] = []
        self.unposed = 0
        self._before: tuple[int, Sample, dict[str, np.ndarray]] | None = None

    def add(
        self, index: int, sample: Sample, depths: dict[str, np.ndarray], truth: np.ndarray | None
    ) -> None:
        """Add the frame at a position of the recording: depths and truth (H, W) m, 0 = none."""
        for name, depth in depths.items() if truth is not None else ():
            ratio = median_ratio(depth, truth)
            if ratio is not None:
                self.ratios.setdefault(name, []).append(ratio)
        if sample.T_world_camera is None:
            self.unposed += 1
            self._before = None
            return
        depths = {name: depths[name] for name in WARPED if name in depths}
        if self._before is not None and self._before[0] == index - 1:
            found = differences(*self._before[1:], sample, depths)
            if found:
                self.differences.append(found)
        self._before = index, sample, depths

    def result(self) -> dict:
        """Return the figures; ValueError where no two consecutive frames have poses.

        `ratio_mean` and `ratio_std` by method, `warped_rel` of refined and linear depth and their
        ratio `refined_to_linear` (None without points), averaged over `pairs` of frames.
        """
        if not self.differences:
            raise ValueError(
                "temporal: expected true poses of consecutive frames that see the same, got none "
                f"({self.unposed} frames without pose)"
            )
        warped = {
            name: float(np.mean([d[name] for d in self.differences if name in d]))
            for name in WARPED
            if any(name in d for d in self.differences)
        }
        ratio = warped["refined"] / warped["linear"] if warped.get("linear") else None
        return {
            "pairs": len(self.differences),
            "frames_without_pose": self.unposed,
            "ratio_mean": {name: float(np.mean(r)) for name, r in self.ratios.items()},
            "ratio_std": {name: float(np.std(r)) for name, r in self.ratios.items()},
            "warped_rel": warped,
            "refined_to_linear": ratio,
        }


def differences(
    before: Sample, old: dict[str, np.ndarray], sample: Sample, new: dict[str, np.ndarray]
) -> dict[str, float]:
    """Return each method's mean |warped - present| / present on the pixels that all have.

    Empty where there is no such pixel.
    """
    T = np.linalg.inv(sample.T_world_camera) @ before.T_world_camera
    shared, warped = np.ones(sample.camera.size, bool), {}
    for name in new.keys() & old.keys():
        points = before.camera.backproject(old[name])[old[name] > 0]
        warped[name] = sample.camera.project(points, T)
        shared &= (warped[name] > 0) & (new[name] > 0)
    if not shared.any():
        return {}
    return {
        name: float(np.mean(np.abs(moved - new[name])[shared] / new[name][shared]))
        for name, moved in warped.items()
    }
