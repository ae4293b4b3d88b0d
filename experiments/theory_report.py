"""The table and the figure of ``theory.py``: what was learned beside what was predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from references import KINDS, SCALE, SHARED, Seen

from emsr.microscope.stages import sample_area
from emsr.quality.fidelity import psnr

FULL_SCALE = 255.0
LOSSES = ("l2", "l1")
COLOURS = {"l2": "#0b5fa5", "l1": "#c9501c"}
GREY_EDGES = np.arange(40, 221, 10)
LEFT_EDGES = np.arange(-45, 46, 6)
SHORT = {
    "impulses": "impulses",
    "low-dose": "low dose",
    "clipped": "saturated",
    "repeated": "Gaussian",
    "shared": "shared with LR",
    "split": "split",
}


@dataclass(frozen=True)
class Result:
    """The SR (z, y, x) of the test field, in grey levels, after one training run."""

    kind: str
    loss: str
    seed: int
    sr: np.ndarray


@dataclass(frozen=True)
class Pair:
    """A run beside the one on clean references of the same loss and seed; dB and grey levels."""

    kind: str
    loss: str
    psnr: float
    cost: float
    predicted_cost: float | None
    learned: np.ndarray
    """SR less the SR that clean references taught."""
    predicted: np.ndarray | None
    clean: np.ndarray


def paired(results: list[Result], truth: np.ndarray, lr: np.ndarray) -> list[Pair]:
    """Each result beside that of its clean run."""
    clean = {(r.loss, r.seed): r.sr for r in results if r.kind == "clean"}
    return [_pair(r, clean["l2", r.seed], clean["l1", r.seed], truth, lr) for r in results]


def _pair(
    result: Result, mean: np.ndarray, median: np.ndarray, truth: np.ndarray, lr: np.ndarray
) -> Pair:
    spread = float(np.sqrt(np.mean((mean - truth) ** 2)))
    expected = KINDS[result.kind].predict(Seen(mean, median, spread, lr, result.loss))
    clean = mean if result.loss == "l2" else median
    best, reached = psnr(clean, truth, FULL_SCALE), psnr(result.sr, truth, FULL_SCALE)
    return Pair(
        kind=result.kind,
        loss=result.loss,
        psnr=reached,
        cost=reached - best,
        predicted_cost=None if expected is None else psnr(expected, truth, FULL_SCALE) - best,
        learned=result.sr - clean,
        predicted=None if expected is None else expected - clean,
        clean=clean,
    )


def print_table(pairs: list[Pair]) -> None:
    """One markdown table: means over seeds, and the lowest and highest cost."""
    print(
        "| references | loss | PSNR dB | less clean | predicted | bias | predicted | found |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    for kind, loss, row in _rows(pairs):
        costs = [pair.cost for pair in row]
        cells = [
            KINDS[kind].label,
            loss,
            f"{np.mean([pair.psnr for pair in row]):.2f}",
            f"{np.mean(costs):+.2f} ({min(costs):+.2f} to {max(costs):+.2f})",
            _mean(row, lambda pair: pair.predicted_cost),
            _mean(row, lambda pair: float(pair.learned.mean())),
            _mean(row, lambda pair: None if pair.predicted is None else pair.predicted.mean()),
            _found(row),
        ]
        if kind == "clean":
            cells[3:] = [""] * 5
        print(f"| {' | '.join(cells)} |".replace("-0.00", "0.00").replace("+0.00", "0.00"))


def _rows(pairs: list[Pair]) -> Iterator[tuple[str, str, list[Pair]]]:
    for kind in KINDS:
        for loss in LOSSES:
            yield kind, loss, [p for p in pairs if (p.kind, p.loss) == (kind, loss)]


def _mean(row: list[Pair], value: Callable[[Pair], Any]) -> str:
    values = [value(pair) for pair in row]
    return "" if None in values else f"{np.mean(values):+.2f}"


def _found(row: list[Pair]) -> str:
    """How much of the predicted change was learned: 1 is all of it (least squares over pixels).

    What is learned with one seed is held against what is predicted from the others, so that the
    noise of training, which both contain, does not pass for agreement.
    """
    known = [pair.predicted for pair in row if pair.predicted is not None]
    if len(known) < 2 or not any(change.any() for change in known):
        return ""
    return f"{_across([p.learned for p in row], known) / _across(known, known):+.2f}"


def _across(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """Sum over pixels and over pairs of different seeds."""
    own = sum(np.vdot(x, y) for x, y in zip(a, b, strict=True))
    return float(np.vdot(np.sum(a, axis=0), np.sum(b, axis=0)) - own)


def draw(pairs: list[Pair], lr: np.ndarray, path: Path) -> None:
    """The figure: costs of all references, and three laws of bias."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplot_mosaic(
        [["cost", "l2", "l1"], ["cost", "shared", "shared"]],
        figsize=(13, 7.5),
        width_ratios=[1.1, 1, 1],
        layout="constrained",
    )
    _draw_costs(axes["cost"], pairs)
    for loss in LOSSES:
        _draw_bias(axes[loss], pairs, loss)
    _draw_shared(axes["shared"], pairs, lr)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_costs(ax: Any, pairs: list[Pair]) -> None:
    kinds = [kind for kind in KINDS if kind != "clean"][::-1]
    for offset, loss in ((0.15, "l2"), (-0.15, "l1")):
        for place, kind in enumerate(kinds):
            row = [p for p in pairs if (p.kind, p.loss) == (kind, loss)]
            label = loss if place == 0 else None
            height = [place + offset] * len(row)
            ax.plot([p.cost for p in row], height, "o", ms=5, color=COLOURS[loss], label=label)
            known = [p.predicted_cost for p in row if p.predicted_cost is not None]
            if known:
                ax.plot(np.mean(known), place + offset, "k|", ms=13, mew=1.5)
    ax.plot([], [], "k|", ms=13, mew=1.5, label="predicted")
    ax.axvspan(-0.2, 0, color="0.92", zorder=0)
    ax.set_yticks(range(len(kinds)), [KINDS[kind].label for kind in kinds])
    ax.set(xlabel="PSNR less that of clean references, dB")
    ax.legend(loc="lower left")


