# SPDX-License-Identifier: Apache-2.0
"""The command line as a user meets it: exit codes, one line of error, JSON beside each table."""

import json
import re
import signal
import subprocess
import sys

import pytest

from depth_two_stage import cli, config, networks
from depth_two_stage.datasets import DATASETS
from depth_two_stage.metrics import GROUPS
from depth_two_stage.protocols import PROTOCOLS


def run(capsys, *arguments):
    """Run a command in this process: (exit code, stdout, stderr)."""
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    shown = capsys.readouterr()
    return left.value.code, shown.out, shown.err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(capsys, name):
    code, out, err = run(capsys, name, "--help")
    assert code == 0 and "Usage" in out and not err


def test_evaluate_names_every_data_set_protocol_and_group_of_measures(capsys):
    _, out, _ = run(capsys, "evaluate", "--help")
    words = set(re.split(r"[\s│,.();]+", out))
    assert set(DATASETS) | set(PROTOCOLS) | set(GROUPS) <= words


def test_the_list_of_commands(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0 and all(name in out for name in cli.COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ("fly",),
        ("train",),
        ("train", "no-such-recipe"),
        ("train", "two-stage-rgbd-18"),
        ("train", "two-stage-rgbd-18", "-p", "stage_one"),
        ("train", "two-stage-rgbd-18", "-p", "stage_one.epochs=many"),
        ("config", "--check", "no-such-file.yaml"),
        ("config", "--colour"),
        ("evaluate", "moon", "--root", "."),
        ("evaluate", "nyu", "--root", "no-such-folder"),
        ("evaluate", "rendered", "--half", "third"),
        ("evaluate", "rendered", "--half", "first", "--calibrate"),
        ("evaluate", "rendered", "--sparse", "bernoulli:200,outliers=2"),
        ("evaluate", "rendered", "--kidnap", "cut:5:5"),
        ("evaluate", "rendered", "--slam", "--kidnap", "fog:5:5"),
        ("evaluate", "rendered", "--slam", "--kidnap", "cut:5"),
        ("evaluate", "rendered", "--slam", "--limit", "8", "--kidnap", "cut:5:5"),
        ("predict", "no-such-image.jpg", "-o", "out"),
        ("make-bag", "tum", "--root", "no-such-folder", "-o", "bag"),
        ("replay", "no-such-bag"),
        ("live", "-p", "voxel=1"),
        ("live", "--params", "no-such-file.yaml"),
        ("live", "--bag", "no-such-bag"),
        ("live", "-r", "a topic:=b"),
        ("live", "-p", "use_sim_time=maybe"),
        ("benchmark", "--engine", "steam"),
        ("benchmark", "--live", "0", "-p", "tsdf.voxel=1"),
    ],
)
def test_errors_are_one_line_on_stderr(capsys, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *arguments)
    assert code not in (0, None)
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith(("depth-two-stage", arguments[0] + ":")), err


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("evaluate", "rendered"), "--json"),
        (("evaluate", "rendered"), "--pictures"),
        (("predict", "image.jpg", "-o", "out"), "--json"),
        (("predict", "image.jpg"), "-o"),
        (("benchmark",), "--json"),
        (("demo",), "--json"),
        (("demo",), "-o"),
        (("models",), "--json"),
        (("doctor",), "--json"),
        (("make-bag", "rendered", "-o", "bag"), "--json"),
        (("make-bag", "rendered"), "-o"),
    ],
)
def test_a_place_that_takes_no_result_is_refused_before_the_work(
    capsys, tmp_path, monkeypatch, arguments, option
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    code, out, err = run(capsys, *arguments, option, "file/result")
    assert code == 1 and not out
    assert "file/result: expected a writable f" in err and "Not a directory" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_debug_shows_the_traceback(capsys):
    with pytest.raises(ValueError, match="recipe: expected"):
        cli.main(["train", "no-such-recipe", "--debug"])
    with pytest.raises(ValueError, match="recipe: expected"):
        cli.main(["--debug", "train", "no-such-recipe"])


def test_config_checks_prints_and_writes(capsys, tmp_path):
    file, report = tmp_path / "p.yaml", tmp_path / "p.json"
    file.write_text("/**: {ros__parameters: {lidar.max_age: 1, use_sim_time: true}}")
    code, out, _ = run(capsys, "config", "--check", str(file), "--json", str(report))
    assert code == 0 and "depth_node: 2 parameters" in out
    assert json.loads(report.read_text())["depth_node"]["lidar.max_age"] == 1.0
    file.write_text("/**: {ros__parameters: {lidar.max_age: -1}}")
    code, _, err = run(capsys, "config", "--check", str(file))
    assert code == 1 and "lidar.max_age: expected a number in [0, 10], got -1" in err
    code, out, _ = run(capsys, "config", "--yaml")
    assert out == config.default_yaml()
    code, _, _ = run(capsys, "config", "--json", str(report))
    names = {row["name"] for row in json.loads(report.read_text())}
    assert code == 0 and "tsdf.voxel_size" in names and "cloud.step" in names


def test_models_lists_every_network(capsys, tmp_path):
    report = tmp_path / "models.json"
    code, out, _ = run(capsys, "models", "--json", str(report))
    assert all(f" {name} " in out for name in (*networks.MODELS, *networks.ALIASES))  # none cut
    assert "depth-two-stage plug hf:FOLDER" in out
    rows = {row["name"]: row for row in json.loads(report.read_text())}
    assert code == 0 and rows.keys() == networks.MODELS.keys()
    # A at full width: 35 GFLOP of FCRN-50 and 99 of the generator.
    assert rows["two-stage-rgbd"]["gflop"] == pytest.approx(134, abs=2)
    assert rows["fcrn50-rgb"]["parameters"] == 63_563_009
    assert rows["fcrn50-rgb"]["aliases"] == ["resnet-upproj"]
    assert rows["anchored"]["weights"] == ["default"]
    assert rows["c-grey"]["input"] == [1, 37, 147] and rows["c-grey"]["sees"] == "grey"


def test_an_interrupt_while_a_command_is_imported_is_one_line(capsys, monkeypatch):
    def imported(name: str):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "import_module", imported)
    code, out, err = run(capsys, "config")
    assert (code, out, err) == (130, "", "depth-two-stage: interrupted\n")


def test_an_interrupt_while_a_command_works_is_one_line(capsys, monkeypatch):
    def load(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("depth_two_stage.recipes.load", load)
    code, _, err = run(capsys, "train", "two-stage-rgbd-18")
    assert (code, err.strip()) == (130, "depth-two-stage: interrupted")


def test_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "depth_two_stage.cli", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.strip()[0].isdigit()
    done = subprocess.run(
        [sys.executable, "-m", "depth_two_stage.cli", "train", "nothing"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1


SIGNALLED_WHILE_IMPORTING = """
import os, time
from depth_two_stage import cli

def imported(name, *_):
    os.kill(os.getpid(), {number})
    time.sleep(30)

cli.import_module = imported
cli.main(["{command}"])
"""


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [
        ("live", signal.SIGINT, 0),
        ("live", signal.SIGTERM, 0),
        ("replay", signal.SIGTERM, 0),
        ("evaluate", signal.SIGINT, 130),  # no result: not a success
    ],
)
def test_a_signal_before_anything_has_started(command, number, code):
    """What runs until a signal ends it is ended well by one, however early."""
    source = SIGNALLED_WHILE_IMPORTING.format(command=command, number=int(number))
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
