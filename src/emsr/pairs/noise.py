"""What input and target know of one another's noise.

Training against noisy references is sound where the noise of the target is independent of that of
the input. Knows how to measure the white part of the noise of one image, the part that two images
share, and what degrading a noisy scan leaves behind. Knows nothing of files or strategies.
"""

from __future__ import annotations

import numpy as np

from emsr.microscope import stages


def finest_detail(image: np.ndarray) -> np.ndarray:
    """Second differences along y and x of a (y, x) image: (y - 2, x - 2) float64.

    Scaled so that white noise keeps its standard deviation; smooth structure vanishes. Structure as
    fine as a pixel remains and counts as noise, noise that spreads over pixels is missed.
    Immerkaer, Computer Vision and Image Understanding 64 (1996) 300.
    """
    return np.diff(np.diff(image.astype(np.float64), 2, axis=0), 2, axis=1) / 6


def noise_moments(lr: np.ndarray, hr_mean: np.ndarray) -> np.ndarray:
    """Noise (variance of LR, variance of area-averaged HR, covariance) of one slice pair, in
    squared grey levels; both images (y, x) on the LR grid. Means over slices stay meaningful."""
    a, b = finest_detail(lr), finest_detail(hr_mean)
    return np.array([np.mean(a * a), np.mean(b * b), np.mean(a * b)])


def noise_correlation(moments: np.ndarray) -> float | None:
    """Correlation in [-1, 1] from ``noise_moments``, an upper bound for that of the noise: the
    finest structure is common to both scans too. None where a scan has no fine detail at all."""
    lr, hr, shared = moments
    if min(lr, hr) <= 0:
        return None
    return float(np.clip(shared / np.sqrt(lr * hr), -1.0, 1.0))


def inherited_correlation(
    kernel: np.ndarray, scale: int, hr_noise_sigma: float, added_sigma: float
) -> float:
    """Correlation that an LR pixel's noise has with the mean noise of the HR pixels it covers.

    The LR scan is made from the HR one by blur with the symmetric (k, k) ``kernel``, area sampling
    and added white noise. One LR pixel then weighs HR noise by w = kernel * box; the target's mean
    over the same area weighs it by box: their covariance is sigma^2 sum(w box), exactly, for white
    HR noise. 0 where the HR scan has no noise.
    """
    if hr_noise_sigma <= 0:
        return 0.0
    box, seen = _weights(kernel, scale)
    shared = hr_noise_sigma**2 * np.sum(seen * box)
    lr_sigma = np.hypot(hr_noise_sigma * np.sqrt(np.sum(seen**2)), added_sigma)
    return float(shared / (lr_sigma * hr_noise_sigma * np.sqrt(np.sum(box**2))))


def _weights(kernel: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """How one LR pixel weighs the HR pixels around it: its area alone, and behind the blur."""
    margin = kernel.shape[0]
    box = np.zeros((scale + 2 * margin, scale + 2 * margin), np.float32)
    box[margin : margin + scale, margin : margin + scale] = 1 / scale**2
    return box, stages.blur(box, kernel)
