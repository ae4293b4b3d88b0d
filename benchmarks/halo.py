"""How large a halo must be: the difference that tiling makes, in grey levels, against the halo.

    python benchmarks/halo.py MODEL.safetensors LR.tif

Upscales one LR slice whole and in tiles, at halos from 0 to the receptive radius, and prints the
largest and the mean difference on the model's grey scale, beside the pixels read per pixel written.
The default ``halo`` of a network is chosen from this table: less than half a grey level of 255.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from emsr.geometry.box import Box
from emsr.geometry.tiles import plan
from emsr.jobs.model import load
from emsr.volumes.intensity import Intensity
from emsr.volumes.source import open_volume


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("lr", type=Path)
    parser.add_argument("--tile", type=int, default=64, help="LR pixels along a tile's side")
    parser.add_argument("--side", type=int, default=512, help="LR pixels to look at, at most")
    arguments = parser.parse_args()
    model, volume = load(arguments.model, device="cpu"), open_volume(arguments.lr)
    _, height, width = (min(n, arguments.side) for n in volume.shape)
    z = volume.shape[0] // 2
    lr = volume.read(Box((z, 0, 0), (z + 1, height, width)))[0]
    unit = torch.from_numpy(Intensity(*model.header.lr_window).to_unit(lr))[None, None]
    grey = model.header.hr_window[1] - model.header.hr_window[0]
    network = model.network
    with torch.inference_mode():
        whole = network(unit)
        print(f"receptive radius {network.receptive_radius} px, default halo {network.halo} px")
        print("halo_px  largest  mean  (grey levels)  read/written")
        for halo in halos(network.receptive_radius):
            difference, waste = tiled(network, unit, whole, halo, arguments.tile)
            print(
                f"{halo:7d}  {difference.max() * grey:7.4f}  {difference.mean() * grey:.6f}"
                f"  {waste:.2f}"
            )


def halos(radius: int | None) -> list[int]:
    """Up to the receptive radius; a network that pools over the whole image has none."""
    steps = [0, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96]
    return steps if radius is None else [halo for halo in steps if halo < radius] + [radius]


def tiled(
    network: torch.nn.Module, lr: torch.Tensor, whole: torch.Tensor, halo: int, side: int
) -> tuple[np.ndarray, float]:
    """Absolute differences to ``whole``, and LR pixels read per pixel written."""
    shape = (1, *lr.shape[-2:])
    tiles = plan(shape, (1, side, side), scale=network.scale, halo=halo, multiple=network.multiple)
    assembled = torch.empty_like(whole)
    read = 0
    for tile in tiles:
        y, x = tile.read.slices[1:]
        part = network(lr[..., y, x])
        assembled[0, :, *tile.write.slices[1:]] = part[0, :, *tile.crop.slices[1:]]
        read += (y.stop - y.start) * (x.stop - x.start)
    return (assembled - whole).abs().numpy(), read / (shape[1] * shape[2])


if __name__ == "__main__":
    main()
