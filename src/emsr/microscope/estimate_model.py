"""The numbers that estimators give: the noise of a scan, the blur of an LR scan against HR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_VARIANCE = 1e-3
"""Share of ``sigma**2`` below which no grey level's variance is believed to lie."""
CORRELATION_ERROR = 0.1
"""By which a correlation read off flat patches may be wrong."""
ROUNDING = 1 / 12
"""Variance of rounding to whole grey levels."""


@dataclass(frozen=True)
class Noise:
    """Noise of a scan: variance at grey level g is ``slope * g + intercept`` (Poisson-Gaussian).

    Foi, Trimeche, Katkovnik and Egiazarian, IEEE Transactions on Image Processing 17 (2008) 1737.
    """

    sigma: float
    """Root mean square over the image, grey levels, rounding included."""
    slope: float | None
    """Detector gain in grey levels per electron; negative where the contrast is inverted; None
    where it cannot be told."""
    intercept: float | None
    """``read_noise**2 - gain * offset``, and ``rounding``; grey levels squared."""
    correlation: tuple[float, float] | None
    """Correlation of the noise with that of the next pixel along (y, x), in [-1, 1]."""
    method: str
    """"repeat", "adjacent slices" or "one image"."""
    notices: tuple[str, ...] = ()
    """What the user should hear: why a number is missing or not to be trusted."""
    covariance: tuple[float, float, float] | None = None
    """Variance of the slope, covariance, variance of the intercept: errors of the fitted line."""
    rounding: float = 0.0
    """Share of the variance that rounding to whole grey levels adds: 1/12 for integers, else 0."""

    @property
    def neighbours(self) -> tuple[float, float]:
        """``correlation`` where it is known and beyond the error of its estimate, else 0."""
        y, x = (r if abs(r) > CORRELATION_ERROR else 0.0 for r in self.correlation or (0.0, 0.0))
        return y, x

    def variance(self, grey: NDArray[Any] | float) -> NDArray[np.float64]:
        """Variance of the noise at the (noise-free) ``grey`` levels, of any shape; never below a
        small positive floor. ``sigma**2`` everywhere where the slope is not known."""
        grey = np.asarray(grey, np.float64)
        floor = max(SMALLEST_VARIANCE * self.sigma**2, np.finfo(np.float64).tiny)
        if self.slope is None or self.intercept is None:
            return np.full(grey.shape, max(self.sigma**2, floor))
        return np.maximum(self.slope * grey + self.intercept, floor)


def read_noise(noise: Noise, offset: float) -> float | None:
    """Standard deviation of the detector's own noise: that at ``offset``, the grey level without
    electrons, which no image of tissue shows and which must be known.

    None where the slope is not known, and where the line between variance and grey level is not
    certain enough at ``offset`` (the 95 % interval of the variance is wider than the variance).
    """
    if noise.slope is None or noise.intercept is None:
        return None
    variance = noise.slope * offset + noise.intercept - noise.rounding
    if noise.covariance is not None:
        a, ab, b = noise.covariance
        error = np.sqrt(max(a * offset**2 + 2 * ab * offset + b, 0.0))
        if 2 * 1.96 * error > variance:
            return None
    return float(np.sqrt(variance)) if variance > 0 else None


@dataclass(frozen=True)
class Blur:
    """Degradation from HR to LR: ``LR = gain * sampled(blurred(HR)) + offset``."""

    sigma_a_px: float
    """Gaussian width along ``angle_rad`` in HR pixels, as ``stages.gaussian_kernel``."""
    sigma_b_px: float
    """Gaussian width across it."""
    angle_rad: float
    gain: float
    offset: float

    @property
    def sigma_px(self) -> float:
        """Width of the round Gaussian with the same second moment, in HR pixels."""
        return float(np.sqrt((self.sigma_a_px**2 + self.sigma_b_px**2) / 2))
