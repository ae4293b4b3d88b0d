"""One table of networks: what each costs and how good it gets with the same data and time.

    python benchmarks/networks.py --work DIR [--seconds 120] [--field white-matter] [--seeds 3]

Every network trains on the same pairs by the same loop, for as many steps as fit into ``--seconds``
of one thread (its step is timed first, the least of ten, so that how busy the machine is later
changes the wall-clock only). Upscaling costs are medians of alternating runs on 256 x 256 LR pixels
in bf16. A stopped run goes on: results lie in ``--work``, which is to be removed when the code of a
network or of training changes. ``--samples-of emsr`` gives each network as many training patches as
that one had instead.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import SCALE, Cell, against, bicubic_of, run_all, step_seconds
from fields import NAMES, made, read

from emsr.network.cost import flops_per_lr_pixel
from emsr.network.named import build

# Rates of 5e-4 and 2e-3 differed by 0.01 dB for SwinIR-light on the choice field (150 steps);
# those of emsr-lean and emsr-tiny were found there, the others' were not sought further.
RATES: dict[str, dict[str, Any]] = {
    "emsr": {"learning_rate": 1e-3, "batch": 2},
    "emsr-lean": {"learning_rate": 2e-3, "batch": 4},
    "emsr-tiny": {"learning_rate": 5e-3, "batch": 4},
    "swinir-light": {"learning_rate": 1e-3, "batch": 2},
    "rcan": {"learning_rate": 1e-3, "batch": 4},
    "plksr-tiny": {"learning_rate": 1e-3, "batch": 4},
    "unet": {"learning_rate": 1e-3, "batch": 4},
}
OPTIONS: dict[str, dict[str, Any]] = {"emsr": {"input_skip": True}}
SCORES = (("psnr", 2), ("ssim", 3), ("frc_nm", 1))
COLUMNS = (
    *("network", "parameters", "MFLOP per LR pixel", "time over EMSR's", "patches"),
    *("PSNR dB", "SSIM", "FRC nm"),
)
COMMON = {"patch_px": 32, "warmup_steps": 50}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    default = os.environ.get("EMSR_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--field", choices=NAMES, action="append")
    parser.add_argument("--network", choices=RATES, action="append")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--samples-of", choices=RATES)
    parser.add_argument("--options", type=json.loads, default={}, help="of each network, as JSON")
    parser.add_argument("--training", type=json.loads, default={}, help="recipe keys, as JSON")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    names = arguments.network or list(RATES)
    costs = kept(arguments.work / "costs.json", lambda: measured_costs(list(RATES)))
    steps = {name: step_count(name, costs, arguments) for name in names}
    for field in arguments.field or ["white-matter"]:
        cells = [
            Cell(
                field,
                name,
                OPTIONS.get(name, {}) | arguments.options,
                {**COMMON, **RATES[name], "steps": steps[name], **arguments.training},
                seed,
            )
            for name in names
            for seed in range(arguments.seeds)
        ]
        table(
            field, run_all(cells, arguments.work, arguments.data, arguments.jobs), costs, arguments
        )


def step_count(name: str, costs: dict[str, Any], arguments: argparse.Namespace) -> int:
    other = arguments.samples_of
    if other is None:
        return int(arguments.seconds / costs[name]["step"])
    steps = arguments.seconds / costs[other]["step"]
    return int(steps * RATES[other]["batch"] / RATES[name]["batch"])


def kept(path: Path, made_: Any) -> Any:
    """What ``made_`` gives, from the file at ``path`` where it was made before."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made_()))
    return json.loads(path.read_text())


def measured_costs(names: list[str]) -> dict[str, Any]:
    """Parameters, FLOP per LR pixel, seconds of a training step and of upscaling, one thread."""
    torch.set_num_threads(1)
    nets = {name: build(name, SCALE, OPTIONS.get(name, {})).eval() for name in names}
    nets = {name: net.to(memory_format=torch.channels_last) for name, net in nets.items()}
    lr = torch.rand(1, 1, 256, 256)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(5):
        for name, net in nets.items():
            began = time.perf_counter()
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                net(lr)
            seconds[name].append(time.perf_counter() - began)
    return {
        name: {
            "parameters": sum(p.numel() for p in net.parameters()),
            "flop": flops_per_lr_pixel(net),
            "upscale": float(np.median(seconds[name])),
            "step": step_seconds(name, OPTIONS.get(name, {}), {**COMMON, **RATES[name]}),
        }
        for name, net in nets.items()
    }


def table(field: str, results: list[dict[str, Any]], costs: dict[str, Any], arguments: Any) -> None:
    """Print the rows of one field as Markdown; ranges over seeds in brackets."""
    folder = made(arguments.work, field, arguments.data)
    reference = read(folder / "test/reference.tif")
    spacing = (1.0, 1.0, 1.0) if field == "fast-slow" else None
    plain = against(
        bicubic_of(read(folder / "test/lr.tif")), reference, spacing or spacing_of(folder)
    )
    print(f"\n{field}\n\n| {' | '.join(COLUMNS)} |\n{'| --- ' * len(COLUMNS)}|")
    print(f"| bicubic | 0 | | | 0 | {' | '.join(spread([plain[k]], d) for k, d in SCORES)} |")
    for name in dict.fromkeys(result["network"] for result in results):
        rows = [result for result in results if result["network"] == name]
        cost, training = costs[name], rows[0]["training"]
        scores = [spread([row["scores"][key] for row in rows], digits) for key, digits in SCORES]
        share = cost["upscale"] / costs["emsr"]["upscale"]
        facts = f"{cost['parameters']:,} | {cost['flop'] / 1e6:.2f} | {share:.3f}"
        patches = f"{training['steps'] * training['batch']:,}"
        print(f"| {name} | {facts} | {patches} | {' | '.join(scores)} |")


def spread(values: list[float | None], digits: int) -> str:
    """The mean, and the lowest and highest where there are several."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{np.mean(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.{digits}f}–{max(known):.{digits}f})"


def spacing_of(folder: Path) -> Any:
    from emsr.volumes.source import open_volume

    return open_volume(folder / "test/reference.tif").spacing_nm


if __name__ == "__main__":
    main()
