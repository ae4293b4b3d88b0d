"""Zarr arrays (format 2 and 3) and OME-Zarr images (0.4 and 0.5), read by box.

Knows NGFF's axes, units and scales. An image that ``emsr`` has not finished is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from emsr.errors import InputError
from emsr.geometry.box import Box
from emsr.volumes.spacing import Stated, complete, to_nm
from emsr.volumes.volume import StoredVolume, checked_dtype, checked_shape

_MARKS = ("zarr.json", ".zgroup", ".zarray")


def is_zarr(path: Path) -> bool:
    """Whether a folder is the root of a Zarr array or group."""
    return any((path / mark).is_file() for mark in _MARKS)


def open_zarr(path: Path, level: int) -> StoredVolume:
    """An OME-Zarr image at pyramid ``level`` (0 is the finest), or a bare Zarr array."""
    try:
        node = zarr.open(str(path), mode="r")
    except Exception as error:  # metadata may be broken in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} cannot be read as Zarr: {reason}") from error
    if isinstance(node, zarr.Array):
        if level:
            raise InputError(f"{path} is a single Zarr array: it has no level {level}; take 0")
        return _as_volume(node, ["z", "y", "x"][-node.ndim :], (None, None, None), str(path))
    return _open_image(node, path, level)


def _open_image(group: zarr.Group, path: Path, level: int) -> StoredVolume:
    attributes: dict[str, Any] = dict(group.attrs)
    if attributes.get("emsr", {}).get("state") == "unfinished":
        raise InputError(f"{path} is unfinished: run the same emsr upscale again to complete it")
    try:
        image = _multiscales(attributes)[0]
        axes, datasets = image["axes"], image["datasets"]
        names = [axis["name"] for axis in axes]
        places = [dataset["path"] for dataset in datasets]
    except (KeyError, IndexError, TypeError):
        raise InputError(
            f"{path} is a Zarr group without the image metadata of OME-Zarr 0.4 or 0.5: "
            f"expected an image; it holds {sorted(group.keys()) or 'nothing'}: give one of these"
        ) from None
    if not 0 <= level < len(places):
        raise InputError(f"{path} has levels 0 to {len(places) - 1}: there is no level {level}")
    array = group.get(places[level])
    if not isinstance(array, zarr.Array):
        raise InputError(f"{path} names an array {places[level]} that it does not hold")
    return _as_volume(array, names, _stated(image, level, axes), str(path))


def _multiscales(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """0.5 keeps its metadata under ``ome``, 0.4 at the top."""
    return attributes.get("ome", attributes)["multiscales"]


def _stated(image: dict[str, Any], level: int, axes: list[dict[str, Any]]) -> Stated:
    """The scales of a level and of the whole image, multiplied, in nm along z, y and x."""
    scale = np.ones(len(axes))
    for holder in (image["datasets"][level], image):
        for step in holder.get("coordinateTransformations") or ():
            if step.get("type") == "scale" and len(step.get("scale", ())) == len(axes):
                scale = scale * np.asarray(step["scale"], dtype=float)
    stated = {a["name"]: to_nm(s, a.get("unit")) for a, s in zip(axes, scale, strict=True)}
    return stated.get("z"), stated.get("y"), stated.get("x")


def _as_volume(array: zarr.Array, names: list[str], stated: Stated, name: str) -> StoredVolume:
    """The last axes must be (y, x) or (z, y, x), all before them of length 1."""
    depth_known = names[-3:] == ["z", "y", "x"]
    spatial = 3 if depth_known else 2
    leading = array.shape[: array.ndim - spatial]
    if len(names) != array.ndim or names[-2:] != ["y", "x"] or any(n != 1 for n in leading):
        raise InputError(
            f"{name} has axes {', '.join(names) or 'none'} of shape {array.shape}: expected "
            "(y, x) or (z, y, x), with one time point and one channel"
        )
    dtype = checked_dtype(array.dtype, name)
    shape = checked_shape((1,) * (3 - spatial) + array.shape[-spatial:], name)
    spacing_nm, notices = complete(stated, shape[0], name)

    def fetch(box: Box) -> np.ndarray:
        index = (0,) * len(leading) + box.slices[-spatial:]
        return np.asarray(array[index]).reshape(box.shape)

    return StoredVolume(name, shape, dtype, spacing_nm, fetch, notices)
