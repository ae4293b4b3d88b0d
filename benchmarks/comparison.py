"""The tables and the picture of docs/comparison.md, from a directory of ``emsr compare``.

    emsr compare recipes/nine.toml --out DIR --budget longer
    python benchmarks/comparison.py DIR recipes/nine.toml --budget longer [--out PICTURE.png]

Gains are dB of PSNR above bicubic interpolation, bold the best of a set, = what a paired bootstrap
cannot tell from it.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np

from emsr.jobs.compare import cells_of
from emsr.jobs.compare_page import sets_of
from emsr.jobs.compare_recipe import budget_named, read_comparison
from emsr.jobs.compare_table import rows_of
from emsr.volumes.png import write_png

SHOWN = ("white-matter-low-dose", "neuropil", "fibsem-xz", "sem-93nm", "fast-slow")
SIDE, GAP, GREYS = 100, 4, 32
"""Pixels of a panel, between panels, and grey levels kept, so that the file stays small."""

COSTS = {
    "parameters": (1e6, ".3f"),
    "mflop_per_lr_pixel": (1, ".2f"),
    "steps": (1, ".0f"),
    "training_seconds": (1, ".0f"),
    "seconds_per_mpx": (1, ".1f"),
}
"""Columns of the table of costs: by what they are divided, and how they are written."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--budget")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with (arguments.folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    lean = [row for row in rows if row["network"] in ("bicubic", "emsr-lean")]
    strategies = dict.fromkeys(r["strategy"] for r in lean if r["network"] != "bicubic")
    print_table(lean, list(strategies), "strategy")
    first = {row["data"]: row["strategy"] for row in reversed(lean) if row["network"] != "bicubic"}
    same = [r for r in rows if r["strategy"] in ("none", first.get(r["data"]))]
    networks = dict.fromkeys(r["network"] for r in same if r["network"] != "bicubic")
    print_table(same, list(networks), "network")
    print_costs(rows)
    if arguments.out:
        picture(arguments)


def print_table(rows: list[dict[str, str]], columns: list[str], key: str) -> None:
    heads = ["data set", "against", "bicubic: PSNR dB", "FRC px", *columns]
    print(f"\n| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|")
    for name in dict.fromkeys(row["data"] for row in rows):
        own = [row for row in rows if row["data"] == name]
        plain = next(row for row in own if row["network"] == "bicubic")
        to = "truth" if plain["psnr_truth_db"] else "reference"
        facts = [plain[f"psnr_{to}_db"], plain[f"frc_{to}_px"]]
        figures = [f"{float(v):.{d}f}" if v else "–" for v, d in zip(facts, (2, 1), strict=True)]
        cells = [gain(own, key, column, to) for column in columns]
        print(f"| {' | '.join([name, to, *figures, *cells])} |")


def gain(rows: list[dict[str, str]], key: str, value: str, to: str) -> str:
    """dB above bicubic, and the finest detail in HR pixels."""
    row = next((r for r in rows if r[key] == value and r["network"] != "bicubic"), None)
    if row is None or not row["gain_db"]:
        return ""
    text = f"{float(row['gain_db']):+.2f}".replace("-", "−")
    text = {"best": f"**{text}**", "tied": f"{text} ="}.get(row["mark"], text)
    detail = row[f"frc_{to}_px"]
    return f"{text} ({float(detail):.1f})" if detail else text


def print_costs(rows: list[dict[str, str]]) -> None:
    print(
        "\n| network | million parameters | MFLOP per LR pixel | steps | training s | s per Mpx |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for name in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == name and row["parameters"]]
        if own:
            middle = {k: np.median([float(r[k]) for r in own]) for k in own[0] if k in COSTS}
            figures = (f"{middle[key] / unit:{form}}" for key, (unit, form) in COSTS.items())
            print(f"| {name} | {' | '.join(figures)} |")


def picture(arguments: argparse.Namespace) -> None:
    """Columns are sets; rows LR, bicubic, emsr-lean, reference."""
    comparison = read_comparison(arguments.recipe)
    cells = cells_of(comparison, budget_named(comparison, arguments.budget, None))
    results = arguments.folder / "cells"
    paths = {cell: results / f"{cell.key}.json" for cell in cells}
    found = {c: json.loads(p.read_text()) if p.exists() else None for c, p in paths.items()}
    views = {view.name: view for view in sets_of(rows_of(found, {}), arguments.folder)}
    names = [name for name in SHOWN if name in views]
    canvas = np.full((4 * (SIDE + GAP) - GAP, len(names) * (SIDE + GAP) - GAP), 255, np.uint8)
    for column, name in enumerate(names):
        pictures = dict(views[name].pictures)
        low, high = np.percentile(pictures["reference"], [0.5, 99.5])
        for line, kind in enumerate(("LR", "bicubic", "emsr-lean", "reference")):
            plane = next((p for n, p in pictures.items() if n.split(",")[0] == kind), None)
            if plane is None:
                continue
            unit = np.clip((plane[:SIDE, :SIDE] - low) / (high - low), 0, 1)
            grey = np.rint(unit * (GREYS - 1)) * (255 / (GREYS - 1))
            y, x = line * (SIDE + GAP), column * (SIDE + GAP)
            canvas[y : y + SIDE, x : x + SIDE] = grey
    write_png(arguments.out, canvas.repeat(2, axis=0).repeat(2, axis=1))


if __name__ == "__main__":
    main()
