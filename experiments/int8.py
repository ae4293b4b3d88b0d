"""Would 8-bit integers do for upscaling? What they cost in accuracy, before anything is built.

    python experiments/int8.py MODEL CALIBRATION IMAGE

Every convolution and linear layer of the body computes on weights rounded to 8 bits per output
channel and inputs rounded to 8 bits per tensor, whose range is that of the first slice of
CALIBRATION; sums, skips, the first layer and the last are exact. That is the best an int8 kernel
can do with static ranges. Prints the difference from float32 on the first slice of IMAGE in grey
levels of 255: the goals are a mean of 0.25 and a 99.9th percentile of 1.5. benchmarks/ceiling.py
says how quick int8 convolutions are; the last line how quick a residual block of emsr-lean would
be, whose sum has to be rounded to integers in between.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emsr.geometry.box import Box
from emsr.jobs.model import Model, load
from emsr.network.allocator import keep_freed_memory
from emsr.network.blocks import Residual
from emsr.volumes.intensity import Intensity
from emsr.volumes.source import open_volume

SIDE_PX, LEVELS = 512, 255
Ranges = dict[nn.Module, tuple[float, float]]


def main() -> None:
    keep_freed_memory()
    model = load(sys.argv[1], "cpu")
    calibration, image = (units(model, path) for path in sys.argv[2:4])
    layers = [m for m in model.network.blocks.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.inference_mode():
        exact = model.network(image)
        ranges = seen(model.network, layers, calibration)
        for bits in ("weights", "weights and activations"):
            for layer in layers:
                round_weights(layer)
                if bits != "weights":
                    layer.register_forward_pre_hook(rounding(ranges[layer]))
            # The whole HR window is 255 grey levels.
            differ = (model.network(image) - exact).abs().numpy() * LEVELS
            print(
                f"{model.header.network}, 8-bit {bits}: mean {differ.mean():.3f}, "
                f"99.9th percentile {np.percentile(differ, 99.9):.2f} of 255"
            )
        bf16, int8 = block_seconds()
    print(f"a residual block of 48 features: int8 {bf16 / int8:.2f} times as quick as bf16")


def block_seconds(channels: int = 48, side: int = 512, turns: int = 5) -> tuple[float, float]:
    """Medians of a residual block in bf16 and in int8, in turn."""
    one, shape = [1, 1], (1, channels, side, side)
    sizes = (one, one, one, 1)
    steps, zeros = torch.full((channels,), 1e-3), torch.zeros(channels, dtype=torch.int32)
    weight = torch.randint(-127, 127, (channels, channels, 3, 3), dtype=torch.int8)
    packed = torch.ops.onednn.qconv_prepack(weight, steps, 1.0, 0, *sizes, list(shape))
    x = torch.randn(shape).to(memory_format=torch.channels_last)
    plain = Residual(channels).to(torch.bfloat16).to(memory_format=torch.channels_last)
    low = x.to(torch.bfloat16)

    def layer(x: Tensor, zero: int, dtype: torch.dtype, then: str) -> Tensor:
        scale = 0.05 if dtype == torch.uint8 else 1.0
        more = (packed, steps, zeros, None, *sizes, scale, 0, dtype, then, [], "")
        return torch.ops.onednn.qconv2d_pointwise(x, 0.05, zero, *more)

    def whole() -> Tensor:
        rounded = (x * 20 + 128.5).clamp_(0, LEVELS).to(torch.uint8)
        return layer(layer(rounded, 128, torch.uint8, "relu"), 0, torch.float32, "none").add_(x)

    spent: tuple[list[float], list[float]] = ([], [])
    for turn in range(turns + 1):
        for seconds, run in zip(spent, (lambda: plain(low), whole), strict=True):
            began = time.perf_counter()
            run()
            if turn:  # the first one warms up
                seconds.append(time.perf_counter() - began)
    return float(np.median(spent[0])), float(np.median(spent[1]))


def units(model: Model, path: str) -> Tensor:
    volume = open_volume(path)
    y, x = (
        min(n, SIDE_PX) // model.network.multiple * model.network.multiple for n in volume.shape[1:]
    )
    plane = volume.read(Box((0, 0, 0), (1, y, x)))
    return torch.from_numpy(Intensity(*model.header.lr_window).to_unit(plane))[None]


def seen(network: Any, layers: list[Any], image: Tensor) -> Ranges:
    """The least and the largest value that each layer is given."""
    ranges: Ranges = {}

    def note(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        low, high = given[0].min().item(), given[0].max().item()
        ranges[layer] = (min(low, 0.0), max(high, 0.0))

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    network(image)
    for hook in hooks:
        hook.remove()
    return ranges


def round_weights(layer: Any) -> None:
    weight = layer.weight.data.flatten(1)
    step = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / (LEVELS // 2)
    layer.weight.data = ((weight / step).round() * step).view_as(layer.weight)


def rounding(span: tuple[float, float]) -> Any:
    low, high = span
    step = max(high - low, 1e-12) / LEVELS

    def hook(_: nn.Module, given: tuple[Tensor, ...]) -> Tensor:
        return ((given[0].clamp(low, high) - low) / step).round() * step + low

    return hook


if __name__ == "__main__":
    main()
