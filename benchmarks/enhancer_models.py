"""Networks of scale 1 that clean HR scans, one for each answer to "what causes the effect".

All see the same HR scan of the phantoms of fields.py; they differ in what it is compared with:

    repeat   a second scan of the field: noise of its own (Noise2Noise)
    split    the other half of the same scan, recorrupted: noise of its own, from one scan
    clean    the truth: no noise at all (only phantoms have one)
    shared   the scan that the input was made from by adding a little noise: its noise is shared
"""

from __future__ import annotations

from pathlib import Path

from cells import Cell, run_all
from fields import made

from emsr.jobs.prepare import prepare
from emsr.recipe import recipe_from

KINDS = ("repeat", "split", "clean", "shared")
STEPS = 500
TRAINING = {
    "patch_px": 32,
    "warmup_steps": 50,
    "patience": 0,
    "batch": 4,
    "learning_rate": 2e-3,
    "steps": STEPS,
}
BLUR = {"blur_sigma_px": [0.0, 0.0], "variants": 1}
NOISE = {"split": [0.0, 0.0], "shared": [0.02, 0.04]}
"""Added to the input, as a share of the grey window; the split adds its own."""
Wanted = tuple[str, str, str]
"""(phantom, kind, loss)."""


def trained_cleaners(wanted: list[Wanted], work: Path, data: Path, jobs: int) -> dict[Wanted, Path]:
    """Model files of scale 1, training what ``work`` lacks."""
    cells = {key: _cell(*key, work, data) for key in wanted}
    run_all(list(cells.values()), work, data, jobs)
    return {key: work / "cells" / f"{cell.key}.safetensors" for key, cell in cells.items()}


def _cell(phantom: str, kind: str, loss: str, work: Path, data: Path) -> Cell:
    name = f"{phantom}-{kind}"
    if not (work / name / "pairs.zarr").exists():
        _field(work / name, made(work, phantom, data), kind)
    return Cell(name, "emsr-lean", {}, TRAINING | {"loss": loss}, 0)


def _field(folder: Path, phantom: Path, kind: str) -> None:
    (folder / "test").mkdir(parents=True, exist_ok=True)
    for name, of in (("lr", "hr"), ("reference", "truth")):
        (folder / f"test/{name}.tif").unlink(missing_ok=True)
        (folder / f"test/{name}.tif").symlink_to((phantom / f"test/{of}.tif").resolve())
    learn = phantom / "learn"
    scans, strategy = {"hr": learn / "hr.tif"}, "synthetic" if kind == "shared" else kind
    if kind in ("repeat", "clean"):
        target = {"repeat": "hr_repeat", "clean": "truth"}[kind]
        scans, strategy = {"lr": learn / "hr.tif", "hr": learn / f"{target}.tif"}, "real"
    degradation = BLUR | {"noise_sigma": NOISE.get(kind, [0.0, 0.0])}
    recipe = recipe_from({"scale": 1, "degradation": degradation})
    prepare(
        out=folder / "pairs.zarr",
        strategy=strategy,
        scale=1,
        recipe=recipe,
        overwrite=True,
        **scans,
    )
