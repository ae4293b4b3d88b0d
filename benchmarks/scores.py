"""Are the scores against the unseen clean image right? On the phantom, where it is known.

    OMP_NUM_THREADS=1 python benchmarks/scores.py --work DIR [--draws 40] [--only PRESET ...]

Three networks (of trained.py) enlarge one LR scan of each phantom's test field; their SR is fixed.
The field's HR scans are drawn anew ``--draws`` times at each dose. Each draw has its PSNR estimated
with its repeat; every eighth its SSIM too, and both alone (noise from adjacent slices, and from one
slice). Prints the tables of docs/scores.md: bias, scatter, how often the 95 % interval holds the
truth, how often the score is null. Draws that were done before are kept in ``--work``/scores.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import bicubic_of
from fields import PHANTOMS, made, read
from trained import trained

from emsr.jobs.model import load
from emsr.jobs.reference_noise import reference_noise
from emsr.microscope.presets import PRESETS, hr_scan
from emsr.microscope.stages import poisson_gaussian, quantise
from emsr.quality.blocks import side_for
from emsr.quality.clean import Clean
from emsr.quality.fidelity import psnr, ssim
from emsr.quality.known import Known
from emsr.quality.reference_free import clean_psnr_from_repeat
from emsr.volumes.source import array_volume

DOSES = (0.25, 1.0, 4.0)
FULL_SCALE = 255.0
FIELDS = {"whole": (slice(None), slice(None)), "128": (slice(1, 2), slice(128, 256))}
"""Slices, and rows and columns: all, and one slice of 128 x 128."""
ALL_EVERY = 8
"""Draws from one to the next that is scored in every way; the others have their PSNR estimated with
the repeat alone, which is quick, so that its coverage rests on many."""
KEPT = ("clean_psnr", "clean_psnr_interval", "clean_ssim", "clean_ssim_interval")
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", type=Path, help="Work folder of trained.py, if another.")
    default = os.environ.get("EMSR_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--only", choices=PHANTOMS, nargs="+", default=list(PHANTOMS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    results = arguments.work / "scores.jsonl"
    models = arguments.models or arguments.work
    images = {preset: enlarged(models, arguments.data, preset) for preset in arguments.only}
    for draw, preset, dose in product(range(arguments.draws), arguments.only, DOSES):
        with results.open("a") as file:
            if [preset, dose, draw] not in _done(results):
                rows = scored(preset, dose, draw, images[preset])
                file.write("".join(json.dumps(row) + "\n" for row in rows))
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    for field in FIELDS:
        for key in ("psnr", "ssim"):
            print(f"\nclean_{key}, field {field}\n")
            print("\n".join(table([row for row in rows if row["field"] == field], key)))
    print("\n".join(pooled(rows)))


def enlarged(models: Path, data: Path, preset: str) -> dict[str, np.ndarray]:
    """The truth, bicubic, and the SR of each network ``(z, y, x)``, in float64."""
    test = made(models, preset, data) / "test"
    lr = read(test / "lr.tif")
    images = {"truth": read(test / "truth.tif"), "bicubic": bicubic_of(lr)}
    for (_, network), model in trained(models, data, fields=(preset,)).items():
        images[network] = load(model).upscale(lr)
    return {name: image.astype(np.float64) for name, image in images.items()}


def scored(preset: str, dose: float, draw: int, images: dict[str, np.ndarray]) -> Iterator[Row]:
    """A row for each image, field and source of the noise."""
    rng = np.random.default_rng([draw, int(100 * dose), PHANTOMS.index(preset)])
    scan, truth = hr_scan(PRESETS[preset]), images["truth"]
    # As many times the electrons, each of which counts for less: the same greys, another noise.
    exposure = (scan.gain / dose, scan.offset, scan.read_noise, rng)
    scans = [quantise(poisson_gaussian(truth, *exposure), "uint8") for _ in range(2)]
    for field, (z, yx) in FIELDS.items():
        hr, repeat = (image[z, yx, yx] for image in scans)
        for source, known in _sources(hr, draw):
            for name, image in images.items():
                if name == "truth":
                    continue
                sr, clean = image[z, yx, yx], truth[z, yx, yx]
                yield {
                    "preset": preset,
                    "dose": dose,
                    "draw": draw,
                    "field": field,
                    "source": source,
                    "image": name,
                    "psnr": psnr(sr, clean, FULL_SCALE),
                    "ssim": ssim(sr, clean, FULL_SCALE),
                    **(
                        _estimates(sr, hr, repeat if source == "repeat" else None, known)
                        if draw % ALL_EVERY == 0
                        else _quick(sr, hr, repeat)
                    ),
                }


def _sources(hr: np.ndarray, draw: int) -> Iterator[tuple[str, Known]]:
    yield "repeat", Known()
    for source, scan in (("slices", hr), ("one slice", hr[:1])):
        if draw % ALL_EVERY == 0 and (source == "one slice" or len(hr) > 2):
            law, why = reference_noise(array_volume(scan, None, "hr"))
            yield source, Known(law, why)


def _estimates(
    sr: np.ndarray, hr: np.ndarray, repeat: np.ndarray | None, known: Known
) -> dict[str, Any]:
    slices, height, width = hr.shape
    clean = Clean(FULL_SCALE, known, side_for((slices, height, width)))
    noisy = []
    for z, plane in enumerate(sr):
        other = None if repeat is None else repeat[z].astype(np.float64)
        clean.add(plane, hr[z].astype(np.float64), other)
        noisy.append(ssim(plane, hr[z].astype(np.float64), FULL_SCALE))
    found = clean.scores(float(np.mean(noisy)), seed=0)
    kept = {key: found[key] for key in KEPT}
    return {**kept, "noisy_ssim": float(np.mean(noisy)), "reason": found["reason"]}


def _quick(sr: np.ndarray, hr: np.ndarray, repeat: np.ndarray) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    value, interval = clean_psnr_from_repeat(sr, hr, repeat, FULL_SCALE, rng)
    return {"clean_psnr": value, "clean_psnr_interval": interval}


def table(rows: list[Row], key: str) -> Iterator[str]:
    """One line for each preset, dose and source of the noise, networks pooled, bicubic apart."""
    yield "| phantom | dose | noise from | image | truth | bias | scatter | covered | null |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    cells: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if f"clean_{key}" in row:
            image = "bicubic" if row["image"] == "bicubic" else "networks"
            cells[row["preset"], row["dose"], row["source"], image].append(row)
    for cell, some in cells.items():
        preset, dose, source, image = cell
        found = [row for row in some if row[f"clean_{key}"] is not None]
        truth = np.mean([row[key] for row in some])
        line = f"| {preset} | {dose:g} | {source} | {image} | {truth:.{_digits(key)}f} | "
        yield line + f"{_figures(found, key)} | {1 - len(found) / len(some):.0%} |"


def pooled(rows: list[Row]) -> Iterator[str]:
    """How often the interval of ``clean_psnr`` with a repeat holds the truth, over all draws."""
    for field in FIELDS:
        some = [row for row in rows if row["field"] == field and row["source"] == "repeat"]
        held = [_holds(row["clean_psnr_interval"], row["psnr"]) for row in some]
        yield f"{field}: {np.mean(held):.1%} of {len(held)} intervals hold the truth"


def _figures(found: list[Row], key: str) -> str:
    if not found:
        return "– | – | –"
    digits = _digits(key)
    apart = np.array([row[f"clean_{key}"] - row[key] for row in found])
    held = np.mean([_holds(row[f"clean_{key}_interval"], row[key]) for row in found])
    return f"{apart.mean():+.{digits}f} | {apart.std():.{digits}f} | {held:.0%}"


def _holds(interval: list[float | None], value: float) -> bool:
    low, high = interval
    return (low is None or low <= value) and (high is None or value <= high)


def _digits(key: str) -> int:
    return 2 if key == "psnr" else 4


def _done(results: Path) -> list[list[Any]]:
    rows = (json.loads(line) for line in results.read_text().splitlines())
    return [[row["preset"], row["dose"], row["draw"]] for row in rows]


if __name__ == "__main__":
    main()
