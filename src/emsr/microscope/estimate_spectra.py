"""Power of small overlapping blocks of an image by spatial frequency, where noise can be told from
structure: structure hardly reaches the highest frequencies, white noise does.

    |fy|
    0.5  .  .  y y y  .  .  C C      C    CORNER: both frequencies within 1/16 of Nyquist
         .  .  y y y  .  .  C C      d    DIAGONAL: next to it, where structure of the same
         .  .  .  .  d d d  .  .          direction still shows
         .  .  .  .  d d d  x  x     y x  EDGE_Y, EDGE_X: one frequency high, the other low
         low   .  .  .  .   x  x     low  LOW: how flat a block is
    0    low low  .  .  .   .  .     QUARTER (both above 0.3) and INNER, inside it, are to
         0           |fx|    0.5     noise known to be white what CORNER and DIAGONAL are to any

A block's Hann window spreads a frequency over two to either side, so what LOW says of a block is
independent of the noise at the others.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import scipy  # its parts are loaded when they are used
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]

SIDE_PX = 16
STRIDE_PX = 8
MOST_BLOCKS = 120_000
BINS = SIDE_PX // 2 + 1
"""Frequencies k / 16 cycles per pixel, k = 0 ... 8, along each axis; their signs are folded."""
DRAWN = 0.6
"""Share of equal neighbours beyond which a block shows a drawn area and not a scan."""

_FY, _FX = np.meshgrid(np.arange(BINS), np.arange(BINS), indexing="ij")
CORNER = (_FY >= 7) & (_FX >= 7)
DIAGONAL = (np.minimum(_FY, _FX) >= 4) & (np.maximum(_FY, _FX) <= 6)
QUARTER = np.minimum(_FY, _FX) >= 5
INNER = (np.minimum(_FY, _FX) >= 3) & (np.maximum(_FY, _FX) <= 4)
EDGE_Y = (_FY >= 7) & (_FX >= 2) & (_FX <= 4)
EDGE_X = EDGE_Y.T
LOW = (np.hypot(_FY, _FX) > 0.5) & (np.hypot(_FY, _FX) <= 2.4)
_ONCE = np.where(np.arange(BINS) % (SIDE_PX // 2) == 0, 1.0, 2.0)
_TIMES = np.outer(_ONCE, _ONCE)
"""How many frequencies of the full plane each folded one stands for."""


@dataclass(frozen=True)
class Blocks:
    """Blocks of one or more images.

    ``grey`` (n,) weighted means; ``power`` (n, 9, 9), of which white noise of variance v has the
    expectation v everywhere; ``clipped`` (n,) share of pixels at the limits of the grey scale;
    ``same`` (n,) share of pixels equal to the next.
    """

    grey: Floats
    power: NDArray[np.float32]
    clipped: Floats
    same: Floats

    @property
    def drawn(self) -> Marks:
        """``(n,)`` which blocks show a drawn area and not a scan: most neighbours are equal, and
        that is unusual (where noise is below rounding, it is not)."""
        return (self.same > DRAWN) & (np.median(self.same) < DRAWN / 2)

    def where(self, chosen: Marks) -> Blocks:
        """The chosen blocks."""
        return Blocks(
            self.grey[chosen], self.power[chosen], self.clipped[chosen], self.same[chosen]
        )

    def band(self, mask: Marks) -> Floats:
        """``(n,)`` mean power over the frequencies of a ``(9, 9)`` mask."""
        weights = np.where(mask, _TIMES, 0.0).ravel()
        return self.power.reshape(len(self.grey), -1) @ (weights / weights.sum())


def stride_for(pixels: int) -> int:
    """Pixels from block to block: they overlap by half, less where there would be too many."""
    return max(STRIDE_PX, int(np.ceil(np.sqrt(pixels / MOST_BLOCKS))))


def joined(parts: list[Blocks]) -> Blocks:
    """The blocks of several images as one."""
    names = [field.name for field in fields(Blocks)]
    return Blocks(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def blocks_of(detail: Floats, grey: Floats, clipped: Floats, same: Floats, stride: int) -> Blocks:
    """Blocks of one image ``detail`` (y, x), at the grey levels that ``grey`` shows there.

    ``clipped`` and ``same`` say of each pixel how much of it is at a limit of the grey scale, and
    equal to the next pixel. All of one shape, at least 16 pixels a side.
    """
    window = _window()
    weights = (window**2).ravel()
    cut = _cut(detail.astype(np.float32), stride)
    centred = cut - (cut @ weights)[:, None]
    power = _power(centred.reshape(-1, SIDE_PX, SIDE_PX), window)
    # In double precision: 16-bit greys have five digits before the point.
    level = _cut(grey, stride) @ weights.astype(np.float64)
    lost, alike = (_cut(mark, stride).mean(axis=1) for mark in (clipped, same))
    return Blocks(level, power, lost, alike)


def plane_mean(spectrum: Floats) -> float:
    """Mean of a folded ``(9, 9)`` spectrum over the full frequency plane: the variance."""
    return float(np.sum(spectrum * _TIMES) / _TIMES.sum())


def neighbour_correlation(spectrum: Floats) -> tuple[float, float]:
    """Correlation at a distance of one pixel along (y, x) of noise of this ``(9, 9)`` spectrum."""
    variance = plane_mean(spectrum)
    wave = np.cos(2 * np.pi * np.arange(BINS) / SIDE_PX)
    along_y = plane_mean(spectrum * wave[:, None]) / variance
    return along_y, plane_mean(spectrum * wave[None]) / variance


def median_spectrum(power: NDArray[np.float32]) -> Floats:
    """``(9, 9)`` typical power of blocks (n, 9, 9): the median, scaled to the mean that noise of
    this median has. A few blocks with structure do not move it."""
    return np.median(power, axis=0).astype(np.float64) / _MEDIAN_OF_NOISE


def _median_of_noise() -> Floats:
    """Median over mean of the power of white noise. Power is the mean of m squares of standard
    normal numbers: 4 inside, 2 on an axis (its mirror image is its own conjugate), 1 where both
    frequencies are real. Median of chi-square: Wilson and Hilferty, PNAS 17 (1931) 684."""
    real = np.where(np.arange(BINS) % (SIDE_PX // 2) == 0, 1, 2)
    degrees = np.outer(real, real)
    exact = {1: 0.4549, 2: 0.6931, 4: 0.8392}
    return np.vectorize(exact.__getitem__)(degrees)


_MEDIAN_OF_NOISE = _median_of_noise()


def _window() -> NDArray[np.float32]:
    hann = np.sin(np.pi * (np.arange(SIDE_PX) + 0.5) / SIDE_PX) ** 2
    window = np.outer(hann, hann)
    return (window / np.sqrt(np.sum(window**2))).astype(np.float32)


def _cut(plane: NDArray, stride: int) -> NDArray:
    """``(n, 256)`` pixels of each block."""
    blocks = sliding_window_view(plane, (SIDE_PX, SIDE_PX))[::stride, ::stride]
    return blocks.reshape(-1, SIDE_PX**2)


def _power(cut: NDArray[np.float32], window: NDArray[np.float32]) -> NDArray[np.float32]:
    """Folded power ``(n, 9, 9)`` of blocks ``(n, 16, 16)``."""
    spectrum = scipy.fft.rfft2(cut * window)
    power = spectrum.real**2 + spectrum.imag**2
    mirrored = power[:, -np.arange(BINS) % SIDE_PX]
    return (power[:, :BINS] + mirrored) / 2
