"""Tables and the figure of ``by_heart.py``, from the errors that its cells kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

WATCHED_BLOCKS = (1, 2, 4, 9)
RULES = [(every, patience, False) for every in (50, 100, 200) for patience in (3, 5, 10)]
RULES += [(every, 5, True) for every in (50, 100, 200)]
"""Steps between validations; validations without a new best before training stops; whether only
those count that lie two standard errors below the best."""


def psnr(errors: Any) -> Any:
    """dB of one unit of range, of mean squared errors along the last axis."""
    return -10 * np.log10(np.mean(errors, axis=-1))


def curves(result: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps; errors of the watched field (look, block); clean PSNR."""
    looks = result["looks"]
    steps, watched = ([look[key] for look in looks] for key in ("step", "watch"))
    return np.array(steps), np.array(watched), psnr(np.array([look["test"] for look in looks]))


def said(result: dict[str, Any]) -> dict[str, Any]:
    """Steps and clean scores of what the watched field chooses, of the best and of the last."""
    if "looks" not in result:
        keys = ("bicubic", "clean", "best_step", "steps", "stopped", "seconds", "warnings")
        return {key: result[key] for key in keys}
    steps, watched, clean = curves(result)
    chosen, best = int(np.argmax(psnr(watched))), int(np.argmax(clean))
    found = {"bicubic": clean[0], "chosen": clean[chosen], "best": clean[best], "last": clean[-1]}
    found |= {"chosen_step": steps[chosen], "best_step": steps[best], "steps": steps[-1]}
    return {key: round(float(value), 2) for key, value in found.items()}


def print_tables(results: dict[str, dict[str, Any]]) -> None:
    """One row a training, then what a smaller watched field and other patience would have done."""
    print("\n| cell | HR pixels | per parameter | passes | bicubic | chosen (step) | best | last |")
    print("| --- " * 8 + "|")
    trained = {name: one for name, one in results.items() if "looks" in one}
    for name, one in trained.items():
        row, pixels = said(one), one["hr_pixels"]
        passes = row["steps"] * 4 * 32**2 * 9 / pixels
        print(
            f"| {name} | {pixels:,} | {pixels / one['parameters']:.2g} | {passes:,.0f} "
            f"| {row['bicubic']:.2f} | {row['chosen']:.2f} ({row['chosen_step']:.0f}) "
            f"| {row['best']:.2f} | {row['last']:.2f} |"
        )
    if trained:
        _print_watched(trained)
        _print_patience(trained)


def _print_watched(trained: dict[str, dict[str, Any]]) -> None:
    print("\n| side of the watched field, HR pixels | mean | largest loss of the choice, dB |")
    print("| --- | --- | --- |")
    for side in WATCHED_BLOCKS:
        lost = [loss for one in trained.values() for loss in regrets(one, side)]
        if lost:
            print(f"| {57 * side} | {np.mean(lost):.3f} | {np.max(lost):.2f} |")


def regrets(result: dict[str, Any], side: int) -> list[float]:
    """dB that the choice of each square of ``side`` blocks of the watched field loses."""
    _, watched, clean = curves(result)
    if watched.shape[1] != 81:
        return []
    grid = watched.reshape(-1, 9, 9)
    corners = [(y, x) for y in range(10 - side) for x in range(10 - side)]
    parts = [grid[:, y : y + side, x : x + side].reshape(len(grid), -1) for y, x in corners]
    return [float(clean.max() - clean[np.argmin(part.mean(1))]) for part in parts]


def _print_patience(trained: dict[str, dict[str, Any]]) -> None:
    print("\n| validation every | patience | mean | largest loss, dB | steps done |")
    print("| --- " * 5 + "|")
    for every, patience, clear in RULES:
        ends = [stopped(one, every, patience, clear) for one in trained.values()]
        lost, share = np.array(ends).T
        print(
            f"| {every} | {patience}{' clear falls' if clear else ''} | {lost.mean():.3f} "
            f"| {lost.max():.2f} | {share.mean():.0%} |"
        )


def stopped(result: dict[str, Any], every: int, patience: int, clear: bool) -> tuple[float, float]:
    """dB lost from the best look of all, and the share of the steps done, under a rule."""
    steps, watched, clean = curves(result)
    score, waited = psnr(watched), 0
    best, *seen = np.flatnonzero(steps % every == 0)
    end = best
    for end in seen:
        if score[end] >= score[best]:
            best, waited = end, 0
        elif not clear or is_clear(watched[best], watched[end]):
            waited += 1
        if waited == patience:
            break
    return float(clean.max() - clean[best]), float(steps[end] / steps[-1])


def is_clear(best: np.ndarray, now: np.ndarray) -> bool:
    """Whether ``now``, errors by block, is two standard errors worse than ``best``."""
    spread = now / now.mean() - best / best.mean()
    return bool(np.log(now.mean() / best.mean()) > 2 * spread.std(ddof=1) / np.sqrt(spread.size))


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Clean score along the training by field size and by HR noise; and what is kept, by size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    sizes = {name: one for name, one in results.items() if name.startswith("size-")}
    noises = {
        label: results[name]
        for name, label in (
            ("hr-noise-0", "no HR noise"),
            ("base", "as the phantom's"),
            ("hr-noise-x2", "twice"),
            ("hr-noise-x4", "four times"),
        )
        if name in results
    }
    for axis, group in zip(axes, (sizes, noises), strict=False):
        for name, one in group.items():
            steps, watched, clean = curves(one)
            label = name.replace("size-", "HR pixels: 2^")
            (line,) = axis.plot(steps[1:], clean[1:], label=label)
            chosen = int(np.argmax(psnr(watched)))
            axis.plot(steps[chosen], clean[chosen], "o", color=line.get_color())
        axis.axhline(clean[0], color="grey", linestyle=":", label="bicubic")
        axis.set(xscale="log", xlabel="training steps", ylabel="PSNR against the truth, dB")
        axis.legend(fontsize=8)
    axes[0].set_title("by field size; dots: what the watched field chooses")
    axes[1].set_title("by noise of HR, 2^16 HR pixels")
    pixels = [one["hr_pixels"] for one in sizes.values()]
    for key, label in (("chosen", "kept"), ("last", "after 3,000 steps"), ("bicubic", "bicubic")):
        axes[2].plot(pixels, [said(one)[key] for one in sizes.values()], "o-", label=label)
    axes[2].set(xscale="log", xlabel="HR pixels that train", title="what is kept, by field size")
    axes[2].legend(fontsize=8)
    figure.savefig(path, dpi=110)
