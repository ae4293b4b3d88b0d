"""What is to be said of a microscope that was calibrated: numbers, words, a picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from emsr.microscope import stages
from emsr.pairs.made_fit import SAMPLING, Calibration
from emsr.pairs.made_lr import Drawn, Microscope
from emsr.pairs.noise import NOTABLE_LAG_CORRELATION, lag_correlation, noise_numbers
from emsr.quality.resolution import ring_sums
from emsr.recipe import Degradation

NO_BLUR_PX = 0.4
"""HR pixels; narrower blurs cannot be told from none."""
LARGEST_MISMATCH_DB = 1.0
SPECTRUM_SLICES = 4
LOWEST_RING = 3
PICTURE_SIDE_PX = 256


@dataclass(frozen=True)
class Told:
    """A fit in numbers, in words and as a picture."""

    measured: dict[str, Any]
    remark: str
    warnings: tuple[str, ...]
    picture: np.ndarray


def told(
    fit: Calibration, ranges: Degradation, hr: np.ndarray, lr: np.ndarray, name: str, why: str
) -> Told:
    """What is to be said of a fit to the LR planes (z, y, x) of the scan called ``name``.

    ``hr`` are the planes that it was fitted to, of the same field unless ``why`` says otherwise;
    ``ranges`` are those of the recipe, which the fit replaces.
    """
    blur, noise = fit.blur, fit.lr_noise
    microscope, plain = fit.microscope(0), replace(fit, excess=0.0).drawn()
    chosen = np.linspace(0, len(hr) - 1, min(SPECTRUM_SLICES, len(hr))).astype(int)
    made = {
        when: np.stack([microscope.scan(hr[z], drawn, np.random.default_rng(z)) for z in chosen])
        for when, drawn in (("before", _middle_of(ranges)), ("after", plain))
    }
    mismatch = {when: _mismatch(planes, lr) for when, planes in made.items()}
    measured = {
        "scan": name,
        "paired": fit.paired,
        "blur": _floats(asdict(blur) | {"sigma_px": blur.sigma_px}),
        "lr_noise": noise_numbers(noise),
        "hr_noise": noise_numbers(fit.hr_noise),
        "inherited_noise_sigma": float(np.sqrt(fit.inherited_variance)),
        "fitted": _floats(asdict(fit.drawn())),
        "drawn_within": fit.around,
        "spectrum_mismatch_db": mismatch,
        "residual": _residual(fit, microscope, hr, lr) if fit.paired else None,
    }
    remark = (
        f"calibrated to {name} ({'paired' if fit.paired else f'unpaired: {why}'}): blur "
        f"{blur.sigma_a_px:.2f} x {blur.sigma_b_px:.2f} HR pixels, noise {noise.sigma:.1f} grey "
        f"levels, LR = {blur.gain:.3g} * HR + {blur.offset:.3g}, each width drawn within "
        f"{fit.around:.0%}; spectrum off by {mismatch['after']:.1f} dB "
        f"({mismatch['before']:.1f} with the recipe's ranges)"
    )
    if ranges.sampling != SAMPLING:
        remark += f"; sampling by {SAMPLING}, as the fit takes it, not by {ranges.sampling}"
    picture = _picture(lr, made["after"], fit)
    return Told(measured, remark, _warnings(fit, mismatch["after"]), picture)


def _floats(numbers: dict[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in numbers.items()}


def _middle_of(ranges: Degradation) -> Drawn:
    width, noise = (float(np.mean(pair)) for pair in (ranges.blur_sigma_px, ranges.noise_sigma))
    return Drawn(width, width, 0.0, noise)


def _mismatch(made: np.ndarray, lr: np.ndarray) -> float:
    """Mean absolute difference, in dB, of the radial power spectra of two stacks (z, y, x)."""
    side = min(*made.shape[1:], *lr.shape[1:])
    power = [
        np.mean([ring_sums(plane[:side, :side], plane[:side, :side])[1] for plane in stack], axis=0)
        for stack in (made, lr)
    ]
    ratio = power[0][LOWEST_RING:] / power[1][LOWEST_RING:]
    return float(np.mean(np.abs(10 * np.log10(ratio))))


def _residual(
    fit: Calibration, microscope: Microscope, hr: np.ndarray, lr: np.ndarray
) -> dict[str, float]:
    """What the fit does not explain, and what the noise of both scans, each told from that scan
    alone, lets expect; grey levels."""
    left = [a - microscope.noise_free(b, fit.drawn()) for a, b in zip(lr, hr, strict=True)]
    behind = fit.inherited_variance / (1 + fit.excess)
    return {
        "rms": float(np.std(left)),
        "expected": float(np.sqrt(fit.lr_alone**2 + behind)),
    }


def _warnings(fit: Calibration, mismatch_db: float) -> tuple[str, ...]:
    found = []
    inherited, lag = np.sqrt(fit.inherited_variance), lag_correlation(fit.lr_noise)
    if inherited >= fit.lr_noise.sigma:
        found.append(
            f"the LR scan is less noisy ({fit.lr_noise.sigma:.1f} grey levels) than what blur and "
            f"sampling leave of the noise of HR ({inherited:.1f}): no noise is added, and LR "
            f"made from HR is still noisier than the real one"
        )
    if abs(lag) > NOTABLE_LAG_CORRELATION:
        found.append(
            f"the noise of the LR scan is spatially correlated ({lag:.2f} between neighbouring "
            f"pixels), the noise added to LR made from HR is white"
        )
    if not fit.paired and (fit.blur.sigma_px < NO_BLUR_PX or mismatch_db > LARGEST_MISMATCH_DB):
        found.append(
            f"the LR scan to calibrate with shows another field, and the two differ too much to "
            f"tell the blur from their spectra ({fit.blur.sigma_px:.2f} HR pixels, spectrum off by "
            f"{mismatch_db:.1f} dB): give an LR scan of the HR field, or larger scans"
        )
    return tuple(found)


def _picture(lr: np.ndarray, made: np.ndarray, fit: Calibration) -> np.ndarray:
    """The real LR scan (left) beside one made from HR, in the same grey window."""
    height = min(PICTURE_SIDE_PX, lr.shape[1], made.shape[1])
    width = min(PICTURE_SIDE_PX, lr.shape[2], made.shape[2])
    crops = [fit.window.to_unit(planes[0, :height, :width]) for planes in (lr, made)]
    between = np.ones((height, 4), np.float32)
    joined = np.concatenate([crops[0], between, crops[1]], axis=1)
    return stages.quantise(255 * joined, np.uint8)
