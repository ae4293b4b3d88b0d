"""``emsr demo``: the whole route on a phantom, from two scans to a report, in minutes on a CPU."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from emsr.errors import InputError
from emsr.files import refuse_overlap
from emsr.jobs.evaluate import evaluate
from emsr.jobs.listener import SILENT, Listener
from emsr.jobs.prepare import prepare
from emsr.jobs.simulate import simulate
from emsr.jobs.train import train
from emsr.jobs.upscale import upscale
from emsr.recipe import DEMO, Demo

MARK = "made-by-emsr-demo"


def demo(
    out: str | Path,
    *,
    overwrite: bool = False,
    settings: Demo = DEMO,
    listener: Listener = SILENT,
) -> dict[str, Any]:
    """Simulate a training and a test field, train on noisy pairs of the first, super-resolve the
    LR scan of the second and score the result against its unseen truth.

    Everything lies in the directory ``out``. Returns the scores of SR and bicubic against the
    truth, the seconds it took, and the path of the report.
    """
    began = time.monotonic()
    refuse_overlap(out)
    folder = _fresh(Path(out), overwrite)
    recipe, preset, scale = settings.recipe, settings.preset, settings.scale
    learn, test = folder / "training-field", folder / "test-field"
    pairs, run, sr = folder / "pairs.zarr", folder / "run", folder / "sr.ome.zarr"
    listener.say("1/5 scanning two fields of a phantom, at LR and twice at HR")
    simulate(learn, preset, settings.shape, scale, recipe.seed, listener=listener)
    simulate(test, preset, settings.test_shape, scale, recipe.seed + 1, listener=listener)
    listener.say("2/5 pairing the noisy LR and HR scans of the training field")
    prepare(learn / "hr.tif", pairs, "real", lr=learn / "lr.tif", recipe=recipe, listener=listener)
    listener.say(f"3/5 training {recipe.network}: no clean image is shown to it")
    train(pairs, run, recipe, listener=listener)
    listener.say("4/5 super-resolving the LR scan of the test field")
    upscale(
        test / "lr.tif",
        run / "model.safetensors",
        sr,
        upscaling=recipe.upscaling,
        listener=listener,
    )
    listener.say("5/5 scoring it against the test field's HR scan and its unseen truth")
    scores = evaluate(
        sr,
        test / "hr.tif",
        folder / "evaluation",
        repeat=test / "hr_repeat.tif",
        lr=test / "lr.tif",
        truth=test / "truth.tif",
        listener=listener,
    )
    return _summary(scores, folder, time.monotonic() - began)


def _fresh(folder: Path, overwrite: bool) -> Path:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give --out a directory")
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise InputError(f"{folder} holds other files: give --out a new or an empty directory")
        if not overwrite:
            raise InputError(f"{folder} holds an earlier demo: give --overwrite or another --out")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    return folder


def _summary(scores: dict[str, Any], folder: Path, seconds: float) -> dict[str, Any]:
    sr, bicubic = scores["truth"], scores["bicubic"]["truth"]
    gain = sr["psnr"] - bicubic["psnr"]
    report = str(folder / "evaluation" / "report.html")
    return {
        "psnr_against_truth": sr["psnr"],
        "bicubic_psnr_against_truth": bicubic["psnr"],
        "gain_db": gain,
        "frc_resolution_nm": sr["frc_resolution_nm"],
        "bicubic_frc_resolution_nm": bicubic["frc_resolution_nm"],
        "seconds": round(seconds, 1),
        "report": report,
        "lines": [
            f"Super-resolution is {gain:+.1f} dB from bicubic interpolation against the clean "
            f"truth, which nothing was trained on ({sr['psnr']:.1f} against "
            f"{bicubic['psnr']:.1f} dB PSNR).",
            f"It resolves {_nm(sr['frc_resolution_nm'])}; bicubic interpolation resolves "
            f"{_nm(bicubic['frc_resolution_nm'])} (Fourier ring correlation with the truth, 1/7).",
            f"From noisy scans to this report it took {seconds:.0f} s; everything is in {folder}.",
            f"Open the report: {report}",
        ],
    }


def _nm(resolution: float | None) -> str:
    return "down to the pixel" if resolution is None else f"{resolution:.0f} nm"
