"""The microscope, stage by stage, in the order in which an image comes about.

Each stage is a pure function of arrays and says its units. This module knows how an image is
formed; it does not know what is imaged (``tissue``), nor which settings a scan had (``scan``).

stain -> electron yield -> beam PSF -> sampling at the pixel size -> dose -> detector -> 8 or 16 bit
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy  # its parts are loaded when they are used
from numpy.typing import DTypeLike, NDArray

Image = NDArray[np.float32]


def electron_yield(stain: Image, resin: float, heavy: float) -> Image:
    """Signal electrons per beam electron from ``stain`` in [0, 1], linear in the stain.

    ``resin`` is the yield of bare resin, ``heavy`` that of the heaviest stain. Back-scattered
    electrons have ``heavy > resin``; the dark membranes of the usual SBEM display come from a
    negative detector gain (inverted contrast), bright myelin from a positive one.
    """
    return np.float32(resin) + np.float32(heavy - resin) * np.asarray(stain, np.float32)


def gaussian_kernel(sigma_a_px: float, sigma_b_px: float, angle_rad: float) -> Image:
    """A Gaussian PSF, ``(k, k)`` with k odd, sum 1, at least 4 standard deviations to each side.

    ``sigma_a_px`` is the width along the direction ``angle_rad`` (measured from +x towards +y),
    ``sigma_b_px`` the width across it, both in pixels. The Gaussian is sampled at pixel centres:
    its second moments are the stated ones to 3 % for widths from 0.6 px up; narrower ones tend to
    the unit impulse, which a width of zero gives exactly.
    """
    if min(sigma_a_px, sigma_b_px) < 0:
        raise ValueError(f"a PSF width is negative: {sigma_a_px}, {sigma_b_px} px")
    radius = int(np.ceil(4 * max(sigma_a_px, sigma_b_px)))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    along = x * np.cos(angle_rad) + y * np.sin(angle_rad)
    across = y * np.cos(angle_rad) - x * np.sin(angle_rad)
    tiny = 1e-3
    kernel = np.exp(
        -0.5 * ((along / max(sigma_a_px, tiny)) ** 2 + (across / max(sigma_b_px, tiny)) ** 2)
    )
    return (kernel / kernel.sum()).astype(np.float32)


def blur(image: Image, kernel: Image) -> Image:
    """``image`` ``(..., y, x)`` convolved in plane with a ``(k, k)`` PSF; float32, same shape.

    The edge pixel is repeated by reflection (d c b a | a b c d | d c b a), so a constant image
    stays constant. A kernel that is a product of a column and a row is applied as two passes.
    """
    image = np.asarray(image, np.float32)
    column, row = kernel.sum(axis=1), kernel.sum(axis=0)
    if np.allclose(np.outer(column, row), kernel, rtol=0, atol=1e-7):
        once = scipy.ndimage.convolve1d(image, column, axis=-2, mode="reflect")
        return scipy.ndimage.convolve1d(once, row, axis=-1, mode="reflect")
    full = kernel.reshape((1,) * (image.ndim - 2) + kernel.shape)
    return scipy.ndimage.convolve(image, full, mode="reflect")


def sample_area(image: Image, factor: int) -> Image:
    """``(..., y, x)`` to pixels ``factor`` times larger, each the mean of the area it covers.

    Pixel i covers the finer pixels ``factor * i`` to ``factor * i + factor - 1``; y and x must be
    multiples of ``factor``.
    """
    blocks = _blocks(image, factor)
    return blocks.mean(axis=(-3, -1), dtype=np.float32)


def sample_point(image: Image, factor: int) -> Image:
    """``(..., y, x)`` to pixels ``factor`` times larger, each the value at the centre of its area.

    For an even ``factor`` the centre lies between pixels and is the mean of the middle four.
    """
    blocks = _blocks(image, factor)
    low, high = (factor - 1) // 2, factor // 2 + 1
    return blocks[..., low:high, :, low:high].mean(axis=(-3, -1), dtype=np.float32)


SAMPLINGS: dict[str, Callable[[Image, int], Image]] = {"area": sample_area, "point": sample_point}
"""By the name that recipes give them."""


def shot_noise(electrons: Image, rng: np.random.Generator) -> Image:
    """Electrons counted where ``electrons`` are expected per pixel: Poisson, mean = variance."""
    return rng.poisson(electrons).astype(np.float32)


def detector(electrons: Image, gain: float, offset: float) -> Image:
    """Grey levels from electrons per pixel: ``offset + gain * electrons``.

    ``gain`` in grey levels per electron; negative inverts the contrast. ``offset`` in grey levels.
    """
    return np.float32(offset) + np.float32(gain) * np.asarray(electrons, np.float32)


def gaussian_noise(image: Image, sigma: float, rng: np.random.Generator) -> Image:
    """``image`` plus white Gaussian noise of standard deviation ``sigma`` (units of ``image``)."""
    noise = rng.standard_normal(np.shape(image), dtype=np.float32)
    return np.asarray(image, np.float32) + np.float32(sigma) * noise


def poisson_gaussian(
    expected: Image, gain: float, offset: float, read_noise: float, rng: np.random.Generator
) -> Image:
    """One exposure whose mean is ``expected`` grey levels: shot noise, detector, read noise.

    ``gain`` in grey levels per electron (not 0; negative inverts the contrast), ``offset`` the grey
    level without electrons, ``read_noise`` a standard deviation in grey levels. The variance is
    ``gain * (expected - offset) + read_noise**2``. No detector counts fewer than no electrons: what
    is expected beyond the offset is taken as the offset. Neither rounded nor clipped after.
    """
    # Double precision: where the noise hardly depends on the signal, the offset lies far away.
    electrons = np.maximum((np.asarray(expected, np.float64) - offset) / gain, 0)
    counted = offset + gain * rng.poisson(electrons).astype(np.float64)
    return gaussian_noise(counted.astype(np.float32), read_noise, rng)


def quantise(grey: Image, dtype: DTypeLike) -> NDArray[np.generic]:
    """Grey levels rounded (half to even) to unsigned integer ``dtype``; saturates, never wraps."""
    top = np.iinfo(dtype).max
    return np.clip(np.rint(grey), 0, top).astype(dtype)


def _blocks(image: Image, factor: int) -> Image:
    """A view ``(..., y / factor, factor, x / factor, factor)``."""
    *outer, y, x = np.shape(image)
    if y % factor or x % factor:
        raise ValueError(f"{y} x {x} pixels are not a multiple of the factor {factor}")
    return np.reshape(image, (*outer, y // factor, factor, x // factor, factor))
