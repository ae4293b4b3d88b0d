"""How far a network gets: train it once on phantom pairs, score it against the unseen truth.

    python benchmarks/train_once.py --network emsr-tiny --steps 600 --training '{"batch": 4}'

Makes (once, in --work) a training field of 16x384x384 HR voxels and a test field of 4x384x384, of
white matter at scale 3 and other seeds. Prints one line: seconds, parameters, validation PSNR
against the noisy reference, and PSNR of SR and bicubic against the truth of the test field.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from emsr.geometry.box import whole
from emsr.jobs.model import load
from emsr.jobs.prepare import prepare
from emsr.jobs.simulate import simulate
from emsr.jobs.train import train
from emsr.network.frame import interpolate
from emsr.quality.fidelity import psnr
from emsr.recipe import make_recipe, recipe_from
from emsr.volumes.source import open_volume

DEFAULT_WORK = Path(tempfile.gettempdir()) / "emsr-train-once"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="emsr-tiny")
    parser.add_argument("--options", type=json.loads, default={}, help="of the network, as JSON")
    parser.add_argument("--training", type=json.loads, default={}, help="recipe keys, as JSON")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--keep", type=Path, help="where the trained model is copied to")
    arguments = parser.parse_args()
    fields(arguments.work)
    training = {**arguments.training, "steps": arguments.steps}
    training.setdefault("checkpoint_every", arguments.steps)
    table = {"network": arguments.network, "network_options": arguments.options}
    recipe = recipe_from({**table, "training": training, "seed": arguments.seed})
    with tempfile.TemporaryDirectory() as run:
        said = train(arguments.work / "pairs.zarr", Path(run) / "run", recipe)
        sr, bicubic = scores(Path(said["model"]), arguments.work / "test")
        if arguments.keep:
            shutil.copy(said["model"], arguments.keep)
    print(
        f"{arguments.network} {arguments.options} {training}: {said['seconds']:.0f} s, "
        f"{said['parameters']} parameters, validation {said['validation_psnr']:.2f} dB, "
        f"truth {sr:.2f} dB, bicubic {bicubic:.2f} dB, gain {sr - bicubic:+.2f} dB"
    )


def fields(work: Path) -> None:
    if (work / "pairs.zarr").exists():
        return
    simulate(work / "learn", "white-matter", (16, 384, 384), 3, 0, overwrite=True)
    simulate(work / "test", "white-matter", (4, 384, 384), 3, 1, overwrite=True)
    scans = {"hr": work / "learn" / "hr.tif", "lr": work / "learn" / "lr.tif"}
    prepare(out=work / "pairs.zarr", strategy="real", recipe=make_recipe(), **scans)


def scores(model: Path, field: Path) -> tuple[float, float]:
    """PSNR of SR and of bicubic against the truth, of 255 grey levels."""
    lr, truth = read(field / "lr.tif"), read(field / "truth.tif")
    sr = load(model).upscale(lr)
    bicubic = interpolate(torch.from_numpy(lr.astype(np.float32))[:, None], 3)[:, 0].numpy()
    return psnr(sr, truth, 255), psnr(bicubic, truth, 255)


def read(path: Path) -> np.ndarray:
    volume = open_volume(path)
    return volume.read(whole(volume.shape))


if __name__ == "__main__":
    main()
