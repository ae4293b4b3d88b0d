"""The README's picture: one place of a demo's test field, in every image.

    emsr demo --out DEMO && python benchmarks/demo_picture.py DEMO docs/img/demo.png

LR, bicubic, super-resolved, noisy HR reference and unseen truth, at one grey window.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from emsr.geometry.box import Box
from emsr.network.frame import interpolate
from emsr.volumes.source import open_volume

CROP = (144, 126, 192)
"""First row, first column and side of the demo's crop, in HR pixels (multiples of the scale)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    demo, field = arguments.demo, arguments.demo / "test-field"
    lr = middle(field / "lr.tif")
    scale = middle(field / "hr.tif").shape[0] // lr.shape[0]
    bicubic = interpolate(torch.from_numpy(lr)[None, None], scale)[0, 0].numpy()
    panels = {
        "LR (input)": lr.repeat(scale, 0).repeat(scale, 1),
        "bicubic": bicubic,
        "emsr": middle(demo / "sr.ome.zarr"),
        "HR scan (noisy)": middle(field / "hr.tif"),
        "truth (unseen)": middle(field / "truth.tif"),
    }
    y, x, side = CROP
    figure, axes = plt.subplots(1, len(panels), figsize=(15, 3.35))
    for axis, (title, image) in zip(axes, panels.items(), strict=True):
        show(axis, image[y : y + side, x : x + side], title)
    figure.tight_layout(pad=0.4)
    figure.savefig(arguments.out, dpi=72)


def middle(path: Path) -> np.ndarray:
    """The middle slice of a volume."""
    volume = open_volume(path)
    z, (_, y, x) = volume.shape[0] // 2, volume.shape
    return volume.read(Box((z, 0, 0), (z + 1, y, x)))[0].astype(np.float32)


def show(axis, image: np.ndarray, title: str) -> None:
    axis.imshow(image, cmap="gray", vmin=20, vmax=225, interpolation="nearest")
    axis.set_title(title, fontsize=11)
    axis.set_axis_off()


if __name__ == "__main__":
    main()
