"""Whether noise is white or shared between neighbouring pixels, told from the flattest blocks.

Structure and correlated noise both raise the middle frequencies above the corner. But structure
fades where an image is flat, and noise does not: it has one spectrum everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from emsr.microscope.estimate_spectra import (
    CORNER,
    DIAGONAL,
    EDGE_X,
    EDGE_Y,
    LOW,
    Blocks,
    Floats,
    median_spectrum,
)

Verdict = Literal["white", "correlated", "unknown"]

FLATTEST, FLAT = 0.03, 0.30
"""Shares of the blocks that are compared."""
FEWEST = 150
"""Blocks below which a spectrum scatters too much to be judged."""
WHITE_WITHIN = 0.15
"""Largest departure from 1 of a white spectrum, relative to its corner."""
STANDS_OUT = 0.50
"""Departure beyond which noise may be called correlated."""
LASTS = (0.75, 1.3)
"""Share of its departure, as a logarithm, that a spectrum keeps from flat to flattest blocks if it
is that of noise. White noise under structure kept less than 0.73 or more than 1.5 on phantoms, and
correlated noise 0.8 to 1.1; real images kept 0.68 to 1.15."""
CLEAR_WITHIN = 0.25
"""Largest change of a departure from flat to flattest blocks where hardly any structure is left in
the flattest."""


@dataclass(frozen=True)
class Colour:
    """``verdict`` on the noise, its ``spectrum`` (9, 9) in the flattest blocks, grey levels
    squared (None where the verdict is "unknown"), their mean ``grey``, and whether that spectrum
    is ``clear`` of structure."""

    verdict: Verdict
    spectrum: Floats | None
    grey: float
    clear: bool = True


def colour_of(blocks: Blocks) -> Colour:
    """What the flattest blocks say of the spectrum of the noise."""
    flatness = blocks.band(LOW)
    few = FEWEST / len(flatness)
    if 3 * few > 1:
        return Colour("unknown", None, float(blocks.grey.mean()))
    shares = max(FLATTEST, few), max(FLAT, 3 * few)
    chosen, wider = (flatness <= np.quantile(flatness, share) for share in shares)
    flattest, flat = (median_spectrum(blocks.power[which]) for which in (chosen, wider))
    grey = float(blocks.grey[chosen].mean())
    departures = _departures(flattest), _departures(flat)
    verdict = _verdict(*departures)
    if verdict == "correlated" and few > FLATTEST:
        verdict = "unknown"  # the two sets of blocks are too alike to differ
    if verdict == "unknown":
        return Colour(verdict, None, grey)
    clear = bool(np.abs(departures[0] - departures[1]).max() < CLEAR_WITHIN)
    return Colour(verdict, _completed(flattest, flat), grey, clear)


def _departures(spectrum: Floats) -> Floats:
    """Logarithm of the power at three places, relative to the corner."""
    places = [spectrum[mask].mean() for mask in (EDGE_Y, EDGE_X, DIAGONAL)]
    tiny = np.finfo(np.float64).tiny
    return np.log(np.maximum(places, tiny) / max(spectrum[CORNER].mean(), tiny))


def _verdict(flattest: Floats, flat: Floats) -> Verdict:
    if np.abs(flattest).max() <= np.log1p(WHITE_WITHIN):
        return "white"
    limit = np.log1p(STANDS_OUT)
    if flat.min() < -limit:
        return "correlated"  # structure only ever adds to the corner's neighbours
    stands_out = flat > limit
    if not stands_out.any():
        return "unknown"
    kept = flattest[stands_out].sum() / flat[stands_out].sum()
    return "correlated" if LASTS[0] < kept < LASTS[1] else "unknown"


def _completed(flattest: Floats, flat: Floats) -> Floats:
    """The spectrum with its lowest frequencies, where structure rules even flat blocks, replaced by
    the product of its row and column at the first frequency where the two spectra agree."""
    start = next((k for k in range(4, 7) if _agrees(flattest, flat, k)), 7)
    row, column = flattest[start, :start], flattest[:start, start]
    whole = flattest.copy()
    whole[:start, :start] = np.outer(column, row) / flattest[start, start]
    return whole


def _agrees(flattest: Floats, flat: Floats, k: int) -> bool:
    """Whether flat blocks show hardly more power at frequency k than the flattest."""
    scale = flattest[CORNER].mean() / flat[CORNER].mean()
    ratio = np.append(flattest[k, :k], flattest[:k, k]) / np.append(flat[k, :k], flat[:k, k])
    return bool(ratio.mean() / scale > 0.85)
