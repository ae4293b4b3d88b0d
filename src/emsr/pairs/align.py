"""How well an acquired LR slice and an acquired HR slice show the same field.

Knows correlation, residual shift and the grey relation of two images on the LR grid. It measures
and never moves anything; whether a slice is refused is the strategy's business.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.registration import phase_cross_correlation

SMOOTHING_PX = 1.0
LARGEST_FIELD_PX = 2048
STEPS_PER_PX = 50
GREY_SMOOTHING_PX = 3.0
"""LR pixels. On the phantoms (4 slices, either preset) the gain is then right to 1.2 % and the
offset to 1.5 grey levels, most of it from LR greys that saturate. Less leaves more of the PSF, more
leaves small fields too few independent pixels."""


def likeness(lr: np.ndarray, hr_mean: np.ndarray) -> float:
    """Correlation, in [-1, 1], of an LR slice with the area-averaged HR slice, both (y, x).

    Both are smoothed over about an LR pixel first: the noise of a short dwell time must not decide
    whether two scans show one field. 0 where either is constant after smoothing.
    """
    smooth = [gaussian_filter(image.astype(np.float64), SMOOTHING_PX) for image in (lr, hr_mean)]
    a, b = (image - image.mean() for image in smooth)
    norm = np.sqrt(np.sum(a * a) * np.sum(b * b))
    return float(np.sum(a * b) / norm) if norm > 0 else 0.0


def residual_shift(lr: np.ndarray, hr_mean: np.ndarray) -> np.ndarray:
    """The shift (y, x), in LR pixels, that would lay the area-averaged HR slice on the LR slice.

    Cross-correlation of the fields' middle (at most 2048 pixels a side), to 0.02 pixel. A Hann
    window keeps the borders from counting; the spectra are not normalised to phases, which on noisy
    EM would let the noise of the high frequencies outvote the specimen.
    """
    window = _hann(_middle(lr).shape)
    prepared = [
        (image - image.mean(dtype=np.float64)) * window for image in (_middle(lr), _middle(hr_mean))
    ]
    shift, _, _ = phase_cross_correlation(
        *prepared, upsample_factor=STEPS_PER_PX, normalization=None
    )
    return np.asarray(shift, np.float64)


def _middle(image: np.ndarray) -> np.ndarray:
    cut = [max(0, side - LARGEST_FIELD_PX) // 2 for side in image.shape]
    return image[cut[0] : cut[0] + LARGEST_FIELD_PX, cut[1] : cut[1] + LARGEST_FIELD_PX]


def _hann(shape: tuple[int, ...]) -> np.ndarray:
    return np.outer(*(np.hanning(side) for side in shape))


def grey_moments(lr: np.ndarray, hr_mean: np.ndarray) -> np.ndarray:
    """Number of pixels and sums of x, y, x*x, x*y with x the area-averaged HR slice and y the LR
    slice, both (y, x) on the LR grid and smoothed. Sums over slices give the moments of all.

    The LR scan is blurred by a PSF of its own, which flattens y against x at fine detail (the gain
    came out 4 to 9 % too low): both are compared where only coarse detail is left.
    """
    x, y = (
        gaussian_filter(image.astype(np.float64), GREY_SMOOTHING_PX).ravel()
        for image in (hr_mean, lr)
    )
    return np.array([x.size, x.sum(), y.sum(), np.sum(x * x), np.sum(x * y)])


def grey_relation(moments: np.ndarray) -> tuple[float, float]:
    """Gain and offset of LR = gain * mean(HR) + offset by least squares.

    LR is regressed on the area-averaged HR, not the other way round: noise in the regressor
    flattens the gain, and that one has less.
    """
    n, x, y, xx, xy = moments
    gain = (xy / n - x * y / n**2) / (xx / n - (x / n) ** 2)
    return float(gain), float((y - gain * x) / n)
