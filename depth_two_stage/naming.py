# SPDX-License-Identifier: Apache-2.0
"""Files of the package by their names, and what an unknown name was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["names_in", "nearest", "read_named"]


def nearest(name: object, known: Iterable[str]) -> str:
    """Return "; nearest: a, b" for an error, upper and lower case alike; empty if none is near."""
    by_lower = {item.lower(): item for item in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, 3, 0.5)
    return f"; nearest: {', '.join(by_lower[item] for item in near)}" if near else ""


def names_in(folder: Path) -> list[str]:
    """Names of the YAML files of a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_named(
    what: str, name_or_path: str, folder: Path, wrong: type[ValueError]
) -> tuple[Path, Any]:
    """Read a YAML file, or the one of that name in ``folder``: its path and its content.

    ``what`` it is to be is said where there is none; that and what is no YAML raise ``wrong``.
    """
    import yaml

    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = folder / f"{name_or_path}.yaml"
    try:
        return path, yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        names = names_in(folder)
        raise wrong(
            f"{what}: expected a YAML file or one of {', '.join(names)}, "
            f"got {name_or_path!r}{nearest(name_or_path, names)}"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise wrong(f"{path}: expected YAML, got {' '.join(str(error).split())}") from error
