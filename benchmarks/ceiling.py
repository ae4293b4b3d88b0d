"""What the machine at hand can do: the ceilings that throughput is a fraction of.

    python benchmarks/ceiling.py [--threads N] [--device cuda] [--folder DIR]

GFLOP/s of a chain of 64 -> 64 3 x 3 convolutions (the body of the published network) in float32 and
bfloat16, contiguous and channels last, in int8 where there is a path, and of a square matrix
product; bandwidth of a copy in memory; rate of the Zarr library writing whole shards of a zstd-
compressed array to ``--folder``, from as many threads as ``emsr upscale``. Medians of ``--repeats``
alternating runs, the range in brackets.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import Tensor
from torch.nn import functional as F

from emsr.jobs.lanes import lanes

CHANNELS, CHAIN = 64, 8
SHARD_PX, SHARDS = 1536, 16
Rates = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--side", type=int, help="of the images; default 256, on a GPU 1024")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    side = arguments.side or (256 if arguments.device == "cpu" else 1024)
    found = measured(torch.device(arguments.device), side, arguments.repeats)
    print(f"{arguments.device}, {arguments.threads} threads, images of {side} x {side}")
    for name, rates in found.items():
        print(f"{name}: {told(rates)}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(f"zarr write, MB/s: {told([written(Path(folder)) for _ in range(3)])}")


def measured(device: torch.device, side: int, repeats: int) -> Rates:
    """Rates by name, each measured ``repeats`` times in turn with the others."""
    jobs = {name: convolutions(device, side, *kind) for name, kind in kinds().items()}
    if device.type == "cpu" and hasattr(torch.ops.onednn, "qconv2d_pointwise"):
        jobs["convolutions int8, channels last, GOP/s"] = integer_convolutions(side)
    jobs["matrix product bf16, GFLOP/s"] = products(device)
    jobs["copy in memory, GB/s"] = copies(device)
    rates: Rates = {name: [] for name in jobs}
    for turn in range(repeats + 1):
        for name, job in jobs.items():
            rate = job()
            if turn:  # the first one warms up
                rates[name].append(rate)
    return rates


def kinds() -> dict[str, tuple[torch.dtype, torch.memory_format]]:
    types = {"float32": torch.float32, "bf16": torch.bfloat16}
    layouts = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
    return {
        f"convolutions {t}, {lay}, GFLOP/s": (types[t], layouts[lay])
        for t in types
        for lay in layouts
    }


def convolutions(
    device: torch.device, side: int, dtype: torch.dtype, layout: torch.memory_format
) -> Callable[[], float]:
    def tensor(*shape: int) -> Tensor:
        return torch.randn(shape, device=device).to(dtype).to(memory_format=layout)

    x = tensor(1, CHANNELS, side, side)
    weights = [tensor(CHANNELS, CHANNELS, 3, 3) / 24 for _ in range(CHAIN)]
    flop = 2 * CHANNELS**2 * 9 * side**2 * CHAIN

    def run() -> float:
        began, y = now(device), x
        with torch.inference_mode():
            for weight in weights:
                y = F.conv2d(y, weight, padding=1)
        return flop / (now(device) - began) / 1e9

    return run


def integer_convolutions(side: int) -> Callable[[], float]:
    """The same chain in 8-bit integers, rounded again behind every layer. torch has no public way
    to it."""
    one, step = [1, 1], 0.02
    x = torch.randint(0, 255, (1, CHANNELS, side, side), dtype=torch.uint8)
    x = x.to(memory_format=torch.channels_last)
    weight = torch.randint(-127, 127, (CHANNELS, CHANNELS, 3, 3), dtype=torch.int8)
    steps, zeros = torch.full((CHANNELS,), 0.01), torch.zeros(CHANNELS, dtype=torch.int32)
    sizes = (one, one, one, 1)
    packed = torch.ops.onednn.qconv_prepack(weight, steps, 1.0, 0, *sizes, list(x.shape))
    layer = (packed, steps, zeros, None, *sizes, step, 0, torch.uint8, "relu", [], "")

    def run() -> float:
        began, y = time.perf_counter(), x
        with torch.inference_mode():
            for _ in range(CHAIN):
                y = torch.ops.onednn.qconv2d_pointwise(y, step, 0, *layer)
        return 2 * CHANNELS**2 * 9 * side**2 * CHAIN / (time.perf_counter() - began) / 1e9

    return run


def products(device: torch.device) -> Callable[[], float]:
    n = 1024 if device.type == "cpu" else 8192
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16)

    def run() -> float:
        began = now(device)
        with torch.inference_mode():
            _ = a @ a
        return 2 * n**3 / (now(device) - began) / 1e9

    return run


def copies(device: torch.device) -> Callable[[], float]:
    a = torch.zeros(2**26, device=device)
    b = torch.empty_like(a)

    def run() -> float:
        began = now(device)
        b.copy_(a)
        return 2 * a.nbytes / (now(device) - began) / 1e9

    return run


def written(folder: Path) -> float:
    """MB/s of smooth greys with noise, in shards as large as those of the default tile."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SHARD_PX, :SHARD_PX]
    plane = 120 + 60 * np.sin(x / 9) * np.cos(y / 13) + rng.normal(0, 5, y.shape)
    values = np.repeat(plane.astype(np.uint8)[None], 4, axis=0)
    array = zarr.create_array(
        folder / "array.zarr",
        shape=(4 * SHARDS, SHARD_PX, SHARD_PX),
        dtype=values.dtype,
        chunks=(4, SHARD_PX // 3, SHARD_PX // 3),
        shards=values.shape,
        compressors=zarr.codecs.ZstdCodec(level=3),
        overwrite=True,
    ).with_config({"write_empty_chunks": True})  # looking for empty ones takes half of the time

    def write(number: int) -> None:
        array[4 * number : 4 * number + 4] = values

    began = time.perf_counter()
    with ThreadPoolExecutor(lanes("cpu", 0).writers) as pool:
        list(pool.map(write, range(SHARDS)))
    return SHARDS * values.nbytes / (time.perf_counter() - began) / 1e6


def now(device: torch.device) -> float:
    """Seconds, once the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def told(rates: list[float]) -> str:
    return f"{np.median(rates):.4g} ({min(rates):.4g} to {max(rates):.4g})"


if __name__ == "__main__":
    main()
