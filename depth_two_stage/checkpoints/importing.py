# SPDX-License-Identifier: Apache-2.0
"""Public weights → a checkpoint of this package: report, copy, write, in this order."""

from __future__ import annotations

import copy
import datetime
import glob
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import layouts
from .layouts import Layout
from .reading import Source, read
from .restricted import CheckpointFileError

__all__ = ["ENCODER_MODELS", "Report", "import_weights"]

#: encoder → the network that an imported ImageNet encoder becomes, unless another is named
ENCODER_MODELS = {
    "resnet50": "fcrn50-rgb",
    "resnet18": "fcrn18-rgb",
    "alexnet": "alexnet-upconv",
    "vgg16": "vgg-upconv",
}
COUNTER = "num_batches_tracked"  # of training steps; younger than some of the files


@dataclass
class Report:
    """A file's tensors against those of the network: all of what does not fit."""

    layout: Layout
    expected: int
    matched: int = 0
    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """Whether the tensors can be copied."""
        return not (self.missing or self.wrong or (self.unknown and not self.layout.lenient))

    def text(self) -> str:
        """What does not fit, every name of it."""
        parts = [
            f"{len(names)} {what}: {', '.join(names)}"
            for what, names in (
                ("missing", self.missing),
                ("of another shape or type", self.wrong),
                ("unknown", [] if self.layout.lenient else self.unknown),
            )
            if names
        ]
        return (
            f"expected the {self.expected} tensors of {self.layout.title}, got {self.matched} of "
            f"them; {'; '.join(parts)}"
        )


def compare(layout: Layout, arrays: dict[str, np.ndarray], shapes: dict[str, tuple]) -> Report:
    """Compare names, shapes and values with what the network wants; nothing is copied.

    ``shapes`` are those of our tensors, by our names.
    """
    required = [name for name in layout.names if not name.endswith(COUNTER)]
    report = Report(layout, len(required))
    for name in required:
        wanted = shapes[layout.names[name]]
        if layout.transposed and len(wanted) == 4:
            wanted = (wanted[2], wanted[3], wanted[1], wanted[0])
        value = arrays.get(name)
        if value is None:
            report.missing.append(f"{name} {wanted}")
        elif not fits(layout, name, value.shape, wanted):
            report.wrong.append(f"{name} (expected {wanted}, got {value.shape})")
        elif value.dtype.kind != "f":
            report.wrong.append(f"{name} (expected floating point, got {value.dtype})")
        elif not np.isfinite(value).all():
            report.wrong.append(f"{name} (expected finite values, got NaN or infinity)")
        elif name.endswith(("/variance", ".running_var")) and value.min(initial=0) < 0:
            report.wrong.append(f"{name} (expected variances, got {value.min()})")
        else:
            report.matched += 1
    for name in arrays:
        if name not in layout.names:
            (
                report.dropped if name.startswith(layout.dropped or ("\0",)) else report.unknown
            ).append(name)
    return report


def fits(layout: Layout, name: str, shape: tuple, wanted: tuple) -> bool:
    """Whether a shape is the wanted one; an encoder's stem may see colour alone."""
    if layout.name == "torchvision" and name == next(iter(layout.names)):
        return shape[:1] + shape[2:] == wanted[:1] + wanted[2:] and shape[1] in (3, wanted[1])
    return shape == wanted


def import_weights(
    path: str | Path,
    output: str | Path,
    layout: str = "auto",
    source: str = "",
    model: str | None = None,
    fourth: str = "mean",
) -> dict[str, Any]:
    """Import a file; the summary, which is also what the checkpoint remembers of it.

    ``source``: where the file is from. For an ImageNet encoder ``model`` is the network it becomes
    the encoder of, and ``fourth`` (mean or zero) what a stem's channels beyond RGB start at.
    """
    path, output = Path(path), Path(output)
    if output.is_dir():
        raise CheckpointFileError(f"output: expected a file name, got a folder, {output}")
    output = output if output.suffix == ".safetensors" else Path(f"{output}.safetensors")
    found = read(path, layout)
    if any(output.exists() and output.samefile(file) for file in found.files):
        raise CheckpointFileError(
            f"output: expected another file than the imported one, got {path}"
        )
    if model is not None and found.layout != "torchvision":
        raise CheckpointFileError(f"model: expected none for the layout {found.layout}")
    try:
        spec, state, report, extra = _state(found, model, fourth)
    except ValueError as error:
        raise CheckpointFileError(f"{path}: {error}") from error
    sums = found.checksums()
    facts = {
        "layout": report.layout.name,
        "title": report.layout.title,
        "sha256": sums.pop(""),
        "files": sums,
        "source": source or None,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "tensors": report.matched,
        "values": int(sum(found.arrays[n].size for n in report.layout.names if n in found.arrays)),
        "ignored": len(report.unknown),
        "dropped": len(report.dropped),
        **extra,
        "training": report.layout.facts or None,
    }
    published = report.layout.published
    facts["published"] = published.figures if published else None
    options = published.options if published else "evaluate nyu --root DIR --split test"
    facts["check"] = f"depth-two-stage {options} --weights {output}"
    _write(output, spec, state, facts)
    return {"output": str(output), "architecture": spec, **facts}


