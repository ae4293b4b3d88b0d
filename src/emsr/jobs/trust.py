"""``emsr upscale --trust``: how far a finished SR volume can be trusted, as maps beside it.

    doubt, power, structure     does the SR explain the LR it was made from (quality/consistency)
    spread, error               do eight flips and rotations agree, and what error goes with that

A second pass over the tiles, once the SR is finished (``trust_maps``). Written like the SR itself:
a map's shard that exists is complete, and what is unfinished is no image.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emsr import __version__
from emsr.errors import InputError
from emsr.jobs.bench import Bench, resumable
from emsr.jobs.claim import claimed
from emsr.jobs.listener import SILENT, Listener
from emsr.jobs.memory import peak_memory
from emsr.jobs.trust_degradation import (
    Told,
    noise_facts,
    noise_told,
    told_of,
)
from emsr.jobs.trust_maps import Maps, by_residual, by_spread
from emsr.jobs.trust_summary import ALL, CONSISTENCY, ERROR, SPREAD, lines_of, summary_of
from emsr.network.checkpoint import Header
from emsr.recipe import DOUBT_PX, TRUST_WINDOW_PX
from emsr.volumes import omezarr, omezarr_maps
from emsr.volumes.flatten import is_flat, software_of
from emsr.volumes.source import Volume, open_volume
from emsr.volumes.spacing import Spacing

SMALLEST_PX = 32
"""Sides of LR images from which blur and noise can be told."""


@dataclass(frozen=True)
class Trust:
    """What is wanted to know of the output, beside its consistency with the input."""

    spread: bool = False
    """How far the answers to eight flips and rotations scatter: eight times the network's work."""


@dataclass(frozen=True)
class Subject:
    """What is judged: the SR at ``out``, made by ``bench`` from its LR volume. ``trained`` is the
    model's header as its file has it, before the form of the output was chosen."""

    out: Path
    bench: Bench
    trained: Header
    spread: bool

    @property
    def path(self) -> Path:
        return trust_path(self.out)

    @property
    def maps(self) -> tuple[str, ...]:
        wanted = (SPREAD, ERROR) if self.trained.spread else (SPREAD,)
        return CONSISTENCY + (wanted if self.spread else ())


def trust_path(out: Path) -> Path:
    """Where the maps of the SR at ``out`` lie: sr.ome.zarr and sr.tif have sr.trust.ome.zarr."""
    stem = out.name.removesuffix(out.suffix)
    return out.with_name(f"{stem.removesuffix('.ome')}.trust.ome.zarr")


def refuse_trust(subject: Subject, overwrite: bool) -> None:
    """InputError, before anything is computed, where the maps could not be written after it."""
    volume = subject.bench.volume
    if subject.bench.work_on.form.resample:
        raise InputError(
            f"{volume.name}: --trust compares with the noise of a scan, which --resample changes: "
            "leave one of the two out"
        )
    if min(volume.shape[1:]) < SMALLEST_PX:
        raise InputError(
            f"{volume.name} has slices of {volume.shape[1]} x {volume.shape[2]} pixels: --trust "
            f"tells noise from structure in {SMALLEST_PX} x {SMALLEST_PX} or more; leave it out"
        )
    noise_told(volume, subject.trained, SILENT)
    if _theirs(subject.path, overwrite) is not None and not (overwrite or _finished(subject.out)):
        raise InputError(
            f"{subject.path} exists, but no finished {subject.out.name} that it could be of: move "
            "it, or replace it with --overwrite"
        )


def _finished(out: Path) -> bool:
    """Whether an SR is there, whoever made it: writing it refuses those of others."""
    if is_flat(out):
        return out.is_file()
    try:
        state = omezarr.read_state(out)
    except InputError:
        return True
    return state is not None and state["state"] == omezarr.FINISHED


def _theirs(path: Path, overwrite: bool) -> dict[str, Any] | None:
    """The state of the maps at ``path``; InputError where something else is there, or, with
    ``overwrite``, what is no Zarr."""
    try:
        return omezarr_maps.state_of(path)
    except InputError:
        if not (overwrite and (path / "zarr.json").is_file()):
            raise
        return {"run": None}


