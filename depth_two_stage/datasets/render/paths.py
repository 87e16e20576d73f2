# SPDX-License-Identifier: Apache-2.0
"""How a camera is carried: about a place, on a walk through all rooms and back, or anywhere."""

from __future__ import annotations

import numpy as np

from .scenes import Scene

PERIOD_NS = 100_000_000
PERIOD = PERIOD_NS * 1e-9  # s
EYE = 1.45  # m above the floor
WALKING = 0.6  # m/s


def hand_held(scene: Scene, frames: int, seed: int) -> np.ndarray:
    """Poses T_world_camera (frames, 4, 4) of looking round from one room's middle."""
    rng = np.random.default_rng([seed, 2])
    rooms = scene.rooms.reshape(-1, 4)
    room = rooms[rng.integers(len(rooms))]
    time = np.arange(frames) * PERIOD
    place = np.array([room[0] + room[2] / 2, room[1] + room[3] / 2, EYE])
    # Inside the clearance of the walk, which leads through the middle.
    position = place + _shake(rng, time, (0.2, 0.2, 0.2), 0.08)
    yaw = rng.uniform(0, 2 * np.pi) + 1.2 * np.sin(0.25 * time) + 0.05 * time
    angles = _shake(rng, time, (0.1, 0.12, 0.05), 0.15)
    return _poses(position, yaw + angles[:, 0], 0.2 + angles[:, 1], angles[:, 2])


def loop(scene: Scene, frames: int | None, seed: int, laps: float = 1.0) -> np.ndarray:
    """Poses (N, 4, 4) of a walk through all rooms that ends where it began, or after ``laps``.

    ``frames`` None takes as many as walking speed asks for.
    """
    rng = np.random.default_rng([seed, 3])
    corners = np.concatenate([scene.walk, scene.walk[:1]])
    lengths = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    total = lengths.sum()
    count = frames or round(laps * total / (WALKING * PERIOD))
    along = np.linspace(0, laps * total, count)
    place = _on_walk(corners, lengths, np.mod(along, total))
    # Look where the way leads in a metre, smoothly.
    ahead = _on_walk(corners, lengths, np.mod(along[:, None] + np.linspace(0.4, 1.6, 13), total))
    ahead = ahead.mean(axis=1) - place
    time = np.arange(count) * PERIOD
    # Shaking fades in and out, so that the last pose is the first.
    fade = np.minimum(1, np.minimum(np.arange(count), np.arange(count)[::-1]) / 10)[:, None]
    position = np.column_stack([place, np.full(count, EYE)])
    position += fade * _shake(rng, time, (0.04, 0.04, 0.03), 0.5)
    angles = fade * _shake(rng, time, (0.08, 0.06, 0.03), 0.3)
    yaw = np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0])) + angles[:, 0]
    return _poses(position, yaw, 0.15 + angles[:, 1], angles[:, 2])


def anywhere(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """A pose T_world_camera (4, 4): somewhere in a room, looking at some other place in it.

    0.25 m round the camera are free, where the room has such a place.
    """
    rooms = scene.rooms.reshape(-1, 4)
    x, y, wide, deep = rooms[rng.integers(len(rooms))]
    low, size = np.array([x + 0.2, y + 0.2, 0.3]), np.array([wide - 0.4, deep - 0.4, 1.7])
    places = low + rng.random((64, 3)) * size
    free = scene.clearance(places)
    place = places[np.argmax(np.minimum(free, 0.25))]  # the first that is free enough
    targets = low + rng.random((16, 3)) * size - (0, 0, 0.3)
    ways = targets - place
    level = np.linalg.norm(ways[:, :2], axis=1)
    nearest = np.argmax(np.minimum(level, 1.2))  # not at its own feet
    yaw = np.arctan2(ways[nearest, 1], ways[nearest, 0])
    down = np.arctan2(-ways[nearest, 2], level[nearest])
    roll = rng.uniform(-0.2, 0.2)
    return _poses(place[None], *(np.array([angle]) for angle in (yaw, down, roll)))[0]


def _on_walk(corners: np.ndarray, lengths: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Places (…, 2) at lengths along a polyline, m."""
    stations = np.concatenate([[0], np.cumsum(lengths)])
    return np.stack([np.interp(along, stations, corners[:, i]) for i in (0, 1)], axis=-1)


def _shake(rng: np.random.Generator, time: np.ndarray, reach: tuple, rate: float) -> np.ndarray:
    """Three smooth irregular motions (N, 3), each within ±reach, about ``rate`` Hz."""
    out = np.zeros((len(time), 3))
    for harmonic in (1.0, 1.7, 2.9):
        phase, speed = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.8, 1.2, 3) * rate * harmonic
        out += np.sin(2 * np.pi * time[:, None] * speed + phase) / harmonic
    return out * np.array(reach) / (1 + 1 / 1.7 + 1 / 2.9)


def _poses(position: np.ndarray, yaw: np.ndarray, down: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """T_world_camera (N, 4, 4) of optical frames: yaw about z, looking down, roll (rad)."""
    forward = np.stack([np.cos(yaw) * np.cos(down), np.sin(yaw) * np.cos(down), -np.sin(down)], 1)
    right = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros_like(yaw)], axis=1)
    below = np.cross(forward, right)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    T = np.tile(np.eye(4), (len(yaw), 1, 1))
    T[:, :3, :3] = np.stack([c * right + s * below, c * below - s * right, forward], axis=2)
    T[:, :3, 3] = position
    return T
