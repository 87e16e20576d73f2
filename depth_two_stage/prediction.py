# SPDX-License-Identifier: Apache-2.0
"""Depth of image files: what `depth-two-stage predict` reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from depth_two_stage import clouds, files, pictures
from depth_two_stage.camera import Camera, Lens
from depth_two_stage.datasets.clouds import read_cloud
from depth_two_stage.estimator import DepthEstimator

__all__ = ["Shot", "assumed_lens", "parse_extrinsics", "predict", "read_lens"]

FIELD_OF_VIEW = 60.0  # degrees across the image, when no camera is given
EDGE_JUMP = 0.05  # relative depth step beside which pixels do not enter the cloud
CALIBRATION = "camera_matrix, distortion_coefficients, image_width, image_height"


@dataclass(frozen=True)
class Shot:
    """One image file, its lens (None: assumed), and at most one source of measured depth.

    `points` is a cloud file (metres), in the frame that `T_camera_points` (4, 4) brings to the
    camera's optical frame; `sparse_depth` a 16-bit PNG of millimetres, 0 = none, of the image.
    """

    image: Path
    lens: Lens | None = None
    points: Path | None = None
    sparse_depth: Path | None = None
    T_camera_points: np.ndarray | None = None


def predict(
    estimator: DepthEstimator,
    shots: Sequence[Shot],
    folder: Path,
    progress: Callable[[Iterable, str], Iterable] = lambda items, _: items,
) -> list[dict]:
    """Write the depth of each shot into `folder`, and return one row of facts each.

    NAME_depth.png is 16 bit, mm; NAME_depth.npy float32 metres; 0 = none in both. NAME.png shows
    image, points, coarse, refined and confidence; NAME.ply is the cloud, optical frame, metres.
    """
    names = [shot.image.stem for shot in shots]
    double = {name for name in names if names.count(name) > 1}
    if double:
        raise ValueError(f"IMAGE: expected different file names, got {sorted(double)[0]} twice")
    shots = progress(shots, "images")
    return [_predict(estimator, shot, folder / shot.image.stem) for shot in shots]


def _predict(estimator: DepthEstimator, shot: Shot, base: Path) -> dict:
    raw = files.read_image(shot.image)
    lens = shot.lens or assumed_lens(raw.shape[1], raw.shape[0])
    if raw.shape[:2] != (lens.height, lens.width):
        raise ValueError(
            f"camera: expected the size of {shot.image} ({raw.shape[1]}x{raw.shape[0]}), "
            f"got {lens.width}x{lens.height}"
        )
    camera = lens.rectified
    rgb, sparse = lens.rectify_image(raw), measured(shot, lens, camera)
    estimate = estimator(rgb, sparse, camera)
    files.write_depth(_named(base, "_depth.png"), estimate.depth)
    with files.atomic_write(_named(base, "_depth.npy")) as file:
        np.save(file, estimate.depth)
    row = pictures.depth_row(rgb, sparse, estimate.coarse, estimate.depth)
    row.append(
        pictures.Panel("confidence", estimate.confidence, 0.0, 1.0, "", valid=estimate.depth > 0)
    )
    files.write_picture(_named(base, ".png"), row)
    points, colors = clouds.coloured_points(estimate.depth, rgb, camera, edge_jump=EDGE_JUMP)
    files.write_ply(_named(base, ".ply"), points, colors)
    valid = estimate.depth > 0
    return {
        "image": shot.image.name,
        "points": 0 if sparse is None else int(np.count_nonzero(sparse)),
        "depth_share": float(valid.mean()),
        "median_depth": float(np.median(estimate.depth[valid])) if valid.any() else None,
        "scale_residual": estimate.scale_residual,
        "milliseconds": estimate.timings_ms["total"],
        "files": [str(_named(base, end)) for end in ("_depth.png", "_depth.npy", ".png", ".ply")],
    }


def _named(base: Path, ending: str) -> Path:
    return base.with_name(base.name + ending)  # with_suffix would cut a name such as 1305.17


def measured(shot: Shot, lens: Lens, camera: Camera) -> np.ndarray | None:
    """Return the sparse depth (H, W) m of a shot on its rectified camera, or None."""
    if shot.points is not None:
        sparse = camera.project(read_cloud(shot.points), shot.T_camera_points)
        if not sparse.any():
            raise ValueError(
                f"points: expected some in view of {shot.image.name}, got none "
                "(the cloud's frame needs x right, y down, z forward, or extrinsics)"
            )
        return sparse
    if shot.sparse_depth is None:
        return None
    depth = files.read_depth(shot.sparse_depth)
    if depth.shape != (lens.height, lens.width):
        raise ValueError(
            f"{shot.sparse_depth}: expected {lens.width}x{lens.height}, "
            f"got {depth.shape[1]}x{depth.shape[0]}"
        )
    if lens.is_rectified:
        return depth
    # Single pixels would be lost or doubled by resampling: carry them as points.
    rows, columns = np.nonzero(depth)
    rays = undistorted(lens, columns, rows)
    return camera.project(rays * depth[rows, columns][:, None])


def undistorted(lens: Lens, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the rays (N, 3), z = 1, of raw pixels in the rectified optical frame."""
    import cv2

    pixels = np.stack([columns, rows], axis=1).astype(np.float64)[:, None]
    undo = cv2.fisheye.undistortPoints if lens.model == "equidistant" else cv2.undistortPoints
    flat = undo(pixels, lens.K, lens.D if lens.D.size else np.zeros(4)).reshape(-1, 2)
    rays = np.column_stack([flat, np.ones(len(flat))]) @ lens.R.T
    return rays / rays[:, 2:]


