"""FRC curves as the paths, ticks and labels of an inline drawing (SVG).

Knows scores and the drawing's own units. Refuses to know the page around it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

LEFT, RIGHT, TOP, BOTTOM = 64.0, 740.0, 36.0, 350.0
ROUND = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
LOWEST = -0.1
"""FRC at the lower edge of the drawing; lower values are drawn on the edge."""


@dataclass(frozen=True)
class Curve:
    """One line of the drawing: its legend, style class, points, and the point where it ends."""

    label: str
    style: str
    path: str
    marker: dict[str, Any] | None


def drawing(
    named: list[tuple[str, str, dict[str, Any]]], scale: int | None, drops: bool = True
) -> dict[str, Any]:
    """What the template draws, from (label, style, scores) of each curve, solid ones first.

    ``scale`` adds the line of the finest detail that LR pixels can carry; without ``drops`` the
    resolutions of many curves stand in the legend alone.
    """
    frc = named[0][2]["frc"]
    nyquist = frc["frequency_per_px"][-1]
    pixel_nm = _pixel_nm(frc)
    half_bit = zip(frc["frequency_per_px"], frc["half_bit"], strict=True)
    return {
        "curves": _curves(named, nyquist, pixel_nm, drops),
        "half_bit": _path([(f, v) for f, v in half_bit if v <= 1.0], nyquist),
        "threshold_y": _y(frc["threshold"]),
        "y_ticks": [(_y(v), f"{v:g}") for v in (0, 0.25, 0.5, 0.75, 1)],
        "x_ticks": _ticks(nyquist, pixel_nm),
        "x_label": "size of detail in " + ("pixels" if pixel_nm is None else "nm"),
        "lr_limit_x": _x(0.5 / scale, nyquist) if scale and scale > 1 else None,
        "left": LEFT,
        "right": RIGHT,
        "top": TOP,
        "bottom": BOTTOM,
    }


def _curves(
    named: list[tuple[str, str, dict[str, Any]]],
    nyquist: float,
    pixel_nm: float | None,
    drops: bool,
) -> list[Curve]:
    details = sorted((s["frc_resolution_nm"] or 0 for _, _, s in named[:2]), reverse=True)
    curves = []
    for label, style, scores in named:
        frc = scores["frc"]
        points = list(zip(frc["frequency_per_px"], frc["correlation"], strict=True))
        marker: dict[str, Any] | None = None
        detail_nm = scores["frc_resolution_nm"]
        if detail_nm is not None and pixel_nm is not None:
            marker = {"x": _x(pixel_nm / detail_nm, nyquist), "y": _y(frc["threshold"])}
            label = f"{label} {detail_nm:.3g} nm"
            # Labels go down as lines go right: so no line runs through another's label.
            if drops and "dashed" not in style:
                marker["label"] = _label(label, details.index(detail_nm), marker["x"])
        curves.append(Curve(label, style, _path(points, nyquist), marker))
    return curves


def _label(text: str, order: int, x: float) -> dict[str, Any]:
    """The words at the top of a drop line, on the side with room."""
    leftwards = x > LEFT + 0.62 * (RIGHT - LEFT)
    return {
        "x": x - 8 if leftwards else x + 8,
        "y": TOP + 34 + 30 * order,
        "anchor": "end" if leftwards else "start",
        "text": text,
    }


def _ticks(nyquist: float, pixel_nm: float | None) -> list[tuple[float, str]]:
    """Round lengths, none too close to the next, from the two pixels of Nyquist to the left."""
    finest = (pixel_nm or 1.0) / nyquist
    power = 10.0 ** math.floor(math.log10(finest))
    ticks = [(RIGHT, f"{finest:.3g}")]
    for length in (step * power * ten for ten in (1, 10, 100) for step in ROUND):
        x = _x(nyquist * finest / length, nyquist)
        if LEFT + 40 < x < ticks[-1][0] - 64:
            ticks.append((x, f"{length:.4g}"))
    return ticks[::-1]


def _pixel_nm(frc: dict[str, Any]) -> float | None:
    if frc["frequency_per_nm"] is None:
        return None
    return float(frc["frequency_per_px"][-1] / frc["frequency_per_nm"][-1])


def _path(points: list[tuple[float, float]], nyquist: float) -> str:
    """The d attribute of a polyline through (frequency per px, FRC)."""
    return " ".join(
        f"{'L' if i else 'M'}{_x(frequency, nyquist):.1f} {_y(value):.1f}"
        for i, (frequency, value) in enumerate(points)
    )


def _x(frequency: float, nyquist: float) -> float:
    return LEFT + (RIGHT - LEFT) * frequency / nyquist


def _y(value: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * (max(value, LOWEST) - LOWEST) / (1 - LOWEST)
