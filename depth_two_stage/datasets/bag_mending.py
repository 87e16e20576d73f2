# SPDX-License-Identifier: Apache-2.0
"""Readable copies of bag files whose end is missing (a full disk, a killed recorder)."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from contextlib import closing, suppress
from pathlib import Path

_MAGIC = b"\x89MCAP0\r\n"
_FOOTER = b"\x02" + struct.pack("<Q", 20) + bytes(20)  # "there is no index"
_ENDS = (0x02, 0x0F)  # MCAP footer and end of data: behind them there are no messages
_MAX_TABLES = 16


def mend(damaged: Path, folder: Path) -> Path:
    """A copy in ``folder`` of all that is whole in an .mcap or .db3 file."""
    copy = folder / damaged.name
    (_mend_sqlite3 if damaged.suffix == ".db3" else _mend_mcap)(damaged, copy)
    return copy


def _mend_mcap(damaged: Path, copy: Path) -> None:
    """Copy the whole records and close them with an empty footer."""
    size, at = damaged.stat().st_size, len(_MAGIC)
    with damaged.open("rb") as source, copy.open("wb") as target:
        while at + 9 <= size:
            source.seek(at)
            operation, length = struct.unpack("<BQ", source.read(9))
            if operation in _ENDS or at + 9 + length > size:
                break
            at += 9 + length
        source.seek(0)
        _copy(source, target, at)
        target.write(_FOOTER + _MAGIC)


def _copy(source, target, size: int) -> None:
    while size > 0 and (block := source.read(min(size, 1 << 20))):
        target.write(block)
        size -= len(block)


def _mend_sqlite3(damaged: Path, copy: Path) -> None:
    """Copy all rows up to the first missing page into a new database of the same tables."""
    cut = copy.with_suffix(".cut")
    shutil.copyfile(damaged, cut)
    with cut.open("r+b") as file:
        head = file.read(100)
        page = int.from_bytes(head[16:18], "big") if len(head) == 100 else 0
        page = 65536 if page == 1 else page
        if page < 512:
            return
        pages = damaged.stat().st_size // page
        file.truncate(pages * page)
        file.seek(28)
        file.write(pages.to_bytes(4, "big"))  # else SQLite refuses a file that is too short
    with (
        closing(sqlite3.connect(f"file:{cut}?immutable=1", uri=True)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        tables = source.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
        for name, statement in tables.fetchmany(_MAX_TABLES):
            target.execute(statement)
            with suppress(sqlite3.DatabaseError):
                for row in source.execute(f'SELECT * FROM "{name}"'):
                    target.execute(f'INSERT INTO "{name}" VALUES ({",".join("?" * len(row))})', row)
        target.commit()
    cut.unlink()
