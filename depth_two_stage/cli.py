# SPDX-License-Identifier: Apache-2.0
"""The command line: ``depth-two-stage COMMAND``; each command stands in its own file.

Exit code 0 only on success; an error is one line on stderr, with ``--debug`` the traceback too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from importlib import import_module

from .ros.executables import SIGNALS

# command → (module, one line of help); a module is imported when its command is asked for, so that
# `depth-two-stage config` needs neither torch nor ROS.
COMMANDS = {
    "live": ("live", "Start the nodes: camera to depth to map."),
    "replay": ("replay", "Publish a recorded bag as it is."),
    "demo": ("demo", "Play the shipped bag through the real nodes and report."),
    "evaluate": ("evaluate", "Measure depth, trajectory and map on recordings, without ROS."),
    "predict": ("predict", "Depth of image files."),
    "train": ("train", "Train stage one, then stage two."),
    "compare": ("compare", "Train models under one budget, measure them alike."),
    "make-bag": ("make_bag", "Make a bag of a data set."),
    "benchmark": ("benchmark", "Time conversion, network engines, cloud, map and nodes."),
    "import-weights": ("import_weights", "Make a checkpoint of public weights."),
    "plug": ("plug", "Make weights of a Hugging Face depth model, or of two weights' stages."),
    "models": ("models", "List networks and shipped weights."),
    "doctor": ("doctor", "Say what is missing: installation, topics, QoS, stamps, TF."),
    "config": ("config", "Print or check parameters."),
}


# They run until a signal ends them, also one that comes before their own handlers: exit code 0.
UNTIL_STOPPED = ("live", "replay")


def app(names: list[str]):
    """The typer application with the commands of these names."""
    import typer

    application = typer.Typer(
        name="depth-two-stage",
        help="Live monocular depth and SLAM: camera and sparse LiDAR to depth, cloud and map.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def print_version(wanted: bool) -> None:
        if wanted:
            from depth_two_stage import __version__

            typer.echo(__version__)
            raise typer.Exit

    @application.callback()
    def options(
        debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
        version: bool = typer.Option(
            False,
            "--version",
            is_eager=True,
            callback=print_version,
            help="Print the version and leave.",
        ),
    ) -> None:
        pass

    for name in names:
        module, text = COMMANDS[name]
        command = import_module(f"{__package__}.commands.{module}").command
        application.command(name, help=command.__doc__ or text)(command)
    return application


def main(arguments: list[str] | None = None) -> None:
    """Run one command; the process ends with its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    asked = next((item for item in arguments if not item.startswith("-")), "")
    try:
        with _ended_by_signals() if asked in UNTIL_STOPPED else contextlib.nullcontext():
            code = _run(arguments)
    except KeyboardInterrupt:  # also while a command's modules are imported
        print("depth-two-stage: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Leave with 0 at a signal that ends us while nothing has been started."""
    if threading.current_thread() is not threading.main_thread():  # the signals are not ours
        yield
        return
    before = {number: signal.signal(number, lambda *_: os._exit(0)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(arguments: list[str]) -> int:
    """Run one command; the exit code."""
    debug = "--debug" in arguments
    # --debug is taken anywhere on the line.
    arguments = ["--debug"] * debug + [item for item in arguments if item != "--debug"]
    asked = next((item for item in arguments if not item.startswith("-")), None)
    import typer

    # click's, or the copy of click that newer typer brings: its class is reached through typer.
    usage = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
    command = typer.main.get_command(app([asked] if asked in COMMANDS else list(COMMANDS)))
    try:
        code = command.main(arguments, prog_name="depth-two-stage", standalone_mode=False)
    except usage as error:
        where = getattr(getattr(error, "ctx", None), "command_path", None) or "depth-two-stage"
        text = " ".join(error.format_message().split())
        if text:
            print(f"{where}: {text}", file=sys.stderr)
        else:  # no command was given: its help has been printed
            error.show()
        return error.exit_code
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    # What the rooms raise at their doors are ValueErrors, OSErrors and RuntimeErrors in one line.
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        if debug:
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"depth-two-stage: {text}", file=sys.stderr)
        return 1
    if code == 130:  # some versions of typer answer SIGINT themselves, without a word
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    main()
