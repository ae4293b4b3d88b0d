"""Noise of a scan from a second scan of the same field: the one estimate that structure, its
correlation with anything, and the shape of the noise cannot mislead."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from emsr.errors import InputError
from emsr.microscope.estimate_line import Floats, Line, unclipped, variance_line
from emsr.microscope.estimate_model import ROUNDING, SMALLEST_VARIANCE, Noise
from emsr.microscope.estimate_noise import (
    SAYS_NO_SLOPE,
    at_limit,
    covariance_of,
    noise_from_slices,
)
from emsr.microscope.estimate_spectra import SIDE_PX

CELL_PX = 4
"""Squares over which squares and grey levels are averaged, so that noise in the grey level, which
flattens a line, does not count; structure is mostly wider."""
FEWEST_CELLS = 16
MOST_LOST = 0.1
"""Share of clipped cells, of 16 pixels: noise then clips 0.65 % of the pixels."""
STEEPEST = 0.1
UNLIKE = 1.1
"""Factor by which steep places may be noisier than their grey level says; four standard errors of
it where a field is small."""
OUT_OF_REGISTER = (
    "the scans differ more where the image is steep: they are not in register to the pixel, and "
    "sigma is that of their finest detail alone"
)


def noise_from_repeat(a: np.ndarray, b: np.ndarray) -> Noise:
    """Noise of two scans ``(y, x)`` or ``(z, y, x)`` of one field, in register, of equal settings
    and independent noise: half the variance of their difference.

    A difference that is larger where the image is steep tells of scans out of register; a notice
    says so. InputError for unequal shapes, for copies, and where next to nothing is unclipped.
    """
    _check(a, b)
    first, second = (_slices(image) for image in (a, b))
    cells = _Cells.of(first, second)
    if len(cells.grey) < FEWEST_CELLS:
        raise InputError("noise cannot be told: next to no part of the two scans is unclipped")
    line = variance_line(cells.grey, cells.squares)
    if _steeper_is_noisier(cells, line) and min(first.shape[1:]) >= 2 * SIDE_PX:
        pairs = np.stack([first, second], axis=1).reshape(-1, *first.shape[1:])
        found = noise_from_slices(pairs, run=2)
        return replace(found, method="repeat", notices=(OUT_OF_REGISTER, *found.notices))
    mean = float((first.mean(dtype=np.float64) + second.mean(dtype=np.float64)) / 2)
    low, high = np.quantile(cells.grey, [0.05, 0.95])
    told = line.tells_slope(float(low), float(high), line.at(mean))
    variance = line.at(mean) if told else float(cells.squares.mean())
    return Noise(
        sigma=float(np.sqrt(variance)),
        slope=line.slope if told else None,
        intercept=line.intercept if told else None,
        correlation=_correlation(first, second),
        method="repeat",
        notices=() if told else (SAYS_NO_SLOPE,),
        covariance=covariance_of(line) if told else None,
        rounding=ROUNDING if a.dtype.kind in "ui" else 0.0,
    )


@dataclass(frozen=True)
class _Cells:
    """Squares of the unclipped image: half the squared difference, grey level, steepness (n,)."""

    squares: Floats
    grey: Floats
    steep: Floats

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray) -> _Cells:
        """The unclipped cells of two stacks, one slice in memory at a time."""
        shift = _mean_difference(first, second)
        planes = [_plane_cells(a, b, shift) for a, b in zip(first, second, strict=True)]
        squares, grey, steep, clipped = np.concatenate(planes, axis=1)
        kept = unclipped(grey, clipped, MOST_LOST)
        return cls(squares[kept], grey[kept], steep[kept])


def _plane_cells(a: np.ndarray, b: np.ndarray, shift: float) -> Floats:
    """``(4, n)`` half squared difference, grey level, steepness and clipped share of cells."""
    mean = (a.astype(np.float64) + b) / 2
    squares = (a.astype(np.float64) - b - shift) ** 2 / 2
    lost = (at_limit(a) | at_limit(b)).astype(np.float64)
    return np.stack([_cells(plane).ravel() for plane in (squares, mean, _steepness(mean), lost)])


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise InputError(f"scan {a.shape} and repeat {b.shape} differ: give two of one field")
    if min(a.shape[-2:]) < 2 * CELL_PX:
        raise InputError(f"{a.shape} is too small to measure noise in: give a larger field")
    if np.array_equal(a, b):
        raise InputError("the repeat is a copy of the scan: give a second acquisition")


def _slices(image: np.ndarray) -> np.ndarray:
    return image[None] if image.ndim == 2 else image


def _cells(plane: Floats) -> Floats:
    """Means over squares; what is left over at the far edge is dropped."""
    rows, columns = (side // CELL_PX for side in plane.shape)
    cut = plane[: rows * CELL_PX, : columns * CELL_PX]
    return cut.reshape(rows, CELL_PX, columns, CELL_PX).mean(axis=(1, 3))


def _steepness(plane: Floats) -> Floats:
    """Squared slope of the mean image, over two pixels to either side."""
    steep = np.zeros_like(plane)
    steep[2:-2] = (plane[4:] - plane[:-4]) ** 2
    steep[:, 2:-2] += (plane[:, 4:] - plane[:, :-4]) ** 2
    return steep


def _mean_difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(first.mean(dtype=np.float64) - second.mean(dtype=np.float64))


def _correlation(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Correlation of the difference with itself one pixel along (y, x)."""
    shift = _mean_difference(first, second)
    sums = np.zeros((3, 2))
    for a, b in zip(first, second, strict=True):
        noise = a.astype(np.float64) - b - shift
        for i, product in enumerate(
            (noise**2, noise[1:] * noise[:-1], noise[:, 1:] * noise[:, :-1])
        ):
            sums[i] += product.sum(), product.size
    power, y, x = sums[:, 0] / sums[:, 1]
    return float(y / power), float(x / power)


def _steeper_is_noisier(cells: _Cells, line: Line) -> bool:
    floor = SMALLEST_VARIANCE * cells.squares.mean()
    ratio = cells.squares / np.maximum(line.slope * cells.grey + line.intercept, floor)
    edge = cells.steep >= np.quantile(cells.steep, 1 - STEEPEST)
    if edge.all():
        return False
    limit = max(UNLIKE, 1 + 4 * ratio.std() / np.sqrt(edge.sum()))
    return bool(ratio[edge].mean() > limit * ratio[~edge].mean())
