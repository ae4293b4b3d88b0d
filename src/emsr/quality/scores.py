"""Scores of a volume against one target, gathered a slice at a time.

Knows how slices add up to the scores of a volume and why a score may be missing. Refuses to know
files, or what the target is: the caller says "noisy reference" or "truth".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from emsr.quality.fidelity import mean_squared_error, psnr_from_error, ssim
from emsr.quality.reference_free import clean_psnr_from_blocks, error_blocks, merged
from emsr.quality.resolution import (
    crossing_note,
    frc_from_sums,
    frc_resolution_nm,
    half_bit,
    ring_frequencies,
    ring_sums,
)

Scores = dict[str, Any]

THRESHOLD = 1 / 7
"""FRC at which two images are said to agree no more (van Heel and Schatz 2005, after Rosenthal and
Henderson 2003: 0.143)."""
AGAINST = {
    "psnr": "the noisy reference; its noise counts as error",
    "ssim": "the noisy reference; its noise counts as error",
    "frc_resolution_nm": "the noisy reference; where the FRC falls below 1/7",
    "frc_resolution_half_bit_nm": "the noisy reference; where the FRC falls below half a bit",
    "clean_psnr": "the unseen clean image, estimated from reference and repeat",
    "clean_ssim": "the unseen clean image",
    "truth": "the truth, which is known here",
}
"""What each score compares with, in the words of the report."""
BLOCK_PX = 32
BLOCKS_PER_SLICE = 256
NO_REPEAT = "no repeat was given: one noisy reference does not tell noise from error"
NOT_POSITIVE = (
    "the estimated error is not positive: it is smaller than the noise of the estimate, or the "
    "image shares noise with the reference"
)
NO_CLEAN_SSIM = "no estimate of SSIM against an unseen clean image is made yet"


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

    def add(self, plane: np.ndarray, target: np.ndarray) -> None:
        """Count in one slice ``(y, x)``."""
        self.errors.append(mean_squared_error(plane, target))
        self.ssims.append(ssim(plane, target, self.data_range))
        sums = ring_sums(plane, target)
        self.rings = sums if self.rings is None else self.rings + sums
        height, width = plane.shape
        self.plane_shape = (height, width)


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
        scores[key] = pixel_nm and frc_resolution_nm(curve, n_px, pixel_nm, limit)
        if scores[key] is None:
            scores["reason"][key] = why_no_nm if pixel_nm is None else _note(curve, limit, pixel_nm)
    scores["frc"] = {
        "correlation": curve.tolist(),
        "frequency_per_px": frequency.tolist(),
        "frequency_per_nm": None if pixel_nm is None else (frequency / pixel_nm).tolist(),
        "threshold": THRESHOLD,
        "half_bit": bit.tolist(),
    }
    scores["slices"] = {
        "psnr": [_finite(psnr_from_error(error, tally.data_range)) for error in tally.errors],
        "ssim": tally.ssims,
    }
    return scores


class Marks:
    """All that is gathered about one image: against reference, truth, and the unseen clean."""

    def __init__(self, data_range: float) -> None:
        self.data_range = data_range
        self.to_reference = Tally(data_range)
        self.to_truth = Tally(data_range)
        self.blocks: list[np.ndarray] = []

    def add(
        self,
        plane: np.ndarray,
        reference: np.ndarray,
        repeat: np.ndarray | None,
        truth: np.ndarray | None,
    ) -> None:
        """Count in one slice ``(y, x)``; all in the reference's grey levels."""
        self.to_reference.add(plane, reference)
        if truth is not None:
            self.to_truth.add(plane, truth)
        if repeat is not None:
            blocks = error_blocks(plane, reference, repeat, BLOCK_PX)
            self.blocks.append(merged(blocks, BLOCKS_PER_SLICE))

    def scores(self, pixel_nm: float | None, why_no_nm: str, seed: int) -> Scores:
        """The scores, with the `reason` for each that is null; ``seed`` draws the bootstrap."""
        scores = tallied(self.to_reference, pixel_nm, why_no_nm)
        self._add_clean(scores, seed)
        if self.to_truth.errors:
            scores["truth"] = tallied(self.to_truth, pixel_nm, why_no_nm)
        return scores

    def _add_clean(self, scores: Scores, seed: int) -> None:
        reason = scores["reason"]
        scores |= {"clean_psnr": None, "clean_psnr_interval": None, "clean_ssim": None}
        reason["clean_ssim"] = NO_CLEAN_SSIM
        if not self.blocks:
            reason |= {"clean_psnr": NO_REPEAT, "clean_psnr_interval": NO_REPEAT}
            return
        value, (low, high) = clean_psnr_from_blocks(
            np.concatenate(self.blocks), self.data_range, np.random.default_rng(seed)
        )
        scores |= {"clean_psnr": value, "clean_psnr_interval": [low, high]}
        if value is None:
            reason["clean_psnr"] = NOT_POSITIVE
        if low is None or high is None:
            reason["clean_psnr_interval"] = "null ends: an error of zero is within the noise"


def _note(curve: np.ndarray, threshold: float | np.ndarray, pixel_nm: float) -> str:
    note = crossing_note(curve, threshold) or ""
    return f"{note} (2 pixels are {2 * pixel_nm:g} nm)" if "Nyquist" in note else note


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
