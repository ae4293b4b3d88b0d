"""Fits a microscope to a given LR scan, for LR scans that are made from HR.

Blur, grey relation and noise: pixel by pixel where the LR scan shows the HR field, else by the
spectra and greys of the two. Knows neither what the fit is used for nor how a blur or a noise is
told from an image (``microscope.estimate``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from emsr.errors import InputError
from emsr.geometry.tiles import coarser_spacing
from emsr.microscope import stages
from emsr.microscope.estimate import Blur, Noise, blur_from_spectra, relative_blur
from emsr.pairs import align
from emsr.pairs.made_fit import Calibration
from emsr.pairs.made_from import HrField, noise_of, sample_box
from emsr.pairs.made_levels import Level
from emsr.pairs.made_report import Told, told
from emsr.pairs.one_field import (
    LARGEST_RESIDUAL_PX,
    SMALLEST_LIKENESS,
    check_contrast,
    residual_px_rms,
)
from emsr.pairs.register import same_spacing
from emsr.pairs.scans import (
    Request,
    check_field,
    checked_slices,
    new_digest,
    provenance,
    seen_by,
)
from emsr.volumes.intensity import Intensity
from emsr.volumes.volume import Volume

GREY_PERCENTILES = (0.5, 99.5)
AGREEING = 1.25
"""Largest ratio of two estimates of LR's noise that agree."""
ALIKE_GAIN, ALIKE_MEAN = 1.5, 0.2
"""Contrast ratio, and difference of the mean as a share of the grey window, up to which scans of
different fields may have equal greys. Fields of one phantom reach 1.15 and 0.05, of one SBEM volume
1.35 and 0.13. Where that is wrong, `upscale` says that its input is unlike what was trained on."""


@dataclass(frozen=True)
class Calibrated:
    """A fit, and all that is to be said of it."""

    fit: Calibration
    told: Told
    provenance: dict[str, Any]


def calibrated(
    request: Request, field: HrField, hr_window: Intensity, excess: float
) -> Calibrated | None:
    """A fit of LR made from ``field`` to the LR scan ``request.calibrate``; None where there is
    none.

    ``hr_window`` are the HR grey levels that become 0 and 1; ``excess`` is the variance of noise
    beyond that of HR, as a share of it, in the image that LR is made from. InputError where the LR
    scan is constant or holds no numbers, where its pixel is not ``scale`` HR pixels wide, and where
    its contrast is inverted (seen in a pair only: spectra have no sign).
    """
    lr = request.calibrate
    if lr is None:
        return None
    _check_grid(lr, field)
    digest = new_digest()
    kept = [z for z, plane in enumerate(checked_slices(lr, digest)) if plane.min() < plane.max()]
    if not kept:
        raise InputError(f"{lr.name}: every slice is constant: calibrate with another LR scan")
    hr_planes, lr_planes, paired, why = _samples(lr, field, tuple(kept))
    hr_noise = noise_of(hr_planes, field.volume.name, request.noise_sigma)
    lr_noise = noise_of(lr_planes, lr.name)
    if paired:
        blur = relative_blur(lr_planes, hr_planes, field.scale, hr_noise)
    else:
        blur = _from_spectra(lr_planes, hr_planes, field.scale, lr_noise, hr_noise, hr_window)
    check_contrast(lr.name, field.volume.name, blur.gain)
    fit = Calibration(
        blur,
        lr_noise,
        hr_noise,
        paired,
        _greys(lr_planes),
        seen_by(hr_window, blur.gain, blur.offset),
        field.scale,
        lr_noise.sigma,
        excess,
    )
    if paired:
        fit = replace(fit, lr_noise=_from_residual(fit, hr_planes, lr_planes))
    scan = provenance(lr, "calibrate", digest)
    words = told(fit, request.degradation, hr_planes, lr_planes, scan["name"], why)
    return Calibrated(fit, words, scan)


