"""Tubes as strings of beads: the one shape of everything elongated in the tissue.

A tube (neurite, fibre, mitochondrion) is the union of its balls; its field is the distance to its
surface, min over beads of |p - centre| - radius.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emsr.microscope.smooth_field import Field

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Beads:
    """Strings of beads, sorted by label: ``centre_nm`` (n, 3) zyx, ``radius_nm`` (n,),
    ``label`` (n,)."""

    centre_nm: Field
    radius_nm: Field
    label: Labels

    def near(self, z_nm: float, reach_nm: float) -> Beads:
        """The beads whose surface comes within ``reach_nm`` of the plane at ``z_nm``."""
        return self.where(np.abs(self.centre_nm[:, 0] - z_nm) < self.radius_nm + reach_nm)

    def where(self, chosen: NDArray[np.bool_]) -> Beads:
        """The chosen beads."""
        return Beads(self.centre_nm[chosen], self.radius_nm[chosen], self.label[chosen])

    def span(self, run: slice) -> Beads:
        """The beads of one index range."""
        return Beads(self.centre_nm[run], self.radius_nm[run], self.label[run])

    def tubes(self) -> Iterator[tuple[int, Beads]]:
        """Each label that occurs, with its beads."""
        labels, first = np.unique(self.label, return_index=True)
        last = np.append(first[1:], len(self.label))[: len(labels)]
        for label, a, b in zip(labels, first, last, strict=True):
            yield int(label), self.span(slice(a, b))
