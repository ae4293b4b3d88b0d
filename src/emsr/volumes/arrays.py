"""NumPy's NPY files, memory-mapped. No spacing, no pickle."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from tokenize import TokenError

import numpy as np

from emsr.errors import InputError
from emsr.geometry.box import Box
from emsr.volumes.volume import StoredVolume, array_volume


def open_npy(path: Path) -> StoredVolume:
    """A (y, x) or (z, y, x) array; only what is read is loaded."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an archive of arrays")
    except (ValueError, EOFError, OSError, SyntaxError, TokenError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as NPY: {reason}; save it again") from error
    volume = array_volume(array, None, str(path))
    return replace(volume, fetch=partial(_fetched, path))


def _fetched(path: Path, box: Box) -> np.ndarray:
    """The map lives as long as the read, as that of ``mapped`` does."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return np.array((array[None] if array.ndim == 2 else array)[box.slices])
