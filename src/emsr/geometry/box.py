"""A box of voxels: half-open integer intervals along z, y and x."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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


def _triple(values: Iterable[int]) -> Triple:
    z, y, x = values
    return z, y, x
