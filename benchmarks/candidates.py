"""Designs that were tried for ``emsr-lean``, the losers too.

    python benchmarks/candidates.py --work DIR --candidate flat --candidate half [--steps 700]

Each is trained on the white-matter phantom pairs (batch 4, patches of 32, rate 2e-3) and scored
against the truth of the choice field, on which no other figure is reported. ``--options`` gives
arguments of the candidate, ``--one-view`` trains without the second view.

    flat       residual blocks at LR resolution (what emsr-lean became; edges=true adds the edge
               pyramid of the input to its channels)
    dilated    the same, the second convolution of each block dilated by 1, 2, 4, 1, 2, 4, ...
    gated      the same, what a block adds is weighted by a sigmoid of itself
    depthwise  the same, the second convolution a depthwise 7 x 7 and a 1 x 1
    window     dilated blocks with two window attentions between them
    attended   6 blocks, and once between them EMSR's edge attention, by the edges of an image that
               is read off the features
    half       18 residual blocks at half resolution
    u          residual blocks at full, half and quarter resolution
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fields import made, read
from torch import Tensor, nn
from torch.nn import functional as F

from emsr.geometry.neighbours import seen_with
from emsr.network.blocks import EdgeAttention, EdgePyramid, Residual, WindowAttention, conv3
from emsr.network.cost import flops_per_lr_pixel
from emsr.network.fit import fit, start
from emsr.network.frame import (
    MIDDLE,
    SPREAD,
    interpolate,
    middle_slice,
    pad_to_multiple,
    start_at_interpolation,
)
from emsr.pairs.held_out import split_rows
from emsr.pairs.patches import draw_batch
from emsr.pairs.store import Pairs, in_memory, open_pairs
from emsr.quality.fidelity import psnr
from emsr.recipe import recipe_from

SCALE = 3


class Candidate(nn.Module):
    """A body between the centred image (and its edges) and the SR pixels of each LR pixel."""

    multiple = 4

    def __init__(self, body: nn.Module, features: int, edges: bool, slices: int) -> None:
        super().__init__()
        self.slices, self.body = slices, body
        self.edges = EdgePyramid(3) if edges else None
        self.head = conv3(slices + 3 * edges, features)
        self.last = conv3(features, SCALE**2)
        start_at_interpolation(self, self.last)

    def forward(self, lr: Tensor) -> Tensor:
        height, width = lr.shape[-2:]
        lr = pad_to_multiple(lr, self.multiple)
        x = unit = (lr - MIDDLE) / SPREAD
        if self.edges is not None:
            x = torch.cat([unit, self.edges(middle_slice(unit))], dim=1)
        x = self.head(x)
        detail = F.pixel_shuffle(self.last(self.body(x) + x), SCALE).float() * SPREAD
        sr = interpolate(middle_slice(lr).float(), SCALE) + detail
        return sr[..., : height * SCALE, : width * SCALE]


class Branch(nn.Module):
    """x plus conv, ReLU, and what a design makes of the second convolution."""

    def __init__(self, features: int, conv2: nn.Module, gated: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2, self.gated = conv3(features, features), conv2, gated

    def forward(self, x: Tensor) -> Tensor:
        added = self.conv2(F.relu(self.conv1(x)))
        if self.gated:
            added, gate = added.chunk(2, dim=1)
            added = added * torch.sigmoid(gate)
        return x + added


class Coarser(nn.Module):
    """x plus what ``body`` makes of x at half its resolution."""

    def __init__(self, outer: int, inner: int, body: nn.Module) -> None:
        super().__init__()
        self.down = nn.Conv2d(outer, inner, 2, stride=2, bias=False)
        self.body = body
        self.conv2 = nn.Conv2d(inner, 4 * outer, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.pixel_shuffle(self.conv2(self.body(self.down(x))), 2)


class Attended(nn.Module):
    """Residual blocks, EMSR's edge attention, residual blocks."""

    def __init__(self, features: int, blocks: int) -> None:
        super().__init__()
        self.before, self.after = residuals(features, blocks), residuals(features, blocks)
        self.to_image, self.edges = conv3(features, 1), EdgePyramid(3)
        self.from_edges, self.attention = conv3(3, features), EdgeAttention(features)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        x = x + self.attention(self.from_edges(self.edges(self.to_image(x)))) * x
        return self.after(x)


def attended(features: int = 48, blocks: int = 3) -> tuple[nn.Module, int]:
    return Attended(features, blocks), features


def flat(features: int = 48, blocks: int = 8) -> tuple[nn.Module, int]:
    return residuals(features, blocks), features


def dilated(features: int = 48, blocks: int = 8) -> tuple[nn.Module, int]:
    spacings = (1, 2, 4) * blocks
    return nn.Sequential(*(spaced(features, d) for d in spacings[:blocks])), features


