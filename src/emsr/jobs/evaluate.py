"""``emsr evaluate``: how good a super-resolved volume is, as ``scores.json`` and ``report.html``.

Two passes over z, one slice of each volume in memory at a time: the first looks at the reference
(and fits greys, if asked to), the second scores. Nothing is fitted, cropped or resampled unasked.
What is known of the reference's noise, and of the network's training, is gathered in ``before``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emsr.errors import InputError
from emsr.files import refuse_overlap, replacing
from emsr.jobs.before import First, first_look, raw_plane
from emsr.jobs.listener import SILENT, Listener
from emsr.jobs.one_grid import (
    Inputs,
    common_spacing,
    greys_unlike,
    open_inputs,
    say_notices,
)
from emsr.network.frame import interpolate
from emsr.quality.blocks import side_for
from emsr.quality.greys import full_scale, least_squares
from emsr.quality.regions import check_side
from emsr.quality.report import Slice, report_html
from emsr.quality.resolution import square_pixel_nm
from emsr.quality.scores import AGAINST, Marks, Scores, Tally, agreement
from emsr.volumes.source import Volume

Planes = Callable[[int], np.ndarray]
"""Gives slice z, ``(y, x)`` in float64."""

NO_SPACING = "no file states its spacing: give --spacing Z,Y,X in nm"


def evaluate(
    sr: str | Path,
    reference: str | Path,
    out: str | Path,
    repeat: str | Path | None = None,
    lr: str | Path | None = None,
    truth: str | Path | None = None,
    spacing_nm: tuple[float, float, float] | None = None,
    levels: dict[str, int] | None = None,
    fit_grey: bool = False,
    overwrite: bool = False,
    seed: int = 0,
    sr2: str | Path | None = None,
    model: str | Path | None = None,
    regions: int | None = None,
    listener: Listener = SILENT,
) -> dict[str, Any]:
    """Score the volume at ``sr`` against the one at ``reference``; write both files into ``out``.

    ``repeat`` (a second scan of the reference's field) tells its noise from SR's error, for scores
    against the unseen clean image; without it the noise is read off the reference. ``lr`` adds
    bicubic interpolation as the yardstick; ``truth`` adds scores against it; ``sr2`` (the SR of
    another LR scan) how far the two agree. ``model`` made the SR, where the SR's file does not say
    so itself: it tells whether the reference was trained on. ``regions`` adds scores of squares of
    so many pixels. ``spacing_nm`` (z, y, x) of the HR grid overrides the files'; ``levels`` are
    those of the inputs' pyramids by role, 0 where absent. With ``fit_grey`` gain and offset of SR
    and bicubic are fitted to the reference by least squares first, and reported.
    ``seed`` draws the bootstrap. Returns what stands in scores.json, and ``report``, its path.
    Raises InputError for volumes that do not lie on one grid, contradict each other in spacing,
    are constant, clipped or too small, or hold NaN; and for existing files without ``overwrite``.
    """
    given = {
        "sr": sr,
        "reference": reference,
        "repeat": repeat,
        "lr": lr,
        "truth": truth,
        "sr2": sr2,
    }
    given = {name: path for name, path in given.items() if path is not None}
    refuse_overlap(out)
    folder = _free_folder(Path(out), overwrite)
    if regions is not None:
        check_side(regions)
    inputs = open_inputs(given, spacing_nm, levels or {})
    say_notices(inputs, listener)
    if unlike := greys_unlike(inputs):
        listener.say(unlike)
    spacing = common_spacing(inputs)
    first = first_look(inputs, sr, model, listener)
    data_range, why = full_scale(inputs.reference.dtype, first.survey)
    fits = _fits(inputs) if fit_grey else {}
    sources: dict[str, Planes] = {
        name: partial(_fitted, plane, fits.get(name, (1.0, 0.0)))
        for name, plane in _sources(inputs).items()
    }
    marks, agreed = _score(inputs, sources, first, data_range, regions, listener)
    pixel = square_pixel_nm(spacing, NO_SPACING)
    given_only = {"truth", "consistency"}
    scored = {"truth"} if inputs.truth else set()
    scored |= {"consistency"} if inputs.sr2 else set()
    scores: Scores = {
        "inputs": {name: str(path) for name, path in given.items()},
        "shape": list(inputs.reference.shape),
        "spacing_nm": spacing and list(spacing),
        "scale": inputs.scale if inputs.lr else None,
        "data_range": data_range,
        "data_range_reason": why,
        "grey_fit": {k: {"gain": g, "offset": o} for k, (g, o) in fits.items()} or None,
        "against": {k: v for k, v in AGAINST.items() if k not in given_only or k in scored},
        "clipped_fraction": first.survey.at_ends,
        **first.said,
        **marks["sr"].scores(*pixel, seed),
    }
    if inputs.lr:
        scores["bicubic"] = marks["bicubic"].scores(*pixel, seed)
    if agreed:
        scores["consistency"] = agreement(agreed, pixel[0])
    _make(folder)
    page = report_html(scores, _shown(inputs, sources, fits))
    # An old scores.json beside a new report would belong to something else.
    (folder / "scores.json").unlink(missing_ok=True)
    _write(folder / "report.html", page)
    _write(folder / "scores.json", json.dumps(scores, indent=1, allow_nan=False) + "\n")
    report = str(folder / "report.html")
    return {**scores, "report": report, "lines": _lines(scores, report)}


def _lines(scores: Scores, report: str) -> list[str]:
    """What a person reads at the end: SR, then bicubic, then where to look."""
    named = [("SR", scores), *([("bicubic", scores["bicubic"])] if "bicubic" in scores else [])]
    lines = []
    for name, found in named:
        parts = [f"{_number(found, 'psnr', 'dB')} PSNR against the noisy reference"]
        if found.get("clean_psnr") is not None:
            parts.append(f"about {_number(found, 'clean_psnr', 'dB')} against the clean image")
        elif "clean_psnr" in found["reason"]:
            parts.append(f"unknown against the clean image ({found['reason']['clean_psnr']})")
        parts.append(f"resolves {_number(found, 'frc_resolution_nm', 'nm')}")
        lines.append(f"{name}: " + ", ".join(parts))
    return [*lines, f"report: {report}"]


def _number(found: Scores, key: str, unit: str) -> str:
    if found[key] is None:
        return f"(no {unit}: {found['reason'].get(key, 'unknown')})"
    return f"{found[key]:.1f} {unit}"


def _sources(inputs: Inputs) -> dict[str, Planes]:
    """What is scored, as functions that give slice z on the HR grid."""
    sources: dict[str, Planes] = {"sr": partial(_plane, inputs.sr)}
    if inputs.lr:
        sources["bicubic"] = partial(_enlarged, inputs.lr, inputs.scale)
    return sources


def _fits(inputs: Inputs) -> dict[str, tuple[float, float]]:
    """Gain and offset of each source that bring it closest to the reference."""
    slices = range(inputs.reference.shape[0])
    return {
        name: least_squares((plane(z), _plane(inputs.reference, z)) for z in slices)
        for name, plane in _sources(inputs).items()
    }


def _score(
    inputs: Inputs,
    sources: dict[str, Planes],
    first: First,
    data_range: float,
    regions: int | None,
    listener: Listener,
) -> tuple[dict[str, Marks], Tally | None]:
    """The second pass: every slice of every source against all there is; and SR against another."""
    px = side_for(inputs.reference.shape)
    marks = {
        # What a network was trained on says nothing about interpolation.
        name: Marks(data_range, first.known(name), px, regions)
        for name in sources
    }
    agreed = Tally(data_range) if inputs.sr2 else None
    slices = inputs.reference.shape[0]
    for z in range(slices):
        reference = _plane(inputs.reference, z)
        repeat = _plane(inputs.repeat, z) if inputs.repeat else None
        truth = _plane(inputs.truth, z) if inputs.truth else None
        for name, plane in sources.items():
            marks[name].add(plane(z), reference, repeat, truth)
        if agreed and inputs.sr2:
            agreed.add(_plane(inputs.sr, z), _plane(inputs.sr2, z))
        listener.progress("evaluate", z + 1, slices, "")
    return marks, agreed


def _shown(
    inputs: Inputs, sources: dict[str, Planes], fits: dict[str, tuple[float, float]]
) -> Slice:
    """The middle slice of everything, in the reference's grey levels."""
    z = inputs.reference.shape[0] // 2
    lr = inputs.lr and partial(_nearest, inputs.lr, inputs.scale)
    return Slice(
        z=z,
        sr=sources["sr"](z),
        reference=_plane(inputs.reference, z),
        lr=_fitted(lr, fits.get("bicubic", (1.0, 0.0)), z) if lr else None,
        bicubic=sources["bicubic"](z) if inputs.lr else None,
        truth=_plane(inputs.truth, z) if inputs.truth else None,
        scale=inputs.scale,
    )


def _plane(volume: Volume, z: int) -> np.ndarray:
    """Slice z as float64 ``(y, x)``."""
    return raw_plane(volume, z).astype(np.float64)


def _enlarged(lr: Volume, scale: int, z: int) -> np.ndarray:
    """Bicubic interpolation of slice z, not clipped: it may overshoot the greys of LR."""
    batch = torch.from_numpy(_plane(lr, z))[None, None]
    return interpolate(batch, scale)[0, 0].numpy()


def _nearest(lr: Volume, scale: int, z: int) -> np.ndarray:
    return _plane(lr, z).repeat(scale, axis=0).repeat(scale, axis=1)


def _fitted(plane: Planes, fit: tuple[float, float], z: int) -> np.ndarray:
    gain, offset = fit
    return gain * plane(z) + offset


def _free_folder(out: Path, overwrite: bool) -> Path:
    """The output folder; refused where results would be overwritten unasked, or where a folder
    cannot be made."""
    blocked = next((part for part in (out, *out.parents) if part.exists()), out)
    if blocked.exists() and not blocked.is_dir():
        raise InputError(f"{out} cannot be made a folder for the report: {blocked} is a file")
    for path in (out / "scores.json", out / "report.html"):
        if path.exists() and not overwrite:
            raise InputError(f"{path} exists already: choose another --out or give --overwrite")
    return out


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{out} cannot be made a folder for the report: {error.strerror}"
        ) from None


def _write(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
