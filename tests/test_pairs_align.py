"""Measures of register, against shifts and grey relations that were put in."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import gaussian_filter

from emsr.microscope.presets import PRESETS, SUPERSAMPLING, hr_scan, lr_scan
from emsr.microscope.scan import acquire
from emsr.microscope.stages import sample_area
from emsr.microscope.tissue import tissue
from emsr.network.frame import interpolate
from emsr.pairs.align import grey_moments, grey_relation, likeness, residual_shift


def _specimen(side: int = 420, seed: int = 0) -> np.ndarray:
    """Blobs and fine texture, standard deviation about 30 grey levels."""
    rng = np.random.default_rng(seed)
    coarse, fine = (
        gaussian_filter(rng.standard_normal((side, side)), width) * width * 3.5
        for width in (8.0, 2.5)
    )
    return (100 + 25 * coarse + 15 * fine).astype(np.float32)


def _noise(shape: tuple[int, ...], sigma: float, seed: int) -> np.ndarray:
    return (sigma * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.0, 30.0])
@pytest.mark.parametrize("moved", [(0, 0), (2, 0), (-1, 3), (0, -7)])
def test_shift_is_measured_despite_noise(moved: tuple[int, int], sigma: float) -> None:
    specimen = _specimen()
    hr = specimen[30:330, 30:330] + _noise((300, 300), sigma, 1)
    # The LR scan shows the specimen moved by `moved` HR pixels.
    dy, dx = moved
    lr = sample_area(specimen[30 - dy : 330 - dy, 30 - dx : 330 - dx], 3)
    lr = lr + _noise(lr.shape, sigma, 2)
    shift = 3 * residual_shift(lr, sample_area(hr, 3))
    np.testing.assert_allclose(shift, moved, atol=0.3)


def test_likeness_tells_the_same_field_from_another_one() -> None:
    one, other = (sample_area(_specimen(192, seed), 3) for seed in (0, 5))
    noisy = one + _noise(one.shape, 60, 3)
    assert np.corrcoef(noisy.ravel(), one.ravel())[0, 1] < 0.5
    assert likeness(noisy, one) > 0.7
    assert abs(likeness(noisy, other)) < 0.4
    assert likeness(255 - one, one) == pytest.approx(-1, abs=1e-4)
    assert likeness(one, np.full_like(one, 9)) == 0.0


def test_grey_relation_over_slices_that_differ() -> None:
    planes = [sample_area(_specimen(192, seed), 3) + 40 * seed for seed in (0, 1)]
    moments = sum(
        grey_moments(0.5 * p + 7 + _noise(p.shape, 5, k), p) for k, p in enumerate(planes)
    )
    gain, offset = grey_relation(np.asarray(moments))
    assert gain == pytest.approx(0.5, abs=0.01)
    assert offset == pytest.approx(7, abs=1)


def _bicubic(lr: np.ndarray) -> np.ndarray:
    return interpolate(torch.from_numpy(lr.astype(np.float32))[None, None], 3).numpy()[0, 0]


@pytest.mark.parametrize("preset", ["white-matter", "neuropil"])
def test_equal_tissue_is_found_equally_grey_though_the_psfs_differ(preset: str) -> None:
    """Both scans of a phantom show resin and heavy stain in the same grey levels."""
    settings, (depth, side) = PRESETS[preset], (2, 384)
    z, y, x = settings.spacing_nm
    fine = (depth, side * SUPERSAMPLING, side * SUPERSAMPLING)
    block = tissue(preset, fine, (z, y / SUPERSAMPLING, x / SUPERSAMPLING), 1)
    rng, moments = np.random.default_rng(0), np.zeros(5)
    pairs = []
    for stain in block.render(0, depth):
        hr, lr = (acquire(stain, scan, rng) for scan in (hr_scan(settings), lr_scan(settings, 3)))
        moments += grey_moments(lr, sample_area(hr, 3))
        pairs.append((_bicubic(lr), hr.astype(np.float64)))
    gain, offset = grey_relation(moments)
    # Bicubic is scored in the LR window, by ``train``, as it is in raw greys: to 0.05 dB.
    raw, seen = (
        np.mean([((up - b) / a - hr) ** 2 for up, hr in pairs])
        for a, b in ((1.0, 0.0), (gain, offset))
    )
    assert 10 * np.log10(seen / raw) == pytest.approx(0, abs=0.05)
    assert gain == pytest.approx(1, abs=0.02)
    assert offset == pytest.approx(0, abs=2)


@pytest.mark.real_data
def test_a_pair_its_authors_aligned_is_in_register(real_data: Path) -> None:
    fast, slow = (
        tifffile.imread(real_data / "sem-brain-fast-slow" / name).astype(np.float32)
        for name in ("fast.tif", "slow.tif")
    )
    assert likeness(fast, slow) > 0.95
    assert np.linalg.norm(residual_shift(fast, slow)) < 0.5
    assert likeness(fast, slow[:, ::-1]) < 0.4
