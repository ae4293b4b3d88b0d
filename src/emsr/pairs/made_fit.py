"""A microscope like the one that made a given LR scan: the fit, and what is drawn around it.

Knows the numbers of the fit, not where they come from (``calibrate``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from emsr.microscope.estimate import Blur, Noise
from emsr.pairs.made_levels import Added, Level, left_behind, level_of, realised
from emsr.pairs.made_lr import Drawn, Microscope
from emsr.pairs.noise import colour_of, inheritance
from emsr.volumes.intensity import Intensity

SAMPLING = "area"
"""What the estimates of blur take an LR pixel for."""
AROUND_PAIRED, AROUND_UNPAIRED = 0.1, 0.3
"""Widths of blur and noise are drawn up to this share below and above what was fitted: about as far
off as fits were on phantoms (unpaired: 27 % where two fields differ much)."""


@dataclass(frozen=True)
class Calibration:
    """What was read off a real LR scan."""

    blur: Blur
    lr_noise: Noise
    hr_noise: Noise
    paired: bool
    lr_greys: tuple[float, float, float]
    """Lowest, mean and highest grey level of LR without its noise."""
    window: Intensity
    """LR grey levels that become 0 and 1."""
    scale: int
    lr_alone: float
    """Standard deviation of LR's noise as told from LR alone."""
    excess: float
    """How much more noise than HR's own the image carries that LR is made from, as a share of its
    variance."""

    @property
    def around(self) -> float:
        """Share of the fitted widths by which they are drawn below and above."""
        return AROUND_PAIRED if self.paired else AROUND_UNPAIRED

    def microscope(self, seed: int) -> Microscope:
        """One in the grey levels of the real LR scan. It samples areas, as the fit does."""
        blur = self.blur
        return Microscope(
            scale=self.scale,
            sampling=SAMPLING,
            grey_gain=blur.gain,
            grey_offset=blur.offset,
            lr_window=self.window,
            draws=lambda variant, z: self.draw(seed, variant, z),
        )

    def draw(self, seed: int, variant: int, z: int) -> tuple[Drawn, np.random.Generator]:
        """What makes one LR slice, and the generator for its noise image; decided by seed, variant
        and slice alone. Both widths and the noise are drawn around the fit, each by itself; the
        angle is the fitted one."""
        rng = np.random.default_rng([seed, variant, z])
        factors = rng.uniform(1 - self.around, 1 + self.around, size=3)
        return self.drawn(*factors.tolist()), rng

    def drawn(self, a: float = 1.0, b: float = 1.0, level: float = 1.0) -> Drawn:
        """The fit, its widths and its noise (standard deviation) times these."""
        psf = Drawn(a * self.blur.sigma_a_px, b * self.blur.sigma_b_px, self.blur.angle_rad, 0.0)
        added = self._added(psf, level)
        share = added.sigma / (self.window.high - self.window.low)
        return replace(psf, noise=share, noise_gain=added.gain, noise_offset=added.offset)

    def _added(self, psf: Drawn, level: float) -> Added:
        """The noise that LR lacks to be as noisy as the real one, ``level`` times in width."""
        carried = self.carried(psf).times(1 + self.excess)
        wanted = level_of(self.lr_noise).times(level**2).minus(carried)
        low, middle, high = self.lr_greys
        return realised(wanted, low, high, middle)

    def carried(self, psf: Drawn) -> Level:
        """Noise of LR made from HR itself, to which none is added."""
        hr = level_of(self.hr_noise)
        if self.lr_noise.slope is None:  # then a line of HR alone would tilt what is added
            hr = Level(0.0, self.hr_noise.sigma**2)
        return left_behind(hr, self.kept(psf), self.blur.gain, self.blur.offset)

    def kept(self, psf: Drawn) -> float:
        """Share of the variance of HR's noise that blur and sampling leave in LR."""
        return inheritance(psf.kernel(), self.scale, SAMPLING, colour_of(self.hr_noise)).kept

    @property
    def inherited_variance(self) -> float:
        """Of the noise that LR carries from what it is made from, LR grey levels squared."""
        hr = (1 + self.excess) * self.hr_noise.sigma**2
        return float(self.kept(self.drawn()) * self.blur.gain**2 * hr)
