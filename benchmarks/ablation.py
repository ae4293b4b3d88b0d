"""What each mechanism of EMSR buys: edge attention, self-attention, the second view.

    python benchmarks/ablation.py --work DIR [--steps 1200] [--seeds 3] [--jobs 2] [--figure PNG]

EMSR at half width (32 features, 2 blocks) on white-matter phantoms whose LR scans carry Gaussian
noise of 0 to 22 grey levels, drawn slice by slice, so that every network has learned the whole
range. Scored against the truth of another phantom at five fixed noise levels up to that of the SBEM
images (22), on edge pixels (the steepest fifth of the truth) and on the rest apart. All variants
train for the same steps on the same patches; ``more residuals`` has the parameters that edge
attention would take, spent on plain residual blocks. A stopped run goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from cells import SCALE, Cell, bicubic_of, run_all
from fields import TEST_SEED, TEST_SHAPE, TRAIN_SHAPE, noise_free, read
from scipy import ndimage

from emsr.jobs.model import load
from emsr.jobs.prepare import prepare
from emsr.jobs.simulate import simulate
from emsr.microscope.presets import PRESETS
from emsr.microscope.stages import gaussian_noise
from emsr.recipe import make_recipe
from emsr.volumes.tiff import write_tiff

PRESET, FIELD = "white-matter", "noise-range"
LEVELS = (0.0, 5.5, 11.0, 16.5, 22.0)
EDGE_SHARE = 0.2
HALF = {
    "features": 32, "blocks": 2, "residuals": 2, "refinements": 1, "heads": 8, "input_skip": True,
}  # fmt: skip
TRAINING = {"batch": 4, "patch_px": 32, "learning_rate": 2e-3, "warmup_steps": 50}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "EMSR": ({}, {}),
    "without edge attention": ({"edge_attention": False}, {}),
    "without edge attention, more residuals": ({"edge_attention": False, "residuals": 5}, {}),
    "without self-attention": ({"self_attention": False}, {}),
    "without the second view": ({}, {"second_view": False}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    folder = prepared(arguments.work)
    cells = {
        name: [
            Cell(
                FIELD,
                "emsr",
                HALF | options,
                TRAINING | training | {"steps": arguments.steps},
                seed,
            )
            for seed in range(arguments.seeds)
        ]
        for name, (options, training) in VARIANTS.items()
    }
    run_all(
        [cell for row in cells.values() for cell in row], arguments.work, Path(), arguments.jobs
    )
    curves = {"bicubic": np.array([[regions(bicubic_of(lr), folder) for lr in tests(folder)]])}
    for name, row in cells.items():
        models = [load(arguments.work / "cells" / f"{cell.key}.safetensors") for cell in row]
        curves[name] = np.array(
            [[regions(model.upscale(lr), folder) for lr in tests(folder)] for model in models]
        )
    print_table(curves)
    if arguments.figure:
        draw(curves, arguments.figure)


def prepared(work: Path) -> Path:
    """The folder with pairs of mixed noise, and a test field's truth and noise-free LR."""
    folder = work / FIELD
    if not (folder / "pairs.zarr").exists():
        for part, shape, seed in (("learn", TRAIN_SHAPE, 0), ("test", TEST_SHAPE, TEST_SEED)):
            simulate(folder / part, PRESET, shape, SCALE, seed, overwrite=True)
            clean = noise_free(PRESET, shape, seed)
            np.save(folder / part / "clean.npy", clean)
        (folder / "test/reference.tif").unlink(missing_ok=True)
        (folder / "test/reference.tif").symlink_to("truth.tif")
        rng = np.random.default_rng(0)
        clean = np.load(folder / "learn/clean.npy")
        noisy = [gaussian_noise(plane, rng.uniform(0, LEVELS[-1]), rng) for plane in clean]
        z, y, x = PRESETS[PRESET].spacing_nm
        lr = folder / "learn/mixed.tif"
        write_tiff(lr, noisy, clean.shape, np.float32, (z, y * SCALE, x * SCALE))
        recipe = make_recipe(scale=SCALE)
        scans = {"hr": folder / "learn/hr.tif", "lr": lr}
        prepare(out=folder / "pairs.zarr", strategy="real", recipe=recipe, overwrite=True, **scans)
    return folder


def tests(folder: Path) -> list[np.ndarray]:
    """LR scans of the test field, one for each noise level; the same noise for every network."""
    clean = np.load(folder / "test/clean.npy")
    return [gaussian_noise(clean, level, np.random.default_rng(7)) for level in LEVELS]


def regions(sr: np.ndarray, folder: Path) -> tuple[float, float]:
    """PSNR in dB against the truth, on edge pixels and on the rest."""
    truth = read(folder / "test/truth.tif")
    steep = np.stack([ndimage.gaussian_gradient_magnitude(plane, 1.0) for plane in truth])
    edge = steep >= np.quantile(steep, 1 - EDGE_SHARE)
    error = (sr.astype(np.float64) - truth) ** 2
    return tuple(10 * np.log10(255**2 / error[part].mean()) for part in (edge, ~edge))


def print_table(curves: dict[str, np.ndarray]) -> None:
    """Mean over seeds of PSNR against the truth: (seed, level, region)."""
    for region, name in enumerate(("edge pixels", "background")):
        print(
            f"\n| PSNR on {name}, dB, at LR noise | " + " | ".join(f"{n:g}" for n in LEVELS) + " |"
        )
        print("| --- " * (len(LEVELS) + 1) + "|")
        for variant, values in curves.items():
            cells = [
                f"{v.mean():.2f}" + (f" ± {np.ptp(v) / 2:.2f}" if len(v) > 1 else "")
                for v in values[:, :, region].T
            ]
            print(f"| {variant} | " + " | ".join(cells) + " |")


def draw(curves: dict[str, np.ndarray], path: Path) -> None:
    """PSNR from EMSR's mean by noise level, edges and background side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharex=True, constrained_layout=True)
    for region, (axis, name) in enumerate(zip(axes, ("edge pixels", "background"), strict=True)):
        for variant, values in curves.items():
            if variant != "bicubic":
                gain = values[:, :, region] - curves["EMSR"][:, :, region].mean(0)
                axis.plot(LEVELS, gain.mean(0), label=variant, marker="o", markersize=3)
                axis.fill_between(LEVELS, gain.min(0), gain.max(0), alpha=0.15)
        axis.set(title=name, xlabel="noise of the LR scan, grey levels")
    axes[0].set_ylabel("PSNR against the truth, dB from EMSR's mean")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
