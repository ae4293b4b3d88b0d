"""Strings of beads drawn at random and pushed apart until they fill space evenly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from emsr.microscope.beads import Beads
from emsr.microscope.smooth_field import Field


def wandering_line(
    start_nm: NDArray[np.floating],
    direction: NDArray[np.floating],
    wander: float,
    length_nm: float,
    step_nm: float,
    rng: np.random.Generator,
) -> Field:
    """Points (n, 3) on a curve through ``start_nm``, half of ``length_nm`` to either side.

    Its direction drifts by about ``wander`` radians over each micrometre.
    """
    half = max(int(length_nm / 2 / step_nm), 1)
    turn = wander * np.sqrt(step_nm / 1000)
    both = []
    for sign in (-1.0, 1.0):
        drift = np.cumsum(rng.normal(0, turn, (half, 3)), axis=0)
        tangent = sign * direction / np.linalg.norm(direction) + drift
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        both.append(start_nm + step_nm * np.cumsum(tangent, axis=0))
    return np.concatenate([both[0][::-1], [start_nm], both[1]]).astype(np.float32)


def pushed_apart(beads: Beads, rounds: int, stiffness: int) -> Beads:
    """The same strings after ``rounds`` in which overlapping beads of different strings yield.

    The smaller bead yields more; shifts are averaged along the string ``stiffness`` times, so
    strings bend but do not break.
    """
    centre = beads.centre_nm.astype(np.float64)
    for _ in range(rounds):
        shift = _repulsion(centre, beads)
        for _ in range(stiffness):
            shift = _smoothed_along(shift, beads.label)
        centre += shift
    return Beads(centre.astype(np.float32), beads.radius_nm, beads.label)


def _repulsion(centre: NDArray[np.float64], beads: Beads) -> NDArray[np.float64]:
    """Mean displacement (n, 3) that would part each bead from those it overlaps."""
    first, second = _overlaps(centre, beads)
    apart = centre[first] - centre[second]
    distance = np.linalg.norm(apart, axis=1) + 1.0
    overlap = beads.radius_nm[first] + beads.radius_nm[second] - distance
    yielding = beads.radius_nm[second] / (beads.radius_nm[first] + beads.radius_nm[second])
    pairs = np.concatenate([first, second])
    share = np.concatenate([yielding, yielding - 1]) * np.tile(overlap / distance, 2)
    total = [
        np.bincount(pairs, share * np.tile(apart[:, axis], 2), len(centre)) for axis in range(3)
    ]
    count = np.bincount(pairs, minlength=len(centre))
    return np.stack(total, axis=1) / np.maximum(count, 1)[:, None]


def _overlaps(
    centre: NDArray[np.float64], beads: Beads
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index pairs of overlapping beads of different strings.

    Beads are searched by classes of similar radius, so that a few large ones do not make every
    small one look far.
    """
    radius, label = beads.radius_nm, beads.label
    size = np.floor(np.log2(radius / radius.min())).astype(int)
    classes = [np.flatnonzero(size == k) for k in np.unique(size)]
    trees = [cKDTree(centre[index]) for index in classes]
    first, second = [], []
    for i, own in enumerate(classes):
        for j, other in enumerate(classes[: i + 1]):
            limit = float(radius[own].max() + radius[other].max())
            near = trees[i].sparse_distance_matrix(trees[j], limit, output_type="ndarray")
            a, b = own[near["i"]], other[near["j"]]
            close = (label[a] != label[b]) & (near["v"] < radius[a] + radius[b])
            close &= (i != j) | (a < b)
            first.append(a[close])
            second.append(b[close])
    return np.concatenate(first), np.concatenate(second)


def _smoothed_along(shift: NDArray[np.float64], label: NDArray[np.int32]) -> NDArray[np.float64]:
    """Each bead's shift averaged with its two neighbours on the string."""
    same = (label[1:] == label[:-1])[:, None]
    after = np.concatenate([np.where(same, shift[1:], shift[:-1]), shift[-1:]])
    before = np.concatenate([shift[:1], np.where(same, shift[:-1], shift[1:])])
    return (before + 2 * shift + after) / 4
