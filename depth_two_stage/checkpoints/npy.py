# SPDX-License-Identifier: Apache-2.0
"""TensorFlow weights in a .npy: a pickled dict {layer: {parameter: array}}, Python 2's or 3's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .restricted import BROKEN, CheckpointFileError, array, loads

__all__ = ["MAGIC", "read_npy"]

MAGIC = b"\x93NUMPY"


def read_npy(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a pickled dict of dicts as ``layer/parameter``; the pickle runs nothing."""
    wanted = "expected a pickled dict {layer: {parameter: array}}"
    with path.open("rb") as file:
        try:
            # Before the pickle stands NumPy's header: one object in an array of no dimensions.
            headed = file.read(len(MAGIC)) == MAGIC
            file.seek(0)
            if headed:
                _skip_header(file)
            content = array(loads(file))
        except BROKEN as error:
            raise CheckpointFileError(f"{path}: {wanted}, got {_line(error)}") from error
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if not isinstance(content, dict):
        raise CheckpointFileError(f"{path}: {wanted}, got {type(content).__name__}")
    found: dict[str, np.ndarray] = {}
    for layer, parameters in content.items():
        if not isinstance(parameters, dict):
            got = type(parameters).__name__
            raise CheckpointFileError(f"{path}: {wanted}, got {got} in {_text(layer)!r}")
        for name, value in parameters.items():
            value = array(value)
            if not isinstance(value, np.ndarray):
                got = f"{type(value).__name__} in {_text(layer)}/{_text(name)}"
                raise CheckpointFileError(f"{path}: {wanted}, got {got}")
            found[f"{_text(layer)}/{_text(name)}"] = value
    return found


def _skip_header(file: Any) -> None:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"NumPy format {version}")
    _, _, dtype = read(file)
    if not dtype.hasobject:
        raise ValueError(f"an array of {dtype} without names")


def _text(name: Any) -> str:
    return name.decode("latin1") if isinstance(name, bytes) else str(name)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
