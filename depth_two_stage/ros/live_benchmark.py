# SPDX-License-Identifier: Apache-2.0
"""Times the nodes as a user runs them: processes of their own, over DDS, a bag that loops."""

from __future__ import annotations

import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .. import files, share_path
from ..datasets.bag_reader import RawBag
from ..datasets.bag_topics import recognise
from .demo import BAG, DemoError, median_p95
from .live import Live, LiveOptions, run_session
from .lockstep import DEPTH, ODOM
from .observer import Observer, own_domain

SETTLED = 20.0  # s after the first depth: caches are full, the map has its size
NEAR = 3.0  # s over which memory is averaged
PERIOD = 0.5  # s between two looks at the memory


class MemoryLog(threading.Thread):
    """Resident memory (MB) of processes by name, with the time since ``begin`` was set, s."""

    def __init__(self, pids: Callable[[], dict[str, int]], stopped: threading.Event) -> None:
        super().__init__(name="memory", daemon=True)
        self._pids, self._stopped = pids, stopped
        self.begin: float | None = None
        self.samples: dict[str, list[tuple[float, float]]] = {}

    def run(self) -> None:
        """Look until stopped."""
        while not self._stopped.wait(PERIOD):
            if self.begin is None:
                continue
            now = time.monotonic() - self.begin
            for name, pid in self._pids().items():
                used = resident_mb(pid)
                if used is not None:
                    self.samples.setdefault(name, []).append((now, used))

    def growth(self, name: str, start: float, end: float) -> dict[str, float | None]:
        """Memory near two times (s) and its growth, %."""
        first, last = (
            [mb for when, mb in self.samples.get(name, []) if abs(when - at) <= NEAR]
            for at in (start, end)
        )
        if not first or not last:
            return {"start_mb": None, "end_mb": None, "growth_percent": None}
        a, b = statistics.median(first), statistics.median(last)
        return {"start_mb": a, "end_mb": b, "growth_percent": 100 * (b - a) / a}


def resident_mb(pid: int) -> float | None:
    """Resident memory of a process, MB; None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    lines = [line.split() for line in text.splitlines() if line.startswith("VmRSS:")]
    return int(lines[0][1]) / 1e3 if lines else None


def children_of(pid: int) -> list[int]:
    """Process ids of a process's children (of its main and other threads)."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            continue
    return found


def measure(
    seconds: float = 60.0,
    bag: Path | None = None,
    values: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Loop the bag for ``seconds`` after the first depth, mapping on; rates, latencies, memory.

    Latency is from sending an image to receiving its depth, in monotonic time, by stamp. Raises
    DemoError when a node dies or a signal comes.
    """
    if seconds < SETTLED + 2 * NEAR:
        raise ValueError(f"seconds: expected at least {SETTLED + 2 * NEAR:g}, got {seconds:g}")
    own_domain()
    bag = bag or share_path(BAG)
    with tempfile.TemporaryDirectory(prefix="depth_two_stage_benchmark_") as folder:
        times, stopped = Path(folder) / "times.json", threading.Event()
        sessions: list[Live] = []
        log = MemoryLog(lambda: _processes(sessions), stopped)
        options = LiveOptions(
            bag=str(bag), values=tuple(values), replay=("--loop", "--times", str(times))
        )
        with Observer() as observer:
            clock = threading.Thread(
                target=_stop_after, args=(seconds, observer, log, sessions, stopped), daemon=True
            )
            log.start()
            clock.start()
            try:
                session = run_session(options, say, sessions.append)
            finally:
                early = not stopped.is_set()
                stopped.set()
        if session.problem or early or log.begin is None:
            raise DemoError(session.problem or "stopped before its end")
        sent = {int(s): int(t) / 1e9 for s, t in files.read_json(times)["images"]}
    return _report(seconds, bag, observer, log, sent)


def _processes(sessions: list[Live]) -> dict[str, int]:
    found = {}
    for session in sessions:
        for child in list(session.children):
            found[child.name] = child.process.pid
            for number in children_of(child.process.pid):
                found[f"{child.name}'s worker"] = number
    return found


def _stop_after(
    seconds: float,
    observer: Observer,
    log: MemoryLog,
    sessions: list[Live],
    stopped: threading.Event,
) -> None:
    """Count from the first depth; then end the session as Ctrl-C does."""
    while not observer.arrivals[DEPTH]:
        if stopped.wait(0.05):
            return
    log.begin = time.monotonic()
    if not stopped.wait(seconds):
        stopped.set()
        sessions[0].signals.append(signal.SIGINT)


def _report(
    seconds: float, bag: Path, heard: Observer, log: MemoryLog, sent: dict[int, float]
) -> dict[str, Any]:
    end = log.begin + seconds
    latency, rate = {}, {}
    for name, topic in (("depth", DEPTH), ("pose", ODOM)):
        arrived = {stamp: when / 1e9 for stamp, when in heard.arrivals[topic].items()}
        used = [s for s, when in arrived.items() if s in sent and log.begin <= when <= end]
        latency[name] = median_p95([(arrived[s] - sent[s]) * 1e3 for s in used])
        rate[name] = len(used) / seconds
    processing = heard.steps("depth_node").get("total")
    with RawBag(bag) as opened:
        images = opened.topics[recognise(opened).image].count
        period = (opened.end - opened.start) / 1e6 / max(1, images - 1)
    bound = None if processing is None else 2 * processing[0] + period
    return {
        "seconds": seconds,
        "sent_hz": sum(log.begin <= when <= end for when in sent.values()) / seconds,
        "depth_hz": rate["depth"],
        "pose_hz": rate["pose"],
        "latency_ms": latency,
        "processing_ms": processing,
        "frame_period_ms": period,
        "latency_bound_ms": bound,
        "memory": {name: log.growth(name, SETTLED, seconds - NEAR) for name in sorted(log.samples)},
        "dropped": {node: heard.dropped(node) for node in ("depth_node", "mapping_node")},
        "steps_ms": {node: heard.steps(node) for node in ("depth_node", "mapping_node")},
    }


def rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The times of a report as rows of the benchmark's table."""
    named = {"depth": "nodes over DDS, image to depth", "pose": "nodes over DDS, image to pose"}
    return [
        {
            "what": named[key],
            "median": found["median"],
            "p95": found["p95"],
            "ratio": None,
            "to": None,
        }
        for key, found in report["latency_ms"].items()
        if found["count"]
    ]
