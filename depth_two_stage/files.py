# SPDX-License-Identifier: Apache-2.0
"""What is read and written on disk: images, 16-bit depth PNG, PLY, trajectories, reports."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from depth_two_stage import pictures, ply
from depth_two_stage.atomic import WriteError, atomic_path, atomic_write, check_writable
from depth_two_stage.camera import Lens
from depth_two_stage.messages import SATURATED

__all__ = [
    "IMAGE_SUFFIXES",
    "FileError",
    "WriteError",
    "atomic_path",
    "atomic_write",
    "check_writable",
    "decode_depth",
    "decode_image",
    "encode_depth",
    "encode_image",
    "read_camera",
    "read_depth",
    "read_image",
    "read_json",
    "read_ply",
    "read_trajectory",
    "write_depth",
    "write_image",
    "write_json",
    "write_picture",
    "write_ply",
    "write_trajectory",
]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_SECONDS = 2**31  # of a stamp: what messages hold
PNG_END = b"IEND\xae\x42\x60\x82"  # the last chunk with its checksum; padding may follow
Trajectory = list[tuple[int, np.ndarray]]


class FileError(ValueError):
    """A file whose content is not what its name promises: "path: expected …, got …"."""


def read_image(path: str | Path) -> np.ndarray:
    """A colour or grey image file as uint8 (H, W, 3) RGB; a truncated file is an error."""
    return decode_image(_content(path), path)


def read_depth(path: str | Path, scale: float = 1000.0) -> np.ndarray:
    """A 16-bit single-channel PNG of ``scale`` units per metre as float32 (H, W) m, 0 = none.

    65535 is saturated, which is no reading either (`messages.SATURATED`): 0 here.
    """
    return decode_depth(_content(path), path, scale)


def decode_image(data: bytes, path: str | Path) -> np.ndarray:
    """The bytes of a colour or grey image file as uint8 (H, W, 3) RGB; errors name ``path``."""
    image = _decoded(data, path, cv2.IMREAD_COLOR)
    if image is None:
        raise FileError(f"{path}: expected a colour image, got undecodable data")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def decode_depth(data: bytes, path: str | Path, scale: float = 1000.0) -> np.ndarray:
    """The bytes of a depth PNG as `read_depth` reads them; errors name ``path``."""
    image = _decoded(data, path, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise FileError(f"{path}: expected a 16-bit depth PNG, got undecodable data")
    if image.dtype != np.uint16 or image.ndim != 2:
        raise FileError(
            f"{path}: expected a 16-bit single-channel PNG, got {image.dtype} {image.shape}"
        )
    depth = image.astype(np.float32) / np.float32(scale)
    depth[image == SATURATED] = 0
    return depth


def write_image(path: str | Path, rgb: np.ndarray) -> None:
    """Write uint8 (H, W, 3) RGB as the suffix says: .png or .jpg (quality 95)."""
    path = Path(path)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise FileError(f"{path}: expected the suffix .png, .jpg or .jpeg, got {path.suffix!r}")
    with atomic_write(path) as file:
        file.write(encode_image(path.suffix.lower(), rgb))


def encode_image(suffix: str, rgb: np.ndarray, quality: int = 95) -> bytes:
    """The bytes of an image file of uint8 (H, W, 3) RGB; ``quality`` is JPEG's, 1 to 100."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix != ".png" else []
    _, data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    return data.tobytes()


def write_depth(path: str | Path, depth: np.ndarray, scale: float = 1000.0) -> None:
    """Write depth (H, W) m as 16-bit PNG of ``scale`` units per metre, 0 = none.

    What is invalid, or too far for 16 bits (65.534 m at 1000 units), is written as none.
    """
    with atomic_write(path) as file:
        file.write(encode_depth(depth, scale))


