# SPDX-License-Identifier: Apache-2.0
"""Files and folders that appear whole under their name or not at all, and whether they could be."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

__all__ = ["WriteError", "atomic_folder", "atomic_path", "atomic_write", "check_writable"]


class WriteError(OSError):
    """A file that could not be written (full disk, missing rights): "path: expected …, got …"."""


@contextmanager
def _as_write_error(path: Path, what: str) -> Iterator[None]:
    """What the file system says against ``path``, which was to be a ``what``, as `WriteError`."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        wrapped = WriteError(f"{path}: expected a writable {what}, got {error.strerror or error}")
        wrapped.errno = error.errno
        raise wrapped from error


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``, same suffix; a whole body puts it in its place.

    The content is on the disk (fsync) before it takes the name, so that a crash leaves the old
    file or the new one. A failing body leaves the old one and no temporary file. Missing folders
    are made. Errors of the file system become `WriteError`. Of a link the target is replaced; a
    device or a pipe (/dev/stdout) is written as it is.
    """
    special = os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))
    path = Path(os.path.realpath(path) if os.path.islink(path) and not special else path)
    temporary = (
        path if special else path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp{path.suffix}")
    )
    try:
        with _as_write_error(path, "file"):
            if path.is_dir():
                raise WriteError(f"{path}: expected a file name, got a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if not special:
                with open(temporary, "rb+") as file:
                    os.fsync(file.fileno())
                os.replace(temporary, path)
                _sync_folder(path.parent)
    finally:
        # On success the name is gone already; a folder without rights has nothing to remove.
        if not special and os.access(path.parent, os.W_OK | os.X_OK):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file that appears under its name only when the body has ended well."""
    encoding = None if "b" in mode else "utf-8"
    with atomic_path(path) as temporary, open(temporary, mode, encoding=encoding) as file:
        yield file


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; a whole body makes it ``path``, else it is removed.

    A folder with files in it is not replaced: refused before the body. Files that are to survive a
    crash are written by `atomic_write`. Errors of the file system become `WriteError`.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        if path.is_dir() and any(path.iterdir()):
            raise WriteError(f"{path}: expected a new or an empty folder, got one with files")
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except WriteError:
        raise
    except OSError as error:
        wrapped = WriteError(f"{path}: expected a writable folder, got {error.strerror or error}")
        wrapped.errno = error.errno
        raise wrapped from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # on success the name is gone already


def check_writable(path: str | Path | None, folder: bool = False) -> None:
    """Refuse, before long work, a result file (or ``folder``) that could not be written later.

    Nothing is made: the nearest folder that exists must take a nameless file. None passes.
    """
    if path is None:
        return
    what = "folder" if folder else "file"
    path = Path(os.path.realpath(path))
    with _as_write_error(path, what):
        if _is_there(path):
            if path.is_dir() != folder:
                got = "a folder" if path.is_dir() else "a file"
                raise WriteError(f"{path}: expected a writable {what}, got {got}")
            if not folder and not path.is_file():  # a device or a pipe is written as it is
                if not os.access(path, os.W_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                return
        there = path if folder else path.parent
        while not _is_there(there):
            there = there.parent
        with tempfile.TemporaryFile(dir=there):
            pass


def _is_there(path: Path) -> bool:
    # Not Path.exists, which is False for a name too long or behind a file, too.
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
