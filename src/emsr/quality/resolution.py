"""Up to which detail two images agree: Fourier ring correlation (FRC).

Knows two arrays on one grid of square pixels and counts frequency in cycles per pixel. Refuses to
know which of the two is better: the FRC is symmetric, and blind to gain and offset.

Rings lie one cycle per shorter side apart: with n = min(y, x), ring k holds the Fourier pixels
whose distance from zero frequency rounds to k / n cycles per pixel, k = 0 ... n // 2 (Nyquist).
The corners beyond Nyquist are left out. The longer side of an oblong image is sampled more finely
and simply gives more pixels to each ring.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import fft

from emsr.errors import InputError
from emsr.quality.fidelity import check_pair

PERSISTENCE_RINGS = 3
"""Rings over which a curve must stay below a threshold, on average, to have crossed it; also the
lowest ring at which a crossing is believed."""


def frc(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Fourier ring correlation of ``(y, x)`` or ``(z, y, x)`` arrays: ``(ring,)`` in [-1, 1].

    Ring k covers spatial frequency k / (min(y, x) · pixel size). Each slice has its mean removed
    and a Hann window applied; ring sums are accumulated over slices before the division (Saxton
    and Baumeister, Journal of Microscopy 1982; van Heel 1987). Ring 0 of a square field holds the
    removed mean alone and is 1 by definition. Raises InputError for unequal shapes, NaN, fields
    under 4 pixels and constant images.
    """
    check_pair(image, other)
    planes = image.reshape(-1, *image.shape[-2:])
    others = other.reshape(planes.shape)
    for name, stack in (("first", planes), ("second", others)):
        if stack.min() == stack.max():
            raise InputError(f"the {name} image is constant ({stack.flat[0]}): it has no detail")
    sums = [ring_sums(a, b) for a, b in zip(planes, others, strict=True)]
    return frc_from_sums(np.sum(sums, axis=0))


