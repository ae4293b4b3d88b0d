"""Nuclei of glial cells: envelope, chromatin clumped along it and within."""

from __future__ import annotations

import numpy as np

from emsr.microscope.fibres import SOMA, Fibres
from emsr.microscope.smooth_field import Field, Grid, SmoothField
from emsr.microscope.walls import Walls, cover, ramp, sheet

CYTOPLASM_NM = 650.0
"""Typical distance of the nucleus from the cell's surface."""


def paint_nuclei(
    stain: Field,
    cells: Fibres,
    nearest_nm: Field,
    seen: Walls,
    z_nm: float,
    grid: Grid,
    seed: int,
) -> None:
    """Paint the nucleus and the reticulum of each glial cell; ``nearest_nm`` (y, x) is the
    distance to the owner's surface, negative inside."""
    kind = np.append(cells.kind, -1)
    body = kind[seen.owner] == SOMA
    if not body.any():
        return

    def field(stream: int, cell_z_nm: float, cell_nm: float) -> Field:
        return SmoothField(seed, stream, (cell_z_nm, cell_nm, cell_nm)).at(z_nm, grid)

    depth = -nearest_nm - CYTOPLASM_NM + 130 * field(80, 900, 800)
    clumps = field(81, 350, 300) + 0.35 * field(82, 120, 90) + 1.6 * ramp(-depth, -260, -40)
    chromatin = 0.3 + 0.36 * ramp(clumps, 0.25, 0.9) + 0.05 * field(83, 60, 38)
    reticulum = np.cos(depth / 16 + 2.2 * field(84, 250, 220)) * ramp(
        field(85, 500, 420), -0.2, 0.5
    )
    cover(stain, 0.5 * body * ramp(-depth, 30, 50) * ramp(reticulum, 0.4, 0.9), 0.62)
    cover(stain, body * ramp(depth, -4, 4), chromatin)
    for membrane in (-12.0, 12.0):
        cover(stain, 0.85 * body * sheet(depth - membrane, 0.1, 6.0), 0.8)
