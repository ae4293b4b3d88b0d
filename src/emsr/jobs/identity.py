"""Which run an output belongs to: the model, the input and the plan that decided its bytes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emsr.files import is_url, split_address
from emsr.volumes.hdf5 import HDF5_SUFFIXES, is_whole
from emsr.volumes.source import Volume

DIGEST_BYTES = 16


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stated(volume: Volume) -> str:
    """What a volume says of itself, beside its grey values."""
    return repr((volume.shape, volume.dtype.str, volume.spacing_nm))


def digest(values: np.ndarray) -> bytes:
    """Tells the grey values of one tile from others."""
    return hashlib.sha256(np.ascontiguousarray(values).data).digest()[:DIGEST_BYTES]


def input_hash(volume: Volume, digests: np.ndarray) -> str:
    """Of the whole input, from the ``(tiles, DIGEST_BYTES)`` digests of its parts in the order of
    the plan: it says that it is this input, wherever it lies."""
    whole = hashlib.sha256(stated(volume).encode())
    whole.update(np.ascontiguousarray(digests).data)
    return whole.hexdigest()


def untouched(address: str | Path) -> str | None:
    """Changes when a file of an input is written, replaced or renamed; None where that cannot be
    seen. Two equal ones spare reading the input again; two that differ say nothing about it."""
    outer, inner = split_address(address)
    if is_url(outer):
        return None
    # The times of files that an HDF5 file is made of would not be seen.
    if Path(outer).suffix.lower() in HDF5_SUFFIXES and not is_whole(Path(outer), inner):
        return None
    seen = hashlib.sha256()
    try:
        for path in _files(Path(outer).resolve()):
            found = path.stat()
            seen.update(f"{path} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}".encode())
    except OSError:
        return None
    return seen.hexdigest()


def _files(root: Path) -> Iterator[Path]:
    """The file, or all files below a folder in one order."""
    if not root.is_dir():
        yield root
    been: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        been.add(os.path.realpath(folder))  # links may lead in a circle
        folders[:] = sorted(f for f in folders if os.path.realpath(Path(folder, f)) not in been)
        yield from (Path(folder, name) for name in sorted(names))


def software(run: dict[str, Any], input_sha256: str = "") -> str:
    """How a single file says which run made it, of which input; at most 80 characters, as some
    formats hold no more."""
    identity = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()
    return f"emsr run {identity[:24]} of {input_sha256[:40]}"
