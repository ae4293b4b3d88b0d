"""Whether the differences between two images betray where tiles meet. Arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ERRORS = 3.0
"""Standard errors by which borders must stand out to be called a seam."""


@dataclass(frozen=True)
class Seam:
    """A statistic at the borders of tiles over that inside."""

    ratio: float
    errors: float
    """Standard errors by which the borders lie above the inside."""
    at_borders: float
    """The statistic there, in the unit of the difference."""

    @property
    def found(self) -> bool:
        return self.errors > ERRORS and self.ratio > 1


def seams(error: np.ndarray, period: int, step: int) -> tuple[Seam, Seam]:
    """Of a difference ``(y, x)`` with tile borders every ``period`` pixels: its size beside the
    borders, and its steps across them.

    Compared with what lies beside, and across, every other multiple of ``step``, where the network
    begins an LR pixel and a window of attention as it does at borders. Raises ValueError where the
    image has no border inside, or where borders lie between multiples of ``step``.
    """
    if period % step:
        raise ValueError(f"tile borders every {period} pixels, compared at multiples of {step}")
    size, jump = [], []
    for values in (error, error.T):
        beside, across = _profiles(values, step)
        at = np.arange(step, values.shape[0] - 1, step) % period == 0
        size.append((beside, at))
        jump.append((across, at))
    return _stands_out(size), _stands_out(jump)


def _profiles(error: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Along y, at every multiple of ``step``: mean size of the two rows that meet there, and of
    the step between them."""
    rows = np.arange(step, error.shape[0] - 1, step)
    above, below = error[rows - 1], error[rows]
    return (
        (np.abs(above) + np.abs(below)).mean(axis=1) / 2,
        np.abs(below - above).mean(axis=1),
    )


def _stands_out(profiles: list[tuple[np.ndarray, np.ndarray]]) -> Seam:
    """Borders against the inside, of both axes together, each divided by its inside's mean."""
    borders, insides, raw = [], [], []
    for values, at in profiles:
        inside = values[~at].mean()
        scaled = values / inside if inside > 0 else np.where(values > 0, np.inf, 1.0)
        raw.append(values[at])
        borders.append(scaled[at])
        insides.append(scaled[~at])
    border, inside = np.concatenate(borders), np.concatenate(insides)
    if not len(border):
        raise ValueError("no border of tiles lies inside the image: choose smaller tiles")
    ratio, size = float(border.mean()), float(np.concatenate(raw).mean())
    spread = float(inside.std(ddof=1) / np.sqrt(len(border)))
    if spread > 0:
        return Seam(ratio, (ratio - 1) / spread, size)
    return Seam(ratio, np.inf if ratio > 1 else 0.0, size)
