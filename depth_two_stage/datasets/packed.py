# SPDX-License-Identifier: Apache-2.0
"""Data sets in a few large files, for machines to which a folder of many does not travel.

``write_pack`` makes a folder of pack.json and parts, zip files without compression that hold
NNNNNN.jpg (colour) and NNNNNN.png (depth, 16 bit) of one set after the other; none is larger than a
limit. pack.json has everything else: names, stamps, cameras, the parts' sizes, and the source's
data set, split and list hash. Re-coding changes no name, so that a pack's list hash is its
source's; ``source`` says how its frames were coded. Poses and points are not kept.
"""

from __future__ import annotations

import dataclasses
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from depth_two_stage import files
from depth_two_stage.atomic import atomic_folder, atomic_write
from depth_two_stage.camera import Camera
from depth_two_stage.messages import SATURATED

from . import Dataset, DatasetError, Sample
from .augmentation import shrink

INDEX, FORMAT = "pack.json", "depth_two_stage pack 1"
PART_BYTES = 24 * 2**20
#: What a member of a zip file takes beside its content and, twice, its name; and the file's end.
MEMBER_BYTES, END_BYTES = 30 + 46, 22
#: Measured depth has noise in its last bits, in which looking for repetitions finds nothing; depth
#: of few values has many. The smaller of the two is taken.
PNG = tuple(
    (cv2.IMWRITE_PNG_COMPRESSION, level, cv2.IMWRITE_PNG_STRATEGY, strategy)
    for level, strategy in (
        (9, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY),
        (6, cv2.IMWRITE_PNG_STRATEGY_FILTERED),
    )
)


class Coding(NamedTuple):
    """How frames are packed: at most ``width`` px wide, JPEG ``quality``, depth units per metre."""

    width: int = 320
    quality: int = 95
    depth_scale: float = 1000.0


USUAL = Coding()


class Packing(NamedTuple):
    """A set to pack: what its parts are called, the split that opens it again, its frames."""

    title: str
    split: str | None
    data: Dataset


def write_pack(
    out: Path,
    sets: Sequence[Packing],
    coding: Coding = USUAL,
    part_bytes: int = PART_BYTES,
    track: Callable[[Iterable, str], Iterable] = lambda items, _: items,
) -> list[dict[str, Any]]:
    """Write sets into a new folder, which is there when all of it is; what pack.json says of each.

    A JPEG file that fits as it is goes in unchanged. Raises `DatasetError` where depth does not fit
    into 16 bits, `WriteError` for a folder with files in it.
    """
    with atomic_folder(out) as folder:
        made = [_write_set(folder, chosen, coding, part_bytes, track) for chosen in sets]
        files.write_json(folder / INDEX, {"format": FORMAT, "sets": made})
    return made


def _write_set(
    folder: Path,
    chosen: Packing,
    coding: Coding,
    part_bytes: int,
    track: Callable[[Iterable, str], Iterable],
) -> dict[str, Any]:
    title, split, data = chosen
    cameras: dict[Camera, int] = {}
    frames, parts, kept, members, size = [], [], 0, {}, END_BYTES
    for index in track(range(len(data)), f"pack {title}"):
        sample = data[index]
        rgb, depth, camera = _reduced(sample, coding.width)
        jpeg = data.jpeg(index) if camera == sample.camera else None
        kept += jpeg is not None
        coded = {
            ".jpg": jpeg.read_bytes() if jpeg else files.encode_image(".jpg", rgb, coding.quality)
        }
        if depth is not None:
            _check_fits(depth, coding.depth_scale, sample.name)
            tried = (files.encode_depth(depth, coding.depth_scale, options) for options in PNG)
            coded[".png"] = min(tried, key=len)
        named = {f"{index:06d}{suffix}": content for suffix, content in coded.items()}
        more = sum(MEMBER_BYTES + 2 * len(name) + len(c) for name, c in named.items())
        if members and size + more > part_bytes:
            parts.append(_write_part(folder, len(parts), members))
            members, size = {}, END_BYTES
        if size + more > part_bytes:
            raise DatasetError(
                f"part: expected at least {size + more} bytes for {sample.name}, got {part_bytes}"
            )
        members |= named
        size += more
        place = cameras.setdefault(camera, len(cameras))
        frames.append([sample.name, len(parts), sample.stamp, place, sample.invalid_depth])
    parts.append(_write_part(folder, len(parts), members))
    for number, part in enumerate(parts):  # how many there are is known only now
        name = f"{title}-{number + 1}-of-{len(parts)}.zip"
        os.replace(folder / part["file"], folder / name)
        part["file"] = name
    source = {
        "dataset": data.name,
        "split": data.split,
        "list_hash": data.list_hash,
        "coding": coding._asdict(),
        "jpeg_files_unchanged": kept,
    }
    return {
        "title": title,
        "split": split,
        "source": source,
        "cameras": [dataclasses.asdict(camera) for camera in cameras],
        "parts": parts,
        "frames": frames,
    }


