"""One slice to be painted, and the fields of tubes on it.

Fields are smooth: they are computed on a coarse grid and interpolated to the fine one.

    coarse   o     o     o     o     o     o      one point before the slice, two or three behind
    fine           x x x x x x x x x x            ``step`` fine pixels to a coarse one
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from emsr.microscope.beads import Beads
from emsr.microscope.smooth_field import Field, Grid, spline_weights

BLOCK_PX = 384


@dataclass(frozen=True)
class Canvas:
    """One slice to be painted: a fine grid, and a coarse one whose points lie ``step`` fine
    pixels apart and begin one coarse step before the fine grid.

    ``warped_y``, ``warped_x`` (coarse) are the positions in nm at which tubes are evaluated:
    a smooth displacement turns straight walls into curved ones.
    """

    z_nm: float
    fine: Grid
    step: int
    warped_y: Field
    warped_x: Field

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """The fine grid in blocks of whole coarse cells."""
        side = max(BLOCK_PX // self.step, 1) * self.step
        height, width = self.fine.shape
        for y in range(0, height, side):
            for x in range(0, width, side):
                yield slice(y, min(y + side, height)), slice(x, min(x + side, width))

    def cut(self, rows: slice, columns: slice) -> Canvas:
        """The canvas of one block; ``rows`` and ``columns`` begin at multiples of ``step``."""
        fine = Grid(self.fine.y_nm[rows], self.fine.x_nm[columns])
        y, x = rows.start // self.step, columns.start // self.step
        height, width = (-(-n // self.step) + 3 for n in fine.shape)
        inside = slice(y, y + height), slice(x, x + width)
        return Canvas(self.z_nm, fine, self.step, self.warped_y[inside], self.warped_x[inside])

    def seen_at(self, place_nm: Field) -> Field:
        """Where in the slice, (n, 2) yx nm, the tubes' positions ``place_nm`` (n, 2) appear."""
        seen = np.array(place_nm, np.float32)
        pixel = [float(axis[1] - axis[0]) * self.step for axis in (self.fine.y_nm, self.fine.x_nm)]
        origin = np.array([self.fine.y_nm[0], self.fine.x_nm[0]])
        for _ in range(4):
            index = ((seen - origin) / pixel + 1).T
            warped = [
                ndimage.map_coordinates(field, index, order=1, mode="nearest")
                for field in (self.warped_y, self.warped_x)
            ]
            seen += np.asarray(place_nm) - np.stack(warped, axis=1)
        return seen

    def beads_within(self, beads: Beads, reach_nm: float) -> Beads:
        """The beads whose surface comes within ``reach_nm`` of the canvas."""
        extent = beads.radius_nm + np.float32(reach_nm)
        chosen = np.ones(len(extent), bool)
        for axis, warped in ((1, self.warped_y), (2, self.warped_x)):
            centre = beads.centre_nm[:, axis]
            chosen &= (centre + extent > warped.min()) & (centre - extent < warped.max())
        return beads.where(chosen)


@dataclass(frozen=True)
class Patch:
    """A tube's field on part of the slice: ``rows`` and ``columns`` cut it out of the fine grid.

    ``distance`` (y, x) in nm to the tube's surface, negative inside; ``slope_z`` its derivative
    along z.
    """

    rows: slice
    columns: slice
    distance: Field
    slope_z: Field


def coarse_grid(fine: Grid, step: int) -> Grid:
    """The coarse grid of a canvas: one point before the fine grid, three behind it."""
    return Grid(*(_coarse(axis, step) for axis in (fine.y_nm, fine.x_nm)))


def tube_patch(canvas: Canvas, tube: Beads, reach_nm: float) -> Patch | None:
    """The field of one tube where it is below ``reach_nm``, None where that is outside the slice.

    Beyond ``reach_nm`` inside the patch the field is that value.
    """
    extent = tube.radius_nm + np.float32(reach_nm)
    rows = _reached(canvas.warped_y, tube.centre_nm[:, 1], extent, axis=1)
    columns = _reached(canvas.warped_x, tube.centre_nm[:, 2], extent, axis=0)
    if rows is None or columns is None:
        return None
    cut = slice(rows.start, rows.stop + 3), slice(columns.start, columns.stop + 3)
    coarse = _tube_field(canvas, tube, cut, reach_nm)
    fine = refine(coarse, canvas.step)
    height, width = canvas.fine.shape
    fine_rows = slice(rows.start * canvas.step, min(rows.stop * canvas.step, height))
    fine_columns = slice(columns.start * canvas.step, min(columns.stop * canvas.step, width))
    distance, slope = fine[
        :, : fine_rows.stop - fine_rows.start, : fine_columns.stop - fine_columns.start
    ]
    return Patch(fine_rows, fine_columns, distance, slope)


def refine(coarse: Field, step: int) -> Field:
    """``(c, y + 3, x + 3)`` on the coarse grid to ``(c, step * y, step * x)`` on the fine one, by
    cubic B-splines."""
    weights = spline_weights(np.arange(step) / step).T
    along_x = sliding_window_view(coarse, 4, axis=2) @ weights
    along_x = along_x.reshape(*coarse.shape[:2], -1)
    along_y = np.swapaxes(sliding_window_view(along_x, 4, axis=1) @ weights, 2, 3)
    return along_y.reshape(coarse.shape[0], -1, along_x.shape[2])


def _coarse(axis_nm: Field, step: int) -> Field:
    spacing = float(axis_nm[1] - axis_nm[0]) if len(axis_nm) > 1 else 1.0
    count = -(-len(axis_nm) // step) + 3
    return (axis_nm[0] + spacing * step * (np.arange(count) - 1)).astype(np.float32)


def _reached(warped: Field, centre_nm: Field, extent_nm: Field, axis: int) -> slice | None:
    """Coarse cells (not points) along one axis that any bead may reach."""
    low = float((centre_nm - extent_nm).min())
    high = float((centre_nm + extent_nm).max())
    inside = np.flatnonzero((warped.max(axis=axis) >= low) & (warped.min(axis=axis) <= high))
    if not len(inside):
        return None
    cells = warped.shape[1 - axis] - 3
    start, stop = max(int(inside[0]) - 3, 0), min(int(inside[-1]) + 1, cells)
    return slice(start, stop) if start < stop else None


def _tube_field(canvas: Canvas, tube: Beads, cut: tuple[slice, slice], reach_nm: float) -> Field:
    """``(2, y, x)`` on the coarse grid: distance to the surface, and its z derivative."""
    y, x = canvas.warped_y[cut], canvas.warped_x[cut]
    dz = (np.float32(canvas.z_nm) - tube.centre_nm[:, 0])[:, None, None]
    dy = y - tube.centre_nm[:, 1, None, None]
    dx = x - tube.centre_nm[:, 2, None, None]
    length = np.sqrt(dz * dz + dy * dy + dx * dx + np.float32(1))
    surface = length - tube.radius_nm[:, None, None]
    nearest = surface.argmin(axis=0)[None]
    distance = np.take_along_axis(surface, nearest, 0)[0]
    slope = np.take_along_axis(dz / length, nearest, 0)[0]
    return np.stack([np.minimum(distance, np.float32(reach_nm)), slope])
