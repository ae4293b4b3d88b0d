"""``emsr upscale``: an LR volume in, an SR volume out, tile by tile, restartable at any moment.

    claim the output -> see the whole input once -> tiles -> pyramid -> finish

Each step is a list of tasks (``bench``) that this process, others or a cluster works off
(``execute``, ``cluster``); what each needs to know of the others lies on disk (``ledger``).
"""

from __future__ import annotations

import math
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from emsr import __version__
from emsr.errors import InputError
from emsr.files import is_url, refuse_overlap, split_address
from emsr.geometry.box import Triple
from emsr.jobs.bench import Bench, Outcome, Task, Work, process_name, resumable
from emsr.jobs.claim import Claim, Slab, claimed, notes_of
from emsr.jobs.cluster import LOCAL, dask
from emsr.jobs.execute import Run, in_process, workers
from emsr.jobs.form import Form, in_form, sr_spacing
from emsr.jobs.identity import file_hash, input_hash, software, untouched
from emsr.jobs.ledger import UNKNOWN, Ledger
from emsr.jobs.listener import SILENT, Listener
from emsr.jobs.memory import peak_memory, refuse_too_large, tile_within
from emsr.jobs.model import Model, load
from emsr.recipe import Upscaling
from emsr.volumes import omezarr
from emsr.volumes.flatten import flatten, is_flat, refuse_dtype, software_of
from emsr.volumes.source import Volume, open_volume

COARSEST_PX = 256
CLIPPED_WARNING = 0.02


@dataclass(frozen=True)
class Hands:
    """Who computes: this process, ``workers`` of them here, or the ``dask`` cluster at an address
    (``local`` starts one of ``workers`` processes, or two)."""

    workers: int | None = None
    dask: str | None = None
    threads: int | None = None
    """CPU threads of each network; None shares out those there are among the workers here."""


def upscale(
    lr: str | Path,
    model: str | Path,
    out: str | Path,
    *,
    upscaling: Upscaling,
    device: str = "auto",
    precision: str = "float32",
    spacing_nm: tuple[float, float, float] | None = None,
    level: int = 0,
    form: Form = Form(),
    hands: Hands = Hands(),
    slab: Slab | None = None,
    memory: int | None = None,
    overwrite: bool = False,
    listener: Listener = SILENT,
) -> dict[str, Any]:
    """Write the SR of ``lr`` (of a pyramid, of its ``level``) to ``out``: OME-Zarr, or OME-TIFF,
    MRC or HDF5 by its suffix.

    The output has the dtype and grey scale of the model's HR training data (unless ``form`` has
    it otherwise), y and x times its scale, and the input's spacing divided by it. An unfinished
    output of the same run is gone on with; a finished one is left alone; any other is refused
    without ``overwrite``. ``slab`` (i, n) computes the i-th of n parts; whichever ends last
    finishes the output. ``memory`` (bytes, of each process) chooses the tile. Memory is bounded by
    the tile. Returns voxels, seconds, clipped_fraction (of all tiles, whenever they were done),
    tiles_done, tiles_resumed, peak_memory_bytes (of all processes), workers, finished.
    """
    began = time.monotonic()
    out = Path(out)
    _check_name(out)
    out = out.resolve() if out.is_symlink() else out  # one output, whatever it is called
    refuse_overlap(out, lr, model)
    if hands.threads is not None:
        torch.set_num_threads(hands.threads)
    found = open_volume(lr, spacing_nm, level)
    volume, loaded = in_form(found, load(model, device, precision), form)
    widened = refuse_dtype(out, loaded.header.dtype)
    for notice in (*volume.notices, *((widened,) if widened else ())):
        listener.say(notice)
    spacing = sr_spacing(volume, loaded, listener)
    if memory is not None:
        tile = tile_within(memory, loaded, volume, upscaling)
        upscaling = replace(upscaling, tile_px=tile)
        listener.say(f"tiles of {tile[0]} x {tile[1]} x {tile[2]} LR voxels fit into the memory")
    work = Work(
        lr=_everywhere(lr),
        spacing_nm=spacing_nm,
        level=level,
        model=_everywhere(model),
        device=str(loaded.device),
        precision=precision,
        upscaling=upscaling,
        form=form,
        threads=hands.threads,
        store=str(_store(out).absolute()),
        notes="",
        token="",
        untouched=untouched(lr),
    )
    job = _Job(out, Bench(work, volume, loaded), spacing, hands, slab, listener, began)
    _say_seams(job)
    run = _facts(job)
    if _is_finished(job, run):
        _sweep(job)
        return _left_alone(job)
    with claimed(out, slab) as claim:
        try:
            return _sitting(job, claim, run, overwrite)
        except InputError:
            if not job.store.exists():
                claim.forget()  # refused before anything was begun
            raise


