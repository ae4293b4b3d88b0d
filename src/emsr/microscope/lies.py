"""Lies planted into a phantom's image: changes of known place that a map of trust has to find.

    remove_membrane   a thin dark line is painted over with what lies beside it
    add_vesicle       a small dark ring appears where there was none
    shift_boundary    an edge moves sideways
    copy_patch        a piece is replaced by one from elsewhere

Each takes an image ``(y, x)`` (an SR slice, of any dtype), the phantom's ``truth`` of the same
grid, which tells where membranes and edges are, and the size of the lie in pixels of that grid. It
returns the altered image, in the dtype of the image, and the boolean mask of what was changed.
``free`` marks where the middle of a lie may lie (anywhere by default). InputError where the image
shows no such place.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from emsr.errors import InputError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Lied = tuple[NDArray, Mask]
"""The altered image, and what was changed."""

MEMBRANE_PX = 7
"""Widest dark line taken for a membrane."""
BLURRED_PX = 17
"""Widest dark line taken for what an image shows of a membrane."""
CONTRAST = 0.2
"""Least contrast of a membrane or edge, as a share of the truth's contrast."""
RING = 0.35
"""How dark a vesicle's ring is, as a share of the truth's contrast."""
FLAT = 0.4
"""Most contrast, as a share of the truth's, where a vesicle is put."""
UNLIKE = 0.1
"""Least root mean square difference of a patch to what it covers, as a share of the contrast."""
TRIES = 200
CHANGED = 0.1
"""Share of the largest change from which on a pixel counts as changed."""


def remove_membrane(
    image: NDArray,
    truth: NDArray,
    rng: np.random.Generator,
    size_px: float,
    free: Mask | None = None,
) -> Lied:
    """The membrane through the middle of a disc of diameter ``size_px`` is painted over, by no more
    than fills what ``image`` shows of it: a blurred one is no bright ridge afterwards."""
    smooth, original = np.asarray(truth, np.float64), np.asarray(image, np.float64)
    missing = ndimage.black_tophat(smooth, footprint=_disc(MEMBRANE_PX))
    shown = ndimage.black_tophat(original, footprint=_disc(BLURRED_PX))
    strong = (missing > CONTRAST * _contrast(smooth)) & (shown > 0)
    centre = _centre(strong, rng, size_px, free, "membrane")
    window = _window(centre, image, size_px)
    return _changed(image, original + np.minimum(window * missing, shown))


def add_vesicle(
    image: NDArray,
    truth: NDArray,
    rng: np.random.Generator,
    size_px: float,
    free: Mask | None = None,
) -> Lied:
    """A dark ring of outer diameter ``size_px`` (a dot under 4 px) where the truth is flat and
    light."""
    smooth = np.asarray(truth, np.float64)
    around = _disc(size_px + 2)
    span = ndimage.maximum_filter(smooth, footprint=around) - ndimage.minimum_filter(
        smooth, footprint=around
    )
    light = smooth > np.percentile(smooth, [1, 99]).mean()  # vesicles lie in cytoplasm
    flat = light & (span < FLAT * _contrast(smooth))
    centre = _centre(flat, rng, size_px, free, "flat area")
    wall = max(1.0, size_px / 5)
    distance = _distance(centre, image) - (size_px / 2 - wall)
    if size_px < 4:
        distance, wall = _distance(centre, image), size_px / 2
    ring = np.clip(wall + 0.5 - np.abs(distance), 0, 1)
    return _changed(image, np.asarray(image, np.float64) - RING * _contrast(smooth) * ring)


