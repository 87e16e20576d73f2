# SPDX-License-Identifier: Apache-2.0
"""Random flats: a grid of furnished rooms, joined by doors so that a walk closes a loop."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .primitives import BOX, CYLINDER, SHELL, Primitive
from .textures import KINDS

WALL, DOOR_WIDTH, DOOR_HEIGHT = 0.12, 1.0, 2.05  # m
#: Half width of what stays free along the walk, m.
CLEARANCE = 0.55
PIECES = 20


@dataclass(frozen=True)
class Scene:
    """What there is: primitives, a lamp per room, and the free way through all rooms.

    The world's z is up, the origin a corner of the floor. ``lamps`` (X, Y, 3) m, ``split`` where
    the inner walls stand (at x …, at y …), ``walk`` (N, 2) corners of a closed way through all
    rooms, ``rooms`` (X, Y, 4) m: x, y, width and depth.
    """

    primitives: list[Primitive]
    lamps: np.ndarray
    split: tuple[tuple[float, ...], tuple[float, ...]]
    walk: np.ndarray
    rooms: np.ndarray
    ambient: float

    @cached_property
    def corners(self) -> np.ndarray:
        """Corners of the primitives' bounding boxes, (P, 8, 3) m."""
        return np.stack([p.corners() for p in self.primitives])

    @cached_property
    def attributes(self) -> np.ndarray:
        """What shading asks of each primitive, float32 (P, 12).

        Centre, cosine and sine of yaw, radius (0: a box), texture, its scale, tint, glowing.
        """
        rows = []
        for p in self.primitives:
            radius = p.half[0] if p.kind == CYLINDER else 0
            turn = np.cos(p.yaw), np.sin(p.yaw)
            rows.append((*p.centre, *turn, radius, p.texture, p.scale, *p.tint, p.glowing))
        return np.array(rows, np.float32)

    @cached_property
    def _shapes(self) -> tuple[np.ndarray, ...]:
        """Of each primitive: kind (P, 1), centre and half extents (3, P, 1) m, cosine and sine."""
        kind, yaw = (np.array([[getattr(p, n)] for p in self.primitives]) for n in ("kind", "yaw"))
        centre = np.array([p.centre for p in self.primitives]).T[..., None]
        half = np.array([p.half for p in self.primitives]).T[..., None]
        return kind, centre, half, np.cos(yaw), np.sin(yaw)

    def clearance(self, points: np.ndarray) -> np.ndarray:
        """How far it is from points (N, 3) m to the nearest surface at least, m; inside below 0."""
        kind, centre, half, c, s = self._shapes
        x, y, z = points.T[:, None] - centre
        x, y = c * x + s * y, c * y - s * x
        beyond = np.maximum(np.abs(x) - half[0], np.abs(y) - half[1])
        beyond = np.where(kind == CYLINDER, np.hypot(x, y) - half[0], beyond)
        beyond = np.maximum(beyond, np.abs(z) - half[2])
        return np.where(kind == SHELL, -beyond, beyond).min(axis=0)


def build_scene(seed: int, grid: tuple[int, int] = (2, 2)) -> Scene:
    """The scene of a seed with X × Y rooms, one of which is even; the same seed, the same scene."""
    rng = np.random.default_rng([seed, 1])
    sizes = np.array([rng.uniform(3.6, 5.5, 2) for _ in range(max(grid))])
    widths, depths = sizes[: grid[0], 0], sizes[: grid[1], 1]
    height = rng.uniform(2.4, 3.1)
    xs, ys = (np.concatenate([[0.0], np.cumsum(lengths)]) for lengths in (widths, depths))
    rooms = np.array(
        [
            [[x, y, w, d] for y, d in zip(ys, depths, strict=False)]
            for x, w in zip(xs, widths, strict=False)
        ]
    )
    size = (xs[-1], ys[-1], height)
    middle = tuple(v / 2 for v in size)
    solid = [_look(rng, SHELL, middle, middle, scale=90)]
    for z in (0.0, height):  # floor and ceiling of their own, 5 mm thick
        solid.append(_look(rng, BOX, (*middle[:2], z), (*middle[:2], 0.005), scale=120))
    # 1. Inner walls, a door between every two neighbours, at a different place every time.
    doors = {}
    for axis, edges, starts, lengths in ((0, xs, ys, depths), (1, ys, xs, widths)):
        for i, at in enumerate(edges[1:-1]):
            for j, (start, length) in enumerate(zip(starts, lengths, strict=False)):
                door = start + length * rng.uniform(0.4, 0.6)
                solid += _wall(rng, axis, at, start, length, door, height)
                doors[axis, i, j] = (at, door) if axis == 0 else (door, at)
    # 2. The walk: through the rooms and doors in a ring, straight from each to the next.
    centres = rooms[..., :2] + rooms[..., 2:] / 2
    walk, ring = [], _ring(*grid)
    for here, there in zip(ring, ring[1:] + ring[:1], strict=True):
        (i, j), east = np.minimum(here, there).tolist(), here[1] == there[1]
        walk += [centres[here], doors[(0, i, j) if east else (1, j, i)]]
    walk = np.array(walk)
    # 3. Lamps under the ceiling, then furniture where nobody walks.
    lamps = np.concatenate([centres, np.full((*grid, 1), height - 0.25)], axis=2)
    for x, y, z in lamps.reshape(-1, 3):
        solid.append(
            Primitive(BOX, (x, y, z + 0.2), (0.3, 0.15, 0.04), tint=(1, 1, 0.95), glowing=True)
        )
    for room in rooms.reshape(-1, 4):
        for _ in range(PIECES):
            solid += _furniture(rng, room, height, walk)
    split = tuple(tuple(edges[1:-1].tolist()) for edges in (xs, ys))
    return Scene(solid, lamps, split, walk, rooms, rng.uniform(0.3, 0.5))


