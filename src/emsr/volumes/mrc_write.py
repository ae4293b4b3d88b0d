"""MRC2014 files written block by block, in any order; the same values give the same bytes.

Knows which grey values MRC holds. What made a file stands in its labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from emsr.errors import InputError
from emsr.files import replacing
from emsr.geometry.box import Box, Triple
from emsr.volumes.mrc import HEADER_BYTES, IMOD_STAMP, MODES, SIGNED_BYTES
from emsr.volumes.spacing import Spacing

_MODES = {np.dtype(kind).name: mode for mode, kind in MODES.items()}
_WIDENED = {"uint8": "uint16"}  # by the standard bytes are signed; mode 6 is read right everywhere
_FLAGS_AT = 40  # in the second free part of the header
_LABEL_CHARACTERS, _LABELS = 80, 10
_ANGSTROM_PER_NM = 10


def stored_as(dtype: np.dtype | type | str) -> np.dtype | None:
    """The dtype in which MRC holds all values of ``dtype``; None where it cannot."""
    name = np.dtype(dtype).name
    name = _WIDENED.get(name, name)
    return np.dtype(name) if name in _MODES else None


def write_mrc(
    path: str | Path,
    parts: Iterable[tuple[Box, np.ndarray]],
    shape: Triple,
    dtype: np.dtype | type | str,
    spacing_nm: Spacing,
    software: str = "emsr",
) -> None:
    """Write ``parts``, boxes that partition a volume of ``shape`` and their grey values.

    One part is in memory at a time. 8-bit values without sign are stored as 16-bit ones (mode 6).
    The cell is zero where the spacing is unknown. ``software``: ASCII, words of up to 80
    characters. The file appears under its name only when it is complete.
    """
    held = stored_as(dtype)
    if held is None:
        raise InputError(f"{path}: MRC cannot hold values of type {np.dtype(dtype).name}")
    greys = _Greys()
    with replacing(path) as partial, partial.open("wb") as file:
        for box, values in parts:
            greys.add(values)
            _place(file, box, values.astype(held.newbyteorder("<")), shape)
        file.seek(0)
        file.write(_header(shape, held, spacing_nm, greys, software).tobytes())


def software_of(path: Path) -> str | None:
    """What a file that ``write_mrc`` wrote says made it; None where it says nothing."""
    with path.open("rb") as file:
        raw = file.read(HEADER_BYTES)
    if len(raw) < HEADER_BYTES:
        return None
    from mrcfile.dtypes import HEADER_DTYPE

    header = np.frombuffer(raw, np.dtype(HEADER_DTYPE).newbyteorder("<"))[0]
    labels = [label.decode("ascii", "replace").strip() for label in header["label"]]
    return " ".join(label for label in labels if label) or None


class _Greys:
    """The statistics that an MRC header states."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self._count, self.mean, self._squares = 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        """Chan's update of mean and sum of squared deviations."""
        grey = values.astype(np.float64)
        self.low = min(self.low, float(grey.min()))
        self.high = max(self.high, float(grey.max()))
        mean = float(grey.mean())
        apart, every = mean - self.mean, self._count + grey.size
        grey -= mean
        self._squares += float(np.square(grey, out=grey).sum())
        self._squares += apart**2 * self._count * grey.size / every
        self.mean += apart * grey.size / every
        self._count = every

    @property
    def deviation(self) -> float:
        return math.sqrt(self._squares / self._count)


def _place(file: BinaryIO, box: Box, values: np.ndarray, shape: Triple) -> None:
    """Write a box row by row, or in one piece where its rows adjoin in the file."""
    (z0, y0, x0), (_, height, width) = box.start, shape
    rows = values if values.shape[2] < width else values.reshape(len(values), 1, -1)
    for z, plane in enumerate(rows, z0):
        for y, row in enumerate(plane, y0):
            file.seek(HEADER_BYTES + ((z * height + y) * width + x0) * values.itemsize)
            file.write(row.tobytes())


def _header(shape: Triple, held: np.dtype, spacing_nm: Spacing, greys: _Greys, made_by: str) -> Any:
    from mrcfile.dtypes import HEADER_DTYPE

    header = np.zeros((), np.dtype(HEADER_DTYPE).newbyteorder("<"))
    for axis, count in zip("zyx", shape, strict=True):
        header[f"n{axis}"] = header[f"m{axis}"] = count
    if spacing_nm is not None:
        for axis, count, nm in zip("zyx", shape, spacing_nm, strict=True):
            header["cella"][axis] = count * nm * _ANGSTROM_PER_NM
    header["mode"] = _MODES[held.name]
    header["cellb"] = (90, 90, 90)
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["dmin"], header["dmax"] = greys.low, greys.high
    header["dmean"], header["rms"] = greys.mean, greys.deviation
    header["ispg"], header["nversion"] = 1, 20141  # one volume; MRC2014 with mode 12
    header["map"], header["machst"] = b"MAP ", (0x44, 0x44, 0, 0)
    labels = _labels(made_by)
    header["label"][: len(labels)] = labels
    header["nlabl"] = len(labels)
    if held.name == "int8":
        # IMOD takes bytes without its own mark for unsigned ones
        flags = np.array([IMOD_STAMP, SIGNED_BYTES], "<i4").tobytes()
        header["extra2"] = np.void((bytes(_FLAGS_AT) + flags).ljust(header["extra2"].nbytes, b"\0"))
    return header


def _labels(text: str) -> list[bytes]:
    """Words in lines as long as a label holds, filled with blanks."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], joined] if len(joined) <= _LABEL_CHARACTERS else [*lines, word]
    if len(lines) > _LABELS or max(map(len, lines)) > _LABEL_CHARACTERS:
        raise ValueError(f"{text!r} does not fit into the labels of MRC")
    return [line.ljust(_LABEL_CHARACTERS).encode("ascii") for line in lines]
