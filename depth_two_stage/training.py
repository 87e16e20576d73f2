# SPDX-License-Identifier: Apache-2.0
"""Training: stage one, then stage two, in the order it runs (A, section 3; E, section 4)."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import __version__, networks
from .datasets import Dataset, open_dataset
from .files import atomic_write
from .networks.inputs import FILLED
from .recipes import Recipe
from .training_data import Batches, mean_image
from .training_stages import CoarseStep, RefineStep, Step, TrainingError
from .training_state import read_state, validate, write_state

__all__ = ["Run", "TrainingError", "rate_at"]

STAGES = ("stage_one", "stage_two")


def rate_at(step: int, total: int, per_epoch: int, stage: Any) -> float:
    """Learning rate of a step: steps (× factor every n epochs), cosine with warm-up, constant."""
    if stage.schedule == "steps":
        return stage.rate * stage.factor ** (step // per_epoch // stage.every)
    if stage.schedule == "cosine":
        warm = min(100, max(1, total // 20))
        return stage.rate * min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / total)))
    return stage.rate


def specification(recipe: Recipe) -> dict[str, Any]:
    """The architecture that a recipe trains: its model with the recipe's own settings."""
    spec = networks.architecture(recipe.model, recipe.width)
    settings = spec["settings"]
    if recipe.input_size is not None:
        before = networks.NetworkSettings(**settings)
        settings["focal"] = before.focal * recipe.input_size[1] / before.input_size[1]
    for name in ("sparse_input", "input_size", "refined_size"):
        value = getattr(recipe, name)
        if value is not None:
            settings[name] = list(value) if isinstance(value, tuple) else value
    return spec


