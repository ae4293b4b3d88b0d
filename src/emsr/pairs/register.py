"""Whether two scans can be one pair at all: their grids, before a pixel is read."""

from __future__ import annotations

import numpy as np

from emsr.errors import InputError
from emsr.geometry.box import Triple
from emsr.geometry.tiles import coarser_spacing, finer_spacing
from emsr.volumes.spacing import Spacing
from emsr.volumes.volume import Volume

SPACING_TOLERANCE = 0.01


def common_scale(lr: Volume, hr: Volume, scale: int | None) -> int:
    """How many HR pixels an LR pixel is wide and high. InputError unless the scans have the same
    number of slices and HR is exactly that many times LR (the stated ``scale``, where given)."""
    (lz, ly, lx), (hz, hy, hx) = lr.shape, hr.shape
    found = hy // ly
    if lz != hz or found < 1 or (hy, hx) != (found * ly, found * lx):
        raise InputError(
            f"{lr.name} is {_times(lr.shape)}, {hr.name} is {_times(hr.shape)} (z, y, x): expected "
            f"as many slices, and HR a whole multiple of LR along y and x; crop them to one field"
        )
    if scale is not None and scale != found:
        raise InputError(
            f"{hr.name} ({_times(hr.shape)}) is {found} times {lr.name} ({_times(lr.shape)}), the "
            f"scale asked for is {scale}: give --scale {found} or other scans"
        )
    if scale is None and found == 1:
        raise InputError(
            f"{lr.name} and {hr.name} are both {_times(lr.shape)}, HR is expected to be finer: "
            f"give --scale 1 if pairs on one grid are meant"
        )
    return found


def common_spacing(lr: Volume, hr: Volume, scale: int) -> tuple[Spacing, Spacing, tuple[str, ...]]:
    """Spacing of (LR, HR) in nm, and remarks. InputError where the scans contradict the scale.

    Where one scan does not state its spacing, the other's and the scale decide, and a remark says
    so; where neither does, both stay None.
    """
    given, expected = lr.spacing_nm, coarser_spacing(hr.spacing_nm, scale)
    if given is None and expected is None:
        return None, None, ("neither scan states its spacing: the pairs carry none",)
    if given is None:
        remark = f"{lr.name} states no spacing: taken as {expected} nm from {hr.name} and the scale"
        return expected, hr.spacing_nm, (remark,)
    if expected is None:
        finer = finer_spacing(given, scale)
        remark = f"{hr.name} states no spacing: taken as {finer} nm from {lr.name} and the scale"
        return given, finer, (remark,)
    # The z spacing of a single slice is a convention of the reader, not a statement of the file.
    first = 0 if lr.shape[0] > 1 else 1
    if not same_spacing(given, expected, first):
        raise InputError(
            f"{lr.name} has a spacing of {given} nm, {hr.name} of {hr.spacing_nm} nm; at scale "
            f"{scale} LR is expected to have {expected} nm: correct it with --spacing (that of HR)"
        )
    return given, hr.spacing_nm, ()


def same_spacing(found: Spacing, expected: Spacing, first: int = 0) -> bool:
    """Whether two spacings (z, y, x) agree, from axis ``first`` on; what is not stated does."""
    if found is None or expected is None:
        return True
    return np.allclose(found[first:], expected[first:], rtol=SPACING_TOLERANCE, atol=0)


def _times(shape: Triple) -> str:
    return " x ".join(str(side) for side in shape)
