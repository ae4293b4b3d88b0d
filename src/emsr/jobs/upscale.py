"""``emsr upscale``: an LR volume in, an SR volume out, tile by tile, restartable at any moment.

    claim the output -> see the whole input once -> tiles -> pyramid -> finish

Each step is a list of tasks (``bench``) that this process, others or a cluster works off
(``execute``, ``cluster``); what each needs to know of the others lies on disk (``ledger``).
"""

from __future__ import annotations

import math
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from emsr.errors import InputError
from emsr.files import is_url, refuse_overlap, split_address
from emsr.jobs.bench import Bench, Work, process_name
from emsr.jobs.claim import AnyClaim, Slab, claimed
from emsr.jobs.form import Form, in_form, sr_spacing
from emsr.jobs.identity import input_hash, untouched
from emsr.jobs.ledger import Ledger
from emsr.jobs.listener import SILENT, Listener
from emsr.jobs.memory import peak_memory, slices_at_once, tile_within
from emsr.jobs.model import load
from emsr.jobs.output import (
    clear,
    complete,
    create,
    facts,
    flattened,
    in_the_way,
    is_finished,
    sweep,
    unfinished,
)
from emsr.jobs.provenance import said
from emsr.jobs.sitting import Hands, Job, hands_of, part, store_of
from emsr.jobs.steps import missing_tiles, pyramid, read_ledger, see, write_tiles
from emsr.jobs.trust import Subject, Trust, refuse_trust, trusted
from emsr.jobs.trust_domain import say_outside
from emsr.recipe import Upscaling
from emsr.volumes import omezarr
from emsr.volumes.flatten import is_flat, refuse_dtype
from emsr.volumes.place import Place, Remote, place
from emsr.volumes.source import open_volume

CLIPPED_WARNING = 0.02


def upscale(
    lr: str | Path,
    model: str | Path,
    out: str | Place,
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
    trust: Trust | None = None,
    listener: Listener = SILENT,
) -> dict[str, Any]:
    """Write the SR of ``lr`` (of a pyramid, of its ``level``) to ``out``: OME-Zarr, or OME-TIFF,
    MRC or HDF5 by its suffix.

    The output has the dtype and grey scale of the model's HR training data (unless ``form`` has
    it otherwise), y and x times its scale, and the input's spacing divided by it. An unfinished
    output of the same run is gone on with; a finished one is left alone; any other is refused
    without ``overwrite``. ``slab`` (i, n) computes the i-th of n parts; whichever ends last
    finishes the output. ``memory`` (bytes, of each process) chooses the tile. Memory is bounded by
    the tile. ``trust`` writes the maps of trust beside a finished output (``jobs/trust``), and
    their summary under ``trust``. Returns voxels, seconds, clipped_fraction (of all tiles, whenever
    they were done), tiles_done, tiles_resumed, peak_memory_bytes (of all processes), workers,
    finished.
    """
    began = time.monotonic()
    out = place(out)
    _check_name(out)
    if isinstance(out, Path):
        out = out.resolve() if out.is_symlink() else out  # one output, whatever it is called
        refuse_overlap(out, lr, model)
    else:
        _refuse_there(out, lr, trust)
    if hands.threads is not None:
        torch.set_num_threads(hands.threads)
    found = open_volume(lr, spacing_nm, level)
    trained = load(model, device, precision)
    volume, loaded = in_form(found, trained, form)
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
        store=str(store_of(out.absolute() if isinstance(out, Path) else out)),
        notes="",
        token="",
        untouched=untouched(lr),
    )
    job = Job(out, Bench(work, volume, loaded), spacing, hands, slab, listener, began)
    subject = None
    if trust is not None and isinstance(out, Path):
        subject = Subject(out, job.bench, trained.header, trust.spread)
        refuse_trust(subject, overwrite)
    if not form.clean:
        say_outside(volume, trained.header, listener)
    _say_seams(job)
    summary = _made(job, overwrite)
    return summary if subject is None else trusted(subject, summary, overwrite, listener)


def _made(job: Job, overwrite: bool) -> dict[str, Any]:
    """The output as this process leaves it."""
    run = facts(job)
    if is_finished(job, run):
        sweep(job)
        return _left_alone(job)
    with claimed(job.out, job.slab) as claim:
        try:
            return _sitting(job, claim, run, overwrite)
        except InputError:
            if not job.store.exists():
                claim.forget()  # refused before anything was begun
            raise


