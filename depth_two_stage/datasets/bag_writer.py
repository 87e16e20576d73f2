# SPDX-License-Identifier: Apache-2.0
"""Writes a rosbag2: MCAP with zstd, metadata version 8, without ROS. All of it or nothing."""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from depth_two_stage.datasets import DatasetError
from depth_two_stage.datasets.bag_messages import typestore

#: zstd's level: 19 saves 10 % over the default 3 and costs some seconds a bag.
LEVEL = 19


class BagWriter:
    """A new rosbag2 folder; a context manager.

    The bag is written beside its place and moved there at the end, so that a full disk or an
    interruption leaves no half bag behind. ``latched`` topics offer transient local durability.
    """

    def __init__(self, path: str | Path, about: dict[str, str], latched: tuple[str, ...]) -> None:
        self.path = Path(path)
        self.about = about
        self.latched = latched
        self._connections: dict[str, Any] = {}
        if self.path.exists():
            raise DatasetError(f"output: expected a path that does not exist, got {self.path}")

    def __enter__(self) -> BagWriter:
        """Open the bag under a temporary name."""
        from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=folder))
        except OSError as error:
            raise DatasetError(
                f"output: expected a place that can be written, got {self.path}: {error.strerror}"
            ) from error
        try:
            writer = Writer(
                self._folder / self.path.name, version=8, storage_plugin=StoragePlugin.MCAP
            )
            writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            for key, value in self.about.items():
                writer.set_custom_data(key, value)
            writer.open()
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        writer.storage.compressor = _compressor()
        self._writer = writer
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Finish the bag and move it to its place; after an error, remove it."""
        try:
            if error is None:
                self._writer.close()
                (self._folder / self.path.name).rename(self.path)
            else:
                self._writer.abort()
        except OSError as late:
            error = late
        finally:
            shutil.rmtree(self._folder)
        if isinstance(error, OSError):
            raise DatasetError(
                f"output: expected room for the bag {self.path}, got {error.strerror}"
            ) from error

    def write(self, topic: str, time: int, message: Any) -> None:
        """Append a message, recorded at ``time`` ns."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic,
                message.__msgtype__,
                typestore=typestore(),
                offered_qos_profiles=[
                    offered_qos(1, durability="TRANSIENT_LOCAL")
                    if topic in self.latched
                    else offered_qos(10)
                ],
            )
        data = typestore().serialize_cdr(message, message.__msgtype__)
        self._writer.write(self._connections[topic], time, data)


def _compressor() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return partial(zstd.compress, level=LEVEL)


def offered_qos(depth: int, reliability: str = "RELIABLE", durability: str = "VOLATILE") -> Any:
    """An offered profile by ROS's names, keeping the last ``depth`` messages."""
    from rosbags.interfaces import (
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )

    forever = QosTime(2147483647, 4294967295)
    return Qos(
        QosHistory.KEEP_LAST,
        depth,
        QosReliability[reliability],
        QosDurability[durability],
        forever,
        forever,
        QosLiveliness.AUTOMATIC,
        forever,
        False,
    )
