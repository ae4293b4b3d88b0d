"""Laws of the Fourier ring correlation, and where a curve is said to end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from emsr.errors import InputError
from emsr.quality.clean_frc import clean_frc, ends
from emsr.quality.one_image import one_image_frc
from emsr.quality.resolution import (
    crossing_note,
    frc,
    frc_from_sums,
    frc_resolution_nm,
    ring_counts,
    ring_frequencies,
    ring_sums,
)
from emsr.quality.thresholds import half_bit, independent, significance

SIDES = st.integers(12, 60)


def noise(seed, shape):
    return np.random.default_rng(seed).normal(size=shape)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), height=SIDES, width=SIDES)
def test_laws_on_any_shape(seed, height, width):
    image, other = noise(seed, (height, width)), noise(seed + 1, (height, width))
    curve = frc(image, other)
    assert curve.shape == (min(height, width) // 2 + 1,)
    assert np.abs(curve).max() <= 1
    np.testing.assert_allclose(frc(image, image), 1.0, atol=1e-12)
    np.testing.assert_allclose(frc(other, image), curve, atol=1e-12)
    np.testing.assert_allclose(frc(3.5 * image + 120, 0.2 * other - 7), curve, atol=1e-9)
    np.testing.assert_allclose(frc(-image, other)[1:], -curve[1:], atol=1e-12)


def test_chance_follows_the_independent_pixels_of_each_ring():
    """White noise behind the Hann window scatters as the thresholds say, ring by ring: a third more
    than as many independent pixels would."""
    for shape, slices, rounds in (((64, 64), 1, 300), ((40, 96), 2, 200)):
        pairs = [
            (noise(i, (slices, *shape)), noise(9000 + i, (slices, *shape))) for i in range(rounds)
        ]
        curves = np.array([frc(a, b) for a, b in pairs])[:, 1:]
        values = independent(shape, slices)[1:]
        counts = ring_counts(shape)[1:] * slices
        ratio = curves.std(axis=0) * np.sqrt(values)
        assert ratio.mean() == pytest.approx(1, abs=0.06)
        assert np.abs(ratio - 1).max() < 0.25
        raised = np.abs(curves).mean() / np.sqrt(2 / np.pi / counts).mean()
        assert 1.25 < raised < 1.5
        assert abs(curves.mean()) < 0.01
        above = (curves > significance(shape, slices, 0.01)[1:]).mean()
        assert 0.006 < above < 0.015
        assert (curves > significance(shape, slices)[1:]).mean() < 0.003
        bit = half_bit(shape, slices)[1:]
        assert (curves > bit)[:, 8:].mean() < 0.001


@settings(max_examples=20, deadline=None)
@given(height=SIDES, width=SIDES, slices=st.integers(1, 9))
def test_independent_pixels_are_fewer_than_pixels(height, width, slices):
    found, counts = independent((height, width), slices), ring_counts((height, width)) * slices
    assert (found[1:] <= counts[1:] + 1e-9).all()
    assert (found[2:] > 0.2 * counts[2:]).all()
    assert (np.diff(significance((height, width), slices)[np.argsort(found)]) <= 1e-12).all()


def test_rings_far_out_have_the_share_of_those_counted():
    inner, whole = independent((256, 256)), independent((512, 512))
    share = whole[1:] / ring_counts((512, 512))[1:]
    assert share[200] == pytest.approx(share[60:96].mean(), rel=0.05)
    np.testing.assert_allclose(inner[1:90], whole[1:90], rtol=1e-9)


def test_slices_accumulate():
    a, b = noise(1, (5, 32, 40)), noise(2, (5, 32, 40))
    b += a
    sums = sum(ring_sums(p, q) for p, q in zip(a, b, strict=True))
    np.testing.assert_allclose(frc(a, b), frc_from_sums(sums))
    assert not np.allclose(frc(a, b), np.mean([frc(p, q) for p, q in zip(a, b, strict=True)], 0))


def test_known_signal_to_noise():
    """White signal of power 1 with independent noise of power 1 in each: FRC is 1/2."""
    signal = noise(5, (8, 128, 128))
    curve = frc(signal + noise(6, signal.shape), signal + noise(7, signal.shape))
    assert curve[10:].mean() == pytest.approx(0.5, abs=0.01)


def test_rings_are_physical_frequencies_on_oblong_fields():
    """A wave of period 8 px along either axis correlates in the ring of 1/8 cycles per px only."""
    for axis, shape in ((0, (48, 160)), (1, (48, 160)), (0, (160, 48)), (1, (160, 48))):
        wave = 40 * np.cos(2 * np.pi * np.indices(shape)[axis] / 8)
        curve = frc(wave + noise(1, shape), wave + noise(2, shape))
        ring = int(np.argmin(np.abs(ring_frequencies(48) - 1 / 8)))
        assert curve[ring] > 0.95
        assert np.abs(np.delete(curve, np.r_[0 : ring + 3])).max() < 0.6


def test_every_fourier_pixel_up_to_nyquist_is_in_one_ring():
    counts = ring_counts((64, 64))
    y, x = np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64), indexing="ij")
    assert counts.sum() == (np.hypot(y, x) * 64 < 32.5).sum()
    assert counts[0] == 1


def test_crossing_is_interpolated():
    curve = np.linspace(1, 0, 33)  # ring k: 1 - k / 32
    at = 32 * (1 - 1 / 7)
    assert frc_resolution_nm(curve, 64, 10.0) == pytest.approx(64 * 10 / at)
    assert frc_resolution_nm(curve, 64, 10.0, threshold=0.5) == pytest.approx(40.0)
    assert frc_resolution_nm(curve, 64, 10.0, np.full(33, 0.5)) == pytest.approx(40.0)


def test_single_weak_rings_are_no_crossing():
    curve = np.linspace(1, 0, 33)
    weak = curve.copy()
    weak[[1, 6, 11]] = -0.2
    assert frc_resolution_nm(weak, 64, 10.0) == frc_resolution_nm(curve, 64, 10.0)


@pytest.mark.parametrize(
    ("curve", "words"),
    [
        (np.full(33, 0.9), "at Nyquist"),
        (np.r_[1.0, np.zeros(32)], "no detail in common"),
        (np.linspace(1, 0, 4), "too few"),
    ],
)
def test_no_resolution_and_why(curve, words):
    assert frc_resolution_nm(curve, 64, 10.0) is None
    assert words in crossing_note(curve)


def test_no_note_where_there_is_a_resolution():
    assert crossing_note(np.linspace(1, 0, 33)) is None


def test_blur_costs_resolution():
    sharp = ndimage.gaussian_filter(noise(1, (4, 128, 128)), (0, 1.0, 1.0)) * 10
    soft = ndimage.gaussian_filter(sharp, (0, 2.0, 2.0))
    seen = [
        frc_resolution_nm(frc(a + noise(2, a.shape) / 2, sharp + noise(3, a.shape) / 2), 128, 5.0)
        for a in (sharp, soft)
    ]
    assert seen[0] < 0.8 * seen[1]


def test_half_bit_curve():
    """Equation 17 of van Heel and Schatz: 0.1716 with endless pixels; half a bit is SNR 0.2071."""
    curve = half_bit((512, 512), slices=10**9)
    assert curve[-1] == pytest.approx(0.2071 / 1.2071, abs=1e-3)
    more_pixels = np.argsort(independent((64, 64)))
    assert (np.diff(half_bit((64, 64))[more_pixels]) <= 0).all()
    assert half_bit((64, 64), 8)[20] < half_bit((64, 64), 1)[20]


@pytest.mark.parametrize("sizes", [(1.0, 1.0), (0.6, 1.4)])
def test_clean_frc_is_that_with_the_clean_image(sizes):
    """Whatever the noise of the two scans; from the ring on where they agree by chance: nothing."""
    shape = (6, 128, 128)
    clean = 8 * ndimage.gaussian_filter(noise(1, shape), (0, 1.3, 1.3))
    sr = ndimage.gaussian_filter(clean, (0, 1, 1)) + 0.1 * noise(2, shape)
    first, second = (clean + size * noise(3 + i, shape) for i, size in enumerate(sizes))
    least = significance(shape[1:], shape[0])
    scans = frc(first, second)
    found = clean_frc(frc(sr, first), frc(sr, second), scans, least)
    true, end = frc(sr, clean), ends(scans, least)
    assert 25 < end < 60
    assert np.isnan(found[end:]).all()
    assert np.abs(found - true)[2 : end - 12].max() < 0.05
    assert (true - frc(sr, first))[end - 20 : end - 5].mean() > 0.05


def test_one_image_tells_only_where_it_ends_in_white_noise():
    shape = (4, 128, 128)
    clean = 8 * ndimage.gaussian_filter(noise(1, shape), (0, 2, 2))
    counts = ring_counts(shape[1:]) * shape[0]

    def told(image):
        power = sum(ring_sums(plane, plane)[1] for plane in image)
        return one_image_frc(power, counts)

    first, second = (clean + noise(2 + i, shape) for i in range(2))
    curve, why = told(first)
    assert why == ""
    assert np.abs(curve - frc(first, second))[4:40].mean() < 0.04
    for image in (
        clean,
        ndimage.gaussian_filter(first, (0, 0.7, 0.7)),
        ndimage.zoom(first, (1, 3, 3)),
    ):
        curve, why = told(image[:, :128, :128])
        assert curve is None
        assert "interpolated" in why or "rounding" in why
    assert one_image_frc(np.ones(9), np.ones(9))[0] is None


@pytest.mark.parametrize(
    ("image", "other", "words"),
    [
        (np.ones((16, 16)), noise(0, (16, 16)), "first image is constant"),
        (noise(0, (16, 16)), np.ones((16, 16)), "second image is constant"),
        (noise(0, (16, 16)), noise(0, (16, 17)), "(16, 17)"),
        (noise(0, (3, 16)), noise(1, (3, 16)), "at least 4 pixels"),
        (noise(0, (16, 16)) * np.nan, noise(0, (16, 16)), "NaN"),
    ],
)
def test_bad_input(image, other, words):
    with pytest.raises(InputError) as caught:
        frc(image, other)
    assert words in str(caught.value)


def test_a_constant_slice_in_a_stack_is_no_fault():
    a = noise(0, (2, 16, 16))
    a[0] = 7
    np.testing.assert_allclose(frc(a, a), 1.0)


@pytest.mark.real_data
def test_slow_scan_resolves_itself_better_than_the_fast_one(real_data):
    import tifffile

    folder = real_data / "sem-brain-fast-slow"
    fast, slow = (tifffile.imread(folder / f"{name}.tif") for name in ("fast", "slow"))
    curve = frc(fast, slow)
    assert curve[1:20].min() > 0.5
    assert 2 < frc_resolution_nm(curve, 768, 1.0) < 40
