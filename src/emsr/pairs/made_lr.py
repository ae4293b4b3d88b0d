"""The microscope that makes an LR scan from an HR scan: which numbers are drawn, in which order.

What they do to an image is the business of ``microscope.stages``; where their ranges come from, of
the recipe or of ``calibrate``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from emsr.microscope import stages
from emsr.pairs.noise import inheritance
from emsr.recipe import Degradation
from emsr.volumes.intensity import Intensity


@dataclass(frozen=True)
class Drawn:
    """What makes one LR slice: PSF widths in HR pixels, its angle, and the noise that is added."""

    blur_a_px: float
    blur_b_px: float
    angle_rad: float
    noise: float
    """Standard deviation of Gaussian noise (read noise) as a share of the LR grey window."""
    noise_gain: float = 0.0
    """Grey levels (of LR) per electron of the Poisson noise added before it; 0 adds none."""
    noise_offset: float = 0.0
    """Grey level (of LR) without electrons."""

    def kernel(self) -> np.ndarray:
        """The PSF, (k, k)."""
        return stages.gaussian_kernel(self.blur_a_px, self.blur_b_px, self.angle_rad)


Draws = Callable[[int, int], tuple[Drawn, np.random.Generator]]
"""From the variant and the slice z: what makes that LR slice, and the generator that goes on to
draw its noise image."""


@dataclass(frozen=True)
class Microscope:
    """What all LR slices of one scan have in common."""

    scale: int
    sampling: str
    grey_gain: float
    """LR = grey_gain * HR + grey_offset; 1 and 0 unless calibrated."""
    grey_offset: float
    lr_window: Intensity
    draws: Draws

    def scan(self, hr: np.ndarray, drawn: Drawn, rng: np.random.Generator) -> np.ndarray:
        """LR (y, x) float32 of HR (s*y, s*x), neither rounded nor clipped.

        The noise of HR goes through blur and sampling like its structure; the noise of ``drawn``
        comes on top.
        """
        return _with_noise(self.noise_free(hr, drawn), drawn, self.lr_window, rng)

    def noise_free(self, hr: np.ndarray, drawn: Drawn) -> np.ndarray:
        """The same without added noise."""
        blurred = stages.blur(hr.astype(np.float32), drawn.kernel())
        sampled = stages.SAMPLINGS[self.sampling](blurred, self.scale)
        if (self.grey_gain, self.grey_offset) == (1.0, 0.0):
            return sampled
        return np.float32(self.grey_gain) * sampled + np.float32(self.grey_offset)

    def inherited_correlation(
        self, drawn: Iterable[Drawn], hr_mean: float, hr_sigma: float, colour: np.ndarray
    ) -> float:
        """Mean correlation, over the LR slices ``drawn``, of an LR pixel's noise with the mean of
        the HR noise over its area. The HR scan has noise of standard deviation ``hr_sigma`` and
        that ``colour`` around the grey level ``hr_mean``."""
        mean = self.grey_gain * hr_mean + self.grey_offset
        span = self.lr_window.high - self.lr_window.low
        found = []
        for one in drawn:
            shot = max(one.noise_gain * (mean - one.noise_offset), 0.0)
            added = np.sqrt((one.noise * span) ** 2 + shot) / self.grey_gain
            passed = inheritance(one.kernel(), self.scale, self.sampling, colour)
            found.append(passed.correlation(hr_sigma, float(added)))
        return float(np.mean(found))


def _with_noise(
    expected: np.ndarray, drawn: Drawn, lr_window: Intensity, rng: np.random.Generator
) -> np.ndarray:
    """``expected`` (y, x) in LR grey levels with the noise of ``drawn``."""
    sigma = drawn.noise * (lr_window.high - lr_window.low)
    if drawn.noise_gain == 0:
        return stages.gaussian_noise(expected, sigma, rng)
    return stages.poisson_gaussian(expected, drawn.noise_gain, drawn.noise_offset, sigma, rng)


def draw(ranges: Degradation, seed: int, variant: int, z: int) -> tuple[Drawn, np.random.Generator]:
    """The microscope of one LR slice, and the generator that goes on to draw its noise image.

    Decided by seed, variant and slice alone. Every number is drawn whether it is used or not, so
    that the recipe's ranges do not change which numbers the others get.
    """
    rng = np.random.default_rng([seed, variant, z])
    a, b = rng.uniform(*ranges.blur_sigma_px, size=2).tolist()
    anisotropic = rng.random() < ranges.anisotropic
    angle, noise = rng.uniform(0, np.pi), rng.uniform(*ranges.noise_sigma)
    b, angle = (b, angle) if anisotropic else (a, 0.0)
    return Drawn(a, b, angle, noise, ranges.noise_gain, ranges.noise_offset), rng
