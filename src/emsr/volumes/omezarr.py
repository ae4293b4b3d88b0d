"""The SR output: an OME-Zarr 0.5 image with a pyramid, one shard the unit of work and of restart.

    create -> write_box (level 0, in any order) -> build_shard (level 1, 2, ...) -> finish

Until ``finish`` the root carries no image metadata, so no reader takes it for an image. Nothing
that a finished store holds depends on time, host or order. The ``run`` that the store remembers is
not interpreted. Several processes may write to one store: each shard has a single writer.

Here is how a store begins and ends; what its root says is in ``omezarr_state``, its shards are
written and read in ``omezarr_boxes``, its levels made of one another in ``omezarr_levels``.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.geometry.box import Triple
from emsr.volumes.omezarr_boxes import is_written, open_level, read_box, write_box
from emsr.volumes.omezarr_levels import Levels, build_shard, level_count, shard_boxes
from emsr.volumes.omezarr_metadata import array_texts, image_of
from emsr.volumes.omezarr_state import (
    FINISHED,
    UNFINISHED,
    aside,
    discard,
    is_image,
    leftovers,
    read_state,
    remove,
    root_text,
    state_there,
    write_root,
)
from emsr.volumes.place import Place, Remote, is_file, place, put_new
from emsr.volumes.pyramid import downsample_plan
from emsr.volumes.spacing import Spacing

__all__ = [
    "FINISHED",
    "UNFINISHED",
    "Levels",
    "aside",
    "build_shard",
    "complete",
    "create",
    "discard",
    "finish",
    "is_image",
    "is_written",
    "leftovers",
    "level_count",
    "open_level",
    "read_box",
    "read_state",
    "remove",
    "shard_boxes",
    "write_box",
]


def create(
    path: str | Place,
    shape: Triple,
    dtype: np.dtype | type | str,
    spacing_nm: Spacing,
    chunk: Triple,
    shard: Triple,
    run: dict[str, Any],
    *,
    coarsest_px: int,
    token: str = "",
) -> None:
    """Lay out an unfinished store at ``path``, all levels empty, in one rename.

    ``run`` (JSON-able; tuples come back as lists) identifies the run, for ``read_state``; until
    the store is finished ``token`` tells it from others of the same run. Levels are added until
    y and x are at most ``coarsest_px``. InputError where something is at ``path`` already, be it
    since a moment. On object storage nothing can be renamed: there the root is put first, if there
    is none, and ``complete`` puts what of the levels a kill left out.
    """
    path = place(path)
    if path.exists():
        raise _exists(path)
    levels = downsample_plan(shape, spacing_nm, coarsest_px)
    state = {
        "state": UNFINISHED,
        "run": run,
        "token": token,
        "spacing_nm": None if spacing_nm is None else list(spacing_nm),
        "levels": [list(level.factor) for level in levels],
    }
    arrays = array_texts(levels, np.dtype(dtype), chunk, shard)
    if isinstance(path, Remote):
        if not put_new(path / "zarr.json", root_text({"emsr": state})):
            raise _exists(path)
        _put_missing(path, arrays)
    else:
        _lay_out(path, state, arrays)


def complete(
    path: Place,
    shape: Triple,
    dtype: np.dtype | type | str,
    spacing_nm: Spacing,
    chunk: Triple,
    shard: Triple,
    *,
    coarsest_px: int,
) -> None:
    """Lay out those levels of an unfinished store on object storage that ``create``, with the same
    arguments, did not come to."""
    if isinstance(path, Remote):
        levels = downsample_plan(shape, spacing_nm, coarsest_px)
        _put_missing(path, array_texts(levels, np.dtype(dtype), chunk, shard))


def _exists(path: Place) -> InputError:
    return InputError(f"{path} exists: choose another name or give --overwrite")


def _lay_out(path: Path, state: dict[str, Any], texts: dict[str, str]) -> None:
    partial = aside(path)
    try:
        for name, text in texts.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_text(text)
        write_root(partial, {"emsr": state})
        partial.rename(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put_missing(path: Remote, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        if not is_file(path / name):
            (path / name).write_text(text)


def finish(path: str | Place, learned: dict[str, Any] | None = None) -> None:
    """Make the store an OME-Zarr image, in one rename; what a killed run left over is removed.

    ``learned`` adds to what identifies the run. ValueError where a shard is missing. Doing it
    again changes nothing.
    """
    path = place(path)
    state, levels = state_there(path), Levels(path)
    for level in range(len(levels)):
        is_there = levels.written(level)
        for box in levels.boxes(level):
            if not is_there(box):
                raise ValueError(f"{path} level {level}: the shard at {box.start} is not written")
    discard(leftovers(path))
    image = image_of(state["levels"], state["spacing_nm"])
    final = {**state, "state": FINISHED, "run": state["run"] | (learned or {})}
    final.pop("token", None)
    write_root(path, {"ome": image, "emsr": final})
