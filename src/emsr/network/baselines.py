"""Networks to compare with. Each takes and gives what EMSR does, and states the same facts."""

from __future__ import annotations

from torch import Tensor, nn

from emsr.errors import InputError
from emsr.network.frame import interpolate


class Bicubic(nn.Module):
    """Bicubic interpolation as a network without parameters."""

    multiple, halo, receptive_radius, slices = 1, 2, 2, 1

    def __init__(self, scale: int = 3) -> None:
        super().__init__()
        if not 1 <= scale <= 8:
            raise InputError(f"scale {scale}: expected a whole number from 1 to 8")
        self.scale = scale

    def forward(self, lr: Tensor) -> Tensor:
        return interpolate(lr, self.scale)
