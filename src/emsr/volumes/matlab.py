"""MATLAB v7.3: HDF5 whose axes lie the other way round.

As MATLAB shows them, rows are y, columns x, pages z: A(y, x, z). MATLAB stores the first index
fastest and h5py shows the last one so: what h5py sees is (z, x, y).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from emsr.errors import InputError
from emsr.volumes.axes import ONE
from emsr.volumes.hdf5 import chosen, opened, volume_of
from emsr.volumes.volume import StoredVolume

MATLAB_SUFFIXES = (".mat",)
_GREY_CLASSES = ("double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32")
_COLOURS = (3, 4)


def open_matlab(path: Path, inside: str) -> StoredVolume:
    """A variable of a v7.3 file, A(y, x) or A(y, x, z); spacing is unknown, as MATLAB has none.

    ``inside`` may be "" in a file with one image.
    """
    _refuse_older(path)
    dataset = chosen(opened(path), inside, path)
    name = f"{path}::{dataset.name}"
    kind = dataset.attrs.get("MATLAB_class", b"double")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if kind not in _GREY_CLASSES:
        raise InputError(
            f"{name} is of the MATLAB class {kind}: expected a numeric array A(y, x, z); convert it"
        )
    pages = dataset.shape[:-2]
    if dataset.ndim < 2 or len([n for n in pages if n > 1]) > 1:
        raise InputError(
            f"{name} is of size {' x '.join(map(str, dataset.shape[::-1]))}: expected A(y, x) or "
            "A(y, x, z); save one channel and time point"
        )
    names = _pages(pages) + "xy"
    volume = volume_of(dataset, names, path)
    if volume.shape[0] in _COLOURS:
        line = (
            f"{name} is of size {volume.shape[1]} x {volume.shape[2]} x {volume.shape[0]}: taken "
            f"as {volume.shape[0]} slices; a colour image is not a volume, convert it to grey"
        )
        volume = replace(volume, notices=(*volume.notices, line))
    return volume


def _pages(sizes: tuple[int, ...]) -> str:
    """Names of the axes beyond rows and columns: the one longer than 1 is z, if there is any."""
    long = next((axis for axis, n in enumerate(sizes) if n > 1), len(sizes) - 1)
    return "".join("z" if axis == long else ONE for axis in range(len(sizes)))


def _refuse_older(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(10)
    if start.startswith((b"MATLAB 5.0", b"MATLAB 4")):
        raise InputError(
            f"{path} is a MAT file older than v7.3, which cannot be read in part: save it again "
            "in MATLAB with save(..., '-v7.3')"
        )
