"""Space divided among tubes: which cell owns each point of a slice, and how far the next one is.

A point belongs to the tube with the smallest field (an additively weighted Voronoi diagram), so
cells fill space, whatever their number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emsr.microscope.beads import Beads, Labels
from emsr.microscope.canvas import Canvas, Patch, tube_patch
from emsr.microscope.smooth_field import Field

NOBODY = -1


@dataclass(frozen=True)
class Partition:
    """Owners of the points of a slice ``(y, x)``.

    ``nearest``, ``second``, ``third`` are the three smallest tube fields in nm; ``owner`` and
    ``neighbour`` the labels of the first two; ``slope_z``, ``slope_z_second`` their z derivatives.
    """

    nearest: Field
    second: Field
    third: Field
    owner: Labels
    neighbour: Labels
    slope_z: Field
    slope_z_second: Field


def divide(canvas: Canvas, beads: Beads, reach_nm: float) -> Partition:
    """The slice divided among the tubes; no tube is felt farther than ``reach_nm`` outside.

    Works block by block, so that a long tube costs no more than the blocks it passes.
    """
    result = _undivided(canvas.fine.shape, reach_nm)
    near = beads.near(canvas.z_nm, reach_nm)
    for rows, columns in canvas.blocks():
        block = canvas.cut(rows, columns)
        part = Partition(*(array[rows, columns] for array in vars(result).values()))
        for label, tube in block.beads_within(near, reach_nm).tubes():
            patch = tube_patch(block, tube, reach_nm)
            if patch is not None:
                _claim(part, label, patch)
    return result


def _undivided(shape: tuple[int, int], reach_nm: float) -> Partition:
    first, second, third = (np.full(shape, reach_nm, np.float32) for _ in range(3))
    owner, neighbour = (np.full(shape, NOBODY, np.int32) for _ in range(2))
    slope, slope_second = (np.zeros(shape, np.float32) for _ in range(2))
    return Partition(first, second, third, owner, neighbour, slope, slope_second)


def _claim(part: Partition, label: int, patch: Patch) -> None:
    """Enter one tube into the three smallest fields, in place."""
    cut = patch.rows, patch.columns
    new, d1, d2, d3 = patch.distance, part.nearest[cut], part.second[cut], part.third[cut]
    wins, follows = new < d1, new < d2
    np.minimum(d3, np.maximum(d2, new), out=d3)
    np.minimum(d2, np.maximum(d1, new), out=d2)
    np.minimum(d1, new, out=d1)
    _shift(part.owner[cut], part.neighbour[cut], np.int32(label), wins, follows)
    _shift(part.slope_z[cut], part.slope_z_second[cut], patch.slope_z, wins, follows)


def _shift(
    first: NDArray, second: NDArray, mine: NDArray | np.int32, wins: NDArray, follows: NDArray
) -> None:
    """``mine`` becomes first where it wins (the first moves down), second where it follows."""
    np.copyto(second, mine, where=follows)
    np.copyto(second, first, where=wins)
    np.copyto(first, mine, where=wins)
