"""HDF5 data sets, read chunk by chunk. ``file.h5::/path`` names one of several.

h5py takes one call at a time, whatever the thread: reads from several threads are safe, and wait
for one another.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emsr.errors import InputError
from emsr.volumes.axes import chunk_grid, fetch_by_axes, grid, unnamed
from emsr.volumes.spacing import Stated, complete, to_nm
from emsr.volumes.volume import StoredVolume, checked_dtype

if TYPE_CHECKING:
    import h5py

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
_CACHE_BYTES = 2**25  # decoded chunks that are kept: neighbouring boxes often share them
_LISTED = 12
_UNITS = ("unit", "units", "spacing_units", "resolution_unit", "resolution_units")


def open_hdf5(path: Path, inside: str) -> StoredVolume:
    """A data set with axes (y, x) or (z, y, x), others of length 1; or as ``axistags`` name them.

    Spacing (z, y, x) from the attribute ``element_size_um``, or from ``spacing`` or ``resolution``
    where a unit stands beside it. ``inside`` may be "" in a file with one image.
    """
    dataset = chosen(opened(path), inside, path)
    names = _axistags(dataset) or unnamed(dataset.shape, f"{path}::{dataset.name}")
    return volume_of(dataset, names, path)


def is_whole(path: Path, inside: str) -> bool:
    """Whether all values of a data set lie in this file: none in files that it links to."""
    with opened(path) as file:
        dataset = chosen(file, inside, path)
        elsewhere = dataset.file.filename != file.filename
        return not (dataset.is_virtual or dataset.external or elsewhere)


def opened(path: Path) -> h5py.File:
    """The file, open for reading; InputError where it is not HDF5, or truncated."""
    import h5py

    if not h5py.is_hdf5(path):
        raise InputError(f"{path} cannot be read as HDF5: no such signature; export it again")
    try:
        return h5py.File(path, "r", locking="best-effort", rdcc_nbytes=_CACHE_BYTES)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read as HDF5: {' '.join(str(error).split())}; "
            "copy or export it again"
        ) from error


def chosen(file: h5py.File, inside: str, path: Path) -> h5py.Dataset:
    """The data set at ``inside``, or the only one that can be an image; else those there are."""
    import h5py

    found = _datasets(file)
    if inside:
        try:
            node = file.get(inside)
        except (KeyError, OSError):  # a link that leads nowhere
            node = None
        if isinstance(node, h5py.Dataset):
            return _checked(node, path)
        raise InputError(f"{path} has no data set {inside}: it holds {_listed(found)}")
    images = [one for one in found if one.shape is not None and sum(n > 1 for n in one.shape) >= 2]
    if not found:
        raise InputError(f"{path} holds no data set: expected one on (y, x) or (z, y, x)")
    if len(images or found) != 1:
        raise InputError(
            f"{path} holds {_listed(images or found)}: name the one to read, as in {path}::/name"
        )
    return _checked((images or found)[0], path)


def volume_of(dataset: h5py.Dataset, names: str, path: Path) -> StoredVolume:
    """The volume that a data set with axes ``names`` is, with the spacing its attributes state."""
    name = f"{path}::{dataset.name}"
    shape = grid(dataset.shape, names, name)
    dtype = checked_dtype(dataset.dtype, name)
    stated, said = _stated(dataset, names, name)
    spacing_nm, notices = complete(stated, shape[0], name)
    return StoredVolume(
        name,
        shape,
        dtype,
        spacing_nm,
        fetch_by_axes(lambda index: dataset[index], names),
        said + notices,
        chunk=chunk_grid(dataset.chunks, names),
    )


def _datasets(file: h5py.File) -> list[h5py.Dataset]:
    import h5py

    found: list[h5py.Dataset] = []

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and not name.startswith("#"):  # MATLAB's own
            found.append(node)

    try:
        file.visititems(visit)
    except RuntimeError as error:
        raise InputError(
            f"{file.filename} is damaged ({' '.join(str(error).split())}): copy or export it again"
        ) from None
    return found


def _listed(found: list[h5py.Dataset]) -> str:
    if not found:
        return "no data set"
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return ", ".join(f"{one.name} {one.shape}" for one in found[:_LISTED]) + more


def _checked(dataset: h5py.Dataset, path: Path) -> h5py.Dataset:
    name = f"{path}::{dataset.name}"
    if dataset.shape is None or 0 in dataset.shape or dataset.attrs.get("MATLAB_empty"):
        raise InputError(f"{name} is empty: expected at least one voxel along z, y and x")
    _refuse_unknown_filter(dataset, name)
    return dataset


def _refuse_unknown_filter(dataset: h5py.Dataset, name: str) -> None:
    """Compression that is neither built in nor in hdf5plugin, if that is installed."""
    import h5py

    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(number) for number in range(settings.get_nfilters())]
    missing = [code for code, *_ in filters if not h5py.h5z.filter_avail(code)]
    if missing:
        try:
            import hdf5plugin  # noqa: F401 - registers its filters
        except ImportError:
            raise InputError(
                f"{name} is compressed with HDF5 filter {missing[0]}, which is not built in: "
                "pip install hdf5plugin"
            ) from None


def _axistags(dataset: h5py.Dataset) -> str | None:
    """The axes as ilastik names them, one letter each; None where it does not."""
    try:
        tags = json.loads(dataset.attrs["axistags"])
        names = "".join(axis["key"] for axis in tags["axes"])
    except (KeyError, TypeError, ValueError):
        return None
    return names if len(names) == len(set(names)) == len(dataset.shape) else None


def _stated(dataset: h5py.Dataset, names: str, name: str) -> tuple[Stated, tuple[str, ...]]:
    """(z, y, x) in nm, and what is to be said about it."""
    lengths, notices = {}, []
    unit = next((u for key in _UNITS if (u := _text(dataset.attrs.get(key)))), None)
    for key, its_unit in (("element_size_um", "um"), ("spacing", unit), ("resolution", unit)):
        if key not in dataset.attrs:
            continue
        values = np.atleast_1d(dataset.attrs[key])
        shown = " ".join(f"{value}" for value in values)
        spatial = _spatial(values, names, its_unit)
        if spatial:
            lengths[key] = spatial
        elif its_unit is None:
            notices.append(
                f"{name} states a {key} of {shown} without a unit: taken as unknown, "
                "give it with --spacing"
            )
        else:
            notices.append(
                f"{name} states a {key} of {shown}, not three positive numbers along z, y, x: "
                "taken as unknown"
            )
    if not lengths:
        return (None, None, None), tuple(notices)
    first, *others = lengths.values()
    if any(not _agree(first, other) for other in others):
        said = ", ".join(f"{key} {value} nm" for key, value in lengths.items())
        return (None, None, None), (f"{name} states {said}: contradictory, so taken as unknown",)
    return first, () if "element_size_um" in lengths else tuple(notices)


def _agree(one: Stated, other: Stated) -> bool:
    pairs = zip(one, other, strict=True)
    return all(a is None or b is None or abs(a - b) <= 1e-3 * a for a, b in pairs)


def _spatial(values: np.ndarray, names: str, unit: str | None) -> Stated | None:
    """(z, y, x) in nm of three lengths, or of two in the plane; None where they are not that."""
    flat = names.count("z") == 0
    if values.dtype.kind not in "iuf" or values.shape not in ((3,), (2,) if flat else (3,)):
        return None
    lengths = [to_nm(float(value), unit) for value in values]
    if None in lengths:
        return None
    z, y, x = lengths if len(lengths) == 3 else [None, *lengths]
    return z, y, x


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return value if isinstance(value, str) and to_nm(1.0, value) else None
