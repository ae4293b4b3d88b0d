"""How one noisy HR plane is made into two, and what speaks against believing it.

Knows which noise is split in which way (``recorrupt``), and where its level comes from. Does not
know what the two images are for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from emsr.errors import InputError
from emsr.microscope.estimate import Noise
from emsr.pairs.made_from import NOTABLE_CLIPPED, HrField, noise_of, sample_box
from emsr.pairs.noise import (
    NOTABLE_LAG_CORRELATION,
    WHITE,
    colour_of,
    lag_correlation,
    noise_numbers,
)
from emsr.pairs.recorrupt import recorrupt, thin
from emsr.pairs.scans import Request

SMOOTHING_PX = 1.5
"""Of the image from which the signal-dependent level of the noise is read."""
FEW_ELECTRONS = 20.0
"""Per pixel; below, recorruption biases the target by more than a tenth of the noise."""

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Splitter:
    """How one HR plane is made into two, and what is known about its noise."""

    noise: Noise
    excess: float
    """Variance of the input's noise beyond that of HR, as a share of it."""
    colour: np.ndarray
    deal: Callable[[np.ndarray, np.random.Generator], Pair]
    numbers: dict[str, Any]


def splitter_of(request: Request, field: HrField) -> Splitter:
    """The way that ``request.splitting`` asks for, at the level of noise that HR was found to have.
    InputError where that cannot be told."""
    planes = field.volume.read(sample_box(field.kept, field.shape))
    try:
        noise = noise_of(planes, field.volume.name, request.noise_sigma)
    except InputError as error:
        raise InputError(f"{error}; or give its level with --noise") from None
    if not noise.sigma > 0:
        raise InputError(
            f"{field.volume.name}: noise of {noise.sigma:g} grey levels leaves nothing to split: "
            f"use the strategy synthetic, or give the right level with --noise"
        )
    numbers = {
        **{f"hr_noise_{key}": value for key, value in noise_numbers(noise).items()},
        "hr_electrons": electrons_of(noise, field.mean),
    }
    if request.splitting.method == "thin":
        return _thinning(request, field, noise, numbers)
    return _recorruption(request.splitting.alpha, noise, numbers)


def _recorruption(alpha: float, noise: Noise, numbers: dict[str, Any]) -> Splitter:
    colour = colour_of(noise)

    def deal(plane: np.ndarray, rng: np.random.Generator) -> Pair:
        return recorrupt(plane, _sigma(plane, noise), alpha, rng, colour)

    return Splitter(noise, alpha**2, colour, deal, numbers)


def _sigma(plane: np.ndarray, noise: Noise) -> float | np.ndarray:
    """Standard deviation of the noise of a plane, pixel by pixel where it depends on the signal."""
    if noise.slope is None:
        return noise.sigma
    smooth = gaussian_filter(plane.astype(np.float32), SMOOTHING_PX)
    return np.sqrt(noise.variance(smooth)).astype(np.float32)


def _thinning(request: Request, field: HrField, noise: Noise, numbers: dict[str, Any]) -> Splitter:
    share = request.splitting.share
    gain, offset = _counting(request, field, noise)

    def deal(plane: np.ndarray, rng: np.random.Generator) -> Pair:
        return thin(plane, gain, offset, share, rng)

    counted = {"gain": gain, "offset": offset}
    return Splitter(noise, (1 - share) / share, WHITE, deal, numbers | counted)


def _counting(request: Request, field: HrField, noise: Noise) -> tuple[float, float]:
    """Gain and offset of the scan: the recipe's, or those that all its noise would have if it were
    Poisson noise."""
    if request.degradation.noise_gain:
        return request.degradation.noise_gain, request.degradation.noise_offset
    if not noise.slope or noise.intercept is None:
        raise InputError(
            f"{field.volume.name}: how the noise grows with the signal cannot be told, so the "
            f"electrons cannot be counted: give noise_gain and noise_offset in the recipe's "
            f"[degradation], or split by recorruption"
        )
    return float(noise.slope), float(-noise.intercept / noise.slope)


def electrons_of(noise: Noise, grey: float) -> float | None:
    """Electrons per pixel at a grey level, as if all noise were shot noise: at most so many, since
    read noise counts as electrons. Variance = gain^2 * electrons."""
    if not noise.slope:
        return None
    return float(noise.variance(grey) / noise.slope**2)


def doubts(splitter: Splitter, field: HrField, method: str) -> tuple[str, ...]:
    """What speaks against the assumption, for the user to hear."""
    found, name = [], field.volume.name
    lag = lag_correlation(splitter.noise)
    electrons = splitter.numbers["hr_electrons"]
    if abs(lag) > NOTABLE_LAG_CORRELATION:
        found.append(
            f"the noise of {name} is spatially correlated ({lag:.2f} between neighbouring pixels): "
            f"two images made from it share noise; take a second scan of the field (--strategy "
            f"synthetic --repeat) or, where adjacent slices have noise of their own, learn from "
            f"these (--strategy denoised --denoiser slices)"
        )
    elif method == "recorrupt" and electrons is not None and electrons < FEW_ELECTRONS:
        found.append(
            f"{name} counts at most {electrons:.0f} electrons per pixel, below {FEW_ELECTRONS:.0f} "
            f'recorruption is not exact: set method = "thin" in the recipe\'s [splitting]'
        )
    clipped = clipped_share(splitter, field)
    if clipped > NOTABLE_CLIPPED:
        found.append(
            f"{clipped:.1%} of the grey values of {name} lie at the ends of their range: "
            f"clipped noise can be split by neither method, the targets are biased there"
        )
    return tuple(found)


def clipped_share(splitter: Splitter, field: HrField) -> float:
    """Share of the grey values at the ends of the scan's range; where electrons are counted, those
    of pixels that none reached are as they should be."""
    gain, offset = (splitter.numbers.get(key) for key in ("gain", "offset"))
    return sum(
        share
        for value, share in field.ends
        if gain is None or offset is None or abs(value - offset) > abs(gain) / 2
    )
