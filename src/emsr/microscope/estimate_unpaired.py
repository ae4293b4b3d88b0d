"""Blur of an LR scan against an HR scan of another field of the same tissue, from their spectra."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded when they are used
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from emsr.errors import InputError
from emsr.microscope.estimate_line import Floats
from emsr.microscope.estimate_model import Blur, Noise

SIDE_PX = 32
"""LR pixels along each side of the blocks whose spectra are averaged."""
WIDEST = 1.5
TISSUE_VARIES = 0.1
"""Share by which the power of a ring differs between fields of one tissue."""
NOISE_ERROR = 0.05
"""Share by which the power of the noise may be off."""
LOWEST = 2
"""First ring that counts: below, a block's window lets the mean grey in."""


def blur_from_spectra(
    lr: np.ndarray,
    hr: np.ndarray,
    scale: int,
    lr_noise: Noise,
    hr_noise: Noise,
    gain: float | None = None,
) -> Blur:
    """The round Gaussian that, followed by area sampling, gives HR ``(y, x)`` or ``(z, y, x)`` the
    radial power spectrum of LR, and the gain and offset of LR; both less their noise.

    The fields may differ (in size too), the tissue may not: what differs in it counts as blur or
    gain. ``gain`` is taken as known where it is given. InputError for fields under 32 LR pixels a
    side, and where nothing but noise is left.
    """
    low = _power(_slices(lr), SIDE_PX)
    high = _power(_slices(hr), SIDE_PX * scale) - _noise(SIDE_PX * scale, hr_noise)
    blocks = lr.size / SIDE_PX**2
    rings = _Rings.of(low, _noise(SIDE_PX, lr_noise), blocks)
    known = None if gain is None else gain**2

    def fit(width: float) -> tuple[float, float]:
        return rings.fit(rings.mean(_sampled(high, scale, width)), known)

    widths = np.linspace(0, WIDEST * scale, 31)
    best = int(np.argmin([fit(width)[0] for width in widths]))
    bounds = widths[max(best - 1, 0)], widths[min(best + 1, len(widths) - 1)]
    found = scipy.optimize.minimize_scalar(lambda s: fit(s)[0], bounds=bounds, method="bounded")
    width = float(found.x)
    found_gain = float(np.sqrt(max(fit(width)[1], 0.0)))
    if found_gain == 0:
        raise InputError("LR shows nothing but noise beside HR: give larger or better scans")
    return Blur(width, width, 0.0, found_gain, float(np.mean(lr) - found_gain * np.mean(hr)))


@dataclass(frozen=True)
class _Rings:
    """Power of LR by ring, ``seen``; that of its noise as estimated, ``noise``; and ``count``, how
    many independent values each ring has."""

    ring: NDArray[np.intp]
    seen: Floats
    noise: Floats
    count: Floats

    @classmethod
    def of(cls, seen: Floats, noise: Floats, blocks: float) -> _Rings:
        ring = _ring_of(SIDE_PX)
        size = np.bincount(ring).astype(np.float64)
        means = (np.bincount(ring, power.ravel()) / size for power in (seen, noise))
        # Real images have half as many independent values, and blocks overlap.
        return cls(ring, next(means), next(means), size * blocks / 4)

    def mean(self, power: Floats) -> Floats:
        """Mean of a ``(side, side)`` power over each ring."""
        return np.bincount(self.ring, power.ravel()) / np.bincount(self.ring)

    def fit(self, made: Floats, known: float | None = None) -> tuple[float, float]:
        """Misfit of ``seen`` to ``size * made + share * noise``, and the size, unless it is
        ``known``. The share is 1 but for the error of the noise's estimate."""
        chosen = np.arange(len(made)) >= LOWEST
        size, share = known or 1.0, 1.0
        for _ in range(6):
            model = np.abs(size * made) + self.noise
            error = np.sqrt(model**2 / self.count + (TISSUE_VARIES * size * made) ** 2)[chosen]
            columns = np.stack([made, self.noise], axis=1)[chosen] / error[:, None]
            prior = np.array([[0.0, 1 / NOISE_ERROR]])
            target = np.append(self.seen[chosen] / error, 1 / NOISE_ERROR)
            rows = np.vstack([columns, prior])
            if known is None:
                (size, share), *_ = np.linalg.lstsq(rows, target)
            else:
                rest = target - known * rows[:, 0]
                share = float(rows[:, 1] @ rest / (rows[:, 1] @ rows[:, 1]))
        residual = rows @ [size, share] - target
        return float(residual @ residual + 2 * np.log(error).sum()), float(size)


def _power(stack: np.ndarray, side: int) -> Floats:
    """``(side, side)`` mean power of Hann-windowed blocks, of white noise its variance."""
    if min(stack.shape[1:]) < side:
        raise InputError(
            f"an image of (z, y, x) {stack.shape} is too small for its blur: at least {side} x "
            f"{side} pixels are needed"
        )
    hann = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    window = np.outer(hann, hann)
    window /= np.sqrt(np.sum(window**2))
    total, count = np.zeros((side, side)), 0
    for plane in stack:
        # A row of blocks at a time: all of a large slice would fill the memory.
        for row in sliding_window_view(plane, (side, side))[:: side // 2, :: side // 2]:
            level = np.tensordot(row, window, 2) / window.sum()
            spectrum = scipy.fft.fft2((row - level[:, None, None]) * window)
            total += np.sum(spectrum.real**2 + spectrum.imag**2, axis=0)
            count += len(row)
    return total / count


def _noise(side: int, noise: Noise) -> Floats:
    """Power of the noise: flat, or that of noise whose correlation falls off exponentially."""
    wave = np.cos(2 * np.pi * scipy.fft.fftfreq(side))
    y, x = ((1 - r * r) / (1 - 2 * r * wave + r * r) for r in noise.neighbours)
    return noise.sigma**2 * np.outer(y, x)


def _sampled(power: Floats, scale: int, width: float) -> Floats:
    """Power of HR behind a Gaussian and area sampling: frequencies beyond LR's fold into it."""
    frequency = scipy.fft.fftfreq(power.shape[0])
    gaussian = np.exp(-2 * (np.pi * width * frequency) ** 2)
    offsets = np.arange(scale) - (scale - 1) / 2
    area = np.cos(2 * np.pi * np.outer(frequency, offsets)).mean(axis=1)
    passed = power * np.outer((gaussian * area) ** 2, (gaussian * area) ** 2)
    side = power.shape[0] // scale
    folded = passed.reshape(scale, side, scale, side).sum(axis=(0, 2))
    return folded / scale**2


def _ring_of(side: int) -> NDArray[np.intp]:
    """Ring of every frequency of a square plane, flat; the corners beyond Nyquist are one ring."""
    frequency = scipy.fft.fftfreq(side)
    ring = np.rint(np.hypot(frequency[:, None], frequency[None]) * side).astype(np.intp)
    return np.minimum(ring, side // 2).ravel()


def _slices(image: np.ndarray) -> np.ndarray:
    return image[None] if image.ndim == 2 else image
