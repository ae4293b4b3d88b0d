"""Opening a volume, whatever it is stored as: the only place that looks at suffixes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from emsr.errors import InputError
from emsr.files import is_url, split_address
from emsr.volumes.arrays import open_npy
from emsr.volumes.cloud import open_url
from emsr.volumes.hdf5 import HDF5_SUFFIXES, open_hdf5
from emsr.volumes.matlab import MATLAB_SUFFIXES, open_matlab
from emsr.volumes.mrc import MRC_SUFFIXES, open_mrc
from emsr.volumes.slices import PNG_SUFFIXES, TIFF_SUFFIXES, open_png, open_slices
from emsr.volumes.spacing import Spacing
from emsr.volumes.tensors import is_n5, is_precomputed, open_n5, open_precomputed
from emsr.volumes.tiff import open_tiff
from emsr.volumes.volume import (
    StoredVolume,
    Volume,
    array_volume,
    iterate_slices,
    no_level,
    with_spacing,
)
from emsr.volumes.zarrs import is_zarr, open_zarr

__all__ = ["Spacing", "StoredVolume", "Volume", "array_volume", "iterate_slices", "open_volume"]

READS = (
    "TIFF, PNG, NPY, MRC, HDF5, MATLAB v7.3, a folder of PNG or TIFF slices, "
    "OME-Zarr, Zarr, N5 or a precomputed volume"
)
_PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zip", ".zst", ".7z")


def open_volume(path: str | Path, spacing_nm: Spacing = None, level: int = 0) -> StoredVolume:
    """The volume at ``path``, read lazily, box by box; 2-D images are one slice (1, y, x).

    ``path`` is a file, a folder, a URL of a Zarr, or ``file.h5::/data_set``. ``level`` chooses
    from a pyramid (0 is the finest). ``spacing_nm`` (z, y, x) of that level overrides what the
    file states. ``notices`` of the result hold what the user should hear. InputError for what is
    missing, damaged, or not one grey channel on (y, x) or (z, y, x).
    """
    outer, inner = split_address(path)
    if level < 0:
        raise InputError(f"{path}: there is no level {level}; take 0 or more")
    if is_url(outer):
        volume = open_url(f"{outer.rstrip('/')}/{inner}".rstrip("/"), level)
    elif not Path(outer).exists():
        raise InputError(f"{outer}: no such file or folder; give an existing image or volume")
    else:
        volume = _opened_here(Path(outer), inner, level)
    return with_spacing(replace(volume, level=level), spacing_nm)


def _opened_here(path: Path, inside: str, level: int) -> StoredVolume:
    try:
        if path.is_dir():
            return _opened_folder(path / inside, level)
        volume = _opened_file(path, inside, level)
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror or error}") from error
    if level and path.suffix.lower() not in TIFF_SUFFIXES:
        raise no_level(volume.name, level, [volume.shape])
    return volume


def _opened_folder(path: Path, level: int) -> StoredVolume:
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; give an existing volume")
    if is_zarr(path):
        return open_zarr(path, level)
    if is_precomputed(path):
        return open_precomputed(path, level)
    if is_n5(path):
        return open_n5(path, level)
    if ".zarr" in path.suffixes:
        raise InputError(f"{path} is not a Zarr folder: it holds no zarr.json, .zgroup, .zarray")
    volume = open_slices(path)
    if level:
        raise no_level(volume.name, level, [volume.shape])
    return volume


def _opened_file(path: Path, inside: str, level: int) -> StoredVolume:
    suffix = path.suffix.lower()
    if suffix in HDF5_SUFFIXES:
        return open_hdf5(path, inside)
    if suffix in MATLAB_SUFFIXES:
        return open_matlab(path, inside)
    if inside:
        raise InputError(f"{path} has nothing inside, such as {inside}: give the file alone")
    if suffix in TIFF_SUFFIXES:
        return open_tiff(path, level)
    if suffix in PNG_SUFFIXES:
        return open_png(path)
    if suffix in MRC_SUFFIXES:
        return open_mrc(path)
    if suffix == ".npy":
        return open_npy(path)
    if suffix in _PACKED_SUFFIXES:
        raise InputError(f"{path} is packed, so no part of it can be read alone: unpack it")
    raise InputError(f"{path} has the suffix {suffix or '(none)'}: expected {READS}; convert it")
