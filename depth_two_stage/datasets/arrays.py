# SPDX-License-Identifier: Apache-2.0
"""Arrays out of the containers that data sets come in: MATLAB v5, and HDF5 (MATLAB v7.3)."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from depth_two_stage.datasets import DatasetError

#: what SciPy raises on files that are cut, damaged or of another version
UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    MemoryError,
    OverflowError,
    NotImplementedError,
    zlib.error,
)


def read_mat(path: Path, key: str) -> np.ndarray:
    """One array of numbers from a MATLAB v5 file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise DatasetError(f"{path}: expected a MATLAB v5 file with {key}, got none")
    try:
        content = loadmat(path)
    except (*UNREADABLE, MatReadError) as error:
        raise DatasetError(f"{path}: expected a MATLAB v5 file with {key}, got {error}") from error
    if key not in content:
        got = ", ".join(name for name in content if not name.startswith("__")) or "nothing"
        raise DatasetError(f"{path}: expected {key}, got {got}")
    array = content[key]
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise DatasetError(f"{path}: expected {key} of numbers, got {type(array).__name__}")
    return array


def open_hdf5(path: Path, what: str):
    """Open an HDF5 file to read; use it as a context. ``what`` is its kind in errors, as ".mat"."""
    try:
        import h5py
    except ImportError as error:
        raise DatasetError(
            f"h5py: expected to be installed to read {path.name}, got no module"
        ) from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path}: expected an HDF5 {what} file, got {error}") from error
