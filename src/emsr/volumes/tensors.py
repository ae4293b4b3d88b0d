"""N5 and neuroglancer's precomputed images, through tensorstore. Axes on disk are x, y, z.

Reads from several threads run at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.volumes.axes import chunk_grid, fetch_by_axes, grid
from emsr.volumes.extras import needed
from emsr.volumes.spacing import Stated, complete, to_nm
from emsr.volumes.volume import StoredVolume, checked_dtype, no_level

_N5_MARK, _PRECOMPUTED_MARK = "attributes.json", "info"
_LISTED = 12
_SEARCHED = 200  # folders looked into for data sets to name


def is_precomputed(folder: Path) -> bool:
    """Whether a folder is a precomputed image: its ``info`` is JSON, not somebody's notes."""
    info = folder / _PRECOMPUTED_MARK
    return info.is_file() and info.read_bytes()[:64].lstrip().startswith(b"{")


def is_n5(folder: Path) -> bool:
    """Whether a folder is an N5 container, or a group or data set in one."""
    marks = (folder / _N5_MARK, folder / "s0" / _N5_MARK)
    return any(mark.is_file() for mark in marks) or ".n5" in (p.suffix for p in _upwards(folder))


def open_precomputed(folder: Path, level: int) -> StoredVolume:
    """A neuroglancer volume at one of its scales; ``resolution`` is in nm."""
    name = str(folder)
    info = _json(folder / _PRECOMPUTED_MARK)
    try:
        scales = info["scales"]
        channels = int(info["num_channels"])
        shapes = [tuple(map(int, scale["size"][::-1])) for scale in scales]
        resolutions = [tuple(map(float, scale["resolution"][::-1])) for scale in scales]
        ends = {len(values) for values in (*shapes, *resolutions)}
    except (KeyError, TypeError, ValueError, IndexError):
        ends, channels, shapes = set(), 0, []
    if ends != {3}:
        raise InputError(
            f"{name} cannot be read as a precomputed volume: its info has no scales of size and "
            "resolution x, y, z; export it again"
        )
    if channels != 1:
        raise InputError(
            f"{name} has {channels} channels: expected one grey channel on (z, y, x); "
            "save one of them"
        )
    if level >= len(shapes):
        raise no_level(name, level, shapes)
    z, y, x = (to_nm(value, "nm") for value in resolutions[level])
    said = _not_positive(name, resolutions[level]) if None in (z, y, x) else ()
    return _opened("neuroglancer_precomputed", folder, "xyzc", (z, y, x), said, name, level)


def open_n5(folder: Path, level: int) -> StoredVolume:
    """An N5 data set, or a group of data sets s0, s1, ... as a pyramid.

    Spacing from ``pixelResolution`` (with its unit) or ``resolution`` (taken as nm, and said), of
    the data set or of the group, there times ``downsamplingFactors``.
    """
    name = str(folder)
    attributes = _json(folder / _N5_MARK)
    places = [folder] if "dimensions" in attributes else _scales(folder)
    if not places:
        within = list(_images(folder))
        if len(within) == 1:
            return open_n5(folder / within[0], level)
        listed = ", ".join(within[:_LISTED]) or "none"
        raise InputError(
            f"{name} is not an N5 data set: expected one with dimensions, or a group of s0, s1, "
            f"...; in it are: {listed}; give one, as in {name}::/path"
        )
    if level >= len(places):
        raise no_level(name, level, [_n5_grid(place) for place in places])
    place = places[level]
    _n5_grid(place)
    names = "xyzct"[: len(_json(place / _N5_MARK)["dimensions"])]
    stated, said = _n5_stated(place, places[0], folder, name, level)
    return _opened("n5", place, names, stated, said, name, level)


def _opened(
    driver: str,
    folder: Path,
    names: str,
    stated: Stated,
    said: tuple[str, ...],
    name: str,
    level: int,
) -> StoredVolume:
    tensorstore = needed("tensorstore", "tensorstore", f"{name}: reading {driver}")
    spec: dict[str, Any] = {"driver": driver, "kvstore": {"driver": "file", "path": f"{folder}/"}}
    if driver != "n5":
        spec["scale_index"] = level
    try:
        array = tensorstore.open(spec, open=True, read=True).result()
    except Exception as error:  # metadata may be broken in any way
        raise InputError(
            f"{name} cannot be read as {driver}: {_reason(error)}; export it again"
        ) from error
    array = array[tensorstore.d[:].translate_to[0]]  # precomputed volumes may begin elsewhere
    shape = grid(array.shape, names, name)
    dtype = checked_dtype(array.dtype.numpy_dtype, name)
    spacing_nm, notices = complete(stated, shape[0], name)
    return StoredVolume(
        name,
        shape,
        dtype,
        spacing_nm,
        fetch_by_axes(lambda index: _read(array[index]), names),
        said + notices,
        chunk=chunk_grid(array.chunk_layout.read_chunk.shape, names),
    )


