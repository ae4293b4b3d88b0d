"""How much HR is enough, and what becomes of training where there is less: noise learned by heart.

    python benchmarks/by_heart.py --work DIR [--data SHARED] [--only WORD] [--figure PNG]

One cell is one training on one field of white matter, scanned fast and slowly (two independent
scans, as ``real``). Every ``EVERY`` steps the running mean of the weights is scored twice: on a
watched field against its noisy HR, as ``emsr train`` can, and on the field of another phantom
against the truth, as nobody can. So each training gives three networks: the one the watched field
chooses, the best there was, and the last. A cell that is done is kept in ``work`` as JSON; a
stopped benchmark goes on. --only computes the cells whose name holds the word.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from by_heart_tables import draw, print_tables, psnr, said
from cells import bicubic_of
from fields import read

from emsr.jobs.listener import Listener
from emsr.jobs.model import load
from emsr.jobs.prepare import prepare
from emsr.jobs.simulate import simulate
from emsr.jobs.train import train
from emsr.microscope import stages
from emsr.microscope.presets import PRESETS, SUPERSAMPLING, hr_scan, lr_scan
from emsr.microscope.scan import expected
from emsr.microscope.tissue import tissue
from emsr.network.fit import fit, start
from emsr.network.frame import interpolate
from emsr.network.named import build
from emsr.pairs import align
from emsr.pairs.patches import draw_batch
from emsr.quality.fidelity import psnr as exact_psnr
from emsr.recipe import make_recipe, recipe_from
from emsr.volumes.intensity import Intensity

PRESET, SCALE, EVERY = "white-matter", 3, 50
FIELDS = {"learn": (0, 2049), "watch": (1, 513), "test": (2, 513)}
"""Seed and side (HR pixels) of each field."""
BLOCK = 57
"""Side (HR pixels) of the blocks that errors are kept of, to see how the choice depends on them."""
NETWORK = {"features": 48, "blocks": 4}
SIDES = {14: 129, 15: 183, 16: 255, 17: 363, 18: 513, 19: 723, 20: 1023, 21: 1449, 22: 2049}
"""Side of a field of about 2**n HR pixels, in whole LR pixels."""


@dataclass(frozen=True)
class Cell:
    """One training. Doses are shares of the preset's; 0 is an endless one: no noise."""

    name: str
    pixels: int = 16
    """log2 of the HR pixels that train."""
    steps: int = 1500
    network: str = "emsr-lean"
    options: dict[str, Any] = field(default_factory=lambda: dict(NETWORK))
    training: dict[str, Any] = field(default_factory=dict)
    hr_dose: float = 1.0
    lr_dose: float = 1.0
    seed: int = 0
    data: str = "phantom"


