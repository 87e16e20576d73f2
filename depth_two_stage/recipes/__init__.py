# SPDX-License-Identifier: Apache-2.0
"""Training recipes: one YAML file each, checked against these declarations.

A recipe names the network, the data and both stages; what it leaves out takes the defaults here.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from depth_two_stage.datasets.mixing import Mix
from depth_two_stage.datasets.photometry import Photometry
from depth_two_stage.datasets.sensors import Sparse
from depth_two_stage.naming import names_in, nearest, read_named

from .beside import JointFilter, Outliers, Prior, Registration
from .limits import CHOICES, LEAST, MOST, ORDERED, place

FOLDER = Path(__file__).resolve().parent


class RecipeError(ValueError):
    """A recipe that is missing or holds an unknown name or a wrong value."""


@dataclass(frozen=True)
class Data:
    """What is learned from, and what is looked at every ``look_every`` epochs.

    ``mask_extremes`` leaves out depth at an image's smallest or largest value (C, section 4),
    ``farthest`` above 0 what lies beyond so many metres (E and B, Make3D: 70). ``mix``: data sets
    that take a share of the images' places in every batch (`datasets.mixing`).
    """

    dataset: str = "nyu"
    root: str | None = None
    split: str | None = "train"
    limit: int = 0
    validation_split: str | None = "val"
    validation_limit: int = 24
    look_every: int = 5
    mask_extremes: bool = False
    farthest: float = 0.0
    mix: tuple[Mix, ...] = ()


@dataclass(frozen=True)
class View:
    """Augmentation (E): scale, rotation in degrees, flip probability, colour factors.

    ``paper``, a name of `datasets.ranges.RANGES`, takes that paper's ranges instead. ``stretch`` is
    the probability that depths of a frame with points are raised to a power in ``powers`` about
    their median: rooms with the range of depths of a street.
    """

    paper: str | None = None
    scale: tuple[float, float] = (1.0, 1.5)
    rotation: float = 5.0
    flip: float = 0.5
    colour: float = 0.2
    stretch: float = 0.0
    powers: tuple[float, float] = (0.8, 2.2)


@dataclass(frozen=True)
class StageOne:
    """Regression of the coarse depth.

    ``iterations`` above 0 counts steps in the place of epochs (D). ``encoder_rate`` is the factor
    of the encoder's learning rate. ``fraction`` takes the loss of depth ÷ maximum depth (D).
    ``lam`` is λ of the scale-invariant losses.
    """

    epochs: int = 20
    iterations: int = 0
    batch: int = 10
    optimizer: str = "sgd"
    rate: float = 1e-2
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "steps"
    factor: float = 0.2
    every: int = 5
    loss: str = "berhu"
    lam: float | None = None
    encoder_rate: float = 1.0
    fraction: bool = False


@dataclass(frozen=True)
class StageTwo:
    """Conditional GAN; ``l1`` is λ, the weight of ``loss`` (A: L1); ``adversarial`` (A: 1).

    ``form`` of the generator's adversarial term: non_saturating, or min_max as printed.
    ``none`` is this stage's share of images without points; below 0: that of ``sparse``. A third
    stage (B) is trained in the same way after the second. ``pairs``, a name of
    `datasets.ranges.RANGES`, changes rough depth and target as that paper does (B, Make3D).
    ``confidence`` weighs the cross entropy of a stage that predicts its own (`anchored`);
    ``strange`` is the share of images that it sees in colours of no camera, to be half as sure
    (`strange_colours`).
    """

    epochs: int = 200
    batch: int = 1
    rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    schedule: str = "constant"
    loss: str = "l1"
    l1: float = 100.0
    adversarial: float = 1.0
    form: str = "non_saturating"
    none: float = -1.0
    pairs: str | None = None
    confidence: float = 1.0
    strange: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run; ``width`` multiplies every width of the model.

    ``sparse_input``, ``input_size`` and ``refined_size`` (height, width), ``focal`` (px at that
    size) and ``max_depth`` (m) replace the model's own settings; without ``focal`` it changes in
    proportion to the size. ``plug`` is another
    stage one for it: a model, or trained weights, which then stay as they are (B, section 4.3).
    ``encoder_weights`` is a file of torchvision's names that the encoder starts from; channels
    that it lacks start at the ``mean`` of the others or at ``zero``; ``init_std`` is the standard
    deviation that new layers start with (E: 0.1), without it He's. ``budget`` above 0 is the
    number of images that each stage sees at most, its schedule pressed together.
    """

    model: str = "two-stage-rgbd"
    width: float = 1.0
    sparse_input: str | None = None
    input_size: tuple[int, int] | None = None
    refined_size: tuple[int, int] | None = None
    focal: float | None = None
    max_depth: float | None = None
    plug: str | None = None
    encoder_weights: str | None = None
    encoder_channel: str = "mean"
    init_std: float | None = None
    budget: int = 0
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    save_every: int = 100
    data: Data = field(default_factory=Data)
    view: View = field(default_factory=View)
    photometry: Photometry = field(default_factory=Photometry)
    sparse: Sparse = field(default_factory=Sparse)
    stage_one: StageOne = field(default_factory=StageOne)
    stage_two: StageTwo = field(default_factory=StageTwo)
    outliers: Outliers = field(default_factory=Outliers)
    registration: Registration = field(default_factory=Registration)
    prior: Prior = field(default_factory=Prior)
    joint_filter: JointFilter = field(default_factory=JointFilter)


