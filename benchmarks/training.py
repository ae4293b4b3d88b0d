"""How many steps per second training makes, against a plain float32 loop at equal batch.

    python benchmarks/training.py [--network emsr --batch 2] [--turns 3] [--steps 2] [--device cuda]

``plain`` is the loop one would write: float32, contiguous, a forward pass for each view, torch's
Adam, the loss looked at in each step, batches drawn in line. ``emsr train`` is the step of
``network/fit`` with batches drawn ahead and the memory of tensors kept. Between them, ``plain``
with one thing changed. Same network, patches, loss and seed; synthetic 16-bit pairs in memory. Each
way has a process of its own; they take turns, ``--steps`` steps each: medians, ranges in brackets.
``--cpu-time`` counts seconds of the CPU, all threads together: for one thread on a busy machine.
``waits`` is the share of a step in which the loop waits for its batch: on a CPU nothing computes
meanwhile, a GPU may still be at the step before. Not told with ``--cpu-time``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ceiling import now, told

from emsr.network.allocator import keep_freed_memory
from emsr.network.fit import _autocast, _train_step, start
from emsr.network.losses import two_view_loss
from emsr.network.named import build
from emsr.pairs.ahead import ahead
from emsr.pairs.patches import draw_batch
from emsr.recipe import OPTIONS, Training
from emsr.volumes.intensity import Intensity

SCALE, SIDE = 3, 512
OURS = "emsr train"
WAYS: dict[str, set[str]] = {
    "plain": set(),
    "memory kept": {"memory"},
    "views in one batch": {"views"},
    "channels last": {"last"},
    "bf16": {"bf16"},
    "fused Adam": {"fused"},
    "drawn ahead": {"ahead"},
    OURS: {"memory", "ahead"},
    "emsr train, drawn in line": {"memory"},
    "emsr train, float32": {"memory", "ahead", "float32"},
}
Times = tuple[float, float | None]
"""Steps per second, and the share of them spent waiting for batches; None by the CPU's clock."""


@dataclass(frozen=True)
class Material:
    """What ``draw_batch`` looks at of pairs."""

    lr: np.ndarray
    hr: np.ndarray
    hr_slice: np.ndarray
    scale: int
    lr_window: Any
    hr_window: Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", action="append", help="default: emsr and emsr-lean")
    parser.add_argument("--batch", type=int, default=Training().batch)
    parser.add_argument("--patch", type=int, default=Training().patch_px)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--way", action="append", choices=[*WAYS], help="default: all")
    asked = parser.parse_args()
    print(f"batch {asked.batch}, patches of {asked.patch}, {asked.device}, {asked.threads} threads")
    print("| network | way | steps per second | times plain | waits, % |")
    print("| --- | --- | --- | --- | --- |")
    for network in asked.network or ["emsr", "emsr-lean"]:
        report(network, taken(network, [*dict.fromkeys(["plain", *(asked.way or WAYS)])], asked))


def report(network: str, found: dict[str, list[Times]]) -> None:
    plain = [rate for rate, _ in found["plain"]]
    for way, times in found.items():
        rates = [rate for rate, _ in times]
        ratios = [rate / base for rate, base in zip(rates, plain, strict=True)]
        waits = [100 * share for _, share in times if share is not None]
        said = told(waits) if waits else ""
        print(f"| {network} | {way} | {told(rates)} | {told(ratios)} | {said} |")


def taken(network: str, ways: list[str], asked: argparse.Namespace) -> dict[str, list[Times]]:
    """What each way did in each turn; the first turn warms up and is not counted."""
    context = multiprocessing.get_context("spawn")
    pipes, workers = {}, []
    for way in ways:
        pipes[way], theirs = context.Pipe()
        workers.append(context.Process(target=work, args=(theirs, network, way, asked)))
        workers[-1].start()
        theirs.close()  # so that a worker that ended is an error here, and not waited for
    found: dict[str, list[Times]] = {way: [] for way in ways}
    for turn in range(asked.turns + 1):
        for way in ways:
            pipes[way].send(asked.steps)
            times = pipes[way].recv()
            if turn:
                found[way].append(times)
    for way, worker in zip(ways, workers, strict=True):
        pipes[way].send(0)
        worker.join()
    return found


def work(pipe: Any, network: str, way: str, asked: argparse.Namespace) -> None:
    """Train ``network`` by as many steps as ``pipe`` asks for, until it asks for none."""
    torch.set_num_threads(asked.threads)
    tricks, device = WAYS[way], torch.device(asked.device)
    clock = time.process_time if asked.cpu_time else lambda: now(device)
    if "memory" in tricks:
        keep_freed_memory()
    torch.manual_seed(0)
    module = build(network, SCALE, OPTIONS.get(network, {}))
    pairs, done = material(), 0
    with ExitStack() as stack:

        def draw(step: int) -> Any:
            return draw_batch(pairs, slice(0, SIDE), asked.patch, asked.batch, 0, step)

        source: Any = stack.enter_context(ahead(draw)) if "ahead" in tricks else draw
        waited = Waited(source)
        step = (
            ours(module, waited, tricks, device)
            if OURS in way
            else plain(module, waited, tricks, device)
        )
        while wanted := pipe.recv():
            began, waited.seconds = clock(), 0.0
            for _ in range(wanted):
                step(done)
                done += 1
            seconds = clock() - began
            pipe.send((wanted / seconds, None if asked.cpu_time else waited.seconds / seconds))


class Waited:
    """``draw``, and the seconds that it took."""

    def __init__(self, draw: Callable[[int], Any]) -> None:
        self.draw, self.seconds = draw, 0.0

    def __call__(self, step: int) -> Any:
        began = time.perf_counter()
        batch = self.draw(step)
        self.seconds += time.perf_counter() - began
        return batch


def ours(module: Any, draw: Any, tricks: set[str], device: torch.device) -> Callable[[int], None]:
    training = Training(precision="float32" if "float32" in tricks else "auto")
    run = start(module, training, device)
    run.network.train()
    cast = _autocast(training.precision, device)

    def step(k: int) -> None:
        loss = _train_step(run, draw, training, 0, k, device, cast)
        if device.type == "cpu":
            loss.item()

    return step


def plain(module: Any, draw: Any, tricks: set[str], device: torch.device) -> Callable[[int], None]:
    layout = torch.channels_last if "last" in tricks else torch.contiguous_format
    module = module.to(device).to(memory_format=layout)
    # None, not False: without it torch takes its quick form on a GPU, as one would write it.
    optimiser = torch.optim.Adam(module.parameters(), lr=4e-4, fused="fused" in tricks or None)

    def step(k: int) -> None:
        lr, hr = (torch.from_numpy(part).to(device) for part in draw(k))
        view = lr + torch.randn_like(lr) * 2.5 / 255
        with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in tricks):
            if "views" in tricks:
                sr, sr_view = module(torch.cat([lr, view])).float().chunk(2)
            else:
                sr, sr_view = module(lr).float(), module(view).float()
        loss = two_view_loss(sr, sr_view, hr, "l1")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()

    return step


def material() -> Any:
    rng, window = np.random.default_rng(0), Intensity(0, 65535)
    lr, hr = (
        rng.integers(65536, size=(4, s * SIDE, s * SIDE), dtype=np.uint16) for s in (1, SCALE)
    )
    return Material(lr, hr, np.arange(4), SCALE, window, window)


if __name__ == "__main__":
    main()
