"""The field that a training is judged by and never learns from: which it is, and what it says.

Without one from the user it is the last rows of the pairs (``pairs/held_out``); a user who has
scanned a second field gives its pairs, and then every row of the first trains.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emsr.errors import InputError
from emsr.jobs.form import SPACING_TOLERANCE
from emsr.network.frame import interpolate, middle_slice
from emsr.pairs.held_out import split_rows
from emsr.pairs.neighbours import lr_channels
from emsr.pairs.store import Pairs, open_pairs
from emsr.quality.fidelity import psnr
from emsr.recipe import Training
from emsr.volumes.intensity import Intensity

VALIDATION_BUDGET_PX = 100_000
"""LR pixels that one validation looks at, at most: the step it chooses is decided by 2,000."""
WIDEST_PX = 512
BLOCK_PX = 16
"""Side of the LR blocks whose errors are taken as independent of one another."""
GREY_WARNING, GREY_REFUSAL = 0.1, 0.5
"""How far two grey windows may lie apart, as a share of their width."""


@dataclass(frozen=True)
class Field:
    """LR ``(b, slices, y, x)`` and noisy HR ``(b, 1, s*y, s*x)`` in network units."""

    lr: torch.Tensor
    hr: torch.Tensor

    @property
    def scale(self) -> int:
        return self.hr.shape[-1] // self.lr.shape[-1]

    @property
    def bicubic(self) -> torch.Tensor:
        """The middle LR slices interpolated: what every network has to beat."""
        return interpolate(middle_slice(self.lr), self.scale)


def open_watch(path: str | Path, of: str | Path, pairs: Pairs) -> tuple[Pairs, list[str]]:
    """The pairs at ``path`` in the grey windows of ``pairs``, which lie at ``of`` and train, and
    what the user should hear. InputError where they cannot judge that training."""
    watch = open_pairs(path)
    _refuse_same(path, watch, of, pairs)
    for what, found, expected in (
        ("scale", watch.scale, pairs.scale),
        ("HR dtype", watch.hr_dtype, pairs.hr_dtype),
    ):
        if found != expected:
            raise InputError(
                f"{path} has the {what} {found}, {of} has {expected}: watch a field like the one "
                "that trains"
            )
    _refuse_spacing(path, watch, of, pairs)
    told = [
        line
        for side in ("lr", "hr")
        if (line := _grey_difference(path, watch, of, pairs, side)) is not None
    ]
    return replace(watch, lr_window=pairs.lr_window, hr_window=pairs.hr_window), told


def _refuse_same(path: str | Path, watch: Pairs, of: str | Path, pairs: Pairs) -> None:
    """InputError where both show a field of one scan: it would be learned, not watched."""
    if Path(path).resolve() == Path(of).resolve():
        raise InputError(
            f"{path} cannot train and be watched: give pairs of another field, or leave --watch "
            "out and some rows are kept aside"
        )
    trained = _scans(pairs)
    shared = sorted(name for sha, name in _scans(watch).items() if sha in trained)
    if shared:
        raise InputError(
            f"{path} and {of} were made from the same scan ({shared[0]}): watch a field that "
            "training never sees, or leave --watch out and some rows are kept aside"
        )


def _scans(pairs: Pairs) -> dict[str, str]:
    """Name by sha256 of the scans whose field the pairs show."""
    return {
        str(scan["sha256"]): str(scan["name"])
        for scan in pairs.provenance
        if scan["role"] != "calibrate"
    }


def _refuse_spacing(path: str | Path, watch: Pairs, of: str | Path, pairs: Pairs) -> None:
    found, expected = watch.lr_spacing_nm, pairs.lr_spacing_nm
    if found is None or expected is None:
        return
    if any(abs(f / e - 1) > SPACING_TOLERANCE for f, e in zip(found, expected, strict=True)):
        said = [", ".join(f"{nm:g}" for nm in spacing) for spacing in (found, expected)]
        raise InputError(
            f"{path} has an LR spacing (z, y, x) of {said[0]} nm, {of} of {said[1]} nm: watch a "
            "field scanned like the one that trains"
        )


def _grey_difference(
    path: str | Path, watch: Pairs, of: str | Path, pairs: Pairs, side: str
) -> str | None:
    """What to say of grey windows that differ; InputError where they contradict one another."""
    ours, theirs = (getattr(one, f"{side}_window") for one in (pairs, watch))
    apart = _apart(ours, theirs)
    if apart <= GREY_WARNING:
        return None
    said = (
        f"{path}: its {side.upper()} grey values lie around {theirs.low:.4g} to {theirs.high:.4g}, "
        f"those of {of} around {ours.low:.4g} to {ours.high:.4g}"
    )
    if apart > GREY_REFUSAL:
        raise InputError(f"{said}: watch a field scanned with the same detector settings")
    return f"{said}: the network is judged on greys that it was not trained on"


def _apart(a: Intensity, b: Intensity) -> float:
    return max(abs(a.low - b.low), abs(a.high - b.high)) / (a.high - a.low)


def divided(
    pairs: Pairs, watch: Pairs | None, training: Training, network: Any
) -> tuple[slice, slice]:
    """The LR rows of ``pairs`` that train, and those that are watched: of ``watch``, or of
    ``pairs`` too where there is none."""
    height, multiple = pairs.lr.shape[1], getattr(network, "multiple", 1)
    if watch is None:
        return split_rows(height, training.validation_fraction, training.guard_px, multiple)
    most = max(multiple, VALIDATION_BUDGET_PX // min(watch.lr.shape[2], WIDEST_PX))
    return slice(0, height), slice(0, min(watch.lr.shape[1], most) // multiple * multiple)


def validation_field(
    pairs: Pairs, rows: slice, slices: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """LR ``(b, slices, y, x)`` and HR ``(b, 1, s*y, s*x)`` of the held-out rows in network units:
    as many fields, evenly spread over z, as the budget allows."""
    s = pairs.scale
    height, width = rows.stop - rows.start, min(pairs.lr.shape[2], WIDEST_PX)
    count = int(np.clip(VALIDATION_BUDGET_PX // (height * width), 1, pairs.lr.shape[0]))
    chosen = np.linspace(0, pairs.lr.shape[0] - 1, count).round().astype(int)
    # Slice by slice, for pairs that are not in memory.
    lr = [
        [np.asarray(pairs.lr[z])[rows, :width] for z in lr_channels(pairs, int(i), slices)]
        for i in chosen
    ]
    hr_rows = slice(s * rows.start, s * rows.stop)
    hr = [np.asarray(pairs.hr[z])[hr_rows, : s * width] for z in pairs.hr_slice[chosen]]
    units = (pairs.lr_window.to_unit(np.array(lr)), pairs.hr_window.to_unit(np.array(hr)))
    return torch.from_numpy(units[0]), torch.from_numpy(units[1])[:, None]


def enlarged(network: torch.nn.Module, lr: torch.Tensor) -> torch.Tensor:
    """SR ``(b, 1, s*y, s*x)`` of the field's LR images, on the CPU."""
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    with torch.inference_mode():
        sr = torch.cat([network(plane[None].to(device)).cpu() for plane in lr])
    network.train(training)
    return sr