def names() -> list[str]:
    """Names of the recipes that come with the package."""
    return names_in(FOLDER)


def load(name_or_path: str, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe of this package or a file; ``overrides`` are dotted names."""
    path, content = read_named("recipe", name_or_path, FOLDER, RecipeError)
    content = content or {}
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: expected a mapping, got {type(content).__name__}")
    for dotted, value in _single(overrides or {}):
        place = content
        *groups, leaf = dotted.split(".")
        for group in groups:
            if place.get(group) is None:  # not there, or a heading without anything below
                place[group] = {}
            place = place[group]
            if not isinstance(place, dict):
                raise RecipeError(f"{dotted}: expected a name of a recipe, got an unknown one")
        place[leaf] = value
    return _make(Recipe, content, "")


def different(ours: Any, others: Any, prefix: str = "") -> list[str]:
    """Dotted names of what two recipes, as mappings, do not have alike."""
    if not (isinstance(ours, dict) and isinstance(others, dict)):
        return [] if ours == others else [prefix[:-1]]
    return [
        name
        for key in dict.fromkeys((*ours, *others))
        for name in different(ours.get(key), others.get(key), f"{prefix}{key}.")
    ]


def completed(facts: dict[str, Any]) -> dict[str, Any]:
    """A recipe as a mapping with the defaults of what recipes could not yet say when it was made.

    Compare it with others of `dataclasses.asdict` after JSON, which has lists for tuples.
    """
    return _completed(facts, json.loads(json.dumps(dataclasses.asdict(Recipe()))))


def _completed(facts: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    made = dict(whole)
    for name, value in facts.items():
        inner = isinstance(value, dict) and isinstance(whole.get(name), dict)
        made[name] = _completed(value, whole[name]) if inner else value
    return made


def _single(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and single values: a mapping changes what it names and leaves the rest."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _single(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _make(cls: type, values: Any, prefix: str) -> Any:
    if not isinstance(values, dict):
        raise RecipeError(f"{prefix[:-1]}: expected a mapping, got {values!r}")
    types = typing.get_type_hints(cls)
    unknown = sorted(map(str, set(values) - set(types)))
    if unknown:
        raise RecipeError(
            f"{prefix}{unknown[0]}: expected one of {', '.join(types)}, got an unknown name"
            f"{nearest(unknown[0], types)}"
        )
    made = {}
    for name, value in values.items():
        full, kind = prefix + name, types[name]
        made[name] = (
            _make(kind, value, full + ".")
            if dataclasses.is_dataclass(kind)
            else _value(full, kind, value)
        )
    return cls(**made)


def _value(name: str, kind: Any, value: Any) -> Any:
    """One value in its declared type, within its limits."""
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)
        if not isinstance(value, list | tuple) or (
            inner[-1] is not ... and len(value) != len(inner)
        ):
            raise RecipeError(f"{name}: expected a list like {inner}, got {value!r}")
        if dataclasses.is_dataclass(inner[0]):
            return tuple(_make(inner[0], item, name + ".") for item in value)
        if not value:
            raise RecipeError(f"{name}: expected at least one number, got none")
        made = tuple(_value(name, inner[0], item) for item in value)
        if place(name) in ORDERED and made[0] > made[1]:
            raise RecipeError(f"{name}: expected the lower number first, got {value!r}")
        return made
    if type(None) in typing.get_args(kind):
        return None if value is None else _value(name, typing.get_args(kind)[0], value)
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string
        try:
            value = float(value)
        except ValueError:
            raise RecipeError(f"{name}: expected a number, got {value!r}") from None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise RecipeError(f"{name}: expected {kind.__name__}, got {value!r}")
    if name in CHOICES and value not in CHOICES[name]:
        raise RecipeError(
            f"{name}: expected one of {', '.join(CHOICES[name])}, "
            f"got {value!r}{nearest(value, CHOICES[name])}"
        )
    if kind in (int, float):
        known = place(name)
        least, most = LEAST.get(known, 0), MOST.get(known, math.inf)
        if not least <= value:
            raise RecipeError(f"{name}: expected at least {least}, got {value!r}")
        if not (value <= most and math.isfinite(value)):
            expected = f"at most {most}" if known in MOST else "a finite number"
            raise RecipeError(f"{name}: expected {expected}, got {value!r}")
    return value
