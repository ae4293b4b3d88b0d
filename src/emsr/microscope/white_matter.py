"""White matter across its fibres: packed myelinated axons, bare axons and glia between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emsr.microscope import fibres, mitochondria, myelin
from emsr.microscope.canvas import Canvas, coarse_grid
from emsr.microscope.nucleus import paint_nuclei
from emsr.microscope.partition import divide
from emsr.microscope.smooth_field import Field, Grid, SmoothField
from emsr.microscope.walls import Walls, cover, ramp, sheet, walls

REACH_NM = 250.0
COARSE_NM = 45.0
MEMBRANE_NM = 6.5
ROUNDING_NM = np.array([150, 55, 300], np.float32)
"""How far corners are rounded, by kind of cell."""
BORDER_NM = 360.0
"""Painted around the slice and cut off: a sheath is measured from walls that may lie outside."""


@dataclass(frozen=True)
class WhiteMatter:
    """The drawn geometry of one volume, ready to be painted slice by slice."""

    seed: int
    cells: fibres.Fibres
    mitochondria: mitochondria.Mitochondria
    cytoplasm: Field
    """Stain of each cell's cytoplasm, by label."""

    def paint(self, z_nm: float, grid: Grid) -> Field:
        """Stain ``(y, x)`` in [0, 1] of the slice at depth ``z_nm``."""
        wide, inner = _with_border(grid)
        canvas = self._canvas(z_nm, wide)
        part = divide(canvas, self.cells.beads, REACH_NM)
        rounding = ROUNDING_NM[np.append(self.cells.kind, fibres.BARE)][part.owner]
        cells = walls(part, canvas, rounding, self._gap(z_nm, wide))
        thickness = self._thickness(z_nm, wide, cells)
        axon = myelin.inner_walls(cells, thickness, wide)
        stain = self._cytoplasm(z_nm, wide, cells)
        paint_nuclei(stain, self.cells, part.nearest, cells, z_nm, wide, self.seed)
        folds = self._field(50, 120, 75).at(z_nm, wide)
        mitochondria.paint(stain, self.mitochondria, canvas, axon, folds)
        self._paint_glia(stain, z_nm, wide, cells)
        cover(stain, 0.95 * sheet(cells.depth, cells.tilt, MEMBRANE_NM), 0.88)
        myelin.paint(stain, axon, thickness, self._field, z_nm, wide)
        return np.clip(stain[inner], 0, 1)

    def _field(self, stream: int, z_nm: float, yx_nm: float) -> SmoothField:
        return SmoothField(self.seed, stream, (z_nm, yx_nm, yx_nm))

    def _canvas(self, z_nm: float, grid: Grid) -> Canvas:
        """Tubes are evaluated at displaced positions: walls become curved, fibres irregular."""
        pixel = float(grid.y_nm[1] - grid.y_nm[0])
        step = max(int(COARSE_NM / pixel), 1)
        coarse = coarse_grid(grid, step)
        y, x = (
            110 * self._field(stream, 2500, 620).at(z_nm, coarse)
            + 22 * self._field(stream + 1, 1200, 190).at(z_nm, coarse)
            for stream in (10, 20)
        )
        return Canvas(z_nm, grid, step, coarse.y_nm[:, None] + y, coarse.x_nm[None] + x)

    def _gap(self, z_nm: float, grid: Grid) -> Field:
        """Half the distance between cells: a cleft, or room for a glial process."""
        wide = self._field(30, 900, 520).at(z_nm, grid)
        return 6 + 80 * ramp(wide, 0.6, 1.9)

    def _thickness(self, z_nm: float, grid: Grid, cells: Walls) -> Field:
        """Myelin thickness in nm at each point; 0 in cells without."""
        uneven = 1 + 0.10 * self._field(31, 1500, 500).at(z_nm, grid)
        return self.cells.sheath_nm[cells.owner] * np.clip(uneven, 0.6, 1.5)

    def _cytoplasm(self, z_nm: float, grid: Grid, cells: Walls) -> Field:
        own = self.cytoplasm[cells.owner]
        stain = own + ramp(-cells.depth, 0, 8) * (0.2 - own)
        stain += 0.015 * self._field(40, 300, 300).at(z_nm, grid)
        # Microtubules and neurofilaments run along z: fine across, long in depth.
        stain += 0.055 * self._field(41, 500, 20).at(z_nm, grid)
        stain += 0.22 * ramp(self._field(42, 400, 26).at(z_nm, grid), 1.3, 2.6)
        return stain

    def _paint_glia(self, stain: Field, z_nm: float, grid: Grid, cells: Walls) -> None:
        """Walls between the glial processes that fill the room left by axons; glial filaments."""
        between = ramp(-cells.depth, 12, 30)
        for stream in (46, 47):
            fold = self._field(stream, 700, 260).at(z_nm, grid)
            cover(stain, 0.9 * between * sheet(130 * fold, 0.3, MEMBRANE_NM), 0.8)
        dark = ramp(self._field(48, 900, 500).at(z_nm, grid), -0.3, 0.9)
        granules = ramp(self._field(49, 60, 22).at(z_nm, grid), 0.9, 2.2)
        cover(stain, between * (0.18 * dark + 0.35 * granules), 0.6)


def white_matter(extent_nm: tuple[float, float, float], seed: int) -> WhiteMatter:
    """White matter that fills ``extent_nm`` (z, y, x), drawn from ``seed``."""
    rng = np.random.default_rng([seed, 2])
    cells = fibres.bundle(np.array(extent_nm), rng)
    count = len(cells.kind)
    stain = np.choose(
        cells.kind,
        [rng.normal(0.16, 0.03, count), rng.normal(0.24, 0.05, count), np.full(count, 0.34)],
    )
    room = cells.beads.radius_nm - cells.sheath_nm[cells.beads.label]
    hosts = type(cells.beads)(cells.beads.centre_nm, room, cells.beads.label)
    power = mitochondria.spread(hosts, _starts(cells, room, rng), (1800, 0.4), 190, rng)
    return WhiteMatter(seed, cells, power, np.append(stain, 0.2).clip(0.08, 0.4).astype(np.float32))


def _starts(cells: fibres.Fibres, room_nm: Field, rng: np.random.Generator) -> np.ndarray:
    """Beads at which mitochondria begin."""
    centre = cells.beads.centre_nm
    step_nm = np.append(np.linalg.norm(np.diff(centre, axis=0), axis=1), 0)
    kind = cells.kind[cells.beads.label]
    per_nm = np.choose(kind, [1 / 3500, 1 / 9000, 0]) * np.clip(room_nm / 200, 0.3, 2)
    return rng.uniform(size=len(room_nm)) < per_nm * np.minimum(step_nm, 400)


def _with_border(grid: Grid) -> tuple[Grid, tuple[slice, slice]]:
    """The grid extended by ``BORDER_NM`` on all sides, and the cut that gives it back."""
    axes, cuts = [], []
    for axis in (grid.y_nm, grid.x_nm):
        pixel = float(axis[1] - axis[0])
        border = int(np.ceil(BORDER_NM / pixel))
        count = len(axis) + 2 * border
        axes.append((axis[0] + pixel * (np.arange(count) - border)).astype(np.float32))
        cuts.append(slice(border, border + len(axis)))
    return Grid(*axes), (cuts[0], cuts[1])
