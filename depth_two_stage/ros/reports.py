# SPDX-License-Identifier: Apache-2.0
"""What a node says about itself: counts, times of its steps, log lines, /diagnostics."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

REPEAT = 10.0  # s between two log lines about the same reason
_LINES = 200  # different lines that are remembered
_WINDOW = 100  # frames over which step times are summed up


class Drops:
    """Frames (or clouds) that went no further, counted by reason.

    Each reason is logged once, then every `REPEAT` seconds while it lasts; ``quiet`` reasons are
    part of normal work and are counted without a word.
    """

    def __init__(self, logger: Any, quiet: tuple[str, ...] = ()) -> None:
        self._logger, self._quiet, self._lock = logger, quiet, Lock()
        self._counts: Counter[str] = Counter()
        self._said: dict[str, tuple[float, int]] = {}  # line: when, and the count then
        self._last: dict[str, tuple[float, str]] = {}

    def add(self, reason: str, detail: str = "", count: int = 1) -> None:
        """Count ``reason`` (two or three words); ``detail`` is the one line that explains it."""
        now = time.monotonic()
        with self._lock:
            self._counts[reason] += count
            self._last[reason] = (now, detail)
            # The same but for its numbers is the same line.
            line = re.sub(r"\d+", "#", f"{reason}: {detail}")
            said, before = self._said.get(line, (-np.inf, 0))
            if reason in self._quiet or now - said < REPEAT:
                return
            total = self._counts[reason]
            if len(self._said) >= _LINES:
                self._said.clear()
            self._said[line] = (now, total)
        more = f" ({total - before} times)" if before and total - before > 1 else ""
        self._logger.warning(f"{detail or reason}{more}")

    def counts(self) -> dict[str, int]:
        """Count by reason, a copy."""
        with self._lock:
            return dict(self._counts)

    def latest(self, since: float) -> tuple[str, str] | None:
        """Reason and detail of the newest drop after ``since`` (monotonic), quiet ones left out."""
        with self._lock:
            recent = [
                (when, reason, detail)
                for reason, (when, detail) in self._last.items()
                if when >= since and reason not in self._quiet
            ]
        return max(recent)[1:] if recent else None


class Steps:
    """Milliseconds of named steps, over the last frames."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._times: dict[str, deque[float]] = {}

    def add(self, name: str, milliseconds: float) -> None:
        """Remember one duration."""
        with self._lock:
            self._times.setdefault(name, deque(maxlen=_WINDOW)).append(milliseconds)

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Measure what is done inside."""
        began = time.perf_counter()
        yield
        self.add(name, (time.perf_counter() - began) * 1e3)

    def medians(self) -> dict[str, float]:
        """Median by name, ms."""
        return self.percentiles(50)

    def percentiles(self, share: float) -> dict[str, float]:
        """What ``share`` % of the durations stay below, by name, ms."""
        with self._lock:
            return {name: float(np.percentile(t, share)) for name, t in self._times.items()}

    def values(self) -> dict[str, float]:
        """Medians and 95th percentiles as entries of /diagnostics: "name ms", "name p95 ms"."""
        medians, high = self.medians(), self.percentiles(95)
        return {f"{name} ms": value for name, value in medians.items()} | {
            f"{name} p95 ms": value for name, value in high.items()
        }


READERS = "readers"


def readers(node: Node) -> str:
    """Matched readers of each topic that the node publishes: "/odom 1, /path 0"."""
    return ", ".join(
        f"{publisher.topic_name} {publisher.get_subscription_count()}"
        for publisher in node.publishers
        if publisher.topic_name not in ("/rosout", "/parameter_events")
    )


LEVELS = {
    "ok": DiagnosticStatus.OK,
    "warn": DiagnosticStatus.WARN,
    "error": DiagnosticStatus.ERROR,
    "stale": DiagnosticStatus.STALE,
}


def status(
    name: str, hardware: str, level: str, message: str, values: dict[str, Any]
) -> DiagnosticStatus:
    """One DiagnosticStatus; numbers are written plainly, fractions with three digits."""
    return DiagnosticStatus(
        name=name,
        hardware_id=hardware,
        level=LEVELS[level],
        message=message,
        values=[KeyValue(key=key, value=_plain(value)) for key, value in values.items()],
    )


def diagnostics(stamp: Any, *statuses: DiagnosticStatus) -> DiagnosticArray:
    """DiagnosticArray at the node's present time."""
    message = DiagnosticArray(status=list(statuses))
    message.header.stamp = stamp
    return message


def _plain(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
