"""``emsr upscale``: an LR volume in, an SR volume out, tile by tile, restartable at any moment.

    claim the output -> see the whole input once -> tiles -> pyramid -> finish

Each step is a list of tasks (``bench``) that this process, others or a cluster works off
(``execute``, ``cluster``); what each needs to know of the others lies on disk (``ledger``).
"""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from emsr.errors import InputError
from emsr.files import refuse_overlap
from emsr.jobs.bench import Bench, Work
from emsr.jobs.claim import AnyClaim, Slab, claimed
from emsr.jobs.form import Form, in_form, sr_spacing
from emsr.jobs.identity import input_hash, untouched
from emsr.jobs.ledger import Ledger
from emsr.jobs.listener import SILENT, Listener
from emsr.jobs.memory import slices_at_once, tile_within
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
from emsr.jobs.upscale_where import check_name, everywhere, refuse_there
from emsr.jobs.upscale_words import say_clipped, say_seams, summary_of
from emsr.recipe import Upscaling
from emsr.volumes import omezarr
from emsr.volumes.flatten import refuse_dtype
from emsr.volumes.place import Place, place
from emsr.volumes.source import open_volume


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
    if not isinstance(out, Path):
        refuse_there(out, lr, trust)
    check_name(out)
    if isinstance(out, Path):
        out = out.resolve() if out.is_symlink() else out  # one output, whatever it is called
        refuse_overlap(out, lr, model)
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
        lr=everywhere(lr),
        spacing_nm=spacing_nm,
        level=level,
        model=everywhere(model),
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
    say_seams(job)
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
            with suppress(InputError):  # a server that fails is told of as it failed first
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
            return summary_of(job, [])
        if is_finished(job, run):
            return _left_alone(job)
        flattened(job, claim, state["run"])
        return summary_of(job, [], finished=True)
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
            return summary_of(job, done, ledger, mine)
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
    say_clipped(job, ledger)
    return summary_of(job, done, ledger, every, finished=True)


def _left_alone(job: Job) -> dict[str, Any]:
    unread = "; its input was not read again" if job.slab and job.input_hash is None else ""
    job.listener.say(f"{job.out} is finished; nothing to do{unread}")
    return summary_of(job, [], finished=True)


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
