"""In which form the output is wanted: its dtype, its grey scale, and the grid of its input.

Applied to the volume and the model before anything is planned, so that all that follows (tiles,
memory, identity) sees only the volume that is read and the greys that are written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from emsr.errors import InputError
from emsr.geometry.tiles import finer_spacing
from emsr.jobs.listener import Listener
from emsr.jobs.model import Model
from emsr.network.averaged import Averaged
from emsr.network.checkpoint import Header
from emsr.volumes.resample import resampled
from emsr.volumes.source import StoredVolume, Volume

SPACING_TOLERANCE = 0.05
FEWEST_LEVELS = 16
"""Of an integer output: with fewer grey levels in the model's window it is no image any more."""


@dataclass(frozen=True)
class Form:
    """What is wanted other than by default: dtype and greys of the HR scans trained on."""

    dtype: str | None = None
    """The same grey values stored as this: rounded and saturated where it is an integer."""
    keep_range: bool = False
    """The greys of the input instead of the HR scans', and its dtype where none is given."""
    resample: bool = False
    """Bring an input of another in-plane spacing to the one the model was trained at."""
    clean: bool = False
    """The input's own grid, greys and dtype: what ``emsr enhance`` writes of an HR scan."""


def in_form(volume: StoredVolume, model: Model, form: Form) -> tuple[StoredVolume, Model]:
    """The volume to read and the model to use for an output of ``form``.

    InputError where the input cannot be resampled, the dtype asked for cannot hold the greys, or a
    scan to be cleaned is not of the spacing that the model's HR scans had.
    """
    if form.clean:
        _refuse_other_spacing(volume, model.header)
        model = _cleaning(model, volume.dtype)
    header = model.header
    if form.keep_range:
        header = replace(header, hr_window=header.lr_window, dtype=volume.dtype.name)
    if form.dtype:
        header = replace(header, dtype=form.dtype)
    if header != model.header:
        _refuse_unfit(header)
    return _on_grid(volume, model) if form.resample else volume, replace(model, header=header)


def _cleaning(model: Model, dtype: np.dtype) -> Model:
    """The model as one of scale 1 that takes and gives the greys of an HR scan of ``dtype``.

    A finer one's SR is averaged back. It sees the HR scan in the HR window: that is where the greys
    of a tissue are what they were at LR (docs/enhancer.md has the other way too).
    """
    header = replace(model.header, dtype=dtype.name)
    if header.scale == 1:
        return replace(model, header=replace(header, hr_window=header.lr_window))
    header = replace(
        header, scale=1, lr_window=header.hr_window, lr_spacing_nm=header.hr_spacing_nm
    )
    return replace(model, network=Averaged(model.network, model.header.scale), header=header)


def _refuse_other_spacing(volume: StoredVolume, header: Header) -> None:
    """As ``sr_spacing`` does, for a scan that stays on its grid: it cannot be resampled."""
    found = volume.spacing_nm
    trained = header.lr_spacing_nm if header.scale == 1 else header.hr_spacing_nm
    if found is None or trained is None or not _differ(found[1:], trained[1:]):
        return
    low = header.lr_spacing_nm
    is_lr = header.scale > 1 and low is not None and not _differ(found[1:], low[1:])
    raise InputError(
        f"{volume.name} has an in-plane spacing of {_nm(found)}, the model cleans scans of "
        f"{_nm(trained)}"
        + (" and takes this one for LR (emsr upscale)" if is_lr else "")
        + ": choose a model of that spacing, or correct it with --spacing"
    )


def _refuse_unfit(header: Header) -> None:
    dtype, (low, high) = np.dtype(header.dtype), header.hr_window
    if dtype.kind == "f":
        return
    limits = np.iinfo(dtype)
    if min(high, limits.max) - max(low, limits.min) < (high - low) / 2:
        raise InputError(
            f"the output's grey values lie around {low:g} to {high:g}, {dtype} holds {limits.min} "
            f"to {limits.max} (values are stored, not rescaled): choose another --dtype"
        )
    if high - low < FEWEST_LEVELS:
        raise InputError(
            f"the output's grey values lie around {low:g} to {high:g}: as {dtype} they would be "
            "too few levels: choose --dtype float32"
        )


def _on_grid(volume: StoredVolume, model: Model) -> StoredVolume:
    found, trained = volume.spacing_nm, model.header.lr_spacing_nm
    if found is None:
        raise InputError(f"{volume.name}: spacing unknown; --resample needs it: give --spacing")
    if trained is None:
        raise InputError(
            "the model does not know the spacing it was trained at, so there is none to resample "
            "to: leave --resample out"
        )
    if not _differ(found[1:], trained[1:]):
        said = f"{volume.name}: not resampled, its in-plane spacing is that of the model"
        if found[1:] != trained[1:]:
            said += f" within {SPACING_TOLERANCE:.0%}"
        return replace(volume, notices=(*volume.notices, said))
    made = resampled(volume, trained[1:])
    said = f"{volume.name}: resampled from {_nm(found)} to {_nm(trained)} in plane"
    return replace(made, notices=(*volume.notices, said))


def sr_spacing(
    volume: Volume, model: Model, listener: Listener
) -> tuple[float, float, float] | None:
    """Spacing of the SR volume; InputError where the input's is not what the model was trained
    at."""
    found, trained = volume.spacing_nm, model.header.lr_spacing_nm
    if found is None:
        listener.say(f"{volume.name}: spacing unknown, so the output's is too; --spacing gives it")
        return None
    if trained is None:
        listener.say("the model does not know the spacing it was trained at")
    elif _differ(found[1:], trained[1:]):
        raise InputError(
            f"{volume.name} has an in-plane spacing of {_nm(found)}, the model was trained at "
            f"{_nm(trained)}: choose a model of that spacing, bring the input to the model's with "
            "--resample, or correct it with --spacing"
        )
    # Of one slice alone z spacing is a convention, and a network of one slice does not see it.
    elif model.slices > 1 and volume.shape[0] > 1 and _differ(found[:1], trained[:1]):
        raise InputError(
            f"{volume.name} has slices {found[0]:g} nm apart, the model looks at {model.slices} "
            f"adjacent ones and was trained at {trained[0]:g} nm: choose a model of that spacing, "
            "one with slices = 1, or correct the input's with --spacing"
        )
    return finer_spacing(found, model.header.scale)


def _nm(spacing_nm: tuple[float, float, float]) -> str:
    return f"{spacing_nm[1]:g} x {spacing_nm[2]:g} nm"


def _differ(found: tuple[float, ...], trained: tuple[float, ...]) -> bool:
    return any(abs(f / t - 1) > SPACING_TOLERANCE for f, t in zip(found, trained, strict=True))