def _from_spectra(
    lr: np.ndarray,
    hr: np.ndarray,
    scale: int,
    lr_noise: Noise,
    hr_noise: Noise,
    hr_window: Intensity,
) -> Blur:
    """The fit where LR and HR show different fields. These differ in mean and contrast by what
    happens to be in them, so greys that could be equal are taken as equal: to fit them costs more
    than the blur gains (docs/strategies.md)."""
    free = blur_from_spectra(lr, hr, scale, lr_noise, hr_noise)
    apart = abs(float(np.mean(lr)) - float(np.mean(hr))) / (hr_window.high - hr_window.low)
    if not 1 / ALIKE_GAIN < free.gain < ALIKE_GAIN or apart > ALIKE_MEAN:
        return free
    equal = blur_from_spectra(lr, hr, scale, lr_noise, hr_noise, gain=1.0)
    return replace(equal, offset=0.0)


def _from_residual(fit: Calibration, hr: np.ndarray, lr: np.ndarray) -> Noise:
    """LR's noise from what the fit leaves of the LR planes, whose structure is then gone: better
    than from LR alone, where the two agree. Where they do not, it is not all noise that is left.
    """
    drawn, microscope = fit.drawn(), fit.microscope(0)
    expected = np.stack([microscope.noise_free(plane, drawn) for plane in hr])
    squares = (lr - expected).astype(np.float64) ** 2
    slope, intercept = np.polyfit(expected.ravel().astype(np.float64), squares.ravel(), 1)
    own = Level(float(slope), float(intercept)).minus(fit.carried(drawn))
    alone, variance = fit.lr_noise, own.at(float(expected.mean(dtype=np.float64)))
    if not 1 / AGREEING < np.sqrt(max(variance, 0.0)) / alone.sigma < AGREEING:
        return alone
    return replace(
        alone,
        sigma=float(np.sqrt(variance)),
        slope=own.slope,
        intercept=own.intercept,
        method="fit",
        covariance=None,
    )


def _check_grid(lr: Volume, field: HrField) -> None:
    check_field(lr.shape, lr.name)
    expected = coarser_spacing(field.volume.spacing_nm, field.scale)
    if not same_spacing(lr.spacing_nm, expected, first=1):
        raise InputError(
            f"{lr.name} has a spacing of {lr.spacing_nm} nm; LR made from {field.volume.name} at "
            f"scale {field.scale} has {expected} nm: give the --scale between the two scans"
        )


def _samples(
    lr: Volume, field: HrField, lr_kept: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, bool, str]:
    """(z, y, x) HR and LR planes to fit, whether they show one field, and why not."""
    one_grid = lr.shape == (field.volume.shape[0], *field.lr_field)
    both = tuple(z for z in field.kept if z in lr_kept)
    why = f"{lr.name} is of another shape than the whole HR field"
    if one_grid and both:
        box = sample_box(both, field.lr_field)
        planes = field.volume.read(box.scaled(field.scale)), lr.read(box)
        paired, why = _one_field(*planes, field.scale, lr.name)
        if paired:
            return *planes, True, ""
    hr = field.volume.read(sample_box(field.kept, field.shape, field.scale))
    return hr, lr.read(sample_box(lr_kept, lr.shape[1:])), False, why


def _one_field(hr: np.ndarray, lr: np.ndarray, scale: int, name: str) -> tuple[bool, str]:
    """Whether the planes show the same field in register; else what speaks against it."""
    means = stages.sample_area(hr, scale)
    alike = float(np.mean([align.likeness(a, b) for a, b in zip(lr, means, strict=True)]))
    if alike <= -SMALLEST_LIKENESS:
        raise InputError(f"{name} shows HR inverted: give scans of equal contrast")
    if alike < SMALLEST_LIKENESS:
        return False, f"{name} shows another field (correlation {alike:.2f})"
    shifts = [align.residual_shift(a, b) * scale for a, b in zip(lr, means, strict=True)]
    residual = residual_px_rms(shifts)
    if residual > LARGEST_RESIDUAL_PX:
        return False, f"{name} is {residual:.1f} HR pixels out of register with HR"
    return True, ""


def _greys(lr: np.ndarray) -> tuple[float, float, float]:
    smooth = gaussian_filter(lr.astype(np.float32), (0, 1, 1))
    low, high = np.percentile(smooth, GREY_PERCENTILES)
    return float(low), float(smooth.mean()), float(high)
