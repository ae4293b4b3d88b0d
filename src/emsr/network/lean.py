"""``emsr-lean``: EMSR's task at a ninth of its compute.

What is kept of EMSR is the edge pyramid of the input, computed once and given to the head beside
the image. What is gone: attention of both kinds, and the convolutions after the last non-linearity,
which compose into one. docs/network.md tells what was tried on the way.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emsr.errors import InputError
from emsr.network.blocks import EdgePyramid, Residual, conv3
from emsr.network.frame import (
    MIDDLE,
    SPREAD,
    check_scale_and_slices,
    interpolate,
    middle_slice,
    start_at_interpolation,
)
from emsr.network.reach import Conv, radius


class Lean(nn.Module):
    """``(b, slices, y, x)`` LR in network units -> ``(b, 1, scale*y, scale*x)`` SR of the middle
    slice.

    The image and its edge details pass ``blocks`` residual blocks at LR resolution; one convolution
    gives the ``scale**2`` SR pixels of each LR pixel, to which the interpolated image is added.
    States what EMSR states. Raises InputError for arguments that cannot be.
    """

    multiple = 1

    def __init__(
        self,
        scale: int = 3,
        *,
        features: int = 48,
        blocks: int = 8,
        edge_levels: int = 3,
        slices: int = 1,
        halo: int = 24,
    ) -> None:
        super().__init__()
        check_scale_and_slices(scale, slices)
        if min(features, blocks, edge_levels) < 1 or halo < 0:
            raise InputError("features, blocks, edge_levels: at least 1 each; halo: from 0")
        self.scale, self.slices = scale, slices
        self.edges = EdgePyramid(edge_levels)
        self.head = conv3(slices + edge_levels, features)
        self.blocks = nn.Sequential(*(Residual(features) for _ in range(blocks)))
        self.last = conv3(features, scale**2)
        steps = [Conv(1), Conv(2 * blocks), Conv(1 + self.edges.reach)]
        # Interpolation looks two pixels far, which the body always does too.
        self.receptive_radius = radius(steps, self.multiple)
        self.halo = min(halo, self.receptive_radius)
        start_at_interpolation(self, self.last)

    def forward(self, lr: Tensor) -> Tensor:
        middle = middle_slice(lr)
        unit = (lr - MIDDLE) / SPREAD
        x = self.head(torch.cat([unit, self.edges(middle_slice(unit))], dim=1))
        detail = F.pixel_shuffle(self.last(self.blocks(x) + x), self.scale)
        return interpolate(middle.float(), self.scale) + detail.float() * SPREAD
