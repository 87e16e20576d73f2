# SPDX-License-Identifier: Apache-2.0
"""Training: stage one, then two (then three), in the order it runs (A, section 3; E, section 4)."""

from __future__ import annotations

import dataclasses
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import __version__, networks
from .files import atomic_write
from .losses import not_numbers
from .networks import forms
from .networks.encoders import load_encoder
from .networks.inputs import FILLED, RELATIVE
from .networks.two_stage import BESIDE, REFINING
from .recipes import Recipe, completed, different
from .training_data import Batches, mean_image, open_training, open_validation
from .training_filter import FilterStep
from .training_outliers import OutlierStep
from .training_plan import rate_at, specification, steps_of
from .training_prior import PriorStep
from .training_registration import RegistrationStep
from .training_stages import (
    CoarseStep,
    RefineStep,
    Step,
    TrainingError,
    calculates_bf16,
    refuse_untrained,
    uses_cuda,
)
from .training_state import read_facts, read_state, validate, write_state

__all__ = ["Run", "TrainingError"]

STAGES = ("stage_one", *REFINING, *BESIDE)
#: what a model may do without: told of in the facts where it has one
ASKED = dict(zip(BESIDE, (OutlierStep, RegistrationStep, PriorStep, FilterStep), strict=True))


class Run:
    """One training run in a folder: ``log.jsonl``, ``state.safetensors``, ``weights…``."""

    def __init__(self, recipe: Recipe, out: Path, resume: bool = False) -> None:
        self.recipe, self.out = recipe, out
        # 1. Where it runs: torch's own launcher sets the variables of a distributed run.
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        cuda = uses_cuda(recipe)
        if cuda and not torch.cuda.is_available():
            raise TrainingError("device: expected cuda, got a machine without it")
        if recipe.precision == "bf16" and not cuda and not calculates_bf16():
            text = "precision bf16: this processor only emulates it, ten times slower than fp32"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        local = int(os.environ.get("LOCAL_RANK", 0))
        self.device = torch.device("cuda", local) if cuda else torch.device("cpu")
        # Channels last is faster, but of toy networks with two channels at odd sizes oneDNN's
        # backward writes past its memory (torch 2.x on CPU: FCRN-50 of a 32nd at 230x173 aborts).
        toy = recipe.width < 1 / 8 and not cuda
        self.layout = torch.contiguous_format if toy else torch.channels_last
        if self.world > 1 and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if cuda else "gloo")
        # 2. Data and networks, the same in every process.
        self.data = open_training(recipe.data)
        # Opened now: what is missing there is not found out after five epochs.
        self.looks = open_validation(recipe.data)
        torch.manual_seed(recipe.seed)
        self.spec, plugged = specification(recipe)
        refuse_untrained(recipe, self.spec)
        settings = networks.NetworkSettings(**self.spec["settings"])
        # What stands there when there are no points.
        if settings.sparse_input in (*FILLED, *RELATIVE):
            mean = mean_image(self.data, settings.focal, settings.input_size)
            self.spec["settings"]["mean_depth"] = mean
        self.model = networks.build(self.spec)
        self._start_from(plugged)
        # E's plain up-convolutions learn in their fast form: each tap is one of theirs and the
        # optimizers work element by element, so the steps are the same for a quarter of the work.
        self.plain = forms.has_fast_form(self.model)
        if self.plain:
            self.model = forms.convert(self.model, fast=True)
        self.discriminator = networks.build_discriminator(self.spec)
        for module in (self.model, self.discriminator):
            module.to(self.device, memory_format=self.layout)
        # 3. What an earlier run left.
        without = [name for name in ASKED if getattr(self.model, name) is None]
        told = [name for name in STAGES if name not in without]
        self.stage, self.step, self.seconds = 0, 0, dict.fromkeys(told, 0.0)
        self.images, self.empty = dict.fromkeys(told, 0), dict.fromkeys(told, 0)
        self.invalid = dict.fromkeys(told, 0)  # pixels of truth that are no depth (this process)
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

    def _start_from(self, plugged: dict[str, torch.Tensor] | None) -> None:
        """Weights that are there before training: a plugged stage one, an encoder's file."""
        one, self.encoder = self.model.stage_one, None
        self.stages = [name for name in STAGES if getattr(self.model, name) is not None]
        if plugged is not None:  # it was trained elsewhere and stays as it is
            one.load_state_dict(plugged)
            self.stages.remove("stage_one")
        if getattr(one, "frozen", False) and "stage_one" in self.stages:
            self.stages.remove("stage_one")
        if self.recipe.encoder_weights is not None:
            self.encoder = load_encoder(
                self.model, self.recipe.encoder_weights, self.recipe.encoder_channel
            )
        if not self.stages:
            raise TrainingError(
                f"plug: expected something that is left to train, got {self.recipe.plug!r} alone"
            )

    # --- the run ---------------------------------------------------------------------------------

    def train(self) -> Path:
        """Train what is left of all stages; the path of the weights (without part number)."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, disable=self.rank > 0) as progress:
            for stage in range(self.stage, len(STAGES)):
                if STAGES[stage] not in self.stages:
                    continue
                if stage != self.stage:
                    self.stage, self.step = stage, 0
                self._loop(progress, *self._stage(STAGES[stage]))
        return self._finish()

    def _stage(self, name: str) -> tuple[Any, Step]:
        """A stage's part of the recipe, and its step."""
        if name == "stage_one":
            step = CoarseStep(self.model, self.recipe, self.device, self._distributed)
            return self.recipe.stage_one, step
        if name in ASKED:
            step = ASKED[name](self.model, self.recipe, self.device, self._distributed)
            return getattr(self.recipe, name), step
        if name == "stage_three" and self.step == 0:  # a judge of its own
            torch.manual_seed(self.recipe.seed + 1)
            fresh = networks.build_discriminator(self.spec)
            self.discriminator.load_state_dict(fresh.state_dict())
        step = RefineStep(
            self.model, self.discriminator, self.recipe, self.device, self._distributed, name
        )
        return self.recipe.stage_two, step

    def _loop(self, progress: Any, stage: Any, update: Step) -> None:
        """All steps of a stage that are left, with rates, log, looks at the validation, states."""
        batches = (update.batches or Batches)(
            self.data,
            self.recipe,
            self.model.settings,
            self.stage,
            stage.batch,
            self.rank,
            self.world,
        )
        name = update.name
        total = steps_of(stage, len(self.data), self.recipe.budget)
        self._load_optimizers(update)
        bar = progress.add_task(name, total=total, completed=self.step)
        before, started = self.seconds[name], time.monotonic()
        for step, x, target in batches.run(self.step, total):
            rate = rate_at(step, total, stage)
            update.rate(rate)
            # Dropout is a function of the step too, so that a resumed run repeats it.
            torch.manual_seed(hash((self.recipe.seed, self.stage, step, self.rank)) % 2**63)
            x = update.sent(x, self.layout)
            found = self._update(update, x, target.to(self.device), batches.per_epoch)
            self.invalid[name] += batches.invalid.pop(step, 0) + not_numbers(target)
            self.step = step + 1
            self.images[name] = self.step * stage.batch
            self.seconds[name] = before + time.monotonic() - started
            progress.update(bar, completed=self.step)
            epoch, place = divmod(step, batches.per_epoch)
            if step % 10 == 0 or self.step == total:
                terms = {key: value.item() for key, value in found.items()}
                self._log(stage=name, step=step, epoch=epoch, rate=rate, **terms)
            epoch_ended = place == batches.per_epoch - 1
            every = self.recipe.data.look_every
            if (epoch_ended and epoch % every == every - 1) or self.step == total:
                self._look(update)
            if self.step % self.recipe.save_every == 0 or self.step == total:
                self._save_state(update)
        progress.remove_task(bar)

    def _update(
        self, update: Step, x: torch.Tensor, target: torch.Tensor, per_epoch: int
    ) -> dict[str, torch.Tensor]:
        """One step; a batch without any depth is counted and logged, and teaches nothing."""
        if self._anywhere(update.teaches(target)):
            return update(x, target)
        self.empty[update.name] += 1
        if self.empty[update.name] > self.step and self.step + 1 >= per_epoch:
            raise TrainingError(
                f"{update.name}, target: expected depth in some image, got none in an epoch"
            )
        self._log(stage=update.name, step=self.step, batch_without_depth=self.empty[update.name])
        return {}

    def _anywhere(self, here: torch.Tensor) -> bool:
        """Whether any process' share of the batch has it: all of them make the step, or none.

        A share without depth makes it with gradients of zero, for the others wait for it.
        """
        if self.world > 1:
            here = here.to(self.device, torch.uint8)
            torch.distributed.all_reduce(here, torch.distributed.ReduceOp.MAX)
        return bool(here)

    def _distributed(self, module: nn.Module) -> nn.Module:
        if self.world == 1:
            return module
        return nn.parallel.DistributedDataParallel(module)

    # --- looks, log and states -------------------------------------------------------------------

    def _look(self, update: Step) -> None:
        """RMSE on some validation images at 200, 50 and 0 samples, network alone (not anchored)."""
        if self.rank or not (len(self.looks) and update.makes_depth):
            return
        trained = [part for part in self.model.modules() if part.training]
        self.metrics = validate(self.model.eval(), self.looks, self.device, update.autocast)
        for part in trained:
            part.training = True
        self._log(stage=update.name, step=self.step, **self.metrics)

    def _log(self, **line: Any) -> None:
        if self.rank == 0:
            line["seconds"] = round(self.seconds[STAGES[self.stage]], 1)
            with self.log_file.open("a") as stream:
                stream.write(json.dumps(line) + "\n")

    def _facts(self) -> dict[str, Any]:
        packed = {"source": self.data.source} if self.data.source else {}
        return packed | {
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
                "images": self.images,
                "empty": self.empty,
                "invalid": self.invalid,
                "log_bytes": self.log_file.stat().st_size,
                "scaler": update.scaler.state_dict(),
            }
            modules = {"model": self.model, "discriminator": self.discriminator}
            write_state(self.state_file, modules, update.optimizers, facts)

    def _resume(self) -> None:
        mine, facts = json.loads(json.dumps(self._facts())), read_facts(self.state_file)
        facts["recipe"] = completed(facts["recipe"])
        for name in ("data_hash", "source", "recipe"):
            if facts.get(name) != mine.get(name):
                others = different(mine[name], facts[name]) if name == "recipe" else ()
                raise TrainingError(
                    f"{self.state_file}: expected the same {name} as the run to resume, "
                    f"got another one{': ' * bool(others)}{', '.join(others)}"
                )
        modules = {"model": self.model, "discriminator": self.discriminator}
        self.resumed = facts = read_state(self.state_file, modules)
        self.stage, self.step = facts["stage"], facts["step"]
        self.metrics = facts["metrics"]
        for name in ("seconds", "images", "empty", "invalid"):  # older states lack some
            getattr(self, name).update(facts.get(name, {}))
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
                    name: round(seen / len(self.data), 2) for name, seen in self.images.items()
                },
                "images": self.images,
                "batches_without_depth": self.empty,
                "pixels_not_depth": self.invalid,
                "encoder": self.encoder,
            }
            model = self.model.cpu()
            if self.plain:
                model = forms.convert(model, fast=False)
            networks.save(path, model, self.spec, facts)
            with atomic_write(self.out / "recipe.json", "w") as stream:
                stream.write(json.dumps(dataclasses.asdict(self.recipe), indent=1) + "\n")
        if self.world > 1:
            torch.distributed.barrier()
        return path
