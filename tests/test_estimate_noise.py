"""Noise read back from images: against the phantom's settings, and against noise put in."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve1d, gaussian_filter

from emsr.errors import InputError
from emsr.microscope.estimate import (
    Noise,
    noise_from_image,
    noise_from_repeat,
    noise_from_slices,
    read_noise,
)
from emsr.microscope.estimate_noise import slice_correlation
from emsr.microscope.presets import PRESETS, hr_scan, lr_scan
from emsr.microscope.scan import acquire, expected, scan_for_greys
from emsr.microscope.tissue import tissue

SIDE_PX = 768


@cache
def stain(preset):
    z, y, x = PRESETS[preset].spacing_nm
    return tissue(preset, (3, SIDE_PX, SIDE_PX), (z, y / 2, x / 2), 5).render(0, 3)


def acquired(preset, scan, seed=0):
    """Two acquisitions, and the true standard deviation of their noise."""
    rng = np.random.default_rng(seed)
    first, second = (np.stack([acquire(s, scan, rng) for s in stain(preset)]) for _ in range(2))
    mean = np.mean([expected(s, scan) for s in stain(preset)])
    return first, second, np.sqrt(scan.gain * (mean - scan.offset) + scan.read_noise**2 + 1 / 12)


def scan_of(preset, kind, dose):
    preset = PRESETS[preset]
    preset = replace(
        preset,
        hr_dose=preset.hr_dose * dose,
        lr_dose=preset.lr_dose * dose,
        read_noise=preset.read_noise / np.sqrt(dose),
    )
    return hr_scan(preset) if kind == "HR" else lr_scan(preset, 3)


def white(seed, shape=(3, 256, 256)):
    return np.random.default_rng(seed).standard_normal(shape)


def smooth(seed=9, shape=(3, 256, 256), sigma_px=6.0):
    """Structure of standard deviation 1 that ends far below the highest frequencies."""
    field = gaussian_filter(white(seed, shape), (1.0, sigma_px, sigma_px), mode="wrap")
    return field / field.std()


SCANS = [
    ("white-matter", "HR", 1),
    ("white-matter", "HR", 30),
    ("white-matter", "LR", 1),
    ("neuropil", "HR", 8),
    ("neuropil", "LR", 4),
]


@pytest.mark.parametrize("preset, kind, dose", SCANS)
def test_sigma_is_that_of_the_scan(preset, kind, dose):
    first, second, sigma = acquired(preset, scan_of(preset, kind, dose))
    assert noise_from_repeat(first, second).sigma == pytest.approx(sigma, rel=0.015)
    assert noise_from_image(first).sigma == pytest.approx(sigma, rel=0.05)
    assert noise_from_slices(first).sigma == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("preset", PRESETS)
def test_gain_and_read_noise_from_a_repeat(preset):
    scan = scan_of(preset, "HR", 1)
    first, second, _ = acquired(preset, scan)
    noise = noise_from_repeat(first, second)
    assert noise.slope == pytest.approx(scan.gain, rel=0.03)
    assert noise.intercept == pytest.approx(
        scan.read_noise**2 - scan.gain * scan.offset + 1 / 12, rel=0.03
    )
    assert noise.correlation == pytest.approx((0, 0), abs=0.01)
    found = read_noise(noise, scan.offset)
    assert found is None or found == pytest.approx(scan.read_noise, rel=0.5)
    assert noise_from_image(first).slope == pytest.approx(scan.gain, rel=0.15)


def test_16_bits_with_more_noise_than_structure():
    scan = scan_for_greys(42000, 26000, 8, psf_sigma_px=1.3, factor=2, read_noise=900)
    first, second, sigma = acquired("white-matter", replace(scan, dtype="uint16"))
    assert sigma > 1.2 * np.std([expected(s, scan) for s in stain("white-matter")])
    for noise in (
        noise_from_repeat(first, second),
        noise_from_image(first),
        noise_from_slices(first),
    ):
        assert noise.sigma == pytest.approx(sigma, rel=0.05)


@settings(max_examples=8, deadline=None)
@given(st.floats(0.01, 300), st.floats(-1e4, 1e4), st.integers(0, 99))
def test_noise_scales_with_the_greys_and_ignores_their_zero(gain, offset, seed):
    image = 30 * smooth(1, (1, 96, 96)) + white(seed, (1, 96, 96))
    changed = gain * image + offset
    for estimate in (noise_from_image, lambda a: noise_from_repeat(a, np.roll(a, 40, 1) * 1.0)):
        alone, moved = estimate(image), estimate(changed)
        assert moved.sigma == pytest.approx(gain * alone.sigma, rel=0.02)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000))
def test_slices_and_axes_do_not_matter(seed):
    stack = 20 * smooth(2) + 3 * white(seed)
    assert noise_from_image(stack[::-1]).sigma == pytest.approx(noise_from_image(stack).sigma)
    turned = noise_from_image(stack.transpose(0, 2, 1))
    assert turned.sigma == pytest.approx(noise_from_image(stack).sigma)


@pytest.mark.parametrize("spread", [[0.5, 0.5], [0.3, 0.4, 0.3]])
def test_correlation_along_x_is_found_by_each_way(spread):
    shape = (3, 640, 640)
    first, second = (convolve1d(white(s, shape), spread, axis=-1) for s in (1, 2))
    true = float(np.mean(first[..., 1:] * first[..., :-1]) / np.mean(first**2))
    size = 8 / first.std()
    structure = 40 * smooth(shape=shape)
    a, b = structure + size * first, structure + size * second
    assert noise_from_repeat(a, b).correlation == pytest.approx((0, true), abs=0.01)
    for noise in (noise_from_image(a), noise_from_slices(a)):
        assert noise.correlation == pytest.approx((0, true), abs=0.06)
        assert noise.sigma == pytest.approx(8, rel=0.12)
        assert "shared between neighbouring pixels" in noise.notices[0]


def test_noise_that_slices_share_is_noticed_and_not_lost():
    shape = (8, 300, 300)
    noise = convolve1d(white(3, shape), [0.5, 0.5], axis=0, mode="wrap")
    stack = 40 * smooth(shape=shape) + 6 * noise / noise.std()
    assert slice_correlation(stack)[0] == pytest.approx(0.5, abs=0.05)
    found = noise_from_slices(stack)
    assert found.sigma == pytest.approx(6, rel=0.03)
    assert "adjacent slices correlates (0.5" in found.notices[0]
    assert slice_correlation(40 * smooth(shape=shape) + white(4, shape))[0] == pytest.approx(
        0, abs=0.03
    )


def test_runs_of_slices_are_not_mixed():
    runs = [np.full((3, 1, 1), level) + 5 * white(level, (3, 128, 128)) for level in (10, 90)]
    stack = np.concatenate(runs)
    assert noise_from_slices(stack, run=3).sigma == pytest.approx(5, rel=0.05)
    with pytest.raises(InputError, match="whole runs"):
        noise_from_slices(stack, run=4)


def test_fine_structure_is_no_noise_and_no_correlation_is_claimed_for_it():
    """Texture as fine as two pixels everywhere: whether it is noise, no image tells."""
    fine = gaussian_filter(white(5, (1, 400, 400)), (0, 0.9, 0.9))
    image = 30 * fine / fine.std() * (1 + smooth(6, (1, 400, 400))) + 2 * white(7, (1, 400, 400))
    noise = noise_from_image(image)
    assert noise.correlation is None
    assert "structure hides" in " ".join(noise.notices)


def test_scans_out_of_register_are_noticed():
    first, second, sigma = acquired("white-matter", scan_of("white-matter", "HR", 8))
    noise = noise_from_repeat(first[:, :, 1:], second[:, :, :-1])
    assert "not in register" in noise.notices[0]
    assert noise.sigma == pytest.approx(sigma, rel=0.05)
    assert np.std(first[:, :, 1:].astype(float) - second[:, :, :-1]) > 2 * np.sqrt(2) * sigma


@pytest.mark.parametrize("ways", ["image", "repeat"])
def test_clipped_and_drawn_areas_do_not_count(ways):
    """A third of the field in saturation, a quarter painted black: sigma is that of the rest."""
    scene = np.repeat([0.0, 100.0, 150.0, 320.0], 128)[None, None] + 8 * smooth(8, (1, 512, 512))
    scene = np.broadcast_to(scene, (1, 512, 512))
    first, second = (
        np.clip(np.rint(scene + 7 * white(s, scene.shape)), 0, 255).astype(np.uint8) for s in (1, 2)
    )
    for scan in (first, second):
        scan[:, :, :128] = 0
    noise = noise_from_image(first) if ways == "image" else noise_from_repeat(first, second)
    assert noise.variance(np.array([125.0])) == pytest.approx(49, rel=0.12)


@pytest.mark.parametrize(
    "preset, dose", [("white-matter", 0.33), ("white-matter", 0.5), ("neuropil", 0.25)]
)
def test_noise_that_clips_everywhere_is_still_told(preset, dose):
    """A fast scan so noisy that 2 to 4 % of the pixels are black or white, in nearly all blocks."""
    scan = scan_of(preset, "LR", dose)
    first, _, sigma = acquired(preset, replace(scan, read_noise=2.0))
    assert np.mean((first == 0) | (first == 255)) > 0.015
    for noise in (noise_from_image(first), noise_from_slices(first)):
        assert 0.93 * sigma < noise.sigma < 1.02 * sigma


@pytest.mark.parametrize("share, told", [(0.002, True), (0.01, True), (0.04, True), (0.12, False)])
@pytest.mark.parametrize("ends", ["one", "both"])
def test_normal_noise_is_told_up_to_a_share_of_clipped_pixels(share, told, ends):
    """Of normal noise of sigma 50 that clipping at 255 (and 0) takes ``share`` of the pixels of,
    and the notice says so where it takes any to speak of."""
    noise = 50 * white(11, (1, 400, 400))
    low, high = np.quantile(
        noise, [0 if ends == "one" else share / 2, 1 - share / (1 + (ends == "both"))]
    )
    image = np.clip(noise, low, high)
    image = np.rint((image - low) / (high - low) * 255).astype(np.uint8)
    true = 50 * 255 / (high - low)
    if not told:
        with pytest.raises(InputError, match="constant nor clipped"):
            noise_from_image(image)
        return
    found = noise_from_image(image)
    assert 0.94 * true < found.sigma < 1.02 * true
    assert ("ends of the grey scale" in " ".join(found.notices)) == (share > 0.005)


def test_variance_follows_the_line_and_stays_positive():
    noise = Noise(4.0, -0.5, 60.0, None, "repeat")
    assert noise.variance(np.array([[20.0, 80.0]])) == pytest.approx(np.array([[50.0, 20.0]]))
    assert 0 < noise.variance(200.0) < 1
    flat = Noise(4.0, None, None, None, "repeat")
    assert np.array_equal(flat.variance(np.zeros((2, 3))), np.full((2, 3), 16.0))


def test_read_noise_is_the_line_at_the_offset_where_that_is_certain():
    known = Noise(10.0, -0.5, 174.25, (0.0, 0.0), "repeat", rounding=0.25)
    assert read_noise(known, 340.0) == pytest.approx(2.0)
    assert read_noise(replace(known, covariance=(1e-9, 0.0, 1e-4)), 340.0) == pytest.approx(2.0)
    assert read_noise(replace(known, covariance=(1e-4, 0.0, 1.0)), 340.0) is None
    assert read_noise(known, 360.0) is None
    assert read_noise(replace(known, slope=None), 340.0) is None


def test_no_slope_where_greys_hardly_differ():
    noise = noise_from_image(100 + white(1, (1, 200, 200)))
    assert noise.slope is None and noise.sigma == pytest.approx(1, rel=0.05)
    assert "span too little" in noise.notices[-1]


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: noise_from_image(white(1, (20, 40))), "32"),
        (lambda: noise_from_image(np.full((64, 64), 7, np.uint8)), "constant nor clipped"),
        (lambda: noise_from_image(np.zeros((64, 64), np.uint8)), "constant nor clipped"),
        (lambda: noise_from_slices(white(1, (1, 64, 64))), r"\(2, 32, 32\)"),
        (lambda: noise_from_repeat(white(1), white(1)), "copy"),
        (lambda: noise_from_repeat(white(1), white(1)[:, :9]), "differ"),
        (lambda: noise_from_repeat(white(1)[0, :7], white(2)[0, :7]), "too small"),
    ],
)
def test_what_cannot_be_measured_is_said(call, said):
    with pytest.raises(InputError, match=said):
        call()