def assumed_lens(width: int, height: int) -> Lens:
    """Return a lens of 60° across and no distortion: depth is as uncertain as this guess."""
    focal = width / 2 / np.tan(np.radians(FIELD_OF_VIEW) / 2)
    K = [[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]]
    return Lens(width, height, np.array(K))


def read_lens(path: Path) -> Lens:
    """Read camera.json, or the YAML that ROS's camera_calibration writes."""
    if path.suffix.lower() not in (".yaml", ".yml"):
        return files.read_camera(path)[0]
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise files.FileError(f"{path}: expected a readable file, got {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a wrong date
        raise files.FileError(
            f"{path}: expected YAML, got {' '.join(str(error).split())}"
        ) from error
    try:
        numbers = {
            name: np.asarray(content[name]["data"], np.float64)
            for name in ("camera_matrix", "distortion_coefficients")
        }
        R = content.get("rectification_matrix", {"data": np.eye(3)})["data"]
        P = content.get("projection_matrix", {}).get("data")
        return Lens(
            content["image_width"],
            content["image_height"],
            numbers["camera_matrix"],
            numbers["distortion_coefficients"],
            content.get("distortion_model", "plumb_bob"),
            np.asarray(R, np.float64),
            None if P is None else np.asarray(P, np.float64).reshape(3, 4),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise files.FileError(f"{path}: expected {CALIBRATION}, got no {error}") from error
    except (ValueError, OverflowError) as error:
        raise files.FileError(f"{path}: {error}") from error


def parse_extrinsics(text: str) -> np.ndarray:
    """Read "x y z qx qy qz qw" (metres, unit quaternion) as a transform, float64 (4, 4)."""
    from scipy.spatial.transform import Rotation

    try:
        numbers = np.array(text.replace(",", " ").split(), np.float64)
    except ValueError:
        numbers = np.zeros(0)
    norm = np.linalg.norm(numbers[3:])
    if numbers.shape != (7,) or not np.isfinite(numbers).all() or abs(norm - 1) > 1e-2:
        raise ValueError(f"extrinsics: expected x y z and a unit quaternion, got {text!r}")
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat(numbers[3:]).as_matrix()
    T[:3, 3] = numbers[:3]
    return T
