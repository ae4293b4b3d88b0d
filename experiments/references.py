"""The references that ``theory.py`` trains against, and what docs/theory.md says each will teach.

All kinds are given the same inputs. With x the clean HR patch and n white Gaussian noise, the scan
x + n is recorrupted once, and the area mean of the noisier half is the input:

    scan = x + n,   (noisier, opposite) = recorrupt(scan),   y = A noisier

so that ``scan`` shares noise with y, ``opposite`` does not, and a second scan does not either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from closed_forms import (
    clipped_mean,
    clipped_median,
    impulse_mean,
    impulse_median,
    median_under_noise,
    poisson_median_shift,
    rounded_normal_kernel,
    shared_noise_mean,
)

from emsr.microscope import stages
from emsr.microscope.presets import PRESETS
from emsr.microscope.scan import scan_for_greys
from emsr.pairs.recorrupt import recorrupt

SCALE, SIDE_PX = 3, 96
SIGMA, ALPHA = 40.0, 0.5
"""Noise of the scan that the LR images are made of, in grey levels, and its recorruption."""
SHARED = 1 / (1 + ALPHA**2)
"""Share of the input's noise variance that comes from the scan."""
SPLIT_SIGMA = SIGMA * float(np.hypot(1, 1 / ALPHA))
BLACK, WHITE = 60.0, 190.0
CLIPPED_SIGMA = 20.0
IMPULSES, IMPULSE_GREY = 0.1, 255.0
SHIFT_PX, REACH_PX = 1.0, 4
_TISSUE = PRESETS["white-matter"]
LOW_DOSE = scan_for_greys(
    _TISSUE.white, _TISSUE.black, 30.0, psf_sigma_px=0, factor=1, read_noise=_TISSUE.read_noise
)
"""10 electrons in a white pixel, 30 in a black one; 11 grey levels each, shown inverted."""


@dataclass(frozen=True)
class Batch:
    """What a reference is made of: HR patches (b, h, w) in grey levels."""

    wide: np.ndarray
    """Clean, with ``REACH_PX`` more on each side."""
    scan: np.ndarray
    """The noisy scan that the input was made of."""
    opposite: np.ndarray
    """The other half of its recorruption."""
    of_one_scan: Callable[[], np.ndarray]
    """The patches of a second scan of the whole field, the same at every step."""
    of_denoised: Callable[[], np.ndarray]
    """The patches of a scan of the whole field that was denoised."""
    rng: np.random.Generator

    @property
    def clean(self) -> np.ndarray:
        return np.asarray(self.wide[:, REACH_PX:-REACH_PX, REACH_PX:-REACH_PX])


@dataclass(frozen=True)
class Seen:
    """What clean references taught: SR (z, s*y, s*x) of LR (z, y, x), in grey levels."""

    mean: np.ndarray
    """Under l2."""
    median: np.ndarray
    """Under l1."""
    spread: float
    """Standard deviation of the truth about ``mean``."""
    lr: np.ndarray
    loss: str

    def under(self, sigma: float | np.ndarray) -> np.ndarray:
        """What symmetric noise of standard deviation ``sigma``, of their own, will teach."""
        if self.loss == "l2":
            return self.mean
        return median_under_noise(self.median, self.mean, self.spread, sigma)


@dataclass(frozen=True)
class Kind:
    """References of one kind, and the SR they will teach where docs/theory.md knows."""

    label: str
    draw: Callable[[Batch], np.ndarray]
    predict: Callable[[Seen], np.ndarray | None]
    second_view: bool = False
    """Whether the loss has its second and third term."""


