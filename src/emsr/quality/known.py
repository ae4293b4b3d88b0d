"""What is known of a noisy reference beside its grey values: its noise, its repeat, the training.

Knows the words; refuses to find any of it, which is for jobs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NO_REPEAT = "no repeat was given: one noisy reference does not tell noise from error"


@dataclass(frozen=True)
class NoiseLaw:
    """The noise of one scan: ``variance`` of noise-free grey levels (any shape), the standard
    ``error`` of its mean, what correlation between pixels makes chance ``wider`` by, its ``colour``
    (unknown: structure hides it), the ``method`` that told, and the root mean square ``sigma``."""

    variance: Callable[[Floats], Floats]
    error: float
    wider: float
    colour: Literal["white", "correlated", "unknown"]
    method: str
    sigma: float = 0.0


@dataclass(frozen=True)
class Known:
    """What is known of the reference beside its grey values."""

    noise: NoiseLaw | None = None
    why_no_noise: str = NO_REPEAT
    distrust: str | None = None
    """Why its noise may be in SR: a field that the network was trained on."""
    shift_px: float = 0.0
    """Distance by which the repeat lies beside the reference."""