def _draw_bias(ax: Any, pairs: list[Pair], loss: str) -> None:
    for colour, kind in enumerate(("impulses", "low-dose", "clipped", "repeated")):
        row = [p for p in pairs if (p.kind, p.loss) == (kind, loss)]
        label = SHORT[kind]
        found = _by(row, GREY_EDGES, lambda p: (p.clean, p.learned))
        ax.plot(*found, "o-", ms=3, label=label, color=f"C{colour}")
        ax.plot(*_by(row, GREY_EDGES, lambda p: (p.clean, _known(p))), "k--", lw=1)
    ax.set(xlabel="grey level of clean SR", ylabel="bias, grey levels", title=loss)
    if loss == "l1":
        ax.legend(fontsize=8, loc="lower left")


def _known(pair: Pair) -> np.ndarray:
    return np.zeros_like(pair.clean) if pair.predicted is None else pair.predicted


def _draw_shared(ax: Any, pairs: list[Pair], lr: np.ndarray) -> None:
    """How much of what the clean SR leaves of the LR image each network puts back."""

    def left_and_learned(p: Pair) -> tuple[np.ndarray, np.ndarray]:
        return lr - sample_area(p.clean, SCALE), sample_area(p.learned, SCALE)

    for kind, marker, slope in (
        ("shared", "o", SHARED),
        ("split", "s", 0.0),
        ("repeated", "^", 0.0),
    ):
        for loss in LOSSES:
            row = [p for p in pairs if (p.kind, p.loss) == (kind, loss)]
            left, learned = _by(row, LEFT_EDGES, left_and_learned)
            label = f"{SHORT[kind]}, {loss}"
            ax.plot(left, learned, marker, ms=4, color=COLOURS[loss], label=label)
        ax.plot(left, slope * left, "k--", lw=1)
    ax.set(
        xlabel="what clean SR leaves of an LR pixel (LR less area mean), grey levels",
        ylabel="put back, grey levels",
    )
    ax.legend(fontsize=7)


def _by(
    row: list[Pair], edges: np.ndarray, values: Callable[[Pair], tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the bins and the mean of the second value in each, by the first."""
    along, value = (np.concatenate(part, axis=None) for part in zip(*map(values, row), strict=True))
    bins = np.digitize(along, edges)
    means = [value[bins == k].mean() for k in range(1, len(edges))]
    return (edges[1:] + edges[:-1]) / 2, np.array(means)
