"""Where the report looks, how it maps greys, and what its drawing says."""

import base64

import imagecodecs
import numpy as np
import pytest

from emsr.quality.curves import LEFT, RIGHT, drawing
from emsr.quality.pictures import (
    cut,
    grey_uri,
    heat_uri,
    most_structured,
    round_length,
    scale_bar,
    widened,
)


def decoded(uri):
    return imagecodecs.png_decode(base64.b64decode(uri.split(",")[1]))


def test_finds_the_structure_not_the_noise():
    rng = np.random.default_rng(0)
    plane = rng.normal(0, 20, (200, 220))
    plane[90:150, 120:180] += 80 * np.sign(np.sin(np.arange(60) / 3))
    y, x = most_structured(plane, (60, 60), step=3)
    assert (y % 3, x % 3) == (0, 0)
    assert abs(y - 90) <= 6
    assert abs(x - 120) <= 6


def test_a_window_as_large_as_the_field():
    plane = np.random.default_rng(0).normal(size=(40, 50))
    assert most_structured(plane, (40, 50)) == (0, 0)


@pytest.mark.parametrize("corner", [(0, 0), (57, 81), (104, 204)])
def test_widened_window_holds_the_small_one_inside_the_field(corner):
    shape, size, wide = (200, 300), (96, 96), (198, 198)
    y, x = widened(corner, size, wide, shape, step=3)
    assert (y % 3, x % 3) == (0, 0)
    for start, inner, outer, small, whole in zip((y, x), corner, wide, size, shape, strict=True):
        assert 0 <= start <= inner
        assert inner + small <= start + outer + 2
        assert start + outer <= whole
    assert cut(np.zeros(shape), (y, x), wide).shape == wide


def test_grey_window_clips_and_rounds():
    shown = decoded(grey_uri(np.array([[-5.0, 10.0, 20.0, 30.0, 99.0]]), 10, 30))
    np.testing.assert_array_equal(shown, [[0, 0, 128, 255, 255]])


def test_heat_rises_in_brightness():
    shown = decoded(heat_uri(np.linspace(0, 12, 13)[None], 10.0)).astype(int)
    assert (np.diff(shown.sum(axis=-1)[0, :11]) > 0).all()
    assert (shown[0, 10] == shown[0, 12]).all()


@pytest.mark.parametrize(
    ("length", "expected"), [(9.99, 5), (10, 10), (0.3, 0.2), (1234, 1000), (2000, 2000)]
)
def test_round_length(length, expected):
    assert round_length(length) == pytest.approx(expected)


def test_scale_bar():
    assert scale_bar(360, 10.0) == (pytest.approx(500 / 3600), "500 nm")
    assert scale_bar(360, 15.0) == (pytest.approx(1000 / 5400), "1 µm")
    assert scale_bar(96, None) == (pytest.approx(20 / 96), "20 px")


def curve(detail_nm, pixel_nm):
    frequency = np.linspace(0, 0.5, 51)
    return {
        "frc_resolution_nm": detail_nm,
        "frc": {
            "correlation": np.linspace(1, 0, 51).tolist(),
            "frequency_per_px": frequency.tolist(),
            "frequency_per_nm": pixel_nm and (frequency / pixel_nm).tolist(),
            "threshold": 1 / 7,
            "half_bit": np.linspace(1.4, 0.2, 51).tolist(),
        },
    }


def test_drawing_puts_details_and_ticks_at_their_frequency():
    drawn = drawing([("SR", "sr", curve(40.0, 10.0)), ("bicubic", "bicubic", curve(None, 10.0))], 4)
    middle = (LEFT + RIGHT) / 2
    assert drawn["curves"][0].marker["x"] == pytest.approx(middle)  # 40 nm is half of Nyquist
    assert drawn["curves"][0].label == "SR 40 nm"
    assert drawn["curves"][1].marker is None
    assert drawn["lr_limit_x"] == pytest.approx(LEFT + (RIGHT - LEFT) / 4)
    ticks = {label: x for x, label in drawn["x_ticks"]}
    assert ticks["20"] == RIGHT
    assert ticks["40"] == pytest.approx(middle)
    places = [x for x, _ in drawn["x_ticks"]]
    assert min(np.diff(places)) > 60


def test_drawing_without_spacing_counts_pixels():
    drawn = drawing([("SR", "sr", curve(None, None))], None)
    assert drawn["x_label"] == "size of detail in pixels"
    assert drawn["x_ticks"][-1][1] == "2"
    assert drawn["lr_limit_x"] is None
