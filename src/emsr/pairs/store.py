"""Pairs on disk: one Zarr group that says everything about itself.

    pairs.zarr        attribute "emsr_pairs": format version and the fields of ``Facts``
      lr        (n, y, x)       one chunk a slice
      hr        (m, s*y, s*x)   one chunk a slice
      hr_slice  (n,) int64      the HR slice that belongs to each LR slice

Knows the layout; does not know how pairs come about (``strategies``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from pydantic import TypeAdapter, ValidationError

from emsr.errors import InputError
from emsr.geometry.box import Triple
from emsr.pairs.publish import published
from emsr.volumes.intensity import Intensity
from emsr.volumes.spacing import Spacing

Planes = np.ndarray | zarr.Array
SlicePair = tuple[np.ndarray, Sequence[np.ndarray]]
"""One HR slice (Y, X) and the LR slices (y, x) that belong to it."""

KEY = "emsr_pairs"
VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a store of pairs says about itself; every value can be written as JSON."""

    strategy: str
    scale: int
    lr_spacing_nm: Spacing
    hr_spacing_nm: Spacing
    lr_window: Intensity
    """The LR grey levels that become 0 and 1."""
    hr_window: Intensity
    hr_z: tuple[int, ...]
    """Where each HR slice lies in its scan: which slices are neighbours there."""
    hr_dtype: str
    """NumPy's name of the HR scan's dtype, which is that of super-resolved volumes."""
    assumption: str
    """What the strategy takes for granted about the noise of input and target."""
    noise_correlation: float | None
    """Of the noises of input and target, on the LR grid: measured (``real``, ``denoised``),
    expected (``synthetic``), or what LR inherits of the one measured (``split``, a repeat)."""
    measured: dict[str, Any]
    """The other numbers the strategy rests on, and for ``synthetic`` the degradations drawn."""
    warnings: tuple[str, ...]
    provenance: tuple[dict[str, Any], ...]
    """For each scan: role, name, shape, dtype, spacing_nm, sha256 of its slices' bytes."""
    recipe: dict[str, Any]
    """The part of the recipe that decided these pairs."""
    seed: int


@dataclass(frozen=True, kw_only=True)
class Pairs(Facts):
    """Facts and arrays. ``lr`` (n, y, x) and ``hr`` (m, s*y, s*x) are read slice by slice as they
    are indexed, or lie in memory; LR slice i belongs to HR slice ``hr_slice[i]``."""

    lr: Planes
    hr: Planes
    hr_slice: np.ndarray


def open_pairs(path: str | Path) -> Pairs:
    """The pairs at ``path``, arrays unread. InputError where there are none that we can read."""
    if not Path(path).exists():
        raise InputError(f"{path}: no such pairs; make them with `emsr prepare`")
    stored = _attributes(Path(path))
    if stored is None:
        raise InputError(f"{path} does not hold pairs; make them with `emsr prepare`")
    if stored.get("version") != VERSION:
        raise InputError(
            f"{path} holds pairs of format version {stored.get('version')}, this program reads "
            f"version {VERSION}: prepare them again"
        )
    try:
        facts = TypeAdapter(Facts).validate_python(stored["facts"])
        group = zarr.open_group(path, mode="r")
        lr, hr, hr_slice = (cast(zarr.Array, group[name]) for name in ("lr", "hr", "hr_slice"))
        pairs = Pairs(**_fields(facts), lr=lr, hr=hr, hr_slice=np.asarray(hr_slice[:]))
    except (KeyError, ValidationError, ValueError, OSError) as error:
        raise InputError(f"{path} is damaged ({_one_line(error)}): prepare it again") from None
    _check_complete(path, pairs, lr.nchunks_initialized + hr.nchunks_initialized)
    return pairs


def in_memory(pairs: Pairs) -> Pairs:
    """The same pairs with their arrays read into memory."""
    return dataclasses.replace(pairs, lr=np.asarray(pairs.lr[:]), hr=np.asarray(pairs.hr[:]))