def _sitting(job: Job, claim: AnyClaim, run: dict[str, Any], overwrite: bool) -> dict[str, Any]:
    """What one process does for an output that it has claimed."""
    if job.slab and is_finished(job, run):  # by another slab, a moment ago
        return _left_alone(job)
    if claim.alone:
        omezarr.discard(omezarr.leftovers(job.store))
    way = in_the_way(job, run, overwrite)
    state = None if way else omezarr.read_state(job.store)
    if state and state["state"] == omezarr.FINISHED:  # killed before it became one file
        claim.share()
        if not claim.take_all():
            job.listener.say(f"another slab makes {job.out} of the tiles")
            return _summary(job, [])
        if is_finished(job, run):
            return _left_alone(job)
        flattened(job, claim, state["run"])
        return _summary(job, [], finished=True)
    slices_at_once(job.model, job.bench.chunk, job.bench.work_on.upscaling)  # or refused
    if state is None and claim.alone:
        claim.clear()
    if state is None and job.slab:
        # Others may do so too: whoever was first, the token on disk is the one.
        with suppress(InputError):
            create(job, run, uuid.uuid4().hex)
        state = unfinished(job)
    token = state["token"] if state else uuid.uuid4().hex
    job.bench = job.bench.noting(claim.notes, token)
    ledger = Ledger(len(job.bench.plan))
    read_ledger(job, ledger)
    mine = part(len(job.bench.plan), job.slab)
    with hands_of(job) as hands:
        see(job, hands, ledger, mine)
        if state is None:
            clear(way)
            create(job, run, token)
        else:
            complete(job)
        done = write_tiles(job, hands, ledger, mine)
        _refuse_changed(job)
        if job.slab and not _last(job, claim, ledger):
            return _summary(job, done, ledger, mine)
        every = part(len(job.bench.plan), None)
        if see(job, hands, ledger, every):  # slabs that saw the input before it was touched
            write_tiles(job, hands, ledger, every)
        pyramid(job, hands)
    _refuse_changed(job)
    _refuse_replaced(job, token)
    learned = {
        "input_sha256": input_hash(job.volume, ledger.digests),
        "trained_on": said(job.model.header),
    }
    omezarr.finish(job.store, learned)
    flattened(job, claim, run | learned)
    _say_clipped(job, ledger)
    return _summary(job, done, ledger, every, finished=True)


def _left_alone(job: Job) -> dict[str, Any]:
    unread = "; its input was not read again" if job.slab and job.input_hash is None else ""
    job.listener.say(f"{job.out} is finished; nothing to do{unread}")
    return _summary(job, [], finished=True)


def _refuse_changed(job: Job) -> None:
    """InputError where the input was written to while this sitting read it."""
    work = job.bench.work_on
    if work.untouched is not None and untouched(work.lr) != work.untouched:
        raise InputError(
            f"{job.volume.name} was changed while it was read: nothing is finished; put back what "
            "it was and run again, or begin anew with --overwrite"
        )


def _refuse_replaced(job: Job, token: str) -> None:
    """InputError where the unfinished output is another run's by now: this one stood still for so
    long that its lock was taken for a dead process's."""
    state = omezarr.read_state(job.store)
    if state is None or state.get("token") != token:
        raise InputError(
            f"{job.out} was begun anew by another run meanwhile: let that one end, and compare, or "
            "choose another --out"
        )


def _last(job: Job, claim: AnyClaim, ledger: Ledger) -> bool:
    """Whether this slab is the one that ends last, and so finishes the output."""
    claim.share()
    every = part(len(job.bench.plan), None)
    try:
        read_ledger(job, ledger)
        missing = len(missing_tiles(job, ledger, every))
    except Exception:
        if _has_ended(job):  # another slab finished it while we looked
            return False
        raise
    if missing and not _has_ended(job):
        job.listener.say(
            f"{missing} of {len(every)} tiles are left to the other slabs; whichever ends last, or "
            "a run without --slab, finishes the output"
        )
    # Taken only where nothing is missing: a slab that begins now would be refused.
    return not missing and claim.take_all() and not _has_ended(job)


def _has_ended(job: Job) -> bool:
    """Whether the tiles are all there, or were made one file already."""
    state = omezarr.read_state(job.store)
    return state is None or state["state"] == omezarr.FINISHED


def _everywhere(address: str | Path) -> str:
    """An address that means the same from any folder."""
    outer, inner = split_address(address)
    if is_url(outer):
        return str(address)
    return str(Path(outer).resolve()) + (f"::/{inner}" if inner else "")


def _refuse_there(out: Remote, lr: str | Path, trust: Trust | None) -> None:
    """InputError for what is not written to object storage, or over its own input."""
    if is_flat(out) or trust is not None:
        what = "--trust" if trust is not None else f"a {out.suffix} output"
        raise InputError(f"{out}: {what} is written to this machine only: choose a path for --out")
    held, inner = split_address(lr)
    read = f"{held.rstrip('/')}/{inner}".rstrip("/") + "/"
    if is_url(held) and (read.startswith(f"{out}/") or f"{out}/".startswith(read)):
        raise InputError(f"the output {out} and the input {lr} overlap: choose another --out")


def _check_name(out: Place) -> None:
    if out.suffix.lower() != ".zarr" and not is_flat(out):
        raise InputError(
            f"{out}: expected an output whose name ends in .ome.zarr, .zarr, .tif, .mrc or .h5"
        )
    for folder in out.resolve().parents if isinstance(out, Path) else out.parents:
        if omezarr.is_image(folder):
            raise InputError(f"{out} lies inside the image {folder}: choose another --out")


def _say_seams(job: Job) -> None:
    if job.model.network.halo is None and len(job.bench.plan) > 1:
        job.listener.say(
            f"warning: network {job.model.header.network!r} pools over all it is shown: its tiles, "
            f"read with a halo of {job.model.halo_px(job.bench.work_on.upscaling)} px, may show "
            "seams"
        )


def _say_clipped(job: Job, ledger: Ledger) -> None:
    share = ledger.clipped.sum() / math.prod(job.shape)
    if share > CLIPPED_WARNING:
        job.listener.say(
            f"warning: {share:.1%} of the voxels lie beyond the range of {job.model.header.dtype} "
            "and were clipped: is the input on the grey scale of the scans trained on?"
        )


def _summary(
    job: Job,
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
