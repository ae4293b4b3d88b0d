"""What PSNR and SSIM against the unseen clean image would be, a slice at a time.

Knows how slices add up, when an estimate is worth nothing and why. Refuses to find the noise: jobs
hands in a second scan, or the law that one scan's noise follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from emsr.quality import clean_error, clean_ssim
from emsr.quality.blocks import (
    BLOCKS_PER_SLICE,
    MOST_BLOCKS,
    block_sums,
    merged,
    scatter,
)
from emsr.quality.fidelity import psnr_from_error
from emsr.quality.known import Known

Floats = NDArray[np.float64]

DRAWS = 1000
CERTAIN_Z = 4.0
HARMLESS = 0.023
"""Share of the squared error that changes it by 0.1 dB."""
WIDEST_DB = 2.0
"""From one scan: an interval that reaches further to either side says nothing."""
MODEL_ERROR = 0.03
"""Standard error of ``clean_ssim``'s model, as a share of what it adds to the noisy SSIM: the
tables of docs/scores.md have up to 5 % with a repeat; from one scan (up to 9 %) the error of the
noise's variance comes on top."""
MOST_SHIFT_PX = 0.5
STRIP_PIXELS = 2_000_000
SMOOTH_PX = 7
MOST_KEPT = 64

NOT_POSITIVE = (
    "the estimated error is not positive: it is smaller than the noise of the estimate, or the "
    "image shares noise with the reference"
)
OPEN_END = "null ends: an error of zero is within the noise"
SHARES = (
    "SR correlates with the difference between reference and repeat ({z:.0f} standard errors): it "
    "was made from one of them, or the scans differ in more than noise"
)
SMOOTHED = (
    "the finest detail of SR - reference holds less power than the reference's noise: SR was made "
    "from the reference and shares its noise"
)
TOO_WIDE = (
    "known no better than {low} to {high} dB: SR's error lies too far under the reference's noise; "
    "give a repeated scan (--repeat)"
)
NEEDS_WHITE = (
    "the reference's noise is shared between neighbouring pixels, which one scan does not "
    "tell from structure within a window; give a repeated scan (--repeat)"
)
MAY_SHARE = (
    "structure hides whether the reference's noise is shared between neighbouring pixels, and SR - "
    "reference looks as if it were: its variance is not known; give a repeated scan (--repeat)"
)
FAR_SHARED = (
    "the reference's noise is shared over more pixels than one scan can tell from structure: its "
    "variance is not known; give a repeated scan (--repeat)"
)
NOT_SEEN_WHITE = (
    "structure hides whether the reference's noise is shared between neighbouring pixels, which "
    "one scan does not tell from structure within a window; give a repeated scan (--repeat)"
)
NOT_IN_REGISTER = "reference and repeat are {px:.1f} px out of register"


