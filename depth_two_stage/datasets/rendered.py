# SPDX-License-Identifier: Apache-2.0
"""Procedural rooms as a data set: exact depth and poses, a LiDAR with extrinsics; needs no files.

A split says which: "seed:3" (the scene), "frames:200", "path:hand" or "path:loop" (a walk through
all rooms and back; without frames as many as walking at 0.6 m/s and 10 Hz takes), "rooms:2x2",
"laps:1" (of the loop), "size:240x320" (rows x columns), "scenes:50" (seeds 3, 4, …, the frames
spread over them), "noise:2" (of the colour, grey levels).

For loop closure: "path:loop,rooms:3x6,laps:1.12,lidar:0" closes a loop of 64 to 99 m through 18
rooms, of which the last tenth of the frames sees the first ones again, with a hand's other shaking;
"laps:2" takes more than 2,000 frames.

To train from: "path:anywhere" (each frame from a place of its own, the scenes in turn, as many
frames as one likes), "look:random" (textures, colours and lights of each frame), "photo:random"
(exposure, noise, motion blur, defocus and JPEG of each frame), "fov:45-95" (horizontal field of
view of each frame, degrees), "centre:0.05" (principal point off the middle by up to that share of
width and height), "lidar:0" (no points, which take longer than the image).

Several are joined by commas; the same split gives the same samples.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from ..camera import Camera
from . import Dataset, DatasetError, Sample
from .photometry import Photometry
from .render.image import render, scan
from .render.looks import random_look
from .render.paths import PERIOD_NS, anywhere, hand_held, loop
from .render.scenes import Scene, build_scene
from .sparse import Beams

DEFAULTS = {
    **{"seed": 0, "frames": 200, "path": "hand", "size": "240x320", "scenes": 1, "noise": 2.0},
    **{
        "rooms": "2x2",
        "laps": 1.0,
        "look": "plain",
        "photo": "plain",
        "fov": None,
        "centre": 0.0,
        "lidar": 1,
    },
}
CHOICES = {
    "path": ("hand", "loop", "anywhere"),
    "look": ("plain", "random"),
    "photo": ("plain", "random"),
}
MOST_ROOMS = 20  # along a side
START_NS = 1_600_000_000_000_000_000
#: Focal length over width: the Kinect's and NYU's view of 63°.
FOCAL = 0.81
#: The LiDAR: a 16-beam one as `Beams` has it, over the view and some degrees beyond.
LIDAR = Beams(noise=0.01, dropout=0.05)
#: what "photo:random" draws from
PHOTOMETRY = Photometry(
    **{"exposure": 0.8, "noise": 0.7, "motion": 0.2, "defocus": 0.3, "jpeg": 0.3},
    stops=(-1.5, 1.0),
    gamma=(0.7, 1.4),
    noise_std=(1.0, 10.0),
)
AZIMUTHS = np.deg2rad(np.arange(-50, 50, 1.0))


class RenderedDataset(Dataset):
    """Frames of one path, or of the paths of several scenes one after the other; or from anywhere.

    ``camera`` is None where each frame has a lens of its own.
    """

    exact_depth = True

    def __init__(self, split: str | None) -> None:
        self.settings = settings = _settings(split)
        frames, scenes, path = settings["frames"], settings["scenes"], settings["path"]
        if frames is None:
            counts = [len(self._path(settings["seed"] + i, None)) for i in range(scenes)]
        else:
            counts = np.bincount(np.arange(frames) % scenes, minlength=scenes).tolist()
        self.frames = [
            (scene, place, count if frames else None)
            for scene, count in enumerate(counts)
            for place in range(count)
        ]
        if path == "anywhere":
            self.frames = [(i % scenes, i // scenes, None) for i in range(frames)]
        names = [
            f"{path}-{settings['seed'] + scene:05d}-{place:05d}" for scene, place, _ in self.frames
        ]
        one_lens = settings["fov"] is None and not settings["centre"]
        super().__init__("rendered", split, names, self._lens(None) if one_lens else None)

    def _lens(self, rng: np.random.Generator | None) -> Camera:
        """The camera of a frame; without a generator that of all."""
        height, width = self.settings["size"]
        focal, off = FOCAL * width, np.zeros(2)
        if rng is not None and self.settings["fov"] is not None:
            focal = width / 2 / np.tan(np.deg2rad(rng.uniform(*self.settings["fov"])) / 2)
        if rng is not None:
            off = rng.uniform(-1, 1, 2) * self.settings["centre"] * (width, height)
        cx, cy = (width - 1) / 2 + off[0], (height - 1) / 2 + off[1]
        return Camera(width, height, focal, focal, cx, cy)

    def _path(self, seed: int, count: int | None) -> np.ndarray:
        """Poses (N, 4, 4) of the walk or the hand in the scene of a seed."""
        return _poses(seed, *(self.settings[name] for name in ("rooms", "path", "laps")), count)

    def decode(self, index: int) -> Sample:
        """Render the frame at a position of ``names``."""
        settings, (number, place, count) = self.settings, self.frames[index]
        seed = settings["seed"] + number
        scene = _scene(seed, settings["rooms"])
        # One generator a purpose, so that a frame's place is the same in every look.
        noise, pose, look, lens, photo = (
            np.random.default_rng([seed, purpose, place]) for purpose in (4, 5, 6, 7, 8)
        )
        camera = self.camera or self._lens(lens)
        if settings["path"] == "anywhere":
            T_world_camera = anywhere(scene, pose)
        else:
            T_world_camera = self._path(seed, count)[place]
        appearance = random_look(scene, look) if settings["look"] == "random" else None
        rgb, depth = render(scene, camera, T_world_camera, appearance)
        if settings["noise"]:
            shifted = rgb + settings["noise"] * noise.standard_normal(rgb.shape, np.float32)
            rgb = np.clip(np.rint(shifted), 0, 255).astype(np.uint8)
        if settings["photo"] == "random":
            rgb = PHOTOMETRY(rgb, photo)
        points = None
        if settings["lidar"]:
            elevations = np.deg2rad(np.linspace(-LIDAR.elevation, LIDAR.elevation, LIDAR.count))
            points = scan(
                scene,
                T_world_camera @ LIDAR.T_camera_lidar,
                elevations,
                AZIMUTHS,
                noise,
                LIDAR.noise,
                LIDAR.dropout,
            )
        return Sample(
            rgb,
            depth,
            camera,
            START_NS + index * PERIOD_NS,
            self.names[index],
            points=points,
            T_camera_lidar=LIDAR.T_camera_lidar if settings["lidar"] else None,
            T_world_camera=T_world_camera,
        )


def open_sequence(root: Path, split: str | None) -> RenderedDataset:
    """Open what the split describes; ``root`` is not looked at."""
    return RenderedDataset(split)


@lru_cache(maxsize=1024)
def _scene(seed: int, rooms: tuple[int, int]) -> Scene:
    return build_scene(seed, rooms)


@lru_cache(maxsize=1024)
def _poses(
    seed: int, rooms: tuple[int, int], path: str, laps: float, count: int | None
) -> np.ndarray:
    scene = _scene(seed, rooms)
    return loop(scene, count, seed, laps) if path == "loop" else hand_held(scene, count, seed)


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
    for name, known in CHOICES.items():
        if settings[name] not in known:
            raise DatasetError(
                f"split {name}: expected {' or '.join(known)}, got {settings[name]!r}"
            )
    if settings["path"] == "loop" and "frames" not in given:
        settings["frames"] = None
    for name, low, high in (
        *(("seed", 0, None), ("frames", 1, None), ("scenes", 1, None), ("noise", 0.0, None)),
        *(("centre", 0.0, 0.5), ("lidar", 0, 1), ("laps", 0.01, 1000.0)),
    ):
        settings[name] = _number(name, settings[name], low, high)
    rows, _, columns = str(settings["size"]).partition("x")
    settings["size"] = (_number("size", rows, 16), _number("size", columns, 16))
    columns, _, rows = str(settings["rooms"]).partition("x")
    settings["rooms"] = tuple(_number("rooms", n, 2, MOST_ROOMS) for n in (columns, rows))
    if settings["rooms"][0] % 2 and settings["rooms"][1] % 2:  # no ring visits each room once
        raise DatasetError(f"split rooms: expected an even number, got {given['rooms']!r}")
    if settings["fov"] is not None:
        least, _, most = settings["fov"].partition("-")
        settings["fov"] = _number("fov", least, 10.0, 150.0), _number("fov", most, 10.0, 150.0)
        if settings["fov"][0] > settings["fov"][1]:
            raise DatasetError(f"split fov: expected the lower first, got {given['fov']!r}")
    if settings["frames"] and settings["scenes"] > settings["frames"]:
        raise DatasetError(
            f"split scenes: expected at most {settings['frames']} (frames), "
            f"got {settings['scenes']}"
        )
    return settings


def _number(
    name: str, text: str | float | None, low: float, high: float | None = None
) -> float | int | None:
    """A number of the type of its lower bound."""
    if text is None:
        return None
    try:
        value = type(low)(text)
    except ValueError:
        value = low - 1
    if not low <= value <= (2**31 - 1 if high is None else high):
        most = "" if high is None else f" to {high:g}"
        raise DatasetError(f"split {name}: expected a number from {low:g}{most}, got {text!r}")
    return value
