"""What `emsr enhance` is worth, what causes it, and whether it changes what it should not.

    python benchmarks/enhancer.py --work DIR            the tables of docs/enhancer.md, phantoms
    python benchmarks/enhancer.py --work DIR --only lies      one of gain, cause, lies, flat, real

HR scans of a field that nothing was trained on. Ways: SR by a network of scale 3, averaged back,
in the HR window (what `enhance` does) or in the LR window; the scan binned to LR, then SR, which is
what the network was trained on; networks of scale 1 (enhancer_models.py); the denoisers of the
strategy ``denoised``. The networks of scale 3 are those of trained.py.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from enhancer_lies import flat_table, lies_table
from enhancer_models import KINDS, Wanted, trained_cleaners
from enhancer_real import real_table
from fields import PHANTOMS, SCALE, made, read
from scipy.ndimage import gaussian_filter
from trained import trained

from emsr.jobs.form import Form, in_form
from emsr.jobs.model import Model, load
from emsr.microscope.estimate import noise_from_repeat, noise_from_slices
from emsr.microscope.stages import sample_area
from emsr.pairs.denoise import Noisy, denoise
from emsr.pairs.denoise_residual import removed
from emsr.quality.cleaned import cleaned_psnr
from emsr.quality.fidelity import psnr
from emsr.quality.resolution import frc
from emsr.recipe import Denoising
from emsr.volumes.volume import array_volume

PEAK = 255.0
CAUSES: list[Wanted] = [
    ("white-matter", kind, loss)
    for kind, loss in (*((kind, "l1") for kind in KINDS), ("repeat", "l2"))
]
Way = Callable[[np.ndarray], np.ndarray]
"""Cleans a scan (z, y, x)."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    default = os.environ.get("EMSR_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--only", choices=("gain", "cause", "lies", "flat", "real"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    tables = {"gain": gain, "cause": cause, "lies": lies, "flat": flat, "real": real_table}
    for name, table in tables.items():
        if asked.only in (None, name):
            print(f"\n{name}\n")
            table(asked.work, asked.data)


def gain(work: Path, data: Path) -> None:
    """What each way gains on the HR scans of both phantoms."""
    heading(
        "field", "way", "PSNR", "estimated", "FRC truth", "FRC repeat", "removed", "next", "edges"
    )
    for phantom in PHANTOMS:
        hr, repeat, truth = scans(work, data, phantom)
        ways = {"as acquired": lambda scan: scan, **networks(work, data, phantom)}
        ways["blind"] = partial(_denoised, "blind")
        noise = noise_from_repeat(hr, repeat)
        for name, way in ways.items():
            out = way(hr)
            estimate, _ = cleaned_psnr(out, hr, repeat, PEAK, np.random.default_rng(0))
            gone = removed(hr, out.astype(np.float32), noise)
            row(
                phantom,
                name,
                f"{psnr(out, truth, PEAK):.2f}",
                f"{estimate:.2f}" if estimate else "",
                *(f"{frc(out, other)[1:].mean():.3f}" for other in (truth, repeat)),
                f"{gone.ratio:.2f}",
                f"{max(gone.autocorrelation, key=abs):.2f}",
                f"{gone.edge_excess:.2f}",
            )


def cause(work: Path, data: Path) -> None:
    """The same network of scale 1, trained against other references."""
    hr, repeat, truth = scans(work, data, "white-matter")
    files = trained_cleaners(CAUSES, work, data, 1)
    outs = {key: cleaner(path)(hr) for key, path in files.items()}
    ideal = outs["white-matter", "clean", "l1"]
    heading("reference", "loss", "PSNR", "slope of a second scan on it", "rms to clean's")
    row("(as acquired)", "", f"{psnr(hr, truth, PEAK):.2f}", f"{slope(hr, repeat):.3f}", "")
    for (_, kind, loss), out in outs.items():
        apart = np.sqrt(np.mean((out.astype(np.float64) - ideal) ** 2))
        numbers = f"{psnr(out, truth, PEAK):.2f}", f"{slope(out, repeat):.3f}", f"{apart:.2f}"
        row(kind, loss, *numbers)


