"""What input and target know of one another's noise.

Training against noisy references is sound where the noise of the target is independent of that of
the input. Knows how to measure the white part of the noise of one image, the part that two images
share, and what degrading a noisy scan leaves behind. Knows nothing of files or strategies.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_gradient_magnitude

from emsr.microscope import stages
from emsr.microscope.estimate import Noise

FLAT_SHARE = 0.25
"""Share of the patches of an image that count as flat."""
PATCH_PX = 8
FLAT_SMOOTHING_PX = 1.5
DETAIL_REDUNDANCY = (35 / 18) ** 2
"""Pixels of the finest detail of white noise that count as one independent pixel: the sum of the
squared autocorrelation of (1, -2, 1), along y and x."""
WHITE = np.ones((1, 1), np.float32)
"""The colour of white noise: a kernel that leaves it as it is."""
LARGEST_WHITE_CORRELATION = 0.05
"""Of the noise of neighbouring pixels, up to which it counts as white."""
NOTABLE_NOISE_CORRELATION = 0.05
"""Of the noises of input and target, from which the user hears of it."""
NOTABLE_LAG_CORRELATION = 0.2
"""Of the noise of neighbouring pixels, beyond which three taps of colour are not trusted to make it
up: FIB-SEM has 0.4, SBEM 0.14."""
STRONGEST_CORRELATION = 0.7
"""Of neighbouring pixels, beyond which three taps cannot go (1 / sqrt(2))."""


def finest_detail(image: np.ndarray) -> np.ndarray:
    """Second differences along y and x of a (y, x) image: (y - 2, x - 2) float64.

    Scaled so that white noise keeps its standard deviation; smooth structure vanishes. Structure as
    fine as a pixel remains and counts as noise, noise that spreads over pixels is missed.
    Immerkaer, Computer Vision and Image Understanding 64 (1996) 300.
    """
    return np.diff(np.diff(image.astype(np.float64), 2, axis=0), 2, axis=1) / 6


def noise_moments(lr: np.ndarray, hr_mean: np.ndarray) -> np.ndarray:
    """Noise (variance of LR, variance of area-averaged HR, covariance) of one slice pair, in
    squared grey levels; both images (y, x) on the LR grid. Means over slices stay meaningful."""
    a, b = finest_detail(lr), finest_detail(hr_mean)
    return np.array([np.mean(a * a), np.mean(b * b), np.mean(a * b)])


def flat_noise_moments(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Noise (variance of ``image``, of ``other``, covariance) in the quarter of the 8 x 8 patches
    where ``image`` is flattest: there the finest detail is noise, which two images of one field do
    not share. Both (y, x) on one grid, one patch at least; squared grey levels.

    How flat a patch is, the gradient of the smoothed ``image`` alone says: what is chosen by one
    image does not bias its covariance with noise that is independent of it.
    """
    a, b = finest_detail(image), finest_detail(other)
    gradient = gaussian_gradient_magnitude(image.astype(np.float64), FLAT_SMOOTHING_PX)
    steepness = _patches(gradient[1:-1, 1:-1] ** 2)
    flat = steepness <= np.quantile(steepness, FLAT_SHARE)
    return np.array([_patches(product)[flat].mean() for product in (a * a, b * b, a * b)])


