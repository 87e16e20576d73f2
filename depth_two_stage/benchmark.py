# SPDX-License-Identifier: Apache-2.0
"""Times every step of the pipeline on this machine, interleaved so that drift hits all alike."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from depth_two_stage import clouds, interpolation, messages, runtimes
from depth_two_stage.camera import Camera
from depth_two_stage.config import MappingNodeParameters
from depth_two_stage.estimator import DepthEstimator
from depth_two_stage.tsdf import TsdfMap

__all__ = ["REFERENCE", "benchmark", "frame"]

CAMERA = Camera(640, 480, 525.0, 525.0, 319.5, 239.5)
REFERENCE = "estimator, torch fp32"
POINTS = 200


def benchmark(
    weights: str = "default",
    engines: Sequence[str] = (),
    threads: int = 0,
    rounds: int = 15,
    progress: Callable[[Iterable, str], Iterable] = lambda items, _: items,
    more: Callable[[], list[dict]] | None = None,
) -> dict:
    """Return medians of interleaved runs: conversion, estimator by engine, cloud and map.

    Each of `engines` (none: all installed) is compared with eager fp32 torch in the same run.
    `more` measures what needs ROS (the node over DDS) and gives rows of the same keys.
    """
    if rounds < 1:
        raise ValueError(f"rounds: expected at least 1, got {rounds}")
    jobs, reference = prepare(weights, engines or runtimes.installed(), threads)
    for job in jobs.values():
        job()  # first calls allocate
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in progress(range(rounds), "rounds"):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            times[name].append((time.perf_counter() - began) * 1e3)
    base = np.array(times[REFERENCE])
    rows = []
    for name, values in times.items():
        compared = name in reference and name != REFERENCE
        rows.append(
            {
                "what": name,
                "median": float(np.median(values)),
                "p95": float(np.percentile(values, 95)),
                # Of the same round: what slowed one slowed the other.
                "ratio": float(np.median(base / np.array(values))) if compared else None,
                "to": "times as fast as eager torch fp32" if compared else None,
            }
        )
    if more is not None:
        rows += more()
    return {
        "rounds": rounds,
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "threads": runtimes.cores(threads),
        "rows": rows,
    }


def prepare(weights: str, engines: Sequence[str], threads: int) -> tuple[dict, set[str]]:
    """Return the jobs by name, and the names of those that are estimators."""
    rgb, depth, sparse = frame()
    message = Message(rgb)
    jobs: dict[str, Callable[[], object]] = {
        "conversion, Image to array": lambda: messages.to_rgb(message),
        "interpolation, nearest": lambda: interpolation.nearest(sparse),
        "interpolation, linear": lambda: interpolation.linear(sparse),
    }
    wanted = [("torch", "fp32")]
    for engine in engines:
        device = runtimes.pick(engine, "auto", "auto")[1]
        wanted += [(engine, p) for p in runtimes.RUNS[engine, device] if (engine, p) not in wanted]
    estimators = set()
    for engine, precision in wanted:
        estimator = DepthEstimator(weights, engine=engine, precision=precision, threads=threads)
        if (estimator.engine, estimator.precision) != (engine, precision):
            continue  # it fell back, and said so
        name = f"estimator, {engine} {precision}"
        jobs[name] = lambda e=estimator: e(rgb, sparse, CAMERA)
        estimators.add(name)
    tsdf, pose = TsdfMap(MappingNodeParameters().tsdf), np.eye(4)
    jobs["cloud"] = lambda: clouds.coloured_points(depth, rgb, CAMERA, step=2, edge_jump=0.05)
    jobs["map, integrate"] = lambda: tsdf.integrate(depth, rgb, CAMERA, pose)
    jobs["map, mesh"] = tsdf.mesh
    return jobs, estimators


def frame() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a room's corner: rgb uint8, depth and sparse float32 m, all 480x640."""
    y, x = np.mgrid[:480, :640] / 480.0
    depth = np.minimum(3.0 / (0.8 + np.abs(x - 0.6)), 1.2 / np.maximum(y - 0.4, 0.3))
    depth = depth.astype(np.float32)
    waves = np.stack([np.sin(40 * x + 3 * depth), np.cos(50 * y), np.sin(30 * (x + y))], axis=-1)
    rgb = (127 + 100 * waves).astype(np.uint8)
    chosen = np.random.default_rng(0).random(depth.shape) < POINTS / depth.size
    return rgb, depth, np.where(chosen, depth, 0).astype(np.float32)


class Message:
    """An Image's fields (sensor_msgs), without ROS."""

    def __init__(self, rgb: np.ndarray) -> None:
        self.height, self.width = rgb.shape[:2]
        self.encoding, self.is_bigendian, self.step = "bgr8", 0, rgb.shape[1] * 3
        self.data = np.ascontiguousarray(rgb).reshape(-1)
