# SPDX-License-Identifier: Apache-2.0
"""Trajectory errors after Sturm et al., IROS 2012: absolute (ATE) and relative (RPE).

A trajectory is a list of (stamp ns, T_world_camera (4, 4)).
"""

from __future__ import annotations

import numpy as np

__all__ = ["align", "align_poses", "associate", "ate", "ate_scaled", "rpe"]

Trajectory = list[tuple[int, np.ndarray]]

ONE_PLACE = 1e-6  # m: positions whose deviation is smaller have no extent, and no scale


def associate(
    estimate: Trajectory, truth: Trajectory, max_difference: int = 20_000_000
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pair poses by nearest stamp: stamps (N,) ns, estimate (N, 4, 4), truth (N, 4, 4).

    Each pose of `truth` serves once; pairs further apart than `max_difference` ns are left out.
    """
    if not estimate or not truth:
        return np.zeros(0, np.int64), np.zeros((0, 4, 4)), np.zeros((0, 4, 4))
    a = np.array([stamp for stamp, _ in estimate], np.int64)
    b = np.array([stamp for stamp, _ in truth], np.int64)
    order = np.argsort(b, kind="stable")
    right = np.clip(np.searchsorted(b[order], a), 1, max(len(b) - 1, 1))
    candidates = np.minimum(np.stack([right - 1, right]), len(b) - 1)
    best = np.abs(b[order][candidates] - a).argmin(axis=0)
    match = order[candidates[best, np.arange(len(a))]]
    gap = np.abs(b[match] - a)
    keep, taken = [], set()
    for i in np.lexsort((np.arange(len(a)), gap)):  # closest pairs first
        if gap[i] <= max_difference and match[i] not in taken:
            taken.add(match[i])
            keep.append(i)
    keep = np.sort(np.array(keep, np.int64))
    poses = np.array([estimate[i][1] for i in keep], np.float64).reshape(-1, 4, 4)
    true = np.array([truth[match[i]][1] for i in keep], np.float64).reshape(-1, 4, 4)
    return a[keep], poses, true


def align(source: np.ndarray, target: np.ndarray, scaled: bool = False) -> np.ndarray:
    """Return T_target_source (4, 4) of least squares (Umeyama 1991): a rigid motion.

    `source` and `target` are paired points, (N, 3) metres. `scaled` makes it a similarity, whose
    upper left is scale × rotation; the points of `source` must not all be the same then.
    """
    a, b = source.mean(axis=0), target.mean(axis=0)
    u, singular, vt = np.linalg.svd((target - b).T @ (source - a))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    linear = u @ np.diag(signs) @ vt
    if scaled:
        linear *= signs @ singular / np.sum((source - a) ** 2)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = linear, b - linear @ a
    return T


def align_poses(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return T_target_source (4, 4) of paired poses (N, 4, 4), N > 0.

    Orientations tell the rotation too: positions alone do not where the camera hardly moved.
    """
    T = np.eye(4)
    u, _, vt = np.linalg.svd(
        np.sum(target[:, :3, :3] @ source[:, :3, :3].transpose(0, 2, 1), axis=0)
    )
    T[:3, :3] = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    T[:3, 3] = (target[:, :3, 3] - source[:, :3, 3] @ T[:3, :3].T).mean(axis=0)
    return T


def ate(estimate: np.ndarray, truth: np.ndarray, aligned: bool = True) -> float | None:
    """Return the root mean square distance of paired positions (N, 4, 4), metres; None if N = 0.

    `aligned` first moves the estimate rigidly onto the truth (SE(3), no scale); otherwise both must
    stand in the same world.
    """
    if len(estimate) == 0:
        return None
    a, b = estimate[:, :3, 3], truth[:, :3, 3]
    return _distance(a, b, align(a, b) if aligned else np.eye(4))


def ate_scaled(estimate: np.ndarray, truth: np.ndarray) -> tuple[float, float] | None:
    """Return `ate` after the best similarity (Sim(3)), metres, and that similarity's scale.

    The estimate is that much too small. None where either has stayed at one place (or N < 2): any
    scale fits then, or none does.
    """
    if len(estimate) == 0:
        return None
    a, b = estimate[:, :3, 3], truth[:, :3, 3]
    if min(np.linalg.norm(points.std(axis=0)) for points in (a, b)) < ONE_PLACE:
        return None
    T = align(a, b, scaled=True)
    return _distance(a, b, T), float(np.cbrt(np.linalg.det(T[:3, :3])))


def _distance(a: np.ndarray, b: np.ndarray, T_b_a: np.ndarray) -> float:
    """Root mean square distance of paired points (N, 3), the first moved."""
    moved = a @ T_b_a[:3, :3].T + T_b_a[:3, 3]
    return float(np.sqrt(np.mean(np.sum((moved - b) ** 2, axis=1))))


def rpe(
    estimate: np.ndarray, truth: np.ndarray, stamps: np.ndarray, delta: int | float = 1
) -> tuple[float, float] | None:
    """Return the root mean square drift: translation (metres), rotation (degrees).

    `delta` an int is a number of frames, a float is seconds (each pose with the first one at least
    so much later). None if no pair is so far apart.
    """
    first = np.arange(len(stamps))
    if isinstance(delta, float):
        second = np.searchsorted(stamps, stamps + np.int64(round(delta * 1e9)))
    else:
        second = first + delta
    first, second = first[second < len(stamps)], second[second < len(stamps)]
    if len(first) == 0:
        return None
    motion = np.linalg.inv(estimate[first]) @ estimate[second]
    true = np.linalg.inv(truth[first]) @ truth[second]
    error = np.linalg.inv(true) @ motion
    R = error[:, :3, :3]
    vee = np.stack([R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]])
    angle = np.arctan2(np.linalg.norm(vee, axis=0), np.trace(R, axis1=1, axis2=2) - 1)
    translation = np.linalg.norm(error[:, :3, 3], axis=1)
    rms = [float(np.sqrt(np.mean(values**2))) for values in (translation, np.degrees(angle))]
    return rms[0], rms[1]
