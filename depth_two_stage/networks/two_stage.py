# SPDX-License-Identifier: Apache-2.0
"""The two-stage network (A, Figure 1): stage one → bilinear → stage two [→ stage three]."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .inputs import CHANNELS, COLOURS, FILLED, LOG_REACH, REACH, RELATIVE, SMOOTH, MeanDepth

MAX_SIDE = 8192  # pixels


@dataclass(frozen=True)
class NetworkSettings:
    """What the estimator has to know of a trained network.

    Sizes are (height, width); depths in metres as a camera of ``focal`` px (at ``input_size``)
    would see them; ``sparse_input`` is explained in ``inputs.assemble``. ``aligned`` cuts stage
    one's output to the part that lies over the input (228×304 → 114×152 of 128×160) before it is
    resized; without it the whole output is stretched over the image, as the papers do, with
    ``corners`` so that corner pixels lie on corner pixels (sparse-to-dense). ``colour`` is how
    colour is normalised (``inputs.COLOURS``).
    """

    input_size: tuple[int, int] = (228, 304)
    refined_size: tuple[int, int] = (256, 256)
    focal: float = 259.0
    min_depth: float = 0.1
    max_depth: float = 10.0
    mean_depth: MeanDepth = 2.8
    sparse_input: str = "zeros"
    aligned: bool = False
    colour: str = "imagenet"
    corners: bool = False

    def __post_init__(self) -> None:
        for name in ("input_size", "refined_size"):
            size = tuple(int(value) for value in getattr(self, name))
            if len(size) != 2 or min(size) < 1 or max(size) > MAX_SIDE:
                raise ValueError(f"{name}: expected (height, width) to {MAX_SIDE}, got {size}")
            object.__setattr__(self, name, size)
        if not 0 < self.focal < np.inf:
            raise ValueError(f"focal: expected a positive number of pixels, got {self.focal!r}")
        mean = np.asarray(self.mean_depth, np.float64)
        if mean.ndim not in (0, 2) or not (np.isfinite(mean).all() and (mean > 0).all()):
            raise ValueError(
                f"mean_depth: expected positive metres, or rows of them, got {self.mean_depth!r}"
            )
        for name, known in (("sparse_input", CHANNELS), ("colour", COLOURS)):
            if getattr(self, name) not in known:
                expected = ", ".join(known)
                raise ValueError(f"{name}: expected one of {expected}, got {getattr(self, name)!r}")
        if not 0 <= self.min_depth < self.max_depth:
            raise ValueError(
                "min_depth, max_depth: expected 0 ≤ min < max, "
                f"got {self.min_depth}, {self.max_depth}"
            )

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return CHANNELS[self.sparse_input]

    @property
    def relative(self) -> bool:
        """Whether depth is in units of the scene (`inputs.scene_unit`)."""
        return self.sparse_input in RELATIVE

    def valid_range(self, unit: float | None) -> tuple[float, float]:
        """Depths that the network is asked for, canonical m: ``min_depth`` to ``max_depth``.

        Where its depth is relative to points whose median is ``unit`` m: `REACH` times nearer to
        `REACH` times farther than that.
        """
        if unit is None or not self.relative:
            return self.min_depth, self.max_depth
        return unit / REACH, unit * REACH


REFINING = ("stage_two", "stage_three")
#: networks that a model may have beside its stages, in the order in which they are trained
BESIDE = ("outliers", "registration", "prior", "joint_filter")


class TwoStage(nn.Module):
    """Input (B, C, h, w) of ``inputs.assemble`` → (coarse, refined), each (B, 1, H, W) m.

    A stage two with the attribute ``confident`` gives a third, the logit of the probability that
    refined is within 5 % of the truth; one with ``guides``, channels of the input, sees those too,
    beside the rough depth. ``relative``: metres are units of the scene here and in all methods,
    stage one's output is added to the logarithm of the interpolated depth, and depth enters stage
    two as its logarithm ÷ ln 20.

    (H, W) is ``settings.refined_size``. Without a stage two, refined is coarse. ``filled`` and
    ``smooth`` add stage one's output to the filled depth; D's networks answer in fractions of
    ``max_depth``. Depth enters stage two as [-1, 1] for [0, max_depth]. The output is not clamped:
    what lies outside the valid range is for the caller to drop.

    ``stage_three`` refines again (B, Tables 3 and 4). Without a stage one, stage two makes depth of
    the image itself (B's single cGAN), and coarse is refined. What is None does not run; stage
    n + 1 is trained on the frozen output of stage n:
    ``rough = refine(coarse(x), ("stage_two",))``, ``refine(rough, ("stage_three",))``.

    ``outliers`` (`outliers.OutlierNetwork`) is asked before any of them which points are wrong, and
    ``registration`` (`registration.RegistrationNetwork`) how far the image lies beside the points;
    ``prior`` (`prior.PriorNetwork`) how deep it is by the image alone, where points are few;
    ``joint_filter`` (`joint_filter.JointFilterNetwork`) filters what was anchored to many points.
    They are no part of `forward`.
    """

    def __init__(
        self,
        stage_one: nn.Module | None,
        stage_two: nn.Module | None,
        settings: NetworkSettings,
        stage_three: nn.Module | None = None,
        outliers: nn.Module | None = None,
        registration: nn.Module | None = None,
        prior: nn.Module | None = None,
        joint_filter: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if stage_two is None and (stage_one is None or stage_three is not None):
            raise ValueError("stage_two: expected a network before stage three or alone, got None")
        if stage_three is not None and getattr(stage_two, "guides", ()):
            raise ValueError("stage_three: expected none after a stage two that is guided, got one")
        self.stage_one = stage_one
        self.stage_two = stage_two
        self.stage_three = stage_three
        self.outliers = outliers
        self.registration = registration
        self.prior = prior
        self.joint_filter = joint_filter
        self.settings = settings
        self.scale = settings.max_depth if getattr(stage_one, "fraction", False) else None
        self.guides = list(getattr(stage_two, "guides", ()))
        self.confident = bool(getattr(stage_two, "confident", False))

    @property
    def fixed_size(self) -> bool:
        """Whether only ``settings.input_size`` may enter: fully connected layers."""
        return getattr(self.stage_one, "fixed_size", False)

    def coarse(self, x: Tensor) -> Tensor:
        """Stage one and the bilinear layer: (B, C, h, w) → (B, 1, H, W) m."""
        if self.stage_one is None:
            return self.metres(self.stage_two(self.condition(x)))
        out = self.stage_one(x)
        if self.scale is not None:
            out = out * self.scale
        if self.settings.aligned:
            out = out[..., : (x.shape[-2] + 1) // 2, : (x.shape[-1] + 1) // 2]
        out = F.interpolate(
            out.float(),
            self.settings.refined_size,
            mode="bilinear",
            align_corners=self.settings.corners,
        )
        if self.settings.sparse_input in (*FILLED, *RELATIVE):
            out = out + self._resized(x[:, SMOOTH : SMOOTH + 1])
        return out.exp() if self.settings.relative else out

    def _resized(self, x: Tensor) -> Tensor:
        """Bring channels of the input to the size of the refined depth, in fp32."""
        return F.interpolate(
            x.float(), self.settings.refined_size, mode="bilinear", align_corners=False
        )

    def normalise(self, depth: Tensor) -> Tensor:
        """Metres → stage two's [-1, 1]."""
        if self.settings.relative:
            return depth.clamp(min=1e-3).log() / LOG_REACH
        return depth * (2 / self.settings.max_depth) - 1

    def metres(self, depth: Tensor) -> Tensor:
        """Stage two's [-1, 1] → metres."""
        if self.settings.relative:
            return (depth * LOG_REACH).exp()
        return (depth + 1) * (self.settings.max_depth / 2)

    def guide(self, x: Tensor) -> Tensor | None:
        """What stage two sees of the input beside the rough depth, (B, G, H, W); None: nothing."""
        return self._resized(x[:, self.guides]) if self.guides else None

    def condition(self, x: Tensor) -> Tensor:
        """What stage two and its discriminator see of an input.

        The rough depth in [-1, 1], (B, 1, H, W); for a single cGAN the input itself, (B, C, H, W).
        """
        if self.stage_one is not None:
            return self.beside(self.normalise(self.coarse(x)), self.guide(x))
        return self._resized(x)

    @staticmethod
    def beside(rough: Tensor, guide: Tensor | None) -> Tensor:
        """The rough depth in [-1, 1] and what guides its refinement, (B, 1 + G, H, W)."""
        return rough if guide is None else torch.cat((rough, guide), dim=1)

    def refine(self, coarse: Tensor, stages: tuple[str, ...] = REFINING) -> Tensor:
        """Stage two and three, or those of them that are named: (B, 1, H, W) m → the same."""
        if self.stage_one is None:
            return coarse
        for name in stages:
            stage = getattr(self, name)
            if stage is not None:
                coarse = self.metres(stage(self.normalise(coarse)))
        return coarse

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Coarse and refined depth, and what stage two knows of its confidence."""
        coarse = self.coarse(x)
        if not (self.guides or self.confident):
            return coarse, self.refine(coarse)
        out = self.stage_two(self.beside(self.normalise(coarse), self.guide(x)))
        return (coarse, self.metres(out[:, :1]), *([out[:, 1:]] if self.confident else []))


def settings_dict(settings: NetworkSettings) -> dict:
    """The settings as JSON values."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(settings).items()
    }
