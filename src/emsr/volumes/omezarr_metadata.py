"""What a Zarr of ours says of itself: the metadata of its arrays, and of the image they make."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from emsr.geometry.box import Triple
from emsr.volumes.pyramid import Level

_AXES = ("z", "y", "x")
_ZSTD_LEVEL = 3


def array_texts(
    levels: list[Level], dtype: np.dtype, chunk: Triple, shard: Triple
) -> dict[str, str]:
    """The metadata of all levels, by name below the root."""
    texts = {}
    for number, level in enumerate(levels):
        held: dict[str, Any] = {}
        zarr.create_array(
            store=zarr.storage.MemoryStore(held),
            shape=level.shape,
            dtype=dtype,
            chunks=chunk,
            shards=shard,
            compressors=ZstdCodec(level=_ZSTD_LEVEL),
            fill_value=0,
            dimension_names=_AXES,
        )
        texts[f"{number}/zarr.json"] = held["zarr.json"].to_bytes().decode()
    return texts


def image_of(levels: list[list[int]], spacing_nm: list[float] | None) -> dict[str, Any]:
    """NGFF 0.5 image metadata: https://ngff.openmicroscopy.org/0.5/#multiscale-md."""
    unit = {} if spacing_nm is None else {"unit": "nanometer"}
    base = np.asarray(spacing_nm or (1.0, 1.0, 1.0), dtype=float)
    multiscale = {
        "name": "sr",  # not the folder's name: equal runs are to be equal bytes
        "axes": [{"name": axis, "type": "space", **unit} for axis in _AXES],
        "datasets": [
            {"path": str(number), "coordinateTransformations": _placement(base, np.array(factor))}
            for number, factor in enumerate(levels)
        ],
        "type": "mean",
    }
    return {"version": "0.5", "multiscales": [multiscale]}


def _placement(base: np.ndarray, factor: np.ndarray) -> list[dict[str, Any]]:
    """Scale of a level, and the centre of its first voxel: areas are aligned, not centres."""
    return [
        {"type": "scale", "scale": (base * factor).tolist()},
        {"type": "translation", "translation": (base * (factor - 1) / 2).tolist()},
    ]
