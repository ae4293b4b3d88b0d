"""The strategy ``synthetic``: LR scans made from an HR scan by a drawn microscope.

Knows which numbers are drawn and in which order; what they do to an image is the business of
``microscope.stages``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.geometry.tiles import coarser_spacing
from emsr.microscope import stages
from emsr.pairs.noise import finest_detail, inherited_correlation
from emsr.pairs.scans import (
    Prepared,
    Request,
    check_field,
    checked_slices,
    grey_window,
    new_digest,
    provenance,
    read_slice,
)
from emsr.pairs.store import Facts, SlicePair
from emsr.recipe import Degradation
from emsr.volumes.intensity import Intensity
from emsr.volumes.volume import Volume

ASSUMPTION = (
    "LR is made from the HR scan, so input and target share the noise of that scan: their noise is "
    "not independent. The expected correlation of an LR pixel's noise with the mean noise of the "
    "HR pixels it covers is stated, from the HR noise measured (taken as white) and the "
    "degradations drawn."
)
NOTABLE_NOISE_CORRELATION = 0.05


@dataclass(frozen=True)
class Drawn:
    """The microscope that makes one LR slice: PSF widths in HR pixels, its angle, and the noise
    added as a share of the grey window."""

    blur_a_px: float
    blur_b_px: float
    angle_rad: float
    noise: float

    def kernel(self) -> np.ndarray:
        """The PSF, (k, k)."""
        return stages.gaussian_kernel(self.blur_a_px, self.blur_b_px, self.angle_rad)


def synthetic(request: Request) -> Prepared:
    """``degradation.variants`` LR scans of every HR slice that is not constant.

    A field that is not a multiple of the scale loses its last rows and columns. InputError where
    the scale is missing, a value is not finite, the field is too small, or every slice is constant.
    """
    hr, scale, variants = request.hr, request.scale, request.degradation.variants
    if scale is None or scale < 1:
        raise InputError(f"scale {scale}: expected a whole number from 1 up; give --scale")
    cropped = (hr.shape[1] // scale * scale, hr.shape[2] // scale * scale)
    lr_field = (cropped[0] // scale, cropped[1] // scale)
    check_field(lr_field, f"{hr.name} at scale {scale}")
    digest = new_digest()
    kept, hr_noise = _measure(request, cropped, digest)
    if not kept:
        raise InputError(f"{hr.name}: every slice is constant, there is nothing to learn from")
    window = grey_window(hr, kept)
    drawn = [
        draw(request.degradation, request.seed, v, z)[0] for z in kept for v in range(variants)
    ]
    correlation = _mean_correlation(drawn, scale, hr_noise, window)
    facts = Facts(
        strategy="synthetic",
        scale=scale,
        lr_spacing_nm=coarser_spacing(hr.spacing_nm, scale),
        hr_spacing_nm=hr.spacing_nm,
        lr_window=window,
        hr_window=window,
        hr_z=tuple(kept),
        hr_dtype=np.dtype(hr.dtype).name,
        assumption=ASSUMPTION,
        noise_correlation=correlation,
        measured={
            "hr_noise_sigma": hr_noise,
            "refused_constant": [z for z in range(hr.shape[0]) if z not in kept],
            "drawn": [asdict(microscope) for microscope in drawn],
        },
        warnings=_warnings(correlation),
        provenance=(provenance(hr, "hr", digest),),
        recipe={"degradation": asdict(request.degradation)},
        seed=request.seed,
    )
    return Prepared(
        facts=facts,
        slices=_slices(request, kept, cropped, scale, window),
        lr_shape=(len(drawn), *lr_field),
        lr_dtype=np.dtype(np.float32),
        hr_shape=(len(kept), *cropped),
        hr_array_dtype=np.dtype(hr.dtype),
        refused=hr.shape[0] - len(kept),
        remarks=_remarks(hr, cropped, scale),
    )


def draw(ranges: Degradation, seed: int, variant: int, z: int) -> tuple[Drawn, np.random.Generator]:
    """The microscope of one LR slice, and the generator that goes on to draw its noise image.

    Decided by seed, variant and slice alone. Every number is drawn whether it is used or not, so
    that the recipe's ranges do not change which numbers the others get.
    """
    rng = np.random.default_rng([seed, variant, z])
    a, b = rng.uniform(*ranges.blur_sigma_px, size=2).tolist()
    anisotropic = rng.random() < ranges.anisotropic
    angle, noise = rng.uniform(0, np.pi), rng.uniform(*ranges.noise_sigma)
    return Drawn(a, b if anisotropic else a, angle if anisotropic else 0.0, noise), rng


def degrade(
    hr: np.ndarray, drawn: Drawn, scale: int, window: Intensity, rng: np.random.Generator
) -> np.ndarray:
    """LR (y, x) float32, in the grey levels of ``hr`` (s*y, s*x), neither rounded nor clipped."""
    blurred = stages.blur(hr.astype(np.float32), drawn.kernel())
    sigma = drawn.noise * (window.high - window.low)
    return stages.gaussian_noise(stages.sample_area(blurred, scale), sigma, rng)


def _measure(request: Request, cropped: tuple[int, int], digest: Any) -> tuple[list[int], float]:
    """The slices that are not constant, and the standard deviation of their noise."""
    kept, variances = [], []
    for z, plane in enumerate(checked_slices(request.hr, digest)):
        field = plane[: cropped[0], : cropped[1]]
        if field.min() < field.max():
            kept.append(z)
            variances.append(np.mean(finest_detail(field) ** 2))
        request.tick(z + 1, request.hr.shape[0])
    return kept, float(np.sqrt(np.mean(variances))) if variances else 0.0


def _mean_correlation(drawn: list[Drawn], scale: int, hr_noise: float, window: Intensity) -> float:
    span = window.high - window.low
    each = [inherited_correlation(d.kernel(), scale, hr_noise, d.noise * span) for d in drawn]
    return float(np.mean(each))


def _warnings(correlation: float) -> tuple[str, ...]:
    if correlation < NOTABLE_NOISE_CORRELATION:
        return ()
    return (
        f"LR is made from HR, so their noise correlates (expected {correlation:.2f}): the network "
        f"will learn to keep part of the noise of HR",
    )


def _remarks(hr: Volume, cropped: tuple[int, int], scale: int) -> tuple[str, ...]:
    found = []
    if cropped != hr.shape[1:]:
        found.append(
            f"{hr.name}: {hr.shape[1]} x {hr.shape[2]} is not a multiple of the scale {scale}; "
            f"cropped at the far edge to {cropped[0]} x {cropped[1]}"
        )
    if hr.spacing_nm is None:
        found.append(f"{hr.name} states no spacing: the pairs carry none")
    return tuple(found)


def _slices(
    request: Request, kept: list[int], cropped: tuple[int, int], scale: int, window: Intensity
) -> Iterator[SlicePair]:
    variants = range(request.degradation.variants)
    for z in kept:
        hr = read_slice(request.hr, z)[: cropped[0], : cropped[1]]
        draws = (draw(request.degradation, request.seed, variant, z) for variant in variants)
        yield hr, [degrade(hr, drawn, scale, window, rng) for drawn, rng in draws]
