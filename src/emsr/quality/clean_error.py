"""The squared error against the unseen clean image, from one scan or from two.

The clean image is x, the scans are HR = x + n1 and HR2 = x + n2, SR has the error e = SR - x.

Two scans: (SR - HR)(SR - HR2) = e² - e n1 - e n2 + n1 n2 has the expectation e², whatever the
noise, as long as it has mean zero and is independent of SR and between the scans. Where the scans
are equally noisy, ((SR - HR2)² - (SR - HR)²) / 2 has the same variance, and no e²: its blocks tell
how far noise alone scatters the estimate.

One scan: (SR - HR)² has the expectation e² + var n1, so that the variance of the noise, known from
elsewhere, is subtracted; its error becomes the estimate's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from emsr.quality.blocks import block_sums, scatter, z_score

Floats = NDArray[np.float64]

FINE = np.array([[1.0, -1.0], [-1.0, 1.0]]) / 2
"""Leaves the power of white noise as it is, and next to no structure."""
SMOOTH_PX = 2.0


def two_scan_terms(sr: Floats, hr: Floats, repeat: Floats, px: int) -> Floats:
    """``(block, 5)`` sums: error; noise alone; SR's detail times HR - HR2; its square; pixels."""
    to_hr, to_repeat = sr - hr, sr - repeat
    detail = sr - ndimage.gaussian_filter(sr, SMOOTH_PX)
    shared = detail * (hr - repeat)
    noise = (to_repeat**2 - to_hr**2) / 2
    planes = (to_hr * to_repeat, noise, shared, detail**2, np.ones_like(sr))
    return np.stack([block_sums(plane, px).ravel() for plane in planes], axis=1)


def one_scan_terms(sr: Floats, hr: Floats, variance: Floats, px: int) -> Floats:
    """``(block, 5)`` sums: squared difference; the noise's ``variance`` ``(y, x)``; the variance of
    the first for normal white noise; squares of the difference's finest detail; pixels."""
    squares = (sr - hr) ** 2
    # var (e - n)² = 4 e² v + 2 v², with e² = squares - v.
    spread = 4 * squares * variance - 2 * variance**2
    fine = ndimage.convolve(sr - hr, FINE) ** 2
    planes = (squares, variance, spread, fine, np.ones_like(sr))
    return np.stack([block_sums(plane, px).ravel() for plane in planes], axis=1)


def two_scan_error(blocks: Floats, rng: np.random.Generator, draws: int) -> tuple[float, Floats]:
    """Mean squared error, and ``(draws,)`` others that chance might have given."""
    error, noise, pixels = blocks[:, 0], blocks[:, 1], blocks[:, 4]
    mean = float(error.sum() / pixels.sum())
    return mean, mean + scatter(noise, pixels, rng, draws) / pixels.sum()


def one_scan_error(
    blocks: Floats, noise_error: float, wider: float, rng: np.random.Generator, draws: int
) -> tuple[float, Floats]:
    """As ``two_scan_error``; ``noise_error`` is the standard error of the noise's mean variance,
    ``wider`` what its correlation between pixels multiplies the scatter by."""
    squares, variance, spread, _, pixels = blocks.sum(axis=0)
    mean = float((squares - variance) / pixels)
    chance = wider * np.sqrt(max(spread, 0.0)) / pixels
    return mean, mean + rng.normal(0, np.hypot(chance, noise_error), draws)


def shared_with_sr(blocks: Floats) -> tuple[float, float]:
    """Of ``two_scan_terms``: how surely SR holds noise of HR that HR2 does not hold (a z score, 0
    on average where it does not), and how much that changes the squared error."""
    return z_score(blocks[:, 2]), float(blocks[:, 2].sum() / blocks[:, 4].sum())


def too_little_noise(blocks: Floats, noise_error: float) -> bool:
    """Of ``one_scan_terms``, white noise: whether the finest detail of SR - HR holds less power
    than the noise of HR should give it. Then SR holds part of that noise."""
    _, variance, _, fine, pixels = blocks.sum(axis=0)
    # Neighbouring values of FINE's output share pixels: 2.25 times the variance of others.
    chance = np.sqrt(2 * 2.25 / pixels) * variance / pixels
    return bool((variance - fine) / pixels > 4 * np.hypot(chance, noise_error))
