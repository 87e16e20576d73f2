# SPDX-License-Identifier: Apache-2.0
"""Pictures for people: images and depth maps side by side, with titles and colour bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

PANEL_WIDTH = 320
BAR = 34  # px below a depth panel: colour bar and its numbers
HEAD = 22  # px above a panel: its title
MARGIN = 4


@dataclass(frozen=True)
class Panel:
    """One picture of a row: uint8 (H, W, 3) RGB shown as it is, or float (H, W) in colours.

    Of a float image 0 and NaN are none (black). ``low`` and ``high`` bound the colours; without
    them panels of the same ``unit`` in one grid share the 2nd to 98th percentile of them all.
    ``dots`` enlarges single pixels so that sparse depth can be seen. ``zero`` shows 0 as a value
    where ``valid`` (H, W) bool is given.
    """

    title: str
    image: np.ndarray
    low: float | None = None
    high: float | None = None
    unit: str = "m"
    dots: bool = False
    valid: np.ndarray | None = None

    @property
    def shown(self) -> np.ndarray:
        """Where a float image has a value, bool (H, W)."""
        if self.valid is not None:
            return self.valid & np.isfinite(self.image)
        return np.isfinite(self.image) & (self.image != 0)


def depth_row(
    rgb: np.ndarray,
    sparse: np.ndarray | None,
    coarse: np.ndarray,
    refined: np.ndarray,
    truth: np.ndarray | None = None,
) -> list[Panel]:
    """RGB, sparse, coarse, refined and, where there is truth, truth and error; (H, W) m."""
    row = [Panel("RGB", rgb)]
    if sparse is not None:
        row.append(Panel(f"sparse, {np.count_nonzero(sparse)} points", sparse, dots=True))
    row += [Panel("coarse", coarse), Panel("refined", refined)]
    if truth is not None:
        both = (truth > 0) & np.isfinite(refined) & (refined > 0)
        error = np.where(both, np.abs(refined - truth), 0).astype(np.float32)
        row += [
            Panel("truth", truth),
            Panel("error |refined - truth|", error, 0.0, 0.5, "m error", valid=both),
        ]
    return row


def colorize(values: np.ndarray, shown: np.ndarray, low: float, high: float) -> np.ndarray:
    """Float (H, W) → uint8 (H, W, 3) RGB, blue at ``low`` to red at ``high``, black where none."""
    share = (np.where(shown, values, low) - low) / max(high - low, 1e-9)
    levels = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    colours[~shown] = 0
    return colours


def grid(panels: Sequence[Panel] | Sequence[Sequence[Panel]], width: int = PANEL_WIDTH):
    """Draw a row of panels, or rows of them: uint8 (H, W, 3) RGB; each panel is ``width`` px."""
    rows = [list(panels)] if panels and isinstance(panels[0], Panel) else [list(r) for r in panels]
    if not rows or not all(rows):
        raise ValueError("panels: expected at least one panel a row, got none")
    ranges = _ranges([panel for row in rows for panel in row])
    drawn = [[_draw(panel, width, ranges) for panel in row] for row in rows]
    strips = []
    for row in drawn:
        height = max(image.shape[0] for image in row)
        strips.append(np.hstack([_padded(image, height, image.shape[1]) for image in row]))
    widest = max(strip.shape[1] for strip in strips)
    return np.vstack([_padded(strip, strip.shape[0], widest) for strip in strips])


def _ranges(panels: list[Panel]) -> dict[str, tuple[float, float]]:
    ranges = {}
    for unit in {panel.unit for panel in panels if panel.image.ndim == 2}:
        parts = [p.image[p.shown] for p in panels if p.image.ndim == 2 and p.unit == unit]
        values = np.concatenate(parts)
        ranges[unit] = tuple(np.percentile(values, (2, 98))) if len(values) else (0.0, 1.0)
    return ranges


def _draw(panel: Panel, width: int, ranges: dict[str, tuple[float, float]]) -> np.ndarray:
    image = panel.image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    if image.ndim == 3:
        area = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_LINEAR
        picture, bar = cv2.resize(image, (width, height), interpolation=area), None
    else:
        low, high = ranges[panel.unit]
        low = low if panel.low is None else panel.low
        high = high if panel.high is None else panel.high
        colours = colorize(image, panel.shown, low, high)
        if panel.dots:
            picture = _dots(colours, panel.shown, height, width)
        else:
            picture = cv2.resize(colours, (width, height), interpolation=cv2.INTER_NEAREST)
        bar = _bar(low, high, panel.unit, width)
    canvas = np.full((HEAD + height + BAR, width + MARGIN, 3), 255, np.uint8)
    canvas[HEAD : HEAD + height, :width] = picture
    _text(canvas, panel.title, (2, HEAD - 7))
    if bar is not None:
        canvas[HEAD + height :, :width] = bar
    return canvas


def _dots(colours: np.ndarray, shown: np.ndarray, height: int, width: int) -> np.ndarray:
    out = np.zeros((height, width, 3), np.uint8)
    v, u = np.nonzero(shown)
    y, x = v * height // shown.shape[0], u * width // shown.shape[1]
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            out[np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1)] = colours[v, u]
    return out


def _bar(low: float, high: float, unit: str, width: int) -> np.ndarray:
    bar = np.full((BAR, width, 3), 255, np.uint8)
    ramp = np.linspace(low, high, width, dtype=np.float32)[None]
    bar[4:12] = colorize(ramp, np.ones_like(ramp, bool), low, high)
    _text(bar, f"{low:.2f}", (2, BAR - 8))
    right = f"{high:.2f} {unit}"
    (text_width, _), _ = cv2.getTextSize(right, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)
    _text(bar, right, (max(2, width - text_width - 2), BAR - 8))
    return bar


def _text(canvas: np.ndarray, text: str, place: tuple[int, int]) -> None:
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)


def _padded(image: np.ndarray, height: int, width: int) -> np.ndarray:
    out = np.full((height, width, 3), 255, np.uint8)
    out[: image.shape[0], : image.shape[1]] = image
    return out
