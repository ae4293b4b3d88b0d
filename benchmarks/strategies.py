"""One table of strategies: how good a network gets that learned from pairs made in each way.

    python benchmarks/strategies.py --work DIR [--field white-matter] [--seeds 3] [--steps 500]

Every way starts from the same scans of the same field (see fields.py), trains ``emsr-lean`` with l1
and with l2 by the same loop, and is scored on LR scans of a field that nothing was trained on:
against the truth on the phantoms, against the independent slow scan on ``fast-slow``, and on
``sbem`` against a target whose noise is independent of the LR scan (see ``_sbem``). A stopped run
goes on: results lie in ``--work``, to be removed when strategies or training change.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
from cells import SCALE, Cell, against, bicubic_of, run_all
from fields import PHANTOMS, made, read
from networks import SCORES, spread

from emsr.errors import InputError
from emsr.jobs.prepare import prepare
from emsr.microscope.estimate import noise_from_slices
from emsr.microscope.stages import blur, gaussian_kernel, gaussian_noise, sample_area
from emsr.pairs.recorrupt import recorrupt
from emsr.pairs.store import open_pairs
from emsr.recipe import recipe_from
from emsr.volumes.source import open_volume
from emsr.volumes.tiff import write_tiff

FIELDS = (*PHANTOMS, "white-matter-quiet", "fast-slow", "sbem")
SBEM_BLUR_PX, SBEM_NOISE = 1.0, 12.0
Way = dict[str, Any]
WAYS: dict[str, Way] = {
    "real": {"strategy": "real"},
    "denoised, nlm": {"strategy": "denoised", "denoiser": "nlm"},
    "denoised, blind": {"strategy": "denoised", "denoiser": "blind"},
    "denoised, slices": {"strategy": "denoised", "denoiser": "slices"},
    "synthetic": {"strategy": "synthetic"},
    "synthetic, calibrated": {"strategy": "synthetic", "calibrate": "learn/lr.tif"},
    "synthetic, calibrated elsewhere": {"strategy": "synthetic", "calibrate": "test1/lr.tif"},
    "synthetic, repeat as target": {"strategy": "synthetic", "repeat": "learn/hr_repeat.tif"},
    "split": {"strategy": "split"},
    "split, calibrated": {"strategy": "split", "calibrate": "learn/lr.tif"},
}
TRAINING = {
    **{"batch": 4, "patch_px": 32, "warmup_steps": 50, "learning_rate": 2e-3},
    **{"second_view": False, "patience": 0},  # the theory does not cover the second view
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    default = os.environ.get("EMSR_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--field", choices=FIELDS, action="append")
    parser.add_argument("--way", choices=WAYS, action="append")
    parser.add_argument("--loss", choices=("l1", "l2"), action="append")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    for field in arguments.field or FIELDS:
        prepared = {
            way: name
            for way in arguments.way or WAYS
            if (name := pairs_of(arguments.work, arguments.data, field, way))
        }
        cells = [
            Cell(
                name,
                "emsr-lean",
                {},
                {**TRAINING, "steps": arguments.steps, "loss": loss},
                seed,
            )
            for seed in range(arguments.seeds)
            for name in prepared.values()
            for loss in arguments.loss or ("l1", "l2")
        ]
        results = run_all(cells, arguments.work, arguments.data, arguments.jobs)
        table(arguments.work, field, prepared, results)


def pairs_of(work: Path, data: Path, field: str, way: str) -> str | None:
    """The folder, below ``work``, of the pairs made that ``way``; None where a scan is missing."""
    source = _sbem(work, data) if field == "sbem" else made(work, field, data)
    name = f"{field}~{way.replace(', ', '-').replace(' ', '-')}"
    folder = work / name
    if not (folder / "pairs.zarr").exists():
        asked = dict(WAYS[way])
        learn = source / "learn"
        of_phantom = work / "white-matter" / "learn/hr.tif"  # the quiet field has LR scans only
        scans: dict[str, Any] = {
            "hr": _first(learn / "hr.tif", learn / "reference.tif", of_phantom)
        }
        if asked["strategy"] in ("real", "denoised"):
            scans["lr"] = learn / "lr.tif"
        scans |= {key: source / asked.pop(key) for key in ("calibrate", "repeat") if key in asked}
        if not all(path.exists() for path in scans.values()):
            return None
        method = {"denoising": {"method": asked["denoiser"]}} if "denoiser" in asked else {}
        recipe = recipe_from({"scale": SCALE, **method})
        folder.mkdir(parents=True, exist_ok=True)
        try:
            said = prepare(
                out=folder / "pairs.zarr", strategy=asked["strategy"], recipe=recipe, **scans
            )
        except InputError as error:
            print(f"{field}, {way}: {error}")
            return None
        print(f"{name}: {said['lines']} {said['warnings']}", flush=True)
        (folder / "test").symlink_to((source / "test").absolute())
    return name


def _first(*paths: Path) -> Path:
    return next((path for path in paths if path.exists()), paths[0])


def _sbem(work: Path, data: Path) -> Path:
    """SBEM: the HR stack z020-039 to learn from; to test, the stack z080-090, each slice of which
    is recorrupted into an image that LR is made from and a reference with noise of its own."""
    folder = work / "sbem"
    if not (folder / "test/reference.tif").exists():
        (folder / "learn").mkdir(parents=True, exist_ok=True)
        (folder / "test").mkdir(exist_ok=True)
        scans = data / "sbem-neural-noisy"
        spacing = open_volume(scans / "z080-090.tif").spacing_nm
        hr = read(scans / "z020-039.tif")[:, :1023, :1023]
        write_tiff(folder / "learn/hr.tif", hr, hr.shape, hr.dtype, spacing)
        test = read(scans / "z080-090.tif")[:, :1023, :1023].astype(np.float32)
        rng = np.random.default_rng(0)
        given, reference = recorrupt(test, noise_from_slices(test).sigma, 0.7, rng)
        low = sample_area(blur(given, gaussian_kernel(SBEM_BLUR_PX, SBEM_BLUR_PX, 0.0)), SCALE)
        low = gaussian_noise(low, SBEM_NOISE, rng)
        nm = spacing and (spacing[0], spacing[1] * SCALE, spacing[2] * SCALE)
        write_tiff(folder / "test/lr.tif", low, low.shape, low.dtype, nm)
        write_tiff(
            folder / "test/reference.tif", reference, reference.shape, reference.dtype, spacing
        )
    return folder


def table(work: Path, field: str, prepared: dict[str, str], results: list[dict[str, Any]]) -> None:
    """Print the rows of one field as Markdown; lowest and highest over the seeds in brackets."""
    test = work / next(iter(prepared.values())) / "test"
    reference = read(test / "reference.tif")
    plain = against(
        bicubic_of(read(test / "lr.tif")),
        reference,
        open_volume(test / "reference.tif").spacing_nm,
    )
    scores = "PSNR dB | SSIM | FRC"
    print(f"\n{field}\n\n| pairs | correlation | l1: {scores} | l2: {scores} |")
    print("| --- " * 8 + "|")
    print(f"| bicubic | | {' | '.join(spread([plain[k]], d) for k, d in SCORES)} | | | |")
    for way, name in prepared.items():
        correlation = open_pairs(work / name / "pairs.zarr").noise_correlation
        cells = []
        for loss in ("l1", "l2"):
            rows = [r for r in results if r["data"] == name and r["training"]["loss"] == loss]
            cells += [spread([row["scores"][key] for row in rows], d) for key, d in SCORES]
        said = "" if correlation is None else f"{correlation:.2f}"
        print(f"| {way} | {said} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
