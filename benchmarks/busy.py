"""How much of the time a GPU computes: upscaling a volume, and training.

    python benchmarks/busy.py [--slices 16] [--side 2048] [--steps 200] [--device cuda]

The share of the time in which at least one kernel or copy runs, as torch's profiler sees it, from
the first of them to the last; the rest the GPU is idle. ``upscale`` is all tiles of one process,
reading and writing included, its start-up not; ``train`` is steps of ``network/fit`` on batches
drawn ahead. Weights and images are synthetic. What the profiler itself costs counts as idle time.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from ceiling import now
from scale import make_model, make_volume
from throughput import NETWORKS, SCALE
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from training import OURS, SIDE, WAYS, material, ours

from emsr.jobs.upscale import upscale
from emsr.network.named import build
from emsr.pairs.ahead import ahead
from emsr.pairs.patches import draw_batch
from emsr.recipe import OPTIONS, Training, Upscaling


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=Training().batch)
    parser.add_argument("--patch", type=int, default=Training().patch_px)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--device", default="cuda")
    asked = parser.parse_args()
    if not asked.device.startswith("cuda") or not torch.cuda.is_available():
        parser.error(f"device {asked.device!r}: a GPU is needed, and this torch sees none")
    for name in NETWORKS:
        for what, job in (("upscale", upscaling(name, asked)), ("train", training(name, asked))):
            job()  # warms up
            print(f"{name}, {what}: busy {told(job)}", flush=True)


def upscaling(name: str, asked: argparse.Namespace) -> Callable[[], None]:
    def job() -> None:
        with tempfile.TemporaryDirectory() as folder:
            lr = make_volume(Path(folder), asked.slices, asked.side)
            model = make_model(Path(folder), name, SCALE)
            how = {"device": asked.device, "precision": asked.precision}
            upscale(lr, model, Path(folder) / "sr.ome.zarr", upscaling=Upscaling(), **how)

    return job


def training(name: str, asked: argparse.Namespace) -> Callable[[], None]:
    torch.manual_seed(0)
    module, pairs = build(name, SCALE, OPTIONS.get(name, {})), material()

    def draw(step: int) -> object:
        return draw_batch(pairs, slice(0, SIDE), asked.patch, asked.batch, 0, step)

    def job() -> None:
        with ahead(draw) as drawn:
            step = ours(module, drawn, WAYS[OURS], torch.device(asked.device))
            for k in range(asked.steps):
                step(k)
            now(torch.device(asked.device))

    return job


def told(job: Callable[[], None]) -> str:
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        job()
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in seen.events()
        if event.device_type == DeviceType.CUDA
    ]
    busy, whole = covered(spans)
    return f"{busy / whole:.0%} of {whole / 1e6:.2f} s"


def covered(spans: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """The time that at least one span covers, and that from the first one's start to the last
    one's end."""
    ordered = sorted(spans)
    busy, until = 0.0, ordered[0][0]
    for start, end in ordered:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy, until - ordered[0][0]


if __name__ == "__main__":
    main()
