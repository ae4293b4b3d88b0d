"""Where pairs come from. A strategy is a key in a dict of functions."""

from __future__ import annotations

from collections.abc import Callable

from emsr.errors import InputError
from emsr.pairs.denoised import denoised
from emsr.pairs.real import real
from emsr.pairs.scans import Prepared, Request
from emsr.pairs.split import split
from emsr.pairs.synthetic import synthetic

Strategy = Callable[[Request], Prepared]

STRATEGIES: dict[str, Strategy] = {
    "real": real,
    "synthetic": synthetic,
    "denoised": denoised,
    "split": split,
}
NEEDS_LR = ("real", "denoised")


def strategy_named(name: str) -> Strategy:
    """The strategy of that name, or an InputError that lists those there are."""
    if name not in STRATEGIES:
        known = ", ".join(STRATEGIES)
        raise InputError(f"there is no strategy {name!r}: choose one of {known}")
    return STRATEGIES[name]
