# SPDX-License-Identifier: Apache-2.0
"""The sorted table in which TensorFlow's checkpoints keep their entries (LevelDB's table format).

A file of blocks; the last 48 bytes say where the index block lies, whose values say where the
others lie. In a block each key repeats how much of the key before it it shares.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator

import numpy as np

__all__ = ["FOOTER", "MAGIC", "checksum", "entries", "fields", "number"]

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
FOOTER = 48
TRAILER = 5  # of a block: kind of compression, checksum
POLYNOMIAL = 0x82F63B78  # CRC-32C, reflected
LANE = 4096  # bytes of data whose checksums are taken side by side
MASK = 0xA282EAD8


def number(data: bytes, at: int) -> tuple[int, int]:
    """A varint at a position, and the position behind it."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a truncated or overlong number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol buffer: (number, integer or bytes)."""
    at = 0
    while at < len(data):
        key, at = number(data, at)
        kind = key & 7
        if kind == 0:
            value, at = number(data, at)
        else:
            if kind == 2:
                size, at = number(data, at)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:
                raise ValueError(f"a field of kind {kind}")
            if at + size > len(data):
                raise ValueError("a truncated field")
            value, at = data[at : at + size], at + size
        yield key >> 3, value


def entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The (key, value) pairs of a whole table file, in its order; checksums are checked."""
    if len(data) < FOOTER or data[-8:] != MAGIC:
        raise ValueError("a table without its end")
    footer = data[-FOOTER:]
    _, at = number(footer, 0)
    _, at = number(footer, at)
    for _, handle in _pairs(_block(data, footer[at:])):
        yield from _pairs(_block(data, handle))


def _block(data: bytes, handle: bytes) -> bytes:
    offset, at = number(handle, 0)
    size, _ = number(handle, at)
    if offset + size + TRAILER > len(data) - FOOTER:
        raise ValueError("a block beyond the end")
    kind = data[offset + size]
    (stored,) = struct.unpack_from("<I", data, offset + size + 1)
    if masked(checksum(data[offset : offset + size + 1])) != stored:
        raise ValueError("a block with a wrong checksum")
    block = data[offset : offset + size]
    if kind not in (0, 1):
        raise ValueError(f"a block of compression {kind}")
    return _unsnapped(block) if kind else block


def _pairs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(block) < 4:
        raise ValueError("a block without its end")
    (restarts,) = struct.unpack_from("<I", block, len(block) - 4)
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise ValueError("a block with more restarts than bytes")
    key, at = b"", 0
    while at < end:
        shared, at = number(block, at)
        own, at = number(block, at)
        size, at = number(block, at)
        if shared > len(key) or at + own + size > end:
            raise ValueError("an entry beyond its block")
        key = key[:shared] + block[at : at + own]
        at += own
        yield key, block[at : at + size]
        at += size


def _unsnapped(data: bytes) -> bytes:
    """Decompress Snappy's raw format: literals, and copies of what has been written."""
    size, at = number(data, 0)
    out = bytearray()
    while at < len(data) and len(out) <= size:
        tag = data[at]
        at += 1
        kind, length = tag & 3, tag >> 2
        if kind == 0:  # a literal; long ones say their length in the next bytes
            if length >= 60:
                extra = length - 59
                length, at = int.from_bytes(data[at : at + extra], "little"), at + extra
            out += data[at : at + length + 1]
            at += length + 1
            continue
        if kind == 1:
            offset, length = (tag >> 5) << 8, (length & 7) + 3  # a copy of 4 to 11 bytes
            width = 1
        else:
            offset, width = 0, 2 if kind == 2 else 4
        offset |= int.from_bytes(data[at : at + width], "little")
        at += width
        if not 0 < offset <= len(out):
            raise ValueError("a compressed block with a wrong copy")
        for _ in range(length + 1):  # may overlap what it writes
            out.append(out[-offset])
    if len(out) != size:
        raise ValueError(f"a compressed block of {len(out)} bytes for {size}")
    return bytes(out)


def _byte_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


TABLE = _byte_table()


def _shift(crc: int, columns: list[int]) -> int:
    """A checksum behind which as many zeros stand as ``columns`` was made for."""
    found = 0
    for bit in range(32):
        if crc >> bit & 1:
            found ^= columns[bit]
    return found


@functools.lru_cache(maxsize=1)
def _zeros(count: int) -> list[int]:
    """What ``count`` zero bytes make of each bit of a checksum."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(count):
        bits = TABLE[bits & 255] ^ (bits >> 8)
    return [int(bit) for bit in bits]


def checksum(data: bytes | np.ndarray) -> int:
    """CRC-32C. Pieces of equal length side by side, then joined: a checksum is linear."""
    values = np.frombuffer(data, np.uint8)
    lanes = len(values) // LANE
    crc = 0xFFFFFFFF
    if lanes:
        pieces = np.ascontiguousarray(values[: lanes * LANE].reshape(lanes, LANE).T)
        sums = np.zeros(lanes, np.uint32)
        for row in pieces:
            sums = TABLE[(sums ^ row) & 255] ^ (sums >> 8)
        columns = _zeros(LANE)
        for piece in sums.tolist():
            crc = _shift(crc, columns) ^ piece
    table = TABLE.tolist()
    for byte in values[lanes * LANE :].tolist():
        crc = table[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """The form in which checksums are stored beside the data they are of."""
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF
