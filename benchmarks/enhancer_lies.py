"""Whether enhancing keeps what is rare, and leaves empty what is empty.

Kept: structures are planted in the truth (``microscope.lies``), the scan gets the same noise as the
scan without them, and both are cleaned. The change of the output is compared with the planted one,

    kept = sum (change of output x planted change) / sum (planted change)^2

over what was changed and 3 pixels around it: 1 where it comes through whole, 0 where it is erased.

Empty: a field of one grey, with the noise it would have. What is left is told by its standard
deviation over that of the noise, the correlation of next pixels, and the largest of a thousand
deviations as a share of the tissue's contrast.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from emsr.microscope.lies import KINDS, Plant
from emsr.microscope.presets import PRESETS, hr_scan
from emsr.microscope.stages import poisson_gaussian, quantise

SIZES_PX = {
    "remove membrane": (7, 15),
    "add vesicle": (3, 5, 9),
    "shift boundary": (15,),
    "copy patch": (7, 15),
}
"""Diameters in HR pixels; an LR pixel is 3 wide."""
PER_SLICE, APART_PX, AROUND_PX = 12, 28, 3
SLICES, SIDE_PX = 2, 240
Way = Callable[[np.ndarray], np.ndarray]


def lies_table(name: str, hr: np.ndarray, truth: np.ndarray, ways: dict[str, Way]) -> None:
    """One row a kind and size: what is left of it, by each way; and of the worst of them."""
    hr, truth = (image[:SLICES, :SIDE_PX, :SIDE_PX] for image in (hr, truth))
    plain = {way: clean(hr).astype(np.float64) for way, clean in ways.items()}
    _row(name, "px", "lies", *ways)
    _row(*("---",) * (len(ways) + 3))
    for kind, sizes in SIZES_PX.items():
        for size in sizes:
            altered, masks = planted(KINDS[kind], truth, size)
            change = altered - truth
            scan = quantise(hr.astype(np.float32) + change, hr.dtype)
            given = scan.astype(np.float64) - hr
            kept = [_kept(ways[way](scan) - plain[way], given, masks) for way in ways]
            _row(kind, str(size), str(int(masks.max())), *kept)


def planted(plant: Plant, truth: np.ndarray, size_px: float) -> tuple[np.ndarray, np.ndarray]:
    """The truth (z, y, x) with ``PER_SLICE`` lies in each slice that leave one another room, and
    the number of the lie, from 1, in each pixel around it (0 elsewhere)."""
    rng = np.random.default_rng(5)
    altered, masks = truth.astype(np.float64), np.zeros(truth.shape, int)
    for z, plane in enumerate(truth):
        free = np.ones(plane.shape, bool)
        for number in range(PER_SLICE):
            altered[z], mask = plant(altered[z], plane, rng, size_px, free)
            near = ndimage.binary_dilation(mask, iterations=AROUND_PX)
            masks[z][near & (masks[z] == 0)] = z * PER_SLICE + number + 1
            free &= ndimage.distance_transform_edt(~mask) > APART_PX
    return altered, masks


def _kept(change: np.ndarray, given: np.ndarray, masks: np.ndarray) -> str:
    """Of all lies together, and the worst of them."""
    every = range(1, int(masks.max()) + 1)
    both = ndimage.sum_labels(change * given, masks, every)
    own = ndimage.sum_labels(given * given, masks, every)
    return f"{both.sum() / own.sum():.2f} ({(both / own).min():.2f})"


def flat_table(name: str, truth: np.ndarray, ways: dict[str, Way]) -> None:
    """One row a way: what it makes of noise alone."""
    scan, rng = hr_scan(PRESETS[name]), np.random.default_rng(6)
    grey = np.full((2, 192, 192), np.median(truth), np.float32)
    noisy = poisson_gaussian(grey, scan.gain, scan.offset, scan.read_noise, rng)
    hr = quantise(noisy, scan.dtype)
    contrast = float(np.subtract(*np.percentile(truth, [99, 1])))
    _row(name, "left of the noise", "next pixels", "1 in 1000", "grey shift")
    _row(*("---",) * 5)
    for way, clean in {"as acquired": lambda image: image, **ways}.items():
        left = clean(hr).astype(np.float64) - grey
        _row(way, *_left(left[:, 8:-8, 8:-8], float(np.std(hr - grey)), contrast))


def _left(left: np.ndarray, sigma: float, contrast: float) -> list[str]:
    own = left - left.mean()
    beside = float(np.mean(own[:, :, 1:] * own[:, :, :-1]) / np.mean(own**2))
    rare = float(np.quantile(np.abs(own), 0.999)) / contrast
    return [f"{own.std() / sigma:.2f}", f"{beside:.2f}", f"{rare:.1%}", f"{left.mean():+.2f}"]


def _row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)
