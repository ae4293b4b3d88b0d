"""The picture of docs/trust.md: four lies in an SR, and the map that finds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from trust_lies import FULL, SCALE, Case

from emsr.microscope import lies
from emsr.quality import consistency
from emsr.recipe import DOUBT_PX, TRUST_WINDOW_PX


def picture(case: Case, path: Path) -> None:
    """SR with four lies, the LR it has to explain, and the map that finds them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rng = np.random.default_rng(4)
    side = 60 * SCALE
    altered, centres = case.sr[0, : 2 * side, : 2 * side].copy(), []
    for n, plant in enumerate(lies.KINDS.values()):
        free = np.zeros(altered.shape, bool)
        y, x = side * (n // 2), side * (n % 2)
        free[y + 40 : y + side - 40, x + 40 : x + side - 40] = True
        truth = case.truth[0, : 2 * side, : 2 * side]
        altered, mask = plant(altered, truth, rng, 5.0 * SCALE, free)
        centres.append(np.argwhere(mask).mean(axis=0))
    lr = case.lr[0, :120, :120]
    doubt = consistency.maps(case.residual(altered, lr), TRUST_WINDOW_PX, DOUBT_PX).doubt
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    shown = (("LR as measured", lr), ("SR with four lies", altered))
    for axis, (title, image) in zip(axes, shown, strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=FULL, extent=(0, 120, 120, 0))
        axis.set_title(title)
    drawn = axes[2].imshow(doubt, cmap="magma", vmin=0, vmax=8, extent=(0, 120, 120, 0))
    axes[2].set_title("doubt (standard deviations)")
    figure.colorbar(drawn, ax=axes[2])
    for axis in axes[1:]:
        for y, x in centres:
            ring = pyplot.Circle((x / SCALE, y / SCALE), 5, fill=False, color="cyan", lw=1)
            axis.add_patch(ring)
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(path, dpi=80)
    with Image.open(path) as drawn_image:
        small = drawn_image.convert("RGB").quantize(96)
    small.save(path, optimize=True)
