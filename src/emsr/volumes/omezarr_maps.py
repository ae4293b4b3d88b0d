"""Several maps of one grid as one OME-Zarr 0.5: each an image of its own, and all of them named by
the group around them, the first one being what readers of one image show.

    sr.trust.ome.zarr     multiscales: doubt, power, ...
      doubt/0, 1, ...     an image as ``omezarr`` writes it
      power/0, 1, ...

As there, no reader takes it for an image before ``finish``. Maps can be added to a finished one.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.files import replacing
from emsr.geometry.box import Triple
from emsr.volumes import omezarr
from emsr.volumes.spacing import Spacing

DTYPE = "float32"
COARSEST_PX = 256


def create(
    path: Path,
    names: tuple[str, ...],
    shape: Triple,
    spacing_nm: Spacing,
    chunk: Triple,
    run: dict[str, Any],
) -> None:
    """Lay out what is missing of the maps ``names``, float32 ``shape``, one chunk a shard; the
    group around them is unfinished from then on."""
    if not path.exists():
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
        partial.mkdir(parents=True)
        _write(partial, omezarr.UNFINISHED, run)
        partial.rename(path)
    _write(path, omezarr.UNFINISHED, run)
    for name in names:
        if not (path / name).exists():
            omezarr.create(
                path / name,
                shape,
                DTYPE,
                spacing_nm,
                chunk,
                chunk,
                run,
                coarsest_px=COARSEST_PX,
            )


def state_of(path: Path) -> dict[str, Any] | None:
    """``state``, ``run`` and the names of the finished ``maps``; None where nothing is at ``path``.
    InputError where something else is there."""
    if not path.exists():
        return None
    try:
        state = json.loads((path / "zarr.json").read_text())["attributes"]["emsr"]
        _ = state["state"], state["run"], state["maps"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{path} exists and is no map of trust that emsr wrote: move it, or replace it with "
            "--overwrite"
        ) from None
    return dict(state)


def is_ours(path: Path) -> bool:
    """Whether maps that emsr wrote lie at ``path``, finished or not."""
    try:
        return state_of(path) is not None
    except InputError:
        return False


def finish(
    path: Path, names: tuple[str, ...], run: dict[str, Any], first_nm: Spacing = None
) -> None:
    """Build the coarser levels of the maps ``names``, whose finest is written, and make images of
    them and of the group around them; what else a killed run began is removed. ``first_nm`` is
    where (z, y, x) the centre of their first voxel lies."""
    for begun in path.iterdir():
        if begun.is_dir() and begun.name not in names:
            begun.rename(omezarr.aside(begun))
    images = []
    for name in names:
        _build(path / name)
        omezarr.finish(path / name)
        image = _moved(path / name, first_nm or (0.0, 0.0, 0.0))
        for dataset in image["datasets"]:
            dataset["path"] = f"{name}/{dataset['path']}"
        images.append({**image, "name": name})
    omezarr.discard(omezarr.leftovers(path))
    ome = {"version": "0.5", "multiscales": images}
    _write(path, omezarr.FINISHED, run, names, {"ome": ome})


def _moved(path: Path, first_nm: tuple[float, float, float]) -> dict[str, Any]:
    """Place a finished map where its first voxel lies; returns its image."""
    group = json.loads((path / "zarr.json").read_text())
    image: dict[str, Any] = group["attributes"]["ome"]["multiscales"][0]
    for dataset in image["datasets"]:
        place = dataset["coordinateTransformations"][1]
        place["translation"] = np.add(place["translation"], first_nm).tolist()
    with replacing(path / "zarr.json") as partial:
        partial.write_text(json.dumps(group, indent=2, allow_nan=False) + "\n")
    return image


def _build(path: Path) -> None:
    for level in range(1, omezarr.level_count(path)):
        array = omezarr.open_level(path, level)
        for box in omezarr.shard_boxes(path, level):
            if not omezarr.is_written(array, box):
                omezarr.build_shard(path, level, box)


def _write(
    path: Path,
    state: str,
    run: dict[str, Any],
    names: tuple[str, ...] = (),
    more: dict[str, Any] | None = None,
) -> None:
    ours = {"state": state, "run": run, "maps": list(names)}
    attributes = {**(more or {}), "emsr": ours}
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    with replacing(path / "zarr.json") as partial:
        partial.write_text(json.dumps(group, indent=2, allow_nan=False) + "\n")
