"""What an FRC is worth: how far chance scatters it, and which thresholds follow from that.

A Hann window turns every Fourier pixel into a mean of its neighbours, so that a ring holds fewer
independent values than pixels, and the correlation of independent noise is larger for it. Knows the
window and the shape of the field alone, not the images.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import stats

from emsr.quality.resolution import ring_counts, ring_index

LEAK = (1.0, 2 / 3, 1 / 6)
"""Correlation of the noise of Fourier pixels 0, 1 and 2 apart along one axis behind a Hann window:
the spectrum of the squared window, over its zero frequency."""
EXACT_RINGS = 96
"""Rings whose independent pixels are counted one by one; those beyond have the share of the last
of them, which no longer changes."""
CHANCE = 0.001
"""How often a ring of independent noise passes for significant."""


def independent(shape: tuple[int, int], slices: int = 1) -> np.ndarray:
    """``(ring,)`` independent real values that the FRC of each ring of a ``(y, x)`` field rests on,
    over all ``slices``; the FRC of independent noise scatters by 1 over their square root.

    With m Fourier pixels in a ring that correlate by r_ij it is m² / sum r_ij².
    """
    counts = ring_counts(shape)
    shares = _shares(shape)
    beyond = np.full(len(counts), shares[-16:].mean())
    beyond[: len(shares)] = shares
    return np.maximum(counts * beyond * slices, 1.0)


def half_bit(shape: tuple[int, int], slices: int = 1) -> np.ndarray:
    """The half-bit threshold ``(ring,)``: where each Fourier pixel carries half a bit.

    van Heel and Schatz, Journal of Structural Biology 2005, equation 17, with the ``independent``
    pixels of half the ring (real images). It is above 1 - and so useless - in rings of a handful.
    """
    root = np.sqrt(independent(shape, slices) / 2)
    return (0.2071 * root + 1.9102) / (1.2071 * root + 0.9102)


def significance(shape: tuple[int, int], slices: int = 1, chance: float = CHANCE) -> np.ndarray:
    """``(ring,)`` FRC that independent noise passes with probability ``chance``: the quantile of
    the correlation of ``independent`` normal values, whose square is Beta distributed."""
    return np.sqrt(stats.beta.ppf(1 - 2 * chance, 0.5, (independent(shape, slices) - 1) / 2 + 1e-9))


@lru_cache(maxsize=4)
def _shares(shape: tuple[int, int]) -> np.ndarray:
    """Independent share of the pixels of the inner rings, from all pairs of neighbours."""
    index = ring_index(shape, EXACT_RINGS + 2)
    rings = min(EXACT_RINGS, min(shape) // 2) + 1
    inside = (index >= 0) & (index < rings)
    pairs = np.zeros(rings)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            near = np.roll(index, (dy, dx), axis=(0, 1))
            same = inside & (near == index)
            weight = (LEAK[abs(dy)] * LEAK[abs(dx)]) ** 2
            pairs += weight * np.bincount(index[same], minlength=rings)[:rings]
    counts = np.bincount(index[inside], minlength=rings)[:rings]
    return counts / np.maximum(pairs, 1)
