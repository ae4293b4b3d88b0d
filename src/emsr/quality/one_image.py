"""What one image alone says of its resolution: an estimate that is easily fooled, and says so.

Where an image ends in white noise, that noise is the level which its spectrum falls to, and a
second image of the same kind would agree with it by the FRC 1 - noise / power. Interpolation, and
noise that neighbouring pixels share, leave no such level: then nothing is told, unless the level of
the noise is known from elsewhere. Detail that a network invented counts as detail.
"""

from __future__ import annotations

import numpy as np

from emsr.quality.resolution import (
    PERSISTENCE_RINGS,
    ring_counts,
    ring_frequencies,
    ring_sums,
)

OUTER, INNER = (0.43, 0.5), (0.36, 0.43)
"""Cycles per pixel between which power is compared: white noise has as much in one as the other."""
HANN_POWER = (3 / 8) ** 2
"""Mean square of the window of ``ring_sums``."""
LEVEL = 0.8
LEAST_NOISE = 1e-3
"""Share of the image's variance below which what it ends in may be rounding."""
NOT_WHITE = (
    "its finest detail is no white noise ({:.2f} times the power just below it): interpolated, or "
    "its noise is shared between pixels, and nothing tells noise from structure"
)
ROUNDING = "it ends in no more noise than rounding may leave, as clean and smoothed images do"
TOO_SMALL = "{} rings are too few to see the level of the noise"


def one_image_frc(power: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray | None, str]:
    """``(ring,)`` FRC that another image like this one would have with it, from the power and the
    number of Fourier pixels of each ring; None, and why, where that cannot be told."""
    rings = len(power)
    frequency = ring_frequencies(2 * (rings - 1))
    density = power / np.maximum(counts, 1)
    outer, inner = (density[(frequency > a) & (frequency <= b)] for a, b in (OUTER, INNER))
    if min(len(outer), len(inner)) < PERSISTENCE_RINGS:
        return None, TOO_SMALL.format(rings)
    level = float(outer.mean())
    ratio = level / max(float(inner.mean()), np.finfo(np.float64).tiny)
    if not ratio >= LEVEL:
        return None, NOT_WHITE.format(ratio)
    if level < LEAST_NOISE * power.sum() / counts.sum():
        return None, ROUNDING
    curve = np.maximum(_share(density, level), 0)
    curve[0] = 1.0
    return curve, ""


def expected_frc(stack: np.ndarray, sigma: float) -> np.ndarray:
    """``(ring,)`` FRC that a scan ``(z, y, x)`` would have with a repeat of itself, if its noise is
    white and of standard deviation ``sigma``."""
    power = np.sum([ring_sums(plane, plane)[1] for plane in stack], axis=0)
    noise = sigma**2 * HANN_POWER * stack.size * ring_counts(stack.shape[1:])
    return _share(power, noise)


def _share(power: np.ndarray, noise: np.ndarray | float) -> np.ndarray:
    """Structure's share of the power, 1 - noise / power; below 0, down to -1, by chance."""
    return np.asarray(1 - noise / np.maximum(power, noise / 2))
