"""The results of a comparison's cells as rows: means over seeds, the best, and its ties."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emsr.jobs.compare_cell import Cell
from emsr.jobs.compare_recipe import BICUBIC, NO_STRATEGY, UNTRAINED
from emsr.quality.fidelity import psnr_from_error

Result = dict[str, Any]
Figure = tuple[float, float | None]
"""Mean over seeds, and its standard deviation where there are several."""
DRAWS = 1000
PENDING = "not computed yet"


def _score(key: str, part: str | None = None) -> Callable[[Result], float | None]:
    def of(result: Result) -> float | None:
        scores = result["scores"] if part is None else result["scores"].get(part)
        return None if scores is None else scores.get(key)

    return of


def _fact(key: str) -> Callable[[Result], float | None]:
    return lambda result: result.get(key)


COLUMNS: dict[str, Callable[[Result], float | None]] = {
    "psnr_truth_db": _score("psnr", "truth"),
    "ssim_truth": _score("ssim", "truth"),
    "frc_truth_nm": _score("frc_resolution_nm", "truth"),
    "frc_truth_px": _score("frc_resolution_px", "truth"),
    "psnr_reference_db": _score("psnr"),
    "ssim_reference": _score("ssim"),
    "frc_reference_nm": _score("frc_resolution_nm"),
    "frc_reference_px": _score("frc_resolution_px"),
    "clean_psnr_db": _score("clean_psnr"),
    "clean_ssim": _score("clean_ssim"),
    "training_seconds": _fact("training_seconds"),
    "steps": _fact("steps"),
    "parameters": _fact("parameters"),
    "mflop_per_lr_pixel": _fact("mflop_per_lr_pixel"),
    "seconds_per_mpx": _fact("seconds_per_mpx"),
}


@dataclass(frozen=True)
class Row:
    """A network trained by a strategy on a set: its cells, one a seed."""

    cells: tuple[Cell, ...]
    results: tuple[Result, ...]
    figures: dict[str, Figure | None]
    reason: str = ""
    """Why seeds are missing."""
    mark: str = ""
    """"best" of its set, "tied" with the best, or nothing."""
    gain_db: float | None = None
    """PSNR above bicubic's, against the truth where it is known, else the reference."""

    @property
    def data(self) -> str:
        return self.cells[0].data.name

    @property
    def network(self) -> str:
        return self.cells[0].network

    @property
    def strategy(self) -> str:
        """That of the training; an untrained network only takes its grey window from the pairs."""
        return "–" if self.network in UNTRAINED else self.cells[0].strategy

    @property
    def name(self) -> str:
        trained = self.network not in UNTRAINED
        return f"{self.network}, {self.strategy}" if trained else self.network

    @property
    def error(self) -> float:
        """Mean squared error over all blocks and seeds."""
        return float(np.mean([s / p for s, p in (_total(r) for r in self.results)]))

    def told(self) -> dict[str, Any]:
        """The row as plain values, for the page."""
        return {
            "data": self.data,
            "strategy": self.strategy,
            "network": self.network,
            "seeds": len(self.results),
            "reason": self.reason,
            "mark": self.mark,
            "gain_db": self.gain_db,
            "against": self.results[0]["against"] if self.results else None,
            "figures": self.figures,
        }


def rows_of(found: dict[Cell, Result | None], failed: dict[str, str]) -> list[Row]:
    """One row per set, strategy and network, in the order of the cells, marked."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in found:
        groups.setdefault((cell.data.name, cell.strategy, cell.network), []).append(cell)
    rows = [_row(tuple(cells), found, failed) for cells in groups.values()]
    marked: list[Row] = []
    for name in dict.fromkeys(row.data for row in rows):
        marked += _marked([row for row in rows if row.data == name])
    return marked


def table_csv(rows: list[Row]) -> str:
    """The rows as CSV: each score's mean and standard deviation over seeds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [head for key in COLUMNS for head in (key, f"{key}_sd")]
    writer.writerow(
        ["data", "strategy", "network", "seeds", "mark", "gain_db", *heads, "split", "reason"]
    )
    for row in rows:
        pairs = [row.figures[key] or (None, None) for key in COLUMNS]
        numbers = [_short(value) for pair in pairs for value in pair]
        strategy = NO_STRATEGY if row.network in UNTRAINED else row.strategy
        named = [row.data, strategy, row.network, len(row.results), row.mark, _short(row.gain_db)]
        writer.writerow([*named, *numbers, row.cells[0].data.split, row.reason])
    return text.getvalue()


def _row(cells: tuple[Cell, ...], found: dict[Cell, Result | None], failed: dict[str, str]) -> Row:
    results = tuple(result for cell in cells if (result := found[cell]) is not None)
    lost = {failed.get(cell.key, PENDING): None for cell in cells if found[cell] is None}
    figures = {key: _figure([of(result) for result in results]) for key, of in COLUMNS.items()}
    return Row(cells, results, figures, "; ".join(lost))


def _figure(values: list[float | None]) -> Figure | None:
    known = [value for value in values if value is not None]
    # A mean over some of the seeds would be of the lucky ones.
    if not known or len(known) < len(values):
        return None
    return float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None


def _marked(rows: list[Row]) -> list[Row]:
    """The rows of one set with the best of them, its ties, and the gain over bicubic."""
    scored = [row for row in rows if row.results]
    if len(scored) < 2:  # nothing to be better than
        return rows
    plain = next((row for row in scored if row.network == BICUBIC), None)
    best = min(scored, key=lambda row: row.error)
    marked = []
    for row in rows:
        gain = None
        if plain is not None and row in scored and row is not plain:
            gain = float(psnr_from_error(row.error, 1.0) - psnr_from_error(plain.error, 1.0))
        mark = "best" if row is best else "tied" if row in scored and tied(row, best) else ""
        marked.append(replace(row, mark=mark, gain_db=gain))
    return marked


def tied(row: Row, best: Row) -> bool:
    """Whether 95 % of a paired bootstrap cannot tell ``row`` from ``best``.

    Blocks of the test field are drawn with replacement, the same for both, and where there are
    several seeds these too, each row's own; tied is where the difference of the mean squared errors
    has zero within the lower 2.5 %. Equal arguments give equal answers.
    """
    rng = np.random.default_rng(0)
    ours, pixels = _errors(row)
    theirs, _ = _errors(best)
    drawn = np.empty(DRAWS)
    for i in range(DRAWS):
        blocks = rng.integers(len(pixels), size=len(pixels))
        a = ours[rng.integers(len(ours), size=len(ours))][:, blocks].sum() / len(ours)
        b = theirs[rng.integers(len(theirs), size=len(theirs))][:, blocks].sum() / len(theirs)
        drawn[i] = (a - b) / pixels[blocks].sum()
    return bool(np.quantile(drawn, 0.025) <= 0)


def _errors(row: Row) -> tuple[np.ndarray, np.ndarray]:
    """Sums of squared errors ``(seed, block)``, and the pixels of each block."""
    blocks = np.array([result["blocks"] for result in row.results])
    return blocks[..., 0], blocks[0, :, 1]


def _total(result: Result) -> tuple[float, float]:
    total = np.array(result["blocks"]).sum(axis=0)
    return float(total[0]), float(total[1])


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
