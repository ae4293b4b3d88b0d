"""The estimate against the unseen clean image: right where its assumption holds."""

import numpy as np
import pytest
from scipy import ndimage

from emsr.errors import InputError
from emsr.quality.blocks import merged
from emsr.quality.clean_error import two_scan_error, two_scan_terms
from emsr.quality.fidelity import psnr
from emsr.quality.reference_free import (
    check_order,
    check_repeat,
    clean_psnr_from_blocks,
    clean_psnr_from_repeat,
    compared,
    error_blocks,
    unlike,
)

SHAPE = (4, 96, 130)


def scene(seed, noise_sigma=20.0):
    """Truth, two scans of it with Poisson-like noise, and an SR with errors of its own."""
    rng = np.random.default_rng(seed)
    truth = 120 + 300 * ndimage.gaussian_filter(rng.normal(size=SHAPE), (0, 3, 3))
    scale = noise_sigma * np.sqrt(np.clip(truth, 10, None) / 120)
    hr, repeat = (truth + scale * rng.normal(size=SHAPE) for _ in range(2))
    error = ndimage.gaussian_filter(rng.normal(size=SHAPE), (0, 1.5, 1.5))
    return truth, hr, repeat, truth + 25 * error


def test_recovers_the_true_psnr_within_its_interval():
    inside = 0
    for seed in range(20):
        truth, hr, repeat, sr = scene(seed)
        value, (low, high) = clean_psnr_from_repeat(
            sr, hr, repeat, 255, np.random.default_rng(0), draws=300
        )
        true = psnr(sr, truth, 255)
        assert value == pytest.approx(true, abs=1.0)
        assert low < value < high
        inside += low <= true <= high
        assert psnr(sr, hr, 255) < true - 5  # the noisy score is far below
    assert inside >= 17


def test_fails_when_the_noise_is_shared_with_sr():
    """An image that copied the reference's noise is not told from a clean one."""
    truth, hr, repeat, sr = scene(1)
    copied = sr + 0.7 * (hr - truth)
    value, (_, high) = clean_psnr_from_repeat(copied, hr, repeat, 255, np.random.default_rng(0))
    true = psnr(copied, truth, 255)
    assert value is None or high is None or value != pytest.approx(true, abs=1.0)


def test_fails_when_the_two_scans_share_noise():
    truth, hr, _, sr = scene(2)
    half_shared = truth + 0.7 * (hr - truth) + np.random.default_rng(9).normal(0, 10, SHAPE)
    value, (_, high) = clean_psnr_from_repeat(sr, hr, half_shared, 255, np.random.default_rng(0))
    assert high < psnr(sr, truth, 255) - 3
    assert value < high


def test_a_perfect_sr_has_no_finite_estimate_but_a_lower_bound():
    found = []
    for seed in range(6):
        truth, hr, repeat, _ = scene(seed)
        value, (low, high) = clean_psnr_from_repeat(
            truth, hr, repeat, 255, np.random.default_rng(0), draws=200
        )
        assert high is None
        assert low is not None
        found.append(value)
    assert None in found


