# SPDX-License-Identifier: Apache-2.0
"""Any data set as a bag, as a robot with a camera and a LiDAR would have recorded it.

Colour is as recorded, lens distortion included, with a camera_info that says so; a data set
without LiDAR gets one that sees the frame's own depth. `TOPICS` names what is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from depth_two_stage.camera import Lens
from depth_two_stage.datasets import Dataset, DatasetError, Sample
from depth_two_stage.datasets import bag_messages as build
from depth_two_stage.datasets.bag_writer import BagWriter
from depth_two_stage.datasets.sparse import R_CAMERA_LIDAR, Beams

TOPICS = {
    "image": "/camera/image_raw/compressed",
    "camera_info": "/camera/camera_info",
    "points": "/lidar/points",
    "depth": "/camera/depth/image_raw",
    "pose": "/ground_truth/pose",
    "tf_static": "/tf_static",
}
WORLD, BASE, LINK, OPTICAL, LIDAR = (
    "world",
    "base_link",
    "camera_link",
    "camera_color_optical_frame",
    "lidar",
)
#: What a bag must say of where it comes from.
SOURCES = {
    "tum": "TUM RGB-D benchmark; J. Sturm et al., A Benchmark for the Evaluation of RGB-D SLAM "
    "Systems, IROS 2012; CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)",
    "nyu": "NYU Depth v2; N. Silberman et al., ECCV 2012; research use",
    "sevenscenes": "7-Scenes; J. Shotton et al., CVPR 2013; non-commercial use",
    "kitti": "KITTI; A. Geiger et al., IJRR 2013; CC BY-NC-SA 3.0",
}
MAX_POINTS = 1500
SECOND = 1_000_000_000


def make_bag(
    dataset: Dataset,
    path: str | Path,
    *,
    quality: int = 80,
    depth_every: int = 5,
    beams: int = 16,
    up: str = "auto",
    source: str | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Path:
    """Write a data set as a new bag folder ``path``; the same data set gives the same bag.

    ``quality`` is JPEG's (1…100), true depth goes into every ``depth_every``-th frame (0: none),
    ``beams`` is the number of the simulated LiDAR's beams (0: none; a data set's own points are
    kept). ``up`` is the axis of the poses' world that points up (x, y, z, -x, -y, -z), by which
    base_link is levelled; "none" leaves the camera level as it is, "auto" is z for tum.
    ``progress`` is told the number of frames written.
    """
    if not 1 <= quality <= 100:
        raise DatasetError(f"quality: expected 1 to 100, got {quality}")
    if depth_every < 0 or beams < 0:
        raise DatasetError(f"depth_every, beams: expected 0 or more, got {depth_every}, {beams}")
    first = dataset[0]
    lidar = _lidar(first, beams)
    about = {
        "source": source or SOURCES.get(dataset.name, f"{dataset.name} data set, terms not stated"),
        "changes": f"{len(dataset)} frames; colour re-coded as JPEG {quality}, depth in "
        "millimetres" + (f", LiDAR simulated from depth with {beams} beams" if lidar else ""),
        "poses": f"{TOPICS['pose']} is the optical frame of the camera in the frame {WORLD}",
    }
    with BagWriter(path, about, latched=(TOPICS["tf_static"],)) as bag:
        # Recordings without stamps begin at 0, which to every node means "no stamp".
        shift = SECOND if first.stamp <= 0 else 0
        _write_static(bag, first.stamp + shift, first, lidar, _up_axis(up, dataset.name))
        for index in range(len(dataset)):
            sample = first if index == 0 else dataset[index]
            if not _same_lidar(sample, first):
                raise DatasetError(
                    f"{sample.name}: expected the LiDAR's place of {first.name} (a bag has one), "
                    "got another: choose one drive by --split"
                )
            sample = replace(sample, stamp=sample.stamp + shift)
            rgb, depth, lens = raw_frame(dataset, index, sample)
            if depth_every == 0 or index % depth_every:
                depth = None
            _write_frame(bag, sample, rgb, depth, lens, quality)
            points = sample.points if lidar is None else simulated(sample, lidar)
            if points is not None:
                cloud = build.cloud(sample.stamp, LIDAR, points)
                bag.write(TOPICS["points"], sample.stamp, cloud)
            progress(index + 1)
    return Path(path)


def _same_lidar(a: Sample, b: Sample) -> bool:
    if a.points is None or b.points is None:
        return True
    return np.array_equal(a.T_camera_lidar, b.T_camera_lidar)


def raw_frame(
    dataset: Dataset, index: int, sample: Sample
) -> tuple[np.ndarray, np.ndarray | None, Lens]:
    """Colour, depth (m, or None) and lens of a frame as recorded, before rectification."""
    if dataset.lens is None or dataset.lens.is_rectified or not hasattr(dataset, "raw"):
        camera = sample.camera
        return sample.rgb, sample.depth, Lens(camera.width, camera.height, camera.K)
    return (*dataset.raw(index), dataset.lens)


def simulated(sample: Sample, lidar: Beams) -> np.ndarray:
    """At most `MAX_POINTS` points (N, 3) m, LiDAR frame, in which the beams meet the depth."""
    if sample.depth is None:
        return np.empty((0, 3), np.float32)
    points = lidar.scan(sample.depth, sample.camera, np.random.default_rng(0))
    if len(points) > MAX_POINTS:
        points = points[np.linspace(0, len(points) - 1, MAX_POINTS).astype(int)]
    # Steps of 0.5 mm, far below a LiDAR's noise, let the bag compress to two thirds.
    return np.rint(points * 2048) / np.float32(2048)


def _lidar(first: Sample, beams: int) -> Beams | None:
    """Choose the LiDAR to simulate: as many azimuths in the view as `MAX_POINTS` allows."""
    if first.points is not None or beams == 0 or first.depth is None:
        return None
    camera = first.camera
    view = np.degrees(
        np.arctan(camera.cx / camera.fx) + np.arctan((camera.width - camera.cx) / camera.fx)
    )
    return Beams(beams, azimuth_step=float(np.ceil(view * beams / MAX_POINTS * 20) / 20))


def _up_axis(up: str, name: str) -> np.ndarray | None:
    up = {"auto": "z" if name == "tum" else "none"}.get(up, up)
    if up == "none":
        return None
    if up.lstrip("-") not in ("x", "y", "z"):
        raise DatasetError(f"up: expected auto, none, x, y, z, -x, -y or -z, got {up!r}")
    return np.eye(3)["xyz".index(up[-1])] * (-1 if up[0] == "-" else 1)


def levelled(T_world_camera: np.ndarray, up: np.ndarray) -> np.ndarray:
    """T_base_link (4, 4) of a base with z along ``up`` and x forward, at the camera's place."""
    R_world_link = T_world_camera[:3, :3] @ R_CAMERA_LIDAR
    forward = R_world_link[:, 0] - up * (up @ R_world_link[:, 0])
    if np.linalg.norm(forward) < 1e-3:  # the camera looks along the vertical: its up is forward
        forward = R_world_link[:, 2] - up * (up @ R_world_link[:, 2])
    forward /= np.linalg.norm(forward)
    T = np.eye(4)
    T[:3, :3] = np.stack([forward, np.cross(up, forward), up]) @ R_world_link
    return T


