"""The SR output: an OME-Zarr 0.5 image with a pyramid, one shard the unit of work and of restart.

    create -> write_box (level 0, in any order) -> build_shard (level 1, 2, ...) -> finish

Until ``finish`` the root carries no image metadata, so no reader takes it for an image. A shard
is written whole, under a temporary name, and renamed: if it exists, it is complete. Nothing that
a finished store holds depends on time, host or order. The ``run`` that the store remembers is not
interpreted. Several processes may write to one store: each shard has a single writer.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from emsr.errors import InputError
from emsr.files import replacing
from emsr.geometry.box import Box, OnDemand, Triple, blocks
from emsr.volumes.pyramid import (
    Level,
    block_mean,
    downsample_plan,
    finer_box,
)
from emsr.volumes.spacing import Spacing

UNFINISHED, FINISHED = "unfinished", "finished"
_AXES = ("z", "y", "x")
_ZSTD_LEVEL = 3


def create(
    path: str | Path,
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
    since a moment.
    """
    path = Path(path)
    if path.exists():
        raise InputError(f"{path} exists: choose another name or give --overwrite")
    levels = downsample_plan(shape, spacing_nm, coarsest_px)
    state = {
        "state": UNFINISHED,
        "run": run,
        "token": token,
        "spacing_nm": None if spacing_nm is None else list(spacing_nm),
        "levels": [list(level.factor) for level in levels],
    }
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.mkdir(parents=True)
        for number, level in enumerate(levels):
            _create_array(partial / str(number), level, np.dtype(dtype), chunk, shard)
        _write_root(partial, {"emsr": state})
        partial.rename(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _create_array(place: Path, level: Level, dtype: np.dtype, chunk: Triple, shard: Triple) -> None:
    zarr.create_array(
        store=str(place),
        shape=level.shape,
        dtype=dtype,
        chunks=chunk,
        shards=shard,
        compressors=ZstdCodec(level=_ZSTD_LEVEL),
        fill_value=0,
        dimension_names=_AXES,
    )


def read_state(path: str | Path) -> dict[str, Any] | None:
    """The store's ``state`` and ``run``; None where nothing is at ``path``.

    InputError where something else is there.
    """
    path = Path(path)
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


def is_image(path: str | Path) -> bool:
    """Whether a folder is itself an image, of ours or OME-Zarr 0.4 or 0.5, and no place for
    others."""
    return any({"emsr", "multiscales"} & found.keys() for found in _attributes(Path(path)))


def _attributes(path: Path) -> Iterator[dict[str, Any]]:
    """Where a Zarr group says what it is: of version 3 (and its part ``ome``), of version 2."""
    for name in ("zarr.json", ".zattrs"):
        try:
            found = json.loads((path / name).read_text())
        except (OSError, ValueError):
            continue
        found = found.get("attributes", found) if isinstance(found, dict) else {}
        yield from (one for one in (found, found.get("ome")) if isinstance(one, dict))


def open_level(path: str | Path, level: int) -> zarr.Array:
    """The (z, y, x) array of a level, to write shards to."""
    array = zarr.open_array(str(Path(path) / str(level)), mode="r+")
    # a shard of zeros must be stored too: one that is absent counts as not done
    return array.with_config({"write_empty_chunks": True})


def aside(path: Path) -> Path:
    """A name beside ``path`` that nobody takes for a store; ``leftovers`` finds it again."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")


def leftovers(path: str | Path) -> Iterator[Path]:
    """What killed writers left of the store at ``path``, in it or beside it."""
    path = Path(path)
    yield from path.parent.glob(f".{path.name}.*.partial")
    yield from path.rglob("*.partial")


def discard(places: Iterable[Path]) -> None:
    """Remove files and folders that may be gone already."""
    for place in list(places):
        if place.is_dir():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)


def write_box(array: zarr.Array, box: Box, values: np.ndarray) -> None:
    """Write whole shards. ValueError where ``box`` cuts through one: each has a single writer."""
    _refuse_unaligned(array, box)
    if values.shape != box.shape or values.dtype != array.dtype:
        raise ValueError(
            f"{values.shape} {values.dtype} for a box of {box.shape}, {array.dtype} expected"
        )
    array[box.slices] = values


def is_written(array: zarr.Array, box: Box) -> bool:
    """Whether every shard of ``box`` is on disk, and so complete."""
    _refuse_unaligned(array, box)
    shards = (
        range(a // s, -(-b // s))
        for a, b, s in zip(box.start, box.stop, _shard(array), strict=True)
    )
    root = Path(array.store.root) / array.path  # type: ignore[attr-defined]
    keys = (array.metadata.encode_chunk_key(index) for index in product(*shards))
    return all((root / key).is_file() for key in keys)


def build_shard(path: str | Path, level: int, box: Box) -> None:
    """Write one shard of ``level`` (1, 2, ...) as the area average of the level below.

    Every shard of the level below that it covers must have been written.
    """
    step, below = finer(path, level, box)
    values = np.asarray(open_level(path, level - 1)[below.slices])
    write_box(open_level(path, level), box, block_mean(values, step))


def finer(path: str | Path, level: int, box: Box) -> tuple[Triple, Box]:
    """Voxels of the level below along one of ``level``, and those that ``box`` averages."""
    factors, fine = _levels(path), open_level(path, level - 1)
    z, y, x = (a // b for a, b in zip(factors[level], factors[level - 1], strict=True))
    return (z, y, x), finer_box(box, (z, y, x), _triple(fine.shape))


def level_count(path: str | Path) -> int:
    """How many levels the store has."""
    return len(_levels(path))


def shard_boxes(path: str | Path, level: int) -> OnDemand[Box]:
    """The boxes to write at a level, one for each shard."""
    array = open_level(path, level)
    return blocks(_triple(array.shape), _shard(array))


def finish(path: str | Path, learned: dict[str, Any] | None = None) -> None:
    """Make the store an OME-Zarr image, in one rename; what a killed run left over is removed.

    ``learned`` adds to what identifies the run. ValueError where a shard is missing. Doing it
    again changes nothing.
    """
    path = Path(path)
    state = _state(path)
    for level in range(len(state["levels"])):
        array = open_level(path, level)
        for box in shard_boxes(path, level):
            if not is_written(array, box):
                raise ValueError(f"{path} level {level}: the shard at {box.start} is not written")
    discard(leftovers(path))
    image = _image(state["levels"], state["spacing_nm"])
    final = {**state, "state": FINISHED, "run": state["run"] | (learned or {})}
    final.pop("token", None)
    _write_root(path, {"ome": image, "emsr": final})


def _image(levels: list[list[int]], spacing_nm: list[float] | None) -> dict[str, Any]:
    """NGFF 0.5 image metadata: https://ngff.openmicroscopy.org/0.5/#multiscale-md."""
    unit = {} if spacing_nm is None else {"unit": "nanometer"}
    base = np.asarray(spacing_nm or (1.0, 1.0, 1.0), dtype=float)
    multiscale = {
        "name": "sr",  # not the folder's name: equal runs are to be equal bytes
        "axes": [{"name": axis, "type": "space", **unit} for axis in _AXES],
        "datasets": [
            {"path": str(number), "coordinateTransformations": _placement(base, np.array(factor))}
            for number, factor in enumerate(levels)
        ],
        "type": "mean",
    }
    return {"version": "0.5", "multiscales": [multiscale]}


def _placement(base: np.ndarray, factor: np.ndarray) -> list[dict[str, Any]]:
    """Scale of a level, and the centre of its first voxel: areas are aligned, not centres."""
    return [
        {"type": "scale", "scale": (base * factor).tolist()},
        {"type": "translation", "translation": (base * (factor - 1) / 2).tolist()},
    ]


def _write_root(path: Path, attributes: dict[str, Any]) -> None:
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    with replacing(path / "zarr.json") as partial:
        partial.write_text(json.dumps(group, indent=2, allow_nan=False) + "\n")


def _state(path: str | Path) -> dict[str, Any]:
    state = read_state(path)
    if state is None:
        raise ValueError(f"there is no store at {path}")
    return state


def _levels(path: str | Path) -> list[list[int]]:
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
