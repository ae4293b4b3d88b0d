"""The SR output: an OME-Zarr 0.5 image with a pyramid, one shard the unit of work and of restart.

    create -> write_box (level 0, in any order) -> build_shard (level 1, 2, ...) -> finish

Until ``finish`` the root carries no image metadata, so no reader takes it for an image. A shard
is written whole, under a temporary name, and renamed; on object storage it is put, which is all or
nothing: if it exists, it is complete. Nothing that a finished store holds depends on time, host or
order. The ``run`` that the store remembers is not interpreted. Several processes may write to one
store: each shard has a single writer.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from emsr.errors import InputError
from emsr.files import replacing
from emsr.geometry.box import Box, OnDemand, Triple, blocks
from emsr.volumes.omezarr_metadata import array_texts, image_of
from emsr.volumes.place import Place, Remote, delete, place, put_new, spoken
from emsr.volumes.pyramid import block_mean, downsample_plan, finer_box
from emsr.volumes.spacing import Spacing

UNFINISHED, FINISHED = "unfinished", "finished"


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
        if not put_new(path / "zarr.json", _group({"emsr": state})):
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
        _write_root(partial, {"emsr": state})
        partial.rename(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put_missing(path: Remote, texts: dict[str, str]) -> None:
    there = {one.place.key for one in path.below()}
    for name, text in texts.items():
        if (path / name).key not in there:
            (path / name).write_text(text)


def read_state(path: str | Place) -> dict[str, Any] | None:
    """The store's ``state`` and ``run``; None where nothing is at ``path``.

    InputError where something else is there.
    """
    path = place(path)
    if not path.exists():
        return None
    try:
        state = json.loads((path / "zarr.json").read_text())["attributes"]["emsr"]
        _ = state["state"], state["run"], state["spacing_nm"], state["levels"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{path} exists and was not written by emsr: choose another name or give --overwrite"
        ) from None
    return state


def is_image(path: str | Place) -> bool:
    """Whether a folder is itself an image, of ours or OME-Zarr 0.4 or 0.5, and no place for
    others."""
    return any({"emsr", "multiscales"} & found.keys() for found in _attributes(place(path)))


def _attributes(path: Place) -> Iterator[dict[str, Any]]:
    """Where a Zarr group says what it is: of version 3 (and its part ``ome``), of version 2."""
    for name in ("zarr.json", ".zattrs"):
        try:
            found = json.loads((path / name).read_text())
        except (OSError, ValueError):
            continue
        except InputError as error:
            if not isinstance(error.__cause__, PermissionError):
                raise
            continue  # credentials may be for some folders of a bucket only
        found = found.get("attributes", found) if isinstance(found, dict) else {}
        yield from (one for one in (found, found.get("ome")) if isinstance(one, dict))


def open_level(path: str | Place, level: int) -> zarr.Array:
    """The (z, y, x) array of a level, to write shards to."""
    folder = place(path) / str(level)
    with _told(folder):
        store = folder.store if isinstance(folder, Remote) else str(folder)
        array = zarr.open_array(store, mode="r+", zarr_format=3)
    # a shard of zeros must be stored too: one that is absent counts as not done
    return array.with_config({"write_empty_chunks": True})


def remove(path: Place) -> None:
    """Remove a store, or what else lies there. It is set aside first, or, on object storage, called
    unfinished: half removed under its own name it would be nobody's output, or seem whole."""
    if isinstance(path, Remote):
        state: dict[str, Any] = {"state": UNFINISHED, "run": {}, "spacing_nm": None, "levels": []}
        _write_root(path, {"emsr": state})
        path.remove("zarr.json")
        (path / "zarr.json").unlink()
    elif path.is_dir() and not path.is_symlink():
        hidden = aside(path)
        path.rename(hidden)
        shutil.rmtree(hidden)
    else:
        path.unlink()


