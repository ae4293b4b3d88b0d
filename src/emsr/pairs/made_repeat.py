"""A second HR scan of the field as the target, where LR is made from the first.

Knows what must hold of two scans of one field and measures it slice by slice; moves no pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.pairs import align
from emsr.pairs.made_from import HrField
from emsr.pairs.noise import flat_noise_moments, noise_correlation
from emsr.pairs.one_field import SMALLEST_LIKENESS, nothing_alike, place_numbers, warnings
from emsr.pairs.register import same_spacing
from emsr.pairs.scans import Request, checked_slices, new_digest, provenance, read_slice
from emsr.volumes.volume import Volume

COPY_CORRELATION = 0.99
"""Of the finest detail of two scans where the specimen is flat: from here on the second is the
first in other grey levels. Higher than for whole images: quiet scans resolve such detail."""
SHARED = "both resolve structure of one pixel, or they share noise"


@dataclass(frozen=True)
class Repeat:
    """What two scans of one field say about one another."""

    volume: Volume
    kept: tuple[int, ...]
    grey_gain: float
    """HR = grey_gain * repeat + grey_offset."""
    grey_offset: float
    measured: dict[str, Any]
    noise_correlation: float | None
    """Of the noise of the two scans, measured in flat patches; an upper bound."""
    warnings: tuple[str, ...]
    provenance: dict[str, Any]

    def plane(self, z: int, shape: tuple[int, int]) -> np.ndarray:
        """Target slice (y, x) in the scan's dtype."""
        return read_slice(self.volume, z)[: shape[0], : shape[1]]


@dataclass(frozen=True)
class _Slice:
    z: int
    likeness: float
    shift_px: np.ndarray
    greys: np.ndarray
    """Means of (HR, repeat), and their variances."""
    noise: np.ndarray
    """Variances and covariance of their finest detail in flat patches."""


def measured_repeat(request: Request, field: HrField) -> Repeat:
    """The scan ``request.repeat`` beside HR. InputError where the grids differ, no slice shows the
    same field, the contrast is inverted, or the second scan is a copy of the first."""
    repeat = request.repeat
    assert repeat is not None
    _check_grid(repeat, field.volume)
    digest = new_digest()
    every = []
    for z, plane in enumerate(checked_slices(repeat, digest)):
        if z in field.kept and plane.min() < plane.max():
            every.append(_measure(z, field.plane(z), plane[: field.shape[0], : field.shape[1]]))
        request.tick(z + 1, repeat.shape[0])
    kept = [m for m in every if m.likeness >= SMALLEST_LIKENESS]
    if not kept:
        likeness = [m.likeness for m in every]
        raise nothing_alike(repeat.name, field.volume.name, likeness, len(field.kept))
    correlation = noise_correlation(np.mean([m.noise for m in kept], axis=0))
    if correlation is not None and correlation > COPY_CORRELATION:
        raise InputError(
            f"{repeat.name} holds the noise of {field.volume.name} too (their finest detail "
            f"correlates by {correlation:.3f}): a repeat is a second scan of the field, not a copy"
        )
    gain, offset = _grey_relation(np.mean([m.greys for m in kept], axis=0))
    shifts = np.array([m.shift_px for m in kept])
    place = place_numbers([m.likeness for m in kept], shifts)
    unlike = [z for z in field.kept if z not in {m.z for m in kept}]
    return Repeat(
        volume=repeat,
        kept=tuple(m.z for m in kept),
        grey_gain=gain,
        grey_offset=offset,
        measured={
            **place,
            "repeat_noise_correlation": correlation,
            "repeat_gain": gain,
            "repeat_offset": offset,
            "refused_unlike": unlike,
        },
        noise_correlation=correlation,
        warnings=warnings(
            "the two HR scans",
            SHARED,
            place["residual_px_rms"],
            correlation,
            len(unlike),
            len(field.kept),
        ),
        provenance=provenance(repeat, "repeat", digest),
    )


def _check_grid(repeat: Volume, hr: Volume) -> None:
    if repeat.shape != hr.shape:
        raise InputError(
            f"{repeat.name} has shape {repeat.shape}, {hr.name} {hr.shape}: a repeat is a second "
            f"scan on the same grid; crop them to one field"
        )
    if not same_spacing(repeat.spacing_nm, hr.spacing_nm):
        raise InputError(
            f"{repeat.name} has a spacing of {repeat.spacing_nm} nm, {hr.name} of {hr.spacing_nm} "
            f"nm: a repeat is a second scan on the same grid"
        )


def _measure(z: int, hr: np.ndarray, repeat: np.ndarray) -> _Slice:
    likeness = align.likeness(hr, repeat)
    alike = likeness >= SMALLEST_LIKENESS
    a, b = (plane.astype(np.float64) for plane in (hr, repeat))
    covariance = np.cov(a.ravel(), b.ravel())
    return _Slice(
        z=z,
        likeness=likeness,
        shift_px=align.residual_shift(hr, repeat) if alike else np.full(2, np.nan),
        greys=np.array([a.mean(), b.mean(), covariance[0, 0], covariance[1, 1]]),
        noise=flat_noise_moments(hr, repeat),
    )


def _grey_relation(greys: np.ndarray) -> tuple[float, float]:
    """Gain and offset of HR = gain * repeat + offset. Both scans carry noise, so neither may be
    regressed on the other: the ratio of their standard deviations is right where the noise of both
    is in proportion, as two scans with equal settings have it."""
    gain = float(np.sqrt(greys[2] / greys[3]))
    return gain, float(greys[0] - gain * greys[1])