def decibels(sr: torch.Tensor, hr: torch.Tensor) -> float:
    """PSNR in dB of one unit of range."""
    return psnr(sr[:, 0].numpy(), hr[:, 0].numpy(), 1.0)


def gain(sr: torch.Tensor, other: torch.Tensor, field: Field) -> tuple[float, float]:
    """By how many dB ``sr`` is ahead of ``other`` on the field's noisy HR, and the standard error
    of that.

    Both errors hold the same noise, so their difference is known far better than either. The
    standard error follows from how the blocks of the field differ (delta method).
    """
    ours, theirs = (_block_errors(image, field) for image in (sr, other))
    spread = theirs / theirs.mean() - ours / ours.mean()
    db = 10 / np.log(10)
    error = spread.std(ddof=1) / np.sqrt(spread.size) if spread.size > 1 else np.inf
    return float(db * np.log(theirs.mean() / ours.mean())), float(db * error)


def _block_errors(sr: torch.Tensor, field: Field) -> np.ndarray:
    """Mean squared error in each whole block."""
    side = BLOCK_PX * field.scale
    error = ((sr - field.hr) ** 2)[:, 0].double().numpy()
    n, y, x = error.shape[0], *(size // side for size in error.shape[1:])
    blocks = error[:, : y * side, : x * side].reshape(n, y, side, x, side)
    return np.asarray(blocks.mean(axis=(2, 4)).ravel())
