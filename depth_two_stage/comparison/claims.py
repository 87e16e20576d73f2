# SPDX-License-Identifier: Apache-2.0
"""What the papers claim, judged by the rows that were trained."""

from __future__ import annotations

import dataclasses
import itertools
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .plan import Claim, Plan
from .runs import STAGES, read_row

CONFIDENCE = 0.95
HOLDS, REVERSED = "holds", "does not hold here"
UNDECIDED, MISSING = "not decided at this budget", "not measured yet"
HALF = 0.5


def judge(claim: Claim, plan: Plan, out: Path) -> dict[str, Any]:
    """A claim's figures over the seeds that are there, and its verdict."""
    found = {
        "name": claim.name,
        "paper": claim.paper,
        "says": claim.says,
        "kind": claim.kind,
        "measure": claim.measure,
    }
    if claim.kind == "speed":
        path = speed_file(claim, out)
        from depth_two_stage import files

        return found | (files.read_json(path) if path.exists() else {"verdict": MISSING})
    rows = {
        row.label: [
            read
            for seed in plan.seeds
            if (read := read_row(out, dataclasses.replace(row, seed=seed))) is not None
        ]
        for row in claim.rows
    }
    if not all(rows.values()):
        absent = ", ".join(name for name, reads in rows.items() if not reads)
        return found | {"verdict": MISSING, "missing": absent}
    return found | {"order": _order, "stages": _stages, "samples": _samples}[claim.kind](
        claim, rows
    )


def speed_file(claim: Claim, out: Path) -> Path:
    """Where the times of a claim on speed are kept."""
    return out / "rows" / f"{re.sub(r'[^A-Za-z0-9]+', '-', f'speed-{claim.name}')}.json"


def figure(row: dict[str, Any], measure: str, method: str = "refined") -> float:
    """A row's figure: without points where it takes none, else at 200; NaN where it has none."""
    results = row["results"]
    pattern = "bernoulli:200" if "bernoulli:200" in results else "none"
    found = row.get("grid") if measure == "grid" else results[pattern][method][measure]
    return float("nan") if found is None else float(found)


def compare_pairs(better: np.ndarray, worse: np.ndarray) -> dict[str, Any]:
    """Whether one is smaller than the other over the same seeds: paired t-test, two-sided.

    With one seed, or differences that 95 % confidence does not tell from none, it is not decided.
    """
    difference = worse - better
    mean = float(np.mean(difference))
    found = {"difference": mean, "seeds": len(difference)}
    if len(difference) < 2 or not np.isfinite(difference).all():
        return found | {"p": None, "verdict": UNDECIDED}
    spread = float(np.std(difference, ddof=1))
    if spread == 0:
        p = 0.0 if mean else 1.0
    else:
        from scipy.stats import ttest_rel

        p = float(ttest_rel(worse, better).pvalue)
    told_apart = HOLDS if mean > 0 else REVERSED
    return found | {"p": p, "verdict": told_apart if p <= 1 - CONFIDENCE else UNDECIDED}


def together(verdicts: list[str]) -> str:
    """A chain holds when each of its links does; one that is reversed breaks it."""
    if REVERSED in verdicts:
        return REVERSED
    return HOLDS if all(verdict == HOLDS for verdict in verdicts) else UNDECIDED


def spread(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation over seeds (None with one), and the values."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": deviation, "values": values}


def _chain(named: dict[str, list[float]], found: dict[str, Any]) -> dict[str, Any]:
    """Consecutive pairs of what is expected to grow from the first to the last."""
    names = list(named)
    pairs = []
    for first, second in itertools.pairwise(names):
        least = min(len(named[first]), len(named[second]))
        a, b = (np.array(named[name][:least]) for name in (first, second))
        pairs.append({"better": first, "worse": second, **compare_pairs(a, b)})
    verdict = together([pair["verdict"] for pair in pairs])
    return found | {"pairs": pairs, "verdict": verdict}


