# SPDX-License-Identifier: Apache-2.0
"""Running one node as a process: start, signals, exit codes."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import signal
import sys
from collections.abc import Callable

import rclpy
import rclpy.utilities
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from ..config import ConfigError
from .executables import SIGNALS
from .params import check_arguments

USAGE_ERROR, FAILURE = 2, 1
_NOTICE = 0.1  # s until a signal is noticed


class NodeFailure(RuntimeError):
    """A reason, in one line, for which a node cannot work at all."""


def run(name: str, make: Callable[[], Node], arguments: list[str] | None = None) -> int:
    """Spin the node that ``make`` returns until a signal or its own failure; the exit code.

    SIGINT, SIGTERM and SIGHUP end it with 0, ``--help`` too; other arguments than ROS's exit with
    2. The node may have ``close()``, which is called before it is destroyed and returns False if a
    thread of it is still at work, and ``failure``, the NodeFailure that ended it.
    """
    faulthandler.enable()  # a crash inside a library says at least where
    arguments = sys.argv if arguments is None else arguments
    node, code, finished, signals = None, 0, True, []
    try:
        # Handlers of our own: rclpy's would take the context away from threads at work.
        _handle_signals(lambda number, _: signals.append(number))
        try:
            # Parameter files first: of some that are right rcl takes only a copy with even lists.
            arguments = check_arguments(arguments)
            _refuse_other_arguments(name, arguments)
            rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        except RuntimeError as error:  # rcl says what it cannot parse
            raise ConfigError(" ".join(str(error).split())) from error
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while rclpy.ok() and not signals:
            executor.spin_once(timeout_sec=_NOTICE)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ConfigError, ParameterException) as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        code = USAGE_ERROR
    finally:
        # A terminal's Ctrl-C arrives twice, from the terminal and from the launcher.
        _handle_signals(signal.SIG_IGN)
        if node is not None:
            finished = node.close() if hasattr(node, "close") else True
            code = _report(name, getattr(node, "failure", None)) or code
            node.destroy_node()
        rclpy.try_shutdown()
    if not finished:
        # The engine is inside a frame, or still loading: nothing of it has to be saved.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _refuse_other_arguments(name: str, arguments: list[str]) -> None:
    """Exit where a user would be ignored: `-p` without `--ros-args` before it, or a question."""
    argparse.ArgumentParser(
        name,
        usage="%(prog)s [-h] [--ros-args [-p NAME:=VALUE] [-r FROM:=TO] [--params-file FILE]]",
        description="A ROS 2 node; `depth-two-stage config` prints its parameters.",
    ).parse_args(rclpy.utilities.remove_ros_args(arguments)[1:])


def _handle_signals(handler: Callable | signal.Handlers) -> None:
    with contextlib.suppress(ValueError):  # not the main thread: the signals are not ours
        for number in SIGNALS:
            signal.signal(number, handler)


def _report(name: str, failure: NodeFailure | None) -> int:
    """Say a node's failure in one line; the exit code."""
    if failure is None:
        return 0
    print(f"{name}: {failure}", file=sys.stderr, flush=True)
    return FAILURE
