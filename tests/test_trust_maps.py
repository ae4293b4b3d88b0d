"""What maps of trust are made of: the residual's laws, lies that show in it, spread and error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from emsr.jobs.trust_degradation import blur_reach_px, degraded
from emsr.microscope import lies, stages
from emsr.microscope.estimate import Blur, Noise
from emsr.microscope.presets import PRESETS, SUPERSAMPLING, hr_scan
from emsr.microscope.scan import expected
from emsr.microscope.tissue import tissue
from emsr.quality import consistency, spread

WINDOW, DOUBT = 1.5, 1.0
BLUR = Blur(1.2, 1.2, 0.0, 1.0, 0.0)
NOISE = Noise(20.0, -2.0, 700.0, None, "known")


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    preset = PRESETS["neuropil"]
    z, y, x = preset.spacing_nm
    fine = (1, 180 * SUPERSAMPLING, 180 * SUPERSAMPLING)
    block = tissue("neuropil", fine, (z, y / SUPERSAMPLING, x / SUPERSAMPLING), 3)
    return expected(block.render(0, 1)[0], hr_scan(preset))


def scanned(truth, rng):
    clean = degraded(truth, BLUR, 3)
    return clean + np.sqrt(NOISE.variance(clean)) * rng.standard_normal(clean.shape)


# -- laws of the residual ---------------------------------------------------------------------


def test_the_residual_of_pure_noise_has_power_1_and_structure_0(truth):
    rng = np.random.default_rng(0)
    clean = degraded(np.tile(truth, (4, 3, 3)), BLUR, 3)
    lr = clean + np.sqrt(NOISE.variance(clean)) * rng.standard_normal(clean.shape)
    z = consistency.normalised_residual(lr, clean, NOISE.variance)
    maps = consistency.maps(z, WINDOW, DOUBT)
    assert maps.power.mean() == pytest.approx(1, abs=0.02)
    assert maps.structure.mean() == pytest.approx(0, abs=0.02)
    assert np.mean(maps.doubt > 2) == pytest.approx(0.0455, abs=0.005)


@pytest.mark.parametrize("correlation", [(0.5, 0.5), (0.0, 0.6)])
def test_noise_of_known_correlation_is_no_structure_and_no_doubt(correlation):
    rng = np.random.default_rng(1)
    z = rng.standard_normal((700, 700))
    for axis, r in enumerate(correlation):
        z = np.apply_along_axis(_markov, axis, z, r)
    z = z[100:, 100:]
    maps = consistency.maps(z, WINDOW, DOUBT, correlation)
    shared = (z[1:] * z[:-1]).mean() / (z**2).mean()
    assert shared == pytest.approx(correlation[0], abs=0.02)
    assert maps.structure.mean() == pytest.approx(0, abs=0.06)
    assert np.mean(maps.doubt > 2) == pytest.approx(0.0455, abs=0.006)


def _markov(line, r):
    from scipy.signal import lfilter

    return lfilter([np.sqrt(1 - r**2)], [1, -r], line)


def test_wrong_noise_shows_in_power_alone_and_lost_structure_in_all(truth):
    rng = np.random.default_rng(2)
    lr = scanned(truth, rng)
    z = consistency.normalised_residual(lr, degraded(truth, BLUR, 3), NOISE.variance)
    double = consistency.maps(np.sqrt(2) * z, WINDOW, DOUBT)
    assert double.power.mean() == pytest.approx(2, rel=0.05)
    assert abs(double.structure.mean()) < 0.05
    smooth = ndimage.gaussian_filter(truth, 6.0)
    lost = consistency.normalised_residual(lr, degraded(smooth, BLUR, 3), NOISE.variance)
    maps = consistency.maps(lost, WINDOW, DOUBT)
    assert maps.power.mean() > 1.3 and maps.structure.mean() > 0.1
    assert np.mean(maps.doubt > 4) > 0.01


def test_doubt_of_one_pixel_is_its_own_deviation():
    z = np.zeros((21, 21))
    z[10, 10] = 5.0
    narrow = consistency.maps(z, WINDOW, 0.0).doubt
    assert narrow[10, 10] == pytest.approx(5.0) and np.count_nonzero(narrow) == 1
    kernel = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    weight = kernel[3] / np.sqrt(np.sum(kernel**2))
    assert consistency.maps(z, WINDOW, 1.0).doubt[10, 10] == pytest.approx(5.0 * weight**2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(8, 30), st.integers(0, 2**32 - 1))
def test_maps_of_a_part_are_those_of_the_whole(y, x, side, seed):
    z = np.random.default_rng(seed).standard_normal((48, 48))
    reach = consistency.reach_px(WINDOW, DOUBT)
    bottom, right = min(y + side, 48), min(x + side, 48)
    read = np.s_[max(0, y - reach) : bottom + reach, max(0, x - reach) : right + reach]
    whole = consistency.maps(z, WINDOW, DOUBT)
    part = consistency.maps(z[read], WINDOW, DOUBT)
    top, left = y - max(0, y - reach), x - max(0, x - reach)
    core = np.s_[top : top + bottom - y, left : left + right - x]
    for name in ("power", "structure", "doubt"):
        np.testing.assert_array_equal(
            getattr(part, name)[core], getattr(whole, name)[y:bottom, x:right]
        )


def test_the_degradation_sees_no_farther_than_it_says(truth):
    reach = blur_reach_px(BLUR, 3)
    whole = degraded(truth, BLUR, 3)
    part = degraded(truth[60:120, 60:120], BLUR, 3)
    inner = np.s_[reach:-reach, reach:-reach]
    np.testing.assert_array_equal(part[inner], whole[20:40, 20:40][inner])
    assert (part != whole[20:40, 20:40]).any()


# -- lies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", lies.KINDS)
def test_a_lie_of_six_lr_pixels_stands_out(kind, truth):
    rng = np.random.default_rng(7)
    found = []
    for _ in range(10):
        lr = scanned(truth, rng)
        altered, mask = lies.KINDS[kind](truth, truth, rng, 18.0, None)
        region = stages.sample_area(mask, 3) > 0
        doubt = [
            consistency.maps(
                consistency.normalised_residual(lr, degraded(sr, BLUR, 3), NOISE.variance),
                WINDOW,
                DOUBT,
            )
            .doubt[region]
            .max()
            for sr in (altered, truth)
        ]
        found.append(doubt[0] > doubt[1])
    assert sum(found) >= 9


# -- spread -------------------------------------------------------------------------------------


@given(st.integers(2, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_deviation_is_that_of_all_answers_at_once(count, seed):
    rng = np.random.default_rng(seed)
    answers = (1e4 + rng.standard_normal((count, 5, 6))).astype(np.float32)
    exact = answers.astype(np.float64).std(axis=0)
    np.testing.assert_allclose(spread.deviation(iter(answers)), exact, atol=1e-9)
    assert (spread.deviation([answers[0]] * 8) == 0).all()


def _asked(rng, size):
    """Spreads, and errors whose size is 3 sqrt(spread) + 1."""
    scatter = rng.uniform(0.5, 4.0, size)
    return scatter, ((3 * np.sqrt(scatter) + 1) * rng.standard_normal(size)) ** 2


def test_a_stated_error_is_really_had():
    rng = np.random.default_rng(0)
    told = spread.calibrate(*_asked(rng, 40_000), classes=8)
    scatter, squares = _asked(rng, 40_000)
    for stated, real in spread.reliability(spread.expected_error(scatter, told), squares, 6):
        assert real == pytest.approx(stated, rel=0.06)
    assert spread.expected_error(np.array([0.0, 99.0]), told).tolist() == [
        told["error"][0],
        told["error"][-1],
    ]
    assert told["error"] == sorted(told["error"])


def test_classes_of_one_error_are_not_told_a_larger_one():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(20):
        scatter, squares = rng.uniform(1, 2, 2_000), 9 * rng.standard_normal(2_000) ** 2
        found.append(spread.calibrate(scatter, squares, classes=8)["error"])
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(3, rel=0.02)


def test_reliability_shows_an_overconfident_statement():
    rng = np.random.default_rng(0)
    scatter, squares = _asked(rng, 20_000)
    curve = spread.reliability(0.5 * (3 * np.sqrt(scatter) + 1), squares, 5)
    assert all(real == pytest.approx(2 * stated, rel=0.1) for stated, real in curve)


def test_too_few_pixels_calibrate_nothing():
    assert spread.calibrate(*_asked(np.random.default_rng(0), 300), classes=8) is None
