"""Blur of an LR scan against the HR scan of the same field, by least squares.

An LR pixel is seen as a weighted sum of HR pixels: a Gaussian, then the mean over the LR pixel's
area. Which Gaussian fits best follows from two tables, so that no image is ever filtered:

    c(d) = covariance of LR pixel i with the HR pixel d beyond its first one
    A(d) = covariance of HR pixels d apart, less that of their noise

LR = gain * sum w(d) HR(d) leaves var(LR) - (w.c)^2 / (w.A.w) unexplained, at the gain
w.c / w.A.w. Without the correction of A, noise of HR that LR does not share looks like detail that
LR has lost: the blur comes out too wide and the gain too small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded when they are used

from emsr.errors import InputError
from emsr.microscope import stages
from emsr.microscope.estimate_line import Floats
from emsr.microscope.estimate_model import Blur, Noise

WIDEST = 1.5
"""Widest blur looked for, in LR pixels."""
LEAST_EXPLAINED = 0.05
"""Share of the variance of LR that HR must explain: less than any two scans of one field share."""
OBLONG = 15.0
"""Least fall of the residual sum, in residual variances, that makes a blur oblong (chi-square of
two degrees of freedom: 1 in 1800, in white noise)."""

Widths = tuple[float, float, float]
"""Standard deviations along and across an angle (HR pixels), and the angle."""


@dataclass(frozen=True)
class _Tables:
    """``c`` over offsets from -margin to scale - 1 + margin, ``a`` over differences of such
    offsets (its zero in the middle), and the means of both scans."""

    scale: int
    margin: int
    c: Floats
    a: Floats
    lr_variance: float
    lr_mean: float
    hr_mean: float
    pixels: float
    """Of LR that count."""

    def fit(self, widths: Widths, shift: Floats) -> tuple[float, float]:
        """Explained variance of LR, and gain, for one blur and shift (y, x) in HR pixels."""
        weights = self._weights(widths)
        seen = float(np.sum(weights * scipy.ndimage.shift(self.c, -shift, order=3, mode="nearest")))
        itself = float(np.sum(_autocorrelation(weights) * self.a))
        if itself <= 0:
            return 0.0, 0.0
        return seen**2 / itself, seen / itself

    def _weights(self, widths: Widths) -> Floats:
        """How an LR pixel weighs the HR pixels around it."""
        side = self.scale + 2 * self.margin
        area = np.zeros((side, side), np.float32)
        area[self.margin : -self.margin, self.margin : -self.margin] = 1 / self.scale**2
        return stages.blur(area, stages.gaussian_kernel(*widths)).astype(np.float64)


def relative_blur(lr: np.ndarray, hr: np.ndarray, scale: int, hr_noise: Noise) -> Blur:
    """The Gaussian that, followed by area sampling, makes LR ``(y, x)`` or ``(z, y, x)`` from HR
    (y and x ``scale`` times as many), with the gain and offset of LR.

    The pair must be in register; one shift, of an HR pixel or two, is fitted along and not
    returned. ``hr_noise`` is the noise of HR. Widths under some 0.4 HR pixels cannot be told from
    none. InputError for grids that do not fit, fields too small for the widest blur looked for
    (1.5 LR pixels), and pairs without common structure.
    """
    tables = _tables(_slices(lr), _slices(hr), scale, hr_noise)
    widest = WIDEST * scale
    widths, shift = _best(tables, widest)
    explained, gain = tables.fit(widths, shift)
    if not explained > LEAST_EXPLAINED * tables.lr_variance:
        raise InputError(
            "LR and HR have next to nothing in common: give two scans of one field, in register"
        )
    return Blur(*widths, gain=gain, offset=tables.lr_mean - gain * tables.hr_mean)


def _best(tables: _Tables, widest: float) -> tuple[Widths, Floats]:
    """Widths and shift that explain most. A blur counts as round unless an oblong one leaves so
    much less unexplained that chance would hardly do it: two numbers more, ``OBLONG``."""
    rounds = np.linspace(0.1, widest, 24)
    start = max(rounds, key=lambda s: tables.fit((s, s, 0.0), np.zeros(2))[0])

    def round_widths(p: Floats) -> Widths:
        width = float(np.clip(p[0], 0, widest))
        return width, width, 0.0

    def unexplained(widths: Widths, shift: Floats) -> float:
        return tables.lr_variance - tables.fit(widths, shift)[0]

    one = _simplex(lambda p: unexplained(round_widths(p), p[1:]), [start, 0.0, 0.0], tables)
    first = [one[0], one[0], 0.0, *one[1:]]
    three = _simplex(lambda p: unexplained(_widths(p, widest), p[3:]), first, tables)
    left = unexplained(round_widths(one), one[1:])
    oblong = _widths(three, widest)
    less = unexplained(oblong, three[3:])
    if (left - less) * tables.pixels > OBLONG * less:
        return oblong, three[3:]
    return round_widths(one), one[1:]


def _simplex(loss: Callable[[Floats], float], start: list[float], tables: _Tables) -> Floats:
    """Nelder and Mead, Computer Journal 7 (1965) 308, twice: from far and from near."""
    best = np.array(start)
    for step in (0.4, 0.1):
        corners = np.vstack([best, best + step * np.eye(len(best))])
        best = scipy.optimize.minimize(
            lambda p: loss(p) / tables.lr_variance,
            best,
            method="Nelder-Mead",
            options={"xatol": 2e-3, "fatol": 1e-7, "initial_simplex": corners},
        ).x
    return best


def _widths(p: Floats, widest: float) -> Widths:
    """Widths and angle in [0, pi) of the covariance L L' with L = (p0 0 / p2 p1), rows y and x:
    round and narrow blurs are then nothing special."""
    lower = np.array([[p[0], 0.0], [p[2], p[1]]])
    variances, axes = np.linalg.eigh(lower @ lower.T)
    b, a = np.sqrt(np.clip(variances, 0, widest**2))
    y, x = axes[:, 1]
    return float(a), float(b), float(np.arctan2(y, x) % np.pi)


def _tables(lr: np.ndarray, hr: np.ndarray, scale: int, noise: Noise) -> _Tables:
    _check(lr, hr, scale)
    margin = int(np.ceil(4 * WIDEST * scale))
    window = _window(lr.shape[1:], scale, margin)
    parts = [_slice_tables(a, b, scale, margin, window) for a, b in zip(lr, hr, strict=True)]
    c, a, variance, lr_mean, hr_mean = (np.mean(part, axis=0) for part in zip(*parts, strict=True))
    a -= _noise(a.shape[0] // 2, noise)
    pixels = len(lr) / np.sum(window**2)
    return _Tables(scale, margin, c, a, variance, lr_mean, hr_mean, float(pixels))


def _slice_tables(
    lr: np.ndarray, hr: np.ndarray, scale: int, margin: int, window: Floats
) -> tuple[Floats, Floats, float, float, float]:
    """Tables of one slice pair; ``window`` weighs LR pixels and keeps clear of the edge."""
    lr, hr = lr.astype(np.float64), hr.astype(np.float64)
    fine = np.repeat(np.repeat(window, scale, 0), scale, 1) / scale**2
    lr_mean, hr_mean = np.sum(window * lr), np.sum(fine * hr)
    low, high = lr - lr_mean, hr - hr_mean
    spread = np.zeros(hr.shape)
    spread[::scale, ::scale] = window * low
    spectrum = scipy.fft.rfft2(high)
    c = _correlate(spread, spectrum, margin, scale - 1 + margin)
    reach = scale - 1 + 2 * margin
    a = _correlate(fine * high, spectrum, reach, reach)
    return c, a, float(np.sum(window * low**2)), float(lr_mean), float(hr_mean)


def _correlate(image: Floats, spectrum: Floats, before: int, after: int) -> Floats:
    """``sum_i image_i other_(i + d)`` for d from -before to after along both axes."""
    whole = scipy.fft.irfft2(scipy.fft.rfft2(image).conj() * spectrum, image.shape)
    index = np.arange(-before, after + 1)
    return whole[np.ix_(index % image.shape[0], index % image.shape[1])]


def _window(shape: tuple[int, ...], scale: int, margin: int) -> Floats:
    """Weights of LR pixels, of sum 1: none in the margin, then a smooth rise to the middle half."""
    clear = -(-2 * margin // scale)
    ramps = []
    for side in shape:
        inner = side - 2 * clear
        rise = np.clip(4 * (np.arange(inner) + 0.5) / inner, 0, 1)
        ramp = np.sin(np.pi / 2 * np.minimum(rise, rise[::-1])) ** 2
        ramps.append(np.pad(ramp, clear))
    window = np.outer(*ramps)
    return window / window.sum()


def _noise(reach: int, noise: Noise) -> Floats:
    """Autocovariance of HR's noise; falls off exponentially where neighbours share it."""
    distance = np.abs(np.arange(-reach, reach + 1))
    y, x = noise.neighbours
    return noise.sigma**2 * np.outer(np.power(y, distance), np.power(x, distance))


def _autocorrelation(weights: Floats) -> Floats:
    side = 2 * weights.shape[0] - 1
    power = np.abs(scipy.fft.rfft2(weights, (side, side))) ** 2
    return scipy.fft.fftshift(scipy.fft.irfft2(power, (side, side)))


def _slices(image: np.ndarray) -> np.ndarray:
    return image[None] if image.ndim == 2 else image


def _check(lr: np.ndarray, hr: np.ndarray, scale: int) -> None:
    (lz, ly, lx), (hz, hy, hx) = lr.shape, hr.shape
    if scale < 1 or (hz, hy, hx) != (lz, ly * scale, lx * scale):
        raise InputError(
            f"LR {lr.shape} and HR {hr.shape} (z, y, x) are not one field at scale {scale}: crop "
            "them to the same slices, and HR to LR times the scale"
        )
    smallest = 4 * int(np.ceil(4 * WIDEST)) + 8
    if min(ly, lx) < smallest:
        raise InputError(
            f"LR is {ly} x {lx}: blur needs at least {smallest} x {smallest} LR pixels"
        )
