"""What cleaning did to a scan, judged by a second scan of its field.

Knows a noisy scan HR = x + n1, its cleaned version OUT (made from HR, so of one noise with it) and
a second scan HR2 = x + n2 that OUT knows nothing of. Then, n2 being of mean zero,

    E (OUT - HR2)^2 = E (OUT - x)^2 + var n2,      var n2 = E (HR - HR2)^2 / 2,

the latter where both scans are equally noisy. The estimate from (OUT - HR)(OUT - HR2) in
``reference_free`` does not hold here: a shift of HR2 by d px adds half the mean of (d grad x)^2,
another gain or offset as much of its own. Refuses to know what cleaned it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from emsr.quality.fidelity import check_pair
from emsr.quality.reference_free import (
    OTHER_CONTRAST,
    OTHER_LEVEL,
    SHIFTED_PX,
    Alike,
    Interval,
    check_repeat,
    clean_psnr_from_blocks,
    compared,
    error_blocks,
)
from emsr.quality.resolution import crossing_note, frc, frc_resolution_nm

UNEQUAL = 1.1
"""Ratio of the noise variances of two scans from which on they do not count as equally noisy."""
NOT_POSITIVE = "the estimated error is not positive: it is smaller than the noise of the estimate"
NO_NOISE = "the scans differ by next to no noise that could be compared"
INFINITE = "infinite or not defined: the images it compares are equal"
ASSUMED = (
    "the mean of (OUT - repeat)^2 less the noise of the repeat, half the mean of (HR - repeat)^2: "
    "both scans equally noisy and in register; the repeat's greys were fitted to HR's (gain of the "
    "smoothed greys, mean of each slice)"
)
LOST = 0.005
"""Fall of the mean FRC from which on detail counts as lost."""
NOTABLE_PX = 0.1


def beside(hr: np.ndarray, repeat: np.ndarray, first: int = 0) -> Alike:
    """Shift, mean difference and contrast of ``repeat`` (z, y, x) against ``hr``: the median of the
    slices that are not constant, of the difference the mean; and the slices, counted from
    ``first`` on, that lie elsewhere than this median."""
    pairs = enumerate(zip(hr, repeat, strict=True), start=first)
    found = {z: compared(a, b) for z, (a, b) in pairs if a.min() < a.max() and b.min() < b.max()}
    shifts = np.array([one.shift_px for one in found.values()])
    y, x = np.median(shifts, axis=0)
    away = dict(zip(found, (shifts - (y, x)).tolist(), strict=True))
    contrast = float(np.median([one.contrast for one in found.values()]))
    difference = float(repeat.mean(dtype=np.float64) - hr.mean(dtype=np.float64))
    level = difference / float(hr.std())
    elsewhere = {z: (dy, dx) for z, (dy, dx) in away.items() if np.hypot(dy, dx) > SHIFTED_PX}
    return Alike((float(y), float(x)), difference, contrast, level, elsewhere)


def out_of_register(found: Alike) -> str | None:
    """Why the repeat cannot judge the scan, for its place."""
    y, x = found.shift_px
    if np.hypot(y, x) <= SHIFTED_PX:
        return None
    return (
        f"the repeat lies {y:+.1f} px along y and {x:+.1f} px along x beside the scan, more than "
        f"{SHIFTED_PX:g} px: what is not in register counts as error; align the two"
    )


def unlike_scan(found: Alike) -> list[str]:
    """What the user should hear of a repeat that differs from the scan in more than noise, and
    judges it nevertheless."""
    told, shift = [], float(np.hypot(*found.shift_px))
    if NOTABLE_PX < shift <= SHIFTED_PX:
        told.append(
            f"the repeat lies {shift:.2f} px beside the scan: what is not in register counts as "
            "error, the clean scores come out too low"
        )
    if found.elsewhere:
        where = ", ".join(f"{z} by {y:+.1f}, {x:+.1f}" for z, (y, x) in found.elsewhere.items())
        told.append(
            f"the repeat has slices that lie elsewhere than the others beside the scan ({where} px "
            "along y, x): what is not in register counts as error, clean scores come out too low"
        )
    contrast, offset = found.contrast, found.offset
    if abs(contrast - 1) > OTHER_CONTRAST or abs(found.level) > OTHER_LEVEL:
        told.append(
            f"the repeat has {contrast:.2f} times the scan's contrast and a mean of {offset:+.1f} "
            "grey levels beside its own: gain and offset were fitted before the two were compared"
        )
    return told


def as_numbers(found: Alike) -> dict[str, Any]:
    """For JSON."""
    return {
        "shift_px": list(found.shift_px),
        "slices_elsewhere": sorted(found.elsewhere),
        "mean_difference": found.offset,
        "contrast": found.contrast,
    }


def on_greys_of(hr: np.ndarray, repeat: np.ndarray, contrast: float) -> np.ndarray:
    """``repeat`` (z, y, x) with the means of ``hr``'s slices and its contrast, float64.

    The contrast is a ratio of smoothed greys: a regression on noisy ones would come out flat.
    """
    own, wanted = (scan.mean(axis=(1, 2), keepdims=True, dtype=np.float64) for scan in (repeat, hr))
    return np.asarray((repeat - own) / contrast + wanted)


def gained(
    hr: np.ndarray,
    out: np.ndarray,
    repeat: np.ndarray,
    data_range: float,
    pixel: tuple[float, str],
) -> dict[str, Any]:
    """FRC and estimated PSNR before and after, the share of the squared error that went, and the
    ratio of the scans' noise; for JSON.

    Arrays ``(z, y, x)`` in register on one grey scale; ``pixel`` is the side of one
    and its unit. None for what is not told. InputError as ``cleaned_psnr``.
    """
    before, after = (_clean(made, hr, repeat, data_range) for made in (hr, out))
    share = None
    if before["db"] is not None and after["db"] is not None:
        share = 1 - 10 ** ((before["db"] - after["db"]) / 10)
    return {
        "frc": {"before": _frc(hr, repeat, pixel), "after": _frc(out, repeat, pixel)},
        "clean_psnr": {"before": before, "after": after, "assumed": ASSUMED},
        "data_range": data_range,
        "noise_ratio": noise_ratio(hr, repeat),
        "noise_removed": share,
    }


def detail_went(numbers: dict[str, Any]) -> bool:
    """Whether the PSNR of ``gained`` rose while its mean FRC fell."""
    before, after = (numbers["clean_psnr"][when]["db"] for when in ("before", "after"))
    low, high = (numbers["frc"][when]["mean"] for when in ("after", "before"))
    return None not in (before, after) and after > before and bool(high - low > LOST)


def in_words(changed: dict[str, Any]) -> list[str]:
    """Lines of ``OUT.enhance.json`` for the user."""
    lines = []
    if gone := changed["removed"]:
        lines.append(
            f"removed: {gone['ratio']:.2f} times the noise of {gone['noise_sigma']:.1f} grey "
            f"levels; next pixels of it correlate by {max(gone['autocorrelation'], key=abs):.2f}, "
            f"at edges it is {gone['edge_excess']:.2f} times as strong as on flat tissue"
        )
    if clean := changed["clean_psnr"]:
        before, after = (_db(clean[when]["db"]) for when in ("before", "after"))
        means = [changed["frc"][when]["mean"] for when in ("before", "after")]
        lines.append(
            f"against the unseen clean image about {after}, {before} before; mean FRC with the "
            f"repeat {means[1]:.2f}, {means[0]:.2f} before"
        )
        if detail_went(changed):
            lines.append("PSNR rose and the mean FRC fell: fine detail went with the noise")
    else:
        lines.append(f"no score against the clean image: {changed['reason']['clean_psnr']}")
    return lines


def _db(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} dB"


def finite(numbers: dict[str, Any], reason: dict[str, str], path: str = "") -> dict[str, Any]:
    """``numbers`` as JSON can hold them: None for what is not finite, and in ``reason`` why."""

    def one(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return finite(value, reason, key + ".")
        if isinstance(value, list):
            return [one(key, item) for item in value]
        if isinstance(value, float) and not np.isfinite(value):
            reason[key] = INFINITE
            return None
        return value

    return {key: one(path + key, value) for key, value in numbers.items()}


def _clean(
    made: np.ndarray, hr: np.ndarray, repeat: np.ndarray, data_range: float
) -> dict[str, Any]:
    value, interval = cleaned_psnr(made, hr, repeat, data_range, np.random.default_rng(0))
    return {
        "db": value,
        "interval": list(interval),
        "why": NOT_POSITIVE if value is None else None,
    }


def _frc(made: np.ndarray, repeat: np.ndarray, pixel: tuple[float, str]) -> dict[str, Any]:
    """Where the FRC falls below 1/7, in the unit of ``pixel``."""
    curve = frc(made, repeat)
    return {
        "resolution": frc_resolution_nm(curve, min(made.shape[1:]), pixel[0]),
        "unit": pixel[1],
        "note": crossing_note(curve),
        "mean": float(curve[1:].mean()),
        "correlation": curve.tolist(),
    }


def cleaned_psnr(
    out: np.ndarray,
    hr: np.ndarray,
    repeat: np.ndarray,
    data_range: float,
    rng: np.random.Generator,
    block_px: int = 32,
) -> tuple[float | None, Interval]:
    """Estimated PSNR in dB of ``out`` (or of ``hr`` itself) against the clean image behind ``hr``
    and ``repeat``, and its 95 % interval (a bootstrap over blocks, as ``clean_psnr_from_repeat``).

    Arrays ``(z, y, x)`` of one shape and grey scale. None where the estimated error is not
    positive. InputError for unequal shapes, NaN, and a repeat that is a copy or another field.
    """
    check_pair(out, hr)
    check_repeat(hr, repeat)
    blocks = []
    for made, first, second in zip(out, hr, repeat, strict=True):
        error, noise = (error_blocks(a, second, second, block_px) for a in (made, first))
        blocks.append(error - noise * [0.5, 0.0])
    return clean_psnr_from_blocks(np.concatenate(blocks), data_range, rng)


def noise_ratio(hr: np.ndarray, repeat: np.ndarray) -> float | None:
    """Noise variance of ``hr`` over that of ``repeat`` (z, y, x), from what they do not share of
    the finest detail; 1 where the two are equally noisy and of equal greys. None where one of
    them has none. It does not see a shift or an offset (``beside`` does)."""
    shared = np.mean(_finest(hr) * _finest(repeat))
    own, other = (float(np.mean(_finest(scan) ** 2) - shared) for scan in (hr, repeat))
    return own / other if min(own, other) > 0 else None


def _finest(stack: np.ndarray) -> np.ndarray:
    """Differences along y of differences along x."""
    return np.diff(np.diff(stack.astype(np.float64), axis=-1), axis=-2)
