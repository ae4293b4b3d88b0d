"""docs/theory.md, run: a small network trained against references of many kinds.

    python experiments/theory.py --work DIR [--budget MINUTES] [--seeds 2] [--figure PNG]

White-matter phantom, scale 3. For one seed all references share the network's first weights, the
patches and the noise of the inputs (see ``references.py``), so that each run is compared with the
one on clean references. The loss has its first term alone, but for one row. Scored against the
truth of a field that is not trained on. Prints one markdown table. ``--budget`` (minutes on one
core, 8) decides the number of steps. A stopped run goes on; ``work/runs`` keeps each result.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
from references import KINDS, REACH_PX, SCALE, SIDE_PX, SIGMA, Batch, lr_scan
from skimage.restoration import denoise_nl_means
from theory_report import LOSSES, Result, draw, paired, print_table

from emsr.files import replacing
from emsr.microscope.presets import PRESETS, SUPERSAMPLING, hr_scan
from emsr.microscope.scan import expected
from emsr.microscope.stages import gaussian_noise
from emsr.microscope.tissue import tissue
from emsr.network.fit import fit, start
from emsr.network.named import build
from emsr.pairs.patches import turned
from emsr.recipe import Training

PRESET = "white-matter"
LEARN, TEST = ((16, 384, 384), 0), ((4, 384, 384), 2)
"""HR voxels (z, y, x) and seed."""
FULL_SCALE = 255.0
NETWORK, OPTIONS = "emsr-lean", {"features": 16, "blocks": 4}
BATCH = 4
STEPS_PER_MINUTE = 3900
"""On one slow core, drawing included."""
LEARNING_RATE = 4e-3
DENOISED_SIGMA = 20.0
VIEW_NOISE = (0.0, 5 / FULL_SCALE)
"""The paper's."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--budget", type=float, default=8.0)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = [
        (kind, loss, seed) for seed in range(arguments.seeds) for kind in KINDS for loss in LOSSES
    ]
    steps = max(1, round(arguments.budget * STEPS_PER_MINUTE / len(runs)))
    results = [result(arguments.work, *run, steps) for run in runs]
    pairs = paired(results, field(arguments.work, *TEST), test_lr(arguments.work))
    print_table(pairs)
    if arguments.figure:
        draw(pairs, test_lr(arguments.work), arguments.figure)


def result(work: Path, kind: str, loss: str, seed: int, steps: int) -> Result:
    """One run, computed or read back."""
    path = work / "runs" / f"{kind}-{loss}-{seed}-{steps}"
    if not path.with_suffix(".json").exists():
        began = time.monotonic()
        sr = upscaled(trained(work, kind, loss, seed, steps), test_lr(work))
        path.parent.mkdir(exist_ok=True)
        save(path.with_suffix(".npy"), sr)
        said = {"kind": kind, "loss": loss, "seed": seed, "steps": steps}
        said["seconds"] = round(time.monotonic() - began, 1)
        with replacing(path.with_suffix(".json")) as partial:
            partial.write_text(json.dumps(said))
        print(said, flush=True)
    return Result(kind, loss, seed, np.load(path.with_suffix(".npy")))


@cache
def field(work: Path, shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """What endless HR scans of a block of tissue show on average, (z, y, x) grey levels."""
    path = work / f"field-{seed}.npy"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        preset = PRESETS[PRESET]
        z, y, x = preset.spacing_nm
        fine = (shape[0], shape[1] * SUPERSAMPLING, shape[2] * SUPERSAMPLING)
        block = tissue(PRESET, fine, (z, y / SUPERSAMPLING, x / SUPERSAMPLING), seed)
        planes = [expected(block.render(k, k + 1)[0], hr_scan(preset)) for k in range(shape[0])]
        save(path, np.stack(planes))
    return np.asarray(np.load(path))


@cache
def one_scan(work: Path, sigma: float) -> np.ndarray:
    """One noisy scan of the whole training field."""
    return gaussian_noise(field(work, *LEARN), sigma, np.random.default_rng([int(sigma), 1]))


@cache
def denoised(work: Path) -> np.ndarray:
    """One noisy scan of the training field, denoised slice by slice by non-local means."""
    path = work / "denoised.npy"
    if not path.exists():
        sigma = DENOISED_SIGMA
        planes = [
            denoise_nl_means(plane, 5, 6, h=0.8 * sigma, sigma=sigma, preserve_range=True)
            for plane in one_scan(work, sigma)
        ]
        save(path, np.stack(planes).astype(np.float32))
    return np.asarray(np.load(path))


def save(path: Path, array: np.ndarray) -> None:
    with replacing(path) as partial, partial.open("wb") as file:
        np.save(file, array)


@cache
def test_lr(work: Path) -> np.ndarray:
    """The LR scan of the test field that every network is given."""
    return lr_scan(field(work, *TEST), np.random.default_rng(7))[0]


def drawn(work: Path, kind: str, seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """LR (b, 1, y, x) and reference (b, 1, s*y, s*x) in network units."""
    clean, wide = field(work, *LEARN), SIDE_PX + 2 * REACH_PX
    rng = np.random.default_rng([seed, step])
    room = np.array(clean.shape) - np.array([0, wide - 1, wide - 1])
    corners = rng.integers(room, size=(BATCH, 3))
    symmetries = rng.integers(8, size=BATCH)

    def cut(volume: np.ndarray, margin: int = 0) -> np.ndarray:
        inner = slice(REACH_PX - margin, wide - REACH_PX + margin)
        patches = [volume[z, y : y + wide, x : x + wide][inner, inner] for z, y, x in corners]
        return np.stack([turned(p, int(s)) for p, s in zip(patches, symmetries, strict=True)])

    lr, scan, opposite = lr_scan(cut(clean), np.random.default_rng([seed, step, 1]))
    batch = Batch(
        wide=cut(clean, REACH_PX),
        scan=scan,
        opposite=opposite,
        of_one_scan=lambda: cut(one_scan(work, SIGMA)),
        of_denoised=lambda: cut(denoised(work)),
        rng=np.random.default_rng([seed, step, 2]),
    )
    reference = KINDS[kind].draw(batch).astype(np.float32)
    return lr[:, None] / np.float32(FULL_SCALE), reference[:, None] / np.float32(FULL_SCALE)


def trained(work: Path, kind: str, loss: str, seed: int, steps: int) -> torch.nn.Module:
    """The running mean of the weights after ``steps`` steps."""
    torch.manual_seed(seed)
    training = Training(
        steps=steps,
        batch=BATCH,
        patch_px=SIDE_PX // SCALE,
        learning_rate=LEARNING_RATE,
        warmup_steps=min(50, steps // 4),
        loss=loss,  # type: ignore[arg-type]
        second_view=KINDS[kind].second_view,
        view_noise=VIEW_NOISE,
        checkpoint_every=steps,
        precision="float32",
    )
    run = start(build(NETWORK, SCALE, OPTIONS), training, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        fit(
            run,
            lambda step: drawn(work, kind, seed, step),
            lambda _: 0.0,
            training,
            seed,
            Path(folder),
            lambda _step, _note: None,
        )
    mean: torch.nn.Module = run.mean.module
    return mean.eval()


def upscaled(network: torch.nn.Module, lr: np.ndarray) -> np.ndarray:
    """SR (z, s*y, s*x) of LR (z, y, x), both in grey levels."""
    with torch.no_grad():
        sr = network(torch.from_numpy(lr[:, None] / np.float32(FULL_SCALE)))
    return np.asarray(sr[:, 0].numpy() * np.float32(FULL_SCALE))


if __name__ == "__main__":
    main()
