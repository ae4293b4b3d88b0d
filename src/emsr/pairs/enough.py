"""How much HR keeps a network from learning its noise by heart. Measured: docs/enough.md."""

from __future__ import annotations

from emsr.pairs.patches import patch_side
from emsr.pairs.store import Pairs
from emsr.recipe import Training

PIXELS_PER_PARAMETER = 6
"""HR pixels for each parameter from which the clean score no longer falls as training goes on."""
HARMLESS_PASSES = 60
"""A field that is seen less often is not learned by heart, however small."""


def hr_pixels(pairs: Pairs, rows: slice) -> int:
    """HR pixels that train: those of the LR ``rows``, each slice once."""
    return pairs.hr.shape[0] * pairs.scale**2 * (rows.stop - rows.start) * pairs.lr.shape[2]


def passes(pairs: Pairs, rows: slice, training: Training) -> float:
    """How often all of ``training`` sees each pixel."""
    drawn = training.batch * patch_side(rows, pairs.lr.shape[2], training.patch_px) ** 2
    return training.steps * drawn * pairs.scale**2 / hr_pixels(pairs, rows)


def enough(pixels: int, parameters: int) -> bool:
    return pixels >= PIXELS_PER_PARAMETER * parameters
