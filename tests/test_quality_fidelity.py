"""PSNR and SSIM: equal to scikit-image, exact on golden values, strict about their input."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from emsr.errors import InputError
from emsr.quality.fidelity import psnr, ssim

SIDES = st.integers(7, 40)
DTYPES = st.sampled_from([np.uint8, np.uint16, np.float32, np.float64])


def images(seed, shape, dtype):
    rng = np.random.default_rng(seed)
    top = 60000 if dtype == np.uint16 else 255
    return (rng.uniform(0, top, shape).astype(dtype) for _ in range(2))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), height=SIDES, width=SIDES, dtype=DTYPES)
def test_equal_to_scikit_image(seed, height, width, dtype):
    image, reference = images(seed, (height, width), dtype)
    a, b = image.astype(float), reference.astype(float)
    assert psnr(image, reference, 300.0) == pytest.approx(
        peak_signal_noise_ratio(b, a, data_range=300.0), abs=1e-9
    )
    assert ssim(image, reference, 300.0) == pytest.approx(
        structural_similarity(b, a, data_range=300.0), abs=1e-9
    )


def test_golden_psnr():
    reference = np.zeros((4, 5), np.uint8)
    image = np.full((4, 5), 16, np.uint8)
    assert psnr(image, reference, 255) == pytest.approx(10 * math.log10(255**2 / 256))
    # uint8 differences must not wrap round
    assert psnr(reference, image, 255) == psnr(image, reference, 255)


def test_volume_averages_error_before_the_logarithm_and_ssim_over_slices():
    rng = np.random.default_rng(3)
    reference = rng.uniform(0, 255, (3, 16, 20))
    image = reference + rng.normal(0, 1, reference.shape) * np.array([1, 5, 25])[:, None, None]
    error = np.mean((image - reference) ** 2)
    assert psnr(image, reference, 255) == pytest.approx(10 * math.log10(255**2 / error))
    slices = [structural_similarity(a, b, data_range=255) for a, b in zip(image, reference)]  # noqa: B905
    assert ssim(image, reference, 255) == pytest.approx(np.mean(slices))


def test_identical_images():
    image = np.random.default_rng(0).uniform(0, 1, (9, 9)).astype(np.float32)
    assert psnr(image, image, 1.0) == math.inf
    assert ssim(image, image, 1.0) == pytest.approx(1.0)


GOOD = np.arange(100.0).reshape(10, 10)
NAN = np.where(GOOD == 5, np.nan, GOOD)


@pytest.mark.parametrize("score", [psnr, ssim])
@pytest.mark.parametrize(
    ("image", "reference", "data_range", "words"),
    [
        (GOOD, GOOD[:9], 255, "(9, 10)"),
        (GOOD, GOOD[None], 255, "(1, 10, 10)"),
        (GOOD[None, None], GOOD[None, None], 255, "(z, y, x)"),
        (GOOD, GOOD, 0, "data_range is 0"),
        (GOOD, GOOD, -1.0, "data_range is -1"),
        (GOOD, GOOD, math.nan, "data_range is nan"),
        (NAN, GOOD, 255, "the image holds NaN"),
        (GOOD, NAN, 255, "the reference holds NaN"),
    ],
)
def test_bad_input(score, image, reference, data_range, words):
    with pytest.raises(InputError) as caught:
        score(image, reference, data_range)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ssim_of_a_sliver():
    with pytest.raises(InputError, match="at least 7 x 7"):
        ssim(GOOD[:6], GOOD[:6], 255)
