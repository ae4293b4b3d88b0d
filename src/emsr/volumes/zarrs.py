"""Zarr arrays (format 2 and 3) and OME-Zarr images (0.4 and 0.5), read by box.

Knows NGFF's axes, units and scales. An image that ``emsr`` has not finished is refused.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from emsr.errors import InputError
from emsr.geometry.box import Box
from emsr.volumes.spacing import Stated, complete, to_nm
from emsr.volumes.volume import StoredVolume, checked_dtype, checked_shape, no_level

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
    return open_node(node, str(path), level)


def open_node(node: zarr.Array | zarr.Group, name: str, level: int) -> StoredVolume:
    """As ``open_zarr``, of an array or group that is open, wherever it is stored."""
    if isinstance(node, zarr.Group):
        return _open_image(node, name, level)
    if level:
        raise InputError(f"{name} is a single Zarr array: it has no level {level}; take 0")
    return _as_volume(node, ["z", "y", "x"][-node.ndim :], (None, None, None), name)


def _open_image(group: zarr.Group, name: str, level: int) -> StoredVolume:
    attributes: dict[str, Any] = dict(group.attrs)
    ours = attributes.get("emsr")
    if isinstance(ours, dict) and ours.get("state") == "unfinished":
        raise InputError(f"{name} is unfinished: run the same emsr upscale again to complete it")
    try:
        return _image(group, attributes, name, level)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{name} has damaged image metadata ({type(error).__name__}: {error}): expected "
            "that of OME-Zarr 0.4 or 0.5; write it again"
        ) from None


def _image(group: zarr.Group, attributes: dict[str, Any], name: str, level: int) -> StoredVolume:
    try:
        image = _multiscales(attributes)[0]
        axes, datasets = image["axes"], image["datasets"]
        names = [axis["name"] for axis in axes]
        places = [dataset["path"] for dataset in datasets]
    except (KeyError, IndexError, TypeError):
        raise InputError(
            f"{name} is a Zarr group without the image metadata of OME-Zarr 0.4 or 0.5: "
            f"expected an image; it holds {_members(group)}: give one of these"
        ) from None
    if level >= len(places):
        shapes = [(1, *_array(group, place, name).shape)[-3:] for place in places]
        raise no_level(name, level, shapes)
    array = _array(group, places[level], name)
    stated, said = _stated(image, level, axes, name)
    volume = _as_volume(array, names, stated, name)
    return replace(volume, notices=said + volume.notices)


def _members(group: zarr.Group) -> str:
    try:
        return str(sorted(group.keys()) or "nothing")
    except Exception:  # web servers do not list
        return "what the server does not list"


def _array(group: zarr.Group, place: str, name: str) -> zarr.Array:
    array = group.get(place)
    if not isinstance(array, zarr.Array):
        raise InputError(f"{name} names an array {place} that it does not hold")
    return array


def _multiscales(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """0.5 keeps its metadata under ``ome``, 0.4 at the top."""
    return attributes.get("ome", attributes)["multiscales"]


def _stated(
    image: dict[str, Any], level: int, axes: list[dict[str, Any]], name: str
) -> tuple[Stated, tuple[str, ...]]:
    """The scales of a level and of the whole image, multiplied, in nm along z, y and x; and what
    is to be said about them."""
    scale, known = np.ones(len(axes)), False
    for holder in (image["datasets"][level], image):
        for step in holder.get("coordinateTransformations") or ():
            if step.get("type") == "scale" and len(step.get("scale", ())) == len(axes):
                scale = scale * np.asarray(step["scale"], dtype=float)
                known = True
    if not known:
        return (None, None, None), (f"{name} states no scale: its spacing is unknown",)
    found = dict(zip((axis["name"] for axis in axes), scale.tolist(), strict=True))
    units = {axis["name"]: axis.get("unit") for axis in axes}
    z, y, x = (to_nm(found.get(axis), units.get(axis)) for axis in "zyx")
    said = tuple(
        f"{name} states a spacing of {found[axis]:g} along {axis}, not a positive length: "
        "taken as unknown"
        for axis in "zyx"
        if axis in found and not found[axis] > 0
    )
    return (z, y, x), said


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

    chunk_z, chunk_y, chunk_x = (1,) * (3 - spatial) + array.chunks[-spatial:]
    chunk = (chunk_z, chunk_y, chunk_x)
    return StoredVolume(name, shape, dtype, spacing_nm, fetch, notices, chunk=chunk)
