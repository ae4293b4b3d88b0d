"""A trained network in the form in which it is run: what it computes, with less work.

In bfloat16 the body's weights and activations are stored as that, once, instead of being cast
layer by layer; what touches greys (the first layer, the last one, the skip) stays float32. EMSR's
last two convolutions have no non-linearity between them and become one.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emsr.network.emsr import EMSR
from emsr.network.lean import Lean


def quick(network: Any, precision: str = "float32") -> Any:
    """A copy of ``network`` for inference in ``precision`` ("float32" or "bf16").

    Networks that are not ours are given back as they are; ``casts`` tells what they need. In
    float32 the output is that of ``network`` but for the order of summation.
    """
    if not isinstance(network, EMSR | Lean):
        return network
    network = copy.deepcopy(network).eval().requires_grad_(False)
    if isinstance(network, EMSR):
        network.composed = Composed(network.reconstruct, network.last, network.scale)
    if precision == "bf16":
        network.low = torch.bfloat16
        network.blocks.to(torch.bfloat16)
    return network


def casts(network: Any, precision: str) -> bool:
    """Whether ``network`` must be run under autocast to compute in bfloat16."""
    return precision == "bf16" and getattr(network, "low", None) is None


class Composed(nn.Module):
    """Two convolutions with a pixel shuffle between them, as one: ``(b, c, y, x)`` features ->
    ``(b, 1, scale*y, scale*x)``.

    The second one pads the shuffled image with zeros, of which one kernel knows nothing: in the
    outermost LR pixels the two are applied as they are.
    """

    def __init__(self, first: nn.Conv2d, last: nn.Conv2d, scale: int) -> None:
        super().__init__()
        self.first, self.last, self.scale = first, last, scale
        kernel = _composed(first, last, scale)
        self.register_buffer("kernel", kernel.contiguous(memory_format=torch.channels_last))
        self.kernel: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < 2 * EDGE_PX:
            return self._exact(x)
        sr, s = F.pixel_shuffle(F.conv2d(x, self.kernel, padding=2), self.scale), self.scale
        sr[..., :s, :] = self._exact(x[..., :EDGE_PX, :])[..., :s, :]
        sr[..., -s:, :] = self._exact(x[..., -EDGE_PX:, :])[..., -s:, :]
        sr[..., :s] = self._exact(x[..., :EDGE_PX])[..., :s]
        sr[..., -s:] = self._exact(x[..., -EDGE_PX:])[..., -s:]
        return sr

    def _exact(self, x: Tensor) -> Tensor:
        return self.last(F.pixel_shuffle(self.first(x), self.scale))


EDGE_PX = 3
"""LR pixels from the edge on which the SR of the outermost one depends."""


def _composed(first: nn.Conv2d, last: nn.Conv2d, scale: int) -> Tensor:
    """The kernel ``(scale**2, c, 5, 5)``: the answers to one lit pixel, mirrored."""
    channels, side = first.in_channels, 5
    lit = torch.zeros(channels, channels, side, side, dtype=torch.float64)
    lit[torch.arange(channels), torch.arange(channels), side // 2, side // 2] = 1
    with torch.no_grad():
        features = F.conv2d(lit, first.weight.double(), padding=1)
        answer = F.conv2d(F.pixel_shuffle(features, scale), last.weight.double(), padding=1)
    cells = answer.view(channels, side, scale, side, scale).permute(2, 4, 0, 1, 3)
    return cells.reshape(scale**2, channels, side, side).flip(-2, -1).float()
