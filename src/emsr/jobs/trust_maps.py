"""The maps of ``emsr upscale --trust``, a tile at a time: each reads LR and SR boxes with as much
around them as its maps see, so that the maps know no tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from emsr.geometry.tiles import Tile, plan
from emsr.jobs.bench import Bench
from emsr.jobs.trust_degradation import Told, blur_reach_px, degraded, in_hr_greys
from emsr.jobs.trust_spread import spread_of
from emsr.jobs.trust_summary import ERROR, SPREAD
from emsr.network.checkpoint import Header
from emsr.quality import consistency
from emsr.quality.spread import Calibration, expected_error
from emsr.recipe import DOUBT_PX, TRUST_WINDOW_PX
from emsr.volumes.source import Volume

Maps = dict[str, NDArray[np.float32]]
"""By name, ``(z, y, x)`` on the LR grid."""


def by_residual(bench: Bench, trained: Header, told: Told, sr: Volume) -> Callable[[int], Maps]:
    """Makes the maps ``CONSISTENCY`` of a tile, which compare its part of ``sr`` with its LR."""
    scale = trained.scale
    reach = consistency.reach_px(TRUST_WINDOW_PX, DOUBT_PX) + blur_reach_px(told.blur, scale)
    tiles = plan(bench.volume.shape, bench.chunk, scale=1, halo=reach, multiple=1)

    def make(number: int) -> Maps:
        tile: Tile = tiles[number]
        fine = in_hr_greys(sr.read(tile.read.scaled(scale)), bench.model.header, trained)
        z = consistency.normalised_residual(
            bench.volume.read(tile.read), degraded(fine, told.blur, scale), told.noise.variance
        )
        maps = consistency.maps(z, TRUST_WINDOW_PX, DOUBT_PX, told.noise.neighbours)
        whole = {"doubt": maps.doubt, "power": maps.power, "structure": maps.structure}
        return {name: _stored(values[tile.crop.slices]) for name, values in whole.items()}

    return make


def by_spread(bench: Bench, trained: Header) -> Callable[[int], Maps]:
    """Makes the maps of a tile that ask the network eight times: ``SPREAD``, and ``ERROR`` where
    the model was calibrated."""
    low, high = bench.model.header.hr_window

    def make(number: int) -> Maps:
        tile = bench.plan[number]
        spread = spread_of(bench.model, bench.model.read(bench.volume, tile), tile)
        found = {SPREAD: _stored(spread * (high - low))}
        if trained.spread:
            error = expected_error(spread, cast(Calibration, trained.spread))
            found[ERROR] = _stored(error * (high - low))
        return found

    return make


def _stored(values: NDArray) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, np.float32)
