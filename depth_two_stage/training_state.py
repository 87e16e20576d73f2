# SPDX-License-Identifier: Apache-2.0
"""The state of an unfinished training run on disk, and looks at the validation images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from .datasets import Dataset
from .datasets.sparse import bernoulli
from .files import atomic_write
from .networks.inputs import assemble, scene_unit
from .networks.two_stage import TwoStage


def write_state(
    path: Path,
    modules: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
    facts: dict[str, Any],
) -> None:
    """All tensors of networks and optimizers in fp32 safetensors, atomically; no pickle."""
    tensors = {
        f"{name}/{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    facts = {**facts, "groups": {}}
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        facts["groups"][name] = state["param_groups"]
        for index, entries in state["state"].items():
            for key, value in entries.items():
                if value is not None:
                    tensors[f"optimizer/{name}/{index}/{key}"] = torch.as_tensor(value)
    write_tensors(path, tensors, facts)


def write_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Tensors and JSON facts as one safetensors file, atomically."""
    from safetensors.torch import save

    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    with atomic_write(path, "wb") as stream:
        stream.write(save(tensors, {"state": json.dumps(facts)}))


def read_facts(path: Path) -> dict[str, Any]:
    """The facts alone: whose state it is, before anything is loaded."""
    return read_tensors(path, None)[0]


def read_tensors(path: Path, prefix: str | None = "") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Facts, and the tensors whose names begin with ``prefix`` (None: no tensors)."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["state"])
            names = [] if prefix is None else [n for n in file.keys() if n.startswith(prefix)]  # noqa: SIM118
            return facts, {name: file.get_tensor(name) for name in names}
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: expected a training state, got {error}") from error


def read_state(path: Path, modules: dict[str, nn.Module]) -> dict[str, Any]:
    """Load the networks in place; the facts with the optimizers' states under ``optimizers``."""
    facts, tensors = read_tensors(path)
    for name, module in modules.items():
        prefix = name + "/"
        module.load_state_dict(
            {key.removeprefix(prefix): v for key, v in tensors.items() if key.startswith(prefix)}
        )
    facts["optimizers"] = {
        name: {"param_groups": groups, "state": _entries(tensors, f"optimizer/{name}/")}
        for name, groups in facts.pop("groups").items()
    }
    return facts


def _entries(tensors: dict[str, Tensor], prefix: str) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(prefix):
            index, key = name.removeprefix(prefix).split("/")
            state.setdefault(int(index), {})[key] = value
    return state


@torch.no_grad()
def validate(
    model: TwoStage, data: Dataset, device: torch.device, autocast: Any
) -> dict[str, float]:
    """Mean RMSE (m) of coarse and refined depth over whole images at 200, 50 and no samples.

    The network alone, without anchoring, at the refined map's resolution: a look at progress, not
    the protocol of ``evaluate``. Frames without truth are left out.
    """
    settings = model.settings
    height, width = settings.input_size
    found: dict[str, list[float]] = {}
    for index in range(len(data)):
        sample = data[index]
        if sample.depth is None or not sample.depth.any():
            continue
        # The whole frame is squeezed into the input, which for 4:3 keeps its shape.
        camera = sample.camera.resized(width, height)
        ratio = camera.focal / settings.focal
        rgb = cv2.resize(sample.rgb, (width, height), interpolation=cv2.INTER_AREA)
        size = settings.refined_size[::-1]
        truth = cv2.resize(sample.depth, size, interpolation=cv2.INTER_NEAREST_EXACT)
        for count in (200, 50, 0):
            points = bernoulli(sample.depth, count, np.random.default_rng([index, count]))
            v, u = np.nonzero(points)
            sparse = np.zeros((height, width), np.float32)
            rows = np.minimum((v + 0.5) * height / points.shape[0], height - 1).astype(int)
            columns = np.minimum((u + 0.5) * width / points.shape[1], width - 1).astype(int)
            sparse[rows, columns] = points[v, u] / ratio
            x = assemble(rgb, sparse, settings.sparse_input, settings.mean_depth, settings.colour)
            x = torch.from_numpy(x)[None].to(device, memory_format=torch.channels_last)
            with autocast():
                outputs = model(x)[:2]
            scale = ratio * scene_unit(sparse, settings.sparse_input, settings.mean_depth)
            for name, out in zip(("coarse", "refined"), outputs, strict=True):
                if not (truth > 0).any():  # little truth, and none of it at the map's pixels
                    continue
                error = (out.float().cpu().numpy()[0, 0] * scale - truth)[truth > 0]
                found.setdefault(f"{name}_rmse_{count}", []).append(
                    float(np.sqrt(np.mean(error**2)))
                )
    return {name: float(np.mean(values)) for name, values in found.items()}
