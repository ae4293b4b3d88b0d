"""Planted lies: each changes what it says, where it says, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from emsr.errors import InputError
from emsr.microscope import lies
from emsr.microscope.presets import PRESETS, SUPERSAMPLING, hr_scan
from emsr.microscope.scan import expected
from emsr.microscope.tissue import tissue


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    preset = PRESETS["neuropil"]
    z, y, x = preset.spacing_nm
    fine = (1, 192 * SUPERSAMPLING, 192 * SUPERSAMPLING)
    block = tissue("neuropil", fine, (z, y / SUPERSAMPLING, x / SUPERSAMPLING), 3)
    return expected(block.render(0, 1)[0], hr_scan(preset))


@pytest.mark.parametrize("kind", lies.KINDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("size", [3.0, 9.0, 24.0])
def test_a_lie_is_local_and_of_its_size(kind, dtype, size, truth):
    image = np.rint(truth).astype(dtype)
    altered, mask = lies.KINDS[kind](image, truth, np.random.default_rng(1), size, None)
    assert altered.dtype == dtype and altered.shape == mask.shape == image.shape
    change = np.abs(altered.astype(float) - image)
    assert change.max() > 10
    assert mask.any() and (change[~mask] <= 0.1 * change.max()).all()
    for axis in (0, 1):
        extent = np.ptp(np.flatnonzero((change > 0).any(axis=1 - axis))) + 1
        assert extent <= size + 2
    again, _ = lies.KINDS[kind](image, truth, np.random.default_rng(1), size, None)
    assert (again == altered).all()


def test_a_removed_membrane_is_no_longer_dark(truth):
    altered, mask = lies.remove_membrane(truth, truth, np.random.default_rng(0), 15.0)
    assert (altered[mask] > truth[mask]).all()
    gap = ndimage.black_tophat(truth, size=(9, 9))
    left = ndimage.black_tophat(altered, size=(9, 9))
    core = ndimage.binary_erosion(mask) & (gap > 20)
    assert left[core].mean() < 0.5 * gap[core].mean()


def test_a_removed_membrane_leaves_no_ridge_in_a_blurred_image(truth):
    image = ndimage.gaussian_filter(truth, 2.5)
    altered, mask = lies.remove_membrane(image, truth, np.random.default_rng(0), 15.0)
    filled = ndimage.grey_closing(image, footprint=lies._disc(lies.BLURRED_PX))
    assert (altered <= filled + 1e-9).all() and (altered[mask] > image[mask]).all()


def test_a_vesicle_is_a_dark_ring_round_a_light_lumen(truth):
    altered, mask = lies.add_vesicle(truth, truth, np.random.default_rng(0), 15.0)
    assert (altered[mask] < truth[mask]).all()
    y, x = (round(float(c)) for c in np.argwhere(mask).mean(axis=0))
    assert not mask[y, x] and altered[y, x] == truth[y, x]
    assert ndimage.binary_fill_holes(mask).sum() == pytest.approx(np.pi * 7.5**2, rel=0.2)


def test_a_boundary_moves_by_three_pixels():
    edge = np.tile(np.where(np.arange(64) < 32, 50.0, 200.0), (64, 1))
    altered, mask = lies.shift_boundary(edge, edge, np.random.default_rng(0), 24.0)
    y = round(float(np.argwhere(mask).mean(axis=0)[0]))
    crossing = np.interp(125.0, altered[y, 20:44], np.arange(20, 44))
    assert abs(crossing - 31.5) == pytest.approx(3, abs=0.6)
    assert (altered[:3] == edge[:3]).all()


def test_a_copied_patch_is_found_elsewhere(truth):
    altered, mask = lies.copy_patch(truth, truth, np.random.default_rng(0), 16.0)
    y, x = (round(float(c)) for c in np.argwhere(mask).mean(axis=0))
    patch = altered[y - 2 : y + 3, x - 2 : x + 3]
    windows = np.lib.stride_tricks.sliding_window_view(truth, (5, 5))
    apart = np.abs(windows - patch).max(axis=(-1, -2))
    at = np.unravel_index(apart.argmin(), apart.shape)
    assert apart.min() < 1e-3 and np.hypot(at[0] + 2 - y, at[1] + 2 - x) > 10


@pytest.mark.parametrize("kind", ["remove membrane", "shift boundary", "copy patch"])
def test_where_there_is_nothing_to_lie_about_it_is_said(kind):
    flat = np.full((64, 64), 100.0)
    with pytest.raises(InputError, match="the image"):
        lies.KINDS[kind](flat, flat, np.random.default_rng(0), 9.0, None)
    with pytest.raises(InputError, match=r"no (room|edge|membrane)"):
        lies.KINDS[kind](flat, flat, np.random.default_rng(0), 99.0, None)
