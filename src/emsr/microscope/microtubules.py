"""Microtubules: 25 nm rods along a neurite, dots where it is cut across, lines where along."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from emsr.microscope.beads import Beads
from emsr.microscope.canvas import Canvas, refine
from emsr.microscope.smooth_field import Field
from emsr.microscope.walls import Walls, cover, ramp

SPACING_NM = 125.0
"""Period of the two crossed waves at whose crests rods lie."""


@dataclass(frozen=True)
class Axis:
    """A neurite's own coordinates: ``frame`` (3, 3) holds its direction and two unit vectors
    across it (zyx); its middle lies at ``across`` (2, n) where it is ``along`` (n,) nm far."""

    frame: Field
    along: Field
    across: Field


def axis_of(tube: Beads) -> Axis | None:
    """The axis of one neurite, None where it turns back on itself."""
    chord = tube.centre_nm[-1] - tube.centre_nm[0]
    direction = chord / (np.linalg.norm(chord) + 1e-3)
    helper = np.eye(3)[np.argmin(np.abs(direction))]
    first = np.cross(direction, helper)
    first /= np.linalg.norm(first)
    frame = np.stack([direction, first, np.cross(direction, first)]).astype(np.float32)
    along, *across = frame @ tube.centre_nm.T
    return Axis(frame, along, np.stack(across)) if np.all(np.diff(along) > 0) else None


def paint(
    stain: Field, axes: dict[int, Axis], canvas: Canvas, cells: Walls, sway: tuple[Field, Field]
) -> None:
    """Paint the rods of the neurites in ``axes``; ``sway`` are two fields (y, x) of variance 1
    that keep the rods from lying on a lattice."""
    y_nm, x_nm = refine(np.stack([canvas.warped_y, canvas.warped_x]), canvas.step)
    for block in canvas.blocks():
        for label, box in enumerate(ndimage.find_objects(cells.owner[block] + 1)):
            axis = axes.get(label)
            if box is None or axis is None:
                continue
            cut = _within(block[0], box[0]), _within(block[1], box[1])
            inside = (cells.owner[cut] == label) * ramp(cells.depth[cut], 30, 60)
            rods = _rods(axis, canvas.z_nm, y_nm[cut], x_nm[cut], [field[cut] for field in sway])
            cover(stain[cut], 0.42 * inside * rods, 0.6)


def _rods(axis: Axis, z_nm: float, y_nm: Field, x_nm: Field, sway: list[Field]) -> Field:
    """Density of rods at the given places, 1 at their middle."""
    position = (np.float32(z_nm), y_nm, x_nm)
    along, *across = (sum(e * p for e, p in zip(row, position, strict=True)) for row in axis.frame)
    turns = np.float32(2 * np.pi / SPACING_NM)
    waves = [
        np.cos((a - np.interp(along, axis.along, middle).astype(np.float32)) * turns + 3.2 * s)
        for a, middle, s in zip(across, axis.across, sway, strict=True)
    ]
    return ramp(waves[0] * waves[1], 0.55, 0.95)


def _within(outer: slice, inner: slice) -> slice:
    return slice(outer.start + inner.start, outer.start + inner.stop)
