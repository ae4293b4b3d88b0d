"""A tile on a GPU: copies and greys off the critical path, several tiles in flight.

    reading thread            computing thread               writing thread
    load: pinned, beside      begin: queue all its slices    end: wait for them, fetch beside

Nothing in ``begin`` waits for the device, so that it always has the next tile's work queued. The
same steps run on a CPU, which has no queues: there they are what they say, one after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from emsr.geometry.box import Box
from emsr.geometry.neighbours import seen_with
from emsr.volumes.intensity import Intensity, refuse_nan
from emsr.volumes.intensity_gpu import grey_of, tensor_of, unit_of

_own = threading.local()
"""Each thread's queue of copies."""


class Begun(NamedTuple):
    """A tile whose work is queued."""

    grey: Tensor
    counts: Tensor
    """Clipped and NaN, of each batch of slices."""
    done: Any
    """The event behind that work; None on a CPU."""


class Greys(NamedTuple):
    """How a model's numbers and files' greys belong together."""

    lr: Intensity
    hr: Intensity
    dtype: str


def load(lr: np.ndarray, device: torch.device) -> Tensor:
    """LR grey values on the device, in their own dtype; returns when they are there."""
    host = tensor_of(lr)
    if device.type != "cuda":
        return host
    with _beside(device):
        return host.pin_memory().to(device, non_blocking=True)


def begin(
    network: Callable[[Tensor], Tensor],
    lr: Tensor,
    crop: Box,
    greys: Greys,
    slices: int,
    at_once: int,
) -> Begun:
    """Queue the SR of LR ``(z, y, x)``: of ``crop``, in the coordinates of the SR of all of it.

    ``network`` takes ``(b, slices, y, x)`` in network units, ``at_once`` of them at most. The SR
    depends on ``at_once`` as far as the device's sums depend on the size of a batch.
    """
    if lr.is_cuda:
        lr.record_stream(torch.cuda.current_stream(lr.device))
    unit = unit_of(greys.lr, lr)
    wanted, in_plane = [*range(crop.start[0], crop.stop[0])], crop.slices[1:]
    grey, counts = _empty(crop.shape, greys.dtype, lr.device), []
    for first in range(0, len(wanted), at_once):
        now = slice(first, first + at_once)
        sr = network(_planes(unit, wanted[now], slices))[:, 0, *in_plane]
        grey[now], count = grey_of(greys.hr, sr, greys.dtype)
        counts.append(count)
    done = None
    if lr.is_cuda:
        done = torch.cuda.Event(blocking=True)
        done.record(torch.cuda.current_stream(lr.device))
    return Begun(grey, torch.stack(counts), done)


def _planes(unit: Tensor, wanted: list[int], slices: int) -> Tensor:
    """``(b, slices, y, x)``. Slices are picked one by one: a list of them as an index would be sent
    to the device, which is waited for."""
    picked = [unit[k] for z in wanted for k in seen_with(z, len(unit), slices)]
    return torch.stack(picked).view(len(wanted), slices, *unit.shape[1:])


def _empty(shape: tuple[int, ...], dtype: str, device: torch.device) -> Tensor:
    return torch.empty(shape, dtype=tensor_of(np.empty(0, dtype)).dtype, device=device)


def end(begun: Begun) -> tuple[np.ndarray, int]:
    """The SR grey values, and how many were clipped, once they are there; InputError where some
    are NaN."""
    grey, counts = begun.grey, begun.counts
    if begun.done is not None:
        begun.done.synchronize()
        with _beside(grey.device):
            grey, counts = _fetched(grey), _fetched(counts)
    clipped, lost = counts.sum(0).tolist()
    refuse_nan(lost, grey.numel())
    return grey.numpy(), clipped


def _fetched(there: Tensor) -> Tensor:
    here = torch.empty(there.shape, dtype=there.dtype, pin_memory=True)
    return here.copy_(there, non_blocking=True)


@contextmanager
def _beside(device: torch.device) -> Iterator[None]:
    """What is queued within runs beside the work of other threads; it is done at the end."""
    streams = _own.__dict__.setdefault("streams", {})
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)
    with torch.cuda.stream(streams[device]):
        yield
        streams[device].synchronize()