def _patches(image: np.ndarray) -> np.ndarray:
    """The mean of each whole patch of a (y, x) image."""
    y, x = (side // PATCH_PX * PATCH_PX for side in image.shape)
    blocks = image[:y, :x].reshape(y // PATCH_PX, PATCH_PX, x // PATCH_PX, PATCH_PX)
    return np.asarray(blocks.mean(axis=(1, 3)))


def noise_correlation(moments: np.ndarray) -> float | None:
    """Correlation in [-1, 1] from ``noise_moments``, an upper bound for that of the noise: the
    finest structure is common to both scans too. None where a scan has no fine detail at all."""
    lr, hr, shared = moments
    if min(lr, hr) <= 0:
        return None
    return float(np.clip(shared / np.sqrt(lr * hr), -1.0, 1.0))


@dataclass(frozen=True)
class Inheritance:
    """How one LR pixel, and the mean of the HR pixels that it covers, weigh the HR noise.

    Noise of an HR scan is ``colour`` * white noise; weighing HR pixels by w is weighing the white
    noise behind them by colour * w, so all variances are sums of squares, exactly.
    """

    kept: float
    """Variance of an LR pixel per variance of the HR noise: behind blur and sampling."""
    target: float
    """Variance of the mean over the LR pixel's area, per variance of the HR noise."""
    shared: float
    """Covariance of the two, per variance of the HR noise."""

    def correlation(self, hr_sigma: float, added_sigma: float) -> float:
        """Of an LR pixel's noise, to which white noise of ``added_sigma`` is added, with the mean
        noise of the HR pixels it covers; both widths in the grey levels of HR."""
        if hr_sigma <= 0:
            return 0.0
        lr_sigma = np.sqrt(hr_sigma**2 * self.kept + added_sigma**2)
        return float(hr_sigma * self.shared / (lr_sigma * np.sqrt(self.target)))


def inheritance(
    kernel: np.ndarray, scale: int, sampling: str, colour: np.ndarray = WHITE
) -> Inheritance:
    """What an LR scan inherits that is made from an HR scan by blur with the symmetric (k, k)
    ``kernel`` and by ``sampling`` "area" or "point"."""
    margin = kernel.shape[0] + colour.shape[0]
    area, pixel = (_pixel(scale, margin, kind) for kind in ("area", sampling))
    target = stages.blur(area, colour)
    seen = stages.blur(stages.blur(pixel, kernel), colour)
    sums = (np.sum(a * b, dtype=np.float64) for a, b in ((seen, seen), (target, target)))
    kept, of_target = (float(value) for value in sums)
    return Inheritance(kept, of_target, float(np.sum(seen * target, dtype=np.float64)))


def _pixel(scale: int, margin: int, sampling: str) -> np.ndarray:
    """How an LR pixel weighs the HR pixels of its area, with a margin of zeros: sampling is linear,
    so it is sampled impulse by impulse."""
    sample = stages.SAMPLINGS[sampling]
    impulses = np.eye(scale * scale, dtype=np.float32).reshape(-1, scale, scale)
    return np.pad(sample(impulses, scale).reshape(scale, scale), margin)


def noise_numbers(noise: Noise) -> dict[str, Any]:
    """What to remember of an estimate, as JSON can hold it."""
    numbers = {"sigma": noise.sigma, "slope": noise.slope, "intercept": noise.intercept}
    return {
        **{key: None if value is None else float(value) for key, value in numbers.items()},
        "correlation": noise.correlation,
        "method": noise.method,
        "notices": list(noise.notices),
    }


def lag_correlation(noise: Noise) -> float:
    """The larger, by its size, of the correlations with the next pixel along y and x; 0 where they
    are not known."""
    return max(noise.correlation or (0.0,), key=abs)


def colour_of(noise: Noise) -> np.ndarray:
    """The (k, k) kernel, of unit energy, that makes noise of that correlation of white noise."""
    if noise.correlation is None or abs(lag_correlation(noise)) <= LARGEST_WHITE_CORRELATION:
        return WHITE
    return colour_kernel(noise.correlation)


def colour_kernel(correlation: tuple[float, float]) -> np.ndarray:
    """The (3, 3) kernel of unit energy that gives white noise the ``correlation`` of neighbouring
    pixels along (y, x), each at most 0.7 to either side of 0.

    Three symmetric taps (a, 1, a) along each axis: correlation 2a / (1 + 2a^2) with the next pixel,
    a^2 / (1 + 2a^2) with the one after it, none beyond.
    """
    column, row = (_taps(r) for r in correlation)
    return np.outer(column, row).astype(np.float32)


def _taps(correlation: float) -> np.ndarray:
    r = float(np.clip(correlation, -STRONGEST_CORRELATION, STRONGEST_CORRELATION))
    a = (1 - np.sqrt(1 - 2 * r * r)) / (2 * r) if abs(r) > 1e-6 else r / 2
    taps = np.array([a, 1.0, a])
    return taps / np.sqrt(np.sum(taps**2))


def flat_correlation(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
) -> tuple[float | None, float]:
    """Correlation of the noise of two images of one field, and its standard error, over pairs of
    (y, x) planes on one grid: of their finest detail in flat patches.

    Structure as fine as a pixel counts as common noise, so of fine-grained specimens it is an upper
    bound. The error is that of independent white noise, whose second differences repeat in part
    what their neighbours say (Bartlett).
    """
    moments, pixels = [], 0
    for image, other in pairs:
        moments.append(flat_noise_moments(image, other))
        pixels += image.size
    error = np.sqrt(DETAIL_REDUNDANCY / (FLAT_SHARE * pixels))
    return noise_correlation(np.mean(moments, axis=0)), float(error)
