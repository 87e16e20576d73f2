# SPDX-License-Identifier: Apache-2.0
"""Saves, autosaves and loads of a running map: each answer clear, the map and older files whole."""

import os
import signal
import subprocess
import time
from contextlib import contextmanager

import numpy as np
import pytest
from small_maps import CAMERA, PARAMETERS, wall
from stopped_worker import killed_while_asked

from depth_two_stage.config import MappingNodeParameters, PoseParameters
from depth_two_stage.map_keeping import MapKeeper
from depth_two_stage.meshing import MapWorker, WorkerError
from depth_two_stage.slam import LEVEL, Slam
from depth_two_stage.tsdf import MapError, TsdfMap

TIMEOUT = 120.0


@pytest.fixture(scope="module")
def running():
    """A map of one wall and its worker, started once: (slam, worker)."""
    slam = Slam(MappingNodeParameters(tsdf=PARAMETERS))
    with MapWorker(slam.map) as worker:
        worker.request_points().result(TIMEOUT)
        yield slam, worker


@pytest.fixture
def keeper(running):
    slam, worker = running
    slam.clear()
    slam.map.integrate(*wall(), CAMERA, LEVEL)
    slam.trajectory.append((5, LEVEL))
    said = []
    made = MapKeeper(slam, worker, said.append)
    made.said = said
    return made


@contextmanager
def held(worker):
    """The worker does not get on with what it is asked."""
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker.pid, signal.SIGCONT)


@contextmanager
def full_disk(worker):
    subprocess.run(["prlimit", f"--pid={worker.pid}", "--fsize=20000:unlimited"], check=True)
    try:
        yield
    finally:
        subprocess.run(["prlimit", f"--pid={worker.pid}", "--fsize=unlimited"], check=True)


