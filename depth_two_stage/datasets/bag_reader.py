# SPDX-License-Identifier: Apache-2.0
"""Serialised messages of a rosbag2 (sqlite3 or MCAP, folder or file), without ROS.

A bag whose end is missing (a full disk, a killed recorder) is read as far as it goes; what was
lost is said by ``RawBag.problem``.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from depth_two_stage.datasets.bag_mending import mend

_SUFFIXES = (".mcap", ".db3")
_ZSTD = b"\x28\xb5\x2f\xfd"  # magic of a compressed message; a serialised one begins with a zero


class BagError(ValueError):
    """A path that is no bag, or a bag of which nothing can be read."""


@dataclass(frozen=True)
class Topic:
    """A recorded topic: name, ROS type, messages, and the QoS profiles that were offered."""

    name: str
    type: str
    count: int
    qos: tuple


class RawBag:
    """A rosbag2 as a stream of (topic, time of recording in ns, serialised message).

    Use as a context manager. ``topics`` are those found; ``start`` and ``end`` are in ns;
    ``problem`` is None or one line that says what could not be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.problem: str | None = None
        self.topics: dict[str, Topic] = {}
        self.start, self.end = 2**63 - 1, 0
        self._readers: list = []
        self._temporary = tempfile.TemporaryDirectory(prefix="depth_two_stage_bag_")

    def __enter__(self) -> RawBag:
        """Open the bag; a damaged one file by file."""
        try:
            self._open()
        except BaseException:
            self._temporary.cleanup()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the bag."""
        for reader in self._readers:
            reader.close()
        self._temporary.cleanup()

    def _open(self) -> None:
        from rosbags.rosbag2 import Reader, ReaderError

        if not self.path.exists():
            raise BagError(f"bag: expected a rosbag2 folder or file, got no such path {self.path}")
        if self.path.suffix == ".bag":
            self._open_ros1()
            return
        broken = (ReaderError, OSError, AssertionError, ValueError, TypeError, *_storage_errors())
        try:
            self._add(Reader(self.path))
            return
        except broken as error:
            problem = " ".join(str(error).split()) or type(error).__name__
        for file in _storage_files(self.path):
            try:
                self._add(Reader(file))
            except broken:
                with suppress(*broken):
                    self._add(Reader(mend(file, Path(self._temporary.name))))
        if not self._readers:
            raise BagError(f"bag: expected a readable rosbag2, got {self.path}: {problem}")
        self.problem = f"{self.path}: damaged bag, only the readable part was used ({problem})"

    def _open_ros1(self) -> None:
        from rosbags.rosbag1 import ReaderError

        from .bag_ros1 import Ros1Reader

        try:
            self._add(Ros1Reader(self.path))
        except (ReaderError, *_storage_errors()) as error:
            raise BagError(
                f"bag: expected a readable ROS 1 bag, got {self.path}: {error} "
                "(rosbag reindex mends a bag whose recording was cut off)"
            ) from error

    def _add(self, reader) -> None:
        reader.open()
        self._readers.append(reader)
        for connection in reader.connections:
            known = self.topics.get(connection.topic)
            self.topics[connection.topic] = Topic(
                connection.topic,
                connection.msgtype,
                connection.msgcount + (known.count if known else 0),
                tuple(connection.ext.offered_qos_profiles),
            )
        if reader.message_count:
            self.start = min(self.start, reader.start_time)
            self.end = max(self.end, reader.end_time)

    def messages(
        self, topics: Collection[str] = (), start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[str, int, bytes]]:
        """(topic, time ns, serialised message) in the order of recording; () means all topics.

        Only those with start ≤ time < stop, where given. A bag that breaks in the middle ends
        there, and ``problem`` says so.
        """
        from rosbags.rosbag2 import ReaderError

        for reader in self._readers:
            wanted = [c for c in reader.connections if not topics or c.topic in topics]
            if not wanted:
                continue
            try:
                for connection, time, raw in _ordered(reader, wanted, start, stop):
                    yield connection.topic, time, _decompressed(raw)
            except (ReaderError, *_storage_errors()) as error:
                reason = " ".join(str(error).split())
                self.problem = f"{self.path}: damaged bag, stopped where it breaks ({reason})"


def _storage_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)


def _ordered(reader, connections, start, stop):
    """Messages of an indexed bag; of one without index in the order in which they were written."""
    storage = reader.storage
    if hasattr(storage, "messages_scan") and not storage.chunks:
        return storage.messages_scan(connections, start, stop)
    return reader.messages(connections, start, stop)


def _decompressed(raw) -> bytes:
    """A message as it was sent: without its metadata a bag does not say that it compressed each."""
    return _zstd().decompress(raw) if raw[:4] == _ZSTD else bytes(raw)


def _zstd():
    import sys

    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _storage_errors() -> tuple[type[Exception], ...]:
    """What the storage libraries raise on damaged data."""
    import sqlite3

    import apsw

    return apsw.Error, sqlite3.Error, _zstd().ZstdError, struct.error, EOFError
