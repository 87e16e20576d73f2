# SPDX-License-Identifier: Apache-2.0
"""Exact ray casting against boxes, upright cylinders and the shell round them, vectorised.

Rays are three planes x, y, z of any one shape, float32; t counts in lengths of the direction, so
rays with a z of 1 in the camera give depth along the optical axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BOX, CYLINDER, SHELL = 0, 1, 2
NEAR = 1e-3  # m; what is closer is behind the lens
_TINY = np.float32(1e-9)

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Primitive:
    """A box, an upright cylinder, or the shell of a box seen from inside; z is up.

    ``half`` are half extents (m) along the primitive's own axes, for a cylinder (r, r, h/2);
    ``yaw`` turns it about z (rad). ``texture`` is a number of the atlas, ``scale`` its texels per
    metre, ``tint`` RGB 0…1; a ``glowing`` one is a lamp and takes no shade.
    """

    kind: int
    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    yaw: float = 0.0
    texture: int = 0
    scale: float = 128.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    glowing: bool = False

    def corners(self) -> np.ndarray:
        """Eight corners of the bounding box, (8, 3) m."""
        signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
        local = signs * np.array(self.half)
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        turned = local @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        return turned + np.array(self.centre)

    def local(self, v: Planes, is_point: bool) -> Planes:
        """World → own axes: directions are turned, points are moved first."""
        x, y, z = v
        if is_point:
            x, y, z = (a - np.float32(c) for a, c in zip(v, self.centre, strict=True))
        if self.yaw:
            c, s = np.float32(np.cos(self.yaw)), np.float32(np.sin(self.yaw))
            x, y = c * x + s * y, c * y - s * x
        return x, y, z

    def hit(self, origin: np.ndarray, directions: Planes) -> tuple[np.ndarray, np.ndarray]:
        """Where rays from one origin (3,) m meet it: t (inf = miss), and the axis of the face.

        No component of a direction may be 0: see `nonzero`. The axis is 0, 1 or 2; of a cylinder
        0 means its side and 2 a cap.
        """
        o = self.local(tuple(np.float32(v) for v in origin), True)
        d = self.local(directions, False)
        if self.yaw:
            d = nonzero(d)
        if self.kind == CYLINDER:
            return _cylinder(o, d, self.half)
        return _box(o, d, self.half, self.kind == SHELL)


def nonzero(directions: Planes) -> Planes:
    """Directions in which a component of 0, by which nothing can be divided, is a tiny one."""
    return tuple(np.where(np.abs(v) < _TINY, _TINY, v) for v in directions)


def _box(o: tuple, d: Planes, half: tuple, inside: bool) -> tuple[np.ndarray, np.ndarray]:
    # Slabs: along each axis the ray is inside from -(o + |h|)/d to -(o - |h|)/d.
    middle, reach = [], []
    for axis in range(3):
        inverse = 1 / d[axis]
        middle.append(-o[axis] * inverse)
        reach.append(np.float32(half[axis]) * np.abs(inverse))
    leave = [m + r for m, r in zip(middle, reach, strict=True)]
    if inside:
        far = np.minimum(np.minimum(leave[0], leave[1]), leave[2])
        axis = np.where(far == leave[0], 0, np.where(far == leave[1], 1, 2))
        return np.where(far > NEAR, far, np.inf), axis
    enter = [m - r for m, r in zip(middle, reach, strict=True)]
    near = np.maximum(np.maximum(enter[0], enter[1]), enter[2])
    far = np.minimum(np.minimum(leave[0], leave[1]), leave[2])
    axis = np.where(near == enter[0], 0, np.where(near == enter[1], 1, 2))
    return np.where((near <= far) & (near > NEAR), near, np.inf), axis


def _cylinder(o: tuple, d: Planes, half: tuple) -> tuple[np.ndarray, np.ndarray]:
    (ox, oy, oz), (dx, dy, dz) = o, d
    radius, top = np.float32(half[0]), np.float32(half[2])
    a = dx * dx + dy * dy
    # The distance of the ray from the axis by the cross product: stable far away, where the
    # usual b² - ac is a small difference of large numbers.
    cross = ox * dy - oy * dx
    with np.errstate(invalid="ignore"):
        side = (-(ox * dx + oy * dy) - np.sqrt(a * radius * radius - cross * cross)) / a
        side = np.where((np.abs(oz + side * dz) <= top) & (side > NEAR), side, np.inf)
    cap = (np.where(dz > 0, -top, top) - oz) / dz
    x, y = ox + cap * dx, oy + cap * dy
    cap = np.where((x * x + y * y <= radius * radius) & (cap > NEAR), cap, np.inf)
    return np.minimum(side, cap), np.where(side <= cap, 0, 2)


def cast(
    primitives: list[Primitive], origin: np.ndarray, directions: Planes
) -> tuple[np.ndarray, np.ndarray]:
    """First hit of rays from ``origin`` (3,) m: t (inf = none) and the primitive's number."""
    directions = nonzero(directions)
    t = np.full(directions[0].shape, np.inf, np.float32)
    number = np.full(t.shape, -1, np.int32)
    for i, primitive in enumerate(primitives):
        new, _ = primitive.hit(origin, directions)
        closer = new < t
        t[closer], number[closer] = new[closer], i
    return t, number
