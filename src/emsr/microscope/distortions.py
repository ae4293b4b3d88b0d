"""What goes wrong during a frame: drift, line jitter, charging. Each does nothing at zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]


def drift(image: Image, movement_px: tuple[float, float]) -> Image:
    """``image`` (y, x) of a specimen that moves steadily by ``movement_px`` (y, x) in one frame.

    The first line is where it was, the last one displaced by the whole movement.
    """
    if not any(movement_px):
        return image
    height, width = image.shape
    progress = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    where = [y - progress * movement_px[0], x - progress * movement_px[1]]
    return ndimage.map_coordinates(image, where, order=1, mode="reflect")


def line_jitter(
    image: Image, sigma_px: float, rows_per_line: int, rng: np.random.Generator
) -> Image:
    """Each scan line of ``rows_per_line`` rows shifted along x by its own normal amount, of
    standard deviation ``sigma_px``."""
    if not sigma_px:
        return image
    height, width = image.shape
    shift = rng.normal(0, sigma_px, -(-height // rows_per_line)).astype(np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    where = [y, x - np.repeat(shift, rows_per_line)[:height, None]]
    return ndimage.map_coordinates(image, where, order=1, mode="reflect")


def charging(electrons: Image, strength: float, rng: np.random.Generator) -> Image:
    """Bright streaks that follow the fast scan direction (x), a few lines high.

    ``strength`` is the height of a typical streak as a share of the mean of ``electrons``.
    """
    if not strength:
        return electrons
    sparse = np.maximum(rng.standard_normal(electrons.shape, dtype=np.float32) - 3, 0)
    streaks = ndimage.gaussian_filter1d(sparse, 1.5, axis=0)
    streaks = ndimage.uniform_filter1d(streaks, max(electrons.shape[1] // 4, 1), axis=1)
    top = max(float(streaks.max()), 1e-6)
    return electrons + np.float32(strength * electrons.mean() / top) * streaks
