"""Membranes: how deep a point lies in its cell, and how a stained sheet looks in a slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emsr.microscope.beads import Labels
from emsr.microscope.canvas import Canvas
from emsr.microscope.partition import Partition
from emsr.microscope.smooth_field import Field

INFORMATION_DEPTH_NM = 11.0
"""Standard deviation of the depth from which the beam gathers signal below the block face."""


@dataclass(frozen=True)
class Walls:
    """Cells of a slice ``(y, x)``.

    ``depth`` in nm below the cell's membrane, negative between cells; ``tilt`` the share of the
    depth's gradient that points along z (0: the wall stands upright, 1: it lies in the slice);
    ``owner`` and ``neighbour`` are the labels on this and on the other side.
    """

    depth: Field
    tilt: Field
    owner: Labels
    neighbour: Labels


def walls(
    part: Partition, canvas: Canvas, rounding_nm: Field | float, gap_nm: Field | float
) -> Walls:
    """Cells with corners rounded over ``rounding_nm`` that keep ``gap_nm`` between them and
    the halfway surface to the next cell."""
    near = (part.second - part.nearest) / 2
    far = (part.third - part.nearest) / 2
    corner = np.clip(1 - (far - near) / rounding_nm, 0, 1)
    level = near - corner * corner * (rounding_nm / 4) - gap_nm
    along_z = (part.slope_z_second - part.slope_z) / 2
    y_nm, x_nm = (float(a[1] - a[0]) for a in (canvas.fine.y_nm, canvas.fine.x_nm))
    steep = steepest(level, 0, y_nm) ** 2 + steepest(level, 1, x_nm) ** 2 + along_z**2
    slope = np.sqrt(np.maximum(steep, np.float32(0.04)))
    return Walls(level / slope, np.abs(along_z) / slope, part.owner, part.neighbour)


def steepest(level: Field, axis: int, spacing_nm: float) -> Field:
    """The larger of the two one-sided slopes per nm: right also on the ridge between cells."""
    step = np.abs(np.diff(level, axis=axis)) / np.float32(spacing_nm)
    first, last = (slice(None),) * axis + (slice(0, 1),), (slice(None),) * axis + (slice(-1, None),)
    forward = np.concatenate([step, step[last]], axis=axis)
    backward = np.concatenate([step[first], step], axis=axis)
    return np.maximum(forward, backward)


def sheet(distance_nm: Field, tilt: Field | float, sigma_nm: float) -> Field:
    """Density in (0, 1] of a stained sheet at ``distance_nm``: Gaussian profile of ``sigma_nm``.

    A tilted sheet is smeared over the information depth: wider, and paler by as much.
    """
    smear = np.float32(INFORMATION_DEPTH_NM) * tilt
    variance = np.float32(sigma_nm**2) + smear * smear
    return np.exp(-0.5 * distance_nm * distance_nm / variance) * np.sqrt(
        np.float32(sigma_nm**2) / variance
    )


def ramp(value: Field, start: float, stop: float) -> Field:
    """0 before ``start``, 1 after ``stop``, smooth between."""
    t = np.clip((value - np.float32(start)) / np.float32(stop - start), 0, 1)
    return t * t * (3 - 2 * t)


def cover(stain: Field, density: Field, level: Field | float) -> None:
    """Paint ``level`` over ``stain`` in place, as opaque as ``density`` in [0, 1]."""
    stain += density * (level - stain)


def softer(a: Field, b: Field, rounding_nm: float) -> Field:
    """The minimum of two depths with the edge between them rounded."""
    corner = np.clip(1 - np.abs(a - b) / np.float32(rounding_nm), 0, 1)
    return np.minimum(a, b) - corner * corner * np.float32(rounding_nm / 4)
