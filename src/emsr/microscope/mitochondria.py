"""Mitochondria: where they lie in their neurites, and how they look.

A double membrane of some 20 nm, a dark matrix, cristae as folded sheets 30 to 50 nm apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emsr.microscope.beads import Beads, Labels
from emsr.microscope.canvas import Canvas, tube_patch
from emsr.microscope.smooth_field import Field
from emsr.microscope.walls import Walls, cover, ramp, sheet, softer

REACH_NM = 40.0
CLEARANCE_NM = 16.0
BEAD_NM = 45.0


@dataclass(frozen=True)
class Mitochondria:
    """Strings of beads; string i lies in cell ``host[i]``, its cristae across ``across[i]``
    (zyx, unit) every ``period_nm[i]``; ``matrix[i]`` is the stain of its matrix."""

    beads: Beads
    host: Labels
    across: Field
    period_nm: Field
    matrix: Field


def spread(
    hosts: Beads,
    starts: NDArray[np.bool_],
    length_nm: tuple[float, float],
    widest_nm: float,
    rng: np.random.Generator,
) -> Mitochondria:
    """A mitochondrion from each bead of ``hosts`` marked in ``starts``, along its neurite.

    Lengths are log-normal around ``length_nm`` = (median, sigma of the logarithm); radii fill
    about half of the neurite, up to ``widest_nm``.
    """
    found = []
    free = 0
    for first in np.flatnonzero(starts):
        length = float(rng.lognormal(np.log(length_nm[0]), length_nm[1]))
        run = _run(hosts, int(first), length)
        if first < free or run.stop - run.start < 2:
            continue
        found.append(_within(hosts.span(run), widest_nm, rng))
        free = run.stop + 1
    label = np.repeat(np.arange(len(found)), [len(beads.label) for beads in found])
    across = [_across(beads, rng) for beads in found]
    empty = Beads(np.zeros((0, 3), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    joined = [empty, *found]
    return Mitochondria(
        Beads(
            np.concatenate([beads.centre_nm for beads in joined]),
            np.concatenate([beads.radius_nm for beads in joined]),
            label.astype(np.int32),
        ),
        np.array([beads.label[0] for beads in found], np.int32),
        np.array(across, np.float32).reshape(-1, 3),
        rng.uniform(42, 62, len(found)).astype(np.float32),
        rng.normal(0.62, 0.05, len(found)).clip(0.48, 0.76).astype(np.float32),
    )


def paint(stain: Field, kind: Mitochondria, canvas: Canvas, cells: Walls, folds: Field) -> None:
    """Paint the mitochondria that meet the slice; ``folds`` (y, x) is a random field that
    crumples and interrupts the cristae."""
    near = kind.beads.near(canvas.z_nm, REACH_NM)
    for i, tube in near.tubes():
        patch = tube_patch(canvas, tube, REACH_NM)
        if patch is None:
            continue
        cut = patch.rows, patch.columns
        mine = cells.owner[cut] == kind.host[i]
        room = np.where(mine, cells.depth[cut] - CLEARANCE_NM, np.float32(-100))
        depth = softer(-patch.distance + 6 * folds[cut], room, 70.0)
        tilt = np.minimum(np.abs(patch.slope_z), 0.95)
        view = stain[cut]
        cover(view, ramp(depth, -7, 5), _matrix(kind, i, canvas, cut, depth, folds[cut]))
        cover(view, 0.8 * sheet(depth, tilt, 6.0) * mine, 0.9)


def _matrix(
    kind: Mitochondria,
    i: int,
    canvas: Canvas,
    cut: tuple[slice, slice],
    depth: Field,
    folds: Field,
) -> Field:
    """Stain inside mitochondrion ``i``: matrix, and cristae as pale slits with dark edges."""
    z, y, x = kind.across[i]
    position = (
        np.float32(z * canvas.z_nm)
        + (y * canvas.fine.y_nm[cut[0]])[:, None]
        + (x * canvas.fine.x_nm[cut[1]])[None]
    )
    phase = (position + 15 * folds) * np.float32(2 * np.pi / kind.period_nm[i])
    wave = np.cos(phase)
    open_here = ramp(depth, 12, 30) * ramp(np.cos(0.37 * phase + 3.1 * folds), -0.7, 0.2)
    edges = 0.16 * ramp(wave, 0.1, 0.7)
    slit = 0.34 * ramp(wave, 0.75, 1.0)
    return kind.matrix[i] + open_here * (edges - slit) + 0.015 * folds


def _run(hosts: Beads, first: int, length_nm: float) -> slice:
    """The beads of one string from ``first`` on, over ``length_nm``."""
    stop = int(np.searchsorted(hosts.label, hosts.label[first], side="right"))
    steps = np.linalg.norm(np.diff(hosts.centre_nm[first:stop], axis=0), axis=1)
    return slice(first, first + 1 + int(np.searchsorted(np.cumsum(steps), length_nm)))


def _within(part: Beads, widest_nm: float, rng: np.random.Generator) -> Beads:
    """Beads of a mitochondrion in the stretch ``part`` of its neurite, somewhat off its middle."""
    middle, room = _resampled(part)
    taper = np.sin(np.pi * np.linspace(0.12, 0.88, len(room))) ** 0.35
    fat = rng.uniform(0.44, 0.66) * room
    radius = np.minimum(fat, widest_nm * rng.uniform(0.75, 1.1)) * taper
    sideways = rng.normal(size=3)
    sideways /= np.linalg.norm(sideways)
    offset = rng.uniform(0, 1) * np.maximum(room - radius - 25, 0)
    centre = middle + offset[:, None] * sideways
    label = np.full(len(room), part.label[0], np.int32)
    return Beads(centre.astype(np.float32), radius.astype(np.float32), label)


def _resampled(part: Beads) -> tuple[Field, Field]:
    """Centres and radii of the string, a bead every ``BEAD_NM``."""
    steps = np.linalg.norm(np.diff(part.centre_nm, axis=0), axis=1)
    along = np.concatenate([[0], np.cumsum(steps)])
    at = np.linspace(0, along[-1], max(int(along[-1] / BEAD_NM), 2))
    centre = np.stack([np.interp(at, along, c) for c in part.centre_nm.T], axis=1)
    return centre, np.interp(at, along, part.radius_nm)


def _across(beads: Beads, rng: np.random.Generator) -> NDArray[np.floating]:
    """The direction across the cristae: along the mitochondrion, or askew."""
    axis = beads.centre_nm[-1] - beads.centre_nm[0]
    direction = axis / (np.linalg.norm(axis) + 1) + 0.6 * rng.normal(size=3)
    return direction / np.linalg.norm(direction)
