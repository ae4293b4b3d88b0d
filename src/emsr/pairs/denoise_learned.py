"""What the learned denoisers share: a small network that keeps the grid, trained and applied.

They need no clean image and no second scan, only a way to draw (input, target) patches from the
noisy stack itself; that way is theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch

from emsr.network.fit import fit, start
from emsr.network.named import build
from emsr.pairs.patches import turned
from emsr.recipe import Training

NETWORK, OPTIONS = "emsr-lean", {"features": 24, "blocks": 4}
PATCH_PX, BATCH = 48, 4
LEARNING_RATE, WARMUP_STEPS, EMA = 2e-3, 50, 0.995
STRIP_PX = 2**20
"""Pixels, about, that the network is applied to at once."""

Draw = Callable[[int], tuple[np.ndarray, np.ndarray]]
Tick = Callable[[int, int], None]


def network(seed: int) -> Any:
    """The untrained network, decided by ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(NETWORK, 1, OPTIONS)


def train(
    module: torch.nn.Module,
    draw: Draw,
    steps: int,
    loss: Literal["l1", "l2"],
    seed: int,
    tick: Tick,
) -> None:
    """Train ``module`` in place on what ``draw(step)`` gives; it ends at its mean weights.

    Nothing is validated: there is no field with another noise to do it on, and a network this small
    has not been seen to learn noise by heart. ``tick(done, total)`` is called after each step.
    """
    training = Training(
        steps=steps,
        batch=BATCH,
        patch_px=PATCH_PX,
        learning_rate=LEARNING_RATE,
        warmup_steps=WARMUP_STEPS,
        loss=loss,
        second_view=False,
        ema=EMA,
        checkpoint_every=steps,
    )
    run = start(module, training, torch.device("cpu"))
    with TemporaryDirectory() as folder:
        fit(
            run,
            draw,
            lambda _mean: 0.0,
            training,
            seed,
            Path(folder),
            lambda step, _note: tick(step, steps),
        )
    module.load_state_dict(run.mean.module.state_dict())


def apply(trained: Any, plane: np.ndarray) -> np.ndarray:
    """The (y, x) float32 image that ``trained`` makes of ``plane``, in network units.

    Strip by strip, each with as many rows beside it as the network sees, so that memory stays
    bounded and the result is that of the whole plane.
    """
    rows = max(1, STRIP_PX // plane.shape[1])
    reach = trained.receptive_radius
    strips = []
    with torch.inference_mode():
        for top in range(0, len(plane), rows):
            first = max(0, top - reach)
            seen = np.ascontiguousarray(plane[first : top + rows + reach], np.float32)
            out = trained(torch.from_numpy(seen)[None, None])[0, 0].numpy()
            strips.append(out[top - first : top - first + rows])
    return np.concatenate(strips)


def corner(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Where, uniformly, a patch of a (y, x) field lies; as large as the field where that is less
    than a patch."""
    side = min(PATCH_PX, *shape)
    y, x = (int(rng.integers(length - side + 1)) for length in shape)
    return slice(y, y + side), slice(x, x + side)


def flipped(rng: np.random.Generator, patches: np.ndarray) -> np.ndarray:
    """``(..., p, p)`` under one of the eight symmetries of the square, uniformly."""
    return turned(patches, int(rng.integers(8)))