def _order(claim: Claim, rows: dict[str, list[dict]]) -> dict[str, Any]:
    # Pairs are made by seed: only seeds that every row has.
    common = set.intersection(*({r["seed"] for r in reads} for reads in rows.values()))
    named = {
        name: [figure(r, claim.measure) for r in reads if r["seed"] in common]
        for name, reads in rows.items()
    }
    if not common:
        return {"verdict": MISSING, "missing": "a seed that all rows have"}
    return _chain(named, {"rows": {name: spread(values) for name, values in named.items()}})


def _stages(claim: Claim, rows: dict[str, list[dict]]) -> dict[str, Any]:
    """The same network after each of its stages: coarse, (two), refined."""
    reads = next(iter(rows.values()))
    has_two = "two" in next(iter(reads[0]["results"].values()))
    methods = {1: "coarse", 2: "two" if has_two else "refined", 3: "refined"}
    named = {
        f"stage {STAGES[stage - 1]}": [figure(r, claim.measure, methods[stage]) for r in reads]
        for stage in claim.order
    }
    return _chain(named, {"rows": {name: spread(values) for name, values in named.items()}})


def _samples(claim: Claim, rows: dict[str, list[dict]]) -> dict[str, Any]:
    """The smallest number of points that halves the error without any; A's 40 % at 100."""
    reads = next(iter(rows.values()))
    table = {}
    for pattern in reads[0]["results"]:
        if not all(pattern in read["results"] for read in reads):
            continue  # pairs are made by seed: what every seed has
        count = 0 if pattern == "none" else int(pattern.partition(":")[2])
        found = (read["results"][pattern]["refined"]["rmse"] for read in reads)
        table[count] = spread([float("nan") if value is None else value for value in found])
    table = dict(sorted(table.items()))
    without = table[0]["mean"]
    halved = [n for n, each in table.items() if n and each["mean"] <= HALF * without]
    found = {
        "rows": {f"{n} points": each for n, each in table.items()},
        "halved_at": min(halved) if halved else None,
    }
    if 100 not in table:
        return found | {"verdict": MISSING, "missing": "100 points"}
    shares = 1 - np.array(table[100]["values"]) / np.array(table[0]["values"])
    found["reduction_at_100"] = float(np.mean(shares))
    if (shares > 0.4).all() or (shares <= 0.4).all():
        return found | {"verdict": HOLDS if shares[0] > 0.4 else REVERSED}
    return found | {"verdict": UNDECIDED}


def measure_speed(
    claim: Claim, rounds: int = 15, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Fast against plain form of one up-projection and of the whole FCRN-50, one image, fp32.

    Medians of rounds in which both take turns; the ratio is plain ÷ fast (E prints 1.5 : 0.14 ms
    for one up-projection of its toolbox, 78 : 55 ms with up-convolutions for the network).
    """
    from depth_two_stage import networks
    from depth_two_stage.networks import blocks, forms

    torch.manual_seed(0)
    whole = networks.build("resnet-upproj-plain").eval()
    block = blocks.UpProj(512, 256, fast=False).eval()
    pairs = {
        "up-projection 512 to 256, 15×19": (block, torch.randn(1, 512, 15, 19)),
        "FCRN-50, 228×304": (whole, torch.randn(1, 3, 228, 304)),
    }
    rows, verdicts = {}, []
    for name, (plain, x) in pairs.items():
        modules = {"plain": plain, "fast": forms.convert(plain, fast=True)}
        times: dict[str, list[float]] = {form: [] for form in modules}
        with torch.inference_mode():
            for module in modules.values():
                module(x)
            for _ in range(rounds):
                for form, module in modules.items():
                    began = clock()
                    module(x)
                    times[form].append((clock() - began) * 1e3)
        medians = {form: float(np.median(values)) for form, values in times.items()}
        ratio = medians["plain"] / medians["fast"]
        rows[name] = {**{f"{form}_ms": value for form, value in medians.items()}, "ratio": ratio}
        verdicts.append(HOLDS if ratio > 1.05 else REVERSED if ratio < 0.95 else UNDECIDED)
    return {"rows": rows, "threads": torch.get_num_threads(), "verdict": together(verdicts)}