@dataclass
class _Job:
    """One sitting of a run: what is read, by what it is computed, where it goes, by whom."""

    out: Path
    bench: Bench
    spacing_nm: tuple[float, float, float] | None
    hands: Hands
    slab: Slab | None
    listener: Listener
    began: float
    peaks: dict[str, int] = field(default_factory=dict)
    """Largest resident sets, by process."""
    input_hash: str | None = None
    """Once the whole input was read for it."""

    @property
    def store(self) -> Path:
        return _store(self.out)

    @property
    def model(self) -> Model:
        return self.bench.model

    @property
    def volume(self) -> Volume:
        return self.bench.volume

    @property
    def shape(self) -> Triple:
        z, y, x = self.volume.shape
        s = self.model.header.scale
        return z, y * s, x * s


def _sitting(job: _Job, claim: Claim, run: dict[str, Any], overwrite: bool) -> dict[str, Any]:
    """What one process does for an output that it has claimed."""
    if job.slab and _is_finished(job, run):  # by another slab, a moment ago
        return _left_alone(job)
    if claim.alone:
        omezarr.discard(omezarr.leftovers(job.store))
    way = _in_the_way(job, run, overwrite)
    state = None if way else omezarr.read_state(job.store)
    if state and state["state"] == omezarr.FINISHED:  # killed before it became one file
        _flatten(job, claim, state["run"])
        return _summary(job, [], finished=True)
    refuse_too_large(job.model, job.bench.chunk, job.bench.work_on.upscaling)
    if state is None and claim.alone:
        claim.clear()
    if state is None and job.slab:
        # Others may do so too: whoever was first, the token on disk is the one.
        with suppress(InputError):
            _create(job, run, uuid.uuid4().hex)
        state = _unfinished(job)
    token = state["token"] if state else uuid.uuid4().hex
    job.bench = job.bench.noting(claim.notes, token)
    ledger = Ledger(len(job.bench.plan))
    _read(job, ledger)
    mine = _part(len(job.bench.plan), job.slab)
    with _hands(job) as hands:
        _see(job, hands, ledger, mine)
        if state is None:
            _clear(way)
            _create(job, run, token)
        done = _write_tiles(job, hands, ledger, mine)
        _refuse_changed(job)
        if job.slab and not _last(job, claim, ledger):
            return _summary(job, done, ledger, mine)
        every = _part(len(job.bench.plan), None)
        _see(job, hands, ledger, every)  # slabs that saw the input before it was touched
        _pyramid(job, hands)
    _refuse_changed(job)
    learned = {"input_sha256": input_hash(job.volume, ledger.digests)}
    omezarr.finish(job.store, learned)
    _flatten(job, claim, run | learned)
    _say_clipped(job, ledger)
    return _summary(job, done, ledger, every, finished=True)


def _left_alone(job: _Job) -> dict[str, Any]:
    job.listener.say(f"{job.out} is finished; nothing to do")
    return _summary(job, [], finished=True)


def _refuse_changed(job: _Job) -> None:
    """InputError where the input was written to while this sitting read it."""
    work = job.bench.work_on
    if work.untouched is not None and untouched(work.lr) != work.untouched:
        raise InputError(
            f"{job.volume.name} was changed while it was read: nothing is finished; put back what "
            "it was and run again, or begin anew with --overwrite"
        )


