"""A blind-spot network: it learns to tell each pixel from the pixels around it, from one scan.

A pixel's neighbours say something about its tissue and, where noise is white, nothing about its
noise. Krull, Buchholz and Jug, Noise2Void, CVPR 2019.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emsr.microscope.estimate import Noise
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

MASKED = 0.1
"""Share of the pixels of a patch that are hidden and asked for at each step."""
REACH_PX = 2
"""How far the neighbour lies, at most, whose value a hidden pixel is given."""
_OFFSETS = np.array(
    [
        (y, x)
        for y in range(-REACH_PX, REACH_PX + 1)
        for x in range(-REACH_PX, REACH_PX + 1)
        if (y, x) != (0, 0)
    ]
)


class Asked(torch.nn.Module):
    """``(b, 2, y, x)``, an image and a mask -> what ``network`` makes of the image, where the mask
    is 1, else 0: against a target that is 0 there too, only hidden pixels count in a loss."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.network = inner

    def forward(self, image_and_mask: Tensor) -> Tensor:
        image, mask = image_and_mask.chunk(2, dim=1)
        out: Tensor = self.network(image) * mask
        return out


def blind(
    stack: np.ndarray, noise: Noise, steps: int, seed: int, tick: Tick = lambda _done, _total: None
) -> np.ndarray:
    """(z, y, x) float32 grey -> the same without noise, neither clipped nor rounded.

    The network's estimate never saw the pixel itself; that is brought in afterwards
    (``with_the_pixel``), for which ``noise``, that of ``stack``, must be known. Takes noise to be
    white: what neighbouring pixels share of it stays.
    """
    window = fit_window(stack, stack.dtype)
    asked = Asked(network(seed))
    train(asked, masked_patches(window.to_unit(stack), seed), steps, "l2", seed, tick)
    planes = [apply(asked.network, window.to_unit(plane)) for plane in stack]
    return with_the_pixel(window.to_grey(np.stack(planes), np.float32)[0], stack, noise)


def masked_patches(unit: np.ndarray, seed: int) -> Draw:
    """``draw(step)`` -> (b, 2, p, p), patches with hidden pixels and the mask of these; and (b, 1,
    p, p), the noisy values of these, else 0.

    A hidden pixel gets the value of a neighbour: something as noisy as itself, that the network
    cannot tell from an unhidden one, and hence learns to disregard. (The neighbours' mean instead
    would be copied through the network's input skip, and with it, later, the pixel's own noise.)
    """

    def draw(step: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([seed, step])
        drawn = [_masked_patch(unit, rng) for _ in range(BATCH)]
        return np.stack([seen for seen, _ in drawn]), np.stack([asked for _, asked in drawn])

    return draw


def _masked_patch(unit: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    plane = unit[rng.integers(len(unit))]
    patch = flipped(rng, plane[corner(rng, plane.shape)])
    side = len(patch)
    hidden = rng.integers(side, size=(round(MASKED * side * side), 2))
    beside = hidden + _OFFSETS[rng.integers(len(_OFFSETS), size=len(hidden))]
    beside %= side  # reflected, a pixel near the border would be given its own value
    seen, mask = patch.copy(), np.zeros_like(patch)
    seen[tuple(hidden.T)] = patch[tuple(beside.T)]
    mask[tuple(hidden.T)] = 1
    return np.stack([seen, mask]), (patch * mask)[None]


def with_the_pixel(estimate: np.ndarray, stack: np.ndarray, noise: Noise) -> np.ndarray:
    """The mean of the blind ``estimate`` and the noisy pixel, each weighed by the other's variance.

    The noisy pixel misses the tissue by ``noise``, the estimate by what is left of their mean
    squared difference. Laine, Karras, Lehtinen and Aila, NeurIPS 2019, with one variance of the
    estimate for all pixels. Shapes equal, grey levels; float32.
    """
    variance = noise.variance(estimate)
    missed = max(float(np.mean((stack - estimate) ** 2 - variance)), 0.0)
    share = missed / (missed + variance)
    return np.asarray(estimate + share * (stack - estimate), np.float32)
