"""``emsr-lean``: EMSR's task at a ninth of its compute.

What is left of EMSR are its residual blocks, at LR resolution, and adjacent slices as input. What
is gone: attention of both kinds, and the convolutions behind the last non-linearity, which compose
into one. docs/network.md tells what was tried on the way, and what each was worth.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emsr.errors import InputError
from emsr.network.blocks import Residual, conv3
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

    ``blocks`` residual blocks at LR resolution; one convolution then gives the ``scale**2`` SR
    pixels of each LR pixel, to which the interpolated image is added. States what EMSR states.
    Raises InputError for arguments that cannot be.
    """

    multiple, tile = 1, 1024

    def __init__(
        self,
        scale: int = 3,
        *,
        features: int = 48,
        blocks: int = 8,
        slices: int = 1,
        halo: int = 24,
    ) -> None:
        super().__init__()
        check_scale_and_slices(scale, slices)
        if min(features, blocks) < 1 or halo < 0:
            raise InputError("features, blocks: at least 1 each; halo: from 0")
        self.scale, self.slices = scale, slices
        self.head = conv3(slices, features)
        self.blocks = nn.Sequential(*(Residual(features) for _ in range(blocks)))
        self.last = conv3(features, scale**2)
        self.low: torch.dtype | None = None
        """What the blocks compute in, if not in the dtype they are given (``quick``)."""
        # The interpolation looks two pixels far, which the body always does too.
        self.receptive_radius = radius([Conv(1), Conv(2 * blocks), Conv(1)], self.multiple)
        self.halo = min(halo, self.receptive_radius)
        start_at_interpolation(self, self.last)

    def forward(self, lr: Tensor) -> Tensor:
        # Without biases the body is best at greys around zero, of unit spread.
        x = self.head((lr - MIDDLE) / SPREAD)
        body = x if self.low is None else x.to(self.low)
        detail = F.pixel_shuffle(self.last(self.blocks(body) + x), self.scale)
        return interpolate(middle_slice(lr).float(), self.scale) + detail.float() * SPREAD