def _read(part: Any) -> np.ndarray:
    try:
        return part.read().result()
    except ValueError as error:
        raise ValueError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """What tensorstore says, without the specification it appends."""
    return " ".join(str(error).partition(" [tensorstore_spec=")[0].split())


def _json(path: Path) -> dict[str, Any]:
    """What a metadata file holds; {} where there is none."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read: {reason}; export the volume again") from error
    return found if isinstance(found, dict) else {}


def _scales(group: Path) -> list[Path]:
    """The data sets s0, s1, ... of a multi-scale group, finest first."""
    scales: list[Path] = []
    while (scale := group / f"s{len(scales)}").is_dir() and "dimensions" in _json(scale / _N5_MARK):
        scales.append(scale)
    return scales


def _images(folder: Path) -> Iterator[str]:
    """Data sets and pyramids below a group, as paths relative to it; blocks are not looked into."""
    waiting, seen = [folder], 0
    while waiting and seen < _SEARCHED:
        group, seen = waiting.pop(0), seen + 1
        for child in sorted(p for p in group.iterdir() if p.is_dir()):
            if "dimensions" in _json(child / _N5_MARK) or _scales(child):
                yield str(child.relative_to(folder))
            else:
                waiting.append(child)


def _n5_grid(place: Path) -> tuple[int, int, int]:
    dimensions = _json(place / _N5_MARK).get("dimensions")
    if not isinstance(dimensions, list) or not all(isinstance(n, int) for n in dimensions):
        raise InputError(f"{place} has dimensions {dimensions}: expected x, y, z; export it again")
    if not 2 <= len(dimensions) <= 5:
        raise InputError(
            f"{place} has dimensions {dimensions}: expected (x, y) or (x, y, z); export it again"
        )
    x, y, *z = dimensions
    return (z[0] if z else 1), y, x


def _n5_stated(
    place: Path, finest: Path, group: Path, name: str, level: int
) -> tuple[Stated, tuple[str, ...]]:
    """(z, y, x) in nm of one scale, and what is to be said about it.

    A scale that states its own size has that, unless it repeats the finest one's: then, and where
    only the group states one, the factors of the scale come in.
    """
    own, said = _n5_resolution(place, name)
    factors = _factors(place, group, level)
    if level == 0 and own is not None:
        return own, said
    if own is not None and own != _n5_resolution(finest, name)[0]:
        return own, said
    base, said = (own, said) if own is not None else _n5_resolution(group, name)
    if base is None and level:
        base, said = _n5_resolution(finest, name)
    if base is None:
        return (None, None, None), said
    if factors is None:
        return (None, None, None), (
            f"{name} states a spacing but no downsamplingFactors for its level {level}: "
            "taken as unknown",
        )
    z, y, x = (b and b * f for b, f in zip(base, factors, strict=True))
    return (z, y, x), said


def _n5_resolution(place: Path, name: str) -> tuple[Stated | None, tuple[str, ...]]:
    attributes = _json(place / _N5_MARK)
    pixel, plain = attributes.get("pixelResolution"), attributes.get("resolution")
    unit, values = None, pixel
    if isinstance(pixel, dict):
        unit, values = pixel.get("unit"), pixel.get("dimensions")
    elif pixel is None:
        unit, values = _one_unit(attributes.get("units")), plain
    if values is None:
        return None, ()
    said: tuple[str, ...] = ()
    if unit is None:
        unit = "nm"
        said = (f"{name} states a resolution of {values} (x, y, z) without a unit: taken as nm",)
    numbers = isinstance(values, list) and all(isinstance(v, int | float) for v in values)
    lengths = [to_nm(float(v), str(unit)) for v in values[:3]] if numbers else []
    if None in lengths or not 2 <= len(lengths) <= 3:
        return None, _not_positive(name, values, unit)
    z, y, x = [None, *lengths[::-1]][-3:]
    return (z, y, x), said


def _one_unit(units: Any) -> str | None:
    """The unit of an N5 data set that states one for each axis, where they are all the same."""
    every = units if isinstance(units, list) else [units]
    same = every and isinstance(every[0], str) and all(unit == every[0] for unit in every)
    return every[0] if same else None


def _factors(place: Path, group: Path, level: int) -> tuple[float, float, float] | None:
    """(z, y, x) voxels of the finest scale that one of this scale covers."""
    if level == 0:
        return 1.0, 1.0, 1.0
    factors = _json(place / _N5_MARK).get("downsamplingFactors")
    if factors is None:
        attributes = _json(group / _N5_MARK)
        every = attributes.get("scales", attributes.get("downsamplingFactors"))
        factors = every[level] if isinstance(every, list) and len(every) > level else None
    try:
        x, y, z = (float(f) for f in np.asarray(factors, dtype=float).ravel())
    except (TypeError, ValueError):
        return None
    return (z, y, x) if min(z, y, x) > 0 else None


def _not_positive(name: str, values: Any, unit: Any = "nm") -> tuple[str, ...]:
    return (
        f"{name} states a resolution of {values} {unit}, not three positive lengths: "
        "taken as unknown",
    )


def _upwards(folder: Path) -> list[Path]:
    return [folder, *folder.parents]
