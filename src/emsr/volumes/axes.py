"""Arrays whose axes lie in another order, or have more of them, as (z, y, x).

Axes are named by one letter each, in the order of the array; those not called z, y or x must have
length 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.geometry.box import Box, Triple
from emsr.volumes.volume import Fetch, checked_shape

ONE = "-"
"""The name of an axis of length 1 that means nothing."""


def unnamed(shape: tuple[int, ...], name: str) -> str:
    """Names for the axes of an array that gives none: (y, x), (z, y, x), or either with further
    axes of length 1 anywhere. InputError where that does not settle it."""
    if len(shape) in (2, 3):
        return "zyx"[-len(shape) :]
    long = [axis for axis, n in enumerate(shape) if n != 1]
    if len(long) not in (2, 3):
        raise InputError(
            f"{name} has shape {shape}: expected axes (y, x) or (z, y, x), and all others of "
            "length 1; save one channel and time point"
        )
    spatial = dict(zip(long, "zyx"[-len(long) :], strict=True))
    return "".join(spatial.get(axis, ONE) for axis in range(len(shape)))


def grid(shape: tuple[int, ...], names: str, name: str) -> Triple:
    """(z, y, x) of an array; InputError where the named axes do not make a grey volume."""
    sizes = dict(zip(names, shape, strict=True))
    others = [n for axis, n in zip(names, shape, strict=True) if axis not in "zyx"]
    if not {"y", "x"} <= sizes.keys() or any(n != 1 for n in others):
        raise InputError(
            f"{name} has axes {', '.join(names)} of shape {tuple(shape)}: expected (y, x) or "
            "(z, y, x), with one time point and one channel; save one of them"
        )
    return checked_shape((sizes.get("z", 1), sizes["y"], sizes["x"]), name)


def chunk_grid(chunks: Sequence[int] | None, names: str) -> Triple | None:
    """(z, y, x) of an array's chunks; None where it has none."""
    if chunks is None:
        return None
    sizes = dict(zip(names, chunks, strict=True))
    return sizes.get("z", 1), sizes["y"], sizes["x"]


def fetch_by_axes(get: Callable[[tuple[Any, ...]], np.ndarray], names: str) -> Fetch:
    """Boxes of an array that ``get`` indexes: by a slice along z, y and x, by 0 along others."""
    found = [axis for axis in names if axis in "zyx"]
    order = [found.index(axis) for axis in "zyx" if axis in found]

    def fetch(box: Box) -> np.ndarray:
        by_axis: dict[str, Any] = dict(zip("zyx", box.slices, strict=True))
        values = np.asarray(get(tuple(by_axis.get(axis, 0) for axis in names)))
        return values.transpose(order).reshape(box.shape)

    return fetch
