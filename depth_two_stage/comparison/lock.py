# SPDX-License-Identifier: Apache-2.0
"""One process a row: several may work on the same comparison."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


class RowTaken(RuntimeError):
    """A row that another process is training in the same folder."""


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a row's folder; raises `RowTaken` while another process does, also one that dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RowTaken(f"{folder}: left to the process that is training it") from error
        yield  # closing the file, or the process's end, gives it back
