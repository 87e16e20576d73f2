# SPDX-License-Identifier: Apache-2.0
"""``depth-two-stage replay``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def command(
    bag: Annotated[Path, typer.Argument(help="rosbag2 folder or file (sqlite3 or MCAP).")],
    more: Annotated[
        Optional[list[str]],  # noqa: UP045  (typer on Python 3.10 reads this at run time)
        typer.Argument(metavar="", help="Further names behind --topics.", hidden=True),
    ] = None,
    rate: Annotated[float, typer.Option("--rate", help="Speed; 1 is as recorded.")] = 1.0,
    lockstep: Annotated[
        bool,
        typer.Option(
            "--lockstep",
            help="Send the next image when the nodes are done with the last one: depth/image_rect "
            "(and odom, if a node publishes it) came or /diagnostics says that it was dropped.",
        ),
    ] = False,
    loop: Annotated[
        bool, typer.Option("--loop", help="Play again and again, stamps shifted forward.")
    ] = False,
    restamp: Annotated[
        bool, typer.Option("--restamp", help="Write the present into the stamps; no /clock.")
    ] = False,
    topics: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--topics", metavar="TOPIC…", help="Play only these."),
    ] = None,
    wait: Annotated[
        float, typer.Option("--wait", min=0.0, help="Wait so long for a subscriber, s.")
    ] = 0.0,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Patience of --lockstep, s.")
    ] = 30.0,
    remappings: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("-r", metavar="FROM:=TO", help="Rename a topic; may be repeated."),
    ] = None,
) -> int:
    """Publish a rosbag2 as it is: messages and QoS as recorded, /clock, transforms.

    Start the nodes with use_sim_time, or play with --restamp.
    """
    from depth_two_stage.ros.arguments import remapping_rules
    from depth_two_stage.ros.replay import ReplayOptions, run

    if more and not topics:
        raise ValueError(f"replay: expected one bag, got {more[0]} behind it")
    options = ReplayOptions(
        bag=str(bag),
        rate=rate,
        lockstep=lockstep,
        loop=loop,
        restamp=restamp,
        topics=tuple(name for item in [*(topics or ()), *(more or ())] for name in item.split(",")),
        wait=wait,
        timeout=timeout,
    )
    rules = remapping_rules(tuple(remappings or ()), {})
    return run(options, ["replay", "--ros-args", *rules])
