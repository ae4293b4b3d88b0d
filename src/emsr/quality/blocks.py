"""Sums over square blocks of slices, and how far noise scatters their total.

Noise is correlated over a few pixels, blocks are wider: their sums are nearly independent. The
scatter of the total is bootstrapped over blocks of terms that hold noise alone, so that the image,
which is the same in every repetition, adds nothing to it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

BLOCK_PX, SMALL_PX = 32, 16
FEWEST_BLOCKS = 64
"""In a volume, below which blocks are made ``SMALL_PX`` wide."""
BLOCKS_PER_SLICE, MOST_BLOCKS = 256, 4096
"""Beyond these numbers neighbouring blocks are merged: a large volume then costs no more."""


def side_for(shape: tuple[int, int, int]) -> int:
    """Pixels along a block's sides, for a volume ``(z, y, x)``."""
    slices, height, width = shape
    count = slices * -(-height // BLOCK_PX) * -(-width // BLOCK_PX)
    return BLOCK_PX if count >= FEWEST_BLOCKS else SMALL_PX


def block_sums(plane: np.ndarray, px: int) -> Floats:
    """``(rows, columns)`` sums over blocks of px x px pixels of ``(y, x)``; those at the far edges
    may be smaller."""
    rows, columns = (np.arange(0, n, px) for n in plane.shape)
    return np.add.reduceat(np.add.reduceat(plane, rows, axis=0), columns, axis=1)


def merged(blocks: np.ndarray, at_most: int) -> np.ndarray:
    """``(block, k)`` with at most ``at_most`` rows: runs of neighbouring blocks added up."""
    run = -(-len(blocks) // at_most)
    return np.add.reduceat(blocks, np.arange(0, len(blocks), run), axis=0)


def scatter(terms: Floats, pixels: Floats, rng: np.random.Generator, draws: int) -> Floats:
    """``(draws,)`` deviations of the sum of ``terms`` ``(block,)`` that chance may cause.

    A bootstrap over blocks of terms whose expectation is one and the same per pixel; few blocks
    tell their own scatter badly, for which Student's quantiles are wider than the normal ones.
    """
    centred = terms - pixels * (terms.sum() / pixels.sum())
    squares = centred**2
    if not squares.any():
        return np.zeros(draws)
    picked = rng.multinomial(len(centred), np.full(len(centred), 1 / len(centred)), size=draws)
    # Normal terms have a fourth moment of three squared variances; heavier tails tell less.
    degrees = max(3 * squares.sum() ** 2 / (squares**2).sum() - 1, 2.0)
    few = np.sqrt(len(centred) / max(len(centred) - 1, 1))
    wider = stats.t.ppf(0.975, degrees) / stats.norm.ppf(0.975) * few
    return np.asarray((picked - 1) @ centred * wider)


def z_score(terms: Floats) -> float:
    """Sum of independent ``terms`` ``(block,)`` of mean 0 over its standard error."""
    size = float(np.sqrt(np.sum(terms**2)))
    return float(terms.sum() / size) if size > 0 else 0.0
