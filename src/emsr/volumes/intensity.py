"""Grey values as files hold them, and the unit values that networks see.

One affine window for a whole volume (or data set): never one per slice or per tile. Going back
saturates at the dtype's range, never wraps, and counts what it clipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from emsr.errors import InputError

PERCENTILES = (0.1, 99.9)
"""The share of grey values below and above the fitted window: a few hot pixels do not widen it."""
_SAMPLE_LIMIT = 2**22


@dataclass(frozen=True)
class Intensity:
    """The grey values ``low`` and ``high`` that become 0 and 1."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise ValueError(f"grey window {self.low} to {self.high}: low must be below high")

    def to_unit(self, grey: np.ndarray) -> np.ndarray:
        """float32 (grey - low) / (high - low) of any shape; values outside the window stay so."""
        unit = np.array(grey, dtype=np.float64)  # a copy, to work on without more of them
        self.into_unit(unit)
        return unit.astype(np.float32)

    def into_unit(self, grey: Any) -> None:
        """Turn float64 grey values, an array or a tensor anywhere, into unit values in place."""
        grey -= self.low
        grey /= self.high - self.low

    def into_grey(self, unit: Any) -> None:
        """Turn float64 unit values, an array or a tensor anywhere, into grey values in place."""
        unit *= self.high - self.low
        unit += self.low

    def to_grey(self, unit: np.ndarray, dtype: np.dtype | type | str) -> tuple[np.ndarray, int]:
        """Grey values of ``dtype``, and how many of them had to be clipped to its range.

        Integer dtypes: rounded half to even, then saturated. Floating dtypes: neither. Inverts
        ``to_unit`` for 8 and 16-bit integers. InputError where ``unit`` holds NaN.
        """
        dtype = np.dtype(dtype)
        grey = np.array(unit, dtype=np.float64)  # a copy, to work on without more of them
        self.into_grey(grey)
        refuse_nan(int(np.count_nonzero(np.isnan(grey))), grey.size)
        if dtype.kind == "f":
            return grey.astype(dtype), 0
        return _saturated(np.rint(grey, out=grey), dtype)


def refuse_nan(lost: int, size: int) -> None:
    """InputError where ``lost`` of ``size`` grey values are NaN."""
    if lost:
        raise InputError(
            f"{lost} of {size} grey values are NaN: expected numbers; check the input and the model"
        )


def _saturated(grey: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, int]:
    limits = np.iinfo(dtype)
    clipped = int(np.count_nonzero(grey < limits.min) + np.count_nonzero(grey > limits.max))
    return np.clip(grey, limits.min, limits.max, out=grey).astype(dtype), clipped


def fit_window(
    values: np.ndarray | Iterable[np.ndarray], dtype: np.dtype | type | str
) -> Intensity:
    """The window for grey values of ``dtype``: an array, or an iterable of arrays (slices).

    8-bit data keep their full range (0 to 255). Others: the 0.1 and 99.9 percentiles, of every
    n-th value where there are more than four million; the extremes where these coincide.
    InputError for constant data and for NaN.
    """
    dtype = np.dtype(dtype)
    sample = _sample([values] if isinstance(values, np.ndarray) and values.ndim < 3 else values)
    if dtype.itemsize == 1:
        limits = np.iinfo(dtype)
        return Intensity(float(limits.min), float(limits.max))
    low, high = np.percentile(sample.kept.astype(np.float64), PERCENTILES)
    if low == high:
        low, high = sample.low, sample.high
    return Intensity(float(low), float(high))


@dataclass(frozen=True)
class _Sample:
    low: float
    high: float
    kept: np.ndarray


def _sample(arrays: Iterable[np.ndarray]) -> _Sample:
    """Extremes of all values, and every n-th of them; n doubles whenever they become too many."""
    kept: list[np.ndarray] = []
    lows, highs, step = [], [], 1
    for array in _not_empty(arrays):
        lows.append(float(array.min()))
        highs.append(float(array.max()))
        kept.append(array.ravel()[::step].copy())
        while sum(part.size for part in kept) > _SAMPLE_LIMIT:
            kept, step = [part[::2].copy() for part in kept], step * 2
    if not kept:
        raise InputError("no grey values: expected at least one slice")
    low, high = min(lows), max(highs)
    if not np.isfinite([*lows, *highs]).all():
        raise InputError("the grey values hold NaN or infinity: expected numbers; repair the input")
    if low == high:
        raise InputError(
            f"all grey values are {low:g}: expected an image with contrast; choose another input"
        )
    return _Sample(low, high, np.concatenate(kept))


def _not_empty(arrays: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    return (array for array in arrays if array.size)