def ring_sums(plane: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``(3, ring)`` sums over each ring of one ``(y, x)`` pair: cross term, and the two powers.

    Sums of several slices may be added before ``frc_from_sums``; that is what makes the FRC of a
    volume possible one slice at a time.
    """
    index, weight = _rings(plane.shape)
    count = min(plane.shape) // 2 + 1
    a, b = _spectrum(plane), _spectrum(other)
    terms = ((a * b.conj()).real, np.abs(a) ** 2, np.abs(b) ** 2)
    return np.stack(
        [np.bincount(index, (term * weight).ravel(), count + 1)[:count] for term in terms]
    )


def frc_from_sums(sums: np.ndarray) -> np.ndarray:
    """The curve ``(ring,)`` of added-up ``ring_sums``: 0 for a ring without power (ring 0: 1)."""
    cross, power, other_power = sums
    product = np.sqrt(power) * np.sqrt(other_power)
    curve = np.divide(cross, product, out=np.zeros_like(cross), where=product > 0)
    if product[0] == 0:
        curve[0] = 1.0
    return np.clip(curve, -1.0, 1.0)


def ring_frequencies(n_px: int) -> np.ndarray:
    """``(ring,)`` cycles per pixel, 0 to Nyquist, of a field whose shorter side is ``n_px``."""
    return np.arange(n_px // 2 + 1) / n_px


def ring_counts(shape: tuple[int, int]) -> np.ndarray:
    """``(ring,)`` Fourier pixels of the full plane in each ring of a ``(y, x)`` field."""
    index, weight = _rings(shape)
    count = min(shape) // 2 + 1
    per_pixel = np.broadcast_to(weight, (shape[0], shape[1] // 2 + 1)).ravel()
    return np.bincount(index, per_pixel, count + 1)[:count]


def ring_index(shape: tuple[int, int], rings: int) -> np.ndarray:
    """Ring of each Fourier pixel around zero frequency, which lies in the middle; -1 from ring
    ``rings`` on. Large enough to hold all rings below."""
    n_px = min(shape)
    sides = [min(-(-rings * n // n_px), n // 2) for n in shape]
    y, x = (np.arange(-side, side + 1) / n for side, n in zip(sides, shape, strict=True))
    index = np.rint(np.hypot(y[:, None], x[None, :]) * n_px).astype(np.intp)
    return np.where(index < rings, index, -1)


def frc_resolution_nm(
    curve: np.ndarray, n_px: int, pixel_nm: float, threshold: float | np.ndarray = 1 / 7
) -> float | None:
    """Size in nm of the finest detail with FRC above ``threshold`` (a number or ``(ring,)``).

    ``curve`` is ``(ring,)`` of a field whose shorter side has ``n_px`` pixels. The result is the
    period 1 / frequency at the first crossing, linearly interpolated between rings. None when the
    curve never crosses (the detail is 2 pixels or finer), when it crosses before ring 3 (too
    coarse for this field to say), or when there are too few rings; ``crossing_note`` tells which.

    Rings of few Fourier pixels scatter (``thresholds.independent``), so a single ring below the
    threshold is no crossing: it and the two after it must be below on average too.
    """
    ring = _crossing(curve, threshold)
    if ring is None or ring < PERSISTENCE_RINGS:
        return None
    return float(n_px * pixel_nm / ring)


def square_pixel_nm(
    spacing_nm: tuple[float, float, float] | None, unknown: str
) -> tuple[float | None, str]:
    """Side in nm of the pixels of slices, from a spacing (z, y, x) in nm. None, and why, where they
    are not square; ``unknown`` where no spacing is known."""
    if spacing_nm is None:
        return None, unknown
    _, y, x = spacing_nm
    if abs(y - x) > 0.01 * x:
        return None, f"pixels are not square (y {y:g} nm, x {x:g} nm): rings have no one size"
    return x, ""


def crossing_note(curve: np.ndarray, threshold: float | np.ndarray = 1 / 7) -> str | None:
    """Why ``frc_resolution_nm`` is None for this curve; None where it is a number."""
    if len(curve) <= PERSISTENCE_RINGS + 1:
        return f"{len(curve)} rings are too few for a resolution"
    ring = _crossing(curve, threshold)
    if ring is None:
        return "at Nyquist: the FRC stays above the threshold, detail is 2 pixels or finer"
    if ring < PERSISTENCE_RINGS:
        return "the FRC is below the threshold almost everywhere: no detail in common"
    return None


def _crossing(curve: np.ndarray, threshold: float | np.ndarray) -> float | None:
    """Ring, with fraction, at which the curve first falls below the threshold and stays there."""
    if len(curve) <= PERSISTENCE_RINGS + 1:
        return None
    above = np.asarray(curve, dtype=np.float64) - threshold
    for k in range(1, len(above)):
        if above[k] < 0 and above[k : k + PERSISTENCE_RINGS].mean() < 0:
            before = above[k - 1]
            # A dip that did not persist may end right here: then there is nothing to interpolate.
            return k - 1 + before / (before - above[k]) if before > 0 else float(k - 1)
    return None


@lru_cache(maxsize=2)
def _rings(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Ring of every pixel of the half plane, flat (one past the last for the corners), and how
    many pixels of the full plane each column of the half plane stands for."""
    height, width = shape
    if min(shape) < 4:
        raise InputError(f"the FRC needs at least 4 pixels along y and x, found (y, x) {shape}")
    n_px = min(shape)
    radius = np.hypot(fft.fftfreq(height)[:, None], fft.rfftfreq(width)[None, :])
    index = np.minimum(np.rint(radius * n_px).astype(np.intp), n_px // 2 + 1)
    weight = np.full(width // 2 + 1, 2.0)
    weight[0] = 1.0
    if width % 2 == 0:
        weight[-1] = 1.0
    return index.ravel(), weight


def _spectrum(plane: np.ndarray) -> np.ndarray:
    """Half-plane spectrum of a slice behind a Hann window, its zero frequency exactly 0."""
    # A periodic window: its zero sits on one edge only, and its own spectrum has three bins.
    y, x = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n) for n in plane.shape)
    window = y[:, None] * x[None, :]
    grey = plane.astype(np.float64)
    grey -= np.average(grey, weights=window)
    spectrum = fft.rfft2(grey * window)
    spectrum[0, 0] = 0
    return spectrum
