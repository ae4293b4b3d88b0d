"""How quick is ``emsr upscale``, against the published schedule and the ceiling that binds it?

    python benchmarks/throughput.py [--side 1024] [--slices 1] [--repeats 3] [--tile 1024]
                                    [--published PATH]

The published schedule: the published network in float32 over patches of 341 pixels, 170 apart, one
at a time, averaged where they overlap, written with gzip. A run of it takes many minutes, so one
patch is timed in each turn and multiplied by their number; the writing is left out, in its favour.
Its network is ours with default arguments, which computes the same; ``--published`` takes the one
of a checkout of the published code. Our runs are whole processes, from an OME-TIFF to a sharded
OME-Zarr, start-up included; the weights are untrained. ``compute`` is the network alone over one
tile: GFLOP/s, by the arithmetic of its definition, over those of plain 64 -> 64 convolutions, on a
GPU over those of a large matrix product.
Everything is measured in turn, ``--repeats`` times: medians, ranges in brackets.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ceiling import convolutions, now, products
from scale import PROGRAM, command, make_model, make_volume

from emsr.network.cost import flops_per_lr_pixel
from emsr.network.named import build
from emsr.network.quick import casts, quick

SCALE, PATCH_PX, STRIDE_PX = 3, 341, 170
NETWORKS = ("emsr", "emsr-lean")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--slices", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--published", type=Path, help="a checkout of the published code")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--tile", type=int, help="LR pixels of a tile's side; default: emsr's own")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        report(arguments, turns(arguments, Path(folder)))


def turns(arguments: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Seconds, and GFLOP/s, of everything, by name."""
    device, side = torch.device(arguments.device), arguments.side
    lr = make_volume(folder, arguments.slices, side)
    small = make_volume(_made(folder / "small"), 1, 256)
    models = {name: make_model(_made(folder / name), name, SCALE) for name in NETWORKS}
    asked = ("--device", arguments.device, "--precision", arguments.precision)
    if tile := arguments.tile:
        recipe = folder / "recipe.toml"
        recipe.write_text(f"[upscaling]\ntile_px = [4, {tile}, {tile}]\n")
        asked = (*asked, "--recipe", str(recipe))
    published = schedule(arguments.published).to(device)
    bf16 = (torch.bfloat16, torch.channels_last)
    ceiling = convolutions(device, 256, *bf16) if device.type == "cpu" else products(device)
    found: dict[str, list[float]] = {}
    for turn in range(arguments.repeats + 1):
        one = {"published patch": patch_seconds(published, device), "ceiling": ceiling()}
        for name in NETWORKS:
            out = folder / "sr.ome.zarr"
            one[f"{name} end to end"] = process_seconds(lr, models[name], out, *asked)
            one[f"{name} compute"] = compute(name, device, arguments.precision)
        one["start-up of upscale, 256 x 256"] = process_seconds(
            small, models["emsr-lean"], folder / "sr.ome.zarr", *asked
        )
        one["emsr --help"] = seconds_of([PROGRAM, "--help"])
        for key, value in one.items():
            if turn:  # the first turn warms up disk and libraries
                found.setdefault(key, []).append(value)
    return found


def report(arguments: argparse.Namespace, found: dict[str, list[float]]) -> None:
    patches, side = _starts(arguments.side) ** 2 * arguments.slices, arguments.side
    read = patches * PATCH_PX**2 / (arguments.slices * side**2)
    print(f"{arguments.slices} x {side} x {side} LR, {arguments.device}, {arguments.precision}, ")
    print(f"{torch.get_num_threads()} threads; the published schedule reads {read:.2f} px per px")
    whole = [patches * seconds for seconds in found["published patch"]]
    print(f"published schedule: {told(whole)} s ({patches} patches)")
    what = "64 -> 64 convolutions" if arguments.device == "cpu" else "a matrix product"
    print(f"ceiling: {told(found['ceiling'])} GFLOP/s, {what} in bf16")
    for name in NETWORKS:
        own = found[f"{name} end to end"]
        ratios = [w / s for w, s in zip(whole, own, strict=True)]
        shares = [
            c / top for c, top in zip(found[f"{name} compute"], found["ceiling"], strict=True)
        ]
        voxels = arguments.slices * (side * SCALE) ** 2 / np.median(own) / 1e6
        print(f"{name}: {told(own)} s end to end, {voxels:.3g} million SR voxels/s;")
        print(f"    {told(ratios)} times the published schedule; compute {told(shares)} of ceiling")
    for name in ("start-up of upscale, 256 x 256", "emsr --help"):
        print(f"{name}: {told(found[name])} s")


def schedule(checkout: Path | None) -> Any:
    """The published network, in float32."""
    torch.manual_seed(0)
    if checkout is None:
        return build("emsr", SCALE, {}).eval()
    sys.path.insert(0, str(checkout))
    from model.models import SRNET

    sizes = {"upscale_ratio_x": SCALE, "upscale_ratio_y": SCALE, "input_size": (PATCH_PX,) * 2}
    return SRNET(in_ch=1, out_ch=1, n_feat=64, n_blocks=3, levels=3, num_heads=16, **sizes).eval()


def patch_seconds(network: Any, device: torch.device) -> float:
    lr = torch.rand(1, 1, PATCH_PX, PATCH_PX, device=device)
    began = now(device)
    with torch.no_grad():
        network(lr).cpu()
    return now(device) - began


def compute(name: str, device: torch.device, precision: str) -> float:
    """GFLOP/s of the network over one tile with its halo, by the arithmetic of its definition."""
    shape = (1, 1, 304, 304) if device.type == "cpu" else (4, 1, 1072, 1072)
    lr = torch.rand(shape, device=device)
    flop = flops_per_lr_pixel(build(name, SCALE, {})) * lr.numel()
    fast = quick(build(name, SCALE, {}), precision).to(device).to(memory_format=torch.channels_last)
    cast = casts(fast, precision)
    best = np.inf
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=cast):
        for _ in range(2):
            began = now(device)
            fast(lr)
            best = min(best, now(device) - began)
    return float(flop / best / 1e9)


def process_seconds(lr: Path, model: Path, out: Path, *more: str) -> float:
    line = command(lr, model, out, "--overwrite", *more)
    return seconds_of(line)


def seconds_of(line: Any) -> float:
    began = time.perf_counter()
    subprocess.run([*map(str, line)], check=True, stdout=subprocess.DEVNULL, env=os.environ)
    return time.perf_counter() - began


def _starts(side: int) -> int:
    """Patches along one side: from the first pixel on, the last one flush with the end."""
    return len({*range(0, side - PATCH_PX + 1, STRIDE_PX), side - PATCH_PX})


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def told(values: list[float]) -> str:
    return f"{np.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


if __name__ == "__main__":
    main()
