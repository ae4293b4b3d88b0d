"""What cleaning did to a scan, judged by a second scan of its field.

Knows a noisy scan HR = x + n1, its cleaned version OUT (made from HR, so of one noise with it) and
a second scan HR2 = x + n2 that OUT knows nothing of. Then, n2 being of mean zero,

    E (OUT - HR2)^2 = E (OUT - x)^2 + var n2,      var n2 = E (HR - HR2)^2 / 2,

the latter where both scans are equally noisy. The estimate from (OUT - HR)(OUT - HR2) in
``reference_free`` does not hold here. Refuses to know what cleaned it.
"""

from __future__ import annotations

import numpy as np

from emsr.quality.fidelity import check_pair
from emsr.quality.reference_free import Interval, check_repeat, clean_psnr_from_blocks, error_blocks

UNEQUAL = 1.1
"""Ratio of the noise variances of two scans from which on they do not count as equally noisy."""


def cleaned_psnr(
    out: np.ndarray,
    hr: np.ndarray,
    repeat: np.ndarray,
    data_range: float,
    rng: np.random.Generator,
    block_px: int = 32,
) -> tuple[float | None, Interval]:
    """Estimated PSNR in dB of ``out`` (or of ``hr`` itself) against the clean image behind ``hr``
    and ``repeat``, and its 95 % interval (a bootstrap over blocks, as ``clean_psnr_from_repeat``).

    Arrays ``(z, y, x)`` of one shape and grey scale. None where the estimated error is not
    positive. InputError for unequal shapes, NaN, and a repeat that is a copy or another field.
    """
    check_pair(out, hr)
    check_repeat(hr, repeat)
    blocks = []
    for made, first, second in zip(out, hr, repeat, strict=True):
        error, noise = (error_blocks(a, second, second, block_px) for a in (made, first))
        blocks.append(error - noise * [0.5, 0.0])
    return clean_psnr_from_blocks(np.concatenate(blocks), data_range, rng)


def noise_ratio(hr: np.ndarray, repeat: np.ndarray) -> float:
    """Noise variance of ``hr`` over that of ``repeat`` (z, y, x), from what they do not share of
    the finest detail; 1 where the two are equally noisy and of equal greys."""
    shared = np.mean(_finest(hr) * _finest(repeat))
    own, other = (float(np.mean(_finest(scan) ** 2) - shared) for scan in (hr, repeat))
    return own / other if min(own, other) > 0 else float("inf")


def _finest(stack: np.ndarray) -> np.ndarray:
    """Differences along y of differences along x."""
    return np.diff(np.diff(stack.astype(np.float64), axis=-1), axis=-2)
