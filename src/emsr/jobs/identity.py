"""Which run an output belongs to: the model, the input and the plan that decided its bytes."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from emsr.geometry.box import Triple
from emsr.geometry.tiles import plan
from emsr.jobs.listener import Listener
from emsr.jobs.model import refuse_not_numbers
from emsr.volumes.source import Volume


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_once(
    volume: Volume, tile: Triple, multiple: int, window: tuple[float, float], listener: Listener
) -> str:
    """Read the whole input in the order of tiles; its hash, which says that it is this input,
    wherever it lies. Values that are not numbers are refused before anything is written; greys
    unlike the training's ``window`` are said."""
    stated = (volume.shape, volume.dtype.str, volume.spacing_nm)
    digest = hashlib.sha256(repr(stated).encode())
    moments = np.zeros(3)
    tiles = plan(volume.shape, tile, scale=1, halo=0, multiple=multiple)
    for done, part in enumerate(tiles, 1):
        values = volume.read(part.write)
        refuse_not_numbers(volume.name, values, part.write.start[0])
        digest.update(values.tobytes())
        grey = values.astype(np.float64)
        moments += grey.size, grey.sum(), np.square(grey).sum()
        listener.progress("read input", done, len(tiles), "")
    _say_unlike(volume.name, moments, window, listener)
    return digest.hexdigest()


def _say_unlike(
    name: str, moments: np.ndarray, window: tuple[float, float], listener: Listener
) -> None:
    """A warning where the input's greys can hardly be those of the scans trained on."""
    count, total, squares = moments
    mean = total / count
    spread = math.sqrt(max(0.0, squares / count - mean**2))
    low, high = sorted(window)
    if not low <= mean <= high or spread < 0.01 * (high - low):
        listener.say(
            f"warning: {name} has grey values of mean {mean:.4g} and spread {spread:.2g}, the "
            f"model was trained on {low:.4g} to {high:.4g}: another grey scale?"
        )


def software(run: dict[str, Any]) -> str:
    """How a TIFF says which run made it."""
    identity = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()
    return f"emsr run {identity}"
