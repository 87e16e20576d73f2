# SPDX-License-Identifier: Apache-2.0
"""What an unknown name was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["nearest"]


def nearest(name: object, known: Iterable[str]) -> str:
    """Return "; nearest: a, b" for an error, upper and lower case alike; empty if none is near."""
    by_lower = {item.lower(): item for item in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, 3, 0.5)
    return f"; nearest: {', '.join(by_lower[item] for item in near)}" if near else ""
