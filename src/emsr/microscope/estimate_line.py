"""The line between variance and grey level: Poisson-Gaussian noise has one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 32
MOST_CLIPPED = 0.005
"""Share of clipped pixels beyond which a sample counts as clipped."""


@dataclass(frozen=True)
class Line:
    """``variance = slope * grey + intercept``; ``covariance`` (2, 2) of the two."""

    slope: float
    intercept: float
    covariance: Floats

    def at(self, grey: float) -> float:
        """The variance at one grey level."""
        return self.slope * grey + self.intercept

    def tells_slope(self, low: float, high: float, variance: float) -> bool:
        """Whether samples from ``low`` to ``high`` tell the slope: they span half a standard
        deviation of the noise, and its two standard errors change the variance by less than half
        over that span."""
        error = float(np.sqrt(max(self.covariance[0, 0], 0.0)))
        wide = variance > 0 and high - low > 0.5 * np.sqrt(variance)
        return wide and 2 * error * (high - low) <= 0.5 * variance


def least_squares(columns: Floats, target: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weighted least squares: coefficients (k,), and their covariance from the residuals (White,
    Econometrica 48 (1980) 817), which asks nothing of how the errors are distributed."""
    weighted = columns * weights[:, None]
    normal = np.linalg.pinv(weighted.T @ columns, hermitian=True)
    found = normal @ (weighted.T @ target)
    residual = weighted * (target - columns @ found)[:, None]
    return found, normal @ (residual.T @ residual) @ normal


def unclipped(grey: Floats, clipped: Floats, most_lost: float) -> NDArray[np.bool_]:
    """Which samples (n,) to measure noise in, from their ``grey`` level and ``clipped`` share.

    None at grey levels where more than ``most_lost`` of the samples are clipped: there noise itself
    reaches the limits, and leaving out only the clipped ones would keep those of little noise.
    Elsewhere what is clipped lies beside a bright or dark structure, and is left out by itself.
    """
    bin_ = _bins(grey)
    lost = clipped > MOST_CLIPPED
    share = np.bincount(bin_, lost) / np.maximum(np.bincount(bin_), 1)
    return (share <= most_lost)[bin_] & ~lost


def little_clipped(grey: Floats, clipped: Floats, most: float) -> NDArray[np.bool_]:
    """All samples at grey levels where at most ``most`` of the pixels are clipped: to choose among
    them by their own ``clipped`` share would keep those of little noise."""
    bin_ = _bins(grey)
    share = np.bincount(bin_, clipped) / np.maximum(np.bincount(bin_), 1)
    return (share <= most)[bin_]


def _bins(grey: Floats) -> NDArray[np.intp]:
    """In which of up to 32 equally full ranges of grey each sample (n,) lies, from 0."""
    edges = np.unique(np.quantile(grey, np.linspace(0, 1, BINS + 1)))
    return np.searchsorted(edges[1:-1], grey, side="right")


def variance_line(grey: Floats, squares: Floats) -> Line:
    """The line through ``squares`` (n,), each of which has the noise's variance for expectation,
    against ``grey`` (n,). Weighted by the inverse square of the line itself, fitted twice."""
    columns = np.stack([grey, np.ones_like(grey)], axis=1)
    weights = np.ones_like(grey)
    mean = max(float(squares.mean()), np.finfo(np.float64).tiny)
    for _ in range(3):
        found, covariance = least_squares(columns, squares, weights)
        weights = (np.maximum(columns @ found, 0.1 * mean) / mean) ** -2.0
    return Line(float(found[0]), float(found[1]), covariance)
