"""Opening a volume, whatever it is stored as: the only place that looks at suffixes."""

from __future__ import annotations

from pathlib import Path

from emsr.errors import InputError
from emsr.volumes.arrays import open_npy
from emsr.volumes.slices import PNG_SUFFIXES, TIFF_SUFFIXES, open_png, open_slices
from emsr.volumes.spacing import Spacing
from emsr.volumes.tiff import open_tiff
from emsr.volumes.volume import (
    StoredVolume,
    Volume,
    array_volume,
    iterate_slices,
    with_spacing,
)
from emsr.volumes.zarrs import is_zarr, open_zarr

__all__ = ["Spacing", "StoredVolume", "Volume", "array_volume", "iterate_slices", "open_volume"]

READS = "TIFF, PNG, NPY, a folder of PNG or TIFF slices, Zarr and OME-Zarr"


def open_volume(path: str | Path, spacing_nm: Spacing = None, level: int = 0) -> StoredVolume:
    """The volume at ``path``, read lazily, box by box; 2-D images are one slice (1, y, x).

    ``spacing_nm`` (z, y, x) overrides what the file states. ``level`` chooses from an OME-Zarr
    pyramid. ``notices`` of the result hold what the user should hear. InputError for what is
    missing, damaged, or not one grey channel on (y, x) or (z, y, x).
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give an existing image or volume")
    try:
        volume = _opened(path, level)
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror or error}") from error
    return with_spacing(volume, spacing_nm)


def _opened(path: Path, level: int) -> StoredVolume:
    if path.is_dir() and is_zarr(path):
        return open_zarr(path, level)
    if level:
        raise InputError(f"{path} has no pyramid: there is no level {level}; take 0")
    if path.is_dir():
        if ".zarr" in path.suffixes:
            raise InputError(
                f"{path} is not a Zarr folder: it holds no zarr.json, .zgroup, .zarray"
            )
        return open_slices(path)
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return open_tiff(path)
    if suffix in PNG_SUFFIXES:
        return open_png(path)
    if suffix == ".npy":
        return open_npy(path)
    raise InputError(f"{path} has the suffix {suffix or '(none)'}: expected {READS}; convert it")
