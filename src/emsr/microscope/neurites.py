"""Neurites of the neuropil as strings of beads: dendrites with spines, axons with boutons.

Lengths follow cortical neuropil (Kasthuri et al., Cell 2015): thin axons of about 0.1 to 0.2 µm
with boutons every few micrometres, dendrites of 0.3 to 1.2 µm, spines on necks below 0.2 µm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from emsr.microscope.beads import Beads
from emsr.microscope.packing import pushed_apart, wandering_line
from emsr.microscope.smooth_field import Field

MARGIN_NM = 450.0
FILLED = 1.15
"""Summed tube volume per volume; the diagram closes or squeezes the rest."""
DENDRITE_SHARE = 0.36


@dataclass(frozen=True)
class Synapses:
    """Contacts of boutons: ``centre_nm`` (n, 3), ``radius_nm`` (n,), labels ``pre``, ``post``."""

    centre_nm: Field
    radius_nm: Field
    pre: NDArray[np.int32]
    post: NDArray[np.int32]


@dataclass(frozen=True)
class Neurites:
    """All neurites of a volume; label i is a dendrite where ``dendrite[i]``.

    ``trunks`` are all neurites without their spines; ``boutons`` has one bead each, with the
    label of its axon.
    """

    beads: Beads
    dendrite: NDArray[np.bool_]
    trunks: Beads
    boutons: Beads
    synapses: Synapses


@dataclass(frozen=True)
class _String:
    centre_nm: Field
    radius_nm: Field
    bouton: NDArray[np.bool_]
    dendrite: bool


def grow(extent_nm: NDArray[np.floating], rng: np.random.Generator) -> Neurites:
    """Neurites that fill a box of ``extent_nm`` (z, y, x) and a margin around it."""
    box = np.asarray(extent_nm) + 2 * MARGIN_NM
    strings = _strings(box, rng)
    strings = [_shifted(s, -MARGIN_NM) for s in strings]
    label = np.repeat(np.arange(len(strings)), [len(s.radius_nm) for s in strings])
    beads = Beads(
        np.concatenate([s.centre_nm for s in strings]),
        np.concatenate([s.radius_nm for s in strings]),
        label.astype(np.int32),
    )
    dendrite = np.array([s.dendrite for s in strings])
    is_bouton = np.concatenate([s.bouton for s in strings])
    beads = pushed_apart(beads, rounds=12, stiffness=6)
    return _with_synapses(beads, dendrite, is_bouton, rng)


def _strings(box_nm: NDArray[np.floating], rng: np.random.Generator) -> list[_String]:
    """Dendrites, then axons, until each kind has its share of the volume."""
    strings: list[_String] = []
    for dendrite, share in ((True, DENDRITE_SHARE), (False, 1 - DENDRITE_SHARE)):
        missing = FILLED * share * float(np.prod(box_nm))
        while missing > 0:
            string = _inside(_dendrite(box_nm, rng) if dendrite else _axon(box_nm, rng), box_nm)
            if len(string.radius_nm) < 2:
                continue
            strings.append(string)
            steps = np.linalg.norm(np.diff(string.centre_nm, axis=0), axis=1)
            missing -= float(np.sum(np.pi * string.radius_nm[1:] ** 2 * steps))
    return strings


def _dendrite(box_nm: NDArray[np.floating], rng: np.random.Generator) -> _String:
    radius = float(np.clip(rng.lognormal(np.log(230), 0.5), 90, 600))
    line = _line(box_nm, wander=0.25, step_nm=0.5 * radius, rng=rng)
    swelling = np.exp(0.22 * _wave(len(line), 500 / radius, rng))
    return _String(line, (radius * swelling).astype(np.float32), np.zeros(len(line), bool), True)


def _axon(box_nm: NDArray[np.floating], rng: np.random.Generator) -> _String:
    radius = float(np.clip(rng.lognormal(np.log(78), 0.4), 45, 220))
    line = _line(box_nm, wander=0.6, step_nm=50.0, rng=rng)
    along = 50.0 * np.arange(len(line))
    thickness = radius * np.exp(0.2 * _wave(len(line), 6, rng))
    centre = rng.uniform(0, 2500)
    bouton = np.zeros(len(line), bool)
    while centre < along[-1]:
        top, width = rng.lognormal(np.log(235), 0.35), rng.uniform(150, 350)
        thickness = np.maximum(thickness, top * np.exp(-(((along - centre) / width) ** 4)))
        bouton[int(np.argmin(np.abs(along - centre)))] = True
        centre += 900 + rng.exponential(2200)
    return _String(line, thickness.astype(np.float32), bouton, False)


def _line(
    box_nm: NDArray[np.floating], wander: float, step_nm: float, rng: np.random.Generator
) -> Field:
    """A curve through a random point of the box, long enough to leave it in most directions."""
    length = 2 * float(np.linalg.norm(box_nm))
    return wandering_line(
        rng.uniform(0, 1, 3) * box_nm, rng.normal(size=3), wander, length, step_nm, rng
    )


def _inside(string: _String, box_nm: NDArray[np.floating]) -> _String:
    """The part of the string inside the box that holds its middle, unbroken."""
    inside = np.all((string.centre_nm > 0) & (string.centre_nm < box_nm), axis=1)
    middle = len(inside) // 2
    outside = np.flatnonzero(~inside)
    start = int(outside[outside < middle].max(initial=-1)) + 1
    stop = int(outside[outside > middle].min(initial=len(inside)))
    cut = slice(start, stop)
    return _String(
        string.centre_nm[cut], string.radius_nm[cut], string.bouton[cut], string.dendrite
    )


def _shifted(string: _String, by_nm: float) -> _String:
    centre = string.centre_nm + np.float32(by_nm)
    return _String(centre, string.radius_nm, string.bouton, string.dendrite)


def _wave(count: int, period: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random curve of ``count`` samples, standard deviation about 1, smooth over ``period``."""
    knots = int(count / max(period, 1)) + 3
    return np.interp(np.arange(count), np.linspace(0, count, knots), rng.normal(0, 1, knots))