def _write_static(
    bag: BagWriter, stamp: int, first: Sample, lidar: Beams | None, up: np.ndarray | None
) -> None:
    T_link_camera, T_base_link = np.eye(4), np.eye(4)
    T_link_camera[:3, :3] = R_CAMERA_LIDAR.T  # camera_link has the LiDAR's axes: x forward, z up
    if up is not None and first.T_world_camera is not None:
        T_base_link = levelled(first.T_world_camera, up)
    tree = [(BASE, LINK, T_base_link), (LINK, OPTICAL, T_link_camera)]
    T_camera_lidar = first.T_camera_lidar if lidar is None else lidar.T_camera_lidar
    if T_camera_lidar is not None:
        tree.append((LINK, LIDAR, T_link_camera @ T_camera_lidar))
    bag.write(TOPICS["tf_static"], stamp, build.transforms(stamp, tree))


def _write_frame(
    bag: BagWriter,
    sample: Sample,
    rgb: np.ndarray,
    depth: np.ndarray | None,
    lens: Lens,
    quality: int,
) -> None:
    stamp = sample.stamp
    bag.write(TOPICS["camera_info"], stamp, build.camera_info(stamp, OPTICAL, lens))
    if sample.T_world_camera is not None:
        bag.write(TOPICS["pose"], stamp, build.pose(stamp, WORLD, sample.T_world_camera))
    if depth is not None:
        bag.write(TOPICS["depth"], stamp, build.depth_image(stamp, OPTICAL, depth))
    bag.write(TOPICS["image"], stamp, build.jpeg(stamp, OPTICAL, rgb, quality))
