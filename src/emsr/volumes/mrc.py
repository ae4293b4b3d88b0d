"""MRC (CCP4, IMOD, SerialEM), memory-mapped: the header by mrcfile, the values by box.

Old and slightly wrong headers are common and read leniently; what matters is checked here.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.geometry.box import Triple
from emsr.volumes.spacing import Stated, complete, to_nm
from emsr.volumes.volume import StoredVolume, checked_shape, mapped

MRC_SUFFIXES = (".mrc", ".rec", ".st", ".map", ".mrcs")
HEADER_BYTES = 1024
IMOD_STAMP, SIGNED_BYTES = 1146047817, 1  # "IMOD", and a bit of the flags that follow it
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_OTHER_MODES = {3: "complex", 4: "complex", 16: "colour", 101: "4-bit"}
_VOLUME_STACKS = range(401, 631)  # space groups
_PACKED = {b"\x1f\x8b\x08": "gzip", b"BZh": "bzip2"}  # two bytes alone may be a width in x


def open_mrc(path: Path) -> StoredVolume:
    """An MRC file: columns x, rows y, sections z, in the order of the file.

    Spacing is cell / grid in Å; unknown, and said, where that is not positive.
    """
    name = str(path)
    _refuse_packed(path)
    header = _header(path)
    dtype, notices = _dtype(header, name)
    shape = _shape(header, name)
    start = HEADER_BYTES + int(header.nsymbt)
    _refuse_truncated(path, start, shape, dtype)
    order = header.mode.dtype.byteorder
    stated, said = _stated(header, name)
    spacing_nm, incomplete = complete(stated, shape[0], name)
    return StoredVolume(
        name,
        shape,
        dtype,
        spacing_nm,
        mapped(path, dtype.newbyteorder(order), start, shape),
        notices + said + incomplete,
    )


def _refuse_packed(path: Path) -> None:
    with path.open("rb") as file:
        packed = _PACKED.get(file.read(3))
    if packed:
        raise InputError(f"{path} is packed with {packed}, so no part of it can be read: unpack it")


def _header(path: Path) -> Any:
    import mrcfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is checked here, or is harmless
            with mrcfile.open(path, permissive=True, header_only=True) as file:
                return file.header
    except ValueError as error:
        raise InputError(
            f"{path} cannot be read as MRC: {error}; copy or export it again"
        ) from error


def _shape(header: Any, name: str) -> Triple:
    nz, ny, nx = int(header.nz), int(header.ny), int(header.nx)
    if min(nz, ny, nx) < 1 or header.nsymbt < 0:
        raise InputError(
            f"{name} cannot be read as MRC: its header states {nz} x {ny} x {nx} voxels; "
            "copy or export it again"
        )
    deep = max(1, int(header.mz))
    if header.ispg in _VOLUME_STACKS and nz > deep:
        raise InputError(
            f"{name} is a stack of {nz // deep} volumes: expected one volume; save one of them"
        )
    order = (int(header.mapc), int(header.mapr), int(header.maps))
    if order not in ((1, 2, 3), (0, 0, 0)):
        raise InputError(
            f"{name} stores its axes in the order {order} (MAPC, MAPR, MAPS): expected (1, 2, 3), "
            "columns x, rows y, sections z; save it again in that order"
        )
    return checked_shape((nz, ny, nx), name)


def _dtype(header: Any, name: str) -> tuple[np.dtype, tuple[str, ...]]:
    mode = int(header.mode)
    if mode not in MODES:
        kind = _OTHER_MODES.get(mode, "unknown")
        raise InputError(
            f"{name} cannot be read as a grey MRC: it has mode {mode} ({kind}): expected mode "
            f"{', '.join(map(str, MODES))}; convert it"
        )
    if mode:
        return np.dtype(MODES[mode]), ()
    signed, notices = _bytes_are_signed(header, name)
    return np.dtype("i1" if signed else "u1"), notices


def _bytes_are_signed(header: Any, name: str) -> tuple[bool, tuple[str, ...]]:
    """MRC2014 says that bytes are signed; IMOD and SerialEM write them unsigned, and flag it."""
    integer = np.dtype("i4").newbyteorder(header.mode.dtype.byteorder)
    stamp, flags = np.frombuffer(header.tobytes(), integer, count=2, offset=152)
    if stamp == IMOD_STAMP:
        return bool(flags & SIGNED_BYTES), ()
    low, high = float(header.dmin), float(header.dmax)
    if low < high and (low < 0 or high > 127):
        return high <= 127, ()
    if 0 <= low < high:
        return True, ()  # all values lie where both are the same
    return True, (
        f"{name} does not say whether its bytes are signed: taken as -128 to 127, as MRC2014 has "
        "it; if dark and bright look swapped, save it again as 16-bit",
    )


def _refuse_truncated(path: Path, start: int, shape: Triple, dtype: np.dtype) -> None:
    size, plane = path.stat().st_size, shape[1] * shape[2] * dtype.itemsize
    if size < start + shape[0] * plane:
        whole = max(0, size - start) // plane
        raise InputError(
            f"{path} is a truncated MRC: of {shape[0]} slices it holds {whole}, slice {whole} is "
            "cut; copy or export it again"
        )


def _stated(header: Any, name: str) -> tuple[Stated, tuple[str, ...]]:
    """Cell / grid along z, y and x, and what is to be said about it."""
    cell = (float(header.cella.z), float(header.cella.y), float(header.cella.x))
    counts = (int(header.mz), int(header.my), int(header.mx))
    z, y, x = (
        to_nm(length / n, "angstrom") if n > 0 else None
        for length, n in zip(cell, counts, strict=True)
    )
    if y is None or x is None:
        return (None, None, None), (
            f"{name} states no voxel size (cell {cell} Å of {counts} voxels along z, y, x): "
            "its spacing is unknown",
        )
    if (z, y, x) == (0.1, 0.1, 0.1):
        return (z, y, x), (
            f"{name} states voxels of 1 Å, which some programs write where they know none: "
            "check, and give --spacing",
        )
    return (z, y, x), ()
