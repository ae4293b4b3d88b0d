"""The noise of a reference that was scanned once, for estimates against the clean image."""

from __future__ import annotations

from typing import Literal

import numpy as np

from emsr.errors import InputError
from emsr.geometry.box import Box
from emsr.microscope.estimate import Noise, noise_from_image, noise_from_slices
from emsr.microscope.estimate_noise import NOT_CLEAR
from emsr.quality.known import NoiseLaw
from emsr.volumes.source import Volume

MOST_SLICES, MOST_PX = 12, 1536
SYSTEMATIC = {True: 0.04, False: 0.25}
"""By which the variance of white noise, and of noise that is or may be shared between pixels, may
be wrong beside chance (docs/noise.md: sigma within 2 % at the doses of HR scans; within 10 %)."""
CORRELATED_WIDER = 2.0
"""By which that error of correlated noise is enlarged: docs/scores.md."""
STRUCTURED = (
    "the reference's noise is shared between neighbouring pixels, and even its flattest parts hold "
    "structure: its variance is not known; give a repeated scan (--repeat)"
)


def reference_noise(reference: Volume) -> tuple[NoiseLaw | None, str]:
    """The law of the noise of ``reference``, from adjacent slices of its middle (single images
    where it has fewer than three); None, and why it cannot be told."""
    stack = _middle(reference)
    try:
        alone = noise_from_image(stack)
        noise = noise_from_slices(stack) if len(stack) > 2 else alone
    except InputError as error:
        return None, f"{error}; a second scan of the field (--repeat) tells it"
    colour = _colour(noise)
    if colour == "correlated" and NOT_CLEAR in noise.notices:
        return None, STRUCTURED
    y, x = noise.neighbours
    wider = CORRELATED_WIDER if colour == "correlated" else 1.0
    return (
        NoiseLaw(
            variance=noise.variance,
            error=wider * _error(noise, alone, stack, colour == "white"),
            wider=float(np.sqrt((1 + 2 * abs(y)) * (1 + 2 * abs(x)))),
            colour=colour,
            method=noise.method,
            sigma=noise.sigma,
        ),
        "",
    )


def _colour(noise: Noise) -> Literal["white", "correlated", "unknown"]:
    if noise.correlation is None:
        return "unknown"
    return "white" if noise.neighbours == (0.0, 0.0) else "correlated"


def _error(noise: Noise, alone: Noise, stack: np.ndarray, white: bool) -> float:
    """Standard error of the mean variance: chance, what the method is known to be off by, and
    how far two methods disagree."""
    chance = 0.0
    if noise.covariance is not None:
        a, ab, b = noise.covariance
        mean = float(stack.mean(dtype=np.float64))
        chance = a * mean**2 + 2 * ab * mean + b
    variance = noise.sigma**2
    apart = (variance - alone.sigma**2) / 2
    return float(np.sqrt(max(chance, 0.0) + (SYSTEMATIC[white] * variance) ** 2 + apart**2))


def _middle(volume: Volume) -> np.ndarray:
    """At most ``MOST_SLICES`` x ``MOST_PX`` x ``MOST_PX`` raw grey values around the middle."""
    most = (MOST_SLICES, MOST_PX, MOST_PX)
    sizes = [min(n, m) for n, m in zip(volume.shape, most, strict=True)]
    starts = [(n - size) // 2 for n, size in zip(volume.shape, sizes, strict=True)]
    (z, y, x), (dz, dy, dx) = starts, sizes
    return volume.read(Box((z, y, x), (z + dz, y + dy, x + dx)))
