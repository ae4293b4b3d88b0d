"""The EMSR network (arXiv 2401.08115): multi-scale edge attention and windowed self-attention.

With its default arguments it computes what the published network computes; ``input_skip`` adds the
bicubic interpolation of the input to the output, which the published wiring lacks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emsr.errors import InputError
from emsr.network.blocks import EdgeAttention, EdgePyramid, Residual, WindowAttention, conv3
from emsr.network.frame import (
    MIDDLE,
    SPREAD,
    check_scale_and_slices,
    interpolate,
    middle_slice,
    pad_to_multiple,
    start_at_interpolation,
)
from emsr.network.reach import Conv, Step, Window, radius


class Look(NamedTuple):
    """What one block's edge attention looked at, for ``(b, 1, y, x)`` LR."""

    image: Tensor
    """``(b, 1, y, x)``: the intermediate image, read off the block's features."""
    edges: Tensor
    """``(b, 2 * levels, y, x)``: edge details of the input, fine to coarse, then of ``image``."""
    weights: list[Tensor]
    """Of each refinement, ``(b, c, y, x)``: what the features are multiplied with, minus one."""


class EMSRBlock(nn.Module):
    """Features and the edge details of the input in, better features out (paper, figure 2).

    An intermediate one-channel image is read off the features; its edge details, behind those of
    the input, drive ``refinements`` rounds of edge attention; self-attention ends the block.
    """

    def __init__(
        self,
        features: int,
        residuals: int,
        refinements: int,
        heads: int,
        window: int,
        edge_levels: int,
        edge_attention: bool,
        self_attention: bool,
    ) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(*(Residual(features) for _ in range(residuals)))
        self.coarse = nn.ModuleList(Residual(features) for _ in range(refinements))
        self.edge_attention = edge_attention
        if edge_attention:
            self.to_hidden = conv3(features, features)
            self.to_image = conv3(features, 1)
            self.from_edges = conv3(2 * edge_levels, features)
            self.fine = nn.ModuleList(Residual(features) for _ in range(refinements))
            self.attention = nn.ModuleList(EdgeAttention(features) for _ in range(refinements))
        self.self_attention: nn.Module = (
            WindowAttention(features, heads, window) if self_attention else nn.Identity()
        )
        self.out = conv3(features, features)

    def forward(
        self,
        x: Tensor,
        input_edges: Tensor,
        pyramid: EdgePyramid,
        looks: list[Look] | None = None,
    ) -> Tensor:
        x = self.stage1(x)
        x = self._refine(x, input_edges, pyramid, looks) if self.edge_attention else self._plain(x)
        return self.out(self.self_attention(x))

    def _plain(self, x: Tensor) -> Tensor:
        for coarse in self.coarse:
            x = coarse(x)
        return x

    def _refine(
        self, x: Tensor, input_edges: Tensor, pyramid: EdgePyramid, looks: list[Look] | None
    ) -> Tensor:
        image = self.to_image(F.relu(self.to_hidden(x)))
        # In float32: details are small differences of greys.
        details = torch.cat([input_edges, pyramid(image.float())], dim=1)
        edges, weights = self.from_edges(details.to(image.dtype)), []
        for coarse, fine, attention in zip(self.coarse, self.fine, self.attention, strict=True):
            x = coarse(x)
            edges = fine(edges)
            weights.append(attention(edges))
            x = x + weights[-1] * x
        if looks is not None:
            looks.append(Look(image, details, weights))
        return x

    def steps(self, pyramid: EdgePyramid, window: int) -> list[Step]:
        """How far the steps look, from the output back to the input."""
        edge_path = 2 + 2 * len(self.coarse) + 1 + pyramid.reach + 2 if self.edge_attention else 0
        aligned = [Window(window)] if isinstance(self.self_attention, WindowAttention) else []
        reach = max(edge_path, 2 * len(self.coarse)) + 2 * len(self.stage1)
        return [Conv(1), *aligned, Conv(reach)]


