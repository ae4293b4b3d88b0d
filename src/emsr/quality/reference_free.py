"""What the score against the unseen clean image would be, from two noisy scans of one field.

Knows that two acquisitions share the clean image x and nothing else: HR = x + n1, HR2 = x + n2.
Then (SR - HR)(SR - HR2) has the expectation (SR - x)², whatever the noise, as long as n1 and n2
have mean zero and are independent of each other and of SR. Refuses to estimate anything from a
single noisy reference, or from a "repeat" that is a copy or another field.
"""

from __future__ import annotations

import numpy as np

from emsr.errors import InputError
from emsr.quality.fidelity import check_pair, check_range, psnr_from_error

Interval = tuple[float | None, float | None]

MOST_UNITS = 4096
"""Blocks beyond this number are merged with their neighbours before they are drawn: the bootstrap
of a large volume then costs no more than that of a small one."""


def clean_psnr_from_repeat(
    sr: np.ndarray,
    hr: np.ndarray,
    hr_repeat: np.ndarray,
    data_range: float,
    rng: np.random.Generator,
    block_px: int = 32,
    draws: int = 1000,
) -> tuple[float | None, Interval]:
    """Estimated PSNR in dB of ``sr`` against the clean image behind ``hr`` and ``hr_repeat``.

    Arrays ``(y, x)`` or ``(z, y, x)`` of one shape and grey scale. The interval holds 95 % of a
    bootstrap over blocks of ``block_px`` x ``block_px`` pixels of one slice, so that correlation
    within a block is respected. The value is None where noise makes the estimated error zero or
    negative; an upper end of None means that no upper bound can be given. Raises InputError for
    unequal shapes, NaN, and a repeat that is a copy of ``hr`` or not the same field.
    """
    check_pair(sr, hr)
    check_repeat(hr, hr_repeat)
    stacks = [a.reshape(-1, *a.shape[-2:]) for a in (sr, hr, hr_repeat)]
    blocks = [error_blocks(a, b, c, block_px) for a, b, c in zip(*stacks, strict=True)]
    return clean_psnr_from_blocks(np.concatenate(blocks), data_range, rng, draws)


def error_blocks(sr: np.ndarray, hr: np.ndarray, hr_repeat: np.ndarray, px: int) -> np.ndarray:
    """``(block, 2)``: sum of (SR - HR)(SR - HR2) and number of pixels in each block of a slice."""
    sr = sr.astype(np.float64)
    product = (sr - hr) * (sr - hr_repeat)
    rows, columns = (np.arange(0, n, px) for n in product.shape)
    sums = np.add.reduceat(np.add.reduceat(product, rows, axis=0), columns, axis=1)
    heights, widths = (
        np.diff(np.append(starts, n))
        for starts, n in zip((rows, columns), product.shape, strict=True)
    )
    return np.stack([sums.ravel(), np.outer(heights, widths).ravel()], axis=1)


def clean_psnr_from_blocks(
    blocks: np.ndarray, data_range: float, rng: np.random.Generator, draws: int = 1000
) -> tuple[float | None, Interval]:
    """As ``clean_psnr_from_repeat``, from the ``error_blocks`` of all slices, concatenated."""
    check_range(data_range)
    blocks = merged(blocks, MOST_UNITS)
    total, pixels = blocks.sum(axis=0)
    drawn = np.empty(draws)
    for i in range(draws):
        picked = blocks[rng.integers(len(blocks), size=len(blocks))].sum(axis=0)
        drawn[i] = picked[0] / picked[1]
    small, large = np.quantile(drawn, [0.025, 0.975])
    low, high = _decibel(large, data_range), _decibel(small, data_range)
    return _decibel(total / pixels, data_range), (low, high)


def check_repeat(hr: np.ndarray, hr_repeat: np.ndarray, bin_px: int = 4) -> None:
    """A second acquisition of the same field, with noise of its own; else InputError.

    A copy is recognised by a correlation of 1 (also after a change of gain and offset), another
    field by one below 0.3 after ``bin_px`` x ``bin_px`` binning, which leaves structure but
    little noise.
    """
    check_pair(hr_repeat, hr)
    if _correlation(hr, hr_repeat) > 1 - 1e-6:
        raise InputError(
            "the repeat is identical to the reference, its noise is not independent: "
            "give a second acquisition of the same field, or none"
        )
    similar = _correlation(_binned(hr, bin_px), _binned(hr_repeat, bin_px))
    if similar < 0.3:
        raise InputError(
            f"the repeat does not show the reference's field (correlation {similar:.2f} after "
            f"{bin_px} x {bin_px} binning, expected at least 0.3): give a second acquisition in "
            "register with the reference, or none"
        )


def _decibel(error: float, data_range: float) -> float | None:
    return psnr_from_error(float(error), data_range) if error > 0 else None


def merged(blocks: np.ndarray, at_most: int) -> np.ndarray:
    """``(block, 2)`` with at most ``at_most`` rows: runs of neighbouring blocks added up."""
    run = -(-len(blocks) // at_most)
    return np.add.reduceat(blocks, np.arange(0, len(blocks), run), axis=0)


def _binned(image: np.ndarray, px: int) -> np.ndarray:
    """Means of px x px pixels, what does not fill a bin cut off; small images stay as they are."""
    height, width = image.shape[-2:]
    if min(height, width) < 2 * px:
        return image
    cut = image[..., : height // px * px, : width // px * px].astype(np.float64)
    return cut.reshape(*image.shape[:-2], height // px, px, width // px, px).mean(axis=(-3, -1))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation; 0 where one of the two is constant."""
    a, b = (v.astype(np.float64) - v.mean(dtype=np.float64) for v in (a, b))
    scale = np.sqrt(np.vdot(a, a) * np.vdot(b, b))
    return float(np.vdot(a, b) / scale) if scale > 0 else 0.0
