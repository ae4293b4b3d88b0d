"""Patches carry their own coordinates, so a misplaced one is seen by value."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pairs_store import FACTS

from emsr.pairs.patches import cut_patch, draw_batch, patch_side, turned
from emsr.pairs.store import Pairs
from emsr.volumes.intensity import Intensity


def _coordinates(scale: int, height: int = 96, width: int = 80) -> Pairs:
    """Every LR pixel holds 1e6 * (HR slice) + 1000 * y + x of its own grid, every HR pixel the
    value of the LR pixel that covers it; two LR slices to each of three HR slices."""
    rows, columns = np.mgrid[:height, :width]
    slices = np.arange(3)[:, None, None]
    field = (1_000_000.0 * slices + 1000 * rows + columns).astype(np.float64)
    hr = field.repeat(scale, axis=1).repeat(scale, axis=2)
    facts = replace(
        FACTS, scale=scale, lr_window=Intensity(0, 1), hr_window=Intensity(0, 1), hr_z=(0, 1, 2)
    )
    fields = {name: getattr(facts, name) for name in facts.__dataclass_fields__}
    return Pairs(**fields, lr=field.repeat(2, axis=0), hr=hr, hr_slice=np.repeat(np.arange(3), 2))


def _areas(hr: np.ndarray, scale: int) -> np.ndarray:
    """The (p, scale, p, scale) blocks of HR pixels that LR pixels cover."""
    side = hr.shape[-1] // scale
    return hr.reshape(*hr.shape[:-2], side, scale, side, scale)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_lr_and_hr_show_the_same_place_in_every_patch(scale: int) -> None:
    pairs = _coordinates(scale)
    for step in range(8):
        lr, hr = draw_batch(pairs, slice(0, 70), 12, batch=16, seed=3, step=step)
        assert lr.shape == (16, 1, 12, 12) and hr.shape == (16, 1, 12 * scale, 12 * scale)
        expected = np.broadcast_to(lr[:, :, :, None, :, None], _areas(hr, scale).shape)
        np.testing.assert_array_equal(_areas(hr, scale), expected)


@pytest.mark.parametrize("symmetry", range(8))
def test_each_symmetry_treats_both_alike(symmetry: int) -> None:
    lr, hr = (turned(p, symmetry) for p in cut_patch(_coordinates(3), 2, 5, 7, 8))
    lr = lr[0]
    expected = np.broadcast_to(lr[:, None, :, None], _areas(hr, 3).shape)
    np.testing.assert_array_equal(_areas(hr, 3), expected)
    assert {lr[0, 0], lr[0, -1], lr[-1, 0], lr[-1, -1]} == {
        1_000_000 + 1000 * y + x for y in (5, 12) for x in (7, 14)
    }


def test_the_symmetries_are_eight_and_all_are_drawn() -> None:
    patch = np.arange(9).reshape(3, 3)
    assert len({turned(patch, k).tobytes() for k in range(8)}) == 8
    lr, _ = draw_batch(_coordinates(1), slice(0, 96), 4, batch=200, seed=0, step=0)
    right, down = lr[:, 0, 0, 1] - lr[:, 0, 0, 0], lr[:, 0, 1, 0] - lr[:, 0, 0, 0]
    assert {*zip(right.tolist(), down.tolist(), strict=True)} == {
        pair for a in (-1, 1) for b in (-1000, 1000) for pair in ((a, b), (b, a))
    }


def test_positions_reach_every_row_of_the_field_and_none_outside() -> None:
    lr, _ = draw_batch(_coordinates(1), slice(10, 30), 8, batch=400, seed=0, step=0)
    rows, columns = lr % 1_000_000 // 1000, lr % 1000
    assert {*np.unique(rows)} == {*range(10, 30)}
    assert {*np.unique(columns)} == {*range(80)}
    assert {*np.unique(lr // 1_000_000)} == {0, 1, 2}


def test_seed_and_step_alone_decide() -> None:
    pairs, rows = _coordinates(2), slice(0, 64)
    lr, hr = draw_batch(pairs, rows, 16, 4, seed=1, step=9)
    again = draw_batch(pairs, rows, 16, 4, seed=1, step=9)
    np.testing.assert_array_equal(lr, again[0])
    np.testing.assert_array_equal(hr, again[1])
    for seed, step in ((1, 10), (2, 9)):
        assert not np.array_equal(lr, draw_batch(pairs, rows, 16, 4, seed, step)[0])


def test_values_are_in_units_of_each_window() -> None:
    pairs = replace(_coordinates(1), lr_window=Intensity(10, 20), hr_window=Intensity(-5, 45))
    lr, hr = draw_batch(pairs, slice(0, 1), 1, batch=5, seed=0, step=0)
    np.testing.assert_allclose(lr * 10 + 10, hr * 50 - 5, rtol=1e-5)
    assert (lr.dtype, hr.dtype) == (np.float32, np.float32)
    assert lr.flags["C_CONTIGUOUS"] and hr.flags["C_CONTIGUOUS"]


@given(height=st.integers(4, 200), width=st.integers(4, 200), patch_px=st.integers(1, 100))
def test_patches_shrink_to_the_field(height: int, width: int, patch_px: int) -> None:
    side = patch_side(slice(30, 30 + height), width, patch_px)
    assert side == patch_px or side % 4 == 0
    assert side <= min(height, width, patch_px)
    assert side == patch_px or min(height, width) - side < 4


@settings(max_examples=20)
@given(st.integers(0, 50))
def test_a_small_field_still_gives_pairs(step: int) -> None:
    lr, hr = draw_batch(_coordinates(3), slice(0, 10), 48, batch=2, seed=0, step=step)
    assert lr.shape == (2, 1, 8, 8) and hr.shape == (2, 1, 24, 24)


def test_a_batch_costs_little() -> None:
    pairs = _coordinates(3, 200, 200)
    pairs = replace(pairs, lr=pairs.lr.astype(np.float32), hr=pairs.hr.astype(np.uint8))
    times = []
    for step in range(20):
        start = time.perf_counter()
        draw_batch(pairs, slice(0, 160), 48, batch=8, seed=0, step=step)
        times.append(time.perf_counter() - start)
    # 2 ms on a quiet machine; the bound leaves room for a busy one
    assert np.median(times) < 0.01
