# SPDX-License-Identifier: Apache-2.0
"""The demo on a short rendered bag: every file it promises, and numbers that can be trusted."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("rclpy")
from rig import tiny_weights

from depth_two_stage.camera import Camera
from depth_two_stage.datasets import open_dataset
from depth_two_stage.datasets.bag_reader import RawBag
from depth_two_stage.datasets.make_bag import make_bag
from depth_two_stage.files import read_image, read_ply, read_trajectory
from depth_two_stage.mesh_picture import render, view_of
from depth_two_stage.ros.live_benchmark import MemoryLog, children_of, resident_mb

FRAMES = 11


def test_demo_writes_all_it_promises(tmp_path, ros_env):
    frames = open_dataset("rendered", ".", f"frames:{FRAMES * 8},size:120x160")[:FRAMES]
    make_bag(frames, tmp_path / "bag")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "depth_two_stage.cli", "demo", "-o", str(out)]
    command += ["--bag", str(tmp_path / "bag"), "--json", str(tmp_path / "copy.json")]
    for value in (
        f"estimator.weights={tiny_weights(tmp_path)}",
        "estimator.engine=torch",
        "tsdf.memory_mb=128",
    ):
        command += ["-p", value]
    done = subprocess.run(command, env=ros_env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for words in ("depth published", "Depth error", "p95 ms", "ATE, m", "mesh, triangles"):
        assert words in done.stdout

    report = json.loads((out / "report.json").read_text())
    assert report == json.loads((tmp_path / "copy.json").read_text())
    every = report["frames"]["every frame"]
    assert every["in"] == every["depth"] == FRAMES  # lockstep leaves none out
    assert every["poses"] + sum(every["map dropped"].values()) == FRAMES
    timed = report["frames"]["real time"]
    assert timed["in"] == FRAMES and 0 < timed["depth"] <= FRAMES
    for stage in ("coarse", "refined"):
        assert report["depth"][stage]["images"] == 3  # true depth in every fifth frame
        assert 0 < report["depth"][stage]["rmse"] < 1.5
    latency = report["latency_ms"]["image to depth"]
    assert 0 < latency["median"] <= latency["p95"] < 60_000
    assert report["steps_ms"]["depth_node"]["total"]["median"] > 0
    assert 0 <= report["trajectory"]["ate_rmse"] < 1.0

    pictures = sorted((out / "pictures").iterdir())
    assert len(pictures) == 3 and read_image(pictures[0]).shape[1] > 6 * 300
    assert len(read_ply(out / "mesh.ply").triangles) == report["map"]["triangles"] > 0
    assert read_image(out / "mesh.png").std() > 10
    assert len(read_trajectory(out / "trajectory.txt")) == every["poses"]
    with RawBag(out / "bag") as bag:
        assert {"/depth/image_rect", "/depth/camera_info", "/odom", "/diagnostics"} == set(
            bag.topics
        )
        assert bag.topics["/depth/image_rect"].count == FRAMES


def test_a_mesh_is_rendered_where_it_lies():
    camera = Camera(80, 60, 60.0, 60.0, 39.5, 29.5)
    points = np.array([[-9, -9, 2], [9, -9, 2], [9, 9, 2], [-9, 9, 2]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    red = np.tile(np.array([[200, 0, 0]], np.uint8), (4, 1))
    seen = render(points, triangles, red, camera, np.eye(4))
    assert seen.shape == (60, 80, 3)
    assert (seen[..., 0] > 50).all() and not seen[..., 1:].any()
    assert seen[30, 40, 0] > seen[0, 0, 0]  # lit from the camera
    behind = np.diag([-1.0, 1.0, -1.0, 1.0])
    assert (render(points, triangles, red, camera, behind) == 245).all()
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = -1, 0, 1
    assert np.allclose(view_of(poses, 2.0)[:3, 3], (0, 0, -2))


def test_memory_of_a_process_and_its_children():
    program = (
        "import time; block = bytearray(60_000_000); print('there', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        assert child.pid in children_of(os.getpid())
        assert 60 < resident_mb(child.pid) < 200
    finally:
        child.kill()
        child.communicate()
    assert resident_mb(2**22 - 1) is None
    log = MemoryLog(dict, None)
    log.samples["node"] = [(t / 2, 100.0 + (2.0 if t > 60 else 0.0)) for t in range(120)]
    assert log.growth("node", 20, 57) == {
        "start_mb": 100.0,
        "end_mb": 102.0,
        "growth_percent": pytest.approx(2.0),
    }
    assert log.growth("other", 20, 57)["growth_percent"] is None
