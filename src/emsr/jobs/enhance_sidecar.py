"""The file beside a cleaned scan that says what changed: never of another output than that one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emsr.errors import InputError
from emsr.jobs.listener import Listener
from emsr.jobs.sitting import store_of
from emsr.volumes import omezarr

Numbers = dict[str, Any]
TOLD_BY_REPEAT = ("frc", "clean_psnr", "noise_removed", "noise_ratio", "data_range", "repeat")


def refuse_place(place: Path) -> None:
    """Before the work, not after it."""
    if place.is_dir():
        raise InputError(
            f"{place} is a directory, what the cleaning changed is to be written there: move it, "
            "or choose another --out"
        )
    folder = next(one for one in place.absolute().parents if one.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{place} cannot be written, {folder} is read-only: choose another --out")


@contextmanager
def set_aside(place: Path, out: Path) -> Iterator[None]:
    """What was said of an earlier output is out of sight while ``out`` is made, also if that is
    killed; it comes back where ``out`` was left as it was."""
    hidden, before = place.with_name(f".{place.name}.earlier"), _identity(out)
    if place.exists():
        place.replace(hidden)
    try:
        yield
    finally:
        if hidden.exists():
            if before is not None and _identity(out) == before:
                hidden.replace(place)
            else:
                hidden.unlink()


def _identity(out: Path) -> tuple[int, ...] | None:
    """Tells one output from what is written in its place; None of an unfinished one of ours."""
    out = out.resolve()
    store = store_of(out)
    try:
        state = omezarr.read_state(store)
    except InputError:  # not ours
        state = None
    if state and state["state"] != omezarr.FINISHED:
        return None
    root = out / "zarr.json" if out.is_dir() else out
    if not root.exists():
        return ()
    found = root.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def keep(changed: Numbers, place: Path, given: dict[str, Any], listener: Listener) -> None:
    """Take over what an earlier run measured of this output with what is not given now."""
    try:
        earlier = json.loads(place.read_text(encoding="utf-8"))
        why = dict(earlier["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    keys = [] if "repeat" in given else ["removed", *TOLD_BY_REPEAT]
    keys += [] if "truth" in given else ["truth_psnr"]
    kept = [key for key in keys if earlier.get(key) is not None]
    for key in kept:
        changed[key] = earlier[key]
        changed["reason"].pop(key, None)
        of_it = {at: said for at, said in why.items() if at.partition(".")[0] == key}
        changed["reason"].update(of_it)
    if set(kept) - {"removed"}:
        listener.say(f"{place}: kept what an earlier run measured: {', '.join(kept)}")
