"""Which slices along z a network sees together: the one place that decides it.

A network of ``slices`` channels takes each slice with as many neighbours on either side; the slice
itself lies in the middle channel.
"""

from __future__ import annotations


def z_halo(slices: int) -> int:
    """How many slices a network of ``slices`` channels (an odd number) sees on either side."""
    return slices // 2


def seen_with(z: int, depth: int, slices: int) -> list[int]:
    """The slices in the channels of a network, in order of z, for slice ``z`` of a run of ``depth``
    adjacent ones. Where the run ends its last slice is repeated, so that nothing is invented."""
    reach = z_halo(slices)
    return [min(max(beside, 0), depth - 1) for beside in range(z - reach, z + reach + 1)]
