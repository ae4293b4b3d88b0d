"""What images a network was trained on, in a few numbers, and how far other images lie from them.

    spacing    nm along (z, y, x)
    greys      quantiles of the grey values, 0 and 1 the ends of the training window
    noise      standard deviation in the same units
    tilt       log of the noise's variance at 3/4 of the window over that at 1/4: its sign is that
               of the contrast, which the grey values of a tissue need not betray
    spectrum   power of structure in four bands of spatial frequency, the noise taken out; in
               decibels, floored where the noise hides it

Each difference is given as a multiple of the one up to which fields of one tissue and one
microscope may differ (``LIMITS``, calibrated in docs/trust.md): more than 1 is outside. Refuses to
estimate the noise, which is handed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Fingerprint = dict[str, Any]
"""``spacing_nm``, ``greys``, ``noise``, ``tilt``, ``spectrum``: numbers or null, as JSON."""

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
SIDE_PX = 32
"""Side of the blocks whose spectra are averaged."""
BANDS = (1 / 16, 1 / 8, 3 / 16, 1 / 4, 1 / 2)
"""Edges of the bands, in cycles per pixel. What is coarser differs from field to field."""
BAND_NAMES = ("coarse", "middling", "fine", "finest")
FLOOR = 0.15
"""Share of the noise's power under which structure is not told from it."""
LEAST = 1e-7
"""Power, squared shares of the window, that is none."""
LITTLE_NOISE = 0.01
"""Share of the window under which one noise is as good as another."""
LIMITS = {"spacing": 0.05, "greys": 0.15, "noise": 0.25, "tilt": 0.6, "spectrum": 3.0}
"""Relative difference; share of the window; relative difference; difference; decibels."""


def fingerprint(
    planes: Sequence[NDArray],
    window: tuple[float, float],
    noise_sigma: float | None,
    noise_tilt: float | None,
    spacing_nm: tuple[float, float, float] | None,
) -> Fingerprint:
    """The numbers of the module, of images ``(y, x)`` in grey values, pooled. ``window`` are the
    grey values that count as 0 and 1; ``noise_sigma`` in grey values; None is unknown."""
    low, high = window
    unit = [(np.asarray(plane, np.float64) - low) / (high - low) for plane in planes]
    greys = np.quantile(np.concatenate([plane.ravel() for plane in unit]), QUANTILES)
    noise = None if noise_sigma is None else noise_sigma / (high - low)
    return {
        "spacing_nm": None if spacing_nm is None else list(spacing_nm),
        "greys": [round(float(grey), 4) for grey in greys],
        "noise": noise,
        "tilt": noise_tilt,
        "spectrum": _spectrum(unit, noise or 0.0),
    }


def ranged(fingerprints: Sequence[Fingerprint]) -> dict[str, Any]:
    """The lowest and highest noise and spectrum of images that differ on purpose: what lies between
    is no departure. Goes into the fingerprint of all of them, as ``ranges``."""
    found: dict[str, Any] = {}
    for what in ("noise", "spectrum"):
        known = [one[what] for one in fingerprints if one[what] is not None]
        if known:
            found[what] = [np.min(known, axis=0).tolist(), np.max(known, axis=0).tolist()]
    return found


def _nearest(trained: Fingerprint, found: Fingerprint) -> Fingerprint:
    """What was trained on, where it had a range the end that ``found`` is nearest to."""
    full = dict.fromkeys(found) | trained  # a model file may say less, or nothing yet
    for what, (low, high) in (full.get("ranges") or {}).items():  # of another version, maybe
        if found.get(what) is not None and np.shape(found[what]) == np.shape(low):
            full[what] = np.clip(found[what], low, high).tolist()
    return full


def departures(trained: Fingerprint, found: Fingerprint) -> dict[str, float]:
    """How far ``found`` lies from ``trained``, by what differs, as multiples of ``LIMITS``; what
    either does not know is left out. More than 1 is outside."""
    return {what: size for what, size, _ in _compared(trained, found)}


def said(trained: Fingerprint, found: Fingerprint) -> str | None:
    """In words what lies outside, and how far; None where nothing does."""
    words = [words for _, size, words in _compared(trained, found) if size > 1]
    return ", ".join(words) or None