def settled(keeper):
    deadline = time.monotonic() + TIMEOUT
    while keeper.state()["saving"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not keeper.state()["saving"]


def test_while_a_save_is_under_way_what_would_disturb_it_is_refused(keeper, running, tmp_path):
    slam, worker = running
    blocks = len(slam.map.blocks)
    with held(worker):
        first = keeper.save(tmp_path / "a.npz")
        for ask, name in (
            (lambda: keeper.save(tmp_path / "b.npz"), "save_map"),
            (lambda: keeper.load(tmp_path / "a.npz"), "load_map"),
            (keeper.clear, "clear"),
        ):
            with pytest.raises(
                MapError, match=rf"{name}: expected no save .*, got one to .*a\.npz"
            ):
                ask()
        assert keeper.state()["saving"] == [str(tmp_path / "a.npz")]
    report = first.result(TIMEOUT)
    settled(keeper)
    assert len(slam.map.blocks) == blocks > 0
    assert keeper.state()["last_save"]["path"] == report.path
    assert keeper.save(tmp_path / "b.npz").result(TIMEOUT).size == report.size
    keeper.clear()
    keeper.load(tmp_path / "a.npz")
    assert len(slam.map.blocks) == blocks


def test_a_map_that_does_not_fit_leaves_the_one_in_memory(keeper, running, tmp_path):
    slam, _ = running
    keeper.save(tmp_path / "map.npz").result(TIMEOUT)
    other = TsdfMap(PARAMETERS, "odom")
    other.save(tmp_path / "odom.npz")
    (tmp_path / "foreign.npz").write_bytes(b"hello")
    blocks = len(slam.map.blocks)
    for path, camera_frame, says in (
        ("odom.npz", "", "expected frame 'map', got 'odom'"),
        ("foreign.npz", "", "expected a whole map file"),
        ("nothing.npz", "", "expected a readable map file"),
        ("map.npz", "map", "expected a map frame other than the camera's, got 'map'"),
    ):
        with pytest.raises(MapError, match=says):
            keeper.load(tmp_path / path, camera_frame)
    with pytest.raises(MapError, match=r"map\.load: expected the name of a map file"):
        keeper.load("")
    assert len(slam.map.blocks) == blocks and [stamp for stamp, _ in slam.trajectory] == [5]
    assert PoseParameters().map_frame == slam.map.frame


def test_autosave_comes_by_period_and_only_for_a_map_that_changed(keeper, tmp_path):
    path = tmp_path / "auto.npz"
    keeper.autosave(path, 0.0, 1)
    keeper.autosave(path, 0.05, 1)
    assert not keeper.state()["saving"], "the first one comes a period later"
    for version, count in ((1, 1), (1, 1), (2, 2)):
        time.sleep(0.06)
        keeper.autosave(path, 0.05, version)
        settled(keeper)
        assert keeper.autosaves == count
    assert [stamp for stamp, _ in TsdfMap(PARAMETERS).load(path)] == [5]
    keeper.autosave(path, 0.0, 3)
    time.sleep(0.06)
    keeper.autosave(path, 0.05, 3)
    assert not keeper.state()["saving"], "turned on again it waits a period, too"
    keeper.autosave(path, 0.0, 3)
    keeper.autosave(path, 3600.0, 3)
    time.sleep(0.06)
    keeper.autosave(path, 0.05, 3)
    settled(keeper)
    assert keeper.autosaves == 3, "a shorter period holds at once"
    keeper.clear()
    time.sleep(0.06)
    keeper.autosave(path, 0.05, 4)
    settled(keeper)
    assert keeper.autosaves == 3 and path.stat().st_size > 10_000, "nothing replaces no map"


def test_a_full_disk_is_said_once_counted_each_time_and_the_older_file_stays(
    keeper, running, tmp_path
):
    _, worker = running
    path, version = tmp_path / "auto.npz", 0

    def autosave(path=path):
        nonlocal version
        version += 1
        time.sleep(0.02)
        keeper.autosave(path, 0.01, version)
        settled(keeper)

    keeper.autosave(path, 0.01, 0)
    autosave()
    old = path.read_bytes()
    with full_disk(worker):
        for _ in range(3):
            autosave()
    assert keeper.failed_autosaves == 3 and keeper.autosaves == 1
    assert len(keeper.said) == 1 and "auto.npz" in keeper.said[0]
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["auto.npz"]
    autosave("/proc/nowhere/auto.npz")
    assert len(keeper.said) == 2 and "/proc/nowhere" in keeper.said[1]
    autosave()
    assert keeper.autosaves == 2
    with full_disk(worker):
        autosave()
    assert len(keeper.said) == 3, "after a success it is news again"


def test_the_grid_is_saved_with_what_rays_saw(keeper, tmp_path):
    report = keeper.save(tmp_path / "map.yaml").result(TIMEOUT)
    picture = next(tmp_path.glob("map.*.pgm")).read_bytes()
    pixels = np.frombuffer(picture[picture.index(b"255\n") + 4 :], np.uint8)
    assert set(pixels) == {0, 205, 254}
    assert report.size == len(picture) + (tmp_path / "map.yaml").stat().st_size


def test_a_path_of_nobody_and_one_from_home(keeper, tmp_path, monkeypatch):
    """``~`` is a home's: of nobody it is an error that is said, of ours it is saved and loaded."""
    nobody = "~nosuchuser/map.npz"
    for ask in (keeper.save, keeper.load):
        with pytest.raises(MapError, match=r"~nosuchuser/map\.npz: expected a path of a kn"):
            ask(nobody)
    keeper.autosave(nobody, 0.01, 1)
    time.sleep(0.02)
    keeper.autosave(nobody, 0.01, 2)
    assert keeper.failed_autosaves == 1 and "~nosuchuser" in keeper.said[0]
    monkeypatch.setenv("HOME", str(tmp_path))
    keeper.save("~/map.npz").result(TIMEOUT)
    settled(keeper)
    keeper.load("~/map.npz")
    assert (tmp_path / "map.npz").is_file()


def test_leftovers_that_cannot_be_removed_are_in_nobodys_way(keeper, running, tmp_path):
    _, worker = running
    (tmp_path / ".map.x.tmp.npz").mkdir()
    (tmp_path / ".map.y.tmp.npz").write_bytes(b"")
    path = tmp_path / "map.npz"
    assert keeper.save(path).result(TIMEOUT).size == path.stat().st_size
    assert not (tmp_path / ".map.y.tmp.npz").exists()
    dying = killed_while_asked(worker, lambda: keeper.save(path))
    with pytest.raises(WorkerError, match="dead process"):
        dying.result(TIMEOUT)
    settled(keeper)
    assert keeper.save(path).result(TIMEOUT).size == path.stat().st_size
