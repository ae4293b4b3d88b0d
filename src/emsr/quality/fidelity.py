"""How close an image is to a reference, pixel by pixel: PSNR and SSIM.

Knows two arrays on one grid and the grey range that the user means by "full scale". Refuses to
know whether the reference is noisy, to guess that range, or to fit one image's greys to the other.
"""

from __future__ import annotations

import numpy as np
from skimage.metrics import structural_similarity

from emsr.errors import InputError

SSIM_WINDOW_PX = 7
"""Side of scikit-image's default window; smaller images have no SSIM."""


def mean_squared_error(image: np.ndarray, reference: np.ndarray) -> float:
    """Mean of (image - reference)² over ``(y, x)`` or ``(z, y, x)`` arrays, in grey levels²."""
    check_pair(image, reference)
    difference = image.astype(np.float64) - reference.astype(np.float64)
    return float(np.mean(difference * difference))


def psnr_from_error(squared_error: float, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error; infinite for no error at all."""
    check_range(data_range)
    if squared_error == 0:
        return float("inf")
    return float(20 * np.log10(data_range) - 10 * np.log10(squared_error))


def psnr(image: np.ndarray, reference: np.ndarray, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB, computed in float64: 10 log10(data_range² / MSE).

    ``(y, x)`` or ``(z, y, x)`` arrays of one shape, in the same grey levels; ``data_range`` is the
    full scale in those levels. For a volume the error is averaged over all voxels before the
    logarithm. Identical arrays give infinity. Raises InputError for unequal shapes, NaN, or a
    range that is not positive.
    """
    return psnr_from_error(mean_squared_error(image, reference), data_range)


def ssim(image: np.ndarray, reference: np.ndarray, data_range: float) -> float:
    """Structural similarity in [-1, 1]; for ``(z, y, x)`` the mean over slices.

    scikit-image's ``structural_similarity`` with its own settings, computed in float64: a uniform
    7 x 7 window, sample covariance, K1 = 0.01, K2 = 0.03 (Wang et al., IEEE Transactions on Image
    Processing 2004, use an 11 x 11 Gaussian window instead: values differ in the third digit).
    Raises InputError as ``psnr`` does, and for slices smaller than the window.
    """
    check_pair(image, reference)
    check_range(data_range)
    if min(image.shape[-2:]) < SSIM_WINDOW_PX:
        raise InputError(
            f"SSIM needs slices of at least {SSIM_WINDOW_PX} x {SSIM_WINDOW_PX} pixels, "
            f"found (y, x) {image.shape[-2:]}: give a larger field"
        )
    planes = image.astype(np.float64).reshape(-1, *image.shape[-2:])
    references = reference.astype(np.float64).reshape(planes.shape)
    maps = (ssim_map(a, b, data_range) for a, b in zip(planes, references, strict=True))
    return float(np.mean([np.mean(one) for one in maps]))


def ssim_map(plane: np.ndarray, reference: np.ndarray, data_range: float) -> np.ndarray:
    """``(y - 6, x - 6)`` structural similarity of every window that lies inside a slice ``(y, x)``
    of float64; its mean is the slice's ``ssim``."""
    edge = SSIM_WINDOW_PX // 2
    _, full = structural_similarity(plane, reference, data_range=data_range, full=True)
    return np.asarray(full[edge:-edge, edge:-edge])


def check_pair(image: np.ndarray, reference: np.ndarray) -> None:
    """Two images, or two volumes, of one shape and without NaN; else InputError."""
    if image.shape != reference.shape:
        raise InputError(
            f"the image has shape {image.shape}, the reference {reference.shape}: "
            "scores need two images on one grid"
        )
    if image.ndim not in (2, 3) or image.size == 0:
        raise InputError(
            f"found an array of shape {image.shape}, expected (y, x) or (z, y, x): "
            "give an image or a volume"
        )
    for name, array in (("image", image), ("reference", reference)):
        if not np.isfinite(array).all():
            raise InputError(
                f"the {name} holds NaN or infinite values, scores need finite greys: "
                "replace or crop them away"
            )


def check_range(data_range: float) -> None:
    """A positive, finite full scale; else InputError."""
    if not (np.isfinite(data_range) and data_range > 0):
        raise InputError(
            f"data_range is {data_range}, expected a positive number of grey levels "
            "(255 for 8-bit images)"
        )
