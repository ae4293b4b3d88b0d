"""How much memory a run takes: what it took, and what a tile will take.

base + weights + pixels read x (what the network keeps per pixel) + the tiles under way
"""

from __future__ import annotations

import math
import re
import resource
import sys
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from emsr.errors import InputError
from emsr.geometry.box import Triple
from emsr.geometry.tiles import tile_shape
from emsr.jobs.lanes import lanes
from emsr.jobs.model import Model
from emsr.recipe import Upscaling
from emsr.volumes.source import Volume

SIDES_PX = (1024, 768, 512, 384, 256, 192, 128, 96, 64, 48, 32)
"""Sides of the tiles that ``--memory`` chooses from, largest first."""
BASE_BYTES = 450 * 2**20
"""Python, torch, zarr and their thread pools, before the first tile."""
HIDDEN = 1.5
"""What convolutions take aside while they run, as a factor of what is seen to be allocated."""
UNPACKED_AT_ONCE = 10
"""zarr's own limit (``async.concurrency``); other readers unpack one chunk after the other."""
_PROBE_PX = 64


def peak_memory() -> int:
    """Bytes of this process's largest resident set so far."""
    status = Path("/proc/self/status")
    if status.is_file():  # the other way would count the process that started this one
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib * (1 if sys.platform == "darwin" else 1024)


def tile_within(limit: int, model: Model, volume: Volume, upscaling: Upscaling) -> Triple:
    """The largest tile whose run stays under ``limit`` bytes in each process.

    Depends on the network, the volume and ``upscaling`` alone, so that a run that is gone on with
    finds its tile again. InputError where not even the smallest fits.
    """
    per_pixel = activations_per_pixel(model)
    needs = []
    for side in SIDES_PX:
        wanted = (model.tile_px(upscaling)[0], side, side)
        tile = tile_shape(volume.shape, wanted, model.network.multiple)
        needs.append(bytes_needed(tile, per_pixel, model, volume, upscaling))
        if needs[-1] <= limit:
            return tile
    least = math.ceil(needs[-1] / 1e7) / 100
    raise InputError(
        f"--memory {limit / 1e9:.3g}GB is too little for this model: its smallest tile, of "
        f"{SIDES_PX[-1]} LR pixels a side, needs {least:.2f}GB; give that much"
    )


def bytes_needed(
    tile: Triple, per_pixel: float, model: Model, volume: Volume, upscaling: Upscaling
) -> int:
    """An estimate from above of a process's peak memory on the CPU, in bytes."""
    multiple, halo = model.network.multiple, model.halo_px(upscaling)
    grown = tuple(n + 2 * (halo + multiple) for n in tile[1:])
    read_px = float(np.prod(grown))
    depth = tile[0] + model.slices - 1
    tiles = lanes(model.device.type, torch.get_num_threads()).tiles
    lr = tiles * depth * read_px * volume.dtype.itemsize
    s2 = model.header.scale**2
    sr = tiles * 2 * float(np.prod(tile)) * s2 * np.dtype(model.header.dtype).itemsize
    lr += _decoded(grown, depth, volume)
    grey = 4 * float(np.prod(tile[1:])) * s2 * 8  # one slice on its way to grey values
    weights = sum(p.numel() * p.element_size() for p in model.network.parameters())
    return int(BASE_BYTES + weights + HIDDEN * per_pixel * read_px + lr + sr + grey)


def _decoded(in_plane: tuple[int, ...], depth: int, volume: Volume) -> float:
    """Bytes of the input's chunks that are unpacked at once to read a tile."""
    chunk = getattr(volume, "chunk", None)
    if chunk is None:
        return 0.0
    touched = [-(-n // c) + 1 for n, c in zip((depth, *in_plane), chunk, strict=True)]
    held = [-(-n // c) for n, c in zip(volume.shape, chunk, strict=True)]
    count = math.prod(map(min, touched, held))
    each = getattr(volume, "chunk_bytes", None) or math.prod(chunk) * volume.dtype.itemsize
    return float(min(count, UNPACKED_AT_ONCE) * each)


def activations_per_pixel(model: Model) -> float:
    """Bytes that the network holds at once for each LR pixel, seen while it runs over a patch."""
    network, side = model.network, _PROBE_PX * 2
    lr = torch.zeros(1, model.slices, side, side, device=model.device)
    with torch.inference_mode(), _Watch() as watch:
        network(lr)
    return watch.peak / side**2


class _Watch(TorchDispatchMode):
    """Adds up the tensors that are alive; ``peak`` is the most there were, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._holders: Counter[int] = Counter()  # tensors that share a storage, by its address

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        result = function(*arguments, **(keywords or {}))
        for one in result if isinstance(result, tuple | list) else (result,):
            if isinstance(one, torch.Tensor):
                self._hold(one)
        self.peak = max(self.peak, self._now)
        return result

    def _hold(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        self._now += 0 if self._holders[key] else size
        self._holders[key] += 1
        weakref.finalize(tensor, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._holders[key] -= 1
        self._now -= 0 if self._holders[key] else size


def slices_at_once(model: Model, tile: Triple, upscaling: Upscaling) -> int:
    """How many slices of a tile the network is given in one batch: on a CPU one, on a GPU all of
    them, or half as many until they fit beside the tiles under way. Tried before anything is
    written; InputError where not one fits."""
    if model.device.type == "cpu":
        return 1
    sides = [n + 2 * (model.halo_px(upscaling) + model.network.multiple) for n in tile[1:]]
    for count in _halves(tile[0]):
        try:
            _try(model, count, sides, tile)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        else:
            return count
    free, total = torch.cuda.mem_get_info(model.device)
    raise InputError(
        f"a tile of {tile[1]} x {tile[2]} LR pixels does not fit on {model.device} "
        f"({free / 1e9:.1f} of {total / 1e9:.1f} GB are free): give a smaller tile_px in the "
        "recipe, or --memory"
    )


def _try(model: Model, count: int, sides: list[int], tile: Triple) -> None:
    """Run the network over ``count`` slices as large as it will see; OutOfMemoryError."""
    under_way = lanes(model.device.type, torch.get_num_threads()).tiles
    size = np.dtype(model.header.dtype).itemsize * model.header.scale**2
    beside = torch.empty(under_way * size * math.prod(tile), dtype=torch.uint8, device=model.device)
    model.forward(torch.zeros(count, model.slices, *sides, device=model.device))
    del beside


def _halves(count: int) -> list[int]:
    """``count``, half of it, and so on down to 1."""
    return [count] if count == 1 else [count, *_halves(count // 2)]
