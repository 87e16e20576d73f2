# SPDX-License-Identifier: Apache-2.0
"""Kills a process that maps, again and again, and loads the last complete map each time.

    python test/crash_trials.py --each 50 --log crashes.log          # real processes: minutes
    python test/crash_trials.py --each 5 --fork --folder FOLDER      # as test_crashes.py runs it

A victim runs what mapping_node runs: `Slam`, `MapWorker`, `MapKeeper`. It takes up the map that the
one before it left, fuses frames and saves: by a period (fusion, autosave), or on request (save). It
gets SIGKILL: at a random moment (fusion), or, with the map's worker, at a random moment after a
save has begun to write. Then the map must load and be no older than the last save that the victim
had reported. With --fork victims and workers are forks of one process, which spares them two
seconds of imports; otherwise they start as they do in a robot.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from depth_two_stage import meshing_process
from depth_two_stage.camera import Camera
from depth_two_stage.config import MappingNodeParameters, TsdfParameters
from depth_two_stage.map_keeping import MapKeeper
from depth_two_stage.meshing import MapWorker
from depth_two_stage.slam import LEVEL, Frame, Slam
from depth_two_stage.tsdf import TsdfMap

KINDS = ("fusion", "autosave", "save")
NAME = "map.npz"
TSDF = TsdfParameters(device="cpu", memory_mb=16.0)
CAMERA = Camera(48, 36, 40.0, 40.0, 23.5, 17.5)
FRAME, PERIOD = 0.05, 0.05  # s between two frames, and two autosaves
PATIENCE = 60.0  # s
LONGEST_FUSION = 0.3  # s, before the kill; of a save, what the one before has taken


# --- the victim -----------------------------------------------------------------------------------


class Forked:
    """A fork with what `MapWorker` wants of a process."""

    def __init__(self, work) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                work()
                code = 0
            finally:  # never back into the code of the parent
                if code:
                    sys.excepthook(*sys.exc_info())
                os._exit(code)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = PATIENCE) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("fork", timeout)
            time.sleep(0.005)
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class ForkedWorker(MapWorker):
    """A `MapWorker` whose process is a fork."""

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        ours, theirs = socket.socketpair()

        def work() -> None:
            ours.close()
            sys.argv = ["meshing_process", str(theirs.detach()), repr(TSDF.voxel_size)]
            meshing_process.main()

        self._process = Forked(work)
        theirs.close()
        self._connection = Connection(ours.detach())
        self._sent = self._room = 0


def frame(number: int) -> tuple[Frame, np.ndarray]:
    """A wall before a camera that goes to and fro, and the camera's pose."""
    T = LEVEL.copy()
    T[1, 3] = 0.5 * np.sin(0.05 * number)
    rgb = np.full((*CAMERA.size, 3), number % 256, np.uint8)
    depth = np.full(CAMERA.size, 2.003, np.float32)
    return Frame(rgb, depth, CAMERA, (number + 1) * 10**8), T


def victim(folder: Path, kind: str, worker_class: type, out) -> None:
    """Map for ever; writes "worker PID" and, after each save, "saved POSES" to ``out``."""
    path = folder / NAME
    slam = Slam(MappingNodeParameters(tsdf=TSDF))
    if path.exists():
        slam.load(str(path))
    worker = worker_class(slam.map)
    worker.request_points().result(PATIENCE)
    print("worker", worker.pid, file=out, flush=True)
    keeper = MapKeeper(slam, worker, lambda line: print("failed", line, file=out, flush=True))
    number = len(slam.trajectory)

    def tell(saved: int) -> None:
        print("saved", saved, file=out, flush=True)

    asked, reported = 0, 0
    while True:
        slam.process(*frame(number))
        number += 1
        time.sleep(FRAME)
        if kind == "save":
            if not keeper.state()["saving"]:
                count = len(slam.trajectory)
                keeper.save(path).add_done_callback(
                    lambda saved, count=count: saved.exception() or tell(count)
                )
            continue
        if keeper.autosaves > reported:
            reported = keeper.autosaves
            tell(asked)
        if not keeper.state()["saving"]:
            count = len(slam.trajectory)
            keeper.autosave(path, PERIOD, number)
            if keeper.state()["saving"] or keeper.autosaves > reported:
                asked = count


# --- who kills it ---------------------------------------------------------------------------------


def start(folder: Path, kind: str, fork: bool) -> tuple[object, int]:
    """A victim and the file descriptor that it reports to."""
    reading, writing = os.pipe()
    if not fork:
        arguments = [sys.executable, __file__, "--victim", kind, "--folder", str(folder)]
        process = subprocess.Popen(arguments, stdout=writing)
        os.close(writing)
        return process, reading

    def work() -> None:
        os.close(reading)
        with os.fdopen(writing, "w") as out:
            victim(folder, kind, ForkedWorker, out)

    process = Forked(work)
    os.close(writing)
    return process, reading


