"""The EMSR network (arXiv 2401.08115): multi-scale edge attention and windowed self-attention.

With its default arguments it computes what the published network computes; ``input_skip`` adds the
bicubic interpolation of the input to the output, which the published wiring lacks.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emsr.errors import InputError
from emsr.network.blocks import EdgeAttention, EdgePyramid, Residual, WindowAttention, conv3

MIDDLE, SPREAD = 0.5, 0.25
"""Where the greys of an EM image lie in network units, and how far they spread, roughly."""


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
    ) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(*(Residual(features) for _ in range(residuals)))
        self.to_hidden = conv3(features, features)
        self.to_image = conv3(features, 1)
        self.from_edges = conv3(2 * edge_levels, features)
        self.coarse = nn.ModuleList(Residual(features) for _ in range(refinements))
        self.fine = nn.ModuleList(Residual(features) for _ in range(refinements))
        self.attention = nn.ModuleList(EdgeAttention(features) for _ in range(refinements))
        self.self_attention = WindowAttention(features, heads, window)
        self.out = conv3(features, features)

    def forward(self, x: Tensor, input_edges: Tensor, pyramid: EdgePyramid) -> Tensor:
        x = self.stage1(x)
        image = self.to_image(F.relu(self.to_hidden(x)))
        edges = self.from_edges(torch.cat([input_edges, pyramid(image)], dim=1))
        for coarse, fine, attention in zip(self.coarse, self.fine, self.attention, strict=True):
            x = coarse(x)
            edges = fine(edges)
            x = x + attention(edges) * x
        return self.out(self.self_attention(x))

    def reaches(self, pyramid: EdgePyramid) -> list[int]:
        """How far the steps look, from the output back to the input; the attention window, whose
        reach depends on the pixel's place in it, is written 0."""
        edge_path = 2 + 2 * len(self.fine) + 1 + pyramid.reach + 2
        return [1, 0, max(edge_path, 2 * len(self.coarse)) + 2 * len(self.stage1)]


class EMSR(nn.Module):
    """The EMSR network: ``(b, 1, y, x)`` LR in network units -> ``(b, 1, scale*y, scale*x)`` SR.

    Sides that are not multiples of the attention window are padded by reflection at the far edge
    and cropped from the output. States ``scale``, ``multiple`` (where a tile may start, in LR
    pixels), ``receptive_radius`` (LR pixels, exact) and ``halo`` (LR pixels; the default costs less
    than half a grey level of 255 against the whole image, as measured in docs/log.md).

    Raises InputError for arguments that cannot be.
    """

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
        input_skip: bool = False,
        halo: int = 24,
    ) -> None:
        super().__init__()
        if not 1 <= scale <= 8:
            raise InputError(f"scale {scale}: expected a whole number from 1 to 8")
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
        self.edges = EdgePyramid(edge_levels)
        self.head = conv3(1, features)
        self.blocks: Iterable[EMSRBlock] = nn.ModuleList(  # type: ignore[assignment]
            EMSRBlock(features, residuals, refinements, heads, window, edge_levels)
            for _ in range(blocks)
        )
        self.reconstruct = conv3(features, features * scale**2)
        self.last = conv3(features, 1)
        self.halo = min(halo, self.receptive_radius)
        if input_skip:
            self._start_at_interpolation()

    @property
    def receptive_radius(self) -> int:
        """The farthest LR pixel along y or x that an SR pixel depends on."""
        body = [step for block in self.blocks for step in block.reaches(self.edges)]
        # The last conv looks one HR pixel far, which is a neighbouring LR pixel at the border.
        steps = [1, 1, *body, 1]
        return max(_reach(p, steps, self.multiple) for p in range(self.multiple))

    def forward(self, lr: Tensor) -> Tensor:
        height, width = lr.shape[-2:]
        lr = pad_to_multiple(lr, self.multiple)
        if self.input_skip:
            # Without biases the body is best at greys around zero, of unit spread.
            detail = self._body((lr - MIDDLE) / SPREAD).float() * SPREAD
            sr = interpolate(lr.float(), self.scale) + detail
        else:
            sr = self._body(lr)
        return sr[..., : height * self.scale, : width * self.scale]

    def _start_at_interpolation(self) -> None:
        """Features keep their spread through the layers, residual branches start small, and the
        output at zero: training begins at the interpolated image, not at a constant one."""
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if name.endswith((".conv2", ".k4")):
                    layer.weight.data *= 0.2
        nn.init.zeros_(self.last.weight)

    def _body(self, lr: Tensor) -> Tensor:
        head = self.head(lr)
        input_edges = self.edges(lr)
        x = head
        for block in self.blocks:
            x = block(x, input_edges, self.edges)
        return self.last(F.pixel_shuffle(self.reconstruct(x + head), self.scale))


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """``(b, c, y, x)`` reflected at the far edges until y and x are multiples; an image too small
    to be reflected repeats its last row or column."""
    bottom, right = (-n % multiple for n in image.shape[-2:])
    if not (bottom or right):
        return image
    room = bottom < image.shape[-2] and right < image.shape[-1]
    return F.pad(image, (0, right, 0, bottom), mode="reflect" if room else "replicate")


def interpolate(lr: Tensor, scale: int) -> Tensor:
    """Bicubic interpolation (a = -0.75) that aligns pixel areas, as the tile plan does."""
    # In float32 torch places pixels less exactly the farther they lie from the origin, so that a
    # tile would differ from the whole image.
    sr = F.interpolate(lr.double(), scale_factor=scale, mode="bicubic", align_corners=False)
    return sr.to(lr.dtype)


def _reach(pixel: int, steps: list[int], window: int) -> int:
    """How far ``pixel`` (its place in a window) sees through ``steps``; 0 is a window."""
    low = high = pixel
    for step in steps:
        low, high = low - step, high + step
        if step == 0:
            low, high = low // window * window, high // window * window + window - 1
    return max(pixel - low, high - pixel)