def _reduced(sample: Sample, width: int) -> tuple[np.ndarray, np.ndarray | None, Camera]:
    """Colour, depth and camera of a frame at most so wide: colour area-averaged, depth nearest."""
    camera = sample.camera
    if camera.width <= width:
        return sample.rgb, sample.depth, camera
    depth = np.zeros(camera.size, np.float32) if sample.depth is None else sample.depth
    view = shrink(sample.rgb, depth, None, camera, width / camera.width)
    return view.rgb, None if sample.depth is None else view.depth, view.camera


def _check_fits(depth: np.ndarray, scale: float, name: str) -> None:
    farthest = float(depth.max(initial=0))
    if farthest * scale > SATURATED - 1:
        most = math.floor((SATURATED - 1) / farthest)
        raise DatasetError(
            f"depth scale: expected at most {most} units per metre for the {farthest:.1f} m of "
            f"{name}, got {scale:g}"
        )
    nearest = float(depth[depth > 0].min(initial=np.inf))
    if nearest * scale <= 0.5:
        raise DatasetError(
            f"depth scale: expected more than {0.5 / nearest:g} units per metre for the "
            f"{nearest:g} m of {name}, got {scale:g}"
        )


def _write_part(folder: Path, number: int, members: dict[str, bytes]) -> dict[str, Any]:
    path = folder / f"part-{number}.zip"
    with atomic_write(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as part:
        for name, content in members.items():  # without the hour: the same frames, the same bytes
            part.writestr(zipfile.ZipInfo(name), content)
    return {"file": path.name, "bytes": path.stat().st_size}


class PackedDataset(Dataset):
    """One set of a pack. ``source`` says of what it was made, and how it was coded."""

    def __init__(self, root: Path, content: dict[str, Any]) -> None:
        self.parts = [root / part["file"] for part in content["parts"]]
        self.cameras = [Camera(**camera) for camera in content["cameras"]]
        self.frames, self.source = content["frames"], content["source"]
        camera = self.cameras[0] if len(self.cameras) == 1 else None
        super().__init__("packed", content["split"], [frame[0] for frame in self.frames], camera)

    def decode(self, index: int) -> Sample:
        """Read the frame at a position of ``names`` from its part."""
        name, part, stamp, camera, invalid = self.frames[index]
        path, depth = self.parts[part], None
        try:
            with zipfile.ZipFile(path) as archive:
                rgb = archive.read(f"{index:06d}.jpg")
                if f"{index:06d}.png" in archive.namelist():
                    depth = archive.read(f"{index:06d}.png")
        except (OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise DatasetError(f"{path}: expected frame {name} in it whole, got {error}") from error
        where = f"{path} {name}"
        rgb = files.decode_image(rgb, where)
        if depth is not None:
            depth = files.decode_depth(depth, where, self.source["coding"]["depth_scale"])
        return Sample(rgb, depth, self.cameras[camera], stamp, name, invalid_depth=invalid)


def open_sequence(root: Path, split: str | None) -> PackedDataset:
    """Open a set of a pack by the split it was packed with; its parts must all be there, whole."""
    content = files.read_json(root / INDEX)
    if content.get("format") != FORMAT:
        raise DatasetError(
            f"{root / INDEX}: expected the format {FORMAT!r}, got {content.get('format')!r}"
        )
    try:
        sets = {chosen["split"]: chosen for chosen in content["sets"]}
        if split not in sets:
            known = ", ".join("none" if name is None else name for name in sets)
            raise DatasetError(f"split: expected one of {known}, got {split!r}")
        _check_parts(root, sets[split]["parts"])
        data = PackedDataset(root, sets[split])
        recorded = data.source["list_hash"]
    except (KeyError, TypeError, IndexError) as error:
        raise DatasetError(
            f"{root / INDEX}: expected what train --pack writes, got {error!r}"
        ) from error
    if data.list_hash != recorded:
        raise DatasetError(
            f"{root / INDEX}: expected frames of the list hash {recorded}, got {data.list_hash}"
        )
    return data


def _check_parts(root: Path, parts: list[dict[str, Any]]) -> None:
    missing = [part["file"] for part in parts if not (root / part["file"]).is_file()]
    if missing:
        raise DatasetError(f"root: expected every part in {root}, got no {', '.join(missing)}")
    for part in parts:
        size = (root / part["file"]).stat().st_size
        if size != part["bytes"]:
            raise DatasetError(
                f"{root / part['file']}: expected {part['bytes']} bytes, got {size}: truncated?"
            )
