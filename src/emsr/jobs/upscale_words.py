"""What a run of ``emsr upscale`` says: warnings, and its summary."""

from __future__ import annotations

import math
import time
from typing import Any

from emsr.jobs.bench import process_name
from emsr.jobs.ledger import Ledger
from emsr.jobs.memory import peak_memory
from emsr.jobs.sitting import Job

CLIPPED_WARNING = 0.02


def say_seams(job: Job) -> None:
    if job.model.network.halo is None and len(job.bench.plan) > 1:
        job.listener.say(
            f"warning: network {job.model.header.network!r} pools over all it is shown: its tiles, "
            f"read with a halo of {job.model.halo_px(job.bench.work_on.upscaling)} px, may show "
            "seams"
        )


def say_clipped(job: Job, ledger: Ledger) -> None:
    share = ledger.clipped.sum() / math.prod(job.shape)
    if share > CLIPPED_WARNING:
        job.listener.say(
            f"warning: {share:.1%} of the voxels lie beyond the range of {job.model.header.dtype} "
            "and were clipped: is the input on the grey scale of the scans trained on?"
        )


def summary_of(
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
