"""What a denoiser took out of a stack: only noise, or structure too.

A residual that is the noise has the noise's strength, is no more alike from pixel to pixel than
the noise, and is as strong at edges as on flat tissue. Each of the three is measured; none needs a
clean image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_gradient_magnitude

from emsr.microscope.estimate import Noise
from emsr.volumes.intensity import Intensity

EDGE_SHARE, FLAT_SHARE = 0.1, 0.5
"""Of the pixels: those of steepest and of flattest denoised surroundings."""
GRADIENT_PX = 1.0
LARGEST_RATIO, SMALLEST_RATIO = 1.1, 0.5
LARGEST_AUTOCORRELATION = 0.15
LARGEST_EDGE_EXCESS = 1.25
"""docs/denoising.md has the measurements that these stand between."""
PICTURE_PX = 512
PICTURE_SIGMAS = 4.0


@dataclass(frozen=True)
class Removed:
    """The residual (noisy - denoised) of a stack."""

    sigma: float
    """Its standard deviation, grey levels."""
    ratio: float
    """``sigma`` over that of the noise."""
    autocorrelation: tuple[float, float]
    """With the next pixel along (y, x)."""
    edge_excess: float
    """Its variance at edges over that on flat tissue, each in units of the noise's variance at that
    grey level; 1 where only noise was removed."""
    grey_correlation: float
    """With the denoised image. Not judged: strong noise gives it too."""

    def numbers(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "sigma": self.sigma,
            "ratio": self.ratio,
            "autocorrelation": list(self.autocorrelation),
            "edge_excess": self.edge_excess,
            "grey_correlation": self.grey_correlation,
        }


def removed(stack: np.ndarray, denoised: np.ndarray, noise: Noise) -> Removed:
    """What was taken from ``stack`` (z, y, x), whose noise is ``noise``, to make ``denoised``."""
    sums = np.mean([_slice_sums(*planes, noise) for planes in zip(stack, denoised, strict=True)], 0)
    variance, along_y, along_x, edge, flat, grey_variance, shared = sums.tolist()
    sigma = float(np.sqrt(variance))
    return Removed(
        sigma=sigma,
        ratio=sigma / noise.sigma,
        autocorrelation=(_over(along_y, variance), _over(along_x, variance)),
        edge_excess=_over(edge, flat),
        grey_correlation=_over(shared, float(np.sqrt(grey_variance * variance))),
    )


def _slice_sums(noisy: np.ndarray, denoised: np.ndarray, noise: Noise) -> np.ndarray:
    """Means whose ratios over all slices are what is sought."""
    residual = noisy.astype(np.float64) - denoised
    residual -= residual.mean()
    squared = residual**2 / noise.variance(denoised)
    gradient = gaussian_gradient_magnitude(denoised.astype(np.float64), GRADIENT_PX)
    grey = denoised - denoised.mean(dtype=np.float64)
    return np.array(
        [
            np.mean(residual**2),
            np.mean(residual[1:] * residual[:-1]),
            np.mean(residual[:, 1:] * residual[:, :-1]),
            squared[gradient >= np.quantile(gradient, 1 - EDGE_SHARE)].mean(),
            squared[gradient <= np.quantile(gradient, FLAT_SHARE)].mean(),
            np.mean(grey**2),
            np.mean(grey * residual),
        ]
    )


def _over(a: float, b: float) -> float:
    """A ratio; 0 where nothing at all was removed."""
    return a / b if b > 0 else 0.0


def complaints(found: Removed, noise: Noise) -> tuple[str, ...]:
    """Why the residual is not the noise; empty where it could be."""
    said = []
    if found.ratio > LARGEST_RATIO:
        said.append(
            f"the denoiser removed {found.ratio:.2f} times the noise that was estimated (at most "
            f"{LARGEST_RATIO:g} is expected): structure went with it"
        )
    if found.ratio < SMALLEST_RATIO:
        said.append(
            f"the denoiser removed {found.ratio:.2f} times the noise that was estimated (at least "
            f"{SMALLEST_RATIO:g} is expected): the targets keep much of their noise"
        )
    excess = _unexplained(found, noise)
    if excess > LARGEST_AUTOCORRELATION:
        said.append(
            f"neighbouring pixels of what the denoiser removed correlate by {excess:.2f} more than "
            f"those of the noise (at most {LARGEST_AUTOCORRELATION:g} is expected): it removed "
            f"structure"
        )
    if found.edge_excess > LARGEST_EDGE_EXCESS:
        said.append(
            f"the denoiser removed {found.edge_excess:.2f} times as much at edges as on flat "
            f"tissue (at most {LARGEST_EDGE_EXCESS:g} is expected): edges went with the noise"
        )
    return tuple(said)


def _unexplained(found: Removed, noise: Noise) -> float:
    """The larger, of the two axes, autocorrelation beyond that of the noise (0 where unknown)."""
    own = noise.correlation or (0.0, 0.0)
    return max(r - max(n, 0.0) for r, n in zip(found.autocorrelation, own, strict=True))


def picture(noisy: np.ndarray, denoised: np.ndarray, window: Intensity, noise: Noise) -> np.ndarray:
    """Denoised, noisy and residual side by side: the middle of one (y, x) slice, 8-bit.

    The first two in ``window``; the residual with zero at middle grey and 4 standard deviations of
    ``noise`` to either end.
    """
    denoised, noisy = (_middle(plane) for plane in (denoised, noisy))
    span = PICTURE_SIGMAS * noise.sigma
    residual = Intensity(-span, span).to_unit(noisy.astype(np.float32) - denoised)
    panels = [window.to_unit(denoised), window.to_unit(noisy), residual]
    return Intensity(0, 255).to_grey(np.concatenate(panels, axis=1), np.uint8)[0]


def _middle(plane: np.ndarray) -> np.ndarray:
    y, x = (max(0, side - PICTURE_PX) // 2 for side in plane.shape)
    return plane[y : y + PICTURE_PX, x : x + PICTURE_PX]