class EMSR(nn.Module):
    """The EMSR network: ``(b, slices, y, x)`` LR in network units -> ``(b, 1, scale*y, scale*x)``
    SR of the middle slice; its neighbours are further views of nearly the same tissue.

    ``edge_attention`` and ``self_attention`` can be left out, to see what each is worth. Sides that
    are not multiples of the attention window are padded by reflection at the far edge and cropped
    from the output. States ``scale``, ``slices``, ``multiple`` (where a tile may start, in LR
    pixels), ``receptive_radius`` (LR pixels, exact), ``halo`` (LR pixels; the default costs less
    than half a grey level of 255 against the whole image, as measured in docs/log.md) and ``tile``
    (side of the default tile, LR pixels: a larger one reads less twice, and takes more memory).

    Raises InputError for arguments that cannot be.
    """

    tile = 1024

    def __init__(
        self,
        scale: int = 3,
        *,
        features: int = 64,
        blocks: int = 3,
        residuals: int = 4,
        refinements: int = 2,
        heads: int = 16,
        window: int = 4,
        edge_levels: int = 3,
        slices: int = 1,
        edge_attention: bool = True,
        self_attention: bool = True,
        input_skip: bool = False,
        halo: int = 24,
    ) -> None:
        super().__init__()
        check_scale_and_slices(scale, slices)
        if features < 1 or heads < 1 or features % heads:
            raise InputError(
                f"{features} features cannot be divided among {heads} heads: "
                "choose features as a multiple of heads"
            )
        if min(blocks, residuals, refinements, window, edge_levels) < 1 or halo < 0:
            raise InputError(
                "blocks, residuals, refinements, window, edge_levels: at least 1 each; halo: from 0"
            )
        self.scale, self.multiple, self.input_skip = scale, window, input_skip
        self.slices = slices
        self.edges = EdgePyramid(edge_levels)
        self.head = conv3(slices, features)
        self.blocks: Iterable[EMSRBlock] = nn.ModuleList(  # type: ignore[assignment]
            EMSRBlock(
                features,
                residuals,
                refinements,
                heads,
                window,
                edge_levels,
                edge_attention,
                self_attention,
            )
            for _ in range(blocks)
        )
        self.reconstruct = conv3(features, features * scale**2)
        self.last = conv3(features, 1)
        self.low: torch.dtype | None = None
        """What the body computes in, if not in the dtype it is given (``quick``)."""
        self.composed: nn.Module | None = None
        """``reconstruct`` and ``last`` in one (``quick``)."""
        self.halo = min(halo, self.receptive_radius)
        if input_skip:
            start_at_interpolation(self, self.last)

    @property
    def receptive_radius(self) -> int:
        """The farthest LR pixel along y or x that an SR pixel depends on."""
        body = [step for block in self.blocks for step in block.steps(self.edges, self.multiple)]
        # The last conv looks one HR pixel far, which is a neighbouring LR pixel at the border.
        return radius([Conv(1), Conv(1), *body, Conv(1)], self.multiple)

    def forward(self, lr: Tensor) -> Tensor:
        height, width = lr.shape[-2:]
        lr = pad_to_multiple(lr, self.multiple)
        if self.input_skip:
            # Without biases the body is best at greys around zero, of unit spread.
            detail = self._body((lr - MIDDLE) / SPREAD).float() * SPREAD
            sr = interpolate(middle_slice(lr).float(), self.scale) + detail
        else:
            sr = self._body(lr)
        return sr[..., : height * self.scale, : width * self.scale]

    def looks(self, lr: Tensor) -> list[Look]:
        """What the edge attention of each block looks at in ``(b, slices, y, x)`` LR, whose sides
        are multiples of the window; empty without edge attention."""
        looks: list[Look] = []
        self._body((lr - MIDDLE) / SPREAD if self.input_skip else lr, looks)
        return looks

    def _body(self, lr: Tensor, looks: list[Look] | None = None) -> Tensor:
        head = self.head(lr)
        input_edges = self.edges(middle_slice(lr))
        x = head if self.low is None else head.to(self.low)
        for block in self.blocks:
            x = block(x, input_edges, self.edges, looks)
        if self.composed is not None:
            return self.composed(x + head)
        return self.last(F.pixel_shuffle(self.reconstruct(x + head), self.scale))
