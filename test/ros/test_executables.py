# SPDX-License-Identifier: Apache-2.0
"""The doors of the executables: quiet from the first moment. Nothing of ROS is needed here."""

import os
import signal
import subprocess
import sys

import pytest

from depth_two_stage.ros import executables

SIGNALLED_WHILE_IMPORTING = """
import os, sys, time
from depth_two_stage.ros import executables

def imported(name):
    os.kill(os.getpid(), {number})
    time.sleep(30)

executables.import_module = imported
sys.exit(executables.{name}())
"""
SIGNALLED_AT_THE_END = """
import atexit, os, signal, sys, types
from depth_two_stage.ros import executables

atexit.register(os.kill, os.getpid(), signal.SIGINT)
executables.import_module = lambda name: types.SimpleNamespace(main=lambda: 3)
sys.exit(executables.replay())
"""
LISTED = """
import sys
from depth_two_stage.ros import executables
print([name for name in ("rclpy", "numpy", "cv2", "torch", "open3d") if name in sys.modules])
"""


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180)


@pytest.mark.parametrize("number", executables.SIGNALS)
@pytest.mark.parametrize("name", ["depth_node", "mapping_node", "replay"])
def test_a_signal_while_the_module_is_imported_ends_it_quietly(name, number):
    done = run(SIGNALLED_WHILE_IMPORTING.format(name=name, number=int(number)))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_signal_at_the_very_end_leaves_the_exit_code():
    done = run(SIGNALLED_AT_THE_END)
    assert (done.returncode, done.stderr) == (3, "")


def test_nothing_heavy_comes_before_the_handlers():
    assert run(LISTED).stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["depth_node", "mapping_node", "replay", "record"])
def test_a_signal_held_back_since_the_start_ends_it_quietly(name):
    """As `live` starts them: it comes before Python runs its first line."""

    def hold_back() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, executables.SIGNALS)
        os.kill(os.getpid(), signal.SIGINT)

    process = subprocess.Popen(
        [sys.executable, "-m", "depth_two_stage.ros.executables", name],
        preexec_fn=hold_back,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.communicate(timeout=180)[0] == ""
    assert process.returncode == 0


def test_arguments_reach_the_executable():
    command = [sys.executable, "-m", "depth_two_stage.ros.executables", "replay", "--help"]
    pytest.importorskip("rclpy")
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: replay ")


@pytest.mark.parametrize(
    ("argument", "code", "said"),
    [
        ("--help", 0, "usage: depth_node [-h] [--ros-args"),
        ("cloud.step:=2", 2, "depth_node: error: unrecognized arguments: cloud.step:=2"),
    ],
)
def test_a_node_answers_what_is_no_argument_of_ros(argument, code, said):
    pytest.importorskip("rclpy")
    command = [sys.executable, "-m", "depth_two_stage.ros.executables", "depth_node", argument]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == code
    assert said in done.stdout + done.stderr