def test_seeded_and_slicewise():
    _, hr, repeat, sr = scene(3)
    runs = [
        clean_psnr_from_repeat(sr, hr, repeat, 255, np.random.default_rng(5), draws=50)
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    single = clean_psnr_from_repeat(sr[0], hr[0], repeat[0], 255, np.random.default_rng(5))
    assert single[0] is not None


def test_correlated_noise_widens_the_interval():
    """Blocks know that neighbours share noise: single pixels as blocks give too short an interval.
    The error's own pattern, which is the same however often the field is scanned, adds nothing."""
    truth, _, _, sr = scene(4)
    rng = np.random.default_rng(8)
    hr, repeat = (
        truth + 30 * ndimage.gaussian_filter(rng.normal(size=SHAPE), (0, 1.5, 1.5))
        for _ in range(2)
    )
    widths = []
    for px in (1, 32):
        terms = two_scan_terms(sr[0], hr[0], repeat[0], px)
        _, drawn = two_scan_error(terms, np.random.default_rng(0), 100)
        widths.append(np.std(drawn))
    assert widths[1] > 1.8 * widths[0]


def test_blocks_hold_every_pixel_once():
    rng = np.random.default_rng(0)
    sr, hr, repeat = rng.normal(size=(3, 70, 45))
    blocks = error_blocks(sr, hr, repeat, 32)
    assert len(blocks) == 3 * 2
    total, pixels = blocks.sum(axis=0)
    assert pixels == 70 * 45
    assert total == pytest.approx(((sr - hr) * (sr - repeat)).sum())
    few = merged(blocks, 4)
    assert len(few) <= 4
    np.testing.assert_allclose(few.sum(axis=0), [total, pixels])
    value, (low, high) = clean_psnr_from_blocks(blocks + 9 * blocks[:, 1:], 255, rng)
    assert low < value < high


@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.0, 0.0), (0.0, -1.0), (0.6, 0.6)])
def test_a_shifted_repeat_is_noticed(shift):
    truth, hr, _, _ = scene(7)
    moved = ndimage.shift(truth[0], shift, order=3, mode="nearest")
    repeat = 1.0 * moved + np.random.default_rng(3).normal(0, 20, moved.shape)
    found = compared(hr[0], repeat)
    assert found.shift_px == pytest.approx(shift, abs=0.15)
    assert bool(unlike(found)) == any(shift)


def test_another_contrast_is_noticed():
    _, hr, repeat, _ = scene(8)
    assert unlike(compared(hr[0], repeat[0])) == []
    found = compared(hr[0], 1.3 * repeat[0] - 20)
    assert found.contrast == pytest.approx(1.3, abs=0.05)
    assert "1.3" in unlike(found)[0]


def test_another_brightness_is_noticed_and_changes_nothing():
    truth, hr, repeat, sr = scene(9)
    found = compared(hr[0], repeat[0] + 15)
    assert "grey levels beside" in unlike(found)[0]
    plain, other = (
        clean_psnr_from_repeat(sr + 6, hr, scan, 255, np.random.default_rng(0))
        for scan in (repeat, repeat + 15)
    )
    assert other[0] == pytest.approx(plain[0], abs=0.1)
    assert other[0] == pytest.approx(psnr(sr + 6, truth, 255), abs=0.6)


def test_slices_out_of_order_are_refused():
    _, hr, repeat, _ = scene(9)
    planes = dict(enumerate(repeat))
    check_order(hr[1], planes, 1)
    check_order(hr[0], {0: repeat[0]}, 0)
    with pytest.raises(InputError, match="slice 2 of the repeat shows slice 1 of the reference"):
        check_order(hr[1], {1: repeat[0], 2: repeat[1]}, 1)


def test_repeats_that_are_none():
    truth, hr, repeat, sr = scene(6)
    rng = np.random.default_rng(0)
    for copy in (hr, hr * 2.0 - 7, hr.astype(np.float32)):
        with pytest.raises(InputError, match="identical to the reference"):
            clean_psnr_from_repeat(sr, hr, copy, 255, rng)
    for other in (scene(7)[2], np.roll(repeat, 40, axis=-1), np.full(SHAPE, 3.0), 255 - repeat):
        with pytest.raises(InputError, match="does not show the reference's field"):
            clean_psnr_from_repeat(sr, hr, other, 255, rng)
    with pytest.raises(InputError, match=r"\(3, 96, 130\)"):
        clean_psnr_from_repeat(sr, hr, repeat[1:], 255, rng)
    for size in (1, 2):  # with a little noise of its own, and a gain
        copy = 1.2 * (hr + rng.integers(-size, size + 1, SHAPE))
        with pytest.raises(InputError, match="identical to the reference"):
            check_repeat(hr, copy)
    check_repeat(truth + rng.normal(size=SHAPE), truth + rng.normal(size=SHAPE))  # hardly noisy
    check_repeat(truth + 3 * (hr - truth), truth + 3 * (repeat - truth))  # very noisy, but true
