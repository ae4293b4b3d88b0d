"""What a voxel costs by the side of its tile, and a volume by its size.

    python benchmarks/tiles.py --out DIR [--part tiles linear] [--turns 3]

tiles: seconds of computing for a million SR voxels, and waste (LR pixels read for each one
written), for tiles of one slice with a whole halo, by their side. linear: seconds of the whole
command ``emsr upscale``, start-up included, for more and more slices of ``--side`` LR pixels, with
the line through them. Weights are untrained. Sizes and networks are measured in turn, ``--turns``
times: medians, the range in brackets. ``--out`` keeps every time (``times.jsonl``), so that what
was stopped goes on, and gets ``tiles.png``, ``linear.png`` and ``rates.json`` for costs.py.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib
import numpy as np
import torch
from profile_network import inner_tile
from scale import make_model, make_volume
from throughput import NETWORKS, SCALE, process_seconds, told

from emsr.jobs.model import Model, load
from emsr.network.allocator import keep_freed_memory

matplotlib.use("Agg")
from matplotlib import pyplot

Row = dict[str, Any]
SIDES, SLICES = (64, 128, 256, 384, 512, 768, 1024), (1, 2, 4, 8, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=tuple(PARTS))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="of tiles, LR pixels")
    parser.add_argument("--slices", type=int, nargs="+", default=SLICES)
    parser.add_argument("--side", type=int, default=512, help="of the slices, LR pixels")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()  # as the command does
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.device}, {arguments.precision}, {arguments.threads} threads")
    for part in arguments.part:
        measure(part, arguments)
        PARTS[part](rows(arguments, part), arguments)


def measure(part: str, arguments: argparse.Namespace) -> None:
    """Every time that ``--out`` does not hold yet."""
    sizes = arguments.sides if part == "tiles" else arguments.slices
    seconds = tile_seconds if part == "tiles" else command_seconds
    with TemporaryDirectory(dir=arguments.out) as folder:
        for turn, name, size in wanted(part, sizes, arguments):
            models = Path(folder) / name
            models.mkdir(exist_ok=True)
            found = seconds(make_model(models, name, SCALE), size, arguments, models)
            row = {**setting(part, arguments), "network": name, "size": size, "turn": turn}
            with (arguments.out / "times.jsonl").open("a") as file:
                file.write(json.dumps(row | {"seconds": found}) + "\n")


def wanted(
    part: str, sizes: list[int], arguments: argparse.Namespace
) -> Iterator[tuple[int, str, int]]:
    done = {(row["turn"], row["network"], row["size"]) for row in rows(arguments, part)}
    for turn in range(arguments.turns):
        for size in sizes:
            for name in arguments.networks:
                if (turn, name, size) not in done:
                    yield turn, name, size


def setting(part: str, arguments: argparse.Namespace) -> Row:
    """What times must share to be compared."""
    keys = ("device", "precision", "threads", *(("side",) if part == "linear" else ()))
    return {"part": part, **{key: getattr(arguments, key) for key in keys}}


def rows(arguments: argparse.Namespace, part: str) -> list[Row]:
    path = arguments.out / "times.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row for row in found if setting(part, arguments).items() <= row.items()]


def tile_seconds(model: Path, side: int, arguments: argparse.Namespace, _: Path) -> float:
    loaded = load(model, arguments.device, arguments.precision)
    lr, tile = inner_tile(loaded, side)
    loaded.enlarge(lr, tile)  # warms up
    began = time.perf_counter()
    loaded.enlarge(lr, tile)
    return time.perf_counter() - began


def command_seconds(model: Path, slices: int, arguments: argparse.Namespace, folder: Path) -> float:
    lr = make_volume(folder, slices, arguments.side)
    asked = ("--device", arguments.device, "--precision", arguments.precision)
    out = folder / "sr.ome.zarr"
    return process_seconds(lr, model, out, *asked, "--threads", str(arguments.threads))


def by_tile(found: list[Row], arguments: argparse.Namespace) -> None:
    print("\n| network | tile, LR px | seconds per million SR voxels | read / written |")
    print("| --- | --- | --- | --- |")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for name in arguments.networks:
        times = {
            side: [s / (side * SCALE) ** 2 * 1e6 for s in several]
            for side, several in times_of(found, name).items()
        }
        wastes = [waste(plain(name), side) for side in times]
        for side, wasted in zip(times, wastes, strict=True):
            print(f"| {name} | {side} | {told(times[side])} | {wasted:.2f} |")
        left.plot(list(times), [np.median(one) for one in times.values()], "o-", label=name)
        right.plot(list(times), wastes, "o-", label=name)
    drawn(left, "seconds per million SR voxels", "side of a tile, LR pixels", log=True)
    drawn(right, "LR pixels read per pixel written", "side of a tile, LR pixels", log=False)
    figure.savefig(arguments.out / "tiles.png", dpi=110)


def by_size(found: list[Row], arguments: argparse.Namespace) -> None:
    print("\n| network | LR | SR voxels, million | seconds | from the line |")
    print("| --- | --- | --- | --- | --- |")
    figure, axes = pyplot.subplots(figsize=(4.6, 3.2), layout="constrained")
    rates = {}
    for name in arguments.networks:
        times = times_of(found, name)
        millions = [n * (arguments.side * SCALE) ** 2 / 1e6 for n in times]
        medians = [float(np.median(one)) for one in times.values()]
        start, each = line(millions, medians)
        for slices, million, median in zip(times, millions, medians, strict=True):
            away = median / (start + each * million) - 1
            shape = f"{slices} x {arguments.side} x {arguments.side}"
            print(f"| {name} | {shape} | {million:.2f} | {told(times[slices])} | {away:+.1%} |")
        rates[name] = 1e6 / each / arguments.threads
        print(f"| {name} | | each million | {each:.4g} after {start:.3g} s | |")
        (dots,) = axes.plot(millions, medians, "o", label=name)
        ends = [0.0, max(millions)]
        axes.plot(ends, [start + each * x for x in ends], color=dots.get_color())
    drawn(axes, "seconds, from start to end", "million SR voxels", log=False)
    figure.savefig(arguments.out / "linear.png", dpi=110)
    (arguments.out / "rates.json").write_text(json.dumps(rates, indent=1))


PARTS = {"tiles": by_tile, "linear": by_size}


def times_of(found: list[Row], name: str) -> dict[int, list[float]]:
    """Seconds of a network by size, rising."""
    sizes = sorted({row["size"] for row in found if row["network"] == name})
    return {
        size: [r["seconds"] for r in found if (r["network"], r["size"]) == (name, size)]
        for size in sizes
    }


def line(x: list[float], y: list[float]) -> tuple[float, float]:
    """Where the line that misses ``y`` by the least share of it begins, and how steep it is."""
    if len(x) == 1:
        return 0.0, y[0] / x[0]
    steep, start = np.polyfit(x, y, 1, w=1 / np.asarray(y))
    return float(start), float(steep)


def waste(model: Model, side: int) -> float:
    """LR pixels read for each one written, of a tile with a whole halo."""
    _, tile = inner_tile(model, side)
    return math.prod(tile.read.shape) / side**2


def plain(name: str) -> Model:
    with TemporaryDirectory() as folder:
        return load(make_model(Path(folder), name, SCALE), "cpu")


def drawn(axes: Any, y: str, x: str, *, log: bool) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if log:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
    else:
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


if __name__ == "__main__":
    main()