def encode_depth(depth: np.ndarray, scale: float = 1000.0, options: Sequence[int] = ()) -> bytes:
    """The bytes of a depth PNG as `write_depth` writes it; ``options`` are OpenCV's for PNG."""
    units = np.rint(np.asarray(depth, np.float64) * scale)
    fits = np.isfinite(units) & (units > 0) & (units < SATURATED)
    _, data = cv2.imencode(".png", np.where(fits, units, 0).astype(np.uint16), list(options))
    return data.tobytes()


def _decoded(data: bytes, path: str | Path, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(_whole(data, path), flags)
    except cv2.error as error:  # a header that promises more pixels than OpenCV takes
        reason = " ".join(str(error).split())
        raise FileError(f"{path}: expected an image of moderate size, got {reason}") from error


def _content(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"{path}: expected a readable image, got {error.strerror}") from error


def _whole(data: bytes, path: str | Path) -> np.ndarray:
    """The bytes of an image file, which must have its end: OpenCV pads what is missing."""
    if not data:
        raise FileError(f"{path}: expected an image, got an empty file")
    cut = data[:4] == b"\x89PNG" and PNG_END not in data
    # An end marker cannot occur inside JPEG's coded data, so one must follow the last scan's start.
    cut |= data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    if cut:
        raise FileError(f"{path}: expected a whole image, got a truncated file ({len(data)} bytes)")
    return np.frombuffer(data, np.uint8)


def read_json(path: str | Path) -> dict:
    """A JSON object from a file."""
    path = Path(path)
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise FileError(f"{path}: expected a readable file, got {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: expected JSON, got {error}") from error
    if not isinstance(content, dict):
        raise FileError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def write_json(path: str | Path, content: Any) -> None:
    """Write a report; arrays become lists, dataclasses objects, NaN and infinity null."""
    with atomic_write(path, "w") as file:
        json.dump(plain(content), file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def plain(content: Any) -> Any:
    """Reduce nested content to what JSON knows; NaN and infinity become None."""
    if isinstance(content, dict):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple, set)):
        return [plain(value) for value in content]
    if isinstance(content, (np.ndarray, np.generic)):
        return plain(content.tolist())
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        return {
            field.name: plain(getattr(content, field.name)) for field in dataclasses.fields(content)
        }
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if content is None or isinstance(content, (str, int, bool)):
        return content
    if isinstance(content, Path):
        return str(content)
    raise FileError(f"report: expected what JSON can hold, got {type(content).__name__}")


def read_camera(path: str | Path, depth_scale: bool = False) -> tuple[Lens, float | None]:
    """camera.json → (lens, depth units per metre or None; ``depth_scale`` makes it required).

    Keys width, height, fx, fy, cx, cy in pixels, optional ``distortion_plumb_bob``,
    ``distortion_rational_polynomial`` or ``distortion_equidistant``, and ``depth_scale``. The
    rectified camera keeps the focal lengths and principal point.
    """
    content = read_json(path)
    wanted = ["width", "height", "fx", "fy", "cx", "cy"] + ["depth_scale"] * depth_scale
    missing = [key for key in wanted if key not in content]
    if missing:
        raise FileError(
            f"{path}: expected the key {missing[0]}, got only {', '.join(content) or 'nothing'}"
        )
    model, D = "plumb_bob", []
    for key in content:
        if key.startswith("distortion_"):
            model, D = key.removeprefix("distortion_"), content[key]
    for key in (*wanted, *(["depth_scale"] if "depth_scale" in content else [])):
        if isinstance(content[key], bool) or not isinstance(content[key], (int, float)):
            raise FileError(f"{path}: {key}: expected a number, got {content[key]!r}")
    try:
        width, height, fx, fy, cx, cy = (float(content[key]) for key in wanted[:6])
        K = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]
        lens = Lens(width, height, np.array(K), np.array(D, np.float64), model)
        scale = float(content["depth_scale"]) if "depth_scale" in content else None
    except (TypeError, ValueError, OverflowError) as error:
        raise FileError(f"{path}: {error}") from error
    if scale is not None and not (np.isfinite(scale) and scale > 0):
        raise FileError(f"{path}: depth_scale: expected a positive number, got {scale}")
    return lens, scale


