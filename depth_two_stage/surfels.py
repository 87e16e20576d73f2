# SPDX-License-Identifier: Apache-2.0
"""SurfelMap: point-based fusion of depth images, the map of paper E's SLAM demonstration.

After Keller et al., "Real-time 3D Reconstruction in Dynamic Scenes using Point-based Fusion", 3DV
2013; offline only. The same two verbs as `tsdf.TsdfMap`: integrate, extract. A surfel has position,
normal, radius, colour, confidence (the sum of its samples' alpha) and the frame that met it last.
It is unstable until its confidence reaches c_stable (section 3). Where the paper leaves a choice
open, the comment at the choice says what was taken. Section 5 (what moves is segmented by the
residuals of the paper's own ICP) is not here: poses are given, so there are none; what moved is
removed as section 4.4 has it. The paper's text was not at hand: sections and equations are cited
from memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depth_two_stage.camera import Camera
from depth_two_stage.config import SurfelParameters, TsdfParameters
from depth_two_stage.map_file import MapError
from depth_two_stage.surfel_frames import Samples, samples
from depth_two_stage.surfel_index import (
    Projected,
    ahead,
    associate,
    index_map,
    project,
    tolerance,
)
from depth_two_stage.surfel_store import SURFEL_BYTES, SurfelStore
from depth_two_stage.tsdf import check_pose, checked_images

__all__ = ["MapError", "SurfelCloud", "SurfelMap"]

#: δ_r (section 4.2): a sample whose radius is larger by more sees less detail, and moves nothing.
MAX_GROWTH = 0.5


@dataclass(frozen=True)
class SurfelCloud:
    """What was extracted, world: points, normals (N, 3), radii, confidence (N,), colors (N, 3).

    Metres and float32, colours uint8.
    """

    points: np.ndarray
    normals: np.ndarray
    colors: np.ndarray
    radii: np.ndarray
    confidence: np.ndarray


class SurfelMap:
    """``SurfelMap(parameters, surfels)``: config's tsdf group gives range and memory bound.

    The same frames in the same order give the same map, bit for bit.
    """

    def __init__(
        self, parameters: TsdfParameters | None = None, surfels: SurfelParameters | None = None
    ) -> None:
        self.parameters = parameters or TsdfParameters()
        self.surfel_parameters = surfels or SurfelParameters()
        self.store = SurfelStore(int(self.parameters.memory_mb * 1e6) // SURFEL_BYTES)
        self.clear()

    def integrate(
        self,
        depth: np.ndarray,
        rgb: np.ndarray,
        camera: Camera,
        T_world_camera: np.ndarray,
        weight: np.ndarray | None = None,
    ) -> int:
        """Fuse depth float32 (H, W) m (0 = none), rgb uint8 (H, W, 3) → surfels met and added.

        ``weight`` float32 (H, W) in 0…1 is the confidence (None: 1), by which alpha is multiplied
        (ours: the paper's knows only the place in the image). Pixels of weight 0, depths outside
        ``min_range … max_range`` and pixels without a normal (at edges) change nothing.
        MapError where shapes, types or the pose are not so.
        """
        T = check_pose("T_world_camera", T_world_camera)
        depth, rgb, weight = checked_images(depth, rgb, camera, weight)
        near, far = self.parameters.min_range, self.parameters.max_range
        depth = np.where((depth >= near) & (depth <= far), depth, np.float32(0))
        frame = samples(depth, rgb, weight, camera, T)
        if not len(frame):
            return 0
        self.frames += 1
        # 1. Data association (4.1). A thing that left hides, cell by cell, the wall behind it from
        # a camera that stands still, and the wall would be new in every frame: the depth test
        # begins at what was measured.
        T_camera_world, share = np.linalg.inv(T), self.surfel_parameters.depth_tolerance
        seen = project(self.store.positions, camera, T_camera_world)
        index = index_map(seen[~ahead(seen, frame, share)])
        rows, places = associate(
            index,
            self.store.normals,
            self.store.confidence,
            frame,
            share,
            self.surfel_parameters.normal_tolerance,
        )
        # 2. Averaging (4.2).
        self._average(index.ids[places], frame[rows])
        # 3. Removal: in free space, the same twice, unstable for long (4.4).
        kept = self._without_violations(seen, frame[rows], index.ids[places], T_camera_world)
        self._merge(index, places, kept)
        expired = kept & ~self._stable() & ~self._recent()
        self.removed["expired"] += int(np.count_nonzero(expired))
        self.store.keep(kept & ~expired)
        # 4. What nothing met is new (4.1).
        new = np.ones(len(frame), bool)
        new[rows] = False
        return len(rows) + self._add(frame[new])

    def points(self, unstable: bool = False) -> SurfelCloud:
        """The stable surfels; with ``unstable`` all."""
        chosen = slice(None) if unstable else self._stable()
        store = self.store
        return SurfelCloud(
            store.positions[chosen].copy(),
            store.normals[chosen].copy(),
            np.clip(store.colors[chosen] + np.float32(0.5), 0, 255).astype(np.uint8),
            store.radii[chosen].copy(),
            store.confidence[chosen].copy(),
        )

    def statistics(self) -> dict[str, float]:
        """Counts of surfels and frames, and megabytes (10⁶ bytes) that may be and are used."""
        return {
            "map_frames": self.frames,
            "map_surfels": len(self.store),
            "map_stable_surfels": int(np.count_nonzero(self._stable())),
            "map_capacity": self.store.capacity,
            "map_memory_mb": self.store.capacity * SURFEL_BYTES / 1e6,
            "map_used_mb": len(self.store) * SURFEL_BYTES / 1e6,
            **{f"map_{cause}_surfels": count for cause, count in self.removed.items()},
        }

    def clear(self) -> None:
        """Forget everything."""
        self.store.count = 0
        self.frames = 0
        self.removed = dict.fromkeys(("expired", "violating", "merged", "evicted", "skipped"), 0)

    def _stable(self) -> np.ndarray:
        return self.store.confidence >= self.surfel_parameters.stable_confidence

    def _recent(self) -> np.ndarray:
        """Surfels that may still be unstable (N,).

        t_max is counted from the last frame that met a surfel, because Eq. 2 renews its only stamp;
        its value is open in the paper.
        """
        return self.frames - self.store.stamps <= self.surfel_parameters.max_unstable_frames

    def _average(self, ids: np.ndarray, frame: Samples) -> None:
        """Move surfels (A,) towards their samples by confidence (Eq. 1), count them (Eq. 2)."""
        store, alpha = self.store, frame.alpha
        fine = frame.radii <= (1 + MAX_GROWTH) * store.radii[ids]
        share = np.where(fine, alpha / (store.confidence[ids] + alpha), 0).astype(np.float32)
        for values, seen in (
            (store.positions, frame.points),
            (store.normals, frame.normals),
            (store.colors, frame.colors),
        ):
            values[ids] += share[:, None] * (seen - values[ids])
        store.radii[ids] += share * (frame.radii - store.radii[ids])
        store.normals[ids] /= np.linalg.norm(store.normals[ids], axis=1, keepdims=True)
        store.confidence[ids] += alpha
        store.stamps[ids] = self.frames

    def _without_violations(
        self, seen: Projected, frame: Samples, met: np.ndarray, T_camera_world: np.ndarray
    ) -> np.ndarray:
        """A mask (N,) without the surfels that stand before a stable one just met (4.4).

        ``met`` (A,) were met by ``frame``. The neighbourhood in the index map is the pixel's own
        cells; "in front" is by more than δ_depth, open in the paper, so that no neighbour on the
        same surface is lost.
        """
        kept = np.ones(len(self.store), bool)
        stable = self.store.confidence[met] >= self.surfel_parameters.stable_confidence
        met, frame = met[stable], frame[stable]
        R, t = T_camera_world[:3, :3].astype(np.float32), T_camera_world[:3, 3].astype(np.float32)
        behind = np.einsum("ij,ij->i", self.store.positions[met] @ R.T + t, frame.rays)
        owner = seen.owners(frame.pixels)
        there = np.flatnonzero(owner >= 0)
        owner = owner[there]
        along = np.einsum("ij,ij->i", seen.points[there], frame.rays[owner])
        free = behind - tolerance(behind, self.surfel_parameters.depth_tolerance)
        kept[seen.ids[there[along < free[owner]]]] = False
        self.removed["violating"] += int(np.count_nonzero(~kept))
        return kept

    def _merge(self, index: Projected, places: np.ndarray, kept: np.ndarray) -> None:
        """Unite with a surfel just met those in its pixel that say the same (4.4).

        "The same" is open in the paper: each centre within the other's disc, normals within δ_norm.
        The smaller radius stays, so that no detail is lost. ``kept`` (N,) loses what was united.
        """
        if not len(places):
            return
        store = self.store
        owner = index.owners(index.pixels[places])
        into = index.ids[places][owner]
        others = index.ids
        same = (owner >= 0) & (into != others) & kept[others]
        others, into = others[same], into[same]
        gap = np.linalg.norm(store.positions[others] - store.positions[into], axis=1)
        cosine = np.einsum("ij,ij->i", store.normals[others], store.normals[into])
        same = gap <= np.minimum(store.radii[others], store.radii[into])
        same &= cosine >= np.cos(np.deg2rad(self.surfel_parameters.normal_tolerance))
        others, into = others[same], into[same]
        if not len(others):
            return
        targets, group = np.unique(into, return_inverse=True)
        weights = store.confidence[others]
        total = store.confidence[targets] + np.bincount(group, weights)
        for values in (store.positions, store.normals, store.colors):
            step = weights[:, None] * (values[others] - values[into])
            moved = np.stack([np.bincount(group, column) for column in step.T], axis=1)
            values[targets] += (moved / total[:, None]).astype(np.float32)
        store.normals[targets] /= np.linalg.norm(store.normals[targets], axis=1, keepdims=True)
        np.minimum.at(store.radii, into, store.radii[others])
        store.confidence[targets] = total
        kept[others] = False
        self.removed["merged"] += len(others)

    def _add(self, frame: Samples) -> int:
        """Add samples as surfels of their own → how many; the memory bound is kept."""
        capacity = self.store.capacity
        if len(frame) > capacity:  # the most confident of one frame, in the image's order
            best = np.argsort(-frame.alpha, kind="stable")[:capacity]
            self.removed["skipped"] += len(frame) - capacity
            frame = frame[np.sort(best)]
        self._make_room(len(self.store) + len(frame) - capacity)
        self.store.append(
            positions=frame.points,
            normals=frame.normals,
            colors=frame.colors,
            radii=frame.radii,
            confidence=frame.alpha,
            stamps=np.full(len(frame), self.frames, np.int32),
        )
        return len(frame)

    def _make_room(self, count: int) -> None:
        """Evict surfels: unstable ones first, of each kind those met longest ago."""
        if count <= 0:
            return
        order = np.lexsort((self.store.stamps, self._stable()))
        kept = np.ones(len(self.store), bool)
        kept[order[:count]] = False
        self.store.keep(kept)
        self.removed["evicted"] += count
