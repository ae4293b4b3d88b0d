"""Which stored LR slices lie next to one another in the scan that they come from."""

from __future__ import annotations

import numpy as np

from emsr.geometry.neighbours import seen_with, z_halo
from emsr.pairs.store import Pairs


def lr_channels(pairs: Pairs, i: int, slices: int) -> list[int]:
    """The LR slices that a network of ``slices`` channels sees for LR slice ``i``, in order of z.

    Neighbours are of the same variant and adjacent in the scan; where a strategy left one out, or
    the scan ends, the last slice before it is repeated.
    """
    below, above = (_run(pairs, i, step, z_halo(slices)) for step in (-1, 1))
    run = [*reversed(below), i, *above]
    return [run[k] for k in seen_with(len(below), len(run), slices)]


def have_neighbours(pairs: Pairs) -> bool:
    """Whether any two of the LR slices are neighbours."""
    return any(_beside(pairs, i, 1) is not None for i in range(pairs.lr.shape[0]))


def _run(pairs: Pairs, i: int, step: int, most: int) -> list[int]:
    """The LR slices, ``most`` at most, that follow slice ``i`` without a gap; ``step`` 1 is up."""
    found: list[int] = []
    while len(found) < most and (beside := _beside(pairs, i, step)) is not None:
        found.append(beside)
        i = beside
    return found


def _beside(pairs: Pairs, i: int, step: int) -> int | None:
    """The LR slice of the same variant one slice up or down the scan, where there is one."""
    m = int(pairs.hr_slice[i])
    beside = m + step
    if not 0 <= beside < len(pairs.hr_z) or pairs.hr_z[beside] != pairs.hr_z[m] + step:
        return None
    # The LR slices of an HR slice are stored one behind the other, in order of their variants.
    variant = i - int(np.searchsorted(pairs.hr_slice, m))
    first, stop = (int(np.searchsorted(pairs.hr_slice, b)) for b in (beside, beside + 1))
    return first + variant if first + variant < stop else None
