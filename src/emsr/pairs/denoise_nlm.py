"""Non-local means: every pixel becomes the mean of pixels whose surroundings look like its own.

Works slice by slice. Knows how noise that grows with the signal is made even first; knows nothing
of where the noise's numbers come from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.restoration import denoise_nl_means

from emsr.microscope.estimate import Noise

PATCH_PX, DISTANCE_PX = 5, 7
STRENGTH = 0.75
"""Filter width in standard deviations of the noise. These three were chosen on phantoms of seed 1
(docs/denoising.md)."""
LEAST_SIGMA = 0.25
"""Share of the mean noise below which no grey level's noise is believed to lie: a fitted line may
run through zero."""
LEVELS, MARGIN_SIGMAS = 4096, 6.0
QUADRATURE = 9


@dataclass(frozen=True)
class Stabiliser:
    """Maps grey levels to values whose noise has the standard deviation 1, by tables.

    ``stable`` is the integral of 1 / sigma(grey) over ``grey``: for Poisson-Gaussian noise the
    generalised Anscombe transform, but for its constant. ``seen`` is its mean over noisy greys, so
    that looking a mean up in it is unbiased (Makitalo and Foi, IEEE Transactions on Image
    Processing 22 (2013) 91), for noise that is nearly Gaussian.
    """

    grey: np.ndarray
    stable: np.ndarray
    seen: np.ndarray

    def forward(self, image: np.ndarray) -> np.ndarray:
        """Noisy grey levels of any shape -> noise of standard deviation 1; float32."""
        return np.interp(image, self.grey, self.stable).astype(np.float32)

    def inverse(self, image: np.ndarray) -> np.ndarray:
        """Mean stabilised values of any shape -> grey levels; float32."""
        return np.interp(image, self.seen, self.grey).astype(np.float32)


def stabiliser(noise: Noise, low: float, high: float) -> Stabiliser:
    """For noisy images of grey levels from ``low`` to ``high``."""
    margin = MARGIN_SIGMAS * noise.sigma
    grey = np.linspace(low - margin, high + margin, LEVELS)
    sigma = np.maximum(np.sqrt(noise.variance(grey)), LEAST_SIGMA * noise.sigma)
    steps = np.diff(grey) * (1 / sigma[1:] + 1 / sigma[:-1]) / 2
    stable = np.concatenate([[0.0], np.cumsum(steps)])
    return Stabiliser(grey, stable, _mean_over_noise(grey, sigma, stable))


def _mean_over_noise(grey: np.ndarray, sigma: np.ndarray, stable: np.ndarray) -> np.ndarray:
    """The mean of ``stable`` at ``grey`` plus Gaussian noise (Gauss-Hermite quadrature)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE)
    seen = sum(
        weight * np.interp(grey + sigma * node, grey, stable)
        for node, weight in zip(nodes, weights / weights.sum(), strict=True)
    )
    return np.asarray(seen)


def nlm(stack: np.ndarray, noise: Noise, strength: float = STRENGTH) -> np.ndarray:
    """(z, y, x) float32 grey -> the same without noise, neither clipped nor rounded.

    ``noise`` is that of ``stack``; ``strength`` the filter width in its standard deviations. Takes
    about 2 seconds a megapixel. Buades, Coll and Morel, CVPR 2005, with the noise's variance taken
    off the distances of patches.
    """
    even = stabiliser(noise, float(stack.min()), float(stack.max()))
    planes = [
        denoise_nl_means(
            even.forward(plane),
            patch_size=PATCH_PX,
            patch_distance=DISTANCE_PX,
            h=strength,
            sigma=1.0,
            fast_mode=True,
        )
        for plane in stack
    ]
    return np.stack([even.inverse(plane) for plane in planes])
