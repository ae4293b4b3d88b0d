"""What the edge attention of a trained EMSR looks at, as one picture.

    python benchmarks/look.py MODEL IMAGE --slice 5 --corner 60 60 --png PNG

Rows: the LR image and its edge details, fine to coarse; then for each block its intermediate image,
the details of that, and how strongly the attention changes the features (root mean square of its
weights over channels and refinements, bright where it acts). Details are shown from -2.5 to 2.5 of
their standard deviations.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch

from emsr.geometry.box import Box
from emsr.jobs.model import load
from emsr.network.emsr import EMSR, Look
from emsr.network.frame import middle_slice
from emsr.volumes.intensity import Intensity
from emsr.volumes.source import open_volume

matplotlib.use("Agg")
from matplotlib import pyplot

SIDE, FRAME = 96, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--slice", type=int, default=0)
    parser.add_argument("--corner", type=int, nargs=2, default=(0, 0), metavar=("Y", "X"))
    parser.add_argument("--png", type=Path, required=True)
    arguments = parser.parse_args()
    model = load(arguments.model)
    lr = torch.from_numpy(
        Intensity(*model.header.lr_window).to_unit(
            part(arguments.image, arguments.slice, *arguments.corner)
        )
    )[None]
    network: EMSR = model.network
    with torch.inference_mode():
        looks = network.looks(lr)
    draw(middle_slice(lr), looks, arguments.png)


def part(path: Path, z: int, y: int, x: int) -> np.ndarray:
    """``(1, y, x)`` grey values; a frame around what is shown, where zero padding would show."""
    side = SIDE + 2 * FRAME
    return open_volume(path).read(Box((z, y, x), (z + 1, y + side, x + side)))


def draw(lr: torch.Tensor, looks: list[Look], path: Path) -> None:
    levels = looks[0].edges.shape[1] // 2
    rows = [[("LR image", lr), *details("of the LR image", looks[0].edges[:, :levels])]]
    for number, look in enumerate(looks, 1):
        weight = torch.stack([w.square().mean(1, keepdim=True) for w in look.weights]).mean(0)
        own = details(f"of image {number}", look.edges[:, levels:])
        rows.append([(f"image {number}", look.image), *own, ("attention", weight.sqrt())])
    columns = levels + 2
    size = (2.2 * columns, 2.35 * len(rows))
    figure, axes = pyplot.subplots(len(rows), columns, figsize=size, constrained_layout=True)
    for axis in axes.flat:
        axis.axis("off")
    for line, row in zip(axes, rows, strict=True):
        for axis, (title, values) in zip(line, row, strict=False):
            show(axis, title, values[0, 0, FRAME:-FRAME, FRAME:-FRAME].numpy())
    figure.savefig(path, dpi=62)


def details(of: str, edges: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    return [(f"detail {i + 1} {of}", edges[:, i : i + 1]) for i in range(edges.shape[1])]


def show(axis: pyplot.Axes, title: str, values: np.ndarray) -> None:
    axis.set_title(title, fontsize=8)
    if title.startswith("detail"):
        limit = 2.5 * values.std()
        axis.imshow(values, cmap="gray", vmin=-limit, vmax=limit)
    elif title == "attention":
        axis.imshow(values, cmap="magma", vmin=0, vmax=np.quantile(values, 0.995))
    else:
        low, high = np.quantile(values, (0.01, 0.99))
        axis.imshow(values, cmap="gray", vmin=low, vmax=high)


if __name__ == "__main__":
    main()
