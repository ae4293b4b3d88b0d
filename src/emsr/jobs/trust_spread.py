"""The eight flips and rotations of a tile, and the error that goes with how they scatter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emsr.errors import InputError
from emsr.geometry.box import Box, whole
from emsr.geometry.neighbours import seen_with
from emsr.geometry.tiles import Tile
from emsr.jobs.model import Model
from emsr.microscope import stages
from emsr.microscope.estimate import noise_from_image
from emsr.pairs.neighbours import lr_channels
from emsr.pairs.store import Pairs
from emsr.quality import spread

CLASSES = 8
SAMPLE_PX = 48 * 64
SAMPLE_SLICES = 2


def spread_of(model: Model, lr: NDArray, tile: Tile) -> NDArray[np.float32]:
    """Standard deviation, over the eight, of the SR of the tile whose ``read`` box holds ``lr``, on
    the LR grid (root mean square over each LR pixel); a share of the HR grey window."""
    crop, planes = tile.crop, []
    for z in range(crop.start[0], crop.stop[0]):
        seen = lr[seen_with(z, len(lr), model.slices)]
        scatter = spread.deviation(_eight(model, seen))[crop.slices[1:]]
        planes.append(np.sqrt(_on_lr_grid(scatter**2, tile.scale)))
    return np.stack(planes).astype(np.float32)


def calibration_of(model: Model, pairs: Pairs, rows: slice) -> dict[str, Any]:
    """Which error goes with which spread, both as shares of the HR grey window, from LR ``rows`` of
    pairs that did not train the network: squared differences to the HR scan, less its noise. Empty
    where there is too little to tell."""
    window, found, wrong = pairs.hr_window, [], []
    planes = list(samples(pairs, rows, model.slices))
    try:
        noise = noise_from_image(np.stack([hr for _, hr in planes]))
    except InputError:
        return {}
    size = window.high - window.low
    for lr, hr in planes:
        answers = list(_eight(model, lr))
        grey = answers[0].astype(np.float64) * size + window.low
        squares = (hr - grey) ** 2 - noise.variance(grey)
        found.append(np.sqrt(_on_lr_grid(spread.deviation(answers) ** 2, pairs.scale)))
        wrong.append(_on_lr_grid(squares / size**2, pairs.scale))
    told = spread.calibrate(np.stack(found), np.stack(wrong), CLASSES)
    return dict(told) if told else {}


def _eight(model: Model, planes: NDArray) -> Iterator[NDArray]:
    """SR ``(s*y, s*x)`` in network units of the middle one of ``(slices, y, x)`` grey planes, asked
    for in eight ways; the first is the plain one."""
    s, (height, width) = model.header.scale, planes.shape[1:]
    asked = _padded(planes, model.network.multiple)
    for turns in range(4):
        for flip in (False, True):
            turned = np.rot90(asked[..., ::-1] if flip else asked, turns, (1, 2))
            answer = np.rot90(_answer(model, np.ascontiguousarray(turned)), -turns)
            yield (answer[:, ::-1] if flip else answer)[: s * height, : s * width]


def _answer(model: Model, planes: NDArray) -> NDArray[np.float32]:
    unit = replace(model.header, hr_window=(0.0, 1.0), dtype="float32")
    middle, (y, x) = len(planes) // 2, planes.shape[1:]
    core = Box((middle, 0, 0), (middle + 1, y, x))
    tile = Tile(whole((len(planes), y, x)), core.scaled(unit.scale), unit.scale)
    return replace(model, header=unit).enlarge(planes, tile)[0][0]


def _padded(planes: NDArray, multiple: int) -> NDArray:
    """Reflected at the far edges, as the network would, so that its windows lie alike whichever way
    the image is turned."""
    bottom, right = (-side % multiple for side in planes.shape[1:])
    room = bottom < planes.shape[1] and right < planes.shape[2]
    mode: Any = "reflect" if room else "edge"
    return np.pad(planes, ((0, 0), (0, bottom), (0, right)), mode)


def _on_lr_grid(values: NDArray, scale: int) -> NDArray[np.float32]:
    return stages.sample_area(np.asarray(values, np.float32), scale)


def samples(
    pairs: Pairs, rows: slice, slices: int, pixels: int = SAMPLE_PX
) -> Iterator[tuple[NDArray, NDArray]]:
    """LR ``(slices, y, x)`` and HR planes of one shape, of at most so many LR pixels."""
    depth, _, width = pairs.lr.shape
    height = min(rows.stop - rows.start, 64)
    y, x = slice(rows.start, rows.start + height), slice(0, min(width, pixels // height))
    fine = tuple(slice(pairs.scale * s.start, pairs.scale * s.stop) for s in (y, x))
    for i in np.unique(np.linspace(0, depth - 1, SAMPLE_SLICES).astype(int)).tolist():
        lr = np.stack([np.asarray(pairs.lr[k])[y, x] for k in lr_channels(pairs, i, slices)])
        yield lr, np.asarray(pairs.hr[int(pairs.hr_slice[i])])[fine]
