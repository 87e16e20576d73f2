# SPDX-License-Identifier: Apache-2.0
"""What is compared: rows (one training run each), and claims over some of them."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from depth_two_stage import networks, recipes
from depth_two_stage.naming import names_in, read_named

FOLDER = Path(__file__).resolve().parent
KINDS = ("order", "stages", "samples", "speed")
#: what a claim may be measured by; smaller is better
MEASURES = ("rmse", "rel", "log10", "grid")


class PlanError(ValueError):
    """A plan that is missing or holds an unknown name or a wrong value."""


@dataclass(frozen=True)
class Row:
    """One network to train: a model, what its recipe changes, a seed; ``label`` names it."""

    label: str
    model: str
    seed: int = 0
    set: tuple[tuple[str, Any], ...] = ()

    @property
    def key(self) -> str:
        """Name of the row's files."""
        return f"{re.sub(r'[^A-Za-z0-9.]+', '-', self.label).strip('-').lower()}-s{self.seed}"


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper and what it names.

    ``kind`` order: the rows' ``measure``, best first as the paper says. stages: the same row's
    answer after each of its stages, best first (numbers of stages). samples: how many points halve
    the error without any. speed: forms of the up-projection timed beside each other.
    """

    name: str
    paper: str
    says: str
    kind: str = "order"
    rows: tuple[Row, ...] = ()
    measure: str = "rmse"
    order: tuple[int, ...] = ()
    samples: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A comparison: the recipe and the budget (images each stage sees) that all rows share."""

    recipe: str
    budget: int
    rows: tuple[Row, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    claims: tuple[Claim, ...] = ()
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)

    def runs(self, table: bool = True, claims: bool = True) -> list[Row]:
        """Every training run once: the table's rows first, then each claim's, seed by seed."""
        wanted = list(self.rows) if table else []
        for claim in self.claims if claims else ():
            wanted += [
                dataclasses.replace(row, seed=seed) for row in claim.rows for seed in self.seeds
            ]
        return list({row.key: row for row in wanted}.values())


def names() -> list[str]:
    """Names of the plans that come with the package."""
    return names_in(FOLDER)


def of_models(models: list[str], recipe: str, budget: int) -> Plan:
    """A plan with one row for each of these models of the table."""
    named = dict.fromkeys(_model("models", name) for name in models)
    rows = tuple(Row(name, name) for name in named)
    return Plan(recipe, budget, rows, figures=load("papers").figures)


def load(name_or_path: str) -> Plan:
    """Read a plan of this package, or a YAML file."""
    path, content = read_named("plan", name_or_path, FOLDER, PlanError)
    content = _mapping(path.name, content, ("recipe", "budget", "rows", "seeds", "claims", "set"))
    figures = _figures()
    shared = _mapping("set", content.get("set", {}))
    seeds = content.get("seeds", [0, 1, 2])
    if not _whole(seeds, 0) or len(set(seeds)) < len(seeds):
        raise PlanError(f"seeds: expected a list of different integers from 0, got {seeds!r}")
    budget = content.get("budget")
    if type(budget) is not int or budget < 1:
        raise PlanError(f"budget: expected a number of images of at least 1, got {budget!r}")
    rows = _rows("rows", content, shared)
    rows = tuple(row for index, row in enumerate(rows) if row not in rows[:index])
    claims = tuple(
        _claim(name, item, shared)
        for name, item in _mapping("claims", content.get("claims", {})).items()
    )
    recipe = content.get("recipe", "compare")
    if not isinstance(recipe, str):
        raise PlanError(f"recipe: expected the name of a recipe, got {recipe!r}")
    recipes.load(recipe)
    plan = Plan(recipe, budget, rows, tuple(seeds), claims, figures)
    by_key: dict[str, Row] = {}
    for row in [*rows, *(row for claim in claims for row in claim.rows)]:
        if by_key.setdefault(row.key, row) != row:
            raise PlanError(f"label: expected one network each, got two that are {row.label!r}")
        try:  # now, not after the hours that the rows before it take
            recipes.load(recipe, {**dict(row.set), "model": row.model})
        except recipes.RecipeError as error:
            raise PlanError(f"{row.label}: {error}") from error
    return plan


