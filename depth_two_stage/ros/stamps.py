# SPDX-License-Identifier: Apache-2.0
"""Header stamps inside serialised messages (CDR): read and rewritten in place, without decoding."""

from __future__ import annotations

import importlib
import struct
import time
from collections import OrderedDict

from ..datasets.bag_messages import decoded, typestore

TRANSFORMS = "tf2_msgs/msg/TFMessage"
SECOND = 1_000_000_000
_STAMP_AT = 4  # behind the four bytes of the CDR encapsulation header
_REMEMBERED = 4096  # recent stamps: messages that belong together must stay together


def message_class(type_name: str) -> type | None:
    """The Python class of a ROS type such as ``sensor_msgs/msg/Image``; None if not installed."""
    package, _, name = type_name.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name, None)
    except ImportError:
        return None


def starts_with_header(cls: type) -> bool:
    """Whether the first field is a std_msgs/Header, so that its stamp has a known place."""
    fields = list(cls.get_fields_and_field_types().values())
    return bool(fields) and fields[0] == "std_msgs/Header"


def _layout(raw: bytes) -> str:
    """Byte order of a CDR message: the second byte of its encapsulation header says it."""
    return "<iI" if raw[1] & 1 else ">iI"


def read_stamp(raw: bytes) -> int:
    """Stamp (ns) of a serialised message that starts with a header."""
    if len(raw) < _STAMP_AT + 8:
        raise ValueError(f"serialised message: expected at least 12 bytes, got {len(raw)}")
    seconds, nanoseconds = struct.unpack_from(_layout(raw), raw, _STAMP_AT)
    return seconds * SECOND + nanoseconds


def write_stamp(raw: bytes, stamp: int) -> bytes:
    """The serialised message with another header stamp (ns)."""
    changed = bytearray(raw)
    struct.pack_into(_layout(raw), changed, _STAMP_AT, stamp // SECOND, stamp % SECOND)
    return bytes(changed)


class StampShift:
    """Moves recorded stamps in time: forward by ``offset`` ns, or into the present.

    Messages with equal recorded stamps (an image and its camera_info) keep equal stamps, whenever
    they are sent. A stamp of zero means "none" and stays.
    """

    def __init__(self) -> None:
        self.offset = 0
        self._known: OrderedDict[int, int] = OrderedDict()

    def new_lap(self, offset: int) -> None:
        """Start another pass through the bag, ``offset`` ns later than recorded."""
        self.offset = offset
        self._known.clear()

    def anchor_to_present(self, recorded: int) -> None:
        """From here on the recorded time ``recorded`` (ns) is the present."""
        self.offset = time.time_ns() - recorded

    def __call__(self, stamp: int) -> int:
        """The stamp (ns) to send in place of the recorded one."""
        if stamp == 0:
            return 0
        if stamp not in self._known:
            self._known[stamp] = stamp + self.offset
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return self._known[stamp]


def shift_transforms(raw: bytes, shift: StampShift, topic: str) -> bytes:
    """A serialised TFMessage with all its stamps shifted; its stamps have no fixed places."""
    message = decoded(raw, TRANSFORMS, topic)
    for transform in message.transforms:
        time = transform.header.stamp
        time.sec, time.nanosec = divmod(shift(time.sec * SECOND + time.nanosec), SECOND)
    return bytes(typestore().serialize_cdr(message, TRANSFORMS))
