"""What goes wrong during a frame: drift, line jitter, charging. Each does nothing at zero.

``Unrest`` says how they grow with time and dose: both are what HR takes more of than LR.
"""

from __future__ import annotations

from dataclasses import dataclass

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

    ``strength`` is the height of the highest streak as a share of the mean of ``electrons``.
    """
    if not strength:
        return electrons
    sparse = np.maximum(rng.standard_normal(electrons.shape, dtype=np.float32) - 3, 0)
    streaks = ndimage.gaussian_filter1d(sparse, 1.5, axis=0)
    streaks = ndimage.uniform_filter1d(streaks, max(electrons.shape[1] // 4, 1), axis=1)
    top = max(float(streaks.max()), 1e-6)
    return electrons + np.float32(strength * electrons.mean() / top) * streaks


@dataclass(frozen=True)
class Frame:
    """What one frame costs the specimen: its time, and its dose."""

    seconds: float
    electrons_per_nm2: float


def frame(shape: tuple[int, int], pixel_nm: float, electrons: float, per_second: float) -> Frame:
    """The frame of (y, x) ``shape`` pixels of side ``pixel_nm`` with so many ``electrons`` each,
    from a beam that delivers ``per_second`` of them."""
    seconds = shape[0] * shape[1] * electrons / per_second
    return Frame(seconds, electrons / pixel_nm**2)


@dataclass(frozen=True)
class Unrest:
    """How much a specimen moves per second and charges per dose; linear in both, so that a frame
    of no time and no dose is undisturbed."""

    drift_nm_per_s: float = 0.0
    charging_nm2: float = 0.0
    """Height of the highest streak, as a share of the mean signal, per electron per nm²."""

    def drift_px(self, taken: Frame, angle_rad: float, pixel_nm: float) -> tuple[float, float]:
        """Movement (y, x) during a frame, towards ``angle_rad`` (from +x to +y), in pixels."""
        length = self.drift_nm_per_s * taken.seconds / pixel_nm
        return float(length * np.sin(angle_rad)), float(length * np.cos(angle_rad))

    def charging(self, taken: Frame) -> float:
        """Height of the highest streak of a frame, as a share of the mean signal."""
        return self.charging_nm2 * taken.electrons_per_nm2
