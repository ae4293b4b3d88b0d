"""The strategy ``real``: an acquired LR scan and an acquired HR scan of one field, in register.

Knows what must hold for such a pair and measures it slice by slice; moves no pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.microscope import stages
from emsr.pairs import align, noise
from emsr.pairs.one_field import (
    SMALLEST_LIKENESS,
    check_contrast,
    nothing_alike,
    place_numbers,
    warnings,
)
from emsr.pairs.register import common_scale, common_spacing
from emsr.pairs.scans import (
    Prepared,
    Request,
    check_field,
    checked_slices,
    grey_window,
    new_digest,
    provenance,
    read_slice,
    seen_by,
)
from emsr.pairs.store import Facts, SlicePair
from emsr.volumes.volume import Volume

ASSUMPTION = (
    "LR and HR are scans of their own: the noise of the input is taken as independent of the noise "
    "of the target. Checked by the correlation of the finest detail (second differences) of LR and "
    "area-averaged HR, an upper bound, since structure as fine as a pixel counts too."
)
SHARED = "both resolve structure of one LR pixel, or LR was made from HR and they share their noise"


@dataclass(frozen=True)
class SlicePairMeasures:
    """What one LR slice and its HR slice say about one another."""

    z: int
    likeness: float
    shift_px: np.ndarray
    """(y, x) in HR pixels: where HR would have to be moved to lie on LR; NaN where the
    two do not show the same field."""
    grey: np.ndarray
    noise: np.ndarray


def real(request: Request) -> Prepared:
    """Pairs of the slices of ``request.lr`` and ``request.hr`` that show the same field.

    InputError where the grids or spacings do not match, a value is not finite, or no slice of the
    two scans shows the same field.
    """
    if request.lr is None:
        raise InputError("the strategy real pairs two scans: give the LR scan with --lr")
    lr, hr = request.lr, request.hr
    scale = common_scale(lr, hr, request.scale)
    check_field(lr.shape, lr.name)
    lr_spacing, hr_spacing, remarks = common_spacing(lr, hr, scale)
    digests = new_digest(), new_digest()
    every = list(_measure(request, lr, scale, digests))
    constant = [z for z, measures in enumerate(every) if measures is None]
    measured = [measures for measures in every if measures is not None]
    kept = [m for m in measured if m.likeness >= SMALLEST_LIKENESS]
    if not kept:
        likeness = [m.likeness for m in measured]
        raise nothing_alike(lr.name, hr.name, likeness, lr.shape[0])
    unlike = [m.z for m in measured if m.likeness < SMALLEST_LIKENESS]
    hr_window = grey_window(hr, [m.z for m in kept])
    gain, offset = align.grey_relation(np.sum([m.grey for m in kept], axis=0))
    correlation = noise.noise_correlation(np.mean([m.noise for m in kept], axis=0))
    check_contrast(lr.name, hr.name, gain)
    numbers = _numbers(kept) | {"grey_gain": gain, "grey_offset": offset}
    facts = Facts(
        strategy="real",
        scale=scale,
        lr_spacing_nm=lr_spacing,
        hr_spacing_nm=hr_spacing,
        lr_window=seen_by(hr_window, gain, offset),
        hr_window=hr_window,
        hr_z=tuple(m.z for m in kept),
        hr_dtype=np.dtype(hr.dtype).name,
        assumption=ASSUMPTION,
        noise_correlation=correlation,
        measured=numbers | {"refused_constant": constant, "refused_unlike": unlike},
        warnings=warnings(
            "LR and HR", SHARED, numbers["residual_px_rms"], correlation, len(unlike), len(every)
        ),
        provenance=(provenance(lr, "lr", digests[0]), provenance(hr, "hr", digests[1])),
        recipe={},
        seed=request.seed,
    )
    return Prepared(
        facts=facts,
        slices=_slices(lr, hr, [m.z for m in kept]),
        lr_shape=(len(kept), *lr.shape[1:]),
        lr_dtype=np.dtype(lr.dtype),
        hr_shape=(len(kept), *hr.shape[1:]),
        hr_array_dtype=np.dtype(hr.dtype),
        refused=len(every) - len(kept),
        remarks=remarks,
    )


def _measure(
    request: Request, lr: Volume, scale: int, digests: tuple[Any, Any]
) -> Iterator[SlicePairMeasures | None]:
    """Measures of each slice; None where LR or HR is constant."""
    planes = zip(
        checked_slices(lr, digests[0]), checked_slices(request.hr, digests[1]), strict=True
    )
    for z, (lr_plane, hr_plane) in enumerate(planes):
        flat = lr_plane.min() == lr_plane.max() or hr_plane.min() == hr_plane.max()
        yield None if flat else measure_slice(z, lr_plane, hr_plane, scale)
        request.tick(z + 1, lr.shape[0])


def measure_slice(z: int, lr: np.ndarray, hr: np.ndarray, scale: int) -> SlicePairMeasures:
    """Everything measured on one LR slice (y, x) and its HR slice (s*y, s*x)."""
    hr_mean = stages.sample_area(hr, scale)
    likeness = align.likeness(lr, hr_mean)
    alike = likeness >= SMALLEST_LIKENESS
    return SlicePairMeasures(
        z=z,
        likeness=likeness,
        shift_px=align.residual_shift(lr, hr_mean) * scale if alike else np.full(2, np.nan),
        grey=align.grey_moments(lr, hr_mean),
        noise=noise.noise_moments(lr, hr_mean),
    )


def _numbers(kept: list[SlicePairMeasures]) -> dict[str, Any]:
    shifts = np.array([m.shift_px for m in kept])
    sigma = np.sqrt(np.mean([m.noise for m in kept], axis=0)[:2])
    return {
        **place_numbers([m.likeness for m in kept], shifts),
        "lr_noise_sigma": float(sigma[0]),
        "hr_mean_noise_sigma": float(sigma[1]),
    }


def _slices(lr: Volume, hr: Volume, kept: list[int]) -> Iterator[SlicePair]:
    for z in kept:
        yield read_slice(hr, z), [read_slice(lr, z)]
