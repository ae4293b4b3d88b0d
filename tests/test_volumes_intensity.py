"""Grey values keep their meaning: the window inverts exactly, saturates, and never wraps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from emsr.errors import InputError
from emsr.volumes.intensity import Intensity, fit_window

DTYPES = st.sampled_from([np.uint8, np.int8, np.uint16, np.int16])
WINDOWS = st.builds(
    lambda low, width: Intensity(low, low + width), st.floats(-4e4, 7e4), st.floats(1, 7e4)
)
UNITS = hnp.arrays(np.float32, 50, elements=st.floats(-1000, 1000, width=32))


@given(window=WINDOWS, dtype=DTYPES, seed=st.integers(0, 99))
def test_going_there_and_back_is_exact(window, dtype, seed):
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    grey = rng.integers(limits.min, limits.max, 200, dtype, endpoint=True)
    grey[:2] = limits.min, limits.max
    back, clipped = window.to_grey(window.to_unit(grey), dtype)
    assert back.dtype == dtype
    assert clipped == 0
    np.testing.assert_array_equal(back, grey)


@given(window=WINDOWS, dtype=DTYPES, unit=UNITS)
def test_saturates_and_counts(window, dtype, unit):
    limits = np.iinfo(dtype)
    exact = unit.astype(float) * (window.high - window.low) + window.low
    grey, clipped = window.to_grey(unit, dtype)
    assert (grey[exact >= limits.max] == limits.max).all()
    assert (grey[exact <= limits.min] == limits.min).all()
    inside = (exact > limits.min) & (exact < limits.max)
    assert np.abs(grey[inside] - exact[inside]).max(initial=0) <= 0.5 + 1e-9
    assert clipped == sum(round(v) > limits.max or round(v) < limits.min for v in exact.tolist())


@given(window=WINDOWS, dtype=DTYPES, unit=UNITS)
def test_never_turns_brighter_into_darker(window, dtype, unit):
    grey, _ = window.to_grey(np.sort(unit), dtype)
    assert (np.diff(grey.astype(int)) >= 0).all()


def test_no_wrapping_of_uint8():
    grey, clipped = Intensity(0, 255).to_grey(np.float32([-0.1, 256 / 255, 300.0, np.inf]), "uint8")
    assert grey.tolist() == [0, 255, 255, 255]
    assert clipped == 4


def test_rounds_half_to_even():
    grey, clipped = Intensity(0, 1).to_grey(np.array([0.5, 1.5, 2.5, 255.4, -0.4]), np.uint8)
    assert grey.tolist() == [0, 2, 2, 255, 0]
    assert clipped == 0


def test_unit_is_not_clipped():
    unit = Intensity(10, 20).to_unit(np.array([0, 10, 15, 20, 30], np.uint8))
    assert unit.dtype == np.float32
    assert unit.tolist() == [-1.0, 0.0, 0.5, 1.0, 2.0]


def test_floats_are_neither_rounded_nor_saturated():
    grey, clipped = Intensity(-1, 3).to_grey(np.float32([-2, 0.3, 9]), np.float32)
    np.testing.assert_allclose(grey, [-9, 0.2, 35], rtol=1e-6)
    assert (grey.dtype, clipped) == (np.float32, 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_nan_is_an_error(dtype):
    with pytest.raises(InputError, match="1 of 3 grey values are NaN"):
        Intensity(0, 1).to_grey(np.array([0, np.nan, 1]), dtype)


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (0, np.nan), (0, np.inf)])
def test_impossible_windows(low, high):
    with pytest.raises(ValueError, match="grey window"):
        Intensity(low, high)


def test_8_bit_data_keep_their_range():
    assert fit_window(np.uint8([[3, 9]]), np.uint8) == Intensity(0, 255)
    assert fit_window(np.int8([[3, 9]]), np.int8) == Intensity(-128, 127)


def test_percentiles_of_other_data_whether_stack_or_slices():
    stack = np.random.default_rng(0).integers(0, 40_000, (5, 100, 90), np.uint16)
    low, high = np.percentile(stack, (0.1, 99.9))
    assert fit_window(stack, stack.dtype) == Intensity(low, high)
    assert fit_window(iter(stack), stack.dtype) == Intensity(low, high)


def test_hot_pixels_do_not_widen_the_window():
    image = np.random.default_rng(0).normal(1000, 10, (300, 300)).astype(np.float32)
    image[0, :5] = 1e9
    assert fit_window(image, image.dtype).high < 1100


def test_mostly_empty_image_still_gets_a_window():
    image = np.zeros((300, 300), np.uint16)
    image[5, 5] = 900
    assert fit_window(image, image.dtype) == Intensity(0, 900)


def test_long_streams_are_thinned(monkeypatch):
    monkeypatch.setattr("emsr.volumes.intensity._SAMPLE_LIMIT", 1000)
    rng = np.random.default_rng(0)
    planes = rng.uniform(0, 1, (40, 50, 50)).astype(np.float32)
    window = fit_window(iter(planes), planes.dtype)
    assert window.low == pytest.approx(0, abs=0.02)
    assert window.high == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.full((4, 5), 7, np.uint8), "all grey values are 7"),
        (np.full((3, 4, 5), 7, np.float32), "all grey values are 7"),
        (np.float32([[1, np.nan]]), "NaN"),
        (np.float32([[1, np.inf]]), "infinity"),
        (np.zeros((0, 4, 4), np.uint16), "no grey values"),
    ],
)
def test_what_has_no_window(values, says):
    with pytest.raises(InputError, match=says):
        fit_window(values, values.dtype)