def _state(
    found: Source, model: str | None, fourth: str
) -> tuple[dict[str, Any], dict[str, Any], Report, dict[str, Any]]:
    """(architecture, our tensors by our names, the report, further facts)."""
    import torch

    from depth_two_stage import networks
    from depth_two_stage.networks.forms import convert_state

    if found.layout == "torchvision":
        return _encoder(found, model, fourth)
    if found.layout == "sparse-to-dense":
        layout = layouts.sparse_to_dense(found.arrays, found.facts)
    else:
        layout = layouts.fcrn(found.arrays, found.layout)
    spec = copy.deepcopy(layout.spec)
    with torch.device("meta"):
        shapes = {n: tuple(v.shape) for n, v in networks.build(spec).state_dict().items()}
    report = compare(layout, found.arrays, shapes)
    if not report.fits:
        raise ValueError(report.text())
    state = {}
    for theirs, ours in layout.names.items():
        if not theirs.endswith(COUNTER):
            value = found.arrays[theirs].astype(np.float32)
            if layout.transposed and value.ndim == 4:
                value = value.transpose(3, 2, 0, 1)
            state[ours] = torch.from_numpy(np.ascontiguousarray(value))
    if spec["stage_one"].get("fast") is False:  # E's fast form, which does the same
        del spec["stage_one"]["fast"]
        state = convert_state(state, fast=True)
    for name in shapes:
        if name.endswith(COUNTER):
            state[name] = torch.zeros((), dtype=torch.int64)
    return spec, state, report, {}


def _encoder(
    found: Source, model: str | None, fourth: str
) -> tuple[dict[str, Any], dict[str, Any], Report, dict[str, Any]]:
    import torch

    from depth_two_stage import networks
    from depth_two_stage.networks.encoders import load_imagenet

    encoder, width = layouts.encoder_of(found.arrays)
    spec = networks.architecture(model or ENCODER_MODELS[encoder], width)
    wanted = (spec["stage_one"] or {}).get("encoder")
    if wanted != encoder:
        raise ValueError(f"model: expected one with the encoder {encoder}, got {model} of {wanted}")
    with torch.device("meta"):  # a foreign file may ask for any width
        network = networks.build(spec)
    layout = layouts.torchvision(encoder, spec, list(network.stage_one.encoder.state_dict()))
    shapes = {n: tuple(v.shape) for n, v in network.state_dict().items()}
    report = compare(layout, found.arrays, shapes)
    if not report.fits:
        raise ValueError(report.text())
    arrays = {
        name: torch.from_numpy(np.array(found.arrays[name]))
        for name in layout.names
        if name in found.arrays
    }
    for name in layout.names.keys() - arrays.keys():
        arrays[name] = torch.zeros((), dtype=torch.int64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # what the file does not hold starts the same each time
        network = networks.build(spec)
    load_imagenet(network.stage_one.encoder, arrays, fourth)
    extra = {"model": model or ENCODER_MODELS[encoder], "untrained": "all but its encoder"}
    return spec, dict(network.state_dict()), report, extra


def _write(path: Path, spec: dict[str, Any], state: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write one file, in full precision, with the whole architecture in its header."""
    import torch

    from depth_two_stage import networks
    from depth_two_stage.networks.checkpoint import write_checkpoint
    from depth_two_stage.networks.two_stage import settings_dict

    with torch.device("meta"):
        model = networks.build(spec)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if wanted != {name: tuple(value.shape) for name, value in state.items()}:
        raise RuntimeError(f"{path}: expected all tensors of the network, got others")
    spec["settings"] = settings_dict(model.settings)
    for left in path.parent.glob(f".{glob.escape(path.stem)}.*.tmp{path.suffix}"):
        left.unlink(missing_ok=True)  # of an import that was killed
    write_checkpoint(path, state, {"architecture": spec, "imported": facts}, False, whole=True)
