# SPDX-License-Identifier: Apache-2.0
"""The demo: the shipped bag through the real nodes, and a report of how well and how fast.

The bag is played twice. First in lockstep, so that every frame is processed and the errors of
depth, trajectory and map do not depend on the machine; then in real time, where frames that come
faster than the machine works are dropped: its latencies and drops are those of a live camera.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import files, pictures, share_path
from ..camera import Camera
from ..datasets import Sample, open_dataset
from ..datasets.bag_reader import RawBag
from ..datasets.bag_topics import recognise
from ..datasets.static_transforms import StaticTransforms, frame_of
from ..mesh_picture import render, view_of
from ..messages import stamp_ns, to_depth, to_transform
from ..metrics import Accumulator, score
from ..trajectories import associate, ate, rpe
from .live import LiveOptions, run_session
from .lockstep import DEPTH, ODOM
from .motion import CAMERA_LINK, T_LINK_OPTICAL
from .observer import COARSE, Observer, own_domain

BAG = "resource/bags/tum_fr1_xyz_15s"
MAX_BAG_MB = 190.0
PICTURES = 6
STAGES = {"coarse": COARSE, "refined": DEPTH}
RECORDED = (DEPTH, "depth/camera_info", ODOM, "/diagnostics")
VIEW = Camera(960, 720, 800.0, 800.0, 479.5, 359.5)


class DemoError(RuntimeError):
    """The demo did not come to its end."""


@dataclass(frozen=True)
class Demo:
    """What is played to the nodes, where results go, and what is true: depth by frame, poses."""

    bag: Path
    out: Path
    values: tuple[str, ...]
    samples: Sequence[Sample]
    with_truth: dict[int, int]  # index of a frame that has true depth: its stamp, ns
    truth: list[tuple[int, np.ndarray]]  # stamp (ns), T_world_camera


def _open(bag: Path, out: Path, values: Sequence[str]) -> Demo:
    samples = open_dataset("bag", bag)
    with_truth, truth = {}, []
    for index, sample in enumerate(samples):
        if sample.depth is not None:
            with_truth[index] = sample.stamp
        if sample.T_world_camera is not None:
            truth.append((sample.stamp, sample.T_world_camera))
    return Demo(bag, out.absolute(), tuple(values), samples, with_truth, truth)


def run(
    out: Path,
    bag: Path | None = None,
    values: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Play the bag, write pictures, mesh, trajectory, bag and report below ``out``; the report.

    Only files of an earlier demo are replaced. Raises DemoError when a node dies or a signal comes.
    """
    began = time.monotonic()
    own_domain()
    demo = _open(bag or share_path(BAG), out, values)
    demo.out.mkdir(parents=True, exist_ok=True)
    for old in ("bag", "pictures"):
        shutil.rmtree(demo.out / old, ignore_errors=True)
    say("1 of 2: every frame (lockstep)")
    every = _play(demo, ("--lockstep", "--timeout", "60"), True, say)
    say("2 of 2: in real time")
    timed = _play(demo, (), False, say)
    report = {
        "bag": str(demo.bag),
        "frames": {"every frame": _frames(every), "real time": _frames(timed)},
        "depth": _depth_errors(demo, every.observer),
        "latency_ms": _latencies(timed),
        "steps_ms": _steps(timed),
        "trajectory": _trajectory(demo, every.observer),
        "map": _map(demo, every.observer),
    }
    report["seconds"] = time.monotonic() - began
    files.write_json(demo.out / "report.json", report)
    return report


@dataclass(frozen=True)
class Pass:
    """One playing of the bag: what was heard, and when each image was sent (ns by stamp)."""

    observer: Observer
    sent: dict[int, int]


def _play(demo: Demo, replay: tuple[str, ...], keep: bool, say: Callable) -> Pass:
    """Play the bag to fresh nodes; ``keep`` records it, saves the map and compares with truth."""
    times = demo.out / ".times.json"
    topics = tuple(STAGES.values()) if keep else (DEPTH,)
    values = (f"map.save_on_exit={demo.out / 'mesh.ply'}",) if keep else ()
    observer = Observer(topics, demo.with_truth.values())
    options = LiveOptions(
        bag=str(demo.bag),
        record=str(demo.out / "bag") if keep else "",
        record_topics=RECORDED,
        max_record_mb=MAX_BAG_MB,
        values=(*demo.values, *values),
        replay=(*replay, "--times", str(times), *observer.as_readers()),
    )
    with observer:
        session = run_session(options, say)
    if session.problem:
        raise DemoError(session.problem)
    if session.signals:
        raise DemoError("stopped before its end")
    sent = {int(stamp): int(when) for stamp, when in files.read_json(times)["images"]}
    times.unlink()
    return Pass(observer, sent)


