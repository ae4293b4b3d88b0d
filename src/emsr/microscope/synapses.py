"""Synapses: clouds of vesicles in boutons, and the densities at their contacts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from emsr.microscope.beads import Beads
from emsr.microscope.canvas import Canvas, tube_patch
from emsr.microscope.neurites import Neurites
from emsr.microscope.smooth_field import Field
from emsr.microscope.walls import Walls, cover, ramp

VESICLE_NM = 19.0
"""Radius of a synaptic vesicle."""
SHELL_NM = 4.5
CROWDED_NM = 44.0
"""Smallest distance of two vesicle centres."""
CLOUD_STREAM = 900


def paint_vesicles(
    stain: Field, neurites: Neurites, canvas: Canvas, cells: Walls, seed: int
) -> None:
    """Rings of vesicles cut by the slice, inside the boutons they belong to."""
    boutons = neurites.boutons
    for i in np.flatnonzero(np.abs(boutons.centre_nm[:, 0] - canvas.z_nm) < 2 * boutons.radius_nm):
        centres = cloud(neurites, int(i), seed)
        off_nm = centres[:, 0] - canvas.z_nm
        cut = np.abs(off_nm) < VESICLE_NM + 2 * SHELL_NM
        place = canvas.seen_at(centres[cut, 1:])
        _paint_rings(stain, canvas, cells, place, off_nm[cut], int(boutons.label[i]))


def cloud(neurites: Neurites, i: int, seed: int) -> Field:
    """Vesicle centres (n, 3) zyx nm of bouton ``i``, denser towards its contact."""
    rng = np.random.default_rng([seed, CLOUD_STREAM, i])
    centre, radius = neurites.boutons.centre_nm[i], float(neurites.boutons.radius_nm[i])
    fullness = rng.uniform(0.4, 1.0)
    count = int(30.0 * fullness * (radius / CROWDED_NM) ** 3)
    points = centre + 1.5 * radius * rng.uniform(-1, 1, (count, 3))
    contact = _contact_of(neurites, i)
    if contact is not None:
        distance = np.linalg.norm(points - contact, axis=1)
        points = points[rng.uniform(size=count) < np.exp(-distance / (1.8 * radius))]
    return _uncrowded(points).astype(np.float32)


def paint_densities(stain: Field, neurites: Neurites, canvas: Canvas, cells: Walls) -> None:
    """A thick dark band below the membrane behind each contact, a thin one before it."""
    synapses = neurites.synapses
    reach = 60.0
    for i in np.flatnonzero(
        np.abs(synapses.centre_nm[:, 0] - canvas.z_nm) < synapses.radius_nm + reach
    ):
        ball = Beads(
            synapses.centre_nm[i : i + 1], synapses.radius_nm[i : i + 1], np.zeros(1, np.int32)
        )
        patch = tube_patch(canvas, ball, reach)
        if patch is None:
            continue
        cut = patch.rows, patch.columns
        near = ramp(-patch.distance, -20, 35)
        owner, other, depth = cells.owner[cut], cells.neighbour[cut], cells.depth[cut]
        behind = (owner == synapses.post[i]) & (other == synapses.pre[i])
        before = (owner == synapses.pre[i]) & (other == synapses.post[i])
        band = np.where(behind, ramp(-depth, -30, -10), np.where(before, ramp(-depth, -14, -4), 0))
        near *= 1 - 0.8 * cells.tilt[cut] ** 2
        cover(stain[cut], 0.75 * near * band.astype(np.float32), 0.85)


def _uncrowded(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """The points that have no earlier one within ``CROWDED_NM``."""
    if not len(points):
        return points
    pairs = cKDTree(points).query_pairs(CROWDED_NM, output_type="ndarray")
    return np.delete(points, pairs.max(axis=1), axis=0)


def _contact_of(neurites: Neurites, i: int) -> NDArray[np.floating] | None:
    """The centre of the contact nearest to bouton ``i`` on the same axon, if any is close."""
    synapses, boutons = neurites.synapses, neurites.boutons
    mine = synapses.centre_nm[synapses.pre == boutons.label[i]]
    distance = np.linalg.norm(mine - boutons.centre_nm[i], axis=1)
    if not len(distance) or distance.min() > 2 * boutons.radius_nm[i]:
        return None
    return mine[distance.argmin()]


def _paint_rings(
    stain: Field, canvas: Canvas, cells: Walls, place_nm: Field, off_nm: Field, host: int
) -> None:
    """Vesicles seen at ``place_nm`` (n, 2) yx, their centres ``off_nm`` above or below."""
    y_nm, x_nm = canvas.fine.y_nm, canvas.fine.x_nm
    pixel = float(y_nm[1] - y_nm[0]), float(x_nm[1] - x_nm[0])
    reach = VESICLE_NM + 3 * SHELL_NM
    for (y, x), off in zip(place_nm, off_nm, strict=True):
        i, j = round((y - y_nm[0]) / pixel[0]), round((x - x_nm[0]) / pixel[1])
        if not (0 <= i < len(y_nm) and 0 <= j < len(x_nm)):
            continue
        if cells.owner[i, j] != host or cells.depth[i, j] < VESICLE_NM + 6:
            continue
        a, b = int(reach / pixel[0]) + 1, int(reach / pixel[1]) + 1
        rows, columns = slice(max(i - a, 0), i + a + 1), slice(max(j - b, 0), j + b + 1)
        distance = np.sqrt((y_nm[rows, None] - y) ** 2 + (x_nm[None, columns] - x) ** 2 + off * off)
        ring = np.exp(-0.5 * ((distance - VESICLE_NM) / SHELL_NM) ** 2)
        lumen = 0.2 * ramp(VESICLE_NM - distance, 4, 10)
        cover(stain[rows, columns], lumen, 0.1)
        cover(stain[rows, columns], 0.75 * ring, 0.66)
