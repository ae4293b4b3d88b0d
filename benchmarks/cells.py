"""Training runs side by side, each kept once it is done: a stopped benchmark goes on.

A cell is one network trained on one field with one seed. ``run_all`` runs cells in processes of one
thread each and returns their results; ``work/cells`` keeps a result and a model file per cell.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fields import NAMES, made, read

from emsr.jobs.model import load
from emsr.jobs.train import train
from emsr.network.fit import fit, start
from emsr.network.frame import interpolate
from emsr.network.named import build
from emsr.quality.fidelity import psnr, ssim
from emsr.quality.resolution import frc, frc_resolution_nm
from emsr.recipe import recipe_from

SCALE, FULL_SCALE = 3, 255.0


@dataclass(frozen=True)
class Cell:
    """One training run. ``training`` holds recipe keys, the steps among them."""

    data: str
    network: str
    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def key(self) -> str:
        said = json.dumps(asdict(self), sort_keys=True)
        return f"{self.data}-{self.network}-{hashlib.sha256(said.encode()).hexdigest()[:10]}"


def run_all(cells: list[Cell], work: Path, data: Path, jobs: int) -> list[dict[str, Any]]:
    """The results of ``cells``, those computed before included, ``jobs`` at a time."""
    for name in {cell.data for cell in cells} & set(NAMES):
        made(work, name, data)
    (work / "cells").mkdir(exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda cell: _in_process(cell, work), cells))


def _in_process(cell: Cell, work: Path) -> dict[str, Any]:
    result = work / "cells" / f"{cell.key}.json"
    if not result.exists():
        command = [sys.executable, __file__, json.dumps(asdict(cell)), str(work)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found = json.loads(result.read_text())
    print(f"{cell.key} {cell.training} seed {cell.seed}: {found['scores']}", flush=True)
    return found


def run(cell: Cell, work: Path) -> None:
    """Train and score one cell, and keep both."""
    folder, kept = work / cell.data, work / "cells"
    training = {"checkpoint_every": cell.training["steps"], **cell.training}
    table = {"network": cell.network, "network_options": cell.options, "seed": cell.seed}
    out = kept / f"{cell.key}.run"
    said = train(
        folder / "pairs.zarr", out, recipe_from({**table, "training": training}), overwrite=True
    )
    model = kept / f"{cell.key}.safetensors"
    Path(said["model"]).replace(model)
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    result = {
        **asdict(cell),
        "parameters": said.get("parameters", 0),
        "seconds": said.get("seconds"),
        "bicubic_validation": said.get("bicubic_psnr"),
        "history": history,
        "scores": scores(model, folder / "test"),
    }
    (kept / f"{cell.key}.json").write_text(json.dumps(result))


def scores(model: Path, test: Path, lr: np.ndarray | None = None) -> dict[str, float | None]:
    """PSNR, SSIM and FRC (1/7, nm) of the SR of a test field against its reference."""
    reference = read(test / "reference.tif")
    sr = load(model, precision="bf16").upscale(read(test / "lr.tif") if lr is None else lr)
    return against(sr, reference, load(model).header.hr_spacing_nm)


def against(sr: np.ndarray, reference: np.ndarray, spacing_nm: Any) -> dict[str, float | None]:
    """The scores of one SR volume."""
    pixel = spacing_nm[2] if spacing_nm else 1.0
    return {
        "psnr": psnr(sr, reference, FULL_SCALE),
        "ssim": ssim(sr, reference, FULL_SCALE),
        "frc_nm": frc_resolution_nm(frc(sr, reference), min(sr.shape[1:]), pixel),
    }


def bicubic_of(lr: np.ndarray) -> np.ndarray:
    """``(z, y, x)`` LR interpolated slice by slice."""
    return interpolate(torch.from_numpy(lr.astype(np.float32))[:, None], SCALE)[:, 0].numpy()


def step_seconds(network: str, options: dict[str, Any], training: dict[str, Any]) -> float:
    """Seconds of one training step on one thread: the least of ten after a first one."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rule = recipe_from({"network": network, "training": {**training, "steps": 11}}).training
    side, batch = rule.patch_px, rule.batch
    net = build(network, SCALE, options)
    run_ = start(net, rule, torch.device("cpu"))
    slices = getattr(net, "slices", 1)
    rng = np.random.default_rng(0)
    lr = rng.random((batch, slices, side, side), np.float32)
    hr = rng.random((batch, 1, side * SCALE, side * SCALE), np.float32)
    times = [time.perf_counter()]

    def note(_step: int, _note: str) -> None:
        times.append(time.perf_counter())

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        fit(run_, lambda _: (lr, hr), lambda _: 0.0, rule, 0, Path(folder), note)
    return float(np.min(np.diff(times)[1:]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Cell(**json.loads(sys.argv[1])), Path(sys.argv[2]))
