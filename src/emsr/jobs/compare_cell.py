"""One cell of a comparison: a network trained on a set by a strategy from a seed, and scored.

Every step leaves a file that says it is done, so a killed cell goes on where it was; training
resumes from its own checkpoints.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emsr import __version__
from emsr.errors import InputError
from emsr.files import replacing
from emsr.jobs.compare_fields import DONE, make_field, plane, scan
from emsr.jobs.compare_recipe import BICUBIC, STRATEGIES
from emsr.jobs.compare_sets import DataSet, Images
from emsr.jobs.evaluate import evaluate
from emsr.jobs.prepare import prepare
from emsr.jobs.train import train
from emsr.jobs.upscale import upscale
from emsr.network.cost import flops_per_lr_pixel
from emsr.network.frame import interpolate
from emsr.network.named import build
from emsr.quality.resolution import frc_resolution_nm
from emsr.recipe import Recipe
from emsr.volumes.source import open_volume
from emsr.volumes.tiff import write_tiff

BLOCK_PX = 32
PAIRS_SEED = 0
"""Of the pairs of every cell: seeds of a comparison are those of the training."""


@dataclass(frozen=True, eq=False)
class Cell:
    """What decides one result."""

    data: DataSet
    strategy: str
    network: str
    recipe: Recipe

    @property
    def field_key(self) -> str:
        return f"{self.data.name}-{_hash(asdict(self.data), _stamps(self.data))}"

    @property
    def pairs_key(self) -> str:
        return f"{self.field_key}-{self.strategy}"

    @property
    def key(self) -> str:
        decided = asdict(self.recipe)
        # Without effect on the result; and the bicubic cell has no strategy.
        decided.pop("upscaling")
        facts = (asdict(self.data), _stamps(self.data), self.strategy, self.network, decided)
        return f"{self.data.name}-{self.strategy}-{self.network}-{_hash(*facts)}"


def compute(cell: Cell, folder: Path, device: str) -> None:
    """Write ``cells/KEY.json`` and ``cells/KEY.npy`` (the place that is shown) into ``folder``."""
    result = folder / "cells" / f"{cell.key}.json"
    if result.exists():
        return
    field, work = folder / "fields" / cell.field_key, folder / "work" / cell.key
    make_field(cell.data, field)
    work.mkdir(parents=True, exist_ok=True)
    sr, facts = _upscaled(cell, folder, field, work, device)
    test = field / "test"
    target = scan(test, "truth") or test / "hr.tif"
    scores = evaluate(
        sr,
        test / "hr.tif",
        work / "evaluation",
        repeat=scan(test, "hr_repeat"),
        truth=scan(test, "truth"),
        overwrite=True,
    )
    shown = json.loads((field / DONE).read_text())
    (y, x), (height, width) = shown["corner"], shown["size"]
    crop = plane(Path(sr), shown["z"])[y : y + height, x : x + width]
    (folder / "cells").mkdir(exist_ok=True)
    with replacing(result.with_suffix(".npy")) as aside, aside.open("wb") as file:
        np.save(file, crop)
    found = {
        "data": cell.data.name,
        "strategy": cell.strategy,
        "network": cell.network,
        "seed": cell.recipe.seed,
        **facts,
        "scores": _kept(scores, shares_noise(cell.data)),
        "against": "truth" if scan(test, "truth") else "reference",
        "data_range": scores["data_range"],
        "blocks": _blocks(Path(sr), target),
    }
    with replacing(result) as aside:
        aside.write_text(json.dumps(found, allow_nan=False))
    shutil.rmtree(work / "sr.ome.zarr", ignore_errors=True)  # the largest of what is made


def _upscaled(
    cell: Cell, folder: Path, field: Path, work: Path, device: str
) -> tuple[str, dict[str, Any]]:
    """Path of the SR volume, and what it cost."""
    lr = field / "test" / "lr.tif"
    if cell.network == BICUBIC:
        return _bicubic(lr, work / "sr.tif", cell.data.scale)
    pairs = _pairs(cell, folder, field)
    said = _trained(pairs, work / "run", cell.recipe, device)
    out = work / "sr.ome.zarr"
    done = upscale(lr, said["model"], out, upscaling=cell.recipe.upscaling, device=device)
    network = build(cell.network, cell.data.scale, cell.recipe.network_options)
    return str(out), {
        "training_seconds": said.get("seconds", 0.0),
        "steps": said["steps"],
        "best_step": said.get("best_step"),
        "parameters": sum(p.numel() for p in network.parameters()),
        "mflop_per_lr_pixel": flops_per_lr_pixel(network) / 1e6,
        "seconds_per_mpx": done["seconds"] / (done["voxels"] / 1e6),
        "warnings": said.get("warnings", []),
    }


def _bicubic(lr: Path, out: Path, scale: int) -> tuple[str, dict[str, Any]]:
    """Interpolation in grey levels, neither rounded nor clipped."""
    volume = open_volume(lr)
    began = time.monotonic()
    low = torch.from_numpy(np.stack([plane(lr, z) for z in range(volume.shape[0])]))[:, None]
    high = interpolate(low, scale)[:, 0].numpy()
    seconds = time.monotonic() - began
    nm = volume.spacing_nm
    finer = nm and (nm[0], nm[1] / scale, nm[2] / scale)
    z, y, x = high.shape
    write_tiff(out, high, (z, y, x), high.dtype, finer)
    free = {"training_seconds": 0.0, "steps": 0, "parameters": 0, "mflop_per_lr_pixel": 0.0}
    return str(out), {**free, "seconds_per_mpx": seconds / (high.size / 1e6), "warnings": []}


def _pairs(cell: Cell, folder: Path, field: Path) -> Path:
    """Pairs of the set by the strategy, made by the first cell that needs them."""
    out = folder / "pairs" / f"{cell.pairs_key}.zarr"
    done = out.with_suffix(".json")
    if done.exists():
        return out
    out.parent.mkdir(exist_ok=True)
    strategy, further = STRATEGIES[cell.strategy]
    learn = field / "learn"
    low = learn / "lr.tif"
    said = prepare(
        learn / "hr.tif",
        out,
        strategy,
        lr=low if strategy in ("real", "denoised") else None,
        repeat=learn / "hr_repeat.tif" if further == "repeat" else None,
        calibrate=(scan(learn, "lr") or field / "test/lr.tif") if further == "calibrate" else None,
        recipe=Recipe(scale=cell.data.scale, seed=PAIRS_SEED),
        overwrite=True,
    )
    with replacing(done) as aside:
        aside.write_text(json.dumps({"lines": said["lines"], "warnings": said["warnings"]}))
    return out


def _trained(pairs: Path, run: Path, recipe: Recipe, device: str) -> dict[str, Any]:
    try:
        return train(pairs, run, recipe, resume=True, device=device)
    except InputError:
        # A run of pairs that were made anew, or a damaged one; other faults come again.
        return train(pairs, run, recipe, overwrite=True, device=device)


def shares_noise(data: DataSet) -> bool:
    """Whether LR was made from the very reference, so that SR inherits its noise."""
    return isinstance(data, Images) and data.made_lr is not None and not data.made_lr.recorrupt


def _kept(scores: dict[str, Any], shared: bool) -> dict[str, Any]:
    """The scores that a table or a curve is made of; those against the clean image are left out
    where the noise of reference and SR is ``shared``."""
    keys = ("psnr", "ssim", "frc_resolution_nm", "clean_psnr", "clean_psnr_interval", "clean_ssim")
    found: dict[str, Any] = {key: scores.get(key) for key in keys}
    found |= {"frc": scores["frc"], "reason": scores["reason"]}
    if shared:
        found |= dict.fromkeys(keys[3:])
    found["frc_resolution_px"] = _px(scores)
    if "truth" in scores:
        truth = scores["truth"]
        found["truth"] = {key: truth[key] for key in (*keys[:3], "frc")}
        found["truth"]["frc_resolution_px"] = _px(truth)
    return found


def _px(scores: dict[str, Any]) -> float | None:
    frc = scores["frc"]
    n_px = round(1 / frc["frequency_per_px"][1])
    return frc_resolution_nm(np.array(frc["correlation"]), n_px, 1.0)


def _blocks(sr: Path, target: Path) -> list[list[float]]:
    """(sum of squared errors, pixels) of columns of 32 x 32 pixels through all slices: what the
    paired bootstrap draws. Slices of one place are alike, so they stay together."""
    errors: list[np.ndarray] = []
    for z in range(open_volume(target).shape[0]):
        errors.append((plane(sr, z).astype(np.float64) - plane(target, z)) ** 2)
    total = np.sum(errors, axis=0)
    rows, columns = (np.arange(0, n, BLOCK_PX) for n in total.shape)
    sums = np.add.reduceat(np.add.reduceat(total, rows, axis=0), columns, axis=1)
    heights, widths = (
        np.diff(np.append(starts, n))
        for starts, n in zip((rows, columns), total.shape, strict=True)
    )
    pixels = np.outer(heights, widths) * len(errors)
    blocks: list[list[float]] = np.stack([sums.ravel(), pixels.ravel()], axis=1).tolist()
    return blocks


def _stamps(data: DataSet) -> list[Any]:
    """Size and time of the files of a set: changed images are another set."""
    paths = [
        getattr(part, key, None)
        for part in (data.train, data.test)
        for key in ("hr", "lr", "repeat")
    ]
    return [[(s := Path(p).stat()).st_size, s.st_mtime_ns] for p in paths if p is not None]


def _hash(*facts: Any) -> str:
    said = json.dumps([__version__, *facts], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:10]
