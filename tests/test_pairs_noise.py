"""The noise of input and target: measured on white noise whose statistics are known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from emsr.microscope import stages
from emsr.microscope.estimate import Noise
from emsr.pairs.noise import (
    WHITE,
    colour_kernel,
    colour_of,
    finest_detail,
    flat_correlation,
    inheritance,
    lag_correlation,
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
@pytest.mark.parametrize(("sampling", "scale"), [("area", 3), ("point", 3), ("point", 4)])
def test_inheritance_equals_a_simulation(
    widths: tuple[float, float, float], added: float, sampling: str, scale: int
) -> None:
    kernel, sigma = stages.gaussian_kernel(*widths), 6.0
    hr = (sigma * _white(7, 900)).astype(np.float32)
    lr = stages.SAMPLINGS[sampling](stages.blur(hr, kernel), scale)
    mean = stages.sample_area(hr, scale)
    found = inheritance(kernel, scale, sampling)
    assert found.kept * sigma**2 == pytest.approx(lr.var(), rel=0.03)
    assert found.target * sigma**2 == pytest.approx(mean.var(), rel=0.03)
    noisy = lr + added * _white(8, 900 // scale)
    simulated = np.corrcoef(noisy.ravel(), mean.ravel())[0, 1]
    assert found.correlation(sigma, added) == pytest.approx(simulated, abs=0.015)


@pytest.mark.parametrize("sampling", ["area", "point"])
def test_correlated_noise_leaves_more_behind(sampling: str) -> None:
    kernel, colour = stages.gaussian_kernel(1.1, 0.8, 0.4), colour_kernel((0.2, 0.45))
    hr = stages.blur(_white(9, 900).astype(np.float32), colour)
    lr = stages.SAMPLINGS[sampling](stages.blur(hr, kernel), 3)
    mean = stages.sample_area(hr, 3)
    found = inheritance(kernel, 3, sampling, colour)
    assert found.kept == pytest.approx(lr.var(), rel=0.03)
    assert found.target == pytest.approx(mean.var(), rel=0.03)
    assert found.shared == pytest.approx(np.mean(lr * mean), rel=0.04)
    assert found.kept > 1.5 * inheritance(kernel, 3, sampling).kept


def test_a_clean_scan_passes_no_noise_on() -> None:
    assert inheritance(stages.gaussian_kernel(1, 1, 0), 3, "area").correlation(0.0, 0.0) == 0.0


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_noise_of_two_images_is_compared_where_they_are_flat(share: float) -> None:
    """Where structure is as fine as a pixel, the whole image would say that noise is shared."""
    fine = 60 * gaussian_filter(_white(1), 0.7)
    fine[:, :128] = 0
    common = np.sqrt(share) * _white(2)
    a, b = (fine + 5 * (common + np.sqrt(1 - share) * _white(seed)) for seed in (3, 4))
    found, error = flat_correlation([(a, 2 * b), (a.T, 2 * b.T)])
    assert found == pytest.approx(share, abs=4 * error)
    assert 0.01 < error < 0.02
    assert (noise_correlation(noise_moments(a, b)) or 0) > 0.4


def test_the_error_of_the_flat_correlation_is_its_scatter() -> None:
    found = [flat_correlation([(_white(2 * k, 96), _white(2 * k + 1, 96))]) for k in range(80)]
    values, errors = zip(*found, strict=True)
    assert np.std(np.array(values, float)) == pytest.approx(errors[0], rel=0.25)


def test_colour_of_measured_noise() -> None:
    def noise(correlation: tuple[float, float] | None) -> Noise:
        return Noise(5.0, None, None, correlation, "adjacent slices")

    assert colour_of(noise(None)) is WHITE and lag_correlation(noise(None)) == 0
    assert colour_of(noise((0.01, -0.04))) is WHITE and lag_correlation(noise((0.01, -0.04))) < 0
    np.testing.assert_array_equal(colour_of(noise((0.1, 0.4))), colour_kernel((0.1, 0.4)))
    assert colour_kernel((0.0, 0.0)).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
