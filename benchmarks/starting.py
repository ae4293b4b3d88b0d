"""How soon each network passes bicubic on a field it never trains on.

    python benchmarks/starting.py --work DIR [--most 60] [--jobs 2] [--network emsr ...]

White-matter phantom pairs; every tenth step the running mean of the weights is scored against the
noisy HR of the held-out rows. Seconds are steps times the time of a step on one thread. ``drawn``
leaves the last layer of a network with input skip at random weights, where ours start at zero. A
result of ``-`` did not pass within ``--most`` steps.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from cells import SCALE, step_seconds
from fields import made
from torch import nn

from emsr.jobs.train import validation_field
from emsr.network.fit import fit, start
from emsr.network.frame import interpolate, middle_slice
from emsr.network.named import build
from emsr.pairs.held_out import split_rows
from emsr.pairs.patches import draw_batch
from emsr.pairs.store import in_memory, open_pairs
from emsr.quality.fidelity import psnr
from emsr.recipe import recipe_from

EVERY, VALIDATION_SLICES = 10, 4
NETWORKS = ("emsr", "emsr-lean", "emsr-tiny", "swinir-light", "rcan", "plksr-tiny", "unet")
RATES = (1e-4, 4e-4, 1e-3, 2e-3)
ALWAYS_SKIP = ("unet", "emsr-lean")
COLUMNS = (
    *("network", "input skip", "last layer", "learning rate", "warm-up", "steps", "seconds"),
    "best, dB over bicubic",
)
BATCH = {"emsr": 2, "swinir-light": 2}


@dataclass(frozen=True)
class Start:
    """One way to begin."""

    network: str
    input_skip: bool
    drawn: bool
    learning_rate: float
    warmup_steps: int

    @property
    def training(self) -> dict[str, Any]:
        batch = BATCH.get(self.network, 4)
        rate, warmup = self.learning_rate, self.warmup_steps
        return {"batch": batch, "patch_px": 32, "learning_rate": rate, "warmup_steps": warmup}


class _Passed(Exception):
    """Bicubic is passed; carries the step."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--most", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    pairs = made(arguments.work, "white-matter", Path()) / "pairs.zarr"
    names = arguments.network or NETWORKS
    seconds = {
        name: step_seconds(name, {}, Start(name, True, False, 1e-3, 0).training) for name in names
    }
    print(f"| {' | '.join(COLUMNS)} |\n{'| --- ' * len(COLUMNS)}|", flush=True)
    tried = starts(names)
    with ProcessPoolExecutor(arguments.jobs) as pool:
        ends = pool.map(partial(passed, pairs_path=pairs, most=arguments.most), tried)
        for begun, (step, best) in zip(tried, ends, strict=True):
            spent = f"{step * seconds[begun.network]:.0f}" if step else "-"
            last = "drawn" if begun.drawn or not begun.input_skip else "zero"
            facts = (begun.network, "yes" if begun.input_skip else "no", last)
            rates = (f"{begun.learning_rate:g}", str(begun.warmup_steps), str(step or "-"))
            print(f"| {' | '.join((*facts, *rates, spent, f'{best:+.2f}'))} |", flush=True)


def starts(names: Any) -> list[Start]:
    """Every way to begin that is tried: of each network with its input skip several rates, of EMSR
    and one rate of the others also without, and of EMSR the other settings one at a time."""
    ways = []
    for name, rate in product(names, RATES):
        ways.append(Start(name, True, False, rate, 50))
        if name == "emsr":
            ways.append(Start(name, False, False, rate, 50))
    for name in names:
        if name not in ("emsr", *ALWAYS_SKIP):
            ways.append(Start(name, False, False, 1e-3, 50))
    if "emsr" in names:
        ways.append(Start("emsr", True, False, 1e-3, 0))
        ways.append(Start("emsr", False, False, 1e-3, 0))
        ways.append(Start("emsr", True, True, 1e-3, 50))
    return ways


def passed(begun: Start, pairs_path: Path, most: int) -> tuple[int | None, float]:
    """The step at which bicubic was passed, or None; and the best score, dB over bicubic."""
    torch.set_num_threads(1)
    pairs = in_memory(open_pairs(pairs_path))
    network = _network(begun)
    rows, held_out = split_rows(pairs.lr.shape[1], 0.2, 8, 4)
    lr, hr = (part[:VALIDATION_SLICES] for part in validation_field(pairs, held_out))
    bar = psnr(interpolate(middle_slice(lr), SCALE).numpy()[:, 0], hr.numpy()[:, 0], 1.0)
    recipe = recipe_from({"training": {**begun.training, "steps": most, "checkpoint_every": EVERY}})
    rule, run = recipe.training, start(network, recipe.training, torch.device("cpu"))

    def validate(mean: nn.Module) -> float:
        mean.eval()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            sr = mean(lr).float()
        return psnr(sr.numpy()[:, 0], hr.numpy()[:, 0], 1.0)

    def draw(step: int) -> Any:
        return draw_batch(pairs, rows, rule.patch_px, rule.batch, 0, step)

    def note(step: int, _note: str) -> None:
        if run.best_psnr > bar:
            raise _Passed(step)

    with tempfile.TemporaryDirectory() as folder:
        try:
            fit(run, draw, validate, rule, 0, Path(folder), note)
        except _Passed as stopped:
            return stopped.args[0], run.best_psnr - bar
        except Exception as error:  # a diverged run is a result
            print(f"{begun}: {error}", flush=True)
    return None, run.best_psnr - bar


def _network(begun: Start) -> Any:
    torch.manual_seed(0)
    # Networks that always skip do not know the option.
    asks = begun.network not in ALWAYS_SKIP
    network = build(begun.network, SCALE, {"input_skip": begun.input_skip} if asks else {})
    if begun.drawn:
        nn.init.kaiming_normal_(network.last.weight, nonlinearity="linear")
    return network


if __name__ == "__main__":
    main()
