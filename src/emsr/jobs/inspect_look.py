"""What ``inspect`` reads of a volume: up to five runs of three adjacent slices, spread over z, and
the middle of each, so that a volume of any size is inspected in the same memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emsr.errors import InputError
from emsr.geometry.box import Box
from emsr.jobs.listener import Listener
from emsr.quality.reference_free import check_repeat
from emsr.volumes.volume import StoredVolume

RUN, MOST_RUNS = 3, 5
LARGEST_PX = 2048


@dataclass(frozen=True)
class Look:
    """What was read of a volume: slices ``stack`` (z, y, x) that are not constant, the same ones in
    ``runs`` of adjacent slices where they are whole, and where they lie."""

    stack: np.ndarray
    runs: np.ndarray | None
    at: list[int]
    corner: tuple[int, int]
    constant: int

    @property
    def all_runs(self) -> bool:
        """Whether ``stack`` consists of whole runs."""
        return self.runs is not None and len(self.runs) == len(self.stack)


def look_at(volume: StoredVolume, listener: Listener) -> Look:
    """The slices that are looked at, read from the middle of the field."""
    wanted = _slices(volume.shape[0])
    corner, size = middle_of(volume.shape[1:], LARGEST_PX)
    planes = []
    for done, z in enumerate(wanted, start=1):
        planes.append(read_part(volume, z, corner, size))
        listener.progress("inspect", done, len(wanted), "slices")
    lively = [bool(plane.min() < plane.max()) for plane in planes]
    if not any(lively):
        raise InputError(
            f"{volume.name}: all {len(planes)} slices that were looked at are constant: there is "
            "nothing to inspect; give the scan itself"
        )
    stack = np.stack([plane for plane, kept in zip(planes, lively, strict=True) if kept])
    at = [z for z, kept in zip(wanted, lively, strict=True) if kept]
    runs = _whole_runs(planes, lively) if volume.shape[0] >= RUN else None
    return Look(stack, runs, at, corner, lively.count(False))


def same_look(second: StoredVolume, look: Look) -> np.ndarray:
    """The slices of the repeat that were looked at."""
    size = (look.stack.shape[1], look.stack.shape[2])
    stack = np.stack([read_part(second, z, look.corner, size) for z in look.at])
    middle = len(stack) // 2
    check_repeat(look.stack[middle], stack[middle])
    return stack


def read_part(
    volume: StoredVolume, z: int, corner: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    (y, x), (height, width) = corner, size
    plane = volume.read(Box((z, y, x), (z + 1, y + height, x + width)))[0]
    if plane.dtype.kind == "f" and not np.isfinite(plane).all():
        raise InputError(
            f"{volume.name} holds NaN or infinite values in slice {z}: replace them or crop the "
            "volume"
        )
    return plane


def middle_of(shape: tuple[int, ...], largest: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Corner and size of the middle of a slice (y, x), at most ``largest`` pixels a side."""
    y, x = (min(side, largest) for side in shape)
    return ((shape[0] - y) // 2, (shape[1] - x) // 2), (y, x)


def _slices(depth: int) -> list[int]:
    """Runs of adjacent slices, spread evenly over z."""
    if depth < RUN:
        return list(range(depth))
    count = min(MOST_RUNS, depth // RUN)
    starts = np.linspace(0, depth - RUN, count).round().astype(int)
    return [int(start) + z for start in starts for z in range(RUN)]


def _whole_runs(planes: list[np.ndarray], lively: list[bool]) -> np.ndarray | None:
    """The runs without a constant slice, one behind the other."""
    whole = [
        plane
        for i, plane in enumerate(planes)
        if all(lively[i // RUN * RUN : i // RUN * RUN + RUN])
    ]
    return np.stack(whole) if whole else None