SIZES = [Cell(f"size-{n}", n, 3000) for n in (14, 16, 18, 20, 22)]
FACTORS = [
    Cell("base"),
    Cell("base-again", seed=1),
    Cell("network-11k", options={"features": 16, "blocks": 2}),
    Cell("network-40k", options={"features": 32, "blocks": 2}),
    Cell("network-336k", options={}),
    Cell("hr-noise-0", hr_dose=0.0),
    Cell("hr-noise-x2", hr_dose=1 / 4),
    Cell("hr-noise-x4", hr_dose=1 / 16),
    Cell("lr-noise-x1/4", lr_dose=16.0),
    # The electrons of ``base`` on four times the area.
    Cell("area-x4", 18, hr_dose=1 / 4),
    Cell("l2", training={"loss": "l2"}),
    Cell("one-view", training={"second_view": False}),
    Cell("no-ema", training={"ema": 0.0}),
    Cell("decay-0.1", training={"weight_decay": 0.1}),
    Cell("decay-1", training={"weight_decay": 1.0}),
]
REPORTED = [
    # The report: 416 x 282 LR pixels, strong noise, no second view.
    Cell("reported", 20, 3500, training={"second_view": False}, hr_dose=1 / 12),
    Cell("reported-16", 16, 3500, training={"second_view": False}, hr_dose=1 / 12),
    Cell("fast-slow", 16, 1500, data="fast-slow"),
]
SMALLEST = [Cell(f"smallest-{name}", 0, 0, name, {}) for name in ("emsr-tiny", "emsr-lean")]
"""`emsr train` as it is on the smallest pairs accepted: 2 slices of 64 x 64 LR pixels."""
CELLS = [*SMALLEST, *FACTORS[:1], *SIZES, *REPORTED[:1], *FACTORS[1:], *REPORTED[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", default="")
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for cell in CELLS:
        if arguments.only in cell.name:
            results[cell.name] = kept(cell, arguments.work, arguments.data)
            print(cell.name, said(results[cell.name]), flush=True)
    print_tables(results)
    if arguments.figure:
        draw(results, arguments.figure)


def kept(cell: Cell, work: Path, data: Path) -> dict[str, Any]:
    """The result of a cell, computed unless it has been."""
    path = work / "cells" / f"{cell.name.replace('/', '-')}.json"
    if not path.exists() or json.loads(path.read_text())["cell"] != asdict(cell):
        path.parent.mkdir(parents=True, exist_ok=True)
        result = smallest(cell, work) if cell in SMALLEST else run(cell, work, data)
        path.with_suffix(".partial").write_text(json.dumps(result))
        path.with_suffix(".partial").replace(path)
    return json.loads(path.read_text())


def run(cell: Cell, work: Path, data: Path) -> dict[str, Any]:
    """Train one cell and keep what both fields say at every look."""
    fields = real_fields(cell, data) if cell.data == "fast-slow" else phantom_fields(cell, work)
    learn, watch, test = fields
    torch.manual_seed(cell.seed)
    network = build(cell.network, SCALE, cell.options)
    table = {"steps": cell.steps, "checkpoint_every": EVERY, "patience": 0, **cell.training}
    rule = recipe_from({"network": cell.network, "training": table}).training
    rows, looks = slice(0, learn.lr.shape[1]), [errors_at(0, None, watch, test)]
    run_ = start(network, rule, torch.device("cpu"))

    def draw(step: int) -> tuple[np.ndarray, np.ndarray]:
        return draw_batch(learn, rows, rule.patch_px, rule.batch, cell.seed, step)

    def look(mean: torch.nn.Module) -> float:
        looks.append(errors_at(run_.step, mean, watch, test))
        return float(psnr(looks[-1]["watch"]))

    began = time.monotonic()
    with TemporaryDirectory() as folder:
        fit(run_, draw, look, rule, cell.seed, Path(folder), lambda *_: None)
    return {
        "cell": asdict(cell),
        "parameters": sum(p.numel() for p in network.parameters()),
        "hr_pixels": int(learn.hr.size),
        "seconds": round(time.monotonic() - began, 1),
        "loss": [line["loss"] for line in run_.history],
        "looks": looks,
    }


def smallest(cell: Cell, work: Path) -> dict[str, Any]:
    """The verbs with their defaults, scored against the truth of another phantom."""
    folder = work / cell.name
    for part, shape, seed in (("learn", (2, 192, 192), 0), ("test", (4, 384, 384), 2)):
        simulate(folder / part, PRESET, shape, SCALE, seed, overwrite=True)
    scans = {name: folder / f"learn/{name}.tif" for name in ("hr", "lr")}
    prepare(out=folder / "pairs.zarr", strategy="real", overwrite=True, **scans)
    heard: list[str] = []
    recipe = make_recipe(network=cell.network)
    ears = Listener(say=heard.append)
    summary = train(folder / "pairs.zarr", folder / "run", recipe, resume=True, listener=ears)
    lr, truth = (read(folder / f"test/{name}.tif") for name in ("lr", "truth"))
    sr = load(folder / "run/model.safetensors").upscale(lr)
    clean = {"clean": fidelity(sr, truth), "bicubic": fidelity(bicubic_of(lr), truth)}
    return {"cell": asdict(cell), "heard": heard, **summary, **clean}


def fidelity(image: np.ndarray, truth: np.ndarray) -> float:
    return round(exact_psnr(image, truth, 255.0), 2)


def phantom_fields(cell: Cell, work: Path) -> Iterator[SimpleNamespace]:
    """Pairs of the field that trains, of the watched one, and of the test field with its truth."""
    side = SIDES[cell.pixels]
    for k, (name, (seed, full)) in enumerate(FIELDS.items()):
        lr, hr = rendered(work, name, seed, full)
        cut = side if name == "learn" else full
        lr, hr = lr[: cut // SCALE, : cut // SCALE], hr[:cut, :cut]
        rng = np.random.default_rng([cell.seed, k])
        preset = PRESETS[PRESET]
        fast = replace(preset, lr_dose=preset.lr_dose * (cell.lr_dose or 1))
        slow = replace(preset, hr_dose=preset.hr_dose * (cell.hr_dose or 1))
        lr = scanned(lr, lr_scan(fast, SCALE), rng) if cell.lr_dose else lr
        if name != "test" and cell.hr_dose:
            hr = scanned(hr, hr_scan(slow), rng)
        yield pairs(lr, hr, Intensity(0, 255))


def rendered(work: Path, name: str, seed: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """What endless LR and HR scans of a field would show: (y, x) grey levels, painted once."""
    path = work / f"{name}.npz"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        preset, fine = PRESETS[PRESET], side * SUPERSAMPLING
        z, y, x = preset.spacing_nm
        spacing = (z, y / SUPERSAMPLING, x / SUPERSAMPLING)
        stain = tissue(PRESET, (1, fine, fine), spacing, seed).render(0, 1)[0]
        scans = (expected(stain, scan) for scan in (lr_scan(preset, SCALE), hr_scan(preset)))
        np.savez(path, **dict(zip(("lr", "hr"), scans, strict=True)))
    with np.load(path) as stored:
        return stored["lr"], stored["hr"]


def scanned(grey: np.ndarray, scan: Any, rng: np.random.Generator) -> np.ndarray:
    """One scan of what it would show on average; grey levels stay floats, nothing is clipped."""
    electrons = stages.shot_noise((grey - scan.offset) / scan.gain, rng)
    return stages.gaussian_noise(
        stages.detector(electrons, scan.gain, scan.offset), scan.read_noise, rng
    )


def real_fields(cell: Cell, data: Path) -> Iterator[SimpleNamespace]:
    """The same of a field of mouse brain scanned twice (see fields.py); the test field's HR is a
    scan as noisy as the others, of which training saw nothing."""
    side = SIDES[cell.pixels]
    fast, slow = (
        read(data / f"sem-brain-fast-slow/{name}.tif")[0].astype(np.float32)
        for name in ("fast", "slow")
    )
    gain, offset = align.grey_relation(
        align.grey_moments(stages.sample_area(fast, SCALE), stages.sample_area(slow, SCALE))
    )
    window = Intensity(offset, 255 * gain + offset)
    for rows, columns in (
        (slice(0, side), slice(0, side)),
        (slice(0, 513), slice(540, 768)),
        (slice(540, 768), slice(0, 768)),
    ):
        lr, hr = stages.sample_area(fast[rows, columns], SCALE), slow[rows, columns]
        yield pairs(lr, hr, window)


def pairs(lr: np.ndarray, hr: np.ndarray, lr_window: Intensity) -> SimpleNamespace:
    """What drawing patches asks of pairs, of one field."""
    return SimpleNamespace(
        lr=lr[None],
        hr=hr[None],
        hr_slice=np.zeros(1, int),
        hr_z=(0,),
        scale=SCALE,
        lr_window=lr_window,
        hr_window=Intensity(0, 255),
    )


def errors_at(
    step: int, network: torch.nn.Module | None, watch: SimpleNamespace, test: SimpleNamespace
) -> dict[str, Any]:
    """Squared errors (network units) on both fields; without a network, those of bicubic."""
    return {
        "step": step,
        "watch": block_errors(network, watch),
        "test": block_errors(network, test),
    }


def block_errors(network: torch.nn.Module | None, where: SimpleNamespace) -> list[float]:
    """Mean squared error in each whole block of a field."""
    lr = torch.from_numpy(where.lr_window.to_unit(where.lr))[:, None]
    if network is None:
        sr = interpolate(lr, SCALE)
    else:
        network.eval()
        with torch.inference_mode():
            sr = network(lr.to(memory_format=torch.channels_last))
    error = (sr[0, 0].numpy() - where.hr_window.to_unit(where.hr[0])) ** 2
    y, x = (n // BLOCK for n in error.shape)
    blocks = error[: y * BLOCK, : x * BLOCK].reshape(y, BLOCK, x, BLOCK).mean((1, 3))
    return [float(f"{value:.6g}") for value in blocks.ravel()]


if __name__ == "__main__":
    main()
