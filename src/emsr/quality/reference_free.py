"""Two scans of one field: whether they are, how they lie to each other, and what they tell of SR.

Knows that two acquisitions share the clean image x and nothing else: HR = x + n1, HR2 = x + n2.
Refuses a "repeat" that is a copy or another field.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from emsr.errors import InputError
from emsr.quality.blocks import MOST_BLOCKS, block_sums, merged, side_for
from emsr.quality.clean import DRAWS, decibel
from emsr.quality.clean_error import levelled, two_scan_error, two_scan_terms
from emsr.quality.fidelity import check_pair, check_range

Interval = tuple[float | None, float | None]

SHIFTED_PX = 0.3
OTHER_CONTRAST = 0.05
OTHER_LEVEL = 0.05
"""Difference of the means, in standard deviations of the reference's greys."""
MOST_ALIKE = 0.95
"""Correlation of the finest detail: independent scans have 0.01 to 0.04, and 0.8 where noise is
hardly there (one grey level on the phantoms); a copy with one grey level of noise has 0.997."""
OTHER_SLICE = 0.02


def clean_psnr_from_repeat(
    sr: np.ndarray,
    hr: np.ndarray,
    hr_repeat: np.ndarray,
    data_range: float,
    rng: np.random.Generator,
    block_px: int | None = None,
    draws: int = DRAWS,
) -> tuple[float | None, Interval]:
    """Estimated PSNR in dB of ``sr`` against the clean image behind ``hr`` and ``hr_repeat``.

    Arrays ``(y, x)`` or ``(z, y, x)`` of one shape and grey scale. The interval holds 95 % of what
    noise may do to the estimate in this field, from a bootstrap over blocks of ``block_px`` x
    ``block_px`` pixels of one slice (by default 32, in small fields 16). The value is None where
    noise makes the estimated error zero or negative; an upper end of None means that no upper bound
    can be given. Raises InputError for unequal shapes, NaN, and a repeat that is a copy of ``hr``
    or not the same field.
    """
    check_pair(sr, hr)
    check_range(data_range)
    check_repeat(hr, hr_repeat)
    stacks = [a.astype(np.float64).reshape(-1, *a.shape[-2:]) for a in (sr, hr, hr_repeat)]
    slices, height, width = stacks[0].shape
    px = block_px or side_for((slices, height, width))
    blocks = [two_scan_terms(a, b, levelled(b, c), px) for a, b, c in zip(*stacks, strict=True)]
    few = merged(np.concatenate(blocks), MOST_BLOCKS)
    error, drawn = two_scan_error(few, rng, draws)
    small, large = np.quantile(drawn, [0.025, 0.975])
    return decibel(error, data_range), (decibel(large, data_range), decibel(small, data_range))


def error_blocks(sr: np.ndarray, hr: np.ndarray, hr_repeat: np.ndarray, px: int) -> np.ndarray:
    """``(block, 2)``: sum of (SR - HR)(SR - HR2) and number of pixels in each block of a slice."""
    sr = sr.astype(np.float64)
    planes = ((sr - hr) * (sr - hr_repeat), np.ones_like(sr))
    return np.stack([block_sums(plane, px).ravel() for plane in planes], axis=1)


def clean_psnr_from_blocks(
    blocks: np.ndarray, data_range: float, rng: np.random.Generator, draws: int = DRAWS
) -> tuple[float | None, Interval]:
    """PSNR in dB of the mean error of ``error_blocks`` ``(block, 2)``, and the 95 % interval of a
    bootstrap that draws whole blocks: it takes the field for one of many, so that the image's own
    variety widens it too. For terms in which nothing tells noise from image."""
    check_range(data_range)
    blocks = merged(blocks, MOST_BLOCKS)
    count = len(blocks)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=draws) @ blocks
    small, large = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    total, pixels = blocks.sum(axis=0)
    ends = decibel(large, data_range), decibel(small, data_range)
    return decibel(total / pixels, data_range), ends


