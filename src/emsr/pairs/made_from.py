"""The HR scan that LR scans are made from: what must hold of it, and what its noise is.

Knows nothing of how LR is made, nor of strategies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.geometry.box import Box
from emsr.microscope.estimate import Noise, noise_from_image, noise_from_slices
from emsr.pairs.noise import finest_detail
from emsr.pairs.scans import (
    Request,
    check_field,
    checked_slices,
    new_digest,
    provenance,
    read_slice,
)
from emsr.volumes.volume import Volume

SAMPLE_SLICES = 8
SAMPLE_SIDE_PX = 768
NOTABLE_CLIPPED = 0.01
BEYOND_OFFSET = 0.05
"""Share of grey values beyond the level without electrons from which the offset must be wrong."""


@dataclass(frozen=True)
class HrField:
    """What was found when the HR scan was read once."""

    volume: Volume
    scale: int
    shape: tuple[int, int]
    """(y, x) HR pixels that are used: a multiple of the scale."""
    kept: tuple[int, ...]
    """The slices (z) that are not constant."""
    finest_sigma: float
    """Standard deviation of the noise, taken as white, from the finest detail; grey levels."""
    mean: float
    ends: tuple[tuple[float, float], tuple[float, float]]
    """The lowest and the highest grey value, each with the share of the pixels that have it."""
    provenance: dict[str, Any]

    @property
    def clipped(self) -> float:
        """Share of the grey values at the lowest and at the highest one of the scan, as far as
        these are ends of its range: an extreme that next to no pixel has is none."""
        return sum(share for _, share in self.ends)

    @property
    def lr_field(self) -> tuple[int, int]:
        """(y, x) LR pixels."""
        return self.shape[0] // self.scale, self.shape[1] // self.scale

    @property
    def constant(self) -> list[int]:
        """The slices that are left out."""
        return [z for z in range(self.volume.shape[0]) if z not in self.kept]

    def plane(self, z: int) -> np.ndarray:
        """HR slice (y, x) in the scan's dtype, as far as it is used."""
        return read_slice(self.volume, z)[: self.shape[0], : self.shape[1]]


def hr_field(request: Request) -> HrField:
    """The HR scan, read once. InputError where the scale is missing, a value is not finite, the
    field is too small, every slice is constant, or the offset of the noise cannot be right."""
    hr, scale = request.hr, request.scale
    if scale is None or scale < 1:
        raise InputError(f"scale {scale}: expected a whole number from 1 up; give --scale")
    shape = (hr.shape[1] // scale * scale, hr.shape[2] // scale * scale)
    check_field((shape[0] // scale, shape[1] // scale), f"{hr.name} at scale {scale}")
    digest, account = new_digest(), _Account(request)
    for z, plane in enumerate(checked_slices(hr, digest)):
        account.add(z, plane[: shape[0], : shape[1]])
        request.tick(z + 1, hr.shape[0])
    if not account.kept:
        raise InputError(f"{hr.name}: every slice is constant, there is nothing to learn from")
    account.check_offset(request)
    return HrField(
        volume=hr,
        scale=scale,
        shape=shape,
        kept=tuple(account.kept),
        finest_sigma=float(np.sqrt(np.mean(account.variances))),
        mean=float(np.mean(account.means)),
        ends=account.ends(),
        provenance=provenance(hr, "hr", digest),
    )


class _Account:
    """Sums over the slices that are not constant."""

    def __init__(self, request: Request) -> None:
        self.gain = request.degradation.noise_gain
        self.offset = request.degradation.noise_offset
        self.kept: list[int] = []
        self.variances: list[float] = []
        self.means: list[float] = []
        self.extremes: dict[float, int] = {}
        self.pixels = self.beyond = 0

    def add(self, z: int, plane: np.ndarray) -> None:
        low, high = float(plane.min()), float(plane.max())
        if low == high:
            return
        self.kept.append(z)
        self.variances.append(float(np.mean(finest_detail(plane) ** 2)))
        self.means.append(float(plane.mean(dtype=np.float64)))
        self.pixels += plane.size
        for value in (low, high):
            count = int(np.count_nonzero(plane == value))
            self.extremes[value] = self.extremes.get(value, 0) + count
        if self.gain:
            dark = plane < self.offset if self.gain > 0 else plane > self.offset
            self.beyond += int(np.count_nonzero(dark))

    def ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Of every slice only the extremes were counted; those of the scan are among them."""
        low, high = min(self.extremes), max(self.extremes)
        return (low, self.extremes[low] / self.pixels), (high, self.extremes[high] / self.pixels)

    def check_offset(self, request: Request) -> None:
        if self.beyond > BEYOND_OFFSET * self.pixels:
            side = "below" if self.gain > 0 else "above"
            raise InputError(
                f"{self.beyond / self.pixels:.0%} of the grey values of {request.hr.name} lie "
                f"{side} noise_offset {self.offset:g}, where with noise_gain {self.gain:g} there "
                f"are fewer than no electrons: give the grey level without electrons"
            )


def clipping(field: HrField) -> tuple[str, ...]:
    """What the user should hear where greys saturate."""
    if field.clipped <= NOTABLE_CLIPPED:
        return ()
    return (
        f"{field.clipped:.1%} of the grey values of {field.volume.name} lie at the ends of their "
        f"range: what is clipped there cannot be learned, and the targets are biased",
    )


def crop_remarks(field: HrField) -> tuple[str, ...]:
    """What the user should hear about the grid."""
    hr, found = field.volume, []
    if field.shape != hr.shape[1:]:
        found.append(
            f"{hr.name}: {hr.shape[1]} x {hr.shape[2]} is not a multiple of the scale "
            f"{field.scale}; cropped at the far edge to {field.shape[0]} x {field.shape[1]}"
        )
    if hr.spacing_nm is None:
        found.append(f"{hr.name} states no spacing: the pairs carry none")
    return tuple(found)


def sample_box(kept: tuple[int, ...], shape: tuple[int, int], multiple: int = 1) -> Box:
    """Where to look for noise and blur: the middle of the longest run of adjacent slices and of
    the field, at most 8 x 768 x 768, its edges in plane at multiples of ``multiple``."""
    run = _longest_run(kept)
    depth = min(SAMPLE_SLICES, len(run))
    first = run[(len(run) - depth) // 2]
    most = SAMPLE_SIDE_PX // multiple * multiple
    sides = [min(side // multiple * multiple, most) for side in shape]
    starts = [(n - side) // 2 // multiple * multiple for n, side in zip(shape, sides, strict=True)]
    stops = [start + side for start, side in zip(starts, sides, strict=True)]
    return Box((first, starts[0], starts[1]), (first + depth, stops[0], stops[1]))


def _longest_run(kept: tuple[int, ...]) -> list[int]:
    runs = [[kept[0]]]
    for before, z in pairwise(kept):
        if z == before + 1:
            runs[-1].append(z)
        else:
            runs.append([z])
    return max(runs, key=len)


def noise_of(planes: np.ndarray, name: str, stated_sigma: float | None = None) -> Noise:
    """The noise of (z, y, x) adjacent slices: from their differences, of a single one from its flat
    patches. ``stated_sigma`` has the last word on its level, for all greys alike. InputError where
    it cannot be told and is not stated."""
    try:
        noise = noise_from_slices(planes) if len(planes) > 1 else noise_from_image(planes)
    except InputError as error:
        if stated_sigma is None:
            raise InputError(f"{name}: {error}") from None
        return Noise(stated_sigma, None, None, None, "stated")
    if stated_sigma is None:
        return noise
    return replace(noise, sigma=stated_sigma, slope=None, intercept=None, method="stated")
