"""Smooth random fields in three dimensions, evaluated slice by slice.

A field is a cubic B-spline through a lattice of normal numbers. Each lattice plane is drawn from
its own seed, so the field is the same however it is cut, and unbounded along z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Field = NDArray[np.floating[Any]]
"""Float32 wherever it is as large as a slice."""

UNIT_SCALE = 3.0
"""A cubic B-spline lowers the variance of white lattice values to about 1/9 (three axes)."""


ORIGIN_NM = 800.0
"""Lattices begin this far before the volume: slices are painted with a border."""


@dataclass(frozen=True)
class Grid:
    """Positions in nm of the rows and columns of a slice."""

    y_nm: Field
    x_nm: Field

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.y_nm), len(self.x_nm)


@dataclass(frozen=True)
class SmoothField:
    """A random field of mean 0 and variance about 1, correlated over about ``cell_nm`` (z, y, x).

    Fields of equal ``seed`` and different ``stream`` are independent. Cells smaller than a pixel
    are widened to it: the lattice never outgrows the slice.
    """

    seed: int
    stream: int
    cell_nm: tuple[float, float, float]

    def at(self, z_nm: float, grid: Grid) -> Field:
        """The slice ``(y, x)`` at depth ``z_nm``; in plane from ``-ORIGIN_NM`` upwards."""
        rows, columns = _spline(grid.y_nm, self.cell_nm[1]), _spline(grid.x_nm, self.cell_nm[2])
        lattice = self._plane(z_nm, (rows.shape[1], columns.shape[1]))
        along_y = rows @ lattice
        return np.ascontiguousarray((columns @ np.ascontiguousarray(along_y.T)).T)

    def _plane(self, z_nm: float, shape: tuple[int, int]) -> Field:
        """The lattice ``(y, x)`` interpolated to one depth."""
        position = z_nm / self.cell_nm[0] + 3
        first = int(np.floor(position))
        lattice = np.zeros(shape, np.float32)
        for k, weight in enumerate(spline_weights(np.array([position - first]))[0]):
            rng = np.random.default_rng([self.seed, self.stream, first + k])
            lattice += np.float32(UNIT_SCALE * weight) * rng.standard_normal(shape, np.float32)
        return lattice


def spline_weights(t: NDArray[np.floating]) -> Field:
    """Weights ``(n, 4)`` of the four lattice points around fractions ``t`` (n,) in [0, 1)."""
    t = np.asarray(t, np.float64)
    weights = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    return (np.stack(weights, axis=-1) / 6).astype(np.float32)


def _spline(position_nm: Field, cell_nm: float) -> sparse.csr_array:
    """Sparse ``(n, lattice)``: each position from its four lattice points."""
    widest = max(cell_nm, float(position_nm[1] - position_nm[0]))
    position = (np.asarray(position_nm, np.float64) + ORIGIN_NM) / widest
    first = np.floor(position).astype(np.int64)
    weights = spline_weights(position - first)
    columns = first[:, None] + np.arange(4)
    starts = np.arange(0, weights.size + 1, 4)
    size = int(columns.max()) + 1
    return sparse.csr_array((weights.ravel(), columns.ravel(), starts), (len(position), size))
