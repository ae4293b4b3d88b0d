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
from emsr.jobs.listener import SILENT, Listener
from emsr.jobs.provenance import Witness, told_by
from emsr.microscope.estimate import Noise, noise_from_repeat
from emsr.pairs.denoise_residual import SMALLEST_RATIO, complaints, removed
from emsr.pairs.made_from import noise_of, sample_box
from emsr.quality.cleaned import UNEQUAL, cleaned_psnr, noise_ratio
from emsr.quality.fidelity import check_pair, psnr
from emsr.quality.greys import full_scale, survey
from emsr.quality.reference_free import check_repeat
from emsr.quality.resolution import crossing_note, frc, frc_resolution_nm
from emsr.volumes.source import Volume, open_volume
from emsr.volumes.spacing import Spacing
from emsr.volumes.volume import iterate_slices

Numbers = dict[str, Any]
NO_REPEAT = "no repeat was given: a second scan of the field (--repeat) tells it"
NOT_POSITIVE = "the estimated error is not positive: it is smaller than the noise of the estimate"
ASSUMED = (
    "the mean of (OUT - repeat)^2 less the noise of the repeat, half the mean of (HR - repeat)^2: "
    "both scans equally noisy, in register, of equal greys"
)


@dataclass(frozen=True)
class _Sample:
    """Greys (z, y, x) of the same place in each volume."""

    hr: np.ndarray
    out: np.ndarray
    repeat: np.ndarray | None
    truth: np.ndarray | None


