# SPDX-License-Identifier: Apache-2.0
"""The doors of the executables: a signal ends them quietly while their modules are imported too.

Python would answer a Ctrl-C among the seconds that rclpy and Open3D take with a traceback. What is
imported here has to stay light; handlers that can do more take the place of these later.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module

#: What ends a process of ours; the last is sent when a terminal is closed, and nohup ignores it.
SIGNALS = (signal.SIGINT, signal.SIGTERM)
if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
    SIGNALS += (signal.SIGHUP,)


def depth_node() -> int | None:
    """Entry point of `depth_node`."""
    return _enter("depth_node")


def mapping_node() -> int | None:
    """Entry point of `mapping_node`."""
    return _enter("mapping_node")


def replay() -> int | None:
    """Entry point of `replay`."""
    return _enter("replay")


def _enter(name: str) -> int | None:
    for number in SIGNALS:
        # Not SystemExit: an import that fails half-way catches it, or says more about it.
        signal.signal(number, lambda *_: os._exit(0))
    # `live` starts us with all of them held back, so that none comes before this line.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        return import_module(f"{__package__}.{name}").main()
    finally:
        # Python resets handlers at its end, but not this one: the exit code stands.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":  # python -m depth_two_stage.ros.executables NAME ARGUMENTS
    sys.exit(_enter(sys.argv.pop(1)))
