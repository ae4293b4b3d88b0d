"""Blur read back from LR and HR: against the PSFs of the phantom's scans, and kernels put in."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from emsr.errors import InputError
from emsr.microscope import stages
from emsr.microscope.estimate import (
    Blur,
    Noise,
    blur_from_spectra,
    noise_from_image,
    relative_blur,
)
from emsr.microscope.presets import PRESETS, hr_scan, lr_scan
from emsr.microscope.scan import acquire, expected
from emsr.microscope.tissue import tissue

SILENT = Noise(0.0, None, None, None, "repeat")
SLICES, SIDE_PX = 1, 900


@cache
def field(seed=6, preset="white-matter"):
    z, y, x = PRESETS[preset].spacing_nm
    return tissue(preset, (SLICES, SIDE_PX, SIDE_PX), (z, y / 2, x / 2), seed).render(0, SLICES)


@cache
def scanned(kind, seed=6, psf_px=0.45, noisy=True):
    preset = replace(PRESETS["white-matter"], lr_psf_px=psf_px)
    scan = hr_scan(preset) if kind == "HR" else lr_scan(preset, 3)
    rng = np.random.default_rng([seed, kind == "HR"])
    return np.stack([acquire(s, scan, rng) if noisy else expected(s, scan) for s in field(seed)])


def relative(psf_px):
    return np.sqrt((3 * psf_px) ** 2 - PRESETS["white-matter"].hr_psf_px ** 2)


def made(hr, widths, scale, noise=0.0, seed=0):
    """LR made from HR by the stages."""
    seen = stages.sample_area(stages.blur(hr, stages.gaussian_kernel(*widths)), scale)
    return stages.gaussian_noise(seen, noise, np.random.default_rng(seed))


@cache
def structure(side=288):
    """Soft blobs and edges, 40 grey levels of contrast."""
    rng = np.random.default_rng(3)
    blobs = gaussian_filter(rng.standard_normal((side, side)), 3.0)
    return (100 + 40 * np.tanh(3 * blobs / blobs.std())).astype(np.float32)


@pytest.mark.parametrize("psf_px", [0.45, 0.8])
def test_blur_of_the_phantoms_scans_with_the_noise_of_both(psf_px):
    lr, hr = scanned("LR", psf_px=psf_px), scanned("HR")
    blur = relative_blur(lr, hr, 3, noise_from_image(hr))
    assert blur.sigma_px == pytest.approx(relative(psf_px), rel=0.05)
    assert blur.gain == pytest.approx(1, abs=0.02)
    assert blur.offset == pytest.approx(0, abs=3)


def test_noise_of_hr_would_widen_the_blur_were_it_not_corrected():
    lr, hr = scanned("LR", noisy=False), scanned("HR", noisy=False)
    noisy = stages.gaussian_noise(hr, 25.0, np.random.default_rng(1))
    true = relative(0.45)
    assert relative_blur(lr, hr, 3, SILENT).sigma_px == pytest.approx(true, rel=0.02)
    assert relative_blur(lr, noisy, 3, SILENT).sigma_px > 1.1 * true
    told = replace(SILENT, sigma=25.0)
    assert relative_blur(lr, noisy, 3, told).sigma_px == pytest.approx(true, rel=0.04)


@pytest.mark.parametrize(
    "widths, scale", [((1.6, 0.8, 0.6), 3), ((2.2, 1.0, 2.2), 2), ((1.5, 1.5, 0.0), 3)]
)
def test_widths_and_angle_of_an_oblong_blur(widths, scale):
    hr = structure()
    blur = relative_blur(made(hr, widths, scale, 5.0), hr, scale, SILENT)
    assert (blur.sigma_a_px, blur.sigma_b_px) == pytest.approx(widths[:2], rel=0.06)
    if widths[0] > widths[1]:
        assert blur.angle_rad == pytest.approx(widths[2], abs=0.05)
    else:
        assert blur.sigma_a_px == blur.sigma_b_px and blur.angle_rad == 0


@settings(max_examples=3, deadline=None)
@given(st.floats(0.3, 3), st.floats(-50, 50), st.floats(-1, 1), st.floats(-1, 1))
def test_gain_offset_and_a_small_shift_do_not_change_the_blur(gain, offset, down, right):
    hr = structure()
    seen = stages.blur(hr, stages.gaussian_kernel(1.3, 1.3, 0))
    moved = np.fft.ifft2(
        np.fft.fft2(seen)
        * np.exp(
            -2j * np.pi * np.fft.fftfreq(288)[:, None] * down
            - 2j * np.pi * np.fft.fftfreq(288)[None] * right
        )
    ).real
    lr = gain * stages.sample_area(moved, 3) + offset
    blur = relative_blur(lr, hr, 3, SILENT)
    assert blur.sigma_px == pytest.approx(1.3, rel=0.03)
    assert blur.gain == pytest.approx(gain, rel=0.02)
    assert blur.offset == pytest.approx(offset, abs=0.02 * gain * 100)


def test_inverted_contrast_is_a_negative_gain():
    hr = structure()
    blur = relative_blur(200 - made(hr, (1.2, 1.2, 0), 3), hr, 3, SILENT)
    assert blur.gain == pytest.approx(-1, abs=0.01) and blur.offset == pytest.approx(200, abs=1)


def test_blur_of_another_field_of_the_same_tissue():
    lr, hr = scanned("LR"), scanned("HR", seed=7)
    blur = blur_from_spectra(lr, hr, 3, noise_from_image(lr), noise_from_image(hr))
    assert blur.sigma_px == pytest.approx(relative(0.45), rel=0.2)
    assert blur.gain == pytest.approx(1, abs=0.4)  # one small field beside another
    assert blur.sigma_a_px == blur.sigma_b_px


def test_spectra_of_one_field_without_noise_tell_the_blur():
    lr, hr = scanned("LR", noisy=False), scanned("HR", noisy=False)
    blur = blur_from_spectra(0.5 * lr + 30, hr, 3, SILENT, SILENT)
    assert blur.sigma_px == pytest.approx(relative(0.45), rel=0.04)
    assert blur.gain == pytest.approx(0.5, rel=0.03)
    assert blur.offset == pytest.approx(30, abs=3)


def test_width_of_the_round_blur_of_equal_area():
    assert Blur(3.0, 4.0, 0.1, 1.0, 0.0).sigma_px == pytest.approx(np.sqrt(12.5))


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: relative_blur(np.ones((40, 40)), np.ones((120, 100)), 3, SILENT), "not one field"),
        (lambda: relative_blur(np.ones((9, 9)), np.ones((27, 27)), 3, SILENT), "at least 32"),
        (lambda: relative_blur(white(96), white(288), 3, SILENT), "nothing in common"),
        (
            lambda: blur_from_spectra(np.ones((9, 9)), np.ones((96, 96)), 3, SILENT, SILENT),
            "too small",
        ),
    ],
)
def test_what_is_no_pair_is_refused(call, said):
    with pytest.raises(InputError, match=said):
        call()


def white(side):
    return np.random.default_rng(side).standard_normal((side, side))
