"""``emsr enhance``: an HR scan in, a cleaned one out on the same grid, and what that changed.

The cleaning itself is the tile machinery of ``upscale`` with a model of scale 1 (``jobs/form``),
which the command line hands in. Here is what is asked before it, and measured after it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.files import refuse_overlap, replacing
from emsr.geometry.box import Box
from emsr.jobs.enhance_repeat import judge
from emsr.jobs.enhance_sidecar import TOLD_BY_REPEAT, keep, refuse_place, set_aside
from emsr.jobs.listener import SILENT, Listener
from emsr.jobs.one_grid import Inputs, common_spacing
from emsr.microscope.estimate import Noise, noise_from_repeat
from emsr.pairs.denoise_residual import SMALLEST_RATIO, complaints, removed
from emsr.pairs.made_from import noise_of, sample_box
from emsr.quality.cleaned import (
    NO_NOISE,
    UNEQUAL,
    finite,
    gained,
    in_words,
)
from emsr.quality.fidelity import check_pair, psnr
from emsr.quality.greys import full_scale, survey
from emsr.quality.reference_free import check_repeat
from emsr.volumes.source import Volume, open_volume
from emsr.volumes.spacing import Spacing

Numbers = dict[str, Any]
NO_REPEAT = "no repeat was given: a second scan of the field (--repeat) tells it"
NO_TRUTH = "no truth was given (--truth): only phantoms have one"


@dataclass(frozen=True)
class _Sample:
    """Greys (z, y, x) of the same place in each volume."""

    hr: np.ndarray
    out: np.ndarray
    repeat: np.ndarray | None
    """On the greys of ``hr``; None where it cannot judge, or there is none."""
    truth: np.ndarray | None
    data_range: Callable[[], float]
    pixel: tuple[float, str]


def enhance(
    hr: str | Path,
    model: Path,
    out: Path,
    clean: Callable[[], Numbers],
    *,
    repeat: str | Path | None = None,
    truth: str | Path | None = None,
    spacing_nm: Spacing = None,
    levels: dict[str, int] | None = None,
    listener: Listener = SILENT,
) -> Numbers:
    """What ``clean`` says, which writes ``out`` from ``hr`` by the model, and what that changed.

    ``repeat`` is a second scan of ``hr``'s field, ``truth`` its clean image; both are checked
    before anything is written. ``levels`` are those of their pyramids, by "hr", "repeat" and
    "truth" (else 0). Once ``out`` is finished, ``OUT.enhance.json`` beside it says what was removed
    and, with a repeat in register that the model was not trained on, FRC and PSNR against the clean
    image before and after; all measured on at most 8 x 768 x 768 voxels in the middle. Of an output
    that was finished before, what the repeat or truth told that is not given now is kept.
    InputError where a volume is not on the grid of ``hr``, for a repeat that is a copy or another
    field, and where the file beside ``out`` cannot be written.
    """
    given = {name: path for name, path in (("repeat", repeat), ("truth", truth)) if path}
    refuse_overlap(out, *given.values())
    levels = levels or {}
    volumes = {n: open_volume(p, spacing_nm, levels.get(n, 0)) for n, p in given.items()}
    scan = open_volume(hr, spacing_nm, levels.get("hr", 0))
    spacing = _one_grid(scan, volumes, listener)
    place = out.with_name(f"{out.name}.enhance.json")
    refuse_place(place)
    with set_aside(place, out):
        said = clean()
    if not said["finished"]:
        return said
    pixel = (spacing[2], "nm") if spacing else (1.0, "px")
    changed = _changed(scan, open_volume(out, spacing_nm), volumes, model, pixel, listener)
    keep(changed, place, given, listener)
    with replacing(place) as part:
        part.write_text(json.dumps(changed, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    said["lines"] = [*said["lines"], *in_words(changed), f"what changed: {place}"]
    return {**said, "changed": changed}


def _one_grid(scan: Volume, volumes: dict[str, Any], listener: Listener) -> Spacing:
    """The spacing they share. InputError where they do not lie on one grid, and for a repeat that
    is none."""
    for volume in volumes.values():
        for notice in volume.notices:
            listener.say(notice)
        if volume.shape != scan.shape:
            raise InputError(
                f"{volume.name} has shape {volume.shape}, {scan.name} {scan.shape}: give a scan of "
                "the same field on the same grid"
            )
    twin, truth = (volumes.get(name) for name in ("repeat", "truth"))
    spacing = common_spacing(Inputs(scan, scan, twin, truth, None, 1))
    try:
        if twin:
            check_repeat(_middle(scan), _middle(twin))
        if truth:
            check_pair(_middle(truth), _middle(scan))
    except InputError as error:
        raise InputError(str(error).replace("the reference", "the scan")) from None
    return spacing


def _middle(volume: Volume) -> np.ndarray:
    return volume.read(_place(volume))


def _place(volume: Volume) -> Box:
    return sample_box(tuple(range(volume.shape[0])), volume.shape[1:])


def _changed(
    scan: Volume,
    out: Volume,
    volumes: dict[str, Any],
    model: Path,
    pixel: tuple[float, str],
    listener: Listener,
) -> Numbers:
    hr, twin, truth = _middle(scan), volumes.get("repeat"), volumes.get("truth")
    first = _place(scan).start[0]
    repeat = judge(hr, _middle(twin), first, twin, model, listener) if twin else None
    why = repeat.why_not if repeat else NO_REPEAT
    sample = _Sample(
        hr=hr,
        out=_middle(out),
        repeat=repeat.fitted if repeat else None,
        truth=_middle(truth) if truth else None,
        data_range=lambda: full_scale(scan.dtype, survey(iter(hr), scan.name, 1))[0],
        pixel=pixel,
    )
    reason: dict[str, str] = {}
    numbers = {
        "measured_on": list(hr.shape),
        "repeat": repeat and repeat.numbers,
        **_told(("removed",), partial(_removed, sample, scan.name, listener), reason),
        **_told(
            TOLD_BY_REPEAT[:-1], partial(_against_repeat, sample, scan.name, why, listener), reason
        ),
        **_told(("truth_psnr",), partial(_against_truth, sample), reason),
    }
    if repeat is None:
        reason["repeat"] = NO_REPEAT
    elif repeat.unknown:
        reason["repeat.trained_on"] = repeat.unknown
    if numbers["noise_ratio"] is None:
        reason.setdefault("noise_ratio", NO_NOISE)
    return {**finite(numbers, reason), "reason": reason}


def _told(keys: tuple[str, ...], measure: Callable[[], Numbers], reason: dict[str, str]) -> Numbers:
    """What is measured; null, with the reason, where that cannot be."""
    try:
        return measure()
    except InputError as error:
        reason |= dict.fromkeys(keys, str(error))
        return dict.fromkeys(keys)


def _removed(sample: _Sample, name: str, listener: Listener) -> Numbers:
    """The residual HR - OUT: how much of the noise, and whether structure went with it."""
    noise = _noise(sample, name)
    found = removed(sample.hr, sample.out.astype(np.float32), noise)
    # Too little removed is nothing to complain of: no target keeps it.
    enough = replace(found, ratio=max(found.ratio, SMALLEST_RATIO))
    doubts = [line.replace("the denoiser", "the model") for line in complaints(enough, noise)]
    for line in doubts:
        listener.say(f"warning: {line}")
    numbers = {
        **found.numbers(),
        "noise_sigma": noise.sigma,
        "noise_correlation": noise.correlation and list(noise.correlation),
        "noise_method": noise.method,
        "doubts": doubts,
    }
    return {"removed": numbers}


def _noise(sample: _Sample, name: str) -> Noise:
    if sample.repeat is not None:
        return noise_from_repeat(sample.hr, sample.repeat)
    return noise_of(sample.hr, name)


def _against_repeat(sample: _Sample, name: str, why_not: str | None, listener: Listener) -> Numbers:
    if why_not is not None or sample.repeat is None:
        raise InputError(why_not or NO_REPEAT)
    numbers = gained(sample.hr, sample.out, sample.repeat, sample.data_range(), sample.pixel)
    ratio = numbers["noise_ratio"]
    if ratio is not None and not 1 / UNEQUAL < ratio < UNEQUAL:
        listener.say(
            f"warning: the noise variance of {name} is {ratio:.2f} times that of the repeat: the "
            "clean scores take both for equally noisy"
        )
    return numbers


def _against_truth(sample: _Sample) -> Numbers:
    if sample.truth is None:
        raise InputError(NO_TRUTH)
    before, after = (
        psnr(made, sample.truth, sample.data_range()) for made in (sample.hr, sample.out)
    )
    return {"truth_psnr": {"before": before, "after": after}}
