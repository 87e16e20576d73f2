# SPDX-License-Identifier: Apache-2.0
"""What one training step of each stage does: forward, losses, backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import losses
from .datasets.augmentation import PairAugmentation
from .networks.groups import parameter_groups, set_rate
from .networks.two_stage import REFINING, TwoStage
from .recipes import Recipe, StageOne
from .strange_colours import DOUBT, needs_colour, strange_colours

ASKED = {
    "outliers": "tells wrong points",
    "registration": "tells how far image and points are apart",
    "prior": "tells depth by the image alone",
    "joint_filter": "filters anchored depth",
}


class TrainingError(RuntimeError):
    """Training that cannot go on: a loss that is not finite, a state of another recipe."""


def refuse_untrained(recipe: Recipe, spec: dict[str, Any]) -> None:
    """Refuse a recipe that would leave a refining stage of the architecture as it is made: random.

    Recipes of one-stage papers have no epochs of stage two. Raises TrainingError.
    """
    for name, what in ASKED.items():
        if spec.get(name) is not None and not getattr(recipe, name).epochs:
            raise TrainingError(
                f"{name}.epochs: expected at least 1 for a model with a network that {what}, got 0"
            )
    left = [name.removeprefix("stage_") for name in REFINING if spec.get(name) is not None]
    if left and not recipe.stage_two.epochs:
        raise TrainingError(
            f"stage_two.epochs: expected at least 1 for a model with a stage {' and '.join(left)}, "
            f"got 0; -p stage_two.epochs=N trains it, -p model=NAME takes a model without"
        )


class _Coarse(nn.Module):
    """Stage one as one module, as the distributed wrapper wants it."""

    def __init__(self, model: TwoStage) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.coarse(x)


class _Refine(nn.Module):
    """A refining stage as one module, as the distributed wrapper wants it."""

    def __init__(self, model: TwoStage, stage: str) -> None:
        super().__init__()
        self.model, self.stage = model, stage

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Refined depth (m), and the logits of a stage that has some, else no channels."""
        out = getattr(self.model, self.stage)(condition)
        return self.model.metres(out[:, :1]), out[:, 1:]


def calculates_bf16() -> bool:
    """Whether the processor has bf16 arithmetic: AVX512-BF16, AMX or Arm's BF16."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def uses_cuda(recipe: Recipe) -> bool:
    """Whether a recipe's device is a GPU on this machine."""
    return torch.cuda.is_available() if recipe.device == "auto" else recipe.device == "cuda"


def only_trains(modules: tuple[nn.Module, ...], parts: tuple[nn.Module, ...]) -> None:
    """Freeze all of ``modules`` but these parts."""
    for module in modules:
        module.requires_grad_(False).eval()
    for part in parts:
        part.requires_grad_(True).train()


class Step:
    """One step of a stage: call with (input, target m), get the losses by name."""

    name: str
    makes_depth = True  # which is looked at during training
    batches: type | None = None  # of another kind than `training_data.Batches`

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.precision, self.device = recipe.precision, device
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.scaler = torch.amp.GradScaler(
            device.type, enabled=device.type == "cuda" and recipe.precision == "fp16"
        )

    def autocast(self) -> torch.autocast:
        """The recipe's arithmetic: bf16 or fp16 where torch takes it to be safe."""
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)

    def sent(self, x: Any, layout: torch.memory_format) -> Any:
        """A batch's input on the stage's device."""
        return x.to(self.device, memory_format=layout, non_blocking=True)

    def teaches(self, target: Tensor) -> Tensor:
        """Whether there is anything to learn from in a batch: depth."""
        return losses.valid_pixels(target).any()

    def descend(self, terms: dict[str, Tensor], optimizer: str) -> dict[str, Tensor]:
        """Check that every part of the loss is finite, go back, check the gradients, step."""
        for part, value in terms.items():
            if not torch.isfinite(value):
                raise TrainingError(
                    f"{self.name}, {part}: expected a finite loss, got {value.item()}"
                )
        chosen = self.optimizers[optimizer]
        chosen.zero_grad(set_to_none=True)
        self.scaler.scale(sum(terms.values())).backward()
        if not self.scaler.is_enabled():  # which itself leaves out steps with infinite gradients
            self._check_gradients(optimizer)
        self.scaler.step(chosen)
        self.scaler.update()
        return {part: value.detach() for part, value in terms.items()}

    def _check_gradients(self, optimizer: str) -> None:
        """Refuse to spoil the weights: a finite loss may still have gradients that are not."""
        groups = self.optimizers[optimizer].param_groups
        gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        norms = torch.stack(torch._foreach_norm(gradients))
        if not norms.isfinite().all():
            raise TrainingError(
                f"{self.name}, {optimizer}: expected finite gradients, got "
                f"{int((~norms.isfinite()).sum())} of {len(norms)} that are not"
            )

    def rate(self, value: float) -> None:
        """Set the learning rate; a group of parameters may have a factor of its own."""
        for optimizer in self.optimizers.values():
            set_rate(optimizer, value)