def write_trajectory(path: str | Path, trajectory: Sequence[tuple[int, np.ndarray]]) -> None:
    """Write (stamp ns, T_world_camera (4, 4)) in TUM format: stamp s, tx ty tz, qx qy qz qw."""
    from scipy.spatial.transform import Rotation

    with atomic_write(path, "w") as file:
        file.write("# timestamp tx ty tz qx qy qz qw\n")
        for stamp, T in trajectory:
            numbers = [*T[:3, 3], *Rotation.from_matrix(T[:3, :3]).as_quat()]
            seconds, rest = divmod(int(stamp), 1_000_000_000)
            file.write(f"{seconds}.{rest:09d} " + " ".join(f"{n:.9f}" for n in numbers) + "\n")


def read_trajectory(path: str | Path) -> Trajectory:
    """Read a TUM trajectory as (stamp ns, T (4, 4)) in the file's order."""
    from scipy.spatial.transform import Rotation

    stamps, rows = [], []
    for number, words in read_table(path):
        if len(words) != 8:
            raise FileError(f"{path}: line {number}: expected 8 numbers, got {len(words)}")
        stamps.append(parse_stamp(words[0], f"{path}: line {number}"))
        try:
            row = [float(word) for word in words[1:]]
        except ValueError as error:
            raise FileError(f"{path}: line {number}: expected numbers, got {error}") from error
        if not np.isfinite(row).all() or np.linalg.norm(row[3:]) < 1e-6:
            raise FileError(f"{path}: line {number}: expected a finite pose, got {words[1:]}")
        rows.append(row)
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    if rows:
        table = np.array(rows)
        poses[:, :3, 3] = table[:, :3]
        poses[:, :3, :3] = Rotation.from_quat(table[:, 3:]).as_matrix()
    return list(zip(stamps, poses, strict=True))


def read_table(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Give (line number, words) of each line of a text file that is no comment and not empty."""
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise FileError(f"{path}: expected a readable file, got {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: expected text, got {error}") from error
    for number, line in enumerate(text.splitlines(), 1):
        words = line.replace(",", " ").split()
        if words and not words[0].startswith("#"):
            yield number, words


def parse_stamp(text: str, where: str) -> int:
    """Read seconds such as 1305031102.175304 as integer nanoseconds, exactly."""
    seconds, _, fraction = text.partition(".")
    if not (seconds.isdecimal() and (not fraction or fraction.isdecimal())):
        raise FileError(f"{where}: expected a stamp in seconds, got {text!r}")
    if int(seconds) >= MAX_SECONDS:
        raise FileError(f"{where}: expected a stamp below {MAX_SECONDS} s, got {text}")
    return int(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, "0") or 0)


def write_ply(
    path: str | Path,
    points: np.ndarray,
    colors: np.ndarray | None = None,
    triangles: np.ndarray | None = None,
    normals: np.ndarray | None = None,
) -> None:
    """Write a cloud, or a mesh when there are triangles (M, 3), as binary PLY.

    ``points`` and ``normals`` (N, 3) m, ``colors`` uint8 (N, 3) RGB.
    """
    data = ply.encode(ply.Ply(points, colors, triangles, normals))
    with atomic_write(path) as file:
        file.write(data)


def read_ply(path: str | Path) -> ply.Ply:
    """Read a PLY (binary or ASCII): points, and colors, normals, triangles where there are any."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"{path}: expected a readable file, got {error.strerror}") from error
    try:
        return ply.decode(data)
    except ply.PlyError as error:
        raise FileError(f"{path}: {error}") from error


def write_picture(path: str | Path, panels: Sequence) -> None:
    """Write `pictures.Panel` side by side (or rows of them) as .png or .jpg."""
    write_image(path, pictures.grid(panels))
