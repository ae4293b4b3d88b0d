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
FINEST = np.outer([1.0, -2.0, 1.0], [1.0, -2.0, 1.0]) / 6
"""The same, closer to the corner of the frequency plane."""
SMOOTH_PX = 2.0
WHITE_RATIO, COLOUR_ERROR = 1.45, 4.5
"""FINE's power over FINEST's in SR - HR: 1.0 to 1.4 where HR's noise is white (SR's error adds the
rest), from 1.3 on where it is blurred by half a pixel. Beyond the first the noise may be anything;
up to it the second times (ratio - 1) is the error of its variance, as a share (docs/scores.md)."""
MOST_RATIO = 5.0
"""Of noise seen to be correlated: up to 4.1 where the estimate of its variance holds (blurred by
0.7 px), from 6.7 on where structure was taken for noise or noise for structure (1 px)."""
OFFSET_Z = 4.0


def two_scan_terms(sr: Floats, hr: Floats, repeat: Floats, px: int) -> Floats:
    """``(block, 5)`` sums: error; noise alone; SR's detail times HR - HR2; its square; pixels."""
    to_hr, to_repeat = sr - hr, sr - repeat
    detail = sr - ndimage.gaussian_filter(sr, SMOOTH_PX)
    shared = detail * (hr - repeat)
    noise = (to_repeat**2 - to_hr**2) / 2
    planes = (to_hr * to_repeat, noise, shared, detail**2, np.ones_like(sr))
    return np.stack([block_sums(plane, px).ravel() for plane in planes], axis=1)


def one_scan_terms(sr: Floats, hr: Floats, variance: Floats, px: int) -> Floats:
    """``(block, 6)`` sums: squared difference; the noise's ``variance`` ``(y, x)``; the variance of
    the first for normal white noise; squares of the difference's detail by FINE, and by FINEST;
    pixels."""
    squares = (sr - hr) ** 2
    # var (e - n)² = 4 e² v + 2 v², with e² = squares - v.
    spread = 4 * squares * variance - 2 * variance**2
    details = (ndimage.convolve(sr - hr, kernel) ** 2 for kernel in (FINE, FINEST))
    planes = (squares, variance, spread, *details, np.ones_like(sr))
    return np.stack([block_sums(plane, px).ravel() for plane in planes], axis=1)


def levelled(hr: Floats, repeat: Floats) -> Floats:
    """``repeat`` ``(y, x)`` with the mean grey level of ``hr``, where theirs differ by more than
    chance: d levels more would change the estimate by -d times the mean error of SR."""
    difference = repeat - hr
    offset, chance = difference.mean(), difference.std() / np.sqrt(hr.size)
    return repeat - offset if abs(offset) > OFFSET_Z * chance else repeat


def fine_ratio(blocks: Floats) -> float:
    """Of ``one_scan_terms``: FINE's power over FINEST's in SR - HR; 1 where there is none."""
    fine, finest = blocks.sum(axis=0)[[3, 4]]
    return float(fine / finest) if finest > 0 else 1.0


def error_of_unknown_colour(blocks: Floats, noise_error: float) -> float | None:
    """Of ``one_scan_terms``: the standard error of the noise's mean variance where structure hid
    whether the noise is white; None where it may be anything. The variance was then read off the
    corner of the frequency plane, which noise shared between pixels does not reach: so much the
    less detail is in SR - HR there."""
    variance, pixels = blocks.sum(axis=0)[[1, 5]]
    ratio = fine_ratio(blocks)
    if ratio > WHITE_RATIO:
        return None
    return float(np.hypot(noise_error, COLOUR_ERROR * max(ratio - 1, 0.0) * variance / pixels))


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
    squares, variance, spread, _, _, pixels = blocks.sum(axis=0)
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
    _, variance, _, fine, _, pixels = blocks.sum(axis=0)
    # Neighbouring values of FINE's output share pixels: 2.25 times the variance of others.
    chance = np.sqrt(2 * 2.25 / pixels) * variance / pixels
    return bool((variance - fine) / pixels > 4 * np.hypot(chance, noise_error))
