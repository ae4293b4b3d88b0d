"""HDF5 written block by block: one data set, chunked and packed; same values, same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from emsr.files import replacing
from emsr.geometry.box import Box, Triple
from emsr.volumes.spacing import Spacing

DATASET = "volume"
_GZIP_LEVEL = 4
_NM_PER_UM = 1000


def write_hdf5(
    path: str | Path,
    parts: Iterable[tuple[Box, np.ndarray]],
    shape: Triple,
    dtype: np.dtype | type | str,
    spacing_nm: Spacing,
    chunk: Triple,
    software: str = "emsr",
) -> None:
    """Write ``parts``, boxes that partition a volume of ``shape`` and their grey values, to
    ``/volume``.

    Packed with gzip, which every HDF5 library unpacks. Attributes: ``element_size_um`` (z, y, x)
    where the spacing is known, and ``software``. One part is in memory at a time: best if it holds
    whole chunks. The file appears under its name only when it is complete.
    """
    import h5py

    with replacing(path) as partial, _Sink(partial) as sink:
        with h5py.File(sink, "w") as file:
            dataset = file.create_dataset(
                DATASET,
                shape=shape,
                dtype=np.dtype(dtype),
                chunks=tuple(min(c, n) for c, n in zip(chunk, shape, strict=True)),
                compression="gzip",
                compression_opts=_GZIP_LEVEL,
                shuffle=True,
                track_times=False,  # equal volumes are to be equal bytes
            )
            if spacing_nm is not None:
                dataset.attrs["element_size_um"] = np.array(spacing_nm) / _NM_PER_UM
            dataset.attrs["software"] = np.bytes_(software)
            for box, values in parts:
                dataset[box.slices] = values
                sink.check()
        sink.check()


class _Sink(io.FileIO):
    """A file whose writes never fail: ``check`` does.

    HDF5 that cannot write cannot be closed either, and ends the process. So what finds no room is
    kept in memory, no more than one part and HDF5's cache, until the file is closed and removed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+b")
        self._error: OSError | None = None
        self._kept: dict[int, bytes] = {}

    def check(self) -> None:
        """OSError where something could not be written."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        left, at = memoryview(data).cast("B"), self.tell()
        size = len(left)
        try:
            while left and self._error is None:
                left = left[super().write(left) or 0 :]
        except OSError as error:
            self._error = error
        if left:
            self._kept[at + size - len(left)] = bytes(left)
        return size

    def readinto(self, buffer: Any) -> int:
        at, view = self.tell(), memoryview(buffer).cast("B")
        found = super().readinto(view) or 0
        for start, kept in self._kept.items():
            low, high = max(at, start), min(at + len(view), start + len(kept))
            if low < high:
                view[low - at : high - at] = kept[low - start : high - start]
                found = max(found, high - at)
        return found

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0


def software_of(path: Path) -> str | None:
    """What a file that ``write_hdf5`` wrote says made it; None where it says nothing."""
    import h5py

    if not h5py.is_hdf5(path):
        return None
    with h5py.File(path, "r", locking="best-effort") as file:
        found = file[DATASET].attrs["software"] if DATASET in file else b""
    return found.decode("ascii", "replace") if isinstance(found, bytes) else None
