"""A network of any scale as one that cleans: its SR, averaged back onto the grid of its input."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class Averaged(nn.Module):
    """``(b, slices, y, x)`` -> ``(b, 1, y, x)``: the mean of the ``scale`` x ``scale`` SR pixels
    that ``network`` makes of each pixel.

    States what networks state, with ``scale`` 1: an average of what lies inside a pixel looks no
    farther than the network.
    """

    scale = 1

    def __init__(self, network: Any, scale: int) -> None:
        super().__init__()
        self.network, self.factor = network, scale
        self.slices = getattr(network, "slices", 1)
        self.multiple, self.halo = network.multiple, network.halo
        self.receptive_radius = network.receptive_radius
        self.low = getattr(network, "low", None)

    def forward(self, image: Tensor) -> Tensor:
        return F.avg_pool2d(self.network(image).float(), self.factor)
