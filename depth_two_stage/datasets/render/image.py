# SPDX-License-Identifier: Apache-2.0
"""A scene → colour and exact depth as a camera sees it, and what a LiDAR's beams meet."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from depth_two_stage.camera import Camera

from . import textures
from .looks import Look, as_built
from .primitives import Planes, cast, nonzero
from .scenes import Scene


def render(
    scene: Scene, camera: Camera, T_world_camera: np.ndarray, look: Look | None = None
) -> tuple[np.ndarray, ...]:
    """RGB uint8 (H, W, 3) and depth float32 (H, W) m along the optical axis.

    Without a ``look`` the scene has its own.
    """
    directions = _directions(camera, T_world_camera)
    origin = T_world_camera[:3, 3]
    depth = np.full(camera.size, np.inf, np.float32)
    number = np.zeros(camera.size, np.int32)
    face = np.zeros(camera.size, np.int8)
    windows, nearest = _windows(scene, camera, T_world_camera)
    for i, (primitive, window) in enumerate(zip(scene.primitives, windows, strict=True)):
        # Walls come first, so that most of what stands in other rooms is known to be behind them.
        if window is None or nearest[i] > depth[window].max():
            continue
        t, axis = primitive.hit(origin, tuple(d[window] for d in directions))
        closer = t < depth[window]
        np.copyto(depth[window], t, where=closer)
        np.copyto(number[window], i, where=closer)
        np.copyto(face[window], axis.astype(np.int8), where=closer)
    look = as_built(scene) if look is None else look
    rgb = _shade(scene, look, camera, origin, directions, depth, number, face)
    return rgb, depth


def scan(
    scene: Scene,
    T_world_lidar: np.ndarray,
    elevations: np.ndarray,
    azimuths: np.ndarray,
    rng: np.random.Generator,
    noise: float,
    dropout: float,
) -> np.ndarray:
    """Points float32 (N, 3) m, LiDAR frame, of beams at all elevations × azimuths (rad).

    ``noise`` is the standard deviation of the range (m), ``dropout`` the share of lost returns.
    """
    elevation, azimuth = (a.reshape(-1) for a in np.meshgrid(elevations, azimuths, indexing="ij"))
    beams = np.stack(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
    )
    world = (T_world_lidar[:3, :3] @ beams).astype(np.float32)
    t, _ = cast(scene.primitives, T_world_lidar[:3, 3], tuple(world))
    distance = t + noise * rng.standard_normal(len(t), np.float32)
    kept = np.isfinite(t) & (distance > 0.1) & (rng.random(len(t)) >= dropout)
    return (beams[:, kept] * distance[kept]).T.astype(np.float32)


@lru_cache(maxsize=4)
def _rays(camera: Camera) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(camera.rays(), 2, 0)).reshape(3, -1)


def _directions(camera: Camera, T_world_camera: np.ndarray) -> Planes:
    world = T_world_camera[:3, :3].astype(np.float32) @ _rays(camera)
    return nonzero(tuple(world.reshape(3, *camera.size)))


def _windows(
    scene: Scene, camera: Camera, T_world_camera: np.ndarray
) -> tuple[list[tuple | None], np.ndarray]:
    """For each primitive the rows and columns in which it may be seen, None where it cannot be.

    And no part of it is nearer than so many metres along the optical axis, (P,).
    """
    corners = (scene.corners - T_world_camera[:3, 3]) @ T_world_camera[:3, :3]
    x, y, z = np.moveaxis(corners, 2, 0)
    # What reaches behind the camera is not outlined by its corners. It is out of view only when
    # all of it lies beyond one side of the frustum.
    behind = z < 0.01
    left, right = -(camera.cx + 1) / camera.fx, (camera.width - camera.cx) / camera.fx
    up, down = -(camera.cy + 1) / camera.fy, (camera.height - camera.cy) / camera.fy
    beyond = np.stack([x < left * z, x > right * z, y < up * z, y > down * z, behind])
    hidden = beyond.all(axis=2).any(axis=0)
    whole = behind.any(axis=1)
    uv, _ = camera.pixels(np.where(behind[..., None], 1.0, corners).reshape(-1, 3))
    uv = uv.reshape(len(corners), 8, 2)
    low = np.maximum(np.floor(uv.min(axis=1)), 0).astype(int)
    high = np.minimum(np.ceil(uv.max(axis=1)) + 1, (camera.width, camera.height)).astype(int)
    low[whole], high[whole] = 0, (camera.width, camera.height)
    windows = [
        None if gone or (b <= a).any() else (slice(a[1], b[1]), slice(a[0], b[0]))
        for gone, a, b in zip(hidden, low, high, strict=True)
    ]
    return windows, z.min(axis=1) - 1e-3  # a millimetre for rounding


def _shade(scene, look, camera, origin, directions, depth, number, face) -> np.ndarray:
    hit = [np.float32(o) + depth * d for o, d in zip(origin, directions, strict=True)]
    attributes = np.moveaxis(look.attributes[number], 2, 0)
    cx, cy, cz, cos, sin, radius, texture, scale, red, green, blue, glowing = attributes
    # 1. The point and the ray in the primitive's own axes; which face, and its texture coordinates.
    x, y, z = hit[0] - cx, hit[1] - cy, hit[2] - cz
    x, y = cos * x + sin * y, cos * y - sin * x
    dx = cos * directions[0] + sin * directions[1]
    dy = cos * directions[1] - sin * directions[0]
    round_side = (radius > 0) & (face == 0)
    u = np.where(face == 0, y, x)
    u = np.where(round_side, np.arctan2(y, x) * radius, u)
    v = np.where(face == 2, y, -z)
    texels = depth * scale / np.float32(camera.fx)
    kind = texture.astype(np.int32)
    colour = textures.sample(kind, u * scale, v * scale, texels, look.atlas)
    if look.contrast is not None:
        colour = colour[..., look.channels].astype(np.float32) - 128
        colour = colour * look.contrast[number][..., None] + 128
    # 2. The normal, towards the camera.
    inverse = 1 / np.maximum(radius, np.float32(1e-6))
    nx = np.where(round_side, x * inverse, np.where(face == 0, -np.sign(dx), 0))
    ny = np.where(round_side, y * inverse, np.where(face == 1, -np.sign(dy), 0))
    nx, ny = cos * nx - sin * ny, sin * nx + cos * ny
    nz = np.where(face == 2, -np.sign(directions[2]), 0)
    # 3. Lambert's law for the lamp of the room in which the point lies, and for the sun.
    room = tuple(_beyond(along, walls) for along, walls in zip(hit, scene.split, strict=False))
    lx, ly, lz = np.moveaxis(look.lamps.astype(np.float32)[room], 2, 0)
    lx, ly, lz = lx - hit[0], ly - hit[1], lz - hit[2]
    square = lx * lx + ly * ly + lz * lz
    cosine = np.maximum(nx * lx + ny * ly + nz * lz, 0) / np.sqrt(square + np.float32(1e-6))
    light = np.float32(look.ambient)
    light = light + cosine * np.float32(look.power) / (1 + square * np.float32(look.falloff))
    if look.sun is not None:
        cosine = np.maximum(nx * look.sun[0] + ny * look.sun[1] + nz * look.sun[2], 0)
        light += cosine * _patches(look, hit, depth / np.float32(camera.fx))
    light = np.where(glowing > 0, 1, light)
    tinted = colour * (light[..., None] * np.stack([red, green, blue], axis=2))
    if look.mean_level is not None:
        tinted *= np.float32(look.mean_level) / max(float(tinted.mean()), 1.0)
    tinted = np.where((glowing > 0)[..., None], 250, tinted)
    return np.clip(tinted + 0.5, 0, 255).astype(np.uint8)


def _beyond(along: np.ndarray, walls: tuple[float, ...]) -> np.ndarray:
    """How many walls, at places along an axis, each point (H, W) lies beyond."""
    number = np.zeros(along.shape, np.intp)
    for at in walls:
        number += along > at
    return number


def _patches(look: Look, hit: list[np.ndarray], metres: np.ndarray) -> np.ndarray:
    """How much of the sun's light the blind lets through to each point (H, W): 0 to 1."""
    u, v = (sum(a * x for a, x in zip(axis, hit, strict=True)) for axis in look.across)
    texels = metres * np.linalg.norm(look.across[0])
    kind = np.full(u.shape, look.blind, np.int32)
    grey = textures.sample(kind, u, v, texels, look.atlas)[..., 1].astype(np.float32)
    return np.clip((grey - grey.mean()) / 40 + np.float32(0.5), 0, 1)  # rather all or none
