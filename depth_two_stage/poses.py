# SPDX-License-Identifier: Apache-2.0
"""What a pose has to be: a rotation and a translation, T_target_source float64 (4, 4)."""

from __future__ import annotations

import numpy as np

__all__ = ["are_rigid"]


def are_rigid(T: np.ndarray) -> np.ndarray:
    """Which of the matrices float64 (..., 4, 4) are finite rigid motions, bool (...)."""
    finite = np.isfinite(T).all(axis=(-2, -1))
    T = np.where(finite[..., None, None], T, 0)
    R = T[..., :3, :3]
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(R @ np.swapaxes(R, -1, -2) - np.eye(3)).max(axis=(-2, -1))
        handed = np.linalg.det(R) > 0
    last_row = np.abs(T[..., 3, :] - (0, 0, 0, 1)).max(axis=-1)
    return finite & (off <= 1e-3) & handed & (last_row <= 1e-6)