class Reports:
    """What a victim has said: its worker's process id, the poses of its last complete save."""

    def __init__(self, descriptor: int) -> None:
        self.worker, self.saved, self.saves = 0, 0, 0
        self._descriptor, self._text = descriptor, b""
        os.set_blocking(descriptor, False)

    def read(self) -> None:
        try:
            while part := os.read(self._descriptor, 65536):
                self._text += part
        except BlockingIOError:
            pass
        *lines, self._text = self._text.split(b"\n")
        for word, _, rest in (line.decode().partition(" ") for line in lines):
            if word == "worker":
                self.worker = int(rest)
            elif word == "saved":
                self.saved, self.saves = int(rest), self.saves + 1
            else:
                raise RuntimeError(f"victim: {word} {rest}")


def writes(folder: Path) -> bool:
    """Whether a save has begun to write and has not ended."""
    return any(folder.glob(".*.tmp.npz"))


def until(condition, process, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline or process.poll() is not None:
            raise RuntimeError(f"victim: expected {what}, got none (exit code {process.poll()})")
        time.sleep(0.002)


def trial(folder: Path, kind: str, fork: bool, choice: random.Random) -> str:
    """Start, kill, load → one line of the log. RuntimeError: what did not hold."""
    process, descriptor = start(folder, kind, fork)
    reports = Reports(descriptor)
    try:
        delay, interrupted = killed(process, reports, folder, kind, choice)
    finally:
        process.kill()
        process.wait(PATIENCE)
    if kind == "fusion":  # the worker ends by itself, after what it is writing
        until_gone(reports.worker)
    reports.read()
    os.close(descriptor)
    poses, blocks = loaded(folder / NAME, fork)
    if poses < reports.saved or blocks == 0:
        raise RuntimeError(
            f"{kind}: expected at least {reports.saved} poses, got {poses} and {blocks} blocks"
        )
    return (
        f"{kind:8s} killed after {1e3 * delay:5.1f} ms, write "
        f"{'interrupted' if interrupted else 'complete   '}: {poses} poses (saved "
        f"{reports.saved}), {blocks} blocks load"
    )


def killed(
    process, reports: Reports, folder: Path, kind: str, choice: random.Random
) -> tuple[float, bool]:
    """Kill a victim at its moment → the delay, s, and whether a file was left unfinished."""

    def has_saved() -> bool:
        reports.read()
        return reports.saves >= 1

    until(has_saved, process, "a save")
    most = LONGEST_FUSION if kind == "fusion" else writing_time(process, folder)
    delay = choice.uniform(0, most)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    if kind != "fusion":
        os.kill(reports.worker, signal.SIGKILL)
    process.wait(PATIENCE)
    return delay, writes(folder)


def writing_time(process, folder: Path) -> float:
    """How long a save has taken to write, s; when this returns, the next one is being written."""
    until(lambda: not writes(folder), process, "an end of writing")
    until(lambda: writes(folder), process, "a save")
    begin = time.monotonic()
    until(lambda: not writes(folder), process, "an end of writing")
    lasted = time.monotonic() - begin
    until(lambda: writes(folder), process, "a save")
    return lasted


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return  # ended; nobody has asked for its exit code
        time.sleep(0.02)
    raise RuntimeError(f"worker {pid}: expected its end, got none")


def loaded(path: Path, fork: bool) -> tuple[int, int]:
    """Poses and blocks of a map; in a fork where this process must not start threads."""
    if not fork:
        map = TsdfMap(TSDF)
        return len(map.load(path)), len(map.blocks)
    reading, writing = os.pipe()

    def work() -> None:
        map = TsdfMap(TSDF)
        os.write(writing, f"{len(map.load(path))} {len(map.blocks)}".encode())

    code = Forked(work).wait()
    os.close(writing)
    with os.fdopen(reading) as answer:
        words = answer.read().split()
    if code != 0 or len(words) != 2:
        raise RuntimeError(f"{path}: expected a map that loads, got exit code {code}")
    return int(words[0]), int(words[1])


def main() -> int:
    """Run the trials of each kind; 1 when one of them fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=50, help="trials of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the maps are; a new one by default")
    parser.add_argument("--log", type=Path, help="file for the log; it is printed, too")
    parser.add_argument("--fork", action="store_true", help="forks in place of new processes")
    parser.add_argument("--victim", choices=KINDS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.victim:
        victim(given.folder, given.victim, MapWorker, sys.stdout)
    if given.fork:
        import open3d  # noqa: F401  (before the forks, once)

    choice, lines, failed = random.Random(given.seed), [], 0
    with tempfile.TemporaryDirectory() as temporary:
        for kind in KINDS:
            folder = (given.folder or Path(temporary)) / kind
            folder.mkdir(parents=True)
            for number in range(1, given.each + 1):
                try:
                    line = trial(folder, kind, given.fork, choice)
                except RuntimeError as error:
                    failed += 1
                    line = f"{kind:8s} FAILED: {error}"
                lines.append(f"{number:3d} {line}")
                print(lines[-1], flush=True)
            left = len(list(folder.glob(".*.tmp.npz")))
            lines.append(f"{kind}: {given.each} trials, {left} unfinished files left")
            print(lines[-1], flush=True)
    lines.append(f"{failed} of {len(KINDS) * given.each} failed")
    print(lines[-1])
    if given.log:
        given.log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