def gated(features: int = 40, blocks: int = 7) -> tuple[nn.Module, int]:
    layers = (Branch(features, conv3(features, 2 * features), gated=True) for _ in range(blocks))
    return nn.Sequential(*layers), features


def depthwise(features: int = 64, blocks: int = 8) -> tuple[nn.Module, int]:
    def second() -> nn.Module:
        wide = nn.Conv2d(features, features, 7, padding=3, groups=features, bias=False)
        mix = nn.Conv2d(features, features, 1, bias=False)
        return nn.Sequential(OrderedDict(wide=wide, conv2=mix))

    return nn.Sequential(*(Branch(features, second()) for _ in range(blocks))), features


def window(features: int = 48) -> tuple[nn.Module, int]:
    threes = [[spaced(features, d) for d in (1, 2, 4)] for _ in range(2)]
    attention = [WindowAttention(features, 3, 4) for _ in range(2)]
    layers = [*threes[0], attention[0], *threes[1], attention[1], spaced(features, 1)]
    return nn.Sequential(*layers), features


def half(features: int = 16, inner: int = 64, blocks: int = 18) -> tuple[nn.Module, int]:
    coarse = Coarser(features, inner, residuals(inner, blocks))
    return nn.Sequential(coarse, Residual(features)), features


def u(features: int = 32, blocks: int = 3) -> tuple[nn.Module, int]:
    quarter = Coarser(2 * features, 3 * features, residuals(3 * features, blocks))
    middle = nn.Sequential(
        residuals(2 * features, blocks), quarter, residuals(2 * features, blocks)
    )
    coarse = Coarser(features, 2 * features, middle)
    return nn.Sequential(Residual(features), coarse, residuals(features, 2)), features


def residuals(features: int, blocks: int) -> nn.Module:
    return nn.Sequential(*(Residual(features) for _ in range(blocks)))


def spaced(features: int, dilation: int) -> nn.Module:
    conv2 = nn.Conv2d(features, features, 3, padding=dilation, dilation=dilation, bias=False)
    return Branch(features, conv2)


CANDIDATES: dict[str, Callable[..., tuple[nn.Module, int]]] = {
    made_.__name__: made_ for made_ in (flat, dilated, gated, depthwise, window, attended, half, u)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--candidate", choices=CANDIDATES, action="append", required=True)
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--field", default="white-matter")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--one-view", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = made(arguments.work, arguments.field, Path())
    pairs = in_memory(open_pairs(folder / "pairs.zarr"))
    for name in arguments.candidate:
        make = partial(built, name, arguments.options)
        trained = learned(make(), pairs, arguments)
        gained = score(trained, pairs, folder / "test1")
        cost = flops_per_lr_pixel(make()) / 1e6
        print(f"{name} {arguments.options}: {cost:.2f} MFLOP, {gained:.2f} dB", flush=True)


def built(name: str, options: dict[str, Any]) -> Candidate:
    torch.manual_seed(0)
    options = dict(options)
    edges, slices = options.pop("edges", False), options.pop("slices", 1)
    return Candidate(*CANDIDATES[name](**options), edges=edges, slices=slices)


def learned(network: Candidate, pairs: Pairs, arguments: argparse.Namespace) -> nn.Module:
    """The running mean of the weights at the end."""
    table = {
        **{"batch": 4, "patch_px": 32, "warmup_steps": 50, "checkpoint_every": arguments.steps},
        **{"steps": arguments.steps, "learning_rate": arguments.learning_rate},
        "second_view": not arguments.one_view,
    }
    rule = recipe_from({"training": table}).training
    rows, _ = split_rows(pairs.lr.shape[1], rule.validation_fraction, rule.guard_px, 4)
    run = start(network, rule, torch.device("cpu"))

    def draw(step: int) -> tuple[np.ndarray, np.ndarray]:
        return draw_batch(pairs, rows, rule.patch_px, rule.batch, 0, step, slices=network.slices)

    with tempfile.TemporaryDirectory() as folder:
        fit(run, draw, lambda _: 0.0, rule, 0, Path(folder), lambda *_: None)
    return run.mean.module.eval()


def score(network: nn.Module, pairs: Pairs, test: Path) -> float:
    """PSNR in dB against the truth of the choice field."""
    lr = torch.from_numpy(pairs.lr_window.to_unit(read(test / "lr.tif")))
    with torch.inference_mode():
        planes = [network(lr[seen_with(z, len(lr), network.slices)][None]) for z in range(len(lr))]
    low, high = pairs.hr_window.low, pairs.hr_window.high
    sr = torch.cat(planes)[:, 0].numpy() * (high - low) + low
    return psnr(sr, read(test / "reference.tif"), 255.0)


if __name__ == "__main__":
    main()
