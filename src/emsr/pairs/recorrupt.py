"""Two noisy images from one, whose noises know nothing of one another.

Pure functions of arrays, in grey levels. Knows the two ways there are: adding more noise with
opposite signs (for Gaussian noise), and dealing the counted electrons out to two images (for
Poisson noise). Does not know where the level of the noise comes from.
"""

from __future__ import annotations

import numpy as np

from emsr.microscope import stages


def recorrupt(
    noisy: np.ndarray,
    sigma: float | np.ndarray,
    alpha: float,
    rng: np.random.Generator,
    colour: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(input, target) float32 of the shape of ``noisy`` (..., y, x): noisy + alpha z and
    noisy - z / alpha, with z drawn from N(0, sigma^2), neither rounded nor clipped.

    With noisy = x + n and n from N(0, sigma^2), the two noises n + alpha z and n - z / alpha are
    independent: Gaussian, with covariance sigma^2 - sigma^2 = 0. Their variances are
    sigma^2 (1 + alpha^2) and sigma^2 (1 + 1 / alpha^2). Noise of another distribution leaves them
    uncorrelated, not independent. ``sigma`` in grey levels is a number or, where the noise depends
    on the signal, an array of that shape. ``colour`` is the (k, k) kernel, of unit energy, that
    makes z of white noise (``noise.colour_kernel``); None is white. ValueError unless ``alpha`` is
    above 0.

    Pang, Zheng, Quan and Ji, Recorrupted-to-Recorrupted, CVPR 2021.
    """
    if alpha <= 0:
        raise ValueError(f"alpha is {alpha}, expected a number above 0")
    z = np.asarray(sigma, np.float32) * _unit_noise(noisy.shape, colour, rng)
    grey = noisy.astype(np.float32)
    return grey + np.float32(alpha) * z, grey - z / np.float32(alpha)


def thin(
    noisy: np.ndarray, gain: float, offset: float, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(input, target) float32 of the shape of ``noisy``: each electron goes to the input with the
    probability ``share``, else to the target; both in the grey levels of the full dose.

    The counts are (noisy - offset) / gain, rounded to whole electrons, at least none. A Poisson
    count k dealt out by Binomial(k, share) makes two Poisson counts that are independent, exactly.
    Read noise of r electrons (standard deviation) is dealt out with them and leaves a covariance of
    r^2 gain^2. ``gain`` in grey levels per electron (not 0; negative where contrast is inverted),
    ``offset`` the grey level without electrons. ValueError for a share outside (0, 1) and a gain
    of 0.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}, expected a number between 0 and 1")
    if gain == 0:
        raise ValueError("gain is 0, expected grey levels per electron")
    electrons = (noisy.astype(np.float64) - offset) / gain
    counts = np.maximum(np.rint(electrons), 0).astype(np.int64)
    given = rng.binomial(counts, share)
    full = (given / share).astype(np.float32), ((counts - given) / (1 - share)).astype(np.float32)
    return stages.detector(full[0], gain, offset), stages.detector(full[1], gain, offset)


def _unit_noise(
    shape: tuple[int, ...], colour: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """Gaussian noise of variance 1; coloured noise is drawn beyond the edges, so that it is the
    same up to them."""
    if colour is None:
        return rng.standard_normal(shape, dtype=np.float32)
    margin = colour.shape[0] // 2
    wider = (*shape[:-2], shape[-2] + 2 * margin, shape[-1] + 2 * margin)
    white = rng.standard_normal(wider, dtype=np.float32)
    inside = slice(margin, -margin or None)
    return stages.blur(white, colour)[..., inside, inside]
