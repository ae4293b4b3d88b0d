"""Would another runtime be quicker than plain torch on a CPU, after its set-up?

    pip install --no-deps --target DIR openvino openvino-telemetry onnxruntime onnx onnxscript \\
        onnx-ir ml_dtypes protobuf flatbuffers
    PYTHONPATH=DIR python experiments/runtimes.py [--network emsr] [--side 560] [--turns 5]

Upscaling: one tile of ``--side`` LR pixels by the network as ``emsr upscale`` runs it (``quick``),
weights drawn. Training: one step of ``network/fit`` in bf16 on drawn patches of 48 (``--step``; a
batch of 4 for emsr-lean, of 2 for EMSR). Each way has a process of its own; they take turns. One
thread; seconds are of the CPU, medians, ranges in brackets; ratios are to eager bf16 of the same
turn. Set-up is by the wall clock, less one run: with nothing kept, and again in a new process with
what the first one kept (torch's cache, OpenVINO's converted model). ``next size`` is how much
longer the first tile of another size takes than the second one, as at the edges of a volume.
Differences: upscaling, the largest and the mean one from eager float32 in grey levels of 255;
training, the largest one from eager's losses, relative. What is not installed is left out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from emsr.network.allocator import keep_freed_memory
from emsr.network.fit import _autocast, _train_step, start
from emsr.network.named import build
from emsr.network.quick import quick
from emsr.recipe import OPTIONS, Training

SCALE, PATCH_PX, LEVELS = 3, 48, 255
BATCH = {"emsr-lean": 4, "emsr": 2}
EAGER, EXACT = "eager", "eager, float32"
INDUCTOR: dict[str, dict[str, Any]] = {
    "torch.compile": {},
    "torch.compile, frozen": {"freezing": True},
    "torch.compile, C++ wrapper": {"cpp_wrapper": True},
    "torch.compile, autotuned": {"max_autotune": True, "freezing": True},
}
OTHERS = {"OpenVINO": "openvino", "ONNX Runtime, float32": "onnxruntime"}
HEAD = "| network | way | seconds | times eager | set-up; again, s | next size, s | difference |"
Call = Callable[[Any], Any]
PROCESSES = multiprocessing.get_context("spawn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", action="append", choices=BATCH, help="default: both")
    parser.add_argument("--step", action="store_true", help="a training step, not a tile")
    parser.add_argument("--side", type=int, default=560)
    parser.add_argument("--turns", type=int, default=5)
    here = [name for name, package in OTHERS.items() if find_spec(package)]
    parser.add_argument("--way", action="append", choices=[*INDUCTOR, *here], help="default: all")
    asked = parser.parse_args()
    chosen = asked.way or [*INDUCTOR, *here]
    ways = [EAGER, *chosen] if not asked.step else [EAGER, *(w for w in chosen if w in INDUCTOR)]
    print(f"{HEAD}\n|{' --- |' * 7}", flush=True)
    for network in asked.network or BATCH:
        report(network, [*([] if asked.step else [EXACT]), *ways], asked)


def report(network: str, ways: list[str], asked: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        workers = {
            way: Worker(network, way, asked, Path(folder) / str(number))
            for number, way in enumerate(ways)
        }
        turns = [{way: one.ask("turn") for way, one in workers.items()} for _ in range(asked.turns)]
        for way, one in workers.items():
            seconds = [turn[way][0] for turn in turns]
            ratios = [turn[EAGER][0] / turn[way][0] for turn in turns]
            size = "" if asked.step else f"{one.ask('size'):.1f}"
            base = [turn[EAGER if asked.step else EXACT][1] for turn in turns]
            found = difference([turn[way][1] for turn in turns], base, asked.step)
            cells = (network, way, told(seconds), told(ratios), one.set_up, size, found)
            print(f"| {' | '.join(cells)} |", flush=True)
        for one in workers.values():
            one.pipe.send("end")


class Worker:
    """A process that runs one way: ``set_up`` says the seconds until it was ready, in the first
    process and in a second one."""

    def __init__(self, network: str, way: str, asked: argparse.Namespace, folder: Path) -> None:
        folder.mkdir()
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)  # read when torch is loaded
        again = way in INDUCTOR or way == "OpenVINO"
        seconds = []
        for turn in range(1 + again):
            if turn:
                self.pipe.send("end")
            self.pipe, theirs = PROCESSES.Pipe()
            PROCESSES.Process(target=work, args=(theirs, network, way, asked, folder)).start()
            theirs.close()  # so that a worker that ended is an error here, and not waited for
            seconds.append(f"{self.pipe.recv():.1f}")
        self.set_up = "; ".join(seconds)

    def ask(self, what: str) -> Any:
        self.pipe.send(what)
        return self.pipe.recv()


def work(pipe: Any, network: str, way: str, asked: argparse.Namespace, folder: Path) -> None:
    """Do what ``pipe`` asks for."""
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(0)
    module = build(network, SCALE, OPTIONS.get(network, {}))
    nn.init.normal_(module.last.weight, std=0.003)  # as built it is zero: nothing would be added
    tile, smaller = (torch.rand(1, 1, side, asked.side) for side in (asked.side, asked.side - 40))
    began = time.perf_counter()
    if asked.step:
        call = stepping(module, way, BATCH[network])
    else:
        with torch.inference_mode():
            call = tiling(module, way, tile, folder)
    call(tile)
    pipe.send(time.perf_counter() - began - clocked(call, tile, time.perf_counter)[0])
    while (wanted := pipe.recv()) != "end":
        if wanted == "turn":
            pipe.send(clocked(call, tile, time.process_time))
        else:
            first, second = (clocked(call, smaller, time.perf_counter)[0] for _ in range(2))
            pipe.send(first - second)


def clocked(call: Call, given: Any, clock: Callable[[], float]) -> tuple[float, Any]:
    began = clock()
    output = call(given)
    return clock() - began, output


def tiling(module: Any, way: str, tile: torch.Tensor, folder: Path) -> Call:
    """A tile in, its SR out."""
    exact = quick(module, "float32").to(memory_format=torch.channels_last)
    if way in OTHERS:
        # All windows at once: the loop over parts of them would be written out for one size.
        with patch("torch.Tensor.split", lambda tensor, _: [tensor]):
            return (openvino if way == "OpenVINO" else onnx)(exact, tile, folder / "model.xml")
    network = exact if way == EXACT else quick(module, "bf16").to(memory_format=torch.channels_last)
    if way in INDUCTOR:
        network = torch.compile(network, options=INDUCTOR[way])

    @torch.inference_mode()
    def call(tile: torch.Tensor) -> Any:
        return network(tile).numpy()

    return call


def openvino(network: nn.Module, tile: torch.Tensor, kept: Path) -> Call:
    ov = import_module("openvino")
    if not kept.exists():
        shape = ov.PartialShape([1, 1, -1, -1])
        ov.save_model(ov.convert_model(network, example_input=tile, input=[shape]), kept)
    wanted = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 1}
    compiled = ov.Core().compile_model(kept, "CPU", wanted)
    return lambda tile: compiled(tile.numpy())[0].copy()


def onnx(network: nn.Module, tile: torch.Tensor, kept: Path) -> Call:
    """In float32: it has no convolution in bf16 on a CPU."""
    ort = import_module("onnxruntime")
    named: Any = {"input_names": ["lr"], "dynamic_axes": {"lr": {2: "y", 3: "x"}}}
    with patch("torch.Tensor.double", lambda tensor: tensor):  # it interpolates in float32 only
        torch.onnx.export(network, (tile,), kept, dynamo=False, **named)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(kept, options, providers=["CPUExecutionProvider"])
    return lambda tile: session.run(None, {"lr": tile.numpy()})[0]


def stepping(module: Any, way: str, batch: int) -> Call:
    """One more training step; its loss."""
    device, training, rng = torch.device("cpu"), Training(precision="bf16"), np.random.default_rng
    run = start(module, training, device)
    run.network.train()
    cast = _autocast("bf16", device)
    if way in INDUCTOR:
        run.network.forward = torch.compile(run.network.forward, options=INDUCTOR[way])  # type: ignore[method-assign]

    def draw(step: int) -> tuple[np.ndarray, np.ndarray]:
        sides = (PATCH_PX, SCALE * PATCH_PX)
        lr, hr = (rng([step, n]).random((batch, 1, n, n), dtype=np.float32) for n in sides)
        return lr, hr

    def call(_: Any) -> float:
        loss = _train_step(run, draw, training, 0, run.step, device, cast).item()
        run.step += 1
        return loss

    return call


def difference(found: list[Any], base: list[Any], step: bool) -> str:
    if step:
        return f"{np.max(np.abs(np.divide(found, base) - 1)):.1e}"
    differ = np.abs(found[0] - base[0]) * LEVELS
    return f"{differ.max():.3g}, {differ.mean():.2g}"


def told(values: list[float]) -> str:
    return f"{np.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


if __name__ == "__main__":
    main()
