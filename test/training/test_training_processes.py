# SPDX-License-Identifier: Apache-2.0
"""Training as processes: killed and resumed, two that share the work, one that must not abort."""

import json
import os
import signal
import subprocess
import time

import cv2
from small_runs import SMALL, lines, same, train_command

from depth_two_stage import networks
from depth_two_stage.training_state import read_state

TWO_PROCESSES = (
    *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
    "--local-addr=127.0.0.1",  # no name of this machine has to resolve
)


def test_kill_9_at_any_moment_and_resume_gives_the_same(root, tmp_path):
    command = train_command(root)
    whole = tmp_path / "whole"
    subprocess.run([*command, "-o", str(whole)], check=True, capture_output=True)
    broken = tmp_path / "broken"
    state = broken / "state.safetensors"
    for stage in (0, 1):  # killed once in each stage, wherever it then is
        process = subprocess.Popen(
            [*command, "-o", str(broken), "--resume"], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if state.exists() and _stage(state) == stage:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert state.exists()
    subprocess.run([*command, "-o", str(broken), "--resume"], check=True, capture_output=True)
    assert same(whole / "weights", broken / "weights")
    wanted, got = (
        [{k: v for k, v in line.items() if k != "seconds"} for line in lines(out)]
        for out in (whole, broken)
    )
    assert wanted == got


def _stage(state):
    """The stage of a state file, read through one handle: it is replaced while training goes on."""
    with state.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return json.loads(header["__metadata__"]["state"])["stage"]


def test_two_gloo_processes_agree(root, tmp_path):
    short = SMALL | {"stage_one.epochs": 1, "stage_two.epochs": 1}
    command = train_command(root, short, launcher=TWO_PROCESSES)
    command += ["-o", str(tmp_path / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    _, found = networks.load(tmp_path / "run" / "weights")
    assert found.facts["recipe"]["stage_one"]["batch"] == 4
    # Both processes' shares entered: the weights are not those of a run on one share alone.
    facts = read_state(tmp_path / "run" / "state.safetensors", {})
    assert facts["step"] == 4 and facts["stage"] == 1


def test_a_share_without_depth_beside_one_that_has_some(root, tmp_path):
    # Two frames, one of them without depth, one for each process: single-stage, for a change.
    made = tmp_path / "nyu"
    for kind, suffix in (("rgb", "jpg"), ("depth", "png")):
        (made / "train" / kind).mkdir(parents=True)
        for index in range(2):
            picture = cv2.imread(str(root / "train" / kind / f"{index:04d}.{suffix}"), -1)
            picture = picture * 0 if kind == "depth" and index == 1 else picture
            cv2.imwrite(str(made / "train" / kind / f"{index:04d}.{suffix}"), picture)
    out = tmp_path / "run"
    single = {"model": "fcrn18-rgb", "width": 1 / 32, "input_size": "[57, 76]"}
    changes = {**single, "stage_one.batch": 2, "stage_one.epochs": 3, "data.validation_limit": 0}
    command = [*train_command(made, SMALL | changes, launcher=TWO_PROCESSES), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    _, found = networks.load(out / "weights")
    assert found.facts["images"]["stage_one"] == 6
    assert found.facts["batches_without_depth"]["stage_one"] == 0
    assert [line["step"] for line in lines(out) if "rmse" in line] == [0, 2]


def test_toy_networks_at_odd_sizes_do_not_break_memory(root, tmp_path):
    # In channels-last layout oneDNN's backward wrote past its memory: the process was aborted.
    changes = {"width": 1 / 32, "input_size": "[230, 173]", "stage_one.batch": 2}
    command = train_command(root, changes | {"data.validation_limit": 0}, "paper-e-nyu")
    command += ["-o", str(tmp_path / "run"), "--budget", "6"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
