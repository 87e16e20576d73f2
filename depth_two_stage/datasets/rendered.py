# SPDX-License-Identifier: Apache-2.0
"""Procedural rooms as a data set: exact depth and poses, a LiDAR with extrinsics; needs no files.

A split says which: "seed:3" (the scene), "frames:200", "path:hand" or "path:loop" (a walk through
four rooms and back; without frames as many as walking takes), "size:240x320" (rows x columns),
"scenes:50" (seeds 3, 4, …, the frames spread over them), "noise:2" (of the colour, grey levels).
Several are joined by commas; the same split gives the same samples.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from ..camera import Camera
from . import Dataset, DatasetError, Sample
from .render.image import render, scan
from .render.paths import PERIOD_NS, hand_held, loop
from .render.scenes import Scene, build_scene
from .sparse import Beams

DEFAULTS = {"seed": 0, "frames": 200, "path": "hand", "size": "240x320", "scenes": 1, "noise": 2.0}
START_NS = 1_600_000_000_000_000_000
#: Focal length over width: the Kinect's and NYU's view of 63°.
FOCAL = 0.81
#: The LiDAR: a 16-beam one as `Beams` has it, over the view and some degrees beyond.
LIDAR = Beams(noise=0.01, dropout=0.05)
AZIMUTHS = np.deg2rad(np.arange(-50, 50, 1.0))


class RenderedDataset(Dataset):
    """Frames of one path, or of the paths of several scenes one after the other."""

    def __init__(self, split: str | None) -> None:
        settings = _settings(split)
        self.seed, self.scenes = settings["seed"], settings["scenes"]
        self.path, self.noise = settings["path"], settings["noise"]
        height, width = settings["size"]
        focal = FOCAL * width
        camera = Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
        frames = settings["frames"]
        if frames is None:
            counts = [len(_poses(self.seed + i, "loop", None)) for i in range(self.scenes)]
        else:
            counts = np.bincount(np.arange(frames) % self.scenes, minlength=self.scenes).tolist()
        self.frames = [
            (scene, place, count if frames else None)
            for scene, count in enumerate(counts)
            for place in range(count)
        ]
        names = [
            f"{self.path}-{self.seed + scene:05d}-{place:05d}" for scene, place, _ in self.frames
        ]
        super().__init__("rendered", split, names, camera)

    def decode(self, index: int) -> Sample:
        """Render the frame at a position of ``names``."""
        number, place, count = self.frames[index]
        seed = self.seed + number
        scene, T_world_camera = _scene(seed), _poses(seed, self.path, count)[place]
        rng = np.random.default_rng([seed, 4, place])
        rgb, depth = render(scene, self.camera, T_world_camera)
        if self.noise:
            shifted = rgb + self.noise * rng.standard_normal(rgb.shape, np.float32)
            rgb = np.clip(np.rint(shifted), 0, 255).astype(np.uint8)
        elevations = np.deg2rad(np.linspace(-LIDAR.elevation, LIDAR.elevation, LIDAR.count))
        T_world_lidar = T_world_camera @ LIDAR.T_camera_lidar
        points = scan(scene, T_world_lidar, elevations, AZIMUTHS, rng, LIDAR.noise, LIDAR.dropout)
        return Sample(
            rgb,
            depth,
            self.camera,
            START_NS + index * PERIOD_NS,
            self.names[index],
            points=points,
            T_camera_lidar=LIDAR.T_camera_lidar,
            T_world_camera=T_world_camera,
        )


def open_sequence(root: Path, split: str | None) -> RenderedDataset:
    """Open what the split describes; ``root`` is not looked at."""
    return RenderedDataset(split)


@lru_cache(maxsize=1024)
def _scene(seed: int) -> Scene:
    return build_scene(seed)


@lru_cache(maxsize=1024)
def _poses(seed: int, path: str, count: int | None) -> np.ndarray:
    if path == "loop":
        return loop(_scene(seed), count, seed)
    return hand_held(_scene(seed), count, seed)


def _settings(split: str | None) -> dict:
    """Read "seed:3,path:loop,…" into numbers, each checked."""
    given = {}
    for item in (split or "").split(","):
        name, _, value = item.strip().partition(":")
        if item.strip():
            given[name] = value
    unknown = [name for name in given if name not in DEFAULTS]
    if unknown:
        raise DatasetError(
            f"split: expected NAME:VALUE of {', '.join(DEFAULTS)}, got {unknown[0]!r}"
        )
    settings = {**DEFAULTS, **given}
    if settings["path"] not in ("hand", "loop"):
        raise DatasetError(f"split path: expected hand or loop, got {settings['path']!r}")
    if settings["path"] == "loop" and "frames" not in given:
        settings["frames"] = None
    for name, low in (("seed", 0), ("frames", 1), ("scenes", 1), ("noise", 0)):
        settings[name] = _number(name, settings[name], low, float if name == "noise" else int)
    rows, _, columns = str(settings["size"]).partition("x")
    settings["size"] = (_number("size", rows, 16, int), _number("size", columns, 16, int))
    if settings["frames"] and settings["scenes"] > settings["frames"]:
        raise DatasetError(
            f"split scenes: expected at most {settings['frames']} (frames), "
            f"got {settings['scenes']}"
        )
    return settings


def _number(name: str, text: str | float | None, low: int, kind: type) -> float | int | None:
    if text is None:
        return None
    try:
        value = kind(text)
    except ValueError:
        value = low - 1
    if not low <= value < 2**31:
        raise DatasetError(f"split {name}: expected a number from {low}, got {text!r}")
    return value
