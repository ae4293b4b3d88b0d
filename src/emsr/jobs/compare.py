"""``emsr compare``: strategies x networks x data sets as one table with pictures.

What is done stays done: cells are named by a hash of what decides them, so that a killed run, or
one whose recipe grew, computes what is missing. A cell that fails says why in its line.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from emsr.errors import InputError
from emsr.files import refuse_overlap, replacing
from emsr.jobs.claim import claimed
from emsr.jobs.compare_cell import Cell
from emsr.jobs.compare_hands import computed
from emsr.jobs.compare_page import sets_of, warnings_of
from emsr.jobs.compare_recipe import (
    BICUBIC,
    NO_STRATEGY,
    UNTRAINED,
    Budget,
    Comparison,
    budget_named,
    networks_of,
    read_comparison,
    strategies_of,
    training_recipe,
)
from emsr.jobs.compare_sets import DataSet
from emsr.jobs.compare_table import Row, rows_of, table_csv
from emsr.jobs.listener import SILENT, Listener
from emsr.jobs.model import choose_device
from emsr.quality.table import table_html

MARK = "made-by-emsr-compare"
REPORT_EVERY_S = 120


def compare(
    recipe: str | Path,
    out: str | Path,
    *,
    budget: str | None = None,
    steps: int | None = None,
    jobs: int = 1,
    device: str = "auto",
    overwrite: bool = False,
    listener: Listener = SILENT,
) -> dict[str, Any]:
    """Compute what is missing of the comparison in ``recipe`` and write ``table.csv``,
    ``report.html`` and ``cells/*.json`` into the directory ``out``.

    ``budget`` is one of the recipe's (None: its first), ``steps`` replaces the steps of every
    network; ``jobs`` processes of one thread compute cells at a time. Run again, it goes on; cells
    that failed are tried again. Returns how many cells are ``done`` and ``failed``, and the paths.
    InputError for a recipe that does not say what is to be done, and for a directory of others.
    """
    refuse_overlap(out)
    comparison = read_comparison(Path(recipe))
    chosen = budget_named(comparison, budget, steps)
    choose_device(device)
    folder = _own_folder(Path(out))
    cells = cells_of(comparison, chosen)
    said = _said(comparison, chosen, budget, steps)
    with claimed(folder, None) as claim:
        _prepared(folder, overwrite)
        failed = _compute(cells, folder, jobs, device, listener, said)
        rows = _report(cells, folder, failed, said)
        claim.forget()
    return _summary(cells, failed, rows, folder)


def cells_of(comparison: Comparison, budget: Budget) -> list[Cell]:
    """All cells of a comparison: cheap ones first, then seed by seed."""
    networks = networks_of(comparison, budget)
    cells = []
    for seed in budget.seeds:
        for network in networks:
            if network in UNTRAINED and seed != budget.seeds[0]:
                continue
            for data in comparison.data:
                recipe = training_recipe(comparison, budget, data, network, seed)
                for strategy in _strategies(comparison, budget, data, network):
                    cells.append(Cell(data, strategy, network, recipe))
    return cells


def _strategies(comparison: Comparison, budget: Budget, data: DataSet, network: str) -> list[str]:
    if network == BICUBIC:
        return [NO_STRATEGY]
    allowed = strategies_of(comparison, data)
    every = networks_of(comparison, budget)
    if budget.every_strategy is not None:
        every = budget.every_strategy
    return allowed if network in every and network not in UNTRAINED else allowed[:1]


def _phases(cells: list[Cell]) -> list[list[Cell]]:
    """Those that make the scans of a set, those that make pairs, and all others: no two cells of
    a phase make the same thing."""
    makers: dict[str, Cell] = {}
    for cell in cells:
        if cell.network != BICUBIC:
            makers.setdefault(cell.pairs_key, cell)
    first = [cell for cell in cells if cell.network == BICUBIC]
    second = list(makers.values())
    return [first, second, [cell for cell in cells if cell not in first + second]]


def _compute(
    cells: list[Cell],
    folder: Path,
    jobs: int,
    device: str,
    listener: Listener,
    said: dict[str, Any],
) -> dict[str, str]:
    """Compute what is missing; returns why cells failed, by their key."""
    failed: dict[str, str] = {}
    phases = [[cell for cell in phase if not _done(cell, folder)] for phase in _phases(cells)]
    missing = sum(map(len, phases))
    if there := len(cells) - missing:
        listener.say(f"going on: {there} of {len(cells)} cells are there already")
    reported = time.monotonic()
    for count, (cell, fault) in enumerate(computed(phases, folder, jobs, device), 1):
        if fault is not None:
            fault = fault.replace(f"{folder}/", "")
            failed[cell.key] = fault
            listener.say(f"{_name(cell)} failed: {fault}")
        listener.progress("cells", count, missing, _name(cell))
        if time.monotonic() - reported > REPORT_EVERY_S:
            _report(cells, folder, failed, said)  # so that a killed run leaves something to read
            reported = time.monotonic()
    return failed


def _report(
    cells: list[Cell], folder: Path, failed: dict[str, str], said: dict[str, Any]
) -> list[Row]:
    found = {cell: _result(cell, folder) for cell in cells}
    rows = rows_of(found, failed)
    told = [row.told() | {"warnings": warnings_of(row, folder)} for row in rows]
    page = table_html(said, told, sets_of(rows, folder))
    for name, text in (("table.csv", table_csv(rows)), ("report.html", page)):
        with replacing(folder / name) as aside:
            aside.write_text(text, encoding="utf-8")
    return rows


def _result(cell: Cell, folder: Path) -> dict[str, Any] | None:
    path = folder / "cells" / f"{cell.key}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _done(cell: Cell, folder: Path) -> bool:
    return (folder / "cells" / f"{cell.key}.json").exists()


def _name(cell: Cell) -> str:
    strategy = "" if cell.strategy == NO_STRATEGY else f", {cell.strategy}"
    return f"{cell.data.name}{strategy}, {cell.network}, seed {cell.recipe.seed}"


def _said(
    comparison: Comparison, chosen: Budget, name: str | None, steps: int | None
) -> dict[str, Any]:
    """What the page says of the comparison itself."""
    trained = [n for n in networks_of(comparison, chosen) if n not in UNTRAINED]
    return {
        "title": comparison.title,
        "budget": name or next(iter(comparison.budgets)),
        "seeds": list(chosen.seeds),
        "steps": {n: steps or chosen.steps[n] for n in trained},
    }


def _own_folder(folder: Path) -> Path:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give --out a directory")
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise InputError(f"{folder} holds other files: give --out a new or an empty directory")
    return folder


def _prepared(folder: Path, overwrite: bool) -> None:
    if overwrite and folder.exists():
        shutil.rmtree(folder)
    for part in ("cells", "work"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


def _summary(
    cells: list[Cell], failed: dict[str, str], rows: list[Row], folder: Path
) -> dict[str, Any]:
    done, report = len(cells) - len(failed), str(folder / "report.html")
    best = [f"{row.data}: {row.name} is best" for row in rows if row.mark == "best"]
    ended = f"{done} of {len(cells)} cells done" + (f", {len(failed)} failed" if failed else "")
    return {
        "cells": len(cells),
        "done": done,
        "failed": failed,
        "table": str(folder / "table.csv"),
        "report": report,
        "lines": [*best, ended, f"report: {report}"],
    }
