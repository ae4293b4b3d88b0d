"""Where a network's time goes: shares of one tile by kind of operation, as it is upscaled.

    python benchmarks/profile_network.py [--tile 384] [--precision bf16] [--device cpu]

The tile is one slice of ``--tile`` LR pixels with its halo on all sides, from greys to greys.
Shares are of the self time that torch's profiler sees, over ``--repeats`` passes after one that
warms up; weights are untrained. Goal: copies, casts and concatenations under 5 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scale import make_model
from throughput import NETWORKS, SCALE
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from emsr.geometry.box import Box
from emsr.geometry.tiles import Tile
from emsr.jobs.model import Model, load
from emsr.network.allocator import keep_freed_memory
from emsr.recipe import Upscaling

KINDS = {
    "convolutions": ("conv", "mkldnn_reorder", "onednn", "cudnn"),
    "attention": ("attention", "softmax", "linear", "addmm", "bmm", "matmul", "aten::mm"),
    "norms": ("norm",),
    "copies, casts, layout": ("copy", "clone", "contiguous", "aten::to", "fill", "zero", "memcpy"),
    "concatenation": ("aten::cat", "aten::stack"),
    "shuffle, interpolation": ("shuffle", "upsample", "interpolate", "pad"),
    "element by element": (
        *("aten::add", "aten::mul", "aten::sub", "aten::div", "relu", "sigmoid", "clamp"),
        *("threshold", "elementwise", "aten::neg"),
    ),
}
"""Kinds by parts of an operation's name; the first that fits."""
MOVING = ("copies, casts, layout", "concatenation")
REST, GOAL = "rest", 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tile", type=int, default=384)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--operations", type=int, default=0, help="list the longest so many, too")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command does
    found = {name: profiled(name, arguments) for name in arguments.networks}
    print(
        f"{arguments.device}, {arguments.precision}, {torch.get_num_threads()} threads, "
        f"tile {arguments.tile}\n"
    )
    print(table({name: shares(times) for name, times in found.items()}))
    for name, times in found.items():
        for operation in sorted(times, key=lambda key: -times[key])[: arguments.operations]:
            part = times[operation] / sum(times.values())
            print(f"{name}: {operation} {part:.1%} ({kind(operation)})")


def profiled(name: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Self time by operation, microseconds."""
    on_gpu = arguments.device != "cpu"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with TemporaryDirectory() as folder:
        model = load(make_model(Path(folder), name, SCALE), arguments.device, arguments.precision)
    lr, tile = inner_tile(model, arguments.tile)
    model.enlarge(lr, tile)
    with profile(activities=activities) as seen:
        for _ in range(arguments.repeats):
            model.enlarge(lr, tile)
    return times(seen.key_averages(), on_gpu)


def inner_tile(model: Model, side: int) -> tuple[np.ndarray, Tile]:
    """LR greys for a tile of one slice of ``side`` LR pixels with a whole halo, and the tile."""
    halo = model.halo_px(Upscaling())
    read = side + 2 * halo
    write = Box((0, halo, halo), (1, halo + side, halo + side)).scaled(model.header.scale)
    lr = np.random.default_rng(0).integers(0, 256, (1, read, read), dtype=np.uint8)
    return lr, Tile(Box((0, 0, 0), (1, read, read)), write, model.header.scale)


def times(events: Iterable[Any], on_gpu: bool) -> dict[str, float]:
    """Self time of each operation. A GPU's kernels are listed a second time beside the operations
    that started them: those lines are left out."""
    if not on_gpu:
        return {event.key: float(event.self_cpu_time_total) for event in events}
    operations = (event for event in events if event.device_type == DeviceType.CPU)
    return {event.key: float(event.self_device_time_total) for event in operations}


def shares(times: dict[str, float]) -> dict[str, float]:
    """The part of each kind in the whole time."""
    found = dict.fromkeys([*KINDS, REST], 0.0)
    for operation, time in times.items():
        found[kind(operation)] += time
    return {name: time / sum(times.values()) for name, time in found.items()}


def kind(operation: str) -> str:
    name = operation.lower()
    return next((k for k, words in KINDS.items() if any(word in name for word in words)), REST)


def table(found: dict[str, dict[str, float]]) -> str:
    """Markdown: a row a kind, a column a network, and what is to stay under the goal."""
    lines = [f"| share of the time | {' | '.join(found)} |", "| --- " * (len(found) + 1) + "|"]
    for name in (*KINDS, REST):
        lines.append(f"| {name} | {' | '.join(f'{one[name]:.1%}' for one in found.values())} |")
    moved = [float(np.sum([one[name] for name in MOVING])) for one in found.values()]
    told = [f"{one:.1%}" if one < GOAL else f"**{one:.1%}**" for one in moved]
    lines.append(f"| copies, casts, concatenations; goal {GOAL:.0%} | {' | '.join(told)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
