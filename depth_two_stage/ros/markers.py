# SPDX-License-Identifier: Apache-2.0
"""A coloured mesh as a serialised Marker.

A Marker holds a Python object for each corner and each colour; a mesh of 100,000 triangles would
hold up every other thread for seconds. The arrays are put between the serialised head and tail of
a Marker with one corner instead.
"""

from __future__ import annotations

import struct

import numpy as np
from geometry_msgs.msg import Point
from rclpy.serialization import serialize_message
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker

from ..tsdf import Surface

_CORNER, _COLOUR = 24, 16  # bytes of a Point and of a ColorRGBA
_SENTINEL = 1.2345678901234567e300


def mesh(surface: Surface, header: Header) -> bytes | Marker:
    """Surface (points m, colors uint8, triangles) → TRIANGLE_LIST; an empty one deletes."""
    marker = Marker(header=header, ns="map", id=0, type=Marker.TRIANGLE_LIST)
    if len(surface.triangles) == 0:
        marker.action = Marker.DELETE
        return marker
    marker.action = Marker.ADD
    marker.pose.orientation.w = 1.0
    marker.scale.x = marker.scale.y = marker.scale.z = 1.0
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    marker.points = [Point(x=_SENTINEL, y=_SENTINEL, z=_SENTINEL)]
    marker.colors = [ColorRGBA()]
    corners = surface.triangles.reshape(-1)
    points = surface.points[corners].astype("<f8")
    colours = np.ones((len(corners), 4), "<f4")
    colours[:, :3] = surface.colors[corners] / np.float32(255)
    return _with_corners(serialize_message(marker), points, colours)


def _with_corners(one: bytes, points: np.ndarray, colours: np.ndarray) -> bytes:
    """Replace the only corner of a serialised Marker; 24 and 16 bytes keep the alignment of 8."""
    order = "<" if one[1] & 1 else ">"
    at = one.index(struct.pack(f"{order}d", _SENTINEL))
    # The number of corners stands before them, with padding to 8 between if need be.
    count = at - 4 if one[at - 4 : at] == struct.pack(f"{order}I", 1) else at - 8
    number = struct.pack(f"{order}I", len(points))
    behind = at + _CORNER
    return b"".join(
        (
            one[:count],
            number,
            one[count + 4 : at],
            points.astype(f"{order}f8").tobytes(),
            number,
            colours.astype(f"{order}f4").tobytes(),
            one[behind + 4 + _COLOUR :],
        )
    )
