"""Neuropil: a felt of dendrites, axons and thin glial sheets, as in cortex grey matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emsr.microscope import microtubules, mitochondria, neurites, synapses
from emsr.microscope.beads import Beads
from emsr.microscope.canvas import Canvas, coarse_grid
from emsr.microscope.partition import divide
from emsr.microscope.smooth_field import Field, Grid, SmoothField
from emsr.microscope.walls import Walls, cover, ramp, sheet, walls

REACH_NM = 170.0
COARSE_NM = 28.0
MEMBRANE_NM = 5.5
"""Standard deviation across one cell's membrane; two of them and the cleft make one dark line."""


@dataclass(frozen=True)
class Neuropil:
    """The drawn geometry of one volume, ready to be painted slice by slice."""

    seed: int
    cells: neurites.Neurites
    mitochondria: mitochondria.Mitochondria
    cytoplasm: Field
    """Stain of each neurite's cytoplasm, by label."""
    axes: dict[int, microtubules.Axis]
    """Axes of the dendrites, along which their microtubules run."""

    def paint(self, z_nm: float, grid: Grid) -> Field:
        """Stain ``(y, x)`` in [0, 1] of the slice at depth ``z_nm``."""
        canvas = self._canvas(z_nm, grid)
        part = divide(canvas, self.cells.beads, REACH_NM)
        cells = walls(part, canvas, 45.0, self._gap(z_nm, grid))
        stain = self._cytoplasm(z_nm, grid, cells)
        self._paint_reticulum(stain, z_nm, grid, cells)
        sway = tuple(self._field(stream, 900, 330).at(z_nm, grid) for stream in (46, 47))
        microtubules.paint(stain, self.axes, canvas, cells, (sway[0], sway[1]))
        synapses.paint_vesicles(stain, self.cells, canvas, cells, self.seed)
        folds = self._field(50, 90, 60).at(z_nm, grid)
        mitochondria.paint(stain, self.mitochondria, canvas, cells, folds)
        synapses.paint_densities(stain, self.cells, canvas, cells)
        cover(stain, 0.95 * sheet(cells.depth, cells.tilt, MEMBRANE_NM), 0.86)
        return np.clip(stain, 0, 1)

    def _field(self, stream: int, z_nm: float, yx_nm: float) -> SmoothField:
        return SmoothField(self.seed, stream, (z_nm, yx_nm, yx_nm))

    def _canvas(self, z_nm: float, grid: Grid) -> Canvas:
        """Tubes are evaluated at positions displaced by some 60 nm: walls become curved."""
        pixel = float(grid.y_nm[1] - grid.y_nm[0])
        step = max(int(COARSE_NM / pixel), 1)
        coarse = coarse_grid(grid, step)
        warped = [
            55 * self._field(stream, 350, 280).at(z_nm, coarse)
            + 15 * self._field(stream + 1, 130, 85).at(z_nm, coarse)
            for stream in (10, 20)
        ]
        return Canvas(
            z_nm, grid, step, coarse.y_nm[:, None] + warped[0], coarse.x_nm[None] + warped[1]
        )

    def _gap(self, z_nm: float, grid: Grid) -> Field:
        """Half the distance between neurites: a narrow cleft, here and there a glial sheet."""
        wide = self._field(30, 500, 420).at(z_nm, grid)
        return 4 + 38 * ramp(wide, 0.5, 1.7)

    def _cytoplasm(self, z_nm: float, grid: Grid, cells: Walls) -> Field:
        own = self.cytoplasm[cells.owner]
        glia = ramp(-cells.depth, 0, 8)
        stain = own + glia * (0.15 - own)
        stain += 0.03 * self._field(40, 500, 450).at(z_nm, grid)
        stain += 0.026 * self._field(41, 90, 34).at(z_nm, grid)
        stain += 0.04 * self._field(42, 60, 13).at(z_nm, grid)
        stain += 0.16 * ramp(self._field(45, 60, 17).at(z_nm, grid), 1.2, 2.6)
        return stain

    def _paint_reticulum(self, stain: Field, z_nm: float, grid: Grid, cells: Walls) -> None:
        """Smooth endoplasmic reticulum: scraps of folded sheets and tubes in the cytoplasm."""
        fold = self._field(43, 150, 105).at(z_nm, grid)
        here = ramp(self._field(44, 350, 240).at(z_nm, grid), 0.7, 1.1) * ramp(cells.depth, 25, 50)
        cover(stain, 0.8 * here * sheet(70 * fold - 14, 0.3, 6.0), 0.62)
        cover(stain, 0.8 * here * sheet(70 * fold + 14, 0.3, 6.0), 0.62)


def neuropil(extent_nm: tuple[float, float, float], seed: int) -> Neuropil:
    """Neuropil that fills ``extent_nm`` (z, y, x), drawn from ``seed``."""
    rng = np.random.default_rng([seed, 1])
    cells = neurites.grow(np.array(extent_nm), rng)
    cytoplasm = np.where(
        cells.dendrite,
        rng.normal(0.18, 0.05, len(cells.dendrite)),
        rng.normal(0.27, 0.065, len(cells.dendrite)),
    )
    power = mitochondria.spread(
        cells.trunks, _starts(cells.trunks, cells.dendrite, rng), (1100, 0.4), 205, rng
    )
    stain = np.append(cytoplasm, 0.15).clip(0.08, 0.45).astype(np.float32)
    return Neuropil(seed, cells, power, stain, _axes(cells))


def _axes(cells: neurites.Neurites) -> dict[int, microtubules.Axis]:
    """The axis of every dendrite that has one."""
    shafts = cells.trunks.where(cells.dendrite[cells.trunks.label])
    found = ((label, microtubules.axis_of(tube)) for label, tube in shafts.tubes())
    return {label: axis for label, axis in found if axis is not None}


def _starts(beads: Beads, dendrite: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Beads at which mitochondria begin: along dendrites, and in many boutons."""
    step_nm = np.append(np.linalg.norm(np.diff(beads.centre_nm, axis=0), axis=1), 0)
    wide = np.clip((beads.radius_nm - 90) / 100, 0, 1.4)
    per_nm = np.where(dendrite[beads.label], 1 / 1300, 1 / 800) * wide
    return rng.uniform(size=len(step_nm)) < per_nm * np.minimum(step_nm, 400)
