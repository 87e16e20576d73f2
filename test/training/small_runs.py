# SPDX-License-Identifier: Apache-2.0
"""Training runs of a second: their recipe, their log, whether two end alike."""

import json
import sys

import torch

from depth_two_stage import networks, recipes, training

SMALL = {
    "width": 1 / 16,
    "precision": "fp32",
    "save_every": 2,
    "data.validation_limit": 1,
    "stage_one.epochs": 3,
    "stage_one.batch": 4,
    "stage_two.epochs": 2,
    "stage_two.batch": 2,
    "outliers.epochs": 2,
    "outliers.batch": 4,
    "registration.epochs": 2,
    "registration.batch": 4,
    "prior.epochs": 2,
    "prior.batch": 4,
    "joint_filter.epochs": 2,
    "joint_filter.batch": 4,
}


RECIPE = "two-stage-rgbd-18"


def recipe(root, **changes):
    return recipes.load(RECIPE, {**SMALL, "data.root": str(root), **changes})


def train_command(root, changes=SMALL, name=RECIPE, launcher=()):
    """The command that trains such a run on one thread, started by Python's module `launcher`."""
    command = [sys.executable, *launcher, "-m", "depth_two_stage.cli", "train", name]
    command += ["--root", str(root), "--threads", "1"]
    return command + [f"-p{setting}={value}" for setting, value in changes.items()]


def lines(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def same(first, second):
    a, b = (networks.read_checkpoint(networks.resolve(path)).tensors for path in (first, second))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def cut_and_resumed(chosen, out):
    """Train, cut off after each state that is written and taken up again."""
    broken = training.Run(chosen, out)
    kept = broken._save_state

    def cut(update):
        kept(update)
        raise InterruptedError

    cuts = 0
    while True:
        broken._save_state = cut
        try:
            broken.train()
            break
        except InterruptedError:
            cuts += 1
            broken = training.Run(chosen, out, resume=True)
            kept = broken._save_state
    assert cuts > 0