class Clean:
    """Running estimates of one image against the clean image behind the reference."""

    def __init__(self, data_range: float, known: Known, px: int) -> None:
        self.data_range, self.known, self.px = data_range, known, px
        self.method: str | None = None
        self.errors: list[Floats] = []
        self.ssim_terms: list[Floats] = []
        self.ssim_sum, self.ssim_by_noise, self.windows = 0.0, 0.0, 0

    def add(self, sr: Floats, hr: Floats, repeat: Floats | None) -> None:
        """Count in one slice ``(y, x)``."""
        law = self.known.noise
        if repeat is not None:
            self.method = "repeat"
            repeat = clean_error.levelled(hr, repeat)
            terms = clean_error.two_scan_terms(sr, hr, repeat, self.px)
            variance = None
        elif law is not None:
            self.method = law.method
            variance = law.variance(ndimage.uniform_filter(hr, SMOOTH_PX))
            terms = clean_error.one_scan_terms(sr, hr, variance, self.px)
        else:
            return
        _keep(self.errors, terms)
        for rows in strips(sr.shape):
            other = repeat if repeat is not None else variance
            assert other is not None
            self._add_ssim(sr[rows], hr[rows], other[rows], repeat is not None)

    def _add_ssim(self, sr: Floats, hr: Floats, other: Floats, repeated: bool) -> None:
        """``other`` is the repeat, or the variance of the noise."""
        if repeated:
            found = clean_ssim.clean_map(
                clean_ssim.windows_of_repeat(sr, hr, other), self.data_range
            )
            terms = clean_ssim.noise_in_sum(found, sr, hr, other)
        else:
            found = clean_ssim.clean_map(clean_ssim.windows_of_one(sr, hr, other), self.data_range)
            terms = clean_ssim.noise_variance_of_sum(found, sr, other)
        self.ssim_sum += float(found.value.sum())
        # Noise said to be one grey level squared larger takes as much from every window's variance.
        self.ssim_by_noise += float(found.by_variance.sum())
        self.windows += found.value.size
        pair = np.stack([block_sums(p, self.px).ravel() for p in (terms, np.ones_like(sr))], 1)
        _keep(self.ssim_terms, pair)

    def scores(self, noisy_ssim: float, seed: int) -> dict[str, Any]:
        """``clean_psnr``, ``clean_ssim``, their intervals and method, and the ``reason`` of each
        that is null; ``dependent`` says why SR and the noise are not independent, if so, and
        ``noise_error`` how well the noise's variance is known. ``seed`` draws the bootstrap."""
        keys = ("clean_psnr", "clean_psnr_interval", "clean_ssim", "clean_ssim_interval")
        found: dict[str, Any] = dict.fromkeys((*keys, "dependent", "noise_error"))
        found["clean_psnr_method"] = self.method
        if self.method is None:
            why = self.known.why_no_noise
            return {**found, "reason": dict.fromkeys((*keys, "clean_psnr_method"), why)}
        rng = np.random.default_rng(seed)
        blocks = merged(np.concatenate(self.errors), MOST_BLOCKS)
        reason: dict[str, str] = {}
        found["dependent"] = self._dependent(blocks)
        found["noise_error"] = self._noise_error(blocks)
        unknown = FAR_SHARED if found["noise_error"] is None else None
        if unknown and self.known.noise and self.known.noise.colour == "unknown":
            unknown = MAY_SHARE
        if useless := found["dependent"] or unknown:
            return {**found, "reason": dict.fromkeys(keys, useless)}
        self._add_psnr(found, reason, blocks, rng)
        self._add_clean_ssim(found, reason, noisy_ssim, rng)
        return {**found, "reason": reason}

    def _noise_error(self, blocks: Floats) -> float | None:
        """Standard error of the noise's mean variance; None where it is anyone's guess."""
        law = self.known.noise
        if self.method == "repeat" or law is None:
            return 0.0
        if law.colour == "white":
            return law.error
        if law.colour == "correlated":
            sure = clean_error.fine_ratio(blocks) <= clean_error.MOST_RATIO
            return law.error if sure else None
        return clean_error.error_of_unknown_colour(blocks, law.error)

    def _dependent(self, blocks: Floats) -> str | None:
        """Why SR and the noise of the reference are not independent."""
        if self.method != "repeat":
            law = self.known.noise
            assert law is not None
            smoothed = law.colour == "white" and clean_error.too_little_noise(blocks, law.error)
            return self.known.distrust or (SMOOTHED if smoothed else None)
        z, shared = clean_error.shared_with_sr(blocks)
        error = max(float(blocks[:, 0].sum() / blocks[:, 4].sum()), 0.0)
        if abs(z) > CERTAIN_Z and abs(shared) > HARMLESS * error:
            if self.known.shift_px > MOST_SHIFT_PX:
                return NOT_IN_REGISTER.format(px=self.known.shift_px)
            return SHARES.format(z=abs(z))
        scarce = abs(shared) * (1 + 2 / max(abs(z), 1e-9)) if z else 0.0
        # Learned by heart, the noise would show: unless that much can be ruled out, say so.
        return self.known.distrust if scarce > HARMLESS * error else None

    def _add_psnr(
        self, found: dict[str, Any], reason: dict[str, str], blocks: Floats, rng: Any
    ) -> None:
        law = self.known.noise
        if self.method == "repeat":
            error, drawn = clean_error.two_scan_error(blocks, rng, DRAWS)
        else:
            assert law is not None
            scatter_of = (found["noise_error"], law.wider, rng, DRAWS)
            error, drawn = clean_error.one_scan_error(blocks, *scatter_of)
        small, large = np.quantile(drawn, [0.025, 0.975])
        low, value, high = (decibel(e, self.data_range) for e in (large, error, small))
        found["clean_psnr"], found["clean_psnr_interval"] = value, [low, high]
        if low is None or high is None:
            reason["clean_psnr_interval"] = OPEN_END
        if value is None:
            reason["clean_psnr"] = NOT_POSITIVE
        elif self.method != "repeat" and not _narrow(low, value, high):
            found["clean_psnr"] = None
            ends = ("no bound" if end is None else f"{end:.1f}" for end in (low, high))
            reason["clean_psnr"] = TOO_WIDE.format(low=next(ends), high=next(ends))

    def _add_clean_ssim(
        self, found: dict[str, Any], reason: dict[str, str], noisy: float, rng: Any
    ) -> None:
        law, keys = self.known.noise, ("clean_ssim", "clean_ssim_interval")
        if self.method == "repeat":
            if self.known.shift_px > MOST_SHIFT_PX:
                reason.update(dict.fromkeys(keys, NOT_IN_REGISTER.format(px=self.known.shift_px)))
                return
        elif law is None or law.colour != "white":
            unknown = law is not None and law.colour == "unknown"
            reason.update(dict.fromkeys(keys, NOT_SEEN_WHITE if unknown else NEEDS_WHITE))
            return
        if found["clean_psnr"] is None:
            reason.update(dict.fromkeys(keys, reason["clean_psnr"]))
            return
        value = self.ssim_sum / self.windows
        terms, pixels = merged(np.concatenate(self.ssim_terms), MOST_BLOCKS).T
        if self.method == "repeat":
            drawn = scatter(terms, pixels, rng, DRAWS) / self.windows
        else:
            assert law is not None
            by_noise = law.error * self.ssim_by_noise / self.windows
            size = np.hypot(np.sqrt(terms.sum()) / self.windows, by_noise)
            drawn = rng.normal(0, size, DRAWS)
        drawn = value + drawn + rng.normal(0, MODEL_ERROR * abs(value - noisy), DRAWS)
        low, high = np.clip(np.quantile(drawn, [0.025, 0.975]), -1, 1)
        found["clean_ssim"] = float(np.clip(value, -1, 1))
        found["clean_ssim_interval"] = [float(low), float(high)]


def _keep(kept: list[Floats], terms: Floats) -> None:
    """Add a slice's ``(block, k)``; however many slices, the list stays bounded."""
    kept.append(merged(terms, BLOCKS_PER_SLICE))
    if len(kept) > MOST_KEPT:
        kept[:] = [merged(np.concatenate(kept), 4 * MOST_BLOCKS)]


def strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of a slice ``(y, x)`` that are worked on at a time, so that windows of SSIM lie in one
    strip each and the memory of a large slice is bounded."""
    margin = 2 * clean_ssim.MARGIN
    rows = max(STRIP_PIXELS // shape[1], 10 * margin)
    for start in range(0, max(shape[0] - margin, 1), rows):
        yield slice(start, min(start + rows + margin, shape[0]))


def decibel(error: float, data_range: float) -> float | None:
    """PSNR of a mean squared error; None where that is not positive."""
    return psnr_from_error(float(error), data_range) if error > 0 else None


def _narrow(low: float | None, value: float, high: float | None) -> bool:
    return low is not None and high is not None and max(value - low, high - value) <= WIDEST_DB
