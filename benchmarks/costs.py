"""What 1 TB and 1 PB of LR cost, as markdown, from measured figures.

    python benchmarks/costs.py --rates DIR/rates.json --output SR.ome.zarr [--output ...]
                               --write-mb-s 300 [--gpu emsr-lean=RATE ...]

``--rates``: SR voxels per second and core by network, as tiles.py writes them (or ``--rate
NAME=RATE``). ``--output``: finished outputs of ``emsr upscale`` on images like yours, whose bytes,
pyramid included, are counted per SR voxel (or ``--bytes-per-voxel``). ``--write-mb-s``: what
scale.py's part writing, or ceiling.py, finds for one process, megabytes before compression.
``--gpu``: SR voxels per second of one GPU, end to end, where that was measured. LR is uint8; a TB
is 10^12 bytes. Rates are taken as they are, without allowance for failures or queues.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import zarr

from emsr.errors import InputError

VOLUMES = {"1 TB": 1e12, "1 PB": 1e15}
WEEK_H = 7 * 24


@dataclass(frozen=True)
class Cost:
    """Of one volume with one network."""

    hours: float
    """Of one core, or of one GPU."""
    for_a_week: int
    """Cores, or GPUs, that are done within a week."""
    workers: int
    stored_bytes: float
    writing: float
    """Share of the week that each worker's one process would spend writing, if only that."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", type=Path)
    parser.add_argument("--rate", action="append", default=[], metavar="NAME=RATE")
    parser.add_argument("--gpu", action="append", default=[], metavar="NAME=RATE")
    parser.add_argument("--output", type=Path, action="append", default=[])
    parser.add_argument("--bytes-per-voxel", type=float)
    parser.add_argument("--write-mb-s", type=float, required=True)
    parser.add_argument("--cores", type=int, default=16, help="of one worker")
    parser.add_argument("--scale", type=int, default=3)
    arguments = parser.parse_args()
    try:
        cores = read(arguments.rates) | named(arguments.rate)
        gpus = named(arguments.gpu)
        stored = arguments.bytes_per_voxel or bytes_per_voxel(arguments.output)
    except InputError as error:
        parser.error(str(error))
    print(said(arguments, stored))
    shared = (arguments.scale, stored, arguments.write_mb_s * 1e6)
    print(table("core", cores, arguments.cores, *shared))
    print()
    print(table("GPU", gpus, 1, *shared) if gpus else NO_GPU)


NO_GPU = "GPUs: not measured yet."


def cost(
    lr_bytes: float, scale: int, rate: float, per_worker: int, stored: float, write_bytes_s: float
) -> Cost:
    """Of ``lr_bytes`` uint8 voxels at ``rate`` SR voxels per second of one core or GPU.

    ``per_worker`` of them make one worker, which writes ``write_bytes_s``; ``stored`` bytes are
    kept of each SR voxel.
    """
    voxels = lr_bytes * scale**2
    hours = voxels / rate / 3600
    week = math.ceil(hours / WEEK_H)
    workers = math.ceil(week / per_worker)
    writing = voxels / write_bytes_s / 3600 / WEEK_H / workers
    return Cost(hours, week, workers, voxels * stored, writing)


def bytes_per_voxel(outputs: list[Path]) -> float:
    """Bytes on disk of OME-Zarr outputs, all levels, over the voxels of their finest."""
    if not outputs:
        raise InputError("expected --output or --bytes-per-voxel")
    for path in outputs:
        if not (path / "0" / "zarr.json").is_file():
            raise InputError(f"{path}: no output of emsr upscale; give a finished .ome.zarr")
    files = (file for path in outputs for file in path.rglob("*") if file.is_file())
    size = sum(file.stat().st_size for file in files)
    return size / sum(zarr.open_array(str(path / "0"), mode="r").size for path in outputs)


def read(path: Path | None) -> dict[str, float]:
    if path is None:
        return {}
    try:
        found = {str(name): float(rate) for name, rate in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        raise InputError(f"{path}: expected the rates.json that tiles.py writes") from None
    return positive(found)


def named(given: list[str]) -> dict[str, float]:
    try:
        pairs = [one.rsplit("=", 1) for one in given]
        return positive({name: float(rate) for name, rate in pairs})
    except ValueError:
        raise InputError(f"{' '.join(given)}: expected NAME=RATE, SR voxels per second") from None


def positive(rates: dict[str, float]) -> dict[str, float]:
    for name, rate in rates.items():
        if not 0 < rate < math.inf:
            raise InputError(f"{name}: found {rate:g} SR voxels per second, expected more than 0")
    return rates


def said(arguments: argparse.Namespace, stored: float) -> str:
    return (
        f"Scale {arguments.scale}; {stored:.3g} bytes stored per SR voxel; "
        f"{arguments.write_mb_s:g} MB/s written by one process.\n"
    )


def table(
    unit: str,
    rates: dict[str, float],
    per_worker: int,
    scale: int,
    stored: float,
    write_bytes_s: float,
) -> str:
    workers = f" | workers of {per_worker} {unit}s" if per_worker > 1 else ""
    lines = [
        f"| LR, uint8 | network | SR voxels/s and {unit} | {unit}-hours | {unit}s for one week"
        f"{workers} | output | of the week, writing |",
        "| --- " * (8 if workers else 7) + "|",
    ]
    for volume, size in VOLUMES.items():
        for name, rate in rates.items():
            one = cost(size, scale, rate, per_worker, stored, write_bytes_s)
            crew = [f"{one.workers:,}"] if workers else []
            cells = [
                *(volume, name, rounded(rate), rounded(one.hours), f"{one.for_a_week:,}"),
                *(*crew, f"{rounded(one.stored_bytes / 1e12)} TB", f"{one.writing:.1%}"),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def rounded(value: float) -> str:
    """Two digits that count."""
    digits = 1 - math.floor(math.log10(value))
    return f"{round(value, digits):,.{max(0, digits)}f}"


if __name__ == "__main__":
    main()
