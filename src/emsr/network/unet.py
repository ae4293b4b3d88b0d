"""A plain residual U-Net, in the manner of CARE (Weigert 2018) and PSSR (Fang 2021)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emsr.errors import InputError
from emsr.network.frame import (
    MIDDLE,
    SPREAD,
    check_scale_and_slices,
    interpolate,
    middle_slice,
    pad_to_multiple,
)
from emsr.network.reach import Conv, Step, Window, radius

MOST_LEVELS = 5
"""Each doubles the features, and the side that patches and tiles must be a multiple of."""


class UNet(nn.Module):
    """``(b, slices, y, x)`` LR in network units -> ``(b, 1, scale*y, scale*x)`` SR of the middle
    slice: residual blocks on ``levels`` + 1 grids, each half as fine and twice as wide as the one
    above it, all at LR resolution and coarser; a sub-pixel convolution ends it, and the bicubic
    interpolation of the input is added.

    States what EMSR states; ``receptive_radius`` is exact, ``halo`` is in LR pixels. Raises
    InputError for arguments that cannot be.
    """

    def __init__(
        self,
        scale: int = 3,
        *,
        features: int = 64,
        levels: int = 2,
        blocks: int = 2,
        slices: int = 1,
        halo: int = 24,
    ) -> None:
        super().__init__()
        check_scale_and_slices(scale, slices)
        if min(features, levels, blocks) < 1 or levels > MOST_LEVELS or halo < 0:
            raise InputError(
                f"features, levels (to {MOST_LEVELS}), blocks: at least 1 each; halo: from 0"
            )
        self.scale, self.slices, self.multiple = scale, slices, 2**levels
        widths = [features * 2**level for level in range(levels + 1)]
        finer = list(pairwise(widths))
        self.head = nn.Conv2d(slices, features, 3, padding=1)
        self.down = nn.ModuleList(_blocks(width, blocks) for width in widths[:-1])
        self.coarser = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in finer)
        self.bottom = _blocks(widths[-1], blocks)
        self.finer = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in finer)
        self.merge = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for width in widths[:-1])
        self.up = nn.ModuleList(_blocks(width, blocks) for width in widths[:-1])
        self.last = nn.Conv2d(features, scale**2, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        self.receptive_radius = radius(_steps(levels, blocks), self.multiple)
        self.halo = min(halo, self.receptive_radius)

    def forward(self, lr: Tensor) -> Tensor:
        height, width = lr.shape[-2:]
        lr = pad_to_multiple(lr, self.multiple)
        # The body is best at greys around zero, of unit spread.
        detail = F.pixel_shuffle(self._body((lr - MIDDLE) / SPREAD), self.scale).float() * SPREAD
        sr = interpolate(middle_slice(lr).float(), self.scale) + detail
        return sr[..., : height * self.scale, : width * self.scale]

    def _body(self, lr: Tensor) -> Tensor:
        x = self.head(lr)
        skips = []
        for blocks, coarser in zip(self.down, self.coarser, strict=True):
            skips.append(blocks(x))
            x = coarser(skips[-1])
        x = self.bottom(x)
        for level in reversed(range(len(skips))):
            x = self.merge[level](torch.cat([skips[level], self.finer[level](x)], dim=1))
            x = self.up[level](x)
        return self.last(x)


class _Residual(nn.Module):
    """conv - ReLU - conv, plus its input; starts near the identity."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


def _blocks(features: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Residual(features) for _ in range(count)))


def _steps(levels: int, blocks: int) -> list[Step]:
    """How far the longest path looks, from the output back to the input, in LR pixels."""
    up: list[Step] = [Conv(1)]
    down: list[Step] = [Conv(1)]
    for level in range(levels):
        on_grid = Conv(2 * blocks * 2**level)
        up += [on_grid, Window(2 ** (level + 1))]
        down.append(on_grid)
    return [*up, Conv(2 * blocks * 2**levels), *reversed(down)]