def trusted(
    subject: Subject, summary: dict[str, Any], overwrite: bool, listener: Listener
) -> dict[str, Any]:
    """``summary`` of an upscaling and, under ``trust``, what ``write_trust`` says; null where the
    output is not finished yet."""
    if not summary["finished"]:
        why = "the output is not finished: the slab that ends last writes the maps"
        return {**summary, "trust": None, "reason": {**summary["reason"], "trust": why}}
    began, before = time.monotonic(), peak_memory()
    found = write_trust(subject, overwrite, listener)
    seconds = time.monotonic() - began
    return {
        **summary,
        "seconds": round(summary["seconds"] + seconds, 2),
        "peak_memory_bytes": summary["peak_memory_bytes"] + peak_memory() - before,
        "trust": found,
        "lines": [*summary["lines"], *(f"{line} in {seconds:.0f} s" for line in lines_of(found))],
    }


def write_trust(subject: Subject, overwrite: bool, listener: Listener) -> dict[str, Any]:
    """Write the maps of a finished SR, or what is missing of them, and sum them up.

    Maps of another run are an InputError without ``overwrite``. Returns path, maps and the numbers
    of ``summary_of``.
    """
    sr = open_volume(subject.out, None, 0)
    told = told_of(subject.bench, subject.trained, sr, listener)
    with claimed(subject.path, None) as claim:
        run = _identity(subject, told)
        _make_room(subject.path, run, overwrite)
        with resumable(str(subject.path)):
            _write(subject, told, sr, run, listener)
        claim.forget()
    honest, cores = subject.trained.degradation.get("honest"), subject.bench.cores
    return summary_of(subject.path, subject.maps, cores, honest)


def _identity(subject: Subject, told: Told) -> dict[str, Any]:
    """What decides the bytes of the maps."""
    made_by: Any = software_of(subject.out)
    if not is_flat(subject.out):
        state = omezarr.read_state(subject.out)
        made_by = state and state["run"]
    run = {
        "sr": made_by,
        "blur": asdict(told.blur),
        "noise": noise_facts(told.noise),
        "window_px": [TRUST_WINDOW_PX, DOUBT_PX],
        "emsr": __version__,
    }
    return dict(json.loads(json.dumps(run)))


def _make_room(path: Path, run: dict[str, Any], overwrite: bool) -> None:
    omezarr.discard(omezarr.leftovers(path))
    state = _theirs(path, overwrite)
    if state is None or state["run"] == run:
        return
    if not overwrite:
        raise InputError(
            f"{path} exists and is of another SR, model or setting: move it, or replace it with "
            "--overwrite (the SR itself is finished, and stays)"
        )
    aside = omezarr.aside(path)
    path.rename(aside)
    shutil.rmtree(aside)


def _write(
    subject: Subject, told: Told, sr: Volume, run: dict[str, Any], listener: Listener
) -> None:
    path, bench = subject.path, subject.bench
    state = omezarr_maps.state_of(path)
    there = set(state["maps"]) if state else set()
    if state and state["state"] == omezarr.FINISHED and there >= set(subject.maps):
        listener.say(f"{path} is finished; nothing to do")
        return
    names = tuple(name for name in ALL if name in there | set(subject.maps))
    spacing, first = _placed(bench.volume.spacing_nm, sr.spacing_nm, subject.trained.scale)
    omezarr_maps.create(path, names, bench.volume.shape, spacing, bench.chunk, run)
    makers: list[tuple[tuple[str, ...], Callable[[int], Maps]]]
    makers = [(CONSISTENCY, by_residual(bench, subject.trained, told, sr))]
    if SPREAD in names:
        makers.append((names[len(CONSISTENCY) :], by_spread(bench, subject.trained)))
    for wanted, make in makers:
        _tiles(subject, wanted, make, listener)
    omezarr_maps.finish(path, names, run, first)


def _placed(lr_nm: Spacing, sr_nm: Spacing, scale: int) -> tuple[Spacing, Spacing]:
    """Spacing of the maps, that of LR, and where the centre of their first voxel lies, the centre
    of the first SR voxel being 0."""
    if lr_nm is None and sr_nm is not None:
        lr_nm = (sr_nm[0], sr_nm[1] * scale, sr_nm[2] * scale)
    if lr_nm is None:
        return None, None
    z, y, x = lr_nm
    return (z, y, x), (0.0, (y - y / scale) / 2, (x - x / scale) / 2)


def _tiles(
    subject: Subject, names: tuple[str, ...], make: Callable[[int], Maps], listener: Listener
) -> None:
    """Write the tiles of the maps ``names`` that are missing."""
    arrays = {name: omezarr.open_level(subject.path / name, 0) for name in names}
    cores = subject.bench.cores
    for number, core in enumerate(cores):
        if not all(omezarr.is_written(array, core) for array in arrays.values()):
            found = make(number)
            for name, array in arrays.items():
                omezarr.write_box(array, core, found[name])
        listener.progress(f"trust: {names[0]}", number + 1, len(cores), "")