def aside(path: Path) -> Path:
    """A name beside ``path`` that nobody takes for a store; ``leftovers`` finds it again."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")


def leftovers(path: str | Place) -> Iterator[Path]:
    """What killed writers left of the store at ``path``, in it or beside it; puts leave nothing."""
    path = place(path)
    if isinstance(path, Remote):
        return
    yield from path.parent.glob(f".{path.name}.*.partial")
    yield from path.rglob("*.partial")


def discard(places: Iterable[Path]) -> None:
    """Remove files and folders that may be gone already."""
    for found in list(places):
        delete(found)


def write_box(array: zarr.Array, box: Box, values: np.ndarray) -> None:
    """Write whole shards. ValueError where ``box`` cuts through one: each has a single writer."""
    _refuse_unaligned(array, box)
    if values.shape != box.shape or values.dtype != array.dtype:
        raise ValueError(
            f"{values.shape} {values.dtype} for a box of {box.shape}, {array.dtype} expected"
        )
    with _told(array.store):
        array[box.slices] = values


def read_box(array: zarr.Array, box: Box) -> np.ndarray:
    """Voxels of a level, whose shards must have been written."""
    with _told(array.store):
        return np.asarray(array[box.slices])


@contextmanager
def _told(where: object) -> Iterator[None]:
    """What object storage raises, in one line; files raise what they always did."""
    if isinstance(where, Remote | zarr.storage.FsspecStore):
        with spoken(where if isinstance(where, Remote) else f"s3://{where.path}"):
            yield
    else:
        yield


def is_written(array: zarr.Array, box: Box) -> bool:
    """Whether every shard of ``box`` is on disk, and so complete."""
    root = Path(array.store.root) / array.path  # type: ignore[attr-defined]
    return all((root / key).is_file() for key in _keys(array, box))


def written(path: str | Place, level: int) -> Callable[[Box], bool]:
    """Tells whether every shard of a box of the level is stored, and so complete. Object storage is
    listed once, now."""
    path, array = place(path), open_level(path, level)
    if isinstance(path, Path):
        return lambda box: is_written(array, box)
    folder = path / str(level)
    there = {one.place.key.removeprefix(f"{folder.key}/") for one in (folder / "c").below()}
    return lambda box: there.issuperset(_keys(array, box))


def _keys(array: zarr.Array, box: Box) -> Iterator[str]:
    """Below the level, those of a box's shards."""
    _refuse_unaligned(array, box)
    shards = (
        range(a // s, -(-b // s))
        for a, b, s in zip(box.start, box.stop, _shard(array), strict=True)
    )
    return map(array.metadata.encode_chunk_key, product(*shards))


def build_shard(path: str | Place, level: int, box: Box) -> None:
    """Write one shard of ``level`` (1, 2, ...) as the area average of the level below.

    Every shard of the level below that it covers must have been written.
    """
    step, below = finer(path, level, box)
    values = read_box(open_level(path, level - 1), below)
    write_box(open_level(path, level), box, block_mean(values, step))


def finer(path: str | Place, level: int, box: Box) -> tuple[Triple, Box]:
    """Voxels of the level below along one of ``level``, and those that ``box`` averages."""
    factors, fine = _levels(path), open_level(path, level - 1)
    z, y, x = (a // b for a, b in zip(factors[level], factors[level - 1], strict=True))
    return (z, y, x), finer_box(box, (z, y, x), _triple(fine.shape))


def level_count(path: str | Place) -> int:
    """How many levels the store has."""
    return len(_levels(path))


def shard_boxes(path: str | Place, level: int) -> OnDemand[Box]:
    """The boxes to write at a level, one for each shard."""
    array = open_level(path, level)
    return blocks(_triple(array.shape), _shard(array))


def finish(path: str | Place, learned: dict[str, Any] | None = None) -> None:
    """Make the store an OME-Zarr image, in one rename; what a killed run left over is removed.

    ``learned`` adds to what identifies the run. ValueError where a shard is missing. Doing it
    again changes nothing.
    """
    path = place(path)
    state = _state(path)
    for level in range(len(state["levels"])):
        is_there = written(path, level)
        for box in shard_boxes(path, level):
            if not is_there(box):
                raise ValueError(f"{path} level {level}: the shard at {box.start} is not written")
    discard(leftovers(path))
    image = image_of(state["levels"], state["spacing_nm"])
    final = {**state, "state": FINISHED, "run": state["run"] | (learned or {})}
    final.pop("token", None)
    _write_root(path, {"ome": image, "emsr": final})


def _write_root(path: Place, attributes: dict[str, Any]) -> None:
    root, text = path / "zarr.json", _group(attributes)
    if isinstance(root, Remote):
        root.write_text(text)
        return
    with replacing(root) as partial:
        partial.write_text(text)


def _group(attributes: dict[str, Any]) -> str:
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return json.dumps(group, indent=2, allow_nan=False) + "\n"


def _state(path: str | Place) -> dict[str, Any]:
    state = read_state(path)
    if state is None:
        raise ValueError(f"there is no store at {path}")
    return state


def _levels(path: str | Place) -> list[list[int]]:
    return _state(path)["levels"]


def _shard(array: zarr.Array) -> Triple:
    return _triple(array.shards or array.chunks)


def _refuse_unaligned(array: zarr.Array, box: Box) -> None:
    for a, b, s, n in zip(box.start, box.stop, _shard(array), array.shape, strict=True):
        if a % s or (b % s and b != n) or b > n:
            raise ValueError(
                f"{box} does not cover whole shards of {_shard(array)} in {array.shape}"
            )


def _triple(values: tuple[int, ...]) -> Triple:
    z, y, x = values
    return z, y, x
