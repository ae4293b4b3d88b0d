"""Drift and charging that grow with time and dose, and the experiment that rests on them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emsr.microscope.distortions import Frame, Unrest, charging, frame
from emsr.microscope.presets import PRESETS, hr_scan, lr_scan
from emsr.microscope.scan import acquire, expected

PATH = Path(__file__).parents[1] / "experiments" / "lr_first.py"
RATES = st.floats(0, 100)
TIMES = st.floats(0, 1000)


@pytest.fixture(scope="module")
def experiment():
    spec = importlib.util.spec_from_file_location("lr_first", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@given(seconds=TIMES, dose=TIMES)
def test_a_quiet_specimen_is_not_disturbed(seconds, dose):
    taken = Frame(seconds, dose)
    assert Unrest().drift_px(taken, 1.0, 5.0) == (0.0, 0.0)
    assert Unrest().charging(taken) == 0.0


@given(drift=RATES, charging=RATES)
def test_nothing_happens_in_no_time(drift, charging):
    specimen = Unrest(drift, charging)
    assert specimen.drift_px(Frame(0.0, 0.0), 0.3, 5.0) == (0.0, 0.0)
    assert specimen.charging(Frame(0.0, 0.0)) == 0.0


@given(drift=RATES, charging=RATES, seconds=TIMES, dose=TIMES, angle=st.floats(0, 6.3))
def test_both_grow_with_time_and_dose(drift, charging, seconds, dose, angle):
    specimen, taken, twice = (
        Unrest(drift, charging),
        Frame(seconds, dose),
        Frame(2 * seconds, 2 * dose),
    )
    once = np.hypot(*specimen.drift_px(taken, angle, 15.0))
    assert once == pytest.approx(drift * seconds / 15)
    assert np.hypot(*specimen.drift_px(twice, angle, 15.0)) == pytest.approx(2 * once)
    assert specimen.charging(twice) == pytest.approx(2 * specimen.charging(taken))


@given(scale=st.integers(2, 8), electrons=st.floats(10, 1000))
def test_an_hr_frame_of_one_field_takes_scale_squared_the_time_and_dose(scale, electrons):
    high = frame((240 * scale, 240 * scale), 15.0, electrons, 1e8)
    low = frame((240, 240), 15.0 * scale, electrons, 1e8)
    assert high.seconds == pytest.approx(scale**2 * low.seconds)
    assert high.electrons_per_nm2 == pytest.approx(scale**2 * low.electrons_per_nm2)


def stain():
    from scipy.ndimage import gaussian_filter

    rough = gaussian_filter(np.random.default_rng(0).normal(size=(1, 384, 384)), (0, 6, 6))
    return np.clip(0.5 + 0.25 * rough / rough.std(), 0, 1).astype(np.float32)


def test_no_unrest_is_the_plain_scan(experiment):
    hr, _ = experiment.scans(stain(), experiment.unrest(0, 0))
    rng = np.random.default_rng([experiment.SEED, 0])
    rng.uniform()  # the direction of the drift
    assert np.array_equal(hr[0], acquire(stain()[0], hr_scan(PRESETS["white-matter"]), rng))


def test_the_hr_frame_suffers_and_the_lr_frame_hardly(experiment):
    plain = PRESETS["white-matter"]
    means = [expected(stain()[0], scan) for scan in (hr_scan(plain), lr_scan(plain, 3))]
    still, moved = (experiment.scans(stain(), experiment.unrest(*by)) for by in ((0, 0), (12, 0.4)))
    hr, lr = (
        (np.mean((b[0] - mean) ** 2) - np.mean((a[0] - mean) ** 2)) / mean.var()
        for a, b, mean in zip(still, moved, means, strict=True)
    )
    assert hr > 0.1 > 10 * lr
    share = experiment.frames()[0].seconds / experiment.frames()[1].seconds
    assert share == pytest.approx(9 * 650 / 120)


def test_a_shift_is_no_distortion(experiment):
    truth = 255 * stain()
    shifted = np.roll(truth, (3, -4), (1, 2))
    plain, moved = (experiment.score(image, truth) for image in (truth + 1, shifted + 1))
    assert float(plain.split()[0]) == pytest.approx(float(moved.split()[0]), abs=0.5)


def test_the_highest_streak_is_as_high_as_charging_says():
    flat = np.full((200, 300), 10.0, np.float32)
    added = charging(flat, 0.4, np.random.default_rng(0)) - flat
    assert added.max() == pytest.approx(0.4 * 10, rel=1e-4)
