"""Peak memory of ``emsr upscale`` against the volume's size: it is to be flat.

    python benchmarks/memory.py MODEL.safetensors [--slices 4 --slices 40] [--side 512]

Upscales noise volumes of more and more slices, each in a process of its own, and prints the peak
resident set that the summary reports, beside the size of the SR volume.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from emsr.network.checkpoint import load_model
from emsr.volumes.tiff import write_tiff


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--slices", type=int, action="append")
    parser.add_argument("--side", type=int, default=512)
    arguments = parser.parse_args()
    _, header = load_model(arguments.model)
    print("slices  SR MB  peak RSS MB  seconds")
    for slices in arguments.slices or [4, 40, 160]:
        shape = (slices, arguments.side, arguments.side)
        with tempfile.TemporaryDirectory() as folder:
            lr = Path(folder) / "lr.tif"
            rng = np.random.default_rng(0)
            planes = (rng.integers(0, 255, shape[1:], np.uint8) for _ in range(slices))
            write_tiff(lr, planes, shape, "uint8", header.lr_spacing_nm)
            said = upscale(lr, arguments.model, Path(folder) / "sr.ome.zarr")
        print(
            f"{slices:6d}  {said['voxels'] / 1e6:5.0f}  {said['peak_memory_bytes'] / 1e6:11.0f}"
            f"  {said['seconds']:7.0f}",
            flush=True,
        )


def upscale(lr: Path, model: Path, out: Path) -> dict:
    program = Path(sys.executable).with_name("emsr")
    command = [program, "upscale", lr, "--model", model, "--out", out, "--json", "--quiet"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


if __name__ == "__main__":
    main()
