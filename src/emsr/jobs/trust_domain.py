"""The domain of a model: what its training data were like, and whether an input is like them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emsr.errors import InputError
from emsr.geometry.box import Box
from emsr.jobs.listener import Listener
from emsr.microscope.estimate import Noise, noise_from_image
from emsr.network.checkpoint import Header
from emsr.pairs.store import Pairs
from emsr.quality import domain
from emsr.volumes.source import Volume
from emsr.volumes.spacing import Spacing

SAMPLE_BOXES = 6
MADE = ("synthetic", "split")
"""Strategies whose LR is drawn: each slice may have a blur and a noise of its own."""
SAMPLE_SIDE_PX = 256
_PLACES = ((0.5, 0.5), (0.15, 0.7), (0.8, 0.2), (0.3, 0.1), (0.95, 0.9), (0.05, 0.35))
"""Where along the free way (y, x) the boxes of a sample lie, one after the other."""


def domain_of(pairs: Pairs) -> dict[str, Any]:
    """The fingerprint of the LR images of ``pairs``, as a model file keeps it; with the range of
    noise and spectrum where blurs and noises were drawn at random."""
    boxes = _boxes((pairs.lr.shape[0], *pairs.lr.shape[1:]))
    planes = [np.asarray(pairs.lr[box.start[0]])[box.slices[1:]] for box in boxes]
    window = (pairs.lr_window.low, pairs.lr_window.high)
    whole = fingerprint(planes, window, pairs.lr_spacing_nm)
    if pairs.strategy not in MADE:
        return whole
    each = [fingerprint([plane], window, pairs.lr_spacing_nm) for plane in planes]
    return {**whole, "tilt": None, "ranges": domain.ranged(each)}


def fingerprint(
    planes: list[NDArray], window: tuple[float, float], spacing_nm: Spacing
) -> domain.Fingerprint:
    """As ``domain.fingerprint``, with the noise read off the planes (of one shape)."""
    noise = noise_of(planes)
    if noise is None:
        return domain.fingerprint(planes, window, None, None, spacing_nm)
    low, high = window
    dark, light = noise.variance(low + (high - low) * np.array([0.25, 0.75])).tolist()
    tilt = None if noise.slope is None else math.log(light / dark)
    return domain.fingerprint(planes, window, noise.sigma, tilt, spacing_nm)


def sample(volume: Volume) -> list[NDArray]:
    """A few planes ``(y, x)`` spread over a volume, read in pieces of bounded size; those that are
    constant, or hold what is no number, are left out."""
    planes = [volume.read(box)[0] for box in _boxes(volume.shape)]
    return [plane for plane in planes if np.isfinite(plane).all() and plane.min() < plane.max()]


def noise_of(planes: list[NDArray]) -> Noise | None:
    """Noise of a sample, taken together; None where it cannot be told."""
    if not planes:
        return None
    try:
        return noise_from_image(np.stack(planes))
    except InputError:
        return None


def say_outside(volume: Volume, header: Header, listener: Listener) -> None:
    """Say in one line where a sample of ``volume`` lies outside what the model was trained on. A
    model that does not know its training data says nothing."""
    planes = sample(volume) if header.domain else []
    if not planes:
        return
    found = fingerprint(planes, header.lr_window, volume.spacing_nm)
    if outside := domain.said(header.domain, found):
        listener.say(
            f"warning: {volume.name} lies outside what the model was trained on: {outside}; expect "
            "more errors, and look at the map of --trust"
        )


def _boxes(shape: tuple[int, ...]) -> list[Box]:
    """One plane each, of one shape."""
    depth, height, width = shape
    side_y, side_x = min(height, SAMPLE_SIDE_PX), min(width, SAMPLE_SIDE_PX)
    boxes = []
    for n, (y, x) in enumerate(_PLACES[:SAMPLE_BOXES]):
        z = int((n + 0.5) * depth / SAMPLE_BOXES)
        y0, x0 = round(y * (height - side_y)), round(x * (width - side_x))
        boxes.append(Box((z, y0, x0), (z + 1, y0 + side_y, x0 + side_x)))
    return list(dict.fromkeys(boxes))
