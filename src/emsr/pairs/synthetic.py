"""The strategy ``synthetic``: LR scans made from an HR scan by a drawn microscope.

Knows which slices are made and what their noise has in common with the target; which numbers are
drawn is the business of ``made_lr``, what they do to an image of ``microscope.stages``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from emsr.geometry.tiles import coarser_spacing
from emsr.pairs.calibrate import Calibrated, calibrated
from emsr.pairs.made_from import HrField, clipping, crop_remarks, hr_field
from emsr.pairs.made_lr import Drawn, Microscope, draw
from emsr.pairs.made_repeat import Repeat, measured_repeat
from emsr.pairs.noise import NOTABLE_NOISE_CORRELATION, WHITE, colour_of
from emsr.pairs.scans import Prepared, Request, grey_window, seen_by
from emsr.pairs.store import Facts, SlicePair
from emsr.volumes.intensity import Intensity

ASSUMPTION = (
    "LR is made from the HR scan, so input and target share the noise of that scan: their noise is "
    "not independent. The expected correlation of an LR pixel's noise with the mean noise of the "
    "HR pixels it covers is stated, from the HR noise measured (taken as white unless calibrated) "
    "and the degradations drawn; what is added to LR comes on top of the noise that it carries "
    "from HR."
)
REPEAT_ASSUMPTION = (
    "LR is made from one HR scan, the target is a second scan of the same field: the noise of the "
    "two scans is taken as independent. Checked by the correlation of their finest detail (second "
    "differences) in flat patches, an upper bound, since structure as fine as a pixel counts too; "
    "stated is what LR inherits of it."
)


def synthetic(request: Request) -> Prepared:
    """``degradation.variants`` LR scans of every HR slice that is not constant.

    With ``request.repeat`` the target is that scan, with ``request.calibrate`` LR is made like that
    one. A field that is not a multiple of the scale loses its last rows and columns. InputError
    where the scale is missing, a value is not finite, the field is too small, every slice is
    constant, or one of the other scans does not fit.
    """
    field = hr_field(request)
    repeat = measured_repeat(request, field) if request.repeat is not None else None
    kept = field.kept if repeat is None else repeat.kept
    target = request.hr if repeat is None else repeat.volume
    window = grey_window(target, kept)
    # That of the target in the grey levels of the scan that LR is made from.
    seen_window = seen_by(window, repeat.grey_gain, repeat.grey_offset) if repeat else window
    fit = calibrated(request, field, seen_window, 0.0)
    microscope = _microscope(request, field, seen_window, fit)
    variants = range(request.degradation.variants)
    drawn = [microscope.draws(v, z)[0] for z in kept for v in variants]
    noise = _hr_noise(request, field, fit)
    correlation = _correlation(drawn, microscope, field, repeat, noise)
    facts = Facts(
        strategy="synthetic",
        scale=field.scale,
        lr_spacing_nm=coarser_spacing(request.hr.spacing_nm, field.scale),
        hr_spacing_nm=request.hr.spacing_nm,
        lr_window=microscope.lr_window,
        hr_window=window,
        hr_z=kept,
        hr_dtype=np.dtype(target.dtype).name,
        assumption=ASSUMPTION if repeat is None else REPEAT_ASSUMPTION,
        noise_correlation=correlation,
        measured={
            "hr_noise_sigma": noise[0],
            "clipped_fraction": field.clipped,
            "refused_constant": field.constant,
            **(repeat.measured if repeat else {}),
            **({"calibration": fit.told.measured} if fit else {}),
            "drawn": [asdict(one) for one in drawn],
        },
        warnings=(*_warnings(correlation, repeat, fit), *clipping(field)),
        provenance=(
            field.provenance,
            *((repeat.provenance,) if repeat else ()),
            *((fit.provenance,) if fit else ()),
        ),
        recipe={"degradation": asdict(request.degradation)},
        seed=request.seed,
    )
    return Prepared(
        facts=facts,
        slices=_slices(field, repeat, microscope, kept, variants),
        lr_shape=(len(drawn), *field.lr_field),
        lr_dtype=np.dtype(np.float32),
        hr_shape=(len(kept), *field.shape),
        hr_array_dtype=np.dtype(target.dtype),
        refused=request.hr.shape[0] - len(kept),
        remarks=(*crop_remarks(field), *((fit.told.remark,) if fit else ())),
        pictures={"calibration": fit.told.picture} if fit else {},
    )


def _microscope(
    request: Request, field: HrField, hr_window: Intensity, fit: Calibrated | None
) -> Microscope:
    if fit is None:
        ranges = request.degradation
        return Microscope(
            scale=field.scale,
            sampling=ranges.sampling,
            grey_gain=1.0,
            grey_offset=0.0,
            lr_window=hr_window,
            draws=lambda variant, z: draw(ranges, request.seed, variant, z),
        )
    return fit.fit.microscope(request.seed)


def _correlation(
    drawn: list[Drawn],
    microscope: Microscope,
    field: HrField,
    repeat: Repeat | None,
    noise: tuple[float, np.ndarray],
) -> float | None:
    """What LR inherits from the noise of HR; where the target is a repeat, as much of it as the
    two HR scans were found to share."""
    shared = 1.0 if repeat is None else repeat.noise_correlation
    if shared is None:
        return None
    return shared * microscope.inherited_correlation(drawn, field.mean, *noise)


def _hr_noise(request: Request, field: HrField, fit: Calibrated | None) -> tuple[float, np.ndarray]:
    """Standard deviation and colour of the noise of HR: as fitted, as stated, or as measured."""
    if fit is not None:
        return fit.fit.hr_noise.sigma, colour_of(fit.fit.hr_noise)
    stated = request.noise_sigma
    return (field.finest_sigma if stated is None else stated), WHITE


def _warnings(
    correlation: float | None, repeat: Repeat | None, fit: Calibrated | None
) -> tuple[str, ...]:
    found = list(fit.told.warnings) if fit else []
    if repeat is not None:
        found += repeat.warnings
    elif correlation is not None and correlation >= NOTABLE_NOISE_CORRELATION:
        found.append(
            f"LR is made from HR, so their noise correlates (expected {correlation:.2f}): the "
            f"network will learn to keep part of the noise of HR"
        )
    return tuple(found)


def _slices(
    field: HrField,
    repeat: Repeat | None,
    microscope: Microscope,
    kept: tuple[int, ...],
    variants: range,
) -> Iterator[SlicePair]:
    for z in kept:
        hr = field.plane(z)
        target = hr if repeat is None else repeat.plane(z, field.shape)
        yield target, [microscope.scan(hr, *microscope.draws(variant, z)) for variant in variants]
