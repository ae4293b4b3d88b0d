"""Scores of a volume against one target, gathered a slice at a time.

Knows how slices add up to the scores of a volume and why a score may be missing. Refuses to know
files, or what the target is: the caller says "noisy reference" or "truth".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from emsr.quality.clean import Clean
from emsr.quality.clean_frc import CLEAN_THRESHOLD, clean_frc, ends
from emsr.quality.fidelity import mean_squared_error, psnr_from_error, ssim_map
from emsr.quality.known import Known
from emsr.quality.one_image import one_image_frc
from emsr.quality.regions import Regions
from emsr.quality.resolution import (
    PERSISTENCE_RINGS,
    crossing_note,
    frc_from_sums,
    frc_resolution_nm,
    ring_counts,
    ring_frequencies,
    ring_sums,
)
from emsr.quality.thresholds import half_bit, independent, significance

Scores = dict[str, Any]

THRESHOLD = 1 / 7
"""FRC at which two images are said to agree no more (van Heel and Schatz 2005, after Rosenthal and
Henderson 2003: 0.143)."""
AGAINST = {
    "psnr": "the noisy reference; its noise counts as error",
    "ssim": "the noisy reference; its noise counts as error",
    "frc_resolution_nm": "the noisy reference; where the FRC falls below 1/7",
    "frc_resolution_half_bit_nm": "the noisy reference; where the FRC falls below half a bit",
    "clean_psnr": "the unseen clean image, estimated",
    "clean_ssim": "the unseen clean image, estimated",
    "clean_frc_resolution_nm": "the unseen clean image, estimated; where the FRC falls below 1/7",
    "clean_frc_resolution_at_half_nm": "the unseen clean image, estimated; below 1/2",
    "one_image_resolution_nm": "nothing but itself: what one network invents counts as detail",
    "consistency": "the SR of another LR scan: agreement, not resolution; what one network invents "
    "twice agrees too",
    "truth": "the truth, which is known here",
}
"""What each score compares with, in the words of the report."""


CLEAN_RESOLUTIONS = {
    "clean_frc_resolution_nm": THRESHOLD,
    "clean_frc_resolution_at_half_nm": CLEAN_THRESHOLD,
}
CHANCE_SIGMAS = 2.0
SAME_SR = "identical to SR: give the SR of another LR scan (--sr2)"
NO_SECOND_SCAN = "needs a repeated scan (--repeat)"
TOO_FEW = (
    "too few pixels per ring ({:.0f} independent ones where the curve falls): chance alone reaches "
    "the threshold; give a larger field or more slices"
)


class Tally:
    """Running scores of one volume against one target, in the target's grey levels.

    Holds two numbers per slice and one set of ring sums, whatever the size of the slices.
    """

    def __init__(self, data_range: float) -> None:
        self.data_range = data_range
        self.errors: list[float] = []
        self.ssims: list[float] = []
        self.rings: np.ndarray | None = None
        self.plane_shape: tuple[int, int] = (0, 0)

    def add(self, plane: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Count in one slice ``(y, x)``; returns its map of SSIM."""
        self.errors.append(mean_squared_error(plane, target))
        similar = ssim_map(plane, target, self.data_range)
        self.ssims.append(float(np.mean(similar)))
        sums = ring_sums(plane, target)
        self.rings = sums if self.rings is None else self.rings + sums
        height, width = plane.shape
        self.plane_shape = (height, width)
        return similar


def tallied(tally: Tally, pixel_nm: float | None, why_no_nm: str = "") -> Scores:
    """PSNR, SSIM, FRC curve and resolution, the slices' own scores, and `reason` for each null."""
    assert tally.rings is not None, "no slice was added"
    curve = frc_from_sums(tally.rings)
    n_px, slices = min(tally.plane_shape), len(tally.errors)
    bit = half_bit(tally.plane_shape, slices)
    frequency = ring_frequencies(n_px)
    psnr = psnr_from_error(float(np.mean(tally.errors)), tally.data_range)
    scores: Scores = {"psnr": _finite(psnr), "ssim": float(np.mean(tally.ssims)), "reason": {}}
    if scores["psnr"] is None:
        scores["reason"]["psnr"] = "identical to what it is compared with: PSNR is infinite"
    for key, limit in (("frc_resolution_nm", THRESHOLD), ("frc_resolution_half_bit_nm", bit)):
        scores[key], why = _resolution(curve, tally, pixel_nm, why_no_nm, limit)
        if why:
            scores["reason"][key] = why
    scores["frc"] = {
        "correlation": curve.tolist(),
        "frequency_per_px": frequency.tolist(),
        "frequency_per_nm": None if pixel_nm is None else (frequency / pixel_nm).tolist(),
        "threshold": THRESHOLD,
        "half_bit": bit.tolist(),
        "significance": significance(tally.plane_shape, slices).tolist(),
    }
    scores["slices"] = {
        "psnr": [_finite(psnr_from_error(error, tally.data_range)) for error in tally.errors],
        "ssim": tally.ssims,
    }
    return scores


