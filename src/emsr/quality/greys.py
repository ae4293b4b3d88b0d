"""Grey levels of a reference: which range counts as full scale, and how to fit others to it.

Knows slices of greys, one at a time. Refuses to fit anything unasked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from emsr.errors import InputError


@dataclass(frozen=True)
class Survey:
    """A volume at first sight: grey extremes, a sample of greys, the slice of most contrast."""

    low: float
    high: float
    sample: np.ndarray
    liveliest: int


def survey(planes: Iterable[np.ndarray], name: str, step: int) -> Survey:
    """Look through slices ``(y, x)`` once, sampling every ``step``-th pixel along y and x.

    Raises InputError, with ``name``, where all slices hold one and the same grey level.
    """
    # .copy(): a view would keep every slice in memory.
    seen = [(p.min(), p.max(), p.std(), p[::step, ::step].ravel().copy()) for p in planes]
    lows, highs, contrasts, samples = zip(*seen, strict=True)
    low, high = float(min(lows)), float(max(highs))
    if low == high:
        raise InputError(
            f"{name} is constant ({low:g} everywhere), a reference needs structure: "
            "give the scan itself"
        )
    return Survey(low, high, np.concatenate(samples), int(np.argmax(contrasts)))


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
