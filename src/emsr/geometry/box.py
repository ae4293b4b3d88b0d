"""A box of voxels: half-open integer intervals along z, y and x."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

Triple = tuple[int, int, int]


@dataclass(frozen=True, order=True)
class Box:
    """The voxels with ``start <= (z, y, x) < stop``; never empty."""

    start: Triple
    stop: Triple

    def __post_init__(self) -> None:
        if any(a >= b for a, b in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"empty box: start {self.start}, stop {self.stop}")

    @property
    def shape(self) -> Triple:
        """Extent along (z, y, x)."""
        return _triple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The index that cuts this box out of a (z, y, x) array."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    def shifted(self, by: Triple) -> Box:
        """The box moved by ``by`` voxels."""
        return Box(
            _triple(a + d for a, d in zip(self.start, by, strict=True)),
            _triple(b + d for b, d in zip(self.stop, by, strict=True)),
        )

    def inside(self, other: Box) -> Box:
        """This box in the coordinates of ``other``'s first voxel."""
        z, y, x = other.start
        return self.shifted((-z, -y, -x))

    def scaled(self, scale: int) -> Box:
        """The same region in a grid ``scale`` times finer along y and x: LR pixel i covers HR
        pixels ``scale * i`` to ``scale * i + scale - 1``; z is unchanged."""
        (z0, y0, x0), (z1, y1, x1) = self.start, self.stop
        return Box((z0, y0 * scale, x0 * scale), (z1, y1 * scale, x1 * scale))


def whole(shape: Triple) -> Box:
    """The box that covers an array of ``shape``."""
    return Box((0, 0, 0), shape)


T = TypeVar("T")


class OnDemand(Sequence[T]):
    """A sequence whose members are made when they are asked for: millions take no memory."""

    def __init__(self, count: int, make: Callable[[int], T]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        wanted = range(self._count)[index]
        return self._make(wanted) if isinstance(wanted, int) else [self._make(n) for n in wanted]


def blocks(shape: Triple, step: Triple) -> OnDemand[Box]:
    """An array of ``shape`` cut into boxes of ``step``, clipped at the far edges, in the order
    z, y, x."""
    z, y, x = (-(-n // s) for n, s in zip(shape, step, strict=True))

    def block(number: int) -> Box:
        index = (number // (y * x), number // x % y, number % x)
        start = _triple(i * s for i, s in zip(index, step, strict=True))
        edges = zip(start, step, shape, strict=True)
        return Box(start, _triple(min(a + s, n) for a, s, n in edges))

    return OnDemand(math.prod((z, y, x)), block)


def _triple(values: Iterable[int]) -> Triple:
    z, y, x = values
    return z, y, x
