"""SSIM against the unseen clean image, from noisy windows.

The reference enters SSIM through three moments of each 7 x 7 window: its mean, its covariance with
SR, and its variance. Independent noise leaves the first two right on average and adds its own
variance to the third; that is taken off with a repeated scan (covariance of the two scans) or the
variance of the noise. What is left is chance in the moments, and the mean of a ratio of chancy
numbers is not the ratio: windows alike in SR are therefore taken together, their variances drawn
towards their mean as far as noise explains their scatter (empirical Bayes), and what the mean of
such ratios is still off by is computed, for variances that are Gamma distributed, and taken off.

What remains is tabulated in docs/scores.md. Knows slices; refuses to know where noise comes from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from emsr.quality.fidelity import SSIM_WINDOW_PX

Floats = NDArray[np.float64]

K1, K2 = 0.01, 0.03
PIXELS = SSIM_WINDOW_PX**2
SAMPLE = PIXELS / (PIXELS - 1)
MARGIN = SSIM_WINDOW_PX // 2
DEGREES = PIXELS - 1
WINDOWS_A_BIN, MOST_BINS = 2000, 24
NOISE_PX = 31
"""Windows along y and x over which the variance of the noise is taken to be one."""
NODES, HERMITE = 64, 15


@dataclass(frozen=True)
class Windows:
    """Moments of all windows of a slice (y - 6, x - 6), variance and covariance of samples, and the
    noise in them: of ``variance`` its variance is ``steady + rising * clean variance``, and its
    covariance with that of twice ``covariance`` is ``shared * covariance``."""

    sr_mean: Floats
    mean: Floats
    sr_variance: Floats
    covariance: Floats
    variance: Floats
    steady: Floats
    rising: Floats
    shared: Floats


def windows_of_repeat(sr: Floats, hr: Floats, repeat: Floats) -> Windows:
    """Moments against the clean image behind two scans; their noises may differ in size."""
    both = _covariance(hr, repeat)
    first, second = (np.maximum(_smooth(_covariance(a, a) - both), 0) for a in (hr, repeat))
    steady, rising = first * second / DEGREES, (first + second) / DEGREES
    return Windows(*_plain(sr, (hr + repeat) / 2), both, steady, rising, rising)


def windows_of_one(sr: Floats, hr: Floats, noise_variance: Floats) -> Windows:
    """Moments against the clean image behind one scan, whose white noise has ``noise_variance`` at
    each pixel ``(y, x)``."""
    added = _mean(noise_variance)
    steady, rising = 2 * added**2 / DEGREES, 4 * added / DEGREES
    return Windows(*_plain(sr, hr), _covariance(hr, hr) - added, steady, rising, rising)


@dataclass(frozen=True)
class Map:
    """Estimated SSIM of every window (y - 6, x - 6), and how it changes with the window's
    covariance and variance, which is how noise gets into it."""

    value: Floats
    by_covariance: Floats
    by_variance: Floats


def clean_map(windows: Windows, data_range: float) -> Map:
    """SSIM of each window of a slice against the clean image: right on average, not one by one.

    Wang, Bovik, Sheikh and Simoncelli, IEEE Transactions on Image Processing 13 (2004) 600, with
    scikit-image's window and constants.
    """
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    a, b = windows.sr_mean, windows.mean
    luminance = (2 * a * b + c1) / (a**2 + b**2 + c1)
    top = 2 * windows.covariance + c2
    value, below = np.empty(top.size), np.empty(top.size)
    order = np.argsort(windows.sr_variance, axis=None, kind="stable")
    count = int(np.clip(order.size // WINDOWS_A_BIN, 1, MOST_BINS))
    for some in np.array_split(order, count):
        value[some], below[some] = _alike(windows, some, c2)
    ratio, under = value.reshape(top.shape), below.reshape(top.shape)
    return Map(luminance * ratio, 2 * luminance / under, -luminance * top / under**2)


def _alike(windows: Windows, some: NDArray[np.intp], c2: float) -> tuple[Floats, Floats]:
    """Estimates of some windows that are alike in SR, and the denominators they rest on."""
    certain, covariance, variance, steady, rising, shared = (
        v.ravel()[some]
        for v in (
            windows.sr_variance + c2,
            windows.covariance,
            windows.variance,
            windows.steady,
            windows.rising,
            windows.shared,
        )
    )
    top, mean = 2 * covariance + c2, max(float(variance.mean()), 0.0)
    line = steady.mean(), rising.mean()
    noise = line[0] + line[1] * mean
    common = float(shared.mean() * covariance.mean())
    spread = max(float(variance.var()) - noise, 0.0)
    slope = (float(np.cov(variance, top)[0, 1]) - common) / spread if spread > 0 else 0.0
    share = spread / (spread + noise) if spread > 0 else 0.0
    below = certain + np.maximum(mean + share * (variance - mean), 0)
    cell = _Cell(float(certain.mean()), float(top.mean()), mean, spread, slope, line, common, share)
    return top / below + cell.correction(), below


@dataclass(frozen=True)
class _Cell:
    """What is known of windows alike in SR: ``top / (certain + variance)`` is wanted, where the
    variance has ``mean`` and ``spread``, and ``top`` rises along it with ``slope``; its noise has a
    variance on a ``line``, and the covariance ``common`` with that of ``top``."""

    certain: float
    top: float
    mean: float
    spread: float
    slope: float
    line: tuple[float, float]
    common: float
    share: float

    def correction(self) -> float:
        """What the mean of ratios with noise lacks of that without, if the variances are Gamma
        distributed and their noise is normal."""
        if self.mean <= 0:
            return 0.0
        clean: Floats = np.array([self.mean])
        if self.spread > 1e-6 * self.mean**2:
            shape = self.mean**2 / self.spread
            clean = stats.gamma.ppf((np.arange(NODES) + 0.5) / NODES, shape) * self.mean / shape
        top = self.top + self.slope * (clean - clean.mean())
        wanted = np.mean(top / (self.certain + clean))
        size = np.sqrt(self.line[0] + self.line[1] * clean)
        step, weight = np.polynomial.hermite_e.hermegauss(HERMITE)
        noise = size[:, None] * step
        drawn = self.mean + self.share * (clean[:, None] + noise - self.mean)
        lean = self.common / np.mean(size**2) if size.any() else 0.0
        found = (top[:, None] + lean * noise) / (self.certain + np.maximum(drawn, 0))
        return float(wanted - np.mean(found @ weight) / weight.sum())


def noise_in_sum(found: Map, sr: Floats, hr: Floats, repeat: Floats) -> Floats:
    """``(y, x)`` terms whose sum scatters as the noise of the two scans makes ``found.value``'s sum
    scatter: the difference of the scans, which holds as much noise and no image, put in the
    place of their sum. What one pixel does to all its windows is counted at the pixel."""
    difference = hr - repeat
    both = (hr + repeat) / 2
    half = _adjoint(found.by_covariance, sr) / 2
    return difference * (half + _adjoint(found.by_variance, both))


def noise_variance_of_sum(found: Map, sr: Floats, noise_variance: Floats) -> Floats:
    """``(y, x)`` variances that sum to that of ``found.value``'s sum, for one scan with normal
    white noise of ``noise_variance``; SR stands for the clean image, which is not known."""
    linear = _adjoint(found.by_covariance, sr) + 2 * _adjoint(found.by_variance, sr)
    square = _spread(found.by_variance) * SAMPLE
    return noise_variance * linear**2 + 2 * (noise_variance * square) ** 2


def _plain(sr: Floats, hr: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Both means, SR's variance, and the covariance."""
    return _mean(sr), _mean(hr), _covariance(sr, sr), _covariance(sr, hr)


def _smooth(windows: Floats) -> Floats:
    return ndimage.uniform_filter(windows, NOISE_PX)


def _mean(plane: Floats) -> Floats:
    """Of every window that lies inside the slice."""
    every = ndimage.uniform_filter(plane, SSIM_WINDOW_PX)
    return every[MARGIN:-MARGIN, MARGIN:-MARGIN]


def _covariance(a: Floats, b: Floats) -> Floats:
    # About the slice's own means: large grey levels would eat the digits of the squares.
    a, b = a - a.mean(), b - b.mean()
    return SAMPLE * (_mean(a * b) - _mean(a) * _mean(b))


def _spread(weights: Floats) -> Floats:
    """``(y, x)`` sum of the weights of the windows that hold each pixel, over pixels a window."""
    return ndimage.uniform_filter(np.pad(weights, MARGIN), SSIM_WINDOW_PX, mode="constant")


def _adjoint(weights: Floats, image: Floats) -> Floats:
    """``(y, x)`` g with sum g n = sum over windows of weight x covariance(image, n), for any n."""
    image = image - image.mean()
    return SAMPLE * (image * _spread(weights) - _spread(weights * _mean(image)))