def enhance(
    hr: str | Path,
    model: Path,
    out: Path,
    clean: Callable[[], Numbers],
    *,
    repeat: str | Path | None = None,
    truth: str | Path | None = None,
    spacing_nm: Spacing = None,
    level: int = 0,
    listener: Listener = SILENT,
) -> Numbers:
    """What ``clean`` says, which writes ``out`` from ``hr`` by the model, and what that changed.

    ``repeat`` is a second scan of ``hr``'s field, ``truth`` its clean image; both are checked
    before anything is written. Once ``out`` is finished, ``OUT.enhance.json`` beside it says what
    was removed and, with a repeat the model was not trained on, FRC and PSNR against the clean
    image before and after; all measured on at most 8 x 768 x 768 voxels in the middle. InputError
    where a volume is not on the grid of ``hr``, and for a repeat that is a copy or another field.
    """
    beside = {name: path for name, path in (("repeat", repeat), ("truth", truth)) if path}
    refuse_overlap(out, *beside.values())
    volumes = {name: open_volume(path, spacing_nm, 0) for name, path in beside.items()}
    scan = open_volume(hr, spacing_nm, level)
    for volume in volumes.values():
        _check_grid(volume, scan)
    if "repeat" in volumes:
        check_repeat(_middle(scan), _middle(volumes["repeat"]))
    if "truth" in volumes:
        check_pair(_middle(volumes["truth"]), _middle(scan))
    said = clean()
    if not said["finished"]:
        return said
    found = open_volume(out, spacing_nm)
    changed = _changed(scan, found, volumes, model, listener)
    place = out.with_name(f"{out.name}.enhance.json")
    with replacing(place) as part:
        part.write_text(json.dumps(changed, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    said["lines"] = [*said["lines"], *_lines(changed, place)]
    return {**said, "changed": changed}


def _check_grid(volume: Volume, scan: Volume) -> None:
    if volume.shape != scan.shape:
        raise InputError(
            f"{volume.name} has shape {volume.shape}, {scan.name} {scan.shape}: give a scan of the "
            "same field on the same grid"
        )


def _middle(volume: Volume) -> np.ndarray:
    y, x = volume.shape[1:]
    return volume.read(sample_box(tuple(range(volume.shape[0])), (y, x)))


def _changed(
    scan: Volume, out: Volume, volumes: dict[str, Any], model: Path, listener: Listener
) -> Numbers:
    twin, truth = (volumes.get(name) for name in ("repeat", "truth"))
    others = (volume and _middle(volume) for volume in (twin, truth))
    sample = _Sample(_middle(scan), _middle(out), *others)
    reason: dict[str, str] = {}
    why = _why_no_score(twin, model)
    with_noise = partial(_removed, sample, scan.name, listener)
    with_repeat = partial(_against_repeat, sample, scan, why, listener)
    return {
        "measured_on": list(sample.hr.shape),
        **_told(("removed",), with_noise, reason),
        **_told(("frc", "clean_psnr", "noise_removed"), with_repeat, reason),
        **_told(("truth_psnr",), partial(_against_truth, sample, scan), reason),
        "reason": reason,
    }


def _told(keys: tuple[str, ...], measure: Callable[[], Numbers], reason: dict[str, str]) -> Numbers:
    """What is measured; null, with the reason, where that cannot be."""
    try:
        return measure()
    except InputError as error:
        reason |= dict.fromkeys(keys, str(error))
        return dict.fromkeys(keys)


def _range(sample: _Sample, scan: Volume) -> float:
    return full_scale(scan.dtype, survey(iter(sample.hr), scan.name, 1))[0]


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


def _against_repeat(
    sample: _Sample, scan: Volume, why_not: str | None, listener: Listener
) -> Numbers:
    if why_not is not None or sample.repeat is None:
        raise InputError(why_not or NO_REPEAT)
    ratio = noise_ratio(sample.hr, sample.repeat)
    if not 1 / UNEQUAL < ratio < UNEQUAL:
        listener.say(
            f"warning: the noise variance of {scan.name} is {ratio:.2f} times that of the repeat "
            "(or their greys differ): the clean scores take both for equally noisy"
        )
    range_ = _range(sample, scan)
    before, after = (_clean(made, sample, range_) for made in (sample.hr, sample.out))
    share = None
    if before["db"] is not None and after["db"] is not None:
        share = 1 - 10 ** ((before["db"] - after["db"]) / 10)
    return {
        "frc": {
            "before": _frc(sample.hr, sample.repeat, scan.spacing_nm),
            "after": _frc(sample.out, sample.repeat, scan.spacing_nm),
        },
        "clean_psnr": {"before": before, "after": after, "assumed": ASSUMED},
        "data_range": range_,
        "noise_ratio": ratio,
        "noise_removed": share,
    }


def _clean(made: np.ndarray, sample: _Sample, range_: float) -> Numbers:
    assert sample.repeat is not None
    rng = np.random.default_rng(0)
    value, interval = cleaned_psnr(made, sample.hr, sample.repeat, range_, rng)
    why = NOT_POSITIVE if value is None else None
    return {"db": value, "interval": list(interval), "why": why}


def _frc(made: np.ndarray, repeat: np.ndarray, spacing_nm: Spacing) -> Numbers:
    """Where the FRC falls below 1/7, in nm, or in pixels where the spacing is not known."""
    curve = frc(made, repeat)
    y, x = made.shape[1:]
    pixel = spacing_nm[2] if spacing_nm else 1.0
    return {
        "resolution": frc_resolution_nm(curve, min(y, x), pixel),
        "unit": "nm" if spacing_nm else "px",
        "note": crossing_note(curve),
        "mean": float(curve[1:].mean()),
        "correlation": curve.tolist(),
    }


def _against_truth(sample: _Sample, scan: Volume) -> Numbers:
    if sample.truth is None:
        raise InputError("no truth was given: only phantoms have one")
    range_ = _range(sample, scan)
    before, after = (psnr(made, sample.truth, range_) for made in (sample.hr, sample.out))
    return {"truth_psnr": {"before": before, "after": after}}


def _why_no_score(repeat: Volume | None, model: Path) -> str | None:
    """None where the repeat can judge; it is read in full, to see whether it was trained on."""
    if repeat is None:
        return NO_REPEAT
    trained, _ = told_by(model, model)
    if trained is None:
        return None
    witness = Witness(trained)
    for plane in iterate_slices(repeat):
        witness.look(plane)
    return witness.verdict()


def _lines(changed: Numbers, place: Path) -> list[str]:
    lines = []
    if gone := changed["removed"]:
        lines.append(
            f"removed: {gone['ratio']:.2f} times the noise of {gone['noise_sigma']:.1f} grey "
            f"levels; next pixels of it correlate by {max(gone['autocorrelation'], key=abs):.2f}, "
            f"at edges it is {gone['edge_excess']:.2f} times as strong as on flat tissue"
        )
    if clean := changed["clean_psnr"]:
        before, after = (_db(clean[when]["db"]) for when in ("before", "after"))
        means = [changed["frc"][when]["mean"] for when in ("before", "after")]
        lines.append(
            f"against the unseen clean image about {after}, {before} before; mean FRC with the "
            f"repeat {means[1]:.2f}, {means[0]:.2f} before"
        )
    else:
        lines.append(f"no score against the clean image: {changed['reason']['clean_psnr']}")
    return [*lines, f"what changed: {place}"]


def _db(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} dB"