def lr_scan(
    clean: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """LR (b, y, x), the scan (b, s*y, s*x) it was made of, and the opposite half of that scan."""
    scan = stages.gaussian_noise(clean, SIGMA, rng)
    noisier, opposite = recorrupt(scan, SIGMA, ALPHA, rng)
    return stages.sample_area(noisier, SCALE), scan, opposite


def gaussian(sigma: float) -> Callable[[Batch], np.ndarray]:
    """References with white Gaussian noise of their own."""
    return lambda batch: stages.gaussian_noise(batch.clean, sigma, batch.rng)


def low_dose(batch: Batch) -> np.ndarray:
    """Few electrons, counted, and read noise; neither rounded nor clipped."""
    scan = LOW_DOSE
    return stages.poisson_gaussian(batch.clean, scan.gain, scan.offset, scan.read_noise, batch.rng)


def clipped(batch: Batch) -> np.ndarray:
    """Gaussian noise, then a detector that saturates inside the range of the tissue's greys."""
    return gaussian(CLIPPED_SIGMA)(batch).clip(BLACK, WHITE)


def impulses(batch: Batch) -> np.ndarray:
    """White dots."""
    hit = batch.rng.random(batch.clean.shape, np.float32) < IMPULSES
    return np.where(hit, np.float32(IMPULSE_GREY), batch.clean)


def shifted(tile_px: int) -> Callable[[Batch], np.ndarray]:
    """Each tile out of register by its own whole number of HR pixels along y and x."""

    def draw(batch: Batch) -> np.ndarray:
        count, height, width = batch.clean.shape
        tiles = (2, count, height // tile_px, width // tile_px)
        moves = np.rint(SHIFT_PX * batch.rng.standard_normal(tiles)).clip(-REACH_PX, REACH_PX)
        dy, dx = moves.astype(int).repeat(tile_px, axis=2).repeat(tile_px, axis=3) + REACH_PX
        b, y, x = np.ogrid[:count, :height, :width]
        return np.asarray(batch.wide[b, y + dy, x + dx])

    return draw


def unknown(_: Seen) -> None:
    return None


def symmetric(sigma: float) -> Callable[[Seen], np.ndarray]:
    return lambda seen: seen.under(sigma)


def low_dose_sr(seen: Seen) -> np.ndarray:
    if seen.loss == "l2":
        return seen.mean
    gain, read_noise = LOW_DOSE.gain, LOW_DOSE.read_noise
    signal = seen.mean - LOW_DOSE.offset
    middle = seen.under(np.sqrt(gain * signal + read_noise**2))
    return middle + poisson_median_shift(signal, gain, read_noise, seen.spread)


def clipped_sr(seen: Seen) -> np.ndarray:
    if seen.loss == "l1":
        return clipped_median(seen.under(CLIPPED_SIGMA), BLACK, WHITE)
    return clipped_mean(seen.mean, float(np.hypot(CLIPPED_SIGMA, seen.spread)), BLACK, WHITE)


def impulses_sr(seen: Seen) -> np.ndarray:
    if seen.loss == "l1":
        return impulse_median(seen.median, seen.spread, IMPULSES)
    return impulse_mean(seen.mean, IMPULSES, IMPULSE_GREY)


def shifted_sr(seen: Seen) -> np.ndarray | None:
    if seen.loss == "l1":
        return None
    return stages.blur(seen.mean, rounded_normal_kernel(SHIFT_PX, REACH_PX).astype(np.float32))


def shared_sr(seen: Seen) -> np.ndarray:
    return shared_noise_mean(seen.under(SIGMA), seen.lr, SHARED)


KINDS = {
    "clean": Kind("clean", lambda batch: batch.clean, symmetric(0.0)),
    "gaussian-10": Kind("Gaussian σ 10", gaussian(10.0), symmetric(10.0)),
    "gaussian-20": Kind("Gaussian σ 20", gaussian(20.0), symmetric(20.0)),
    "repeated": Kind("Gaussian σ 40, repeated scans", gaussian(SIGMA), symmetric(SIGMA)),
    "one-scan": Kind(
        "Gaussian σ 40, one scan", lambda batch: batch.of_one_scan(), symmetric(SIGMA)
    ),
    "denoised": Kind("Gaussian σ 20, denoised", lambda batch: batch.of_denoised(), unknown),
    "low-dose": Kind("Poisson–Gaussian, 10 to 30 electrons", low_dose, low_dose_sr),
    "clipped": Kind("Gaussian σ 20, saturated at 60 and 190", clipped, clipped_sr),
    "impulses": Kind("white impulses, 10 %", impulses, impulses_sr),
    "shifted": Kind("out of register, tiles of 12 px", shifted(12), shifted_sr),
    "shifted-patch": Kind("out of register, whole patches", shifted(SIDE_PX), shifted_sr),
    "shared": Kind("Gaussian σ 40, shared with LR", lambda batch: batch.scan, shared_sr),
    "split": Kind("the same scan, split", lambda batch: batch.opposite, symmetric(SPLIT_SIGMA)),
    "two-views": Kind("clean, loss of three terms", lambda batch: batch.clean, unknown, True),
}
