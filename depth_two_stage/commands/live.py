# SPDX-License-Identifier: Apache-2.0
"""``depth-two-stage live``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

# typer on Python 3.10 reads these at run time, where "list[str] | None" would fail.
Words = Optional[list[str]]  # noqa: UP045
File = Optional[Path]  # noqa: UP045


def command(
    params: Annotated[File, typer.Option("--params", help="ROS parameter file.")] = None,
    bag: Annotated[
        File, typer.Option("--bag", help="Play this rosbag2 to the nodes; its end is the end.")
    ] = None,
    no_map: Annotated[bool, typer.Option("--no-map", help="Depth only.")] = False,
    record: Annotated[
        File, typer.Option("--record", metavar="OUT", help="Record depth, odom and diagnostics.")
    ] = None,
    parameters: Annotated[
        Words, typer.Option("-p", metavar="NAME=VALUE", help="Parameter; may be repeated.")
    ] = None,
    remappings: Annotated[
        Words, typer.Option("-r", metavar="FROM:=TO", help="Topic to read; may be repeated.")
    ] = None,
    rate: Annotated[float, typer.Option("--rate", help="Speed of the bag.")] = 1.0,
    lockstep: Annotated[
        bool, typer.Option("--lockstep", help="The bag waits for the nodes.")
    ] = False,
    loop: Annotated[bool, typer.Option("--loop", help="Play the bag again and again.")] = False,
) -> int:
    """Start depth_node and mapping_node until Ctrl-C, as live.launch.py does.

    Topics are given by remapping: -r image:=/camera/image_raw -r camera_info:=/camera/camera_info
    -r lidar:=/velodyne_points. With --bag they are found in the bag, and said.
    """
    from rich.console import Console

    from depth_two_stage.ros.live import LiveOptions, live

    console = Console(stderr=True)
    replay = ["--rate", str(rate)] if rate != 1.0 else []
    replay += ["--lockstep"] * lockstep + ["--loop"] * loop
    if replay and bag is None:
        raise ValueError(f"{replay[0]}: expected --bag beside it, got none")
    return live(
        LiveOptions(
            params=str(params or ""),
            bag=str(bag or ""),
            mapping=not no_map,
            record=str(record or ""),
            values=tuple(parameters or ()),
            remappings=tuple(remappings or ()),
            replay=tuple(replay),
        ),
        lambda line: console.print(line, style="dim", highlight=False),
    )
