# SPDX-License-Identifier: Apache-2.0
"""``depth-two-stage plug``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer


def parse_size(text: str) -> list[int]:
    """``HEIGHTxWIDTH`` in pixels."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise ValueError(f"--input-size: expected HEIGHTxWIDTH, got {text!r}")
    return [int(part) for part in parts]


def resized(
    settings: dict[str, Any], input_size: list[int] | None, focal: float | None, refines: bool
) -> dict[str, Any]:
    """Settings for another input size (h, w); the camera of the training shrinks with its height.

    ``focal`` px at the new size takes its place. What is not refined is answered at that size.
    """
    settings = dict(settings)
    if input_size is not None:
        if min(input_size) < 1:
            raise ValueError(f"--input-size: expected at least 1x1, got {input_size}")
        settings["focal"] *= input_size[0] / settings["input_size"][0]
        settings["input_size"] = input_size
        if not refines:
            settings["refined_size"] = input_size
    if focal is not None:
        settings["focal"] = focal
    return settings


def command(
    stage_one: Annotated[
        str,
        typer.Argument(
            help="hf:FOLDER (a metric depth model of Hugging Face's transformers), "
            "hub:OWNER/NAME[@REVISION] (downloads one), or weights: a shipped name or a file.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Weights file to write.")],
    stage_two: Annotated[
        str,
        typer.Option("--stage-two", help="Weights whose trained stage two follows, or none."),
    ] = "none",
    input_size: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--input-size", help="HEIGHTxWIDTH; smaller is faster. Default: its own."),
    ] = None,
    focal: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            "--focal",
            help="Focal length, in pixels at the input size, of the camera that stage one was "
            "trained with: depth is scaled by a camera's focal length over this one.",
        ),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Keep weights as fp16: half the size, about 1e-3 off.")
    ] = False,
) -> None:
    """Make weights for the node of any stage one, with or without a stage two behind it."""
    from depth_two_stage import __version__, files, networks

    files.check_writable(output.with_suffix(".safetensors"))
    size = None if input_size is None else parse_size(input_size)
    base: dict[str, Any] = {"stage_two": None}
    facts: dict[str, Any] = {"code_version": __version__}
    refining: dict[str, Any] = {}
    if stage_two != "none":
        other, checkpoint = networks.load(stage_two)
        if other.stage_one is None or other.stage_two is None:
            raise ValueError(f"--stage-two: expected weights that refine depth, got {stage_two!r}")
        base = checkpoint.facts["architecture"]
        facts["stage_two_source"] = {"file": checkpoint.path.name, "checksum": checkpoint.checksum}
        refining = {
            name: value
            for name, value in other.state_dict().items()
            if not name.startswith("stage_one.")
        }
    spec, weights = networks.plug(base, stage_one)
    if weights is None:
        raise ValueError(f"STAGE_ONE: expected weights, got the untrained model {stage_one!r}")
    refines = spec["stage_two"] is not None
    # Settings that a checkpoint leaves out are those of NetworkSettings.
    settings = networks.settings_dict(networks.NetworkSettings(**spec["settings"]))
    spec["settings"] = resized(settings, size, focal, refines)
    model = networks.build(spec)
    state = {f"stage_one.{name}": value for name, value in weights.items()} | refining
    model.load_state_dict(state)
    networks.save(str(output), model, spec, facts, half, whole=True)
    settings = model.settings
    typer.echo(f"weights: {output.with_suffix('.safetensors')}")
    typer.echo(f"parameters: {sum(p.numel() for p in model.parameters()):,}")
    typer.echo("input: {} x {} px".format(*settings.input_size))
    known = "given" if focal is not None else spec["stage_one_source"].get("focal", "its weights")
    typer.echo(f"focal length of its training: {settings.focal:.1f} px ({known})")
    typer.echo(f"depth: {settings.min_depth:g} to {settings.max_depth:g} m")
