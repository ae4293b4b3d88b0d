"""Batches of patches, drawn so that a step's number alone decides them.

Knows positions and the eight symmetries of the square; knows nothing of networks or of files
(slices are read wherever ``pairs`` keeps them: load it first, see ``store.in_memory``).
"""

from __future__ import annotations

import numpy as np

from emsr.pairs.neighbours import lr_channels
from emsr.pairs.store import Pairs

PATCH_MULTIPLE = 4
"""Patches that must shrink keep a side the networks' windows divide."""


def draw_batch(
    pairs: Pairs, rows: slice, patch_px: int, batch: int, seed: int, step: int, slices: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """LR ``(b, slices, p, p)`` and HR ``(b, 1, s*p, s*p)`` float32 patches in network units.

    HR belongs to the middle LR channel; the others are its neighbours along z (``lr_channels``).
    Slice, position (inside the LR ``rows``) and one of the eight flips and rotations are uniform,
    the same for HR and all channels, and depend on ``seed`` and ``step`` only: training goes on at
    any step with nothing but its number. The arrays are contiguous and the caller's own.
    """
    side = patch_side(rows, pairs.lr.shape[2], patch_px)
    rng = np.random.default_rng([seed, step])
    drawn = rng.integers(pairs.lr.shape[0], size=batch)
    tops = rng.integers(rows.start, rows.stop - side + 1, size=batch)
    lefts = rng.integers(pairs.lr.shape[2] - side + 1, size=batch)
    symmetries = rng.integers(8, size=batch)
    lr = np.empty((batch, slices, side, side), np.float32)
    hr = np.empty((batch, 1, side * pairs.scale, side * pairs.scale), np.float32)
    for k, (z, y, x, symmetry) in enumerate(zip(drawn, tops, lefts, symmetries, strict=True)):
        patches = cut_patch(pairs, int(z), int(y), int(x), side, slices)
        lr[k], hr[k, 0] = (turned(patch, int(symmetry)) for patch in patches)
    return pairs.lr_window.to_unit(lr), pairs.hr_window.to_unit(hr)


def patch_side(rows: slice, lr_width: int, patch_px: int) -> int:
    """``patch_px``, or the largest multiple of 4 that the field holds where that is less."""
    room = min(rows.stop - rows.start, lr_width)
    return patch_px if patch_px <= room else max(room // PATCH_MULTIPLE * PATCH_MULTIPLE, 1)


def cut_patch(
    pairs: Pairs, z: int, y: int, x: int, side: int, slices: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """LR (slices, p, p) at LR row y and column x of LR slice z and its neighbours, and the HR
    (s*p, s*p) that slice z covers."""
    s = pairs.scale
    seen = lr_channels(pairs, z, slices)
    lr = np.stack([np.asarray(pairs.lr[i, y : y + side, x : x + side]) for i in seen])
    hr = pairs.hr[pairs.hr_slice[z], s * y : s * (y + side), s * x : s * (x + side)]
    return lr, np.asarray(hr)


def turned(patch: np.ndarray, symmetry: int) -> np.ndarray:
    """The (..., p, p) patch under symmetry 0 to 7 of the square: bit 2 transposes, 1 and 0 flip."""
    patch = patch.swapaxes(-1, -2) if symmetry & 4 else patch
    patch = patch[..., ::-1, :] if symmetry & 2 else patch
    return patch[..., ::-1] if symmetry & 1 else patch
