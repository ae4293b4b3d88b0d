"""A comparison as one page: a table that sorts, a row of pictures and FRC curves per data set.

Knows rows and views as plain values. Computes no score; the page is one file and loads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from emsr.quality.curves import drawing
from emsr.quality.page import template
from emsr.quality.pictures import grey_uri, scale_bar

COLOURS = ("#c05a00", "#7a5195", "#0b5cad", "#2a8c4a", "#c2255c", "#0c8599", "#8a6d00", "#495057")
HEADS = (
    ("psnr", "PSNR dB", ".2f", "psnr_truth_db", "psnr_reference_db"),
    ("ssim", "SSIM", ".3f", "ssim_truth", "ssim_reference"),
    ("frc", "FRC nm", ".3g", "frc_truth_nm", "frc_reference_nm"),
    ("frc_px", "FRC px", ".2f", "frc_truth_px", "frc_reference_px"),
    ("clean", "clean PSNR dB", ".2f", "clean_psnr_db", "clean_psnr_db"),
    ("train", "training s", ".0f", "training_seconds", "training_seconds"),
    ("parameters", "parameters", ",.0f", "parameters", "parameters"),
    ("mflop", "MFLOP / LR px", ".3g", "mflop_per_lr_pixel", "mflop_per_lr_pixel"),
    ("speed", "s / Mpx", ".2f", "seconds_per_mpx", "seconds_per_mpx"),
)
"""Key, head, format, and the figure shown where the truth is known and where it is not."""


ONE_ROW = 7
"""Pictures beside one another; more are shown in two rows."""


@dataclass(frozen=True)
class SetView:
    """What is shown of one data set; pictures ``(y, x)`` in grey levels, of one place.

    ``curves`` are (label, network, scores with ``frc`` and ``frc_resolution_nm``).
    """

    name: str
    split: str
    about: str
    scale: int
    z: int
    corner: tuple[int, int]
    pixel_nm: float | None
    pictures: list[tuple[str, np.ndarray]]
    curves: list[tuple[str, str, dict[str, Any]]]


def table_html(said: dict[str, Any], rows: list[dict[str, Any]], sets: list[SetView]) -> str:
    """The page as text; equal arguments give equal bytes.

    ``said`` holds ``title``, ``budget``, ``seeds`` and ``steps`` by network; a row ``data``,
    ``strategy``, ``network``, ``seeds``, ``reason``, ``warnings``, ``mark``, ``gain_db``,
    ``against`` and ``figures``: (mean, standard deviation or None) or None by key.
    """
    networks = list(dict.fromkeys(row["network"] for row in rows))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(networks)}
    return template("table.html.j2").render(
        said=said,
        sentences=_sentences(rows),
        heads=[(key, head) for key, head, *_ in HEADS],
        rows=[_row(row) for row in rows],
        names=list(dict.fromkeys(row["data"] for row in rows)),
        sets=[_shown(view, colours) for view in sets],
        colours=colours,
        best=[_best(rows, name) for name in dict.fromkeys(row["data"] for row in rows)],
    )


def _row(row: dict[str, Any]) -> dict[str, Any]:
    truth = row["against"] == "truth"
    cells = []
    for _, _, form, known, noisy in HEADS:
        cells.append(_cell(row["figures"][known if truth else noisy], form))
    gain = row["gain_db"]
    return {
        **row,
        "cells": cells,
        "gain": {"text": "" if gain is None else _signed(gain), "value": gain},
        "against": row["against"] or "",
    }


def _cell(figure: tuple[float, float | None] | None, form: str) -> dict[str, Any]:
    """Text, its spread, and the number that sorting goes by."""
    if figure is None:
        return {"text": "–", "spread": "", "value": None}
    mean, deviation = figure
    spread = "" if deviation is None else f"± {format(deviation, form)}"
    return {"text": format(mean, form), "spread": spread, "value": mean}


def _best(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """One line of the summary: the best of a set, its gain, and what ties with it."""
    own = [row for row in rows if row["data"] == name]
    best = next((row for row in own if row["mark"] == "best"), None)
    return {
        "data": name,
        "best": _named(best) if best else "too little computed yet",
        "gain": "" if best is None or best["gain_db"] is None else _signed(best["gain_db"]),
        "tied": ", ".join(_named(row) for row in own if row["mark"] == "tied") or "–",
        "against": (best or {}).get("against") or "",
        "failed": sum(bool(row["reason"]) for row in own),
    }


def _sentences(rows: list[dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(row["data"] for row in rows))
    trained = [row for row in rows if row["gain_db"] is not None]
    count = len({(row["network"]) for row in rows})
    strategies = len({row["strategy"] for row in trained} - {"–"})
    first = (
        f"{count} {_plural(count, 'network')} and {strategies} "
        f"{'strategy' if strategies == 1 else 'strategies'} on {len(names)} data "
        f"{_plural(len(names), 'set')}."
    )
    sentences = [first]
    bests = [row for row in rows if row["mark"] == "best"]
    gains = [row["gain_db"] or 0.0 for row in bests]  # bicubic itself may be best
    if gains:
        sentences.append(
            f"The best network is ahead of bicubic interpolation by {median(gains):.1f} dB on the "
            f"median set, between {min(gains):.1f} and {max(gains):.1f} dB."
        )
    if often := _most_often(rows):
        sentences.append(often)
    lost = sum(bool(row["reason"]) for row in rows)
    if lost:
        sentences.append(f"{lost} of {len(rows)} lines lack results; each says why.")
    return sentences


def _most_often(rows: list[dict[str, Any]]) -> str:
    """Which network and strategy is best, or not told from the best, on most sets."""
    wins: dict[str, int] = {}
    for row in rows:
        if row["mark"]:
            wins[_named(row)] = wins.get(_named(row), 0) + 1
    if not wins:
        return ""
    name, count = max(wins.items(), key=lambda item: item[1])
    sets = len({row["data"] for row in rows if row["mark"]})
    return f"Most often best, or not to be told from the best: {name}, on {count} of {sets} sets."


def _shown(view: SetView, colours: dict[str, str]) -> dict[str, Any]:
    planes = dict(view.pictures)
    low, high = _window(planes.get("reference", view.pictures[0][1]))
    share, label = scale_bar(view.pictures[0][1].shape[1], view.pixel_nm)
    curves = [
        (label_, f"c{list(colours).index(network)}", scores)
        for label_, network, scores in view.curves
    ]
    return {
        "name": view.name,
        "split": view.split,
        "about": view.about,
        "z": view.z,
        "corner": view.corner,
        "panels": [(name, grey_uri(picture, low, high)) for name, picture in view.pictures],
        "window": (low, high),
        "columns": len(view.pictures)
        if len(view.pictures) <= ONE_ROW
        else -(-len(view.pictures) // 2),
        "bar": 100 * share,
        "bar_label": label,
        "frc": drawing(curves, view.scale, drops=False) if curves else None,
    }


def _window(plane: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(plane, [0.5, 99.5])
    return float(low), float(high if high > low else low + 1)


def _named(row: dict[str, Any]) -> str:
    return row["network"] if row["strategy"] == "–" else f"{row['network']}, {row['strategy']}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _plural(count: int, word: str) -> str:
    return word if count == 1 else word + "s"
