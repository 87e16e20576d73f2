# SPDX-License-Identifier: Apache-2.0
"""The files that a map is written to, by the ending of their name; each appears whole or not."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from depth_two_stage.config import MAP_ENDINGS
from depth_two_stage.files import atomic_write, write_ply, write_trajectory
from depth_two_stage.map_file import MapError, MapMeta, Trajectory, write_map
from depth_two_stage.occupancy import FREE, OCCUPIED, Occupancy
from depth_two_stage.tsdf_blocks import BlockGrid
from depth_two_stage.tsdf_views import extract

__all__ = ["ascending", "check_name", "write", "write_map_server"]

CLOUD = ".cloud.ply"
# Pixels as map_saver writes them. 205 is 0.196 occupied and a little more than FREE_BELOW, so that
# map_server reads it as unknown, negate being 0.
OCCUPIED_PIXEL, FREE_PIXEL, UNKNOWN_PIXEL = 0, 254, 205
OCCUPIED_ABOVE, FREE_BELOW = 0.65, 0.196


def check_name(path: str | Path) -> None:
    """Raise MapError on a name whose ending stands for no format."""
    if Path(path).suffix not in MAP_ENDINGS:
        endings = ", ".join(MAP_ENDINGS[:-1]) + " or " + MAP_ENDINGS[-1]
        raise MapError(f"path: expected a name ending in {endings}, got {Path(path).name!r}")


def write(
    path: str | Path,
    blocks: BlockGrid,
    meta: MapMeta,
    trajectory: Trajectory,
    weight_threshold: float,
    make_grid: Callable[[], Occupancy],
) -> int:
    """Write a map → bytes. OSError (full disk, no rights) leaves older files as they were.

    ``.npz`` the map itself, ``.cloud.ply`` its surface points, ``.ply`` its mesh, ``.yaml`` its
    occupancy grid for map_server (with a PGM beside it), ``.tum`` the trajectory, by `ascending`.
    """
    path = Path(path)
    check_name(path)
    if path.suffix == ".ply":
        triangles = not path.name.endswith(CLOUD)
        surface = extract(blocks.grid, weight_threshold, triangles)
        faces = surface.triangles if triangles else None
        write_ply(path, surface.points, surface.colors, faces)
    elif path.suffix == ".yaml":
        return write_map_server(path, make_grid())
    elif path.suffix == ".tum":
        write_trajectory(path, ascending(trajectory))
    else:
        slots = blocks.slots()
        write_map(
            path, meta, trajectory, slots, lambda part: (blocks.keys(part), blocks.read(part))
        )
    return path.stat().st_size


def ascending(trajectory: Trajectory) -> Trajectory:
    """The poses whose stamps ascend: where time went back (a bag in a loop) the later ones count.

    Who reads a TUM file (evo) wants one pose a time, in order.
    """
    kept, first = [], math.inf  # first: the earliest of those that follow
    for stamp, T in reversed(trajectory):
        if stamp < first:
            first = stamp
            kept.append((stamp, T))
    return kept[::-1]


def write_map_server(path: str | Path, grid: Occupancy) -> int:
    """Write NAME.yaml and its picture, as Nav2's map_server reads them → bytes of both.

    Two files cannot be replaced at one moment: the picture's name holds a digest of its content,
    the YAML, written after it, names it, and pictures of older saves go last. A crash leaves the
    older pair or the new one.
    """
    path = Path(path)
    picture = _pgm(grid)
    image = f"{path.stem}.{hashlib.sha256(picture).hexdigest()[:8]}.pgm"
    x, y = grid.origin
    text = (
        f"image: {_quoted(image)}\nmode: trinary\nresolution: {grid.resolution!r}\n"
        f"origin: [{x!r}, {y!r}, 0.0]\nnegate: 0\n"
        f"occupied_thresh: {OCCUPIED_ABOVE}\nfree_thresh: {FREE_BELOW}\n"
    )
    with atomic_write(path.with_name(image)) as file:
        file.write(picture)
    with atomic_write(path, "w") as file:
        file.write(text)
    older = re.compile(re.escape(path.stem) + r"\.[0-9a-f]{8}\.pgm")
    for other in path.parent.iterdir():
        if other.name != image and older.fullmatch(other.name):
            other.unlink(missing_ok=True)
    return len(picture) + len(text.encode())


def _quoted(text: str) -> str:
    """A name as YAML takes it, whatever it holds."""
    return "'" + text.replace("'", "''") + "'"


def _pgm(grid: Occupancy) -> bytes:
    """Binary PGM; its first row is the grid's last one: y points up."""
    pixels = np.full(grid.data.shape, UNKNOWN_PIXEL, np.uint8)
    pixels[grid.data == FREE] = FREE_PIXEL
    pixels[grid.data == OCCUPIED] = OCCUPIED_PIXEL
    height, width = pixels.shape
    return f"P5\n{width} {height}\n255\n".encode() + pixels[::-1].tobytes()