class CoarseStep(Step):
    """Stage one: regression of the coarse depth, berHu by default (A, eq. 1)."""

    name = "stage_one"

    def __init__(
        self,
        model: TwoStage,
        recipe: Recipe,
        device: torch.device,
        distributed: Callable[[nn.Module], nn.Module],
    ) -> None:
        super().__init__(recipe, device)
        stage = recipe.stage_one
        only_trains((model,), (model.stage_one,))
        self.optimizers["network"] = _optimizer(stage, model.stage_one)
        self.coarse = distributed(_Coarse(model))
        options = {} if stage.lam is None else {"lam": stage.lam}
        self.loss_name, self.loss = stage.loss, losses.choose(stage.loss, **options)
        # D's networks learn fractions of the largest depth; so does its loss.
        self.unit = model.settings.max_depth if stage.fraction else 1.0

    def __call__(self, x: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Input (B, C, h, w), target (B, 1, H, W) m → the loss."""
        with self.autocast():
            prediction = self.coarse(x)
        valid = losses.valid_pixels(target)
        loss = self.loss(prediction.float() / self.unit, target / self.unit, valid)
        return self.descend({self.loss_name: loss}, "network")


class AskedStep(Step):
    """Of a small network that is asked beside the stages, by ``name`` (`ASKED`)."""

    makes_depth = False

    def __init__(
        self,
        model: TwoStage,
        recipe: Recipe,
        device: torch.device,
        distributed: Callable[[nn.Module], nn.Module],
    ) -> None:
        super().__init__(recipe, device)
        self.model, self.stage = model, getattr(recipe, self.name)
        network = getattr(model, self.name)
        only_trains((model,), (network,))
        self.optimizers["network"] = torch.optim.AdamW(
            network.parameters(), self.stage.rate, weight_decay=self.stage.weight_decay
        )
        self.network = distributed(network)

    def teaches(self, target: Tensor) -> Tensor:
        """Always: that nothing is wrong is to be learned, too."""
        return torch.ones((), dtype=torch.bool, device=self.device)


def _optimizer(stage: StageOne, network: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer; an encoder that was trained before may learn at a rate of its own."""
    groups = parameter_groups(network, stage.encoder_rate)
    if stage.optimizer == "sgd":
        return torch.optim.SGD(groups, stage.rate, stage.momentum, weight_decay=stage.weight_decay)
    kind = torch.optim.Adam if stage.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, stage.rate, weight_decay=stage.weight_decay)


class RefineStep(Step):
    """Stage two: the conditional GAN on stage one's frozen output (A, section 3.3).

    ``name`` stage_three trains B's third stage on the frozen second one. Without a stage one
    (B's single cGAN) generator and discriminator see the input itself.
    """

    def __init__(
        self,
        model: TwoStage,
        discriminator: nn.Module,
        recipe: Recipe,
        device: torch.device,
        distributed: Callable[[nn.Module], nn.Module],
        name: str = "stage_two",
    ) -> None:
        super().__init__(recipe, device)
        self.name, self.model = name, model
        self.discriminator, self.stage = discriminator, recipe.stage_two
        self.loss = losses.choose(self.stage.loss)
        if self.stage.strange:
            needs_colour(model.settings)
        generator = getattr(model, name)
        only_trains((model, discriminator), (generator, discriminator))
        parts = {"generator": generator, "discriminator": discriminator}
        for part, module in parts.items():
            self.optimizers[part] = torch.optim.Adam(
                module.parameters(), self.stage.rate, self.stage.betas
            )
        self.refine, self.judge = distributed(_Refine(model, name)), distributed(discriminator)

    def sees(self, x: Tensor) -> Tensor:
        """What the players are given: the rough depth (m), or the input of a single cGAN."""
        if self.model.stage_one is None:
            return self.model.condition(x).float()
        rough = self.model.coarse(x)
        if self.name == "stage_three":
            rough = self.model.refine(rough, ("stage_two",))
        return rough.float()

    def __call__(self, x: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Input (B, C, h, w), target (B, 1, H, W) m → the losses of both players."""
        normalise, belief = self.model.normalise, 1.0
        draw = np.random.default_rng(torch.initial_seed() % 2**63)  # of the step, like dropout
        if self.stage.strange:
            x, strange = strange_colours(x, self.stage.strange, draw, self.model.settings)
            belief = 1 - DOUBT * strange.to(target)
        with torch.no_grad(), self.autocast():
            given = self.sees(x)
        if self.model.stage_one is None:
            condition, elsewhere = given, torch.zeros_like(target)
        else:
            if self.stage.pairs is not None:
                given, target = PairAugmentation.of(self.stage.pairs, draw)(given, target)
            elsewhere = normalise(given)
            condition = self.model.beside(elsewhere, self.model.guide(x))
        valid = losses.valid_pixels(target)
        with self.autocast():
            refined, logit = (part.float() for part in self.refine(condition))
        # Where there is no truth, both pairs show the same: nothing there tells them apart.
        real = torch.where(valid, normalise(target), elsewhere)
        fake = torch.where(valid, normalise(refined), elsewhere)
        # 1. The discriminator: real against refined, halved as in the work that A builds on.
        with self.autocast():
            sees_real, sees_fake = self.judge(condition, real), self.judge(condition, fake.detach())
        against = losses.discriminator(sees_real.float(), sees_fake.float())
        found: dict[str, Any] = self.descend({"discriminator": against}, "discriminator")
        # 2. The generator: be taken for real, and stay near the truth (A, eq. 3).
        self.discriminator.requires_grad_(False)
        with self.autocast():
            logits = self.discriminator(condition, fake)
        # λ is meant for depth in [-1, 1]: metres are scaled as the generator sees them. Of the
        # logarithm (A as printed) the unit is a constant, and relative depth has none.
        own = self.stage.loss == "log_l1" or self.model.settings.relative
        unit = 1.0 if own else 2 / self.model.settings.max_depth
        pixel = unit * self.loss(refined, target, valid)
        terms = losses.generator(logits.float(), pixel, self.stage.l1, self.stage.form)
        terms = {
            "adversarial": self.stage.adversarial * terms["adversarial"],
            self.stage.loss: terms["pixel"],
        }
        if self.model.confident:
            terms["confidence"] = self.stage.confidence * losses.confidence(
                logit, refined.detach(), target, valid, belief=belief
            )
        found |= self.descend(terms, "generator")
        self.discriminator.requires_grad_(True)
        return found
