"""The denoisers by name. A denoiser is a key in a dict of functions.

Each takes a noisy stack and gives one without noise, on the same grid and in the same grey levels;
none is told what is clean. What each takes for granted is in its own file, and what it removed is
measured in ``denoise_residual``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from emsr.errors import InputError
from emsr.microscope.estimate import Noise
from emsr.microscope.estimate_noise import Z_CORRELATED, slice_correlation
from emsr.pairs.denoise_blind import blind
from emsr.pairs.denoise_learned import Tick
from emsr.pairs.denoise_nlm import nlm
from emsr.pairs.denoise_slices import change_of_tissue, slices
from emsr.pairs.noise import lag_correlation

WHITE_ENOUGH = 0.15
"""Correlation of neighbouring pixels' noise up to which ``blind`` beats ``nlm`` on the phantom."""


@dataclass(frozen=True)
class Noisy:
    """What is to be denoised, and what is known of it."""

    stack: np.ndarray
    """(z, y, x) float32 grey levels."""
    positions: Sequence[int]
    """Where (z) in the scan each slice lies."""
    sample: np.ndarray
    """(z, y, x) adjacent slices of the scan, or a part of them, as acquired."""
    noise: Noise
    steps: int
    """Training steps of the learned denoisers."""
    seed: int
    tick: Tick = lambda _done, _total: None


DENOISERS: dict[str, Callable[[Noisy], np.ndarray]] = {
    "nlm": lambda noisy: nlm(noisy.stack, noisy.noise),
    "blind": lambda noisy: blind(noisy.stack, noisy.noise, noisy.steps, noisy.seed, noisy.tick),
    "slices": lambda noisy: slices(
        noisy.stack, noisy.positions, noisy.steps, noisy.seed, noisy.tick
    ),
}


def denoise(method: str, noisy: Noisy) -> np.ndarray:
    """(z, y, x) float32, never clipped or rounded, decided by ``noisy`` alone (on one machine)."""
    return np.asarray(DENOISERS[method](noisy), np.float32)


def doubts(method: str, noisy: Noisy) -> tuple[str, ...]:
    """What of the scan speaks against the denoiser, before it is run. InputError as ``slices``."""
    told = {"nlm": _of_any, "blind": _of_blind, "slices": _of_slices}
    return tuple(told[method](noisy))


def _of_any(_noisy: Noisy) -> Iterator[str]:
    yield from ()


def _of_blind(noisy: Noisy) -> Iterator[str]:
    shared = lag_correlation(noisy.noise)
    if shared > WHITE_ENOUGH:
        yield (
            f"the noise of neighbouring pixels correlates by {shared:.2f} (at most "
            f"{WHITE_ENOUGH:g} is expected): a blind-spot network keeps what neighbours share; use "
            f"--denoiser nlm or slices"
        )


def _of_slices(noisy: Noisy) -> Iterator[str]:
    change = change_of_tissue(noisy.stack, noisy.positions, noisy.noise.sigma)
    if change > noisy.noise.sigma:
        yield (
            f"the tissue of adjacent slices differs by {change:.1f} grey levels, more than the "
            f"noise ({noisy.noise.sigma:.1f}): what moves from slice to slice will be blurred; use "
            f"--denoiser nlm or blind"
        )
    try:
        shared, error = slice_correlation(noisy.sample)
    except InputError:  # as where the noise had to be stated
        return
    if shared > max(Z_CORRELATED, 3 * error):
        yield (
            f"the noise of adjacent slices correlates by {shared:.2f} (at most {Z_CORRELATED:g} is "
            f"expected): what they share stays in the targets"
        )