def _ring(columns: int, rows: int) -> list[tuple[int, int]]:
    """A way through all rooms of a grid, each once, that ends beside its start; one side is even.

    Along the first row, back and forth through the others without the first column, home along it.
    """
    if rows % 2:
        return [(i, j) for j, i in _ring(rows, columns)]
    way = [(i, 0) for i in range(columns)]
    for j in range(1, rows):
        row = [(i, j) for i in range(1, columns)]
        way += row[::-1] if j % 2 else row
    return way + [(0, j) for j in range(rows - 1, 0, -1)]


def _look(rng, kind, centre, half, yaw=0.0, scale=None) -> Primitive:
    tint = tuple(np.clip(rng.uniform(0.6, 1) + rng.normal(0, 0.05, 3), 0.3, 1))
    texture = int(rng.integers(KINDS))
    scale = float(rng.uniform(100, 300)) if scale is None else scale
    return Primitive(kind, tuple(map(float, centre)), tuple(half), yaw, texture, scale, tint)


def _wall(rng, axis, at, start, length, door, height) -> list[Primitive]:
    """One part of an inner wall with its door: left of it, right of it, above it."""
    half_door, end = DOOR_WIDTH / 2, start + length
    top = (DOOR_HEIGHT + height) / 2, (height - DOOR_HEIGHT) / 2
    parts = (
        ((start + door - half_door) / 2, (door - half_door - start) / 2, height / 2, height / 2),
        ((end + door + half_door) / 2, (end - door - half_door) / 2, height / 2, height / 2),
        (door, half_door, *top),
    )
    model = _look(rng, BOX, (0, 0, 0), (1, 1, 1), scale=90)
    walls = []
    for middle, reach, z, half_z in parts:
        centre, half = (at, middle, z), (WALL / 2, reach, half_z)
        if axis:
            centre, half = (middle, at, z), (reach, WALL / 2, half_z)
        centre, half = tuple(map(float, centre)), tuple(map(float, half))
        walls.append(Primitive(BOX, centre, half, 0.0, model.texture, model.scale, model.tint))
    return walls


def _furniture(rng, room, height, walk) -> list[Primitive]:
    """One piece where it fits; nothing when it would stand in the way."""
    kind = rng.choice(["cabinet", "table", "column", "boxes", "shelf"])
    wide, deep = rng.uniform(0.15, 0.6), rng.uniform(0.15, 0.35)
    tall = {"table": rng.uniform(0.65, 0.8), "shelf": rng.uniform(1.4, min(2.2, height - 0.1))}
    tall = tall.get(kind, rng.uniform(0.3, 1.4))
    reach = float(np.hypot(wide, deep))
    x, y, w, d = room
    inside = reach + WALL
    if min(w, d) < 2 * inside + 0.1:
        return []
    place = rng.uniform((x + inside, y + inside), (x + w - inside, y + d - inside))
    yaw = float(rng.choice([0, 0, np.pi / 2, rng.uniform(0, np.pi)]))
    if _distance(place, walk) < reach + CLEARANCE:
        return []
    if kind == "column":
        radius, full = rng.uniform(0.08, 0.3), rng.random() < 0.3
        tall = height if full else tall
        return [_look(rng, CYLINDER, (*place, tall / 2), (radius, radius, tall / 2))]
    body = _look(rng, BOX, (*place, tall / 2), (wide, deep, tall / 2), yaw)
    if kind == "cabinet":
        return [body]
    if kind == "boxes":
        small = (wide * 0.6, deep * 0.6, rng.uniform(0.08, 0.25))
        on_top = _look(rng, BOX, (*place, tall + small[2]), small, yaw + rng.uniform(-0.5, 0.5))
        return [body, on_top]
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    if kind == "table":
        pieces = [_look(rng, BOX, (*place, tall - 0.02), (wide, deep, 0.02), yaw)]
        for corner in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            leg = place + turn @ (np.array(corner) * (wide - 0.04, deep - 0.04))
            reach = tall / 2 - 0.02
            pieces.append(_look(rng, CYLINDER, (*leg, reach), (0.025, 0.025, reach)))
        radius, bottle = rng.uniform(0.03, 0.07), rng.uniform(0.06, 0.15)
        spot = place + turn @ (rng.uniform(-0.6, 0.6, 2) * (wide, deep))
        return [*pieces, _look(rng, CYLINDER, (*spot, tall + bottle), (radius, radius, bottle))]
    boards = [
        _look(rng, BOX, (*place, z), (wide, deep, 0.015), yaw) for z in np.arange(0.1, tall, 0.35)
    ]
    back = place + turn @ np.array([0, deep])
    return [*boards, _look(rng, BOX, (*back, tall / 2), (wide, 0.015, tall / 2), yaw)]


def _distance(place: np.ndarray, walk: np.ndarray) -> float:
    """Distance (m) of a place (2,) from the closed walk (N, 2)."""
    a, b = walk, np.roll(walk, -1, axis=0)
    along = b - a
    share = np.clip(((place - a) * along).sum(1) / (along**2).sum(1), 0, 1)
    return float(np.linalg.norm(a + share[:, None] * along - place, axis=1).min())
