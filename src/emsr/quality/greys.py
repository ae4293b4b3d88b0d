"""Grey levels of a reference: which range counts as full scale, and how to fit others to it.

Knows slices of greys, one at a time. Refuses to fit anything unasked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from emsr.errors import InputError

SOME_CLIPPED, MOST_CLIPPED = 0.01, 0.5
"""Shares of pixels at the lowest or highest grey level from which it is said, and refused."""


@dataclass(frozen=True)
class Survey:
    """A volume at first sight: grey extremes and the share of its pixels at either, a sample of
    greys, the slice of most contrast."""

    low: float
    high: float
    at_ends: float
    sample: np.ndarray
    liveliest: int


def survey(planes: Iterable[np.ndarray], name: str, step: int) -> Survey:
    """Look through slices ``(y, x)`` once, sampling every ``step``-th pixel along y and x.

    Raises InputError, with ``name``, where all slices hold one and the same grey level, and where
    most pixels lie at the lowest or highest level.
    """
    # .copy(): a view would keep every slice in memory. float64: the squares of float16 overflow.
    seen = [
        (*_ends(p), p.std(dtype=np.float64), p[::step, ::step].ravel().copy(), p.size)
        for p in planes
    ]
    lows, highs, contrasts, samples, sizes = zip(*seen, strict=True)
    (low, _), (high, _) = min(lows), max(highs)
    if low == high:
        raise InputError(
            f"{name} is constant ({low:g} everywhere), a reference needs structure: "
            "give the scan itself"
        )
    extremes = (*((grey, n, low) for grey, n in lows), *((grey, n, high) for grey, n in highs))
    at_ends = sum(n for grey, n, end in extremes if grey == end)
    share = at_ends / sum(sizes)
    if share > MOST_CLIPPED:
        raise InputError(
            f"{name}: {share:.0%} of the pixels lie at the lowest ({low:g}) or highest ({high:g}) "
            "grey level, a reference needs its greys unclipped: crop the field, or scan it again"
        )
    return Survey(low, high, share, np.concatenate(samples), int(np.argmax(contrasts)))


def _ends(plane: np.ndarray) -> tuple[tuple[float, int], tuple[float, int]]:
    """Lowest and highest grey level, each with its number of pixels."""
    low, high = float(plane.min()), float(plane.max())
    return (low, int((plane == low).sum())), (high, int((plane == high).sum()))


def clipped(seen: Survey, name: str) -> str | None:
    """What the user should hear of a reference whose greys were cut off."""
    if seen.at_ends <= SOME_CLIPPED:
        return None
    return (
        f"warning: {seen.at_ends:.1%} of the pixels of {name} lie at its lowest or highest grey "
        "level: clipped noise is not zero on average there, which biases every score"
    )


def full_scale(dtype: np.dtype, seen: Survey) -> tuple[float, str]:
    """The data range of PSNR and SSIM in grey levels, and why it was taken.

    A 16-bit scan rarely uses more than a part of its dtype: 65535 would flatter every score.
    """
    if dtype.kind in "ui" and dtype.itemsize == 1:
        return 255.0, f"the range of {dtype}, the reference's type"
    low, high = np.percentile(seen.sample, [0.1, 99.9])
    if high > low:
        span = f"{low:.6g} to {high:.6g} grey levels"
        return float(high - low), f"0.1 to 99.9 percentile of the {dtype} reference, {span}"
    return seen.high - seen.low, "minimum to maximum of the reference"


def least_squares(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """(gain, offset) that minimise the squared distance of gain · image + offset to the target.

    ``pairs`` are slices (image, target); a constant image gets gain 0.
    """
    sums, centre = np.zeros(5), None
    for image, target in pairs:
        # About the first slice's means: large offsets would eat the digits of the squares.
        centre = centre or (image.mean(), target.mean())
        a, b = image - centre[0], target - centre[1]
        sums += [a.size, a.sum(), b.sum(), np.vdot(a, a), np.vdot(a, b)]
    assert centre is not None, "no slices to fit"
    n, sum_a, sum_b, sum_aa, sum_ab = sums
    variance = sum_aa - sum_a**2 / n
    gain = (sum_ab - sum_a * sum_b / n) / variance if variance > 0 else 0.0
    return float(gain), float(centre[1] + sum_b / n - gain * (centre[0] + sum_a / n))
