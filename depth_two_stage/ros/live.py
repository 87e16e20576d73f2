# SPDX-License-Identifier: Apache-2.0
"""Starts the nodes of live.launch.py where `ros2 launch` is absent, and ends them together."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..config import NODES, ConfigError
from .arguments import remapping_rules, values_of, write_parameters
from .executables import SIGNALS
from .launching import node_parameters
from .sources import Source, open_source
from .transports import use_profile

RECORDED = ("depth/image_rect", "depth/camera_info", "odom", "/diagnostics")
NODE_DEADLINE = 60.0  # s after the signal; the map may have to be written
POLL = 0.05  # s
DRAIN = 2.0  # s between the end of the bag and the end of the nodes
BAG_WAIT = 120.0  # s until depth_node must have subscribed: it loads the network first
_PARENT_DEATH = 1  # prctl: PR_SET_PDEATHSIG
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class LiveOptions:
    """What `live` is told; see the command line's help."""

    params: str = ""
    bag: str = ""
    mapping: bool = True
    record: str = ""
    record_topics: tuple[str, ...] = RECORDED
    max_record_mb: float = 1e6
    values: tuple[str, ...] = ()
    remappings: tuple[str, ...] = ()
    replay: tuple[str, ...] = ()  # further arguments of replay, such as --lockstep


@dataclass
class Child:
    """A started process, the name it goes by, and whether its end is the end of all."""

    name: str
    process: subprocess.Popen
    killed: bool = field(default=False)


class Live:
    """The processes of one live session."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.children: list[Child] = []
        self.signals: list[int] = []
        self.problem = ""

    def start(self, name: str, arguments: list[str]) -> None:
        """Start an executable of this room as a process of its own session.

        A terminal's Ctrl-C then reaches it once, through us; it ends when we die.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "depth_two_stage.ros.executables", name, *arguments],
            start_new_session=True,
            preexec_fn=_as_child,
        )
        self.children.append(Child(name, process))

    def watch(self) -> None:
        """Wait for a signal, for the end of the bag, or for a child that dies."""
        while not self.signals:
            for child in self.children:
                code = child.process.poll()
                if code is None:
                    continue
                if child.name == "replay" and code == 0:
                    self._pause(DRAIN)
                else:
                    self.problem = f"{child.name} ended {_in_words(code)}"
                return
            time.sleep(POLL)

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.signals:
            time.sleep(POLL)

    def stop(self) -> None:
        """Forward the signal (or SIGINT) and wait; a second signal or the deadline kills."""
        number = self.signals[0] if self.signals else signal.SIGINT
        patience = len(self.signals[:1])
        # The recorder goes last, so that what the nodes say at the end is still recorded.
        recorders = [child for child in self.children if child.name == "record"]
        others = [child for child in self.children if child.name != "record"]
        for group in (others, recorders):
            for child in group:
                if child.process.poll() is None:
                    child.process.send_signal(number)
            deadline = time.monotonic() + NODE_DEADLINE
            while any(child.process.poll() is None for child in group):
                if time.monotonic() > deadline or len(self.signals) > patience:
                    self._kill(group)
                time.sleep(POLL)
        for child in self.children:
            _end_group(child)  # what it started and has not ended itself
            code = child.process.returncode
            if not self.problem and child.killed:
                self.problem = f"{child.name} had to be killed"
            elif not self.problem and code not in (0, -number):
                self.problem = f"{child.name} ended {_in_words(code)}"

    def _kill(self, group: list[Child]) -> None:
        for child in group:
            if child.process.poll() is None:
                child.killed = True
                _end_group(child)
                child.process.wait()


def _end_group(child: Child) -> None:
    """Kill whatever is left of a child's process group, which it leads."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.process.pid, signal.SIGKILL)


def _as_child() -> None:
    """End when the parent dies; signals wait until the child has handlers."""
    _LIBC.prctl(_PARENT_DEATH, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _in_words(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


def live(options: LiveOptions, say: Callable[[str], None] = print) -> int:
    """Run until Ctrl-C, SIGTERM, SIGHUP, the end of the bag or the death of a node; the exit code.

    All names and values are checked before anything starts; ConfigError and BagError say what is
    wrong. One line on stderr names a child that died.
    """
    session = run_session(options, say)
    if session.problem:
        print(f"live: {session.problem}", file=sys.stderr)
        return 1
    return 0


def run_session(
    options: LiveOptions,
    say: Callable[[str], None],
    began: Callable[[Live], None] = lambda session: None,
) -> Live:
    """Run as `live` does; how it went. ``began`` is called once the processes are there."""
    if find_spec("rclpy") is None:
        raise ImportError(
            "rclpy: expected ROS 2 to be sourced, or its wheels (the extra 'ros') to be installed"
        )
    nodes = tuple(NODES) if options.mapping else ("depth_node",)
    overrides = values_of(options.values, nodes)
    if options.record and Path(options.record).exists():
        raise ConfigError(f"record: expected a folder that does not exist, got {options.record}")
    source = open_source(options.bag) if options.bag else Source()
    parameters = {node: node_parameters(node, options.params, overrides[node]) for node in nodes}
    if options.bag:
        for values in parameters.values():
            values["use_sim_time"] = True
        if source.extrinsics and not parameters["depth_node"].get("lidar.extrinsics"):
            parameters["depth_node"]["lidar.extrinsics"] = list(source.extrinsics)
    rules = remapping_rules(options.remappings, source.remappings)
    for line in source.remarks:
        say(line)
    use_profile()
    session = Live(say)
    previous = {
        number: signal.signal(number, lambda number, _: session.signals.append(number))
        for number in SIGNALS
    }
    try:
        with tempfile.TemporaryDirectory(prefix="depth_two_stage_live_") as folder:
            try:
                _start(session, options, source, parameters, rules, Path(folder))
                began(session)
                session.watch()
            finally:
                session.stop()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return session


def _start(
    session: Live,
    options: LiveOptions,
    source: Source,
    parameters: dict[str, dict[str, Any]],
    rules: list[str],
    folder: Path,
) -> None:
    """The nodes, then the recorder, then the bag; a signal between them ends the starting."""
    for node, values in parameters.items():
        file = ["--params-file", write_parameters(folder, node, values)] if values else []
        session.start(node, ["--ros-args", *file, *rules])
    if options.record and not session.signals:
        arguments = [options.record, *options.record_topics, "--max-mb", str(options.max_record_mb)]
        clock = ["-p", "use_sim_time:=true"] if options.bag else []
        session.start("record", [*arguments, "--ros-args", *clock, *rules])
    if options.bag and not session.signals:
        arguments = [options.bag, "--wait", str(BAG_WAIT), "--nodes", *parameters, *options.replay]
        topics = ["--topics", *source.topics] if source.topics else []
        if options.record:
            topics += ["--readers", *(f"record:{topic}" for topic in options.record_topics)]
        # Replay reads the nodes' outputs in lockstep; inputs are the bag's names already.
        outputs = tuple(rule for rule in options.remappings if rule.startswith(("depth/", "odom")))
        session.start("replay", [*arguments, *topics, "--ros-args", *remapping_rules(outputs, {})])