def _mapping(name: str, value: Any, known: tuple[str, ...] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PlanError(f"{name}: expected a mapping, got {value!r}")
    unknown = sorted(set(value) - set(known)) if known else ()
    if unknown:
        raise PlanError(f"{name}: expected some of {', '.join(known)}, got {unknown[0]!r}")
    return value


def _whole(value: Any, least: int) -> bool:
    """Whether it is a list of integers, at least one, none below ``least``."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(type(v) is int and v >= least for v in value)
    )


def _model(where: str, name: Any) -> str:
    """A model's own name, also for its alias: the same network is trained once."""
    if not isinstance(name, str):
        raise PlanError(f"{where}: expected the name of a model, got {name!r}")
    networks.architecture(name)  # an unknown one is answered with the nearest
    return networks.ALIASES.get(name, name)


def _rows(where: str, item: dict[str, Any], shared: dict[str, Any]) -> list[Row]:
    rows = item.get("rows", [])
    if not isinstance(rows, list):
        raise PlanError(f"{where}: expected a list of models, got {rows!r}")
    return [_row(where, row, shared) for row in rows]


def _row(where: str, item: Any, shared: dict[str, Any]) -> Row:
    """A model's name, or a mapping with model, label and what its recipe changes."""
    if isinstance(item, str):
        item = {"model": item}
    item = _mapping(where, item, ("model", "label", "set"))
    if "model" not in item:
        raise PlanError(f"{where}: expected the name of a model, got {item!r}")
    model = _model(where, item["model"])
    changes = {**shared, **_mapping(f"{where}.set", item.get("set", {}))}
    for key, value in changes.items():
        if isinstance(value, dict):
            raise PlanError(f"{where}.set: expected {key}.NAME: VALUE, got {value!r}")
    frozen = tuple(
        sorted((str(key), tuple(v) if isinstance(v, list) else v) for key, v in changes.items())
    )
    return Row(str(item.get("label", model)), model, 0, frozen)


def _claim(name: str, item: Any, shared: dict[str, Any]) -> Claim:
    known = ("paper", "says", "kind", "rows", "measure", "order", "samples")
    item = _mapping(f"claims.{name}", item, known)
    for key, least in (("order", 1), ("samples", 1)):
        if key in item and not _whole(item[key], least):
            got = f"got {item[key]!r}"
            raise PlanError(f"claims.{name}.{key}: expected a list of integers from {least}, {got}")
    claim = Claim(
        str(name),
        str(item.get("paper", "")),
        str(item.get("says", "")),
        item.get("kind", "order"),
        tuple(_rows(f"claims.{name}.rows", item, shared)),
        item.get("measure", "rmse"),
        tuple(item.get("order", ())),
        tuple(item.get("samples", ())),
    )
    for key, value, wanted in (("kind", claim.kind, KINDS), ("measure", claim.measure, MEASURES)):
        if value not in wanted:
            expected = ", ".join(wanted)
            raise PlanError(f"claims.{name}.{key}: expected one of {expected}, got {value!r}")
    least = {"order": 2, "stages": 1, "samples": 1, "speed": 0}[claim.kind]
    if len({row.key for row in claim.rows}) < least:
        raise PlanError(f"claims.{name}.rows: expected at least {least}, got {len(claim.rows)}")
    if claim.kind in ("stages", "samples"):
        _check_single(claim)
    return claim


def _check_single(claim: Claim) -> None:
    """Claims on one network: that there is one, and that it has what is judged."""
    if len(claim.rows) != 1:
        raise PlanError(f"claims.{claim.name}.rows: expected one network, got {len(claim.rows)}")
    (row,) = claim.rows
    spec = networks.architecture(row.model)
    stages = [n for n, name in enumerate(("one", "two", "three"), 1) if spec.get(f"stage_{name}")]
    if claim.kind == "stages" and not (
        len(set(claim.order)) == len(claim.order) > 1 and set(claim.order) <= set(stages)
    ):
        raise PlanError(
            f"claims.{claim.name}.order: expected two or more stages of {row.model} (it has "
            f"{', '.join(map(str, stages))}), got {list(claim.order)}"
        )
    takes = dict(row.set).get("sparse_input", spec["settings"].get("sparse_input", "zeros"))
    if claim.kind == "samples" and takes in ("none", "grey"):
        raise PlanError(
            f"claims.{claim.name}.rows: expected a network that takes points, got {row.model}"
        )


def _figures() -> dict[str, dict[str, Any]]:
    """What the papers print for each model, by its name."""
    import yaml

    return yaml.safe_load((FOLDER / "figures" / "papers.yaml").read_text(encoding="utf-8"))
