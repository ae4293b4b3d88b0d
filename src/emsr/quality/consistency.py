"""Does an SR image explain the LR image it was made from? Degraded again it should equal the LR
image but for that image's noise: what is left is looked at in units of the noise.

    z = (LR - degraded SR) / sigma(degraded SR)

    power      local mean of z²: 1 where all that is left is the noise
    structure  local correlation of z with its four neighbours, beyond that of the noise itself: 0
    doubt      how many standard deviations the local mean of z lies from 0, as noise alone would
               scatter it: what finds inventions best (docs/trust.md)

Knows neither how an image is degraded nor how noise is told: both are handed in. Maps of a part
equal those of the whole from ``reach_px`` inside its edges on, except where the whole ends there
too. All in plane: arrays are ``(y, x)`` or ``(z, y, x)`` on the LR grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded when they are used
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Variance = Callable[[Floats], Floats]
"""Variance of the LR noise at (noise-free) LR grey levels."""

TRUNCATE = 3.0
_NEIGHBOURS = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True)
class Maps:
    """The maps of the module, float64, of the residual's shape."""

    power: Floats
    structure: Floats
    doubt: Floats


def normalised_residual(lr: NDArray, degraded: NDArray, variance: Variance) -> Floats:
    """z of the module: what ``degraded`` (SR on the LR grid and grey scale) leaves unexplained of
    ``lr``, in standard deviations of the noise. Arrays of one shape."""
    expected = np.asarray(degraded, np.float64)
    return np.asarray((np.asarray(lr, np.float64) - expected) / np.sqrt(variance(expected)))


def maps(
    z: Floats,
    window_px: float,
    doubt_px: float,
    correlation: tuple[float, float] = (0.0, 0.0),
) -> Maps:
    """The maps of a normalised residual ``z``.

    ``window_px`` is the standard deviation of the Gaussian window of power and structure,
    ``doubt_px`` that of doubt, in LR pixels. ``correlation`` is that of the noise with the next
    pixel along (y, x), taken to fall off exponentially.
    """
    power = _local_mean(z**2, window_px)
    shared = _local_mean(z * _neighbours(z), window_px)
    tiny = np.finfo(np.float64).tiny
    structure = shared / np.maximum(power, tiny) - float(np.mean(correlation))
    return Maps(power, structure, _doubt(z, doubt_px, correlation))


def reach_px(window_px: float, doubt_px: float) -> int:
    """LR pixels around a pixel that decide the values of its maps."""
    return max(_radius(window_px) + 1, _radius(doubt_px))


def _doubt(z: Floats, sigma_px: float, correlation: tuple[float, float]) -> Floats:
    """Size of the local sum as a multiple of the standard deviation that noise gives it."""
    kernel = _gaussian(sigma_px)
    alone = np.sqrt(_convolved(np.ones(z.shape), kernel**2))
    y, x = (_widened(kernel, r) for r in correlation)
    return np.asarray(np.abs(_convolved(z, kernel)) / (alone * np.sqrt(y * x)))


def _widened(kernel: Floats, correlation: float) -> float:
    """By how much correlation raises the variance of a weighted sum along one axis."""
    itself = np.correlate(kernel, kernel, "full")
    distance = np.abs(np.arange(len(itself)) - len(kernel) + 1)
    return float(itself @ np.power(correlation, distance) / (kernel @ kernel))


def _local_mean(values: Floats, sigma_px: float) -> Floats:
    """Gaussian mean of what there is: beyond the image there is nothing."""
    kernel = _gaussian(sigma_px)
    return _convolved(values, kernel) / _convolved(np.ones(values.shape), kernel)


def _neighbours(z: Floats) -> Floats:
    """Mean of the neighbours above, below, left and right that there are."""
    weights = _NEIGHBOURS.reshape((1,) * (z.ndim - 2) + (3, 3))
    count = scipy.ndimage.correlate(np.ones(z.shape), weights, mode="constant")
    return scipy.ndimage.correlate(z, weights, mode="constant") / np.maximum(count, 1)


def _convolved(values: Floats, kernel: Floats) -> Floats:
    once = scipy.ndimage.correlate1d(values, kernel, axis=-2, mode="constant")
    return scipy.ndimage.correlate1d(once, kernel, axis=-1, mode="constant")


def _gaussian(sigma_px: float) -> Floats:
    """A scale of 0 is the pixel alone."""
    radius = _radius(sigma_px)
    distance = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (distance / max(sigma_px, 1e-3)) ** 2)
    return np.asarray(kernel / kernel.sum())


def _radius(sigma_px: float) -> int:
    return int(np.ceil(TRUNCATE * sigma_px))
