"""A block of brain tissue before the beam: random geometry drawn once, painted slice by slice.

Knows presets, voxels and nanometres; refuses to know microscopes and files. Stain is the share of
heavy metal in [0, 1]: 0 bare resin, 1 the heaviest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from emsr.geometry.box import Triple
from emsr.microscope.neuropil import neuropil
from emsr.microscope.smooth_field import Field, Grid
from emsr.microscope.white_matter import white_matter

SpacingNm = tuple[float, float, float]


class Anatomy(Protocol):
    """Drawn geometry that can be cut anywhere along z."""

    def paint(self, z_nm: float, grid: Grid) -> Field:
        """Stain ``(y, x)`` in [0, 1] of the slice at depth ``z_nm``."""


ANATOMIES: dict[str, Callable[[SpacingNm, int], Anatomy]] = {
    "white-matter": white_matter,
    "neuropil": neuropil,
}
"""How each preset is drawn: from its extent in nm (z, y, x) and a seed."""


@dataclass(frozen=True)
class Tissue:
    """A block of ``shape`` voxels of ``spacing_nm`` (both z, y, x); voxel i is centred at
    ``(i + 0.5) * spacing_nm``."""

    shape: Triple
    spacing_nm: SpacingNm
    anatomy: Anatomy

    def render(self, z0: int, z1: int) -> Field:
        """Stain of slices ``z0`` to ``z1 - 1``: float32 ``(z, y, x)`` in [0, 1].

        Each slice is painted by itself, so the result does not depend on how a block is cut, and
        memory grows with the slices asked for only.
        """
        dz, dy, dx = self.spacing_nm
        _, height, width = self.shape
        grid = Grid(_centres(height, dy), _centres(width, dx))
        slices = [self.anatomy.paint((z + 0.5) * dz, grid) for z in range(z0, z1)]
        return np.stack(slices).astype(np.float32, copy=False)


def tissue(preset: str, shape: Triple, spacing_nm: SpacingNm, seed: int) -> Tissue:
    """A block of the tissue ``preset`` (a key of ``ANATOMIES``), drawn from ``seed`` (>= 0).

    Equal arguments give equal blocks. Lengths are in nm: a finer spacing shows the same kind of
    tissue larger, not another kind. KeyError for an unknown preset.
    """
    extent = (shape[0] * spacing_nm[0], shape[1] * spacing_nm[1], shape[2] * spacing_nm[2])
    return Tissue(shape, spacing_nm, ANATOMIES[preset](extent, seed))


def _centres(count: int, spacing_nm: float) -> Field:
    return ((np.arange(count) + 0.5) * spacing_nm).astype(np.float32)