class Run:
    """One training run in a folder: ``log.jsonl``, ``state.safetensors``, ``weights…``."""

    def __init__(self, recipe: Recipe, out: Path, resume: bool = False) -> None:
        self.recipe, self.out = recipe, out
        # 1. Where it runs: torch's own launcher sets the variables of a distributed run.
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        cuda = torch.cuda.is_available() if recipe.device == "auto" else recipe.device == "cuda"
        if cuda and not torch.cuda.is_available():
            raise TrainingError("device: expected cuda, got a machine without it")
        local = int(os.environ.get("LOCAL_RANK", 0))
        self.device = torch.device("cuda", local) if cuda else torch.device("cpu")
        if self.world > 1 and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if cuda else "gloo")
        # 2. Data and networks, the same in every process.
        if recipe.data.root is None:
            raise TrainingError("data.root: expected the data set's folder, got none")
        self.data = self._open(recipe.data.split)
        if recipe.data.limit:
            self.data = self.data[: recipe.data.limit]
        torch.manual_seed(recipe.seed)
        self.spec = specification(recipe)
        settings = networks.NetworkSettings(**self.spec["settings"])
        if settings.sparse_input in FILLED:  # what stands there when there are no points
            mean = mean_image(self.data, settings.focal, settings.input_size)
            self.spec["settings"]["mean_depth"] = mean
        self.model = networks.build(self.spec)
        self.discriminator = networks.build_discriminator(self.spec)
        for module in (self.model, self.discriminator):
            module.to(self.device, memory_format=torch.channels_last)
        # 3. What an earlier run left.
        self.stage, self.step, self.seconds = 0, 0, dict.fromkeys(STAGES, 0.0)
        self.metrics: dict[str, Any] = {}
        self.resumed: dict[str, Any] | None = None
        self.state_file, self.log_file = out / "state.safetensors", out / "log.jsonl"
        if resume and self.state_file.exists():
            self._resume()
        elif self.state_file.exists() and not resume:
            raise TrainingError(
                f"{self.state_file}: expected an empty folder or --resume, got an earlier run"
            )
        elif self.rank == 0:
            out.mkdir(parents=True, exist_ok=True)
            self.log_file.write_text("")

    def _open(self, split: str | None) -> Dataset:
        return open_dataset(self.recipe.data.dataset, self.recipe.data.root, split)

    # --- the run ---------------------------------------------------------------------------------

    def train(self) -> Path:
        """Train what is left of both stages; the path of the weights (without part number)."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, disable=self.rank > 0) as progress:
            if self.stage == 0:
                step = CoarseStep(self.model, self.recipe, self.device, self._distributed)
                self._loop(progress, self.recipe.stage_one, step)
                self.stage, self.step = 1, 0
            if self.model.stage_two is not None:
                step = RefineStep(
                    self.model, self.discriminator, self.recipe, self.device, self._distributed
                )
                self._loop(progress, self.recipe.stage_two, step)
        return self._finish()

    def _loop(self, progress: Any, stage: Any, update: Step) -> None:
        """All steps of a stage that are left, with rates, log, looks at the validation, states."""
        batches = Batches(
            self.data,
            self.recipe,
            self.model.settings,
            self.stage,
            stage.batch,
            self.rank,
            self.world,
        )
        total, name = stage.epochs * batches.per_epoch, update.name
        self._load_optimizers(update)
        bar = progress.add_task(name, total=total, completed=self.step)
        before, started = self.seconds[name], time.monotonic()
        for step, x, target in batches.run(self.step, total):
            rate = rate_at(step, total, batches.per_epoch, stage)
            update.rate(rate)
            # Dropout is a function of the step too, so that a resumed run repeats it.
            torch.manual_seed(hash((self.recipe.seed, self.stage, step, self.rank)) % 2**63)
            x = x.to(self.device, memory_format=torch.channels_last, non_blocking=True)
            found = update(x, target.to(self.device))
            self.step = step + 1
            self.seconds[name] = before + time.monotonic() - started
            progress.update(bar, completed=self.step)
            epoch, place = divmod(step, batches.per_epoch)
            if step % 10 == 0 or self.step == total:
                terms = {key: value.item() for key, value in found.items()}
                self._log(stage=name, step=step, epoch=epoch, rate=rate, **terms)
            epoch_ended = place == batches.per_epoch - 1
            if (epoch_ended and epoch % 5 == 4) or self.step == total:
                self._look(update)
            if self.step % self.recipe.save_every == 0 or self.step == total:
                self._save_state(update)
        progress.remove_task(bar)

    def _distributed(self, module: nn.Module) -> nn.Module:
        if self.world == 1:
            return module
        return nn.parallel.DistributedDataParallel(module)

    # --- looks, log and states -------------------------------------------------------------------

    def _look(self, update: Step) -> None:
        """RMSE on some validation images at 200, 50 and 0 samples, network alone (not anchored)."""
        if self.rank or not self.recipe.data.validation_limit:
            return
        data = self._open(self.recipe.data.validation_split)[: self.recipe.data.validation_limit]
        trained = [part for part in self.model.modules() if part.training]
        self.metrics = validate(self.model.eval(), data, self.device, update.autocast)
        for part in trained:
            part.training = True
        self._log(stage=update.name, step=self.step, **self.metrics)

    def _log(self, **line: Any) -> None:
        if self.rank == 0:
            line["seconds"] = round(self.seconds[STAGES[self.stage]], 1)
            with self.log_file.open("a") as stream:
                stream.write(json.dumps(line) + "\n")

    def _facts(self) -> dict[str, Any]:
        return {
            "recipe": dataclasses.asdict(self.recipe) | {"device": str(self.device)},
            "data_hash": self.data.list_hash,
            "frames": len(self.data),
        }

    def _save_state(self, update: Step) -> None:
        if self.rank == 0:
            facts = self._facts() | {
                "stage": self.stage,
                "step": self.step,
                "seconds": self.seconds,
                "metrics": self.metrics,
                "log_bytes": self.log_file.stat().st_size,
                "scaler": update.scaler.state_dict(),
            }
            modules = {"model": self.model, "discriminator": self.discriminator}
            write_state(self.state_file, modules, update.optimizers, facts)

    def _resume(self) -> None:
        modules = {"model": self.model, "discriminator": self.discriminator}
        self.resumed = facts = read_state(self.state_file, modules)
        mine = json.loads(json.dumps(self._facts()))
        for name in ("data_hash", "recipe"):
            if facts[name] != mine[name]:
                raise TrainingError(
                    f"{self.state_file}: expected the same {name} as the run to resume, "
                    f"got another one"
                )
        self.stage, self.step = facts["stage"], facts["step"]
        self.seconds, self.metrics = facts["seconds"], facts["metrics"]
        if self.rank == 0:  # lines after the state belong to steps that are made again
            with self.log_file.open("r+b") as stream:
                stream.truncate(facts["log_bytes"])

    def _load_optimizers(self, update: Step) -> None:
        """Give a resumed stage its optimizers; a stage that only begins has none in the state."""
        resumed, self.resumed = self.resumed, None
        if resumed is not None and self.step:
            for name, optimizer in update.optimizers.items():
                optimizer.load_state_dict(resumed["optimizers"][name])
            update.scaler.load_state_dict(resumed["scaler"])

    def _finish(self) -> Path:
        path = self.out / "weights"
        if self.rank == 0:
            facts = self._facts() | {
                "seed": self.recipe.seed,
                "metrics": self.metrics,
                "code_version": __version__,
                "seconds": self.seconds,
                "epochs": {
                    "stage_one": self.recipe.stage_one.epochs,
                    "stage_two": self.recipe.stage_two.epochs if self.model.stage_two else 0,
                },
            }
            networks.save(path, self.model.cpu(), self.spec, facts)
            with atomic_write(self.out / "recipe.json", "w") as stream:
                stream.write(json.dumps(dataclasses.asdict(self.recipe), indent=1) + "\n")
        if self.world > 1:
            torch.distributed.barrier()
        return path
