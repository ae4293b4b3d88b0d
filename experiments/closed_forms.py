"""What a loss learns from references that break its assumptions: docs/theory.md as functions.

Grey levels throughout. ``mean`` and ``median`` are those of the clean pixel x given the input;
``spread`` is the standard deviation of x given the input, 0 where the input determines x. Knows no
network and no random numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

Grey = NDArray[np.floating]


def median_under_noise(median: Grey, mean: Grey, spread: float, sigma: ArrayLike) -> Grey:
    """The median of x + n for symmetric n of standard deviation ``sigma``, to first order in the
    skew of x: noise moves the median of x towards its mean."""
    variance = spread**2 + np.square(sigma)
    return np.asarray(mean + (median - mean) * (spread**2 / variance))


def clipped_mean(mean: ArrayLike, sigma: float, low: float, high: float) -> Grey:
    """E[clip(X, low, high)] of X normal with ``mean`` and ``sigma`` > 0. Noise on a spread x that
    is normal too has ``sigma`` = hypot(noise, spread)."""
    mean = np.asarray(mean, np.float64)
    a, b = (low - mean) / sigma, (high - mean) / sigma
    inside = mean * (norm.cdf(b) - norm.cdf(a)) + sigma * (norm.pdf(a) - norm.pdf(b))
    return np.asarray(low * norm.cdf(a) + high * norm.sf(b) + inside)


def clipped_median(median: ArrayLike, low: float, high: float) -> Grey:
    """The median of clip(X, low, high), for any law of X: a rising map moves the median along."""
    return np.clip(np.asarray(median, np.float64), low, high)


def impulse_mean(mean: ArrayLike, share: float, value: float) -> Grey:
    """The mean where a ``share`` of pixels, whatever they show, is replaced by ``value``."""
    return np.asarray((1 - share) * np.asarray(mean, np.float64) + share * value)


def impulse_median(median: ArrayLike, spread: ArrayLike, share: float) -> Grey:
    """The median where a ``share`` < 1/2 is replaced by a value above all x, for normal x given
    the input: its quantile at 1 / (2 (1 - share)), and x itself where the input determines x."""
    return np.asarray(
        np.asarray(median, np.float64) + np.asarray(spread) * norm.ppf(0.5 / (1 - share))
    )


def poisson_median_shift(
    signal: ArrayLike, gain: float, read_noise: float, spread: ArrayLike
) -> Grey:
    """Median minus mean of gain * Poisson(signal / gain) + read noise, to first order in the skew:
    -k3 / (6 k2), the cumulants those of x and noise together.

    ``signal`` is the expected grey level above the detector's offset, of the sign of ``gain``.
    Without spread and read noise that is -gain / 6; where the spread of x outweighs the noise it is
    -gain / 2, because pixels of more electrons are noisier, which is a skew too.
    """
    signal, variance = np.asarray(signal, np.float64), np.square(spread)
    second = gain * signal + read_noise**2 + variance
    third = gain**2 * signal + 3 * gain * variance
    return np.asarray(-third / (6 * second))


def shared_noise_mean(mean: Grey, lr: Grey, share: float) -> Grey:
    """E[x~ | y] of references (..., s*y, s*x) whose white Gaussian noise is also in the input.

    The input ``lr`` (..., y, x) is the area mean of the noisy reference plus white Gaussian noise;
    ``share`` of the input's noise variance comes from the reference. Any law of x: E[n | y] is
    ``share`` of what the input has left over, y - A E[x|y], on every HR pixel of its area.
    """
    scale = mean.shape[-1] // lr.shape[-1]
    *outer, y, x = lr.shape
    area = mean.reshape(*outer, y, scale, x, scale).mean(axis=(-3, -1))
    left = share * (lr - area)
    return np.asarray(mean + left.repeat(scale, axis=-2).repeat(scale, axis=-1))


def rounded_normal_kernel(sigma_px: float, reach_px: int) -> Grey:
    """The law (k, k), k = 2 reach + 1, of a shift along y and x: normal, rounded to whole pixels
    and held to ``reach_px``."""
    edges = np.concatenate([[-np.inf], np.arange(-reach_px, reach_px) + 0.5, [np.inf]])
    line = np.diff(norm.cdf(edges / sigma_px))
    return np.asarray(np.outer(line, line))