def _last(job: _Job, claim: Claim, ledger: Ledger) -> bool:
    """Whether this slab is the one that ends last, and so finishes the output."""
    claim.share()
    if not claim.take_all():
        job.listener.say("other slabs are still at it; whichever ends last finishes the output")
        return False
    state = omezarr.read_state(job.store)
    if state is None or state["state"] == omezarr.FINISHED:
        return False
    _read(job, ledger)
    every = _part(len(job.bench.plan), None)
    missing = len(_missing(job, ledger, every))
    if missing:
        job.listener.say(
            f"{missing} of {len(every)} tiles are left to the other slabs; whichever ends last, or "
            "a run without --slab, finishes the output"
        )
        return False
    return True


def _hands(job: _Job) -> AbstractContextManager[Run]:
    hands, work = job.hands, job.bench.work_on
    count = hands.workers or (2 if hands.dask else 1)
    if hands.threads is None and (hands.workers or hands.dask == LOCAL):
        work = replace(work, threads=max(1, torch.get_num_threads() // count))
    if hands.dask:
        return dask(work, hands.dask, count, job.listener)
    return workers(work, count, job.listener) if hands.workers else in_process(job.bench)


def _part(tiles: int, slab: Slab | None) -> range:
    """The tiles of a slab: those next to one another, so that they share what they read."""
    i, n = slab or (1, 1)
    return range((i - 1) * tiles // n, i * tiles // n)


def _read(job: _Job, ledger: Ledger) -> None:
    work = job.bench.work_on
    ledger.read(Path(work.notes), work.token, work.untouched)


def _see(job: _Job, hands: Run, ledger: Ledger, tiles: range) -> None:
    """Read the LR voxels of tiles that were not read, or may have changed since: InputError where
    they did, or are not numbers. Nothing is computed before, and only what holds is noted."""
    new = [n for n in tiles if not ledger.current[n]]
    outcomes = _counted(job, "read input", hands, (Task("seen", n) for n in new), len(new))
    for outcome in outcomes:
        if outcome.seen:
            ledger.note(outcome.task.number, outcome.seen, job.volume.name)
            if job.bench.work_on.notes:
                with resumable(str(job.store)):
                    job.bench.pen.seen(outcome.task.number, outcome.seen)
    if new:
        _say_unlike(job, ledger)


def _write_tiles(job: _Job, hands: Run, ledger: Ledger, tiles: range) -> list[int]:
    """Compute and write the tiles that are missing; returns their numbers."""
    missing = _missing(job, ledger, tiles)
    if there := len(tiles) - len(missing):
        job.listener.say(f"going on: {there} of {len(tiles)} tiles are there already")
    tasks = (Task("tile", n, expected=ledger.digests[n].tobytes()) for n in missing)
    for outcome in _counted(job, "upscale", hands, tasks, len(missing)):
        ledger.clipped[outcome.task.number] = outcome.clipped
    return missing


def _missing(job: _Job, ledger: Ledger, tiles: range) -> list[int]:
    array, plan = omezarr.open_level(job.store, 0), job.bench.plan
    return [
        n
        for n in tiles
        if ledger.clipped[n] == UNKNOWN or not omezarr.is_written(array, plan[n].write)
    ]


def _pyramid(job: _Job, hands: Run) -> None:
    """Build the coarser levels, each from the one below it, where shards are missing."""
    for level in range(1, omezarr.level_count(job.store)):
        array, boxes = omezarr.open_level(job.store, level), omezarr.shard_boxes(job.store, level)
        missing = [n for n, box in enumerate(boxes) if not omezarr.is_written(array, box)]
        tasks = (Task("coarser", n, level) for n in missing)
        for _ in _counted(job, f"level {level}", hands, tasks, len(missing)):
            pass


def _counted(
    job: _Job, what: str, hands: Run, tasks: Iterable[Task], count: int
) -> Iterator[Outcome]:
    """The outcomes of ``count`` tasks, with progress and the memory of who did them."""
    if not count:
        return
    began, voxels = time.monotonic(), 0
    for done, outcome in enumerate(hands(tasks), 1):
        job.peaks[outcome.process] = outcome.peak_bytes
        voxels += outcome.voxels
        rate = voxels / (time.monotonic() - began) / 1e6
        job.listener.progress(what, done, count, f"{rate:.2f} million voxels/s" if voxels else "")
        yield outcome


def _facts(job: _Job) -> dict[str, Any]:
    """What decides the output's bytes, beside the input's grey values."""
    volume, work = job.volume, job.bench.work_on
    return {
        "model_sha256": file_hash(Path(work.model)),
        "input": {
            "shape": list(volume.shape),
            "dtype": volume.dtype.name,
            "spacing_nm": volume.spacing_nm and list(volume.spacing_nm),
        },
        "emsr": __version__,
        "tile_px": list(job.bench.chunk),
        "halo_px": job.model.halo_px(work.upscaling),
        "precision": job.model.precision,
        "device": job.model.device.type,
        "dtype": job.model.header.dtype,
        "grey_window": list(job.model.header.hr_window),
    }


def _is_finished(job: _Job, run: dict[str, Any]) -> bool:
    """Whether the output is there, of this run; reads the whole input if all else is the same."""
    if job.store != job.out:
        made_by = job.out.is_file() and software_of(job.out)
        if not made_by or not made_by.startswith(software(run)):
            return False
        return made_by == software(run, _hash(job))
    try:
        state = omezarr.read_state(job.out)
    except InputError:
        return False
    return _same(job, state, run) and state is not None and state["state"] == omezarr.FINISHED


def _same(job: _Job, state: dict[str, Any] | None, run: dict[str, Any]) -> bool:
    """Whether a store is this run's; of a finished one, whether it is of this input."""
    if state is None or {k: v for k, v in state["run"].items() if k != "input_sha256"} != run:
        return False
    return state["state"] != omezarr.FINISHED or state["run"]["input_sha256"] == _hash(job)


def _hash(job: _Job) -> str:
    if job.input_hash is None:
        every = _part(len(job.bench.plan), None)
        ledger = Ledger(len(every))
        with in_process(job.bench) as hands:
            _see(job, hands, ledger, every)
        job.input_hash = input_hash(job.volume, ledger.digests)
    return job.input_hash


def _in_the_way(job: _Job, run: dict[str, Any], overwrite: bool) -> list[Path]:
    """What lies where the output is to be and is not this run's; InputError where it may not be
    removed."""
    found = [job.out] if job.store != job.out and job.out.exists() else []
    state, what = None, "output"
    with suppress(InputError):
        state = omezarr.read_state(job.store)
        what = f"{state['state']} output" if state else what
    if job.store.exists() and not _same(job, state, run):
        found.append(job.store)
    for path in found:
        if not overwrite or job.slab:
            raise InputError(
                f"{path} exists and is not this run's {what} (another input, model or setting): "
                "choose another --out, or replace it with --overwrite"
            )
        if path.is_dir() and any(path.iterdir()) and not (path / "zarr.json").is_file():
            raise InputError(
                f"{path} is a directory but no Zarr: remove it yourself, or choose another"
            )
    return found


def _clear(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            # Renamed first: half removed under its own name it would be nobody's output.
            aside = omezarr.aside(path)
            path.rename(aside)
            shutil.rmtree(aside)
        else:
            path.unlink()


def _create(job: _Job, run: dict[str, Any], token: str) -> None:
    dtype, chunk, s = job.model.header.dtype, job.bench.chunk, job.model.header.scale
    shard = (chunk[0], chunk[1] * s, chunk[2] * s)
    omezarr.create(
        job.store,
        job.shape,
        dtype,
        job.spacing_nm,
        chunk,
        shard,
        run,
        coarsest_px=COARSEST_PX,
        token=token,
    )


def _unfinished(job: _Job) -> dict[str, Any]:
    state = omezarr.read_state(job.store)
    if state is None:
        raise InputError(f"{job.store} cannot be written: check path and space")
    return state


def _flatten(job: _Job, claim: Claim, run: dict[str, Any]) -> None:
    """The last step: a TIFF, MRC or HDF5 is made of its store; what lies beside the output goes."""
    if job.store != job.out:
        facts = {key: value for key, value in run.items() if key != "input_sha256"}
        made_by = software(facts, run["input_sha256"])

        def tell(done: int, count: int) -> None:
            job.listener.progress(f"write {job.out.suffix[1:]}", done, count, "")

        flatten(job.store, job.out, job.bench.chunk[1], made_by, tell)
        shutil.rmtree(job.store)
    claim.forget()


def _sweep(job: _Job) -> None:
    """What a run left that was killed just after its last step."""
    if notes_of(job.out).exists() or (job.store != job.out and job.store.exists()):
        with suppress(InputError), claimed(job.out, None) as claim:
            if job.store != job.out:
                shutil.rmtree(job.store, ignore_errors=True)
            claim.forget()


def _everywhere(address: str | Path) -> str:
    """An address that means the same from any folder."""
    outer, inner = split_address(address)
    if is_url(outer):
        return str(address)
    return str(Path(outer).resolve()) + (f"::/{inner}" if inner else "")


def _check_name(out: Path) -> None:
    if out.suffix.lower() != ".zarr" and not is_flat(out):
        raise InputError(
            f"{out}: expected an output whose name ends in .ome.zarr, .zarr, .tif, .mrc or .h5"
        )
    for folder in out.absolute().parents:
        if omezarr.is_image(folder):
            raise InputError(f"{out} lies inside the image {folder}: choose another --out")


def _store(out: Path) -> Path:
    """Where the shards go: one file is made from a store beside it, which is then removed."""
    return out.with_name(f".{out.name}.unfinished.ome.zarr") if is_flat(out) else out


def _say_seams(job: _Job) -> None:
    if job.model.network.halo is None and len(job.bench.plan) > 1:
        job.listener.say(
            f"warning: network {job.model.header.network!r} pools over all it is shown: its tiles, "
            f"read with a halo of {job.model.halo_px(job.bench.work_on.upscaling)} px, may show "
            "seams"
        )


def _say_unlike(job: _Job, ledger: Ledger) -> None:
    """A warning where the input's greys can hardly be those of the scans trained on."""
    mean, spread = ledger.mean_and_spread
    low, high = sorted(job.model.header.lr_window)
    if not low <= mean <= high or spread < 0.01 * (high - low):
        job.listener.say(
            f"warning: {job.volume.name} has grey values of mean {mean:.4g} and spread "
            f"{spread:.2g}, the model was trained on {low:.4g} to {high:.4g}: another grey scale?"
        )


def _say_clipped(job: _Job, ledger: Ledger) -> None:
    share = ledger.clipped.sum() / math.prod(job.shape)
    if share > CLIPPED_WARNING:
        job.listener.say(
            f"warning: {share:.1%} of the voxels lie beyond the range of {job.model.header.dtype} "
            "and were clipped: is the input on the grey scale of the scans trained on?"
        )


def _summary(
    job: _Job,
    done: list[int],
    ledger: Ledger | None = None,
    tiles: range | None = None,
    finished: bool = False,
) -> dict[str, Any]:
    """``tiles`` are those this sitting was responsible for: all, where it finished the output."""
    seconds = time.monotonic() - job.began
    z, y, x = job.shape
    plan = job.bench.plan
    tiles = range(len(plan)) if tiles is None else tiles
    voxels = sum(math.prod(plan[n].write.shape) for n in tiles)
    clipped = None
    if ledger is not None and voxels:
        clipped = int(ledger.clipped[tiles.start : tiles.stop].sum()) / voxels
    others = sum(peak for who, peak in job.peaks.items() if who != process_name())
    part = f", slab {job.slab[0]} of {job.slab[1]}" if job.slab else ""
    return {
        "out": str(job.out),
        "shape": [z, y, x],
        "voxels": voxels,
        "seconds": round(seconds, 2),
        "clipped_fraction": clipped,
        "tiles_done": len(done),
        "tiles_resumed": len(tiles) - len(done),
        "peak_memory_bytes": peak_memory() + others,
        "workers": len(job.peaks.keys() | {process_name()}) - 1 or 1,
        "finished": finished,
        "reason": {} if clipped is not None else {"clipped_fraction": "nothing was to be done"},
        "lines": [
            f"{job.out}: {z} x {y} x {x} voxels{part} in {seconds:.0f} s"
            + (f", {clipped:.2%} clipped" if clipped is not None else "")
            + ("" if finished else "; not finished yet")
        ],
    }
