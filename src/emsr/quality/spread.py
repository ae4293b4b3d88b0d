"""How far answers to one question, asked eight ways, scatter, and what error that goes with.

The eight flips and rotations of an image ask a network the same thing. Where its answers scatter it
is unsure; what all eight get wrong alike (most of the error, docs/trust.md) the scatter does not
see. So a scatter is not an error: a calibration says which error went with it where the error was
known. Arrays in, numbers out; the unit is that of the arrays.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

import numpy as np
import scipy  # its parts are loaded when they are used
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FEWEST = 200
"""Pixels of a class, whose mean squared error is to be told."""


class Calibration(TypedDict):
    """Root mean square errors that went with scatters; both rise, in one unit."""

    spread: list[float]
    error: list[float]


def deviation(answers: Iterable[NDArray]) -> Floats:
    """Standard deviation over ``answers`` of one shape, summed in float64, one in memory at a
    time."""
    count, mean, squares = 0, np.zeros(()), np.zeros(())
    for answer in answers:
        count += 1
        value = np.asarray(answer, np.float64)
        before = value - mean
        mean = mean + before / count
        squares = squares + before * (value - mean)
    return np.asarray(np.sqrt(squares / count))


def calibrate(spread: NDArray, squared_error: NDArray, classes: int) -> Calibration | None:
    """The error that goes with a scatter, from pixels where both are known. ``squared_error`` may
    be an estimate of right mean, negative here and there. Pixels are put into ``classes`` of equal
    number by their scatter; None where that leaves too few in each."""
    count = min(classes, spread.size // FEWEST)
    if count < 2:
        return None
    order = np.argsort(spread, axis=None)
    parts = np.array_split(order, count)
    flat, errors = spread.ravel(), squared_error.ravel()
    middle = [float(np.sqrt(np.mean(np.square(flat[part])))) for part in parts]
    means = [max(float(np.mean(errors[part])), 0.0) for part in parts]
    # A running maximum would state too large an error.
    rising = scipy.optimize.isotonic_regression(means).x
    return {"spread": middle, "error": [float(np.sqrt(m)) for m in rising]}


def expected_error(spread: NDArray, calibration: Calibration) -> Floats:
    """Root mean square error to expect at each scatter; beyond what was seen it stays as it is."""
    found = np.interp(spread, calibration["spread"], calibration["error"])
    return np.asarray(found, np.float64)


def reliability(
    expected: NDArray, squared_error: NDArray, classes: int
) -> list[tuple[float, float]]:
    """Pairs of stated and real root mean square error, of pixels in ``classes`` of equal number by
    the error stated of them."""
    parts = np.array_split(np.argsort(expected, axis=None), classes)
    stated, real = np.square(expected).ravel(), squared_error.ravel()
    return [
        (float(np.sqrt(stated[part].mean())), float(np.sqrt(max(real[part].mean(), 0.0))))
        for part in parts
    ]
