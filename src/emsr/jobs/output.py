"""What lies where an output is to be: whose it is, and how it is made, finished and removed."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from emsr import __version__
from emsr.errors import InputError
from emsr.geometry.box import Triple
from emsr.jobs.claim import AnyClaim, claimed, notes_of
from emsr.jobs.execute import in_process
from emsr.jobs.identity import file_hash, input_hash, software
from emsr.jobs.ledger import Ledger
from emsr.jobs.sitting import Job, part
from emsr.jobs.steps import see
from emsr.jobs.trust import trust_path
from emsr.volumes import omezarr, omezarr_maps
from emsr.volumes.flatten import flatten, software_of
from emsr.volumes.place import Place, Remote, delete, is_file
from emsr.volumes.spacing import Spacing

COARSEST_PX = 256
LEARNED = ("input_sha256", "trained_on")
"""What a finished store holds beside the facts that decide its bytes."""


def facts(job: Job) -> dict[str, Any]:
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
        **({"clean": True} if work.form.clean else {}),
    }


def is_finished(job: Job, run: dict[str, Any]) -> bool:
    """Whether the output is there, of this run; reads the whole input if all else is the same.

    Not for a slab: a job array that is handed in again would read it once for every part.
    """
    if isinstance(job.out, Path) and job.store != job.out:
        made_by = job.out.is_file() and software_of(job.out)
        if not made_by or not made_by.startswith(software(run)):
            return False
        return job.slab is not None or made_by == software(run, _hash(job))
    try:
        state = omezarr.read_state(job.out)
    except InputError:
        return False
    return _same(job, state, run) and state is not None and state["state"] == omezarr.FINISHED


def _same(job: Job, state: dict[str, Any] | None, run: dict[str, Any]) -> bool:
    """Whether a store is this run's; of a finished one, whether it is of this input."""
    if state is None or {k: v for k, v in state["run"].items() if k not in LEARNED} != run:
        return False
    if state["state"] != omezarr.FINISHED or job.slab:
        return True
    return bool(state["run"]["input_sha256"] == _hash(job))


def _hash(job: Job) -> str:
    if job.input_hash is None:
        every = part(len(job.bench.plan), None)
        ledger = Ledger(len(every))
        with in_process(job.bench) as hands:
            see(job, hands, ledger, every)
        job.input_hash = input_hash(job.volume, ledger.digests)
    return job.input_hash


def in_the_way(job: Job, run: dict[str, Any], overwrite: bool) -> list[Place]:
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
        if _is_folder(path) and not is_file(path / "zarr.json"):
            raise InputError(
                f"{path} is a directory but no Zarr: remove it yourself, or choose another"
            )
    return found


def _is_folder(path: Place) -> bool:
    """Whether something lies below it."""
    return isinstance(path, Remote) or (path.is_dir() and any(path.iterdir()))


def clear(paths: list[Place]) -> None:
    """Remove outputs, and the maps of trust beside them, which are of nothing then."""
    maps = [trust_path(path) for path in paths if isinstance(path, Path)]
    for path in (*paths, *filter(omezarr_maps.is_ours, maps)):
        omezarr.remove(path)


def create(job: Job, run: dict[str, Any], token: str) -> None:
    omezarr.create(job.store, *_layout(job), run, coarsest_px=COARSEST_PX, token=token)


def complete(job: Job) -> None:
    """Lay out what of the store a kill left out."""
    omezarr.complete(job.store, *_layout(job), coarsest_px=COARSEST_PX)


def _layout(job: Job) -> tuple[Triple, str, Spacing, Triple, Triple]:
    """Shape, dtype, spacing, chunk and shard of the output."""
    chunk, s = job.bench.chunk, job.model.header.scale
    shard = (chunk[0], chunk[1] * s, chunk[2] * s)
    return job.shape, job.model.header.dtype, job.spacing_nm, chunk, shard


def unfinished(job: Job) -> dict[str, Any]:
    state = omezarr.read_state(job.store)
    if state is None:
        raise InputError(f"{job.store} cannot be written: check path and space")
    return state


def flattened(job: Job, claim: AnyClaim, run: dict[str, Any]) -> None:
    """The last step: a TIFF, MRC or HDF5 is made of its store; what lies beside the output goes."""
    if isinstance(job.out, Path) and isinstance(job.store, Path) and job.store != job.out:
        facts = {key: value for key, value in run.items() if key not in LEARNED}
        made_by = software(facts, run["input_sha256"])

        def tell(done: int, count: int) -> None:
            job.listener.progress(f"write {job.out.suffix[1:]}", done, count, "")

        flatten(job.store, job.out, job.bench.chunk[1], made_by, tell)
        shutil.rmtree(job.store)
    claim.forget()


def sweep(job: Job) -> None:
    """What a run left that was killed just after its last step."""
    if notes_of(job.out).exists() or (job.store != job.out and job.store.exists()):
        with suppress(InputError), claimed(job.out, None) as claim:
            if job.store != job.out:
                delete(job.store)
            claim.forget()
