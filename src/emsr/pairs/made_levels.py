"""How much noise to add so that an LR scan made from a noisy HR scan is as noisy as a real one.

Variances of Poisson-Gaussian noise are straight lines over the grey level; lines are added and
subtracted. Knows no images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emsr.microscope.estimate import Noise

LEVEL = 1e-3
"""Change of the variance over the greys, as a share of it, up to which a line counts as level."""


@dataclass(frozen=True)
class Level:
    """Variance ``slope * g + intercept`` (grey levels squared) of noise at grey level g."""

    slope: float
    intercept: float

    def at(self, grey: float) -> float:
        """The variance at ``grey``; negative where the line is."""
        return self.slope * grey + self.intercept

    def times(self, factor: float) -> Level:
        return Level(factor * self.slope, factor * self.intercept)

    def minus(self, other: Level) -> Level:
        return Level(self.slope - other.slope, self.intercept - other.intercept)


@dataclass(frozen=True)
class Added:
    """Noise to be added, in grey levels: Poisson noise of ``gain`` per electron above ``offset``
    (none where ``gain`` is 0), and Gaussian noise of ``sigma``."""

    gain: float
    offset: float
    sigma: float


def level_of(noise: Noise) -> Level:
    """The line that an estimate stands for; level where the slope is not known."""
    if noise.slope is None or noise.intercept is None:
        return Level(0.0, noise.sigma**2)
    return Level(noise.slope, noise.intercept)


def left_behind(hr: Level, kept: float, gain: float, offset: float) -> Level:
    """Of the noise ``hr`` of an HR scan, what an LR scan made from it carries, in LR grey levels.

    ``kept`` is the share of the variance that blur and sampling leave; LR = gain * HR + offset.
    """
    slope = gain * kept * hr.slope
    return Level(slope, gain**2 * kept * hr.intercept - slope * offset)


def realised(wanted: Level, low: float, high: float, middle: float) -> Added:
    """Noise whose variance is ``wanted`` between the grey levels ``low`` and ``high``.

    All of it is Poisson noise, its offset where the variance is 0, if that lies outside the greys;
    otherwise (and where the line is level) Gaussian noise of the variance at ``middle``, and none
    where that is negative. An image says the variance, not which part of it is read noise.
    """
    ends = wanted.at(low), wanted.at(high)
    if min(ends) > 0 and abs(ends[1] - ends[0]) > LEVEL * max(ends):
        return Added(wanted.slope, -wanted.intercept / wanted.slope, 0.0)
    return Added(0.0, 0.0, float(np.sqrt(max(wanted.at(middle), 0.0))))