def shift_boundary(
    image: NDArray,
    truth: NDArray,
    rng: np.random.Generator,
    size_px: float,
    free: Mask | None = None,
    shift_px: float = 3.0,
) -> Lied:
    """The edge through the middle of a disc of diameter ``size_px`` moves by ``shift_px`` across
    itself, least near the disc's rim."""
    smooth = ndimage.gaussian_filter(np.asarray(truth, np.float64), 1.0)
    slope = np.stack(np.gradient(smooth))
    steep = np.hypot(*slope) * 2 > CONTRAST * _contrast(smooth)
    centre = _centre(steep, rng, size_px, free, "edge")
    across = slope[:, centre[0], centre[1]]
    across = rng.choice([-1, 1]) * shift_px * across / np.hypot(*across)
    window, original = _window(centre, image, size_px), np.asarray(image, np.float64)
    seen_at = np.indices(image.shape) - across[:, None, None] * window
    moved = ndimage.map_coordinates(original, seen_at, order=3, mode="reflect")
    return _changed(image, np.where(window > 0, moved, original))


def copy_patch(
    image: NDArray,
    truth: NDArray,
    rng: np.random.Generator,
    size_px: float,
    free: Mask | None = None,
) -> Lied:
    """A disc of diameter ``size_px`` is replaced by one from elsewhere that shows something
    else."""
    clean, least = np.asarray(truth, np.float64), UNLIKE * _contrast(truth)
    everywhere = np.ones(clean.shape, bool)
    for _ in range(TRIES):
        to = _centre(everywhere, rng, size_px, free, "room")
        source = _centre(everywhere, rng, size_px, None, "room")
        by = (to[0] - source[0], to[1] - source[1])
        window = _window(to, image, size_px)
        apart = np.hypot(*by) > size_px
        unlike = np.roll(clean, by, (0, 1)) - clean
        if apart and np.average(unlike**2, weights=window) > least**2:
            original = np.asarray(image, np.float64)
            return _changed(image, original + window * (np.roll(original, by, (0, 1)) - original))
    raise InputError("the image shows one thing everywhere: no patch differs from another")


Plant = Callable[[NDArray, NDArray, np.random.Generator, float, Mask | None], Lied]
KINDS: dict[str, Plant] = {
    "remove membrane": remove_membrane,
    "add vesicle": add_vesicle,
    "shift boundary": shift_boundary,
    "copy patch": copy_patch,
}


def _centre(
    places: Mask, rng: np.random.Generator, size_px: float, free: Mask | None, what: str
) -> tuple[int, int]:
    """One of ``places`` whose disc fits into the image."""
    allowed = places if free is None else places & free
    margin = int(np.ceil(size_px / 2)) + 1
    inner = np.zeros(places.shape, bool)
    inner[margin:-margin, margin:-margin] = True
    found = np.argwhere(allowed & inner)
    if not len(found):
        raise InputError(
            f"the image of {places.shape[0]} x {places.shape[1]} pixels shows no {what} to lie "
            f"about at a size of {size_px:g} px: give a larger one, or a smaller size"
        )
    y, x = found[rng.integers(len(found))]
    return int(y), int(x)


def _distance(centre: tuple[int, int], image: NDArray) -> Floats:
    y, x = np.indices(image.shape, np.float64)
    return np.asarray(np.hypot(y - centre[0], x - centre[1]))


def _window(centre: tuple[int, int], image: NDArray, size_px: float) -> Floats:
    """1 inside a disc, falling to 0 at its rim over a quarter of its diameter (1 px at least)."""
    rim = max(1.0, size_px / 4)
    return np.clip((size_px / 2 + 0.5 - _distance(centre, image)) / rim, 0, 1)


def _disc(diameter_px: float) -> Mask:
    radius = int(diameter_px // 2)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(np.hypot(y, x) <= diameter_px / 2)


def _contrast(truth: NDArray) -> float:
    low, high = np.percentile(truth, [1, 99])
    return float(high - low)


def _changed(image: NDArray, altered: Floats) -> Lied:
    if image.dtype.kind in "ui":
        limits = np.iinfo(image.dtype)
        altered = np.clip(np.rint(altered), limits.min, limits.max)
    stored = altered.astype(image.dtype)
    change = np.abs(stored.astype(np.float64) - image.astype(np.float64))
    return stored, change > CHANGED * change.max()