def slope(out: np.ndarray, repeat: np.ndarray) -> float:
    """Of the regression of an independent scan on the output: 1 for a conditional mean."""
    a, b = (image - image.mean(dtype=np.float64) for image in (out, repeat))
    return float(np.vdot(a, b) / np.vdot(a, a))


def lies(work: Path, data: Path) -> None:
    """How much of a planted structure is left."""
    for phantom in PHANTOMS:
        hr, _, truth = scans(work, data, phantom)
        lies_table(phantom, hr, truth, few(work, data, phantom))


def flat(work: Path, data: Path) -> None:
    """What is made of noise where there is nothing."""
    for phantom in PHANTOMS:
        _, _, truth = scans(work, data, phantom)
        ways = few(work, data, phantom) | {"blur 1 px": _blurred}
        flat_table(phantom, truth, ways)


def few(work: Path, data: Path, phantom: str) -> dict[str, Way]:
    """One way of each sort."""
    finer = load(trained(work, data, fields=(phantom,))[phantom, "emsr-lean"], "cpu")
    wanted = (phantom, "repeat", "l1")
    return {
        "SR, averaged": partial(cleaned, finer),
        "binned, SR": partial(binned, finer),
        "scale 1, repeat": cleaner(trained_cleaners([wanted], work, data, 1)[wanted]),
        "nlm": partial(_denoised, "nlm"),
    }


def networks(work: Path, data: Path, phantom: str) -> dict[str, Way]:
    """The ways of networks, by name."""
    finer = load(trained(work, data, fields=(phantom,))[phantom, "emsr-lean"], "cpu")
    unet = load(trained(work, data, fields=(phantom,))[phantom, "unet"], "cpu")
    split = (phantom, "split", "l1")
    return few(work, data, phantom) | {
        "SR (unet), averaged": partial(cleaned, unet),
        "SR, averaged, LR window": partial(in_lr_window, finer),
        "scale 1, split": cleaner(trained_cleaners([split], work, data, 1)[split]),
    }


def cleaner(path: Path) -> Way:
    return partial(cleaned, load(path, "cpu"))


def cleaned(model: Model, hr: np.ndarray) -> np.ndarray:
    """As ``emsr enhance`` does it, in float32."""
    volume = array_volume(hr, None, "HR")
    return in_form(volume, model, Form(dtype="float32", clean=True))[1].upscale(hr)


def in_lr_window(model: Model, hr: np.ndarray) -> np.ndarray:
    """SR, averaged, of HR greys taken for LR greys."""
    volume = array_volume(hr, None, "HR")
    made_ = in_form(volume, model, Form(dtype="float32", clean=True))[1]
    header = replace(made_.header, lr_window=model.header.lr_window)
    return replace(made_, header=header).upscale(hr)


def binned(model: Model, hr: np.ndarray) -> np.ndarray:
    """SR of the scan's own 3 x 3 means, in the HR window."""
    header = replace(model.header, lr_window=model.header.hr_window, dtype="float32")
    return replace(model, header=header).upscale(sample_area(hr.astype(np.float32), SCALE))


def _blurred(hr: np.ndarray) -> np.ndarray:
    return np.asarray(gaussian_filter(hr.astype(np.float32), (0, 1, 1)))


def _denoised(name: str, hr: np.ndarray) -> np.ndarray:
    stack, noise = hr.astype(np.float32), noise_from_slices(hr)
    noisy = Noisy(stack, range(len(hr)), hr, noise, Denoising().steps, seed=0)
    return denoise(name, noisy)


def scans(work: Path, data: Path, phantom: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HR, a second HR scan and the truth of the test field."""
    folder = made(work, phantom, data) / "test"
    hr, repeat, truth = (read(folder / f"{name}.tif") for name in ("hr", "hr_repeat", "truth"))
    return hr, repeat, truth


def heading(*names: str) -> None:
    row(*names)
    row(*("---",) * len(names))


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
