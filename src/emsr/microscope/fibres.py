"""White matter as strings of beads along z: myelinated and bare axons, now and then a glial cell.

Calibres are log-normal with g-ratios near 0.75 (Chomiak and Hu, PLoS ONE 2009).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emsr.microscope.beads import Beads, Labels
from emsr.microscope.packing import pushed_apart, wandering_line
from emsr.microscope.smooth_field import Field

MARGIN_NM = 700.0
MYELINATED_SHARE, BARE_SHARE = 0.92, 0.27
"""Summed cross-sections per area of the field."""
SOMA_PER_UM2 = 1 / 350.0
MYELINATED, BARE, SOMA = 0, 1, 2


@dataclass(frozen=True)
class Fibres:
    """Axons and glial cells; by label: ``kind``, and ``sheath_nm``, the myelin's thickness (0
    without)."""

    beads: Beads
    kind: Labels
    sheath_nm: Field


def bundle(extent_nm: NDArray[np.floating], rng: np.random.Generator) -> Fibres:
    """Fibres that fill a box of ``extent_nm`` (z, y, x) and a margin around it."""
    box = np.asarray(extent_nm) + 2 * MARGIN_NM
    lean = rng.normal(0, 0.1, 2)
    strings = _somata(box, rng)
    kinds = [SOMA] * len(strings)
    for kind, share in ((MYELINATED, MYELINATED_SHARE), (BARE, BARE_SHARE)):
        missing = share * float(box[1] * box[2])
        while missing > 0:
            radius = _radius(kind, rng)
            strings.append(_fibre(radius, box, lean, rng))
            kinds.append(kind)
            missing -= np.pi * radius**2
    beads = _labelled(strings)
    beads = pushed_apart(beads, rounds=35, stiffness=8)
    by_label = np.array(kinds, np.int32)
    return Fibres(beads, by_label, _sheaths(beads, by_label, rng))


def _radius(kind: int, rng: np.random.Generator) -> float:
    median, spread, low, high = (
        (400, 0.45, 190, 1500) if kind == MYELINATED else (115, 0.35, 60, 300)
    )
    return float(np.clip(rng.lognormal(np.log(median), spread), low, high))


def _fibre(
    radius: float, box_nm: NDArray[np.floating], lean: NDArray, rng: np.random.Generator
) -> tuple[Field, Field]:
    """A line roughly along z through the whole box, its calibre swelling a little."""
    direction = np.array([1.0, *(lean + rng.normal(0, 0.05, 2))])
    start = np.array([box_nm[0] / 2, *(rng.uniform(0, 1, 2) * box_nm[1:])]) - MARGIN_NM
    line = wandering_line(start, direction, 0.10, 1.1 * box_nm[0], min(0.7 * radius, 150), rng)
    swelling = 1 + 0.06 * np.sin(line[:, 0] / rng.uniform(500, 1500) + rng.uniform(0, 6.3))
    return line, (radius * swelling).astype(np.float32)


def _somata(box_nm: NDArray[np.floating], rng: np.random.Generator) -> list[tuple[Field, Field]]:
    """Glial cell bodies: spheres, as many as their density gives."""
    count = rng.poisson(SOMA_PER_UM2 * float(box_nm[1] * box_nm[2]) * 1e-6)
    place = rng.uniform(0, 1, (count, 3)) * box_nm - MARGIN_NM
    return [
        (p[None].astype(np.float32), np.array([rng.uniform(2000, 3200)], np.float32)) for p in place
    ]


def _labelled(strings: list[tuple[Field, Field]]) -> Beads:
    label = np.repeat(np.arange(len(strings)), [len(radius) for _, radius in strings])
    return Beads(
        np.concatenate([centre for centre, _ in strings]),
        np.concatenate([radius for _, radius in strings]),
        label.astype(np.int32),
    )


def _sheaths(beads: Beads, kind: Labels, rng: np.random.Generator) -> Field:
    """Myelin thickness by label from radius and g-ratio."""
    _, first = np.unique(beads.label, return_index=True)
    g_ratio = rng.normal(0.75, 0.05, len(kind)).clip(0.58, 0.87)
    thick = np.maximum(beads.radius_nm[first] * (1 - g_ratio), 45)
    return np.where(kind == MYELINATED, np.minimum(thick, 330), 0).astype(np.float32)
