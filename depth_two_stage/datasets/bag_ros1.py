# SPDX-License-Identifier: Apache-2.0
"""ROS 1 bags read as if they were rosbag2: the same messages, re-serialised as ROS 2 has them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from .bag_messages import typestore


@lru_cache(maxsize=1)
def ros1_typestore() -> Any:
    """Message types of ROS 1; rosbags' own lack tf2's."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    tf = "geometry_msgs/TransformStamped[] transforms"
    store.register(get_types_from_msg(tf, "tf2_msgs/msg/TFMessage"))
    return store


class Ros1Reader:
    """What `RawBag` asks of a reader, over a ROS 1 bag.

    Topics of a type that ROS 2 does not ship are left out.
    """

    def __init__(self, path: Path) -> None:
        from rosbags.rosbag1 import Reader

        self._reader = Reader(path)
        self._store = ros1_typestore()
        self._cache: dict[str, Any] = {}
        self.storage = None

    def open(self) -> None:
        """Read the bag's index."""
        self._reader.open()
        known = self._store.types.keys() & typestore().types.keys()
        self._connections = {c.id: c for c in self._reader.connections if c.msgtype in known}

    def close(self) -> None:
        """Close the bag."""
        self._reader.close()

    @property
    def connections(self) -> list[Any]:
        """Connections as a rosbag2 has them; ROS 1 knows no QoS but latching."""
        from rosbags.interfaces import ConnectionExtRosbag2

        ext = ConnectionExtRosbag2(serialization_format="cdr", offered_qos_profiles=[])
        return [c._replace(ext=ext) for c in self._connections.values()]

    @property
    def message_count(self) -> int:
        """Messages of all topics that can be read."""
        return sum(c.msgcount for c in self._connections.values())

    @property
    def start_time(self) -> int:
        """Time of the first message, ns."""
        return self._reader.start_time

    @property
    def end_time(self) -> int:
        """Time after the last message, ns."""
        return self._reader.end_time

    def messages(
        self, connections: Collection[Any], start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[Any, int, bytes]]:
        """(connection, time ns, CDR bytes) of the given connections, start ≤ time < stop."""
        from rosbags.convert.converter import migrate_bytes

        wanted = {c.id: c for c in connections}
        sources = [self._connections[i] for i in wanted]
        for source, time, raw in self._reader.messages(sources, start, stop):
            name = source.msgtype
            data = migrate_bytes(
                self._store, typestore(), name, name, self._cache, raw, src_is2=False, dst_is2=True
            )
            yield wanted[source.id], time, bytes(data)
