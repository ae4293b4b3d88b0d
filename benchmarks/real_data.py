"""The route on real images: synthetic pairs from one slab, scores on a slab never trained on.

    python benchmarks/real_data.py --out DIR [--data DIR] [--set sbem --set fibsem] [--steps N]

Writes the test slab's HR scan (cropped to a multiple of the scale) and an LR scan made from it
(blur 1.0 HR px, area sampling, Gaussian noise of 10 grey levels), then runs the commands, each of
which it prints. The LR scan holds a ninth of the HR scan's noise power, so scores against that HR
scan favour whatever keeps its noise: compare SR with bicubic, and look at the report.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emsr.geometry.box import Box
from emsr.microscope.stages import blur, gaussian_kernel, gaussian_noise, quantise, sample_area
from emsr.volumes.source import open_volume
from emsr.volumes.tiff import write_tiff

SCALE, BLUR_PX, NOISE_GREY = 3, 1.0, 10.0


@dataclass(frozen=True)
class Split:
    """Which slices train and which test; guard slices between them are used by neither."""

    train: tuple[str, int, int]
    test: tuple[str, int, int]


SPLITS = {
    "sbem": Split(
        ("sbem-neural-noisy/z020-039.tif", 0, 20), ("sbem-neural-noisy/z080-090.tif", 0, 11)
    ),
    "fibsem": Split(
        ("fibsem-fly-10nm/medulla_z000-219.tif", 0, 150),
        ("fibsem-fly-10nm/medulla_z000-219.tif", 200, 210),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("EMSR_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", choices=SPLITS, action="append")
    parser.add_argument("--steps", type=int, default=2000)
    arguments = parser.parse_args()
    for name in arguments.set or SPLITS:
        run(SPLITS[name], arguments.data, arguments.out / name, arguments.steps)


def run(split: Split, source: Path, out: Path, steps: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    scans(split, source, out)
    network = ["--network", "emsr-tiny", "--steps", str(steps)]
    references = ["--reference", "hr.tif", "--lr", "lr.tif"]
    for command in (
        ["prepare", "--strategy", "synthetic", "--hr", "train.tif", "--out", "pairs.zarr"],
        ["train", "pairs.zarr", "--out", "run", *network],
        ["upscale", "lr.tif", "--model", "run/model.safetensors", "--out", "sr.ome.zarr"],
        ["evaluate", "--sr", "sr.ome.zarr", *references, "--out", "scores"],
    ):
        print("$ emsr", *command, flush=True)
        program = Path(sys.executable).with_name("emsr")
        subprocess.run([program, *command, "--overwrite"], cwd=out, check=True)


def scans(split: Split, source: Path, out: Path) -> None:
    """train.tif, and hr.tif and lr.tif of the test slab."""
    train, spacing = slab(source, *split.train)
    hr, _ = slab(source, *split.test)
    rng = np.random.default_rng(0)
    kernel = gaussian_kernel(BLUR_PX, BLUR_PX, 0.0)
    low = [sample_area(blur(plane.astype(np.float32), kernel), SCALE) for plane in hr]
    lr = np.stack([quantise(gaussian_noise(plane, NOISE_GREY, rng), "uint8") for plane in low])
    z, y, x = spacing
    write_tiff(out / "train.tif", train, train.shape, train.dtype, spacing)
    write_tiff(out / "hr.tif", hr, hr.shape, hr.dtype, spacing)
    write_tiff(out / "lr.tif", lr, lr.shape, lr.dtype, (z, y * SCALE, x * SCALE))


def slab(source: Path, name: str, start: int, stop: int) -> tuple[np.ndarray, tuple]:
    """Slices ``start`` to ``stop``, y and x cropped to a multiple of the scale."""
    volume = open_volume(source / name)
    y, x = (n // SCALE * SCALE for n in volume.shape[1:])
    return volume.read(Box((start, 0, 0), (stop, y, x))), volume.spacing_nm


if __name__ == "__main__":
    main()
