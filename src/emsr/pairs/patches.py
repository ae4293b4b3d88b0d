"""Batches of patches, drawn so that a step's number alone decides them.

Knows positions and the eight symmetries of the square; knows nothing of networks or of files
(slices are read wherever ``pairs`` keeps them: load it first, see ``store.in_memory``).
"""

from __future__ import annotations

import numpy as np

from emsr.pairs.store import Pairs

PATCH_MULTIPLE = 4
"""Patches that must shrink keep a side the networks' windows divide."""


def draw_batch(
    pairs: Pairs, rows: slice, patch_px: int, batch: int, seed: int, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """LR ``(b, 1, p, p)`` and HR ``(b, 1, s*p, s*p)`` float32 patches in network units.

    Slice, position (inside the LR ``rows``) and one of the eight flips and rotations are uniform,
    the same for both images, and depend on ``seed`` and ``step`` only: training goes on at any step
    with nothing but its number. The arrays are contiguous and the caller's own.
    """
    side = patch_side(rows, pairs.lr.shape[2], patch_px)
    rng = np.random.default_rng([seed, step])
    slices = rng.integers(pairs.lr.shape[0], size=batch)
    tops = rng.integers(rows.start, rows.stop - side + 1, size=batch)
    lefts = rng.integers(pairs.lr.shape[2] - side + 1, size=batch)
    symmetries = rng.integers(8, size=batch)
    lr = np.empty((batch, 1, side, side), np.float32)
    hr = np.empty((batch, 1, side * pairs.scale, side * pairs.scale), np.float32)
    for k, (z, y, x, symmetry) in enumerate(zip(slices, tops, lefts, symmetries, strict=True)):
        patches = cut_patch(pairs, int(z), int(y), int(x), side)
        lr[k, 0], hr[k, 0] = (turned(patch, int(symmetry)) for patch in patches)
    return pairs.lr_window.to_unit(lr), pairs.hr_window.to_unit(hr)


def patch_side(rows: slice, lr_width: int, patch_px: int) -> int:
    """``patch_px``, or the largest multiple of 4 that the field holds where that is less."""
    room = min(rows.stop - rows.start, lr_width)
    return patch_px if patch_px <= room else max(room // PATCH_MULTIPLE * PATCH_MULTIPLE, 1)


def cut_patch(pairs: Pairs, z: int, y: int, x: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """LR (p, p) at LR row y and column x of LR slice z, and the HR (s*p, s*p) it covers."""
    s = pairs.scale
    lr = pairs.lr[z, y : y + side, x : x + side]
    hr = pairs.hr[pairs.hr_slice[z], s * y : s * (y + side), s * x : s * (x + side)]
    return np.asarray(lr), np.asarray(hr)


def turned(patch: np.ndarray, symmetry: int) -> np.ndarray:
    """The (p, p) patch under symmetry 0 to 7 of the square: bit 2 transposes, 1 and 0 flip."""
    patch = patch.T if symmetry & 4 else patch
    patch = patch[::-1] if symmetry & 2 else patch
    return patch[:, ::-1] if symmetry & 1 else patch
