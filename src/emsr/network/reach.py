"""How far a network looks: the exact receptive radius of a chain of steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Conv(NamedTuple):
    """A step in which a pixel sees ``reach`` pixels to every side."""

    reach: int


class Window(NamedTuple):
    """A step in which a pixel sees the whole window it lies in, windows of ``side`` pixels being
    aligned to the image's origin: attention windows, and every change of resolution. Shifted
    windows are aligned to the pixel ``shift``."""

    side: int
    shift: int = 0


Step = Conv | Window


def radius(steps: Sequence[Step], multiple: int) -> int:
    """The farthest pixel along one axis that any pixel sees through ``steps``, listed from the
    output back to the input; ``multiple`` is what all windows divide."""
    return max(_reach(pixel, steps) for pixel in range(multiple))


def _reach(pixel: int, steps: Sequence[Step]) -> int:
    low = high = pixel
    for step in steps:
        match step:
            case Conv(reach):
                low, high = low - reach, high + reach
            case Window(side, shift):
                low = (low - shift) // side * side + shift
                high = (high - shift) // side * side + shift + side - 1
    return max(pixel - low, high - pixel)
