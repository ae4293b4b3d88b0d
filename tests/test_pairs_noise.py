"""The noise of input and target: measured on white noise whose statistics are known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from emsr.microscope import stages
from emsr.pairs.noise import (
    finest_detail,
    inherited_correlation,
    noise_correlation,
    noise_moments,
)


def _white(seed: int, side: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((side, side))


def test_white_noise_keeps_its_sigma_and_smooth_structure_vanishes() -> None:
    smooth = 40 * gaussian_filter(_white(1), 4) / 0.07
    assert np.std(finest_detail(7 * _white(2))) == pytest.approx(7, rel=0.03)
    assert np.std(finest_detail(smooth + 7 * _white(2))) == pytest.approx(7, rel=0.05)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_correlation_is_that_of_the_noise_put_in(share: float) -> None:
    structure = 100 * gaussian_filter(_white(3), 4)
    common = np.sqrt(share) * _white(4)
    lr, hr_mean = (structure + common + np.sqrt(1 - share) * _white(seed) for seed in (5, 6))
    moments = noise_moments(lr, 3 * hr_mean)
    assert noise_correlation(moments) == pytest.approx(share, abs=0.03)


def test_scans_without_noise_have_no_correlation_to_state() -> None:
    ramp = np.add.outer(np.arange(64.0), np.arange(64.0))
    assert noise_correlation(noise_moments(ramp, ramp)) is None


@pytest.mark.parametrize("widths", [(0.0, 0.0, 0.0), (1.2, 1.2, 0.0), (2.0, 0.7, 0.6)])
@pytest.mark.parametrize("added", [0.0, 2.0])
def test_inherited_correlation_equals_a_simulation(
    widths: tuple[float, float, float], added: float
) -> None:
    kernel, scale, sigma = stages.gaussian_kernel(*widths), 3, 6.0
    hr = (sigma * _white(7, 900)).astype(np.float32)
    lr = stages.sample_area(stages.blur(hr, kernel), scale) + added * _white(8, 300)
    simulated = np.corrcoef(lr.ravel(), stages.sample_area(hr, scale).ravel())[0, 1]
    assert inherited_correlation(kernel, scale, sigma, added) == pytest.approx(simulated, abs=0.01)


def test_a_clean_scan_passes_no_noise_on() -> None:
    assert inherited_correlation(stages.gaussian_kernel(1, 1, 0), 3, 0.0, 0.0) == 0.0
