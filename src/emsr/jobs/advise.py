"""The verb ``advise``: what a lab's scans are like, and which strategy and settings suit them."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.jobs.listener import SILENT, Listener
from emsr.microscope.estimate import Noise
from emsr.pairs.advice import Advice, Found, Scan
from emsr.pairs.advice import advise as advice
from emsr.pairs.made_from import noise_of, sample_box
from emsr.pairs.made_two import electrons_of
from emsr.pairs.noise import noise_correlation
from emsr.pairs.one_field import residual_px_rms
from emsr.pairs.real import measure_slice
from emsr.pairs.register import SPACING_TOLERANCE, common_scale
from emsr.pairs.scans import check_field, read_slice
from emsr.quality.reference_free import check_repeat
from emsr.volumes.source import open_volume
from emsr.volumes.spacing import Spacing
from emsr.volumes.volume import StoredVolume

LOOKED_AT = 4
"""Slices in which LR and HR are compared."""


def advise(
    lr: str | Path,
    hr: str | Path | None = None,
    repeat: str | Path | None = None,
    spacing_nm: Spacing = None,
    levels: dict[str, int] | None = None,
    listener: Listener = SILENT,
) -> dict[str, Any]:
    """Which strategy, loss and network suit the LR scan, the HR scan (of the same field or
    another) and its ``repeat``; ``spacing_nm`` (z, y, x) is that of HR, as in ``prepare``, and of
    LR where there is no HR scan.

    Returns ``strategy``, ``network``, ``slices``, ``loss``, ``why``, the command to go on with, and
    the numbers found. InputError for scans that cannot be read or are constant, and for a repeat
    that is none.
    """
    at = levels or {}
    lr_volume = open_volume(lr, spacing_nm if hr is None else None, at.get("lr", 0))
    hr_volume = open_volume(hr, spacing_nm, at.get("hr", 0)) if hr is not None else None
    repeat_volume = open_volume(repeat, None, at.get("repeat", 0)) if repeat is not None else None
    if repeat_volume is not None:
        _check_repeat(hr_volume, repeat_volume)
    for volume in (lr_volume, hr_volume, repeat_volume):
        for line in volume.notices if volume else ():
            listener.say(line)
    scans = [_scan(volume) for volume in (lr_volume, hr_volume) if volume]
    scale = _scale(lr_volume, hr_volume)
    likeness, residual, correlation = _compared(lr_volume, hr_volume)
    found = Found(
        lr=scans[0],
        hr=scans[1] if hr_volume else None,
        likeness=likeness,
        residual_px=residual,
        noise_correlation=correlation,
        repeat=repeat_volume is not None,
    )
    said = advice(found)
    given = {"hr": hr, "lr": lr, "calibrate": lr, "repeat": repeat}
    command = _command(said, given, scale, spacing_nm, at)
    return {
        "strategy": said.strategy,
        "network": said.network,
        "slices": said.slices,
        "loss": said.loss,
        "why": list(said.why),
        "command": command,
        "found": asdict(found),
        "lines": _lines(said, command),
    }


def _check_repeat(hr: StoredVolume | None, repeat: StoredVolume) -> None:
    if hr is None:
        raise InputError(f"{repeat.name} repeats an HR scan that is not given: give it with --hr")
    if repeat.shape != hr.shape:
        raise InputError(
            f"{repeat.name} is {repeat.shape}, {hr.name} is {hr.shape} (z, y, x): expected two "
            "scans on one grid; crop them"
        )
    box = sample_box(tuple(range(hr.shape[0])), hr.shape[1:])
    try:
        check_repeat(hr.read(box), repeat.read(box))
    except InputError as error:
        said = str(error).replace("the reference", hr.name).replace("the repeat", repeat.name)
        raise InputError(said) from None


def _scan(volume: StoredVolume) -> Scan:
    check_field(volume.shape, volume.name)
    planes = _sampled(volume)
    noise = _noise(planes, volume.name)
    grey = planes.astype(np.float64)
    variance = float(np.mean(grey.var(axis=(1, 2))))
    clean = max(variance - (noise.sigma**2 if noise else 0.0), 0.0)
    return Scan(
        name=Path(volume.name).name,
        pixels=int(np.prod(volume.shape)),
        noise=noise,
        contrast=float(np.sqrt(clean)),
        clipped=_clipped(planes),
        neighbours=_neighbours(grey, clean) if len(planes) > 1 else None,
        electrons=None if noise is None else electrons_of(noise, float(grey.mean())),
    )


def _sampled(volume: StoredVolume) -> np.ndarray:
    """(z, y, x) grey values of adjacent slices in the middle of the volume."""
    planes = volume.read(sample_box(tuple(range(volume.shape[0])), volume.shape[1:]))
    if not np.isfinite(planes).all():
        raise InputError(
            f"{volume.name} holds values that are NaN or infinite, every value must be a number: "
            "mask or cut them"
        )
    kept = planes[planes.min(axis=(1, 2)) < planes.max(axis=(1, 2))]
    if not len(kept):
        raise InputError(f"{volume.name}: the slices in its middle are constant: give another part")
    return kept


def _noise(planes: np.ndarray, name: str) -> Noise | None:
    try:
        return noise_of(planes, name)
    except InputError:
        return None


def _clipped(planes: np.ndarray) -> float:
    """Share of the grey values at the ends of an integer dtype."""
    if planes.dtype.kind not in "ui":
        return 0.0
    limits = np.iinfo(planes.dtype)
    return float(np.mean((planes == limits.min) | (planes == limits.max)))


def _neighbours(grey: np.ndarray, clean: float) -> float:
    """Correlation in [-1, 1] of adjacent slices; their noise adds to neither side of it."""
    flat = grey - grey.mean(axis=(1, 2), keepdims=True)
    shared = float(np.mean(flat[1:] * flat[:-1]))
    return float(np.clip(shared / clean, -1.0, 1.0)) if clean > 0 else 0.0


def _scale(lr: StoredVolume, hr: StoredVolume | None) -> int | None:
    """HR pixels along one LR pixel, from the spacings; None where these do not tell."""
    if hr is None or lr.spacing_nm is None or hr.spacing_nm is None:
        return None
    ratio = lr.spacing_nm[2] / hr.spacing_nm[2]
    scale = round(ratio)
    return scale if scale >= 1 and abs(ratio / scale - 1) <= SPACING_TOLERANCE else None


def _compared(
    lr: StoredVolume, hr: StoredVolume | None
) -> tuple[float | None, float | None, float | None]:
    """Likeness, shift in HR pixels (rms), and noise correlation of LR and HR; None where their
    grids do not match."""
    if hr is None:
        return None, None, None
    try:
        scale = common_scale(lr, hr, None)
    except InputError:
        return None, None, None
    every = np.unique(np.linspace(0, lr.shape[0] - 1, LOOKED_AT).round().astype(int))
    measured = [
        measure_slice(int(z), read_slice(lr, int(z)), read_slice(hr, int(z)), scale) for z in every
    ]
    likeness = float(np.mean([m.likeness for m in measured]))
    shifts = np.array([m.shift_px for m in measured if np.isfinite(m.shift_px).all()])
    residual = residual_px_rms(shifts) if len(shifts) else None
    correlation = noise_correlation(np.mean([m.noise for m in measured], axis=0))
    return likeness, residual, correlation


def _command(
    said: Advice,
    given: dict[str, str | Path | None],
    scale: int | None,
    spacing_nm: Spacing,
    levels: dict[str, int],
) -> str | None:
    """How to go on, to be typed."""
    if said.strategy is None:
        return None
    words = ["emsr", "prepare", "--strategy", said.strategy]
    for role in ("hr", *said.needs):
        words += [f"--{role}", str(given[role])]
    if scale is not None and "lr" not in said.needs:
        words += ["--scale", str(scale)]
    if spacing_nm is not None:
        words += ["--spacing", ",".join(f"{nm:g}" for nm in spacing_nm)]
    chosen = {role: levels.get("lr" if role == "calibrate" else role, 0) for role in said.needs}
    chosen["hr"] = levels.get("hr", 0)
    if any(chosen.values()):
        words += ["--level", ",".join(f"{role}={level}" for role, level in chosen.items())]
    return shlex.join([*words, "--out", "pairs.zarr"])


def _lines(said: Advice, command: str | None) -> list[str]:
    because, settings, *rest = said.why
    first = f"strategy: {said.strategy or 'none yet'} ({because})"
    return [first, f"train: {said.network}, {settings}", *rest, *([command] if command else [])]
