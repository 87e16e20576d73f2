# SPDX-License-Identifier: Apache-2.0
"""``depth-two-stage doctor``: what is missing, in the installation and on the way to the camera."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Optional

import typer

from . import write_json


def command(
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.0, help="How long to listen at most; 0: not at all.")
    ] = 5.0,
    remap: Annotated[
        Optional[list[str]],  # noqa: UP045  (typer on Python 3.10 reads this at run time)
        typer.Option("-r", "--remap", metavar="FROM:=TO", help="Remap a topic, as for the nodes."),
    ] = None,
    camera: Annotated[
        bool, typer.Option("--camera", help="Fail if no usable camera is heard.")
    ] = False,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", help="Write the checks as JSON."),
    ] = None,
) -> None:
    """Say what is missing: installation, topics, QoS, encoding, camera_info, stamps, transports."""
    from depth_two_stage.files import check_writable
    from depth_two_stage.ros.arguments import remapping_rules
    from depth_two_stage.ros.doctor import Check, content, examine_installation

    check_writable(json_file)
    rules = remapping_rules(tuple(remap or ()), {})
    checks: list[Check] = []

    def tell(check: Check) -> None:
        colour = {"ok": "green", "warning": "yellow", "failed": "red"}[check.state]
        typer.echo(typer.style(f"{check.state:8}", fg=colour) + f"{check.name}: {check.message}")
        checks.append(check)

    for check in examine_installation():
        tell(check)
    if seconds > 0 and all(check.ok for check in checks if check.name == "ros"):
        from depth_two_stage.ros.camera_check import examine_camera

        arguments = ["--ros-args", *rules] if rules else []
        for check in examine_camera(seconds, arguments, required=camera):
            tell(check)
    elif camera:
        tell(Check("camera", False, "not looked for"))
    fine = content(checks)
    write_json(
        json_file,
        {
            "ok": fine,
            "checks": [dataclasses.asdict(check) | {"state": check.state} for check in checks],
        },
    )
    if not fine:
        raise typer.Exit(1)
