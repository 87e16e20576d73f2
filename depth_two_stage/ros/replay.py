# SPDX-License-Identifier: Apache-2.0
"""Plays a rosbag2 as it is: serialised messages, recorded QoS, /clock."""

from __future__ import annotations

import argparse
import signal
import sys

import rclpy
from rclpy.signals import SignalHandlerOptions

from ..datasets.bag_reader import BagError, RawBag
from ..files import WriteError, write_json
from .executables import SIGNALS
from .lockstep import LockstepTimeout
from .player import Player, ReplayOptions
from .transports import use_profile

LINGER = 0.3  # s in which the last messages leave


def run(options: ReplayOptions, ros_arguments: list[str] | None = None) -> int:
    """Play a bag until its end or until a signal ends it; the exit code.

    0 when everything was played or the user stopped it; 1 for a damaged bag (what is readable is
    played first), a wrong topic name or nodes that do not answer, with one line on stderr.
    """
    use_profile()
    signals: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, _: signals.append(number))
        for number in SIGNALS
    }
    node = None
    try:
        try:
            rclpy.init(args=ros_arguments, signal_handler_options=SignalHandlerOptions.NO)
        except RuntimeError as error:  # rcl says what it cannot parse
            raise ValueError(" ".join(str(error).split())) from error
        node = rclpy.create_node("replay")
        with RawBag(options.bag) as bag:
            player = Player(node, bag, options, signals)
            if options.wait:
                player.wait_until_heard()
            try:
                player.play()
            finally:
                player.finish(LINGER)
            if options.times:
                write_json(options.times, {"images": player.image_times})
            total = sum(player.sent.values())
            node.get_logger().info(f"{options.bag}: {total} messages played")
            if bag.problem:
                print(f"replay: {bag.problem}", file=sys.stderr)
                return 1
        return 0
    except (BagError, LockstepTimeout, TimeoutError, ValueError, WriteError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 1
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        for number, handler in previous.items():
            signal.signal(number, handler)


def parser() -> argparse.ArgumentParser:
    """The command line of the `replay` executable."""
    made = argparse.ArgumentParser(prog="replay", description=__doc__)
    made.add_argument("bag", help="rosbag2 folder or file (sqlite3 or MCAP)")
    made.add_argument("--rate", type=float, default=1.0, help="speed; 1 is as recorded")
    made.add_argument(
        "--lockstep",
        action="store_true",
        help="send the next image when the nodes are done with the last one",
    )
    made.add_argument("--loop", action="store_true", help="play again, stamps shifted forward")
    made.add_argument("--restamp", action="store_true", help="write the present into the stamps")
    made.add_argument("--topics", nargs="+", default=(), help="play only these")
    made.add_argument("--wait", type=float, default=0.0, help="wait so long for a subscriber, s")
    made.add_argument(
        "--nodes",
        nargs="+",
        default=(),
        metavar="NODE",
        help="wait for these too: until their /diagnostics say that they are not loading any more",
    )
    made.add_argument(
        "--readers",
        nargs="+",
        action="extend",
        default=[],
        metavar="NODE:TOPIC",
        help="wait until this node reads the topic, if anyone publishes it",
    )
    made.add_argument("--timeout", type=float, default=30.0, help="patience of --lockstep, s")
    made.add_argument(
        "--times",
        default="",
        metavar="FILE",
        help="write [stamp, monotonic time of sending] of each image, ns, as JSON",
    )
    return made


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `replay`; ROS arguments follow `--ros-args`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        own = rclpy.utilities.remove_ros_args(["replay", *arguments])[1:]
    except RuntimeError as error:  # rcl says what it cannot parse
        print(f"replay: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    given = vars(parser().parse_args(own))
    try:
        options = ReplayOptions(
            **{name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
        )
    except ValueError as error:
        print(f"replay: {error}", file=sys.stderr)
        return 2
    return run(options, ["replay", *arguments])


if __name__ == "__main__":
    sys.exit(main())
