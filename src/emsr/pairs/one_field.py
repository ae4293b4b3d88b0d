"""Whether two scans show one field, in register, with noise of their own: what is asked of the LR
and the HR scan of a pair, and of a scan and its repeat, and in which words either is refused.

Knows numbers that were measured slice by slice (``align``, ``noise``); reads no scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from emsr.errors import InputError

SMALLEST_LIKENESS = 0.4
"""Correlation of an LR slice with its HR slice; fields of 64 pixels that show different places
reach 0.3, very noisy scans of the same place stay above 0.7."""
LARGEST_RESIDUAL_PX = 1.0
LARGEST_NOISE_CORRELATION = 0.5


def residual_px_rms(shifts: Sequence[np.ndarray] | np.ndarray) -> float:
    """Root mean square of the lengths of ``(slice, 2)`` shifts."""
    return float(np.sqrt(np.mean(np.sum(np.square(shifts), axis=1))))


def place_numbers(likeness: list[float], shifts: np.ndarray) -> dict[str, Any]:
    """What is stored of the slices that are kept: how alike the two scans are, and the shifts
    ``(slice, 2)`` (y, x) in HR pixels between them."""
    return {
        "likeness": likeness,
        "slice_shift_px": shifts.tolist(),
        "shift_px": shifts.mean(axis=0).tolist(),
        "residual_px_rms": residual_px_rms(shifts),
    }


def nothing_alike(name: str, other: str, likeness: list[float], slices: int) -> InputError:
    """For two scans none of whose ``slices`` show the same field; ``likeness`` of those that are
    not constant."""
    if not likeness:
        return InputError(
            f"{name}, {other}: every slice is constant in one of them, nothing to learn from"
        )
    inverted = min(likeness) < -SMALLEST_LIKENESS
    advice = "invert the contrast of one" if inverted else "bring scans of one field into register"
    return InputError(
        f"{name} and {other} show the same field in none of {slices} slices (correlation "
        f"{max(likeness):.2f} at best, {SMALLEST_LIKENESS} is needed): {advice}"
    )


def check_contrast(lr: str, hr: str, gain: float) -> None:
    """InputError where LR = gain * HR + offset was fitted with a gain that is not positive."""
    if gain <= 0:
        raise InputError(
            f"{lr} gets darker where {hr} gets brighter (fitted gain {gain:.2g}): give scans of "
            "equal contrast"
        )


def warnings(
    scans: str,
    alike_because: str,
    residual_px: float,
    correlation: float | None,
    unlike: int,
    slices: int,
) -> tuple[str, ...]:
    """What the user should hear of two ``scans`` that are nearly what they should be: ``unlike`` of
    the ``slices`` left out, HR pixels out of register, and ``correlation`` of their finest detail,
    which means that either ``alike_because``."""
    found = []
    if unlike:
        found.append(
            f"{unlike} of {slices} slices do not show the same field in {scans} (correlation below "
            f"{SMALLEST_LIKENESS}) and are left out"
        )
    if residual_px > LARGEST_RESIDUAL_PX:
        found.append(
            f"{scans} are {residual_px:.1f} HR pixels (rms) out of register, at most "
            f"{LARGEST_RESIDUAL_PX:g} is expected: the network will learn the shift or blur it"
        )
    if correlation is not None and correlation > LARGEST_NOISE_CORRELATION:
        found.append(
            f"the finest detail of {scans} correlates by {correlation:.2f}: either {alike_because}"
        )
    return tuple(found)