def write_pairs(
    path: str | Path,
    facts: Facts,
    slices: Iterable[SlicePair],
    lr_shape: Triple,
    lr_dtype: np.dtype,
    hr_shape: Triple,
    hr_dtype: np.dtype,
    overwrite: bool = False,
) -> None:
    """Store ``slices`` as they come, one in memory at a time.

    Built under another name beside ``path`` and renamed when complete: whatever interrupts it,
    ``path`` never holds half of it. Equal input gives equal bytes. An existing ``path`` is an
    InputError without ``overwrite``; with it, only pairs are replaced, nothing else.
    """
    if len(facts.hr_z) != hr_shape[0]:
        raise RuntimeError(f"{len(facts.hr_z)} HR slices are placed, {hr_shape[0]} announced")
    stored = TypeAdapter(Facts).dump_python(facts, mode="json")
    with published(Path(path), overwrite, is_pairs) as unfinished:
        group = zarr.open_group(unfinished, mode="w-", zarr_format=3)
        lr = _array(group, "lr", lr_shape, lr_dtype)
        hr = _array(group, "hr", hr_shape, hr_dtype)
        hr_slice = _fill(lr, hr, slices)
        group.create_array("hr_slice", data=np.asarray(hr_slice, np.int64))
        group.attrs[KEY] = {"version": VERSION, "facts": stored}


def is_pairs(path: Path) -> bool:
    """Whether ``path`` is a store of pairs, of whatever version."""
    return _attributes(path) is not None


def _array(group: zarr.Group, name: str, shape: Triple, dtype: np.dtype) -> zarr.Array:
    # Chunks that happen to be all zero are written too: a missing one then means damage.
    return group.create_array(
        name,
        shape=shape,
        chunks=(1, *shape[1:]),
        dtype=dtype,
        dimension_names=("z", "y", "x"),
        config={"write_empty_chunks": True},
    )


def _fill(lr: zarr.Array, hr: zarr.Array, slices: Iterable[SlicePair]) -> list[int]:
    """Write every slice; returns the HR slice of each LR slice."""
    hr_slice: list[int] = []
    for m, (hr_plane, lr_planes) in enumerate(slices):
        hr[m] = hr_plane
        for lr_plane in lr_planes:
            lr[len(hr_slice)] = lr_plane
            hr_slice.append(m)
    if (len(hr_slice), len(set(hr_slice))) != (lr.shape[0], hr.shape[0]):
        raise RuntimeError(f"{len(hr_slice)} LR slices came, {lr.shape[0]} were announced")
    return hr_slice


def _attributes(path: Path) -> dict[str, Any] | None:
    try:
        stored = zarr.open_group(path, mode="r").attrs.get(KEY)
    except (OSError, ValueError, KeyError):
        return None
    return stored if isinstance(stored, dict) else None


def _fields(facts: Facts) -> dict[str, Any]:
    return {field.name: getattr(facts, field.name) for field in dataclasses.fields(facts)}


def _check_complete(path: str | Path, pairs: Pairs, found: int) -> None:
    """InputError where shapes do not agree, not all chunks are there (a copy cut short), or LR
    slices do not belong to the HR slices in their order."""
    if (pairs.lr.ndim, pairs.hr.ndim) != (3, 3):
        raise InputError(
            f"{path} is damaged: LR {pairs.lr.shape} and HR {pairs.hr.shape} are no stacks: "
            "prepare it again"
        )
    n, y, x = pairs.lr.shape
    m, s = pairs.hr.shape[0], pairs.scale
    found_sizes = (pairs.hr.shape[1:], pairs.hr_slice.shape, len(pairs.hr_z))
    if found_sizes != ((s * y, s * x), (n,), m):
        raise InputError(
            f"{path} is damaged: LR {pairs.lr.shape}, HR {pairs.hr.shape} and scale {s} do not "
            f"agree: prepare it again"
        )
    if found != n + m:
        raise InputError(f"{path} is damaged: {found} of {n + m} slices are there: copy it again")
    owner = pairs.hr_slice
    ordered = owner.dtype.kind in "iu" and (owner[1:] >= owner[:-1]).all()
    if not (ordered and np.array_equal(np.unique(owner), np.arange(m))):
        raise InputError(
            f"{path} is damaged: hr_slice does not name each of the {m} HR slices, in order: "
            "prepare it again"
        )


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
