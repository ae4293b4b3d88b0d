"""What a training was worth, in numbers and in words: had it HR enough, and is it any better than
interpolation."""

from __future__ import annotations

from typing import Any

from emsr.jobs.watch import Field, decibels, enlarged, gain
from emsr.network.run_state import Run
from emsr.pairs.enough import (
    HARMLESS_PASSES,
    PIXELS_PER_PARAMETER,
    enough,
    hr_pixels,
    passes,
)
from emsr.pairs.store import Pairs
from emsr.recipe import Recipe

CERTAIN = 2.0
"""Standard errors from which a difference on the watched field counts as one."""


def too_few(pairs: Pairs, rows: slice, parameters: int, recipe: Recipe) -> str | None:
    """What to say where the noise of the HR would be learned by heart."""
    pixels, seen = hr_pixels(pairs, rows), passes(pairs, rows, recipe.training)
    if enough(pixels, parameters) or seen <= HARMLESS_PASSES:
        return None
    return (
        f"{pixels:,} HR pixels for {parameters:,} parameters ({pixels / parameters:.2g} each) are "
        f"seen {seen:,.0f} times: {recipe.network} will learn their noise by heart, and what is "
        "kept is from before, where the watched field scores best; "
        f"{PIXELS_PER_PARAMETER * parameters:,} HR pixels would be enough (docs/enough.md)"
    )


def judged(run: Run, field: Field) -> dict[str, Any]:
    """How far the best mean weights of ``run`` are ahead of bicubic and of the last ones, in dB on
    the watched field, each with its standard error. Leaves the best weights in ``run.network``."""
    last = enlarged(run.mean.module, field.lr)
    run.network.load_state_dict(run.best)
    best = enlarged(run.network, field.lr)
    gain_db, gain_se_db = gain(best, field.bicubic, field)
    fall_db, fall_se_db = gain(best, last, field)
    return {
        "validation_psnr": run.best_psnr,
        "bicubic_psnr": decibels(field.bicubic, field.hr),
        "gain_db": gain_db,
        "gain_se_db": gain_se_db,
        "fall_db": fall_db,
        "fall_se_db": fall_se_db,
    }


def doubts(summary: dict[str, Any]) -> list[str]:
    """What the user should hear of a training that is over."""
    gained, error = summary["gain_db"], summary["gain_se_db"]
    if summary["best_step"] == 0:
        return [
            "nothing that was learned beats interpolation on the watched field: the model only "
            "interpolates; acquire more HR, or check that LR and HR are in register"
        ]
    if gained <= 0:
        return [
            f"the model is worse than bicubic interpolation on the watched field ({gained:+.2f} "
            "dB): do not use it; train longer, or acquire more HR"
        ]
    if gained < CERTAIN * error:
        return [
            f"the gain over bicubic interpolation, {gained:+.2f} dB, is within the noise of the "
            f"watched field (standard error {error:.2f} dB): watch a larger one (--watch)"
        ]
    return []


def lines_of(summary: dict[str, Any]) -> list[str]:
    """How it ended, for people; also of a summary that an older version wrote."""
    if summary["validation_psnr"] is None:
        return []
    gained = summary["validation_psnr"] - summary["bicubic_psnr"]
    score = (
        f"validation PSNR against the noisy reference: {summary['validation_psnr']:.2f} dB at step "
        f"{summary['best_step']} (bicubic: {summary['bicubic_psnr']:.2f} dB, {gained:+.2f}"
    )
    if "stopped" not in summary:
        return [f"{score})"]
    return [
        f"stopped at step {summary['steps']}: {summary['stopped']}",
        f"{score} ± {summary['gain_se_db']:.2f})",
        *(f"warning: {line}" for line in doubts(summary)),
    ]
