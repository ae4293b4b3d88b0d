"""The tile plan: which LR box to read for which SR box. Integers only, no images, no I/O.

The one place that knows how LR and HR coordinates meet: LR pixel i covers HR pixels s*i to
s*i + s - 1, z passes through unchanged.

        LR volume                                 SR volume (y and x times the scale)
    +---------------------------+             +---------------------------------+
    |   +- - - - - - -+         |             |                                 |
    |     read = core               network   |      +-----------+              |
    |   | +---------+ |<- halo  |  -------->  |      |   write   |  one shard,  |
    |     |  core   |                         |      |           |  one writer  |
    |   | +---------+ |         |             |      +-----------+              |
    |   +- - - - - - -+         |             |                                 |
    +---------------------------+             +---------------------------------+

The write boxes partition the SR volume. A read box is the tile's core grown by the halo, its start
moved down (and its stop up) to a multiple of the network's window, then clipped at the volume:
never padded. So a network that looks at most ``halo`` pixels far, with windows aligned to the
volume's origin, sees in a tile exactly what it would see in the whole image. Along z it grows by
the neighbouring slices that the network sees with each slice (``geometry/neighbours``).
"""

from __future__ import annotations

from dataclasses import dataclass

from emsr.geometry.box import Box, OnDemand, Triple, blocks


@dataclass(frozen=True)
class Tile:
    """An LR box to ``read`` and the SR box that this tile alone is responsible to ``write``."""

    read: Box
    write: Box
    scale: int

    @property
    def crop(self) -> Box:
        """The part of the network's output for ``read`` that is to be written, in coordinates of
        that output."""
        return self.write.inside(self.read.scaled(self.scale))


SpacingNm = tuple[float, float, float] | None


def finer_spacing(lr_spacing_nm: SpacingNm, scale: int) -> SpacingNm:
    """The HR spacing (z, y, x) that belongs to an LR spacing; None stays None."""
    return _times(lr_spacing_nm, 1 / scale)


def coarser_spacing(hr_spacing_nm: SpacingNm, scale: int) -> SpacingNm:
    """The LR spacing (z, y, x) that belongs to an HR spacing; None stays None."""
    return _times(hr_spacing_nm, scale)


def _times(spacing_nm: SpacingNm, factor: float) -> SpacingNm:
    if spacing_nm is None:
        return None
    z, y, x = spacing_nm
    # 5.9 nm times 3 is to be 17.7 nm, without the noise of the product's last digits.
    return z, float(f"{y * factor:.12g}"), float(f"{x * factor:.12g}")


def tile_shape(shape: Triple, tile_px: Triple, multiple: int) -> Triple:
    """``tile_px`` cut down to an LR volume of ``shape``; y and x are multiples of ``multiple``."""
    z, y, x = tile_px
    return (
        min(z, shape[0]),
        min(_up(y, multiple), _up(shape[1], multiple)),
        min(_up(x, multiple), _up(shape[2], multiple)),
    )


def plan(
    shape: Triple, tile: Triple, *, scale: int, halo: int, multiple: int, z_halo: int = 0
) -> OnDemand[Tile]:
    """The tiles of an LR volume of ``shape``, in raster order; every SR voxel has one writer.

    ``tile`` (z, y, x) is in LR voxels, its y and x multiples of ``multiple``; ``halo`` in LR
    pixels along y and x, ``z_halo`` in slices.
    """
    if tile[1] % multiple or tile[2] % multiple:
        raise ValueError(f"tile {tile}: y and x must be multiples of {multiple}")
    cores = blocks(shape, tile)
    grow = ((z_halo, 1), (halo, multiple), (halo, multiple))

    def make(number: int) -> Tile:
        core = cores[number]
        return Tile(_grown(core, grow, shape), core.scaled(scale), scale)

    return OnDemand(len(cores), make)


def _grown(core: Box, grow: tuple[tuple[int, int], ...], shape: Triple) -> Box:
    """``core`` grown along each axis by (halo, multiple) and clipped at the volume."""
    sides = zip(core.start, core.stop, grow, shape, strict=True)
    z, y, x = (_grow((a, b), *by, limit) for a, b, by, limit in sides)
    return Box((z[0], y[0], x[0]), (z[1], y[1], x[1]))


def _grow(core: tuple[int, int], halo: int, multiple: int, limit: int) -> tuple[int, int]:
    start = max(0, core[0] - halo) // multiple * multiple
    return start, min(limit, _up(core[1] + halo, multiple))


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