def _with_synapses(
    beads: Beads,
    dendrite: NDArray[np.bool_],
    is_bouton: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Neurites:
    """Give most boutons a spine of the nearest dendrite, and the contact between the two."""
    boutons = beads.where(is_bouton)
    shafts = beads.where(dendrite[beads.label])
    extra: list[Beads] = []
    contacts = []
    if len(boutons.label) and len(shafts.label):
        _, nearest = cKDTree(shafts.centre_nm).query(boutons.centre_nm)
        for i, j in enumerate(np.atleast_1d(nearest)):
            if rng.uniform() > 0.85:
                continue
            spine, contact = _spine(boutons, i, shafts, int(j), rng)
            extra.append(spine)
            contacts.append((*contact, boutons.label[i], shafts.label[j]))
    joined = _joined([beads, *extra])
    table = np.array(contacts, np.float64).reshape(-1, 6)
    synapses = Synapses(
        table[:, :3].astype(np.float32),
        table[:, 3].astype(np.float32),
        table[:, 4].astype(np.int32),
        table[:, 5].astype(np.int32),
    )
    return Neurites(joined, dendrite, beads, boutons, synapses)


def _spine(
    boutons: Beads, i: int, shafts: Beads, j: int, rng: np.random.Generator
) -> tuple[Beads, tuple[float, float, float, float]]:
    """Head and neck from shaft bead ``j`` to bouton ``i``, and the contact's centre and radius."""
    bouton, shaft = boutons.centre_nm[i], shafts.centre_nm[j]
    towards = bouton - shaft
    distance = float(np.linalg.norm(towards)) + 1.0
    gap = distance - float(boutons.radius_nm[i] + shafts.radius_nm[j])
    head = float(np.clip(rng.lognormal(np.log(150), 0.3), 80, 260))
    reach = distance - 0.8 * float(boutons.radius_nm[i])
    steps = np.linspace(0, 1, max(int(reach / 40), 2))[:, None]
    centre = (shaft + steps * towards / distance * (reach - head)).astype(np.float32)
    radius = np.where(steps[:, 0] * max(gap, 0) > gap - 1.2 * head, head, 60.0)
    contact = bouton - towards / distance * 0.9 * float(boutons.radius_nm[i])
    beads = Beads(
        centre, radius.astype(np.float32), np.full(len(centre), shafts.label[j], np.int32)
    )
    z, y, x = (float(c) for c in contact)
    return beads, (z, y, x, float(np.clip(1.1 * head, 110, 230)))


def _joined(parts: list[Beads]) -> Beads:
    label = np.concatenate([part.label for part in parts])
    order = np.argsort(label, kind="stable")
    return Beads(
        np.concatenate([part.centre_nm for part in parts])[order],
        np.concatenate([part.radius_nm for part in parts])[order],
        label[order],
    )