class Marks:
    """All that is gathered about one image: against reference, truth, and the unseen clean."""

    def __init__(
        self, data_range: float, known: Known, block_px: int, region_px: int | None = None
    ) -> None:
        self.to_reference = Tally(data_range)
        self.to_truth = Tally(data_range)
        self.clean = Clean(data_range, known, block_px)
        self.regions = None if region_px is None else Regions(data_range, known, region_px)
        self.rings: np.ndarray | float = 0.0

    def add(
        self,
        plane: np.ndarray,
        reference: np.ndarray,
        repeat: np.ndarray | None,
        truth: np.ndarray | None,
    ) -> None:
        """Count in one slice ``(y, x)``; all in the reference's grey levels."""
        similar = self.to_reference.add(plane, reference)
        if truth is not None:
            self.to_truth.add(plane, truth)
        if repeat is not None:
            pairs = ((plane, repeat), (reference, repeat))
            self.rings = self.rings + np.stack([ring_sums(a, b) for a, b in pairs])
        self.clean.add(plane, reference, repeat)
        if self.regions:
            self.regions.add(plane, reference, repeat, similar)

    def scores(self, pixel_nm: float | None, why_no_nm: str, seed: int) -> Scores:
        """The scores, with the `reason` for each that is null; ``seed`` draws the bootstrap."""
        scores = tallied(self.to_reference, pixel_nm, why_no_nm)
        clean = self.clean.scores(scores["ssim"], seed)
        scores["reason"] |= clean.pop("reason")
        dependent, noise_error = clean.pop("dependent"), clean.pop("noise_error")
        scores |= clean
        self._add_clean_frc(scores, pixel_nm, why_no_nm, dependent)
        if self.regions:
            why = scores["reason"].get("clean_psnr") if scores["clean_psnr"] is None else None
            scores["regions"] = self.regions.scores(why, noise_error or 0.0)
        self._add_one_image(scores, pixel_nm, why_no_nm)
        if self.to_truth.errors:
            scores["truth"] = tallied(self.to_truth, pixel_nm, why_no_nm)
        return scores

    def _add_clean_frc(
        self, scores: Scores, pixel_nm: float | None, why_no_nm: str, dependent: str | None
    ) -> None:
        frc = scores["frc"]
        scores |= dict.fromkeys(CLEAN_RESOLUTIONS)
        frc["clean"] = frc["scans"] = None
        if not isinstance(self.rings, np.ndarray):
            scores["reason"] |= dict.fromkeys(CLEAN_RESOLUTIONS, NO_SECOND_SCAN)
            return
        to_repeat, scans = (frc_from_sums(sums) for sums in self.rings)
        least = np.asarray(frc["significance"])
        curve = clean_frc(np.asarray(frc["correlation"]), to_repeat, scans, least)
        frc["scans"] = scans.tolist()
        frc["clean"] = [None if np.isnan(value) else float(value) for value in curve]
        told = curve[: ends(scans, least)]
        for key, limit in CLEAN_RESOLUTIONS.items():
            found, why = _resolution(told, self.to_reference, pixel_nm, why_no_nm, limit)
            if why and pixel_nm and "Nyquist" in why and len(told) < len(curve):
                finest = min(self.to_reference.plane_shape) * pixel_nm / len(told)
                why = f"the scans agree down to {finest:.3g} nm only; up to there, SR does too"
            if why := dependent or why:
                found, scores["reason"][key] = None, why
            scores[key] = found

    def _add_one_image(self, scores: Scores, pixel_nm: float | None, why_no_nm: str) -> None:
        tally, key = self.to_reference, "one_image_resolution_nm"
        assert tally.rings is not None
        counts = ring_counts(tally.plane_shape) * len(tally.errors)
        curve, why = one_image_frc(tally.rings[1], counts)
        scores[key] = None
        if curve is not None:
            scores[key], reason = _resolution(curve, tally, pixel_nm, why_no_nm, THRESHOLD)
            why = reason or ""
        if why:
            scores["reason"][key] = why


def agreement(tally: Tally, pixel_nm: float | None) -> Scores:
    """How far two SR volumes agree, as ``consistency``: of two LR scans of one field."""
    assert tally.rings is not None, "no slice was added"
    curve, n_px = frc_from_sums(tally.rings), min(tally.plane_shape)
    agreed, why = _resolution(curve, tally, pixel_nm, "pixel size unknown", THRESHOLD)
    if not any(tally.errors):
        agreed, why = None, SAME_SR
    return {
        "correlation": curve.tolist(),
        "frequency_per_px": ring_frequencies(n_px).tolist(),
        "agrees_to_nm": agreed,
        "rms_difference": float(np.sqrt(np.mean(tally.errors))),
        "reason": {"agrees_to_nm": why} if why else {},
        "note": AGAINST["consistency"],
    }


def _resolution(
    curve: np.ndarray,
    tally: Tally,
    pixel_nm: float | None,
    why_no_nm: str,
    limit: float | np.ndarray,
) -> tuple[float | None, str | None]:
    """Where the curve falls below ``limit``; None, and why, where it cannot be told."""
    if pixel_nm is None:
        return None, why_no_nm
    n_px = min(tally.plane_shape)
    found = frc_resolution_nm(curve, n_px, pixel_nm, limit)
    if found is None:
        return None, _note(curve, limit, pixel_nm)
    ring = int(n_px * pixel_nm / found)
    values = independent(tally.plane_shape, len(tally.errors))[ring : ring + PERSISTENCE_RINGS]
    if not isinstance(limit, np.ndarray) and values.sum() < (CHANCE_SIGMAS / limit) ** 2:
        return None, TOO_FEW.format(values.sum() / len(values))
    return found, None


def _note(curve: np.ndarray, threshold: float | np.ndarray, pixel_nm: float) -> str:
    note = crossing_note(curve, threshold) or ""
    return f"{note} (2 pixels are {2 * pixel_nm:g} nm)" if "Nyquist" in note else note


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