def _compared(trained: Fingerprint, found: Fingerprint) -> Iterator[tuple[str, float, str]]:
    """What is known of both, by how many ``LIMITS`` it differs, and in words."""
    trained = _nearest(trained, found)
    if _both(trained, found, "spacing_nm"):
        ratio = np.divide(found["spacing_nm"], trained["spacing_nm"])[1:]
        worst = float(ratio[np.argmax(np.abs(np.log(ratio)))])
        yield "spacing", _times(worst, "spacing"), f"pixels {worst:.2g} times as wide"
    if _both(trained, found, "greys"):
        apart = np.subtract(found["greys"], trained["greys"])
        worst = float(apart[np.argmax(np.abs(apart))])
        at = f"at the {100 * QUANTILES[int(np.argmax(np.abs(apart)))]:g} % quantile"
        way = "brighter" if worst > 0 else "darker"
        words = f"grey values {abs(worst):.0%} of the grey window {way} ({at})"
        yield "greys", abs(worst) / LIMITS["greys"], words
    if trained["noise"] and found["noise"]:
        ratio = max(found["noise"], LITTLE_NOISE) / max(trained["noise"], LITTLE_NOISE)
        yield "noise", _times(ratio, "noise"), f"noise {ratio:.2g} times that trained on"
    if trained["tilt"] is not None and found["tilt"] is not None:
        apart = found["tilt"] - trained["tilt"]
        inverted = " (is the contrast inverted?)" if found["tilt"] * trained["tilt"] < 0 else ""
        words = f"noise that {'grows' if apart > 0 else 'falls'} more with the grey value{inverted}"
        yield "tilt", abs(apart) / LIMITS["tilt"], words
    if _both(trained, found, "spectrum"):
        # What the noise of one hides is not compared: its floor differs with the noise.
        least = _floor(max(found["noise"] or 0.0, trained["noise"] or 0.0))
        seen, known = (np.maximum(one["spectrum"], least) for one in (found, trained))
        apart = seen - known
        worst = float(apart[np.argmax(np.abs(apart))])
        size = BAND_NAMES[int(np.argmax(np.abs(apart)))]
        way = "stronger" if worst > 0 else "weaker"
        words = f"{size} structure {abs(worst):.1f} dB {way}"
        yield "spectrum", abs(worst) / LIMITS["spectrum"], words


def _both(trained: Fingerprint, found: Fingerprint, what: str) -> bool:
    """Whether lists of one length are known of both."""
    known, seen = trained[what], found[what]
    return bool(known and seen) and len(known) == len(seen)


def _times(ratio: float, what: str) -> float:
    """A ratio as a multiple of its limit, up or down alike."""
    return float(abs(np.log(ratio)) / np.log1p(LIMITS[what]))


def _spectrum(planes: Sequence[NDArray], noise: float) -> list[float] | None:
    """Decibels of the mean power in each band; None where no image holds a block."""
    powers = [_power(plane) for plane in planes if min(plane.shape) >= SIDE_PX]
    if not powers:
        return None
    power = np.mean(powers, axis=0)
    fy, fx = np.meshgrid(*(np.fft.fftfreq(SIDE_PX),) * 2, indexing="ij")
    ring = np.hypot(fy, fx)
    bands = [power[(ring >= a) & (ring < b)].mean() for a, b in pairwise(BANDS)]
    least = _floor(noise)
    seen = [max(float(band - noise**2), LEAST) for band in bands]
    return [round(max(float(10 * np.log10(power)), least), 2) for power in seen]


def _floor(noise: float) -> float:
    """Decibels under which noise of this standard deviation hides structure."""
    return float(10 * np.log10(max(FLOOR * noise**2, LEAST)))


def _power(plane: Floats) -> Floats:
    """Mean power of Hann-windowed blocks; that of white noise is its variance."""
    hann = np.sin(np.pi * (np.arange(SIDE_PX) + 0.5) / SIDE_PX) ** 2
    window = np.outer(hann, hann)
    window /= np.sqrt(np.sum(window**2))
    blocks = sliding_window_view(plane, (SIDE_PX, SIDE_PX))[:: SIDE_PX // 2, :: SIDE_PX // 2]
    blocks = blocks.reshape(-1, SIDE_PX, SIDE_PX)
    level = np.tensordot(blocks, window, 2) / window.sum()
    spectra = np.fft.fft2((blocks - level[:, None, None]) * window)
    return np.asarray(np.mean(np.abs(spectra) ** 2, axis=0))
