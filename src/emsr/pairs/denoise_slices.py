"""Noise2Noise between adjacent slices: a slice is asked to tell the slice above or below it.

Adjacent slices show nearly the same tissue with noise of their own, so the best answer is the
tissue that they share. Where they do not, the answer is blurred. Lehtinen et al., Noise2Noise, ICML
2018; between slices: Lecoq et al., Nature Methods 18 (2021) 1401.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emsr.errors import InputError
from emsr.pairs.denoise_learned import (
    BATCH,
    Draw,
    Tick,
    apply,
    corner,
    flipped,
    network,
    train,
)
from emsr.volumes.intensity import fit_window


def slices(
    stack: np.ndarray,
    positions: Sequence[int],
    steps: int,
    seed: int,
    tick: Tick = lambda _done, _total: None,
) -> np.ndarray:
    """(z, y, x) float32 grey -> the same without noise, neither clipped nor rounded.

    ``positions`` (z) say where in the scan each slice lies: only those one apart are adjacent.
    InputError where none are. Trained for the l1 loss, whose answer is the median: where most of
    what may lie beside a pixel is the same tissue, it is that tissue, not a mean over edges that
    move.
    """
    window = fit_window(stack, stack.dtype)
    trained = network(seed)
    draw = adjacent_patches(window.to_unit(stack), adjacent(positions), seed)
    train(trained, draw, steps, "l1", seed, tick)
    planes = [apply(trained, window.to_unit(plane)) for plane in stack]
    return window.to_grey(np.stack(planes), np.float32)[0]


def adjacent(positions: Sequence[int]) -> np.ndarray:
    """(n, 2) indices of slices (input, target) that are adjacent, either way round. InputError
    where there are none."""
    found = [
        (i, j)
        for i, z in enumerate(positions)
        for j in (i - 1, i + 1)
        if 0 <= j < len(positions) and abs(positions[j] - z) == 1
    ]
    if not found:
        raise InputError(
            f"the denoiser slices learns from adjacent slices, of the {len(positions)} that are "
            f"paired no two are adjacent: use --denoiser nlm or blind"
        )
    return np.array(found)


def adjacent_patches(unit: np.ndarray, pairs: np.ndarray, seed: int) -> Draw:
    """``draw(step)`` -> (b, 1, p, p) patches and those at the same place of an adjacent slice."""

    def draw(step: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([seed, step])
        drawn = np.stack([_pair(unit, pairs, rng) for _ in range(BATCH)])
        return np.ascontiguousarray(drawn[:, :1]), np.ascontiguousarray(drawn[:, 1:])

    return draw


def _pair(unit: np.ndarray, pairs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(2, p, p)."""
    both = pairs[rng.integers(len(pairs))]
    rows, columns = corner(rng, unit.shape[1:])
    return flipped(rng, unit[both, rows, columns])


def change_of_tissue(stack: np.ndarray, positions: Sequence[int], sigma: float) -> float:
    """How much the tissue of adjacent slices differs, as a standard deviation in grey levels: what
    half the variance of their difference holds beyond noise of ``sigma``."""
    steps = adjacent(positions)
    upwards = steps[steps[:, 1] > steps[:, 0]]
    halves = [np.var(stack[j].astype(np.float64) - stack[i]) / 2 for i, j in upwards]
    return float(np.sqrt(max(np.mean(halves) - sigma**2, 0.0)))
