"""Voxel spacing as files state it: units to nanometres, and what to do where an axis is missing.

A spacing is (z, y, x) in nm, or None where it is unknown. It is never invented.
"""

from __future__ import annotations

import math

Spacing = tuple[float, float, float] | None
Stated = tuple[float | None, float | None, float | None]
"""(z, y, x) in nm as a file states them, axis by axis."""

_UNITS_NM = {
    "pm": 1e-3,
    "picometer": 1e-3,
    "a": 0.1,
    "å": 0.1,
    "angstrom": 0.1,
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "um": 1e3,
    "µm": 1e3,  # micro sign
    "μm": 1e3,  # Greek mu
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "mm": 1e6,
    "millimeter": 1e6,
    "cm": 1e7,
    "centimeter": 1e7,
    "inch": 2.54e7,
    "m": 1e9,
    "meter": 1e9,
}


def to_nm(value: float | None, unit: str | None) -> float | None:
    """A length in nm, or None where value or unit do not state one."""
    factor = _UNITS_NM.get((unit or "").strip().lower())
    if value is None or factor is None or not math.isfinite(value) or value <= 0:
        return None
    # 0.0059 µm is to be 5.9 nm, without the noise of the product's last digits
    return float(value) if factor == 1.0 else float(f"{value * factor:.12g}")


def level_factor(fine: int, coarse: int) -> float:
    """How many voxels of the finest level one of a pyramid's level covers, from their counts: an
    integer where rounding up or down explains them."""
    factor = round(fine / coarse)
    return factor if coarse in (fine // factor, -(-fine // factor)) else fine / coarse


def complete(stated: Stated, depth: int, name: str) -> tuple[Spacing, tuple[str, ...]]:
    """The spacing that (z, y, x) as ``stated`` amount to, and what is to be said about it.

    A single slice has no neighbour along z; where it states y and x only, its z is set to y, and
    that is said. Any other axis that is missing leaves the spacing unknown.
    """
    z, y, x = stated
    if y is not None and x is not None:
        if z is not None:
            return (z, y, x), ()
        if depth == 1:
            return (y, y, x), (f"{name} states no z spacing; its one slice is taken as {y} nm",)
        return None, (
            f"{name} states a spacing of y {y} and x {x} nm but none of z: taken as unknown",
        )
    return None, ()