def _frames(played: Pass) -> dict[str, Any]:
    """Frames in, processed, dropped and why."""
    heard = played.observer
    mapping = heard.values.get("mapping_node", {})
    return {
        "in": len(played.sent),
        "depth": len(heard.arrivals[DEPTH]),
        "depth dropped": heard.dropped("depth_node"),
        "poses": len(heard.arrivals[ODOM]),
        "fused": int(float(mapping.get("fused", 0))),
        "map dropped": heard.dropped("mapping_node"),
    }


def _depth_errors(demo: Demo, heard: Observer) -> dict[str, Any]:
    """Errors of both stages against the recorded depth, rectified together; pictures of some."""
    sums = {stage: Accumulator() for stage in STAGES}
    indices = list(demo.with_truth)
    shown = set(indices[:: max(1, len(indices) // PICTURES)][:PICTURES])
    for index in indices:
        sample = demo.samples[index]
        found = {stage: heard.kept[topic].get(sample.stamp) for stage, topic in STAGES.items()}
        if any(message is None for message in found.values()):
            continue
        depth = {stage: to_depth(message) for stage, message in found.items()}
        for stage, values in depth.items():
            sums[stage].add(score(values, sample.depth))
        if index in shown:
            sparse = None
            if sample.points is not None and sample.T_camera_lidar is not None:
                sparse = sample.camera.project(sample.points, sample.T_camera_lidar)
            row = pictures.depth_row(sample.rgb, sparse, **depth, truth=sample.depth)
            files.write_picture(demo.out / "pictures" / f"frame_{index:03d}.png", row)
    return {stage: total.result() for stage, total in sums.items()}


def _latencies(played: Pass) -> dict[str, dict[str, float]]:
    """From sending an image to the arrival of its depth and of its pose, ms."""
    found = {}
    for name, topic in (("image to depth", DEPTH), ("image to pose", ODOM)):
        arrivals = played.observer.arrivals[topic]
        values = [(arrivals[s] - sent) / 1e6 for s, sent in played.sent.items() if s in arrivals]
        found[name] = median_p95(values)
    return found


def median_p95(values: Sequence[float]) -> dict[str, Any]:
    """Median and 95th percentile; None without values."""
    if not len(values):
        return {"median": None, "p95": None, "count": 0}
    return {
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
        "count": len(values),
    }


def _steps(played: Pass) -> dict[str, dict[str, dict[str, float]]]:
    """Median and p95 of the nodes' steps, ms, over their last frames."""
    return {
        node: {
            name: {"median": median, "p95": high}
            for name, (median, high) in played.observer.steps(node).items()
        }
        for node in ("depth_node", "mapping_node")
    }


def optical_poses(demo: Demo, messages: Sequence) -> list[np.ndarray]:
    """T_world_camera (4, 4), optical, of Odometry messages of whatever carries the camera.

    Where TF is heard that is the top of the camera's tree, which the bag tells, else camera_link.
    """
    with RawBag(demo.bag) as bag:
        camera, tree = frame_of(bag, recognise(bag).image), StaticTransforms(bag)
    mounts = {CAMERA_LINK: T_LINK_OPTICAL}
    for child in {message.child_frame_id for message in messages}:
        T_child_camera = tree.lookup(child, camera)
        if T_child_camera is not None:
            mounts[child] = T_child_camera
    return [to_transform(message) @ mounts[message.child_frame_id] for message in messages]


def _trajectory(demo: Demo, heard: Observer) -> dict[str, Any]:
    """ATE and RPE against the recorded poses; writes the trajectory in TUM's format."""
    poses = optical_poses(demo, heard.poses)
    estimate = [(stamp_ns(message), T) for message, T in zip(heard.poses, poses, strict=True)]
    files.write_trajectory(demo.out / "trajectory.txt", estimate)
    stamps, poses, true = associate(estimate, demo.truth)
    drift = rpe(poses, true, stamps) if len(stamps) else None
    return {
        "poses": len(estimate),
        "compared": len(stamps),
        "ate_rmse": ate(poses, true),
        "rpe_rmse": drift[0] if drift else None,
        "rpe_rotation_deg": drift[1] if drift else None,
    }


def _map(demo: Demo, heard: Observer) -> dict[str, Any]:
    """Size of the map; renders its mesh from behind the camera's way."""
    mesh = files.read_ply(demo.out / "mesh.ply")
    triangles = np.zeros((0, 3), np.int32) if mesh.triangles is None else mesh.triangles
    if heard.poses:
        poses = np.array(optical_poses(demo, heard.poses))
        picture = render(mesh.points, triangles, mesh.colors, VIEW, view_of(poses))
        files.write_image(demo.out / "mesh.png", picture)
    keys = ("map_blocks", "map_used_mb", "map_memory_mb", "map_evicted_blocks", "keyframes")
    numbers = {key: heard.number("mapping_node", key) for key in keys}
    return {"points": len(mesh.points), "triangles": len(triangles), **numbers}
