# SPDX-License-Identifier: Apache-2.0
"""Stamps that belong together, and the pose at a stamp between two measured ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: TUM's own associate.py: colour and depth within 20 ms show the same moment.
MAX_DIFFERENCE_NS = 20_000_000
#: Motion capture runs at 100 Hz; over a longer gap than this a straight motion is a guess.
MAX_GAP_NS = 100_000_000


def pairs(
    first: Sequence[int], second: Sequence[int], max_difference: int = MAX_DIFFERENCE_NS
) -> list[tuple[int, int]]:
    """Pair stamps (ns) by nearest time, each used once, closest pairs first: (i, j) by i."""
    if not len(first) or not len(second):
        return []
    a, b = np.asarray(first, np.int64), np.asarray(second, np.int64)
    order = np.argsort(b, kind="stable")
    place = np.searchsorted(b[order], a)
    rows, columns, gaps = [], [], []
    for side in (-2, -1, 0, 1):  # the nearest may be taken by another, then the next serves
        at = place + side
        inside = (at >= 0) & (at < len(b))
        rows.append(np.flatnonzero(inside))
        columns.append(order[at[inside]])
        gaps.append(np.abs(b[columns[-1]] - a[rows[-1]]))
    rows, columns, gaps = (np.concatenate(x) for x in (rows, columns, gaps))
    near = gaps <= max_difference
    rows, columns, gaps = rows[near], columns[near], gaps[near]
    found, used_a, used_b = [], set(), set()
    for k in np.lexsort((rows, gaps)):
        i, j = int(rows[k]), int(columns[k])
        if i not in used_a and j not in used_b:
            used_a.add(i)
            used_b.add(j)
            found.append((i, j))
    return sorted(found)


def interpolate(
    stamps: Sequence[int],
    trajectory: Sequence[tuple[int, np.ndarray]],
    max_gap: int = MAX_GAP_NS,
) -> list[np.ndarray | None]:
    """Poses (4, 4) at stamps (ns): position linear, rotation slerp, between two measured poses.

    None before the first and after the last pose, and where the two are over ``max_gap`` ns apart.
    """
    from scipy.spatial.transform import Rotation, Slerp

    # Recordings repeat stamps at times; the first of equal ones is kept, as Slerp wants.
    known = dict(reversed(trajectory))
    if not known or not len(stamps):
        return [None] * len(stamps)
    times = np.array(sorted(known), np.int64)
    poses = np.array([known[int(t)] for t in times])
    wanted = np.asarray(stamps, np.int64)
    after = np.searchsorted(times, wanted)
    exact = (after < len(times)) & (times[np.minimum(after, len(times) - 1)] == wanted)
    usable = (after > 0) & (after < len(times))
    low, high = np.clip(after - 1, 0, None), np.clip(after, None, len(times) - 1)
    usable &= times[high] - times[low] <= max_gap
    out: list[np.ndarray | None] = [None] * len(stamps)
    for i in np.flatnonzero(exact):
        out[i] = poses[after[i]].astype(np.float64)
    between = np.flatnonzero(usable & ~exact)
    if len(between):
        start = times[0]  # seconds from the first pose: nanoseconds fit a double there
        slerp = Slerp((times - start) * 1e-9, Rotation.from_matrix(poses[:, :3, :3]))
        turned = slerp((wanted[between] - start) * 1e-9).as_matrix()
        a, b = low[between], high[between]
        share = (wanted[between] - times[a]) / (times[b] - times[a])
        moved = poses[a, :3, 3] + share[:, None] * (poses[b, :3, 3] - poses[a, :3, 3])
        for k, i in enumerate(between):
            T = np.eye(4)
            T[:3, :3], T[:3, 3] = turned[k], moved[k]
            out[i] = T
    return out