def check_repeat(hr: np.ndarray, hr_repeat: np.ndarray, bin_px: int = 4) -> None:
    """A second acquisition of the same field, with noise of its own; else InputError.

    A copy is recognised by its finest detail, noise for the most part, with which it correlates
    by more than 0.95 (also after a change of gain and offset, or a little more noise), another
    field by a correlation below 0.3 after ``bin_px`` x ``bin_px`` binning, which leaves structure
    but little noise.
    """
    check_pair(hr_repeat, hr)
    alike = _correlation(_finest(hr), _finest(hr_repeat))
    if alike > MOST_ALIKE or _correlation(hr, hr_repeat) > 1 - 1e-6:
        raise InputError(
            f"the repeat is identical to the reference (correlation {alike:.3f} of their finest "
            "detail, of independent scans near 0), its noise is not independent: give a second "
            "acquisition of the same field, or none"
        )
    similar = _correlation(_binned(hr, bin_px), _binned(hr_repeat, bin_px))
    if similar < 0.3:
        raise InputError(
            f"the repeat does not show the reference's field (correlation {similar:.2f} after "
            f"{bin_px} x {bin_px} binning, expected at least 0.3): give a second acquisition in "
            "register with the reference, or none"
        )


def check_order(hr: np.ndarray, repeats: dict[int, np.ndarray], z: int, bin_px: int = 4) -> None:
    """InputError where slice ``z`` of the reference ``(y, x)`` is seen in another one of the
    ``repeats`` (by slice) better than in its own."""
    similar = {k: _correlation(_binned(hr, bin_px), _binned(r, bin_px)) for k, r in repeats.items()}
    best = max(similar, key=lambda k: similar[k])
    if similar[best] > similar[z] + OTHER_SLICE:
        raise InputError(
            f"slice {best} of the repeat shows slice {z} of the reference better (correlation "
            f"{similar[best]:.2f}) than its slice {z} does ({similar[z]:.2f}): give a repeat whose "
            "slices are in the reference's order, or none"
        )


@dataclass(frozen=True)
class Alike:
    """How a repeat differs from the reference: shift (y, x) in pixels by which its content lies
    further on, difference of the mean grey levels, and ratio of the structure's contrast;
    ``level`` is that difference over the standard deviation of the reference's greys. ``elsewhere``
    are slices that do not lie where the others do, each with how far (y, x) from them."""

    shift_px: tuple[float, float]
    offset: float
    contrast: float
    level: float = 0.0
    elsewhere: dict[int, tuple[float, float]] = field(default_factory=dict)


def compared(hr: np.ndarray, hr_repeat: np.ndarray, bin_px: int = 4) -> Alike:
    """Shift and greys of a repeat ``(y, x)`` against the reference.

    The shift is the peak of the cross-correlation (Guizar-Sicairos, Thurman and Fienup, Optics
    Letters 33 (2008) 156) behind a Hann window; the contrast is that of ``bin_px`` bins, smoothed.
    """
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in hr.shape))
    seen = []
    for image in (hr, hr_repeat):
        smooth = ndimage.gaussian_filter(image.astype(np.float64), 1.0)
        seen.append((smooth - smooth.mean()) * window)
    shift, _, _ = phase_cross_correlation(*seen, upsample_factor=20, normalization=None)
    a, b = (ndimage.gaussian_filter(_binned(image, bin_px), 1.0) for image in (hr, hr_repeat))
    y, x = (-float(s) for s in shift)
    offset = float(hr_repeat.mean() - hr.mean())
    return Alike((y, x), offset, float(b.std() / a.std()), offset / float(hr.std()))


def unlike(found: Alike) -> list[str]:
    """What the user should hear of a repeat that differs from the reference in more than noise."""
    told = []
    y, x = found.shift_px
    if np.hypot(y, x) > SHIFTED_PX:
        told.append(
            f"the repeat lies {y:+.1f} px along y and {x:+.1f} px along x beside the reference: "
            "bring the scans into register, their difference counts as noise and error alike"
        )
    if abs(found.contrast - 1) > OTHER_CONTRAST:
        told.append(
            f"the repeat has {found.contrast:.2f} times the reference's contrast: scores against "
            "the clean image take both for one signal"
        )
    if abs(found.level) > OTHER_LEVEL:
        told.append(
            f"the repeat's mean lies {found.offset:+.4g} grey levels beside the reference's: its "
            "slices are brought to the means of the reference's"
        )
    return told


def _finest(image: np.ndarray) -> np.ndarray:
    """Second differences along y and x, of at least 3 x 3 pixels."""
    return np.diff(np.diff(image.astype(np.float64), 2, axis=-1), 2, axis=-2)


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
