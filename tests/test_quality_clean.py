"""Scores against the unseen clean image: right where it is known, null where they would be wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from emsr.errors import InputError
from emsr.quality.blocks import block_sums, scatter, side_for
from emsr.quality.clean import Clean, strips
from emsr.quality.clean_error import levelled
from emsr.quality.clean_ssim import (
    _adjoint,
    _covariance,
    clean_map,
    noise_in_sum,
    noise_variance_of_sum,
    windows_of_one,
    windows_of_repeat,
)
from emsr.quality.fidelity import psnr, ssim
from emsr.quality.known import Known, NoiseLaw
from emsr.quality.regions import Regions

SHAPE = (128, 160)
TRUTH = 120 + 400 * ndimage.gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), 3)
SR = (
    120
    + 0.9 * (ndimage.gaussian_filter(TRUTH, 1.5) - 120)
    + 40 * ndimage.gaussian_filter(np.random.default_rng(2).normal(size=SHAPE), 2)
)


def variance(grey):
    """Poisson-Gaussian: from 60 in the dark to 260 grey levels squared in the light."""
    return 60 + 0.8 * np.clip(grey, 0, 250)


def scan(seed, size=1.0):
    rng = np.random.default_rng([77, seed])
    return TRUTH + size * np.sqrt(variance(TRUTH)) * rng.normal(size=SHAPE)


def law(error=0.0, colour="white"):
    return NoiseLaw(variance, error, 1.0, colour, "one image")


def estimate(sr, hr, repeat=None, known=None):
    clean = Clean(255, known or Known(law()), side_for((1, *SHAPE)))
    clean.add(sr, hr, repeat)
    return clean.scores(ssim(sr, hr, 255), seed=0)


@pytest.mark.parametrize("source", ["repeat", "one", "unequal"])
def test_psnr_and_ssim_are_those_with_the_clean_image(source):
    """On average, with intervals that hold the truth about as often as they say."""
    true = psnr(SR, TRUTH, 255), ssim(SR, TRUTH, 255)
    sizes = {"repeat": 1.0, "one": None, "unequal": 0.4}
    found = [
        estimate(SR, scan(k), scan(500 + k, sizes[source]) if sizes[source] else None)
        for k in range(24)
    ]
    for key, value, near in (("clean_psnr", true[0], 0.05), ("clean_ssim", true[1], 0.012)):
        assert np.mean([f[key] for f in found]) == pytest.approx(value, abs=near)
        ends = np.array([f[f"{key}_interval"] for f in found])
        held = ((ends[:, 0] <= value) & (value <= ends[:, 1])).mean()
        assert held >= 0.8
        if key == "clean_psnr":
            wide = np.mean(ends[:, 1] - ends[:, 0]) / np.std([f[key] for f in found])
            assert 2.5 < wide < 6.5
    noisy = np.mean([ssim(SR, scan(k), 255) for k in range(3)])
    assert noisy < true[1] - 0.1


def test_ssim_without_noise_is_ssim():
    for windows in (
        windows_of_repeat(SR, TRUTH, TRUTH),
        windows_of_one(SR, TRUTH, np.zeros(SHAPE)),
    ):
        assert clean_map(windows, 255).value.mean() == pytest.approx(ssim(SR, TRUTH, 255), abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_adjoint_is_the_adjoint(seed):
    rng = np.random.default_rng(seed)
    image, noise = rng.normal(size=(2, 21, 30)) + 100
    weights = rng.normal(size=(15, 24))
    expected = (weights * _covariance(image, noise)).sum()
    assert (_adjoint(weights, image) * noise).sum() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_scatter_of_ssim_is_what_noise_makes_of_it():
    sums, with_repeat, alone = [], [], []
    for k in range(24):
        hr, repeat = scan(k), scan(900 + k)
        found = clean_map(windows_of_repeat(SR, hr, repeat), 255)
        sums.append(found.value.sum())
        terms = block_sums(noise_in_sum(found, SR, hr, repeat), 16).ravel()
        with_repeat.append((terms**2).sum())
        single = clean_map(windows_of_one(SR, hr, variance(TRUTH)), 255)
        alone.append((single.value.sum(), noise_variance_of_sum(single, SR, variance(TRUTH)).sum()))
    assert np.sqrt(np.mean(with_repeat)) == pytest.approx(np.std(sums), rel=0.4)
    values, variances = np.transpose(alone)
    assert np.sqrt(variances.mean()) == pytest.approx(values.std(), rel=0.4)


def test_bootstrap_of_blocks_holds_the_noise():
    """Few blocks get Student's quantiles: 95 % stays 95 %."""
    rng = np.random.default_rng(0)
    for blocks, rounds in ((12, 300), (200, 100)):
        held = 0
        for _ in range(rounds):
            terms, chance = rng.normal(size=(2, blocks))
            drawn = scatter(terms, np.ones(blocks), rng, 300)
            low, high = np.quantile(drawn, [0.025, 0.975])
            held += low <= chance.sum() <= high
        assert 0.9 < held / rounds < 0.985


MADE_FROM_HR = {
    "the scan itself": lambda hr: hr,
    "a smoothed one": lambda hr: ndimage.gaussian_filter(hr, 1.0),
    "some of its noise": lambda hr: SR + 0.2 * (hr - TRUTH),
}


@pytest.mark.parametrize("made", MADE_FROM_HR.values(), ids=MADE_FROM_HR)
def test_noise_shared_with_sr_is_found(made):
    hr, repeat = scan(1), scan(2)
    sr = made(hr)
    for other in ((hr, repeat), (repeat, hr)):
        found = estimate(sr, *other)
        assert found["clean_psnr"] is None
        assert found["clean_ssim"] is None
        assert "correlates with the difference" in found["reason"]["clean_psnr"]
    alone = estimate(sr, hr)
    assert alone["clean_psnr"] is None
    assert "made from the reference" in alone["reason"]["clean_psnr"]


def test_independent_noise_is_not_accused():
    accused = [estimate(SR, scan(k), scan(300 + k))["dependent"] for k in range(12)]
    accused += [estimate(SR, scan(k))["dependent"] for k in range(12)]
    assert not any(accused)


def test_a_field_that_was_trained_on():
    """One scan: null. With a repeat the noise that was learned by heart would show."""
    known = Known(law(), distrust="a training field")
    assert estimate(SR, scan(1), None, known)["reason"]["clean_psnr"] == "a training field"
    learned = SR + 0.12 * (scan(1) - TRUTH)
    found = estimate(learned, scan(1), scan(2), known)
    assert found["clean_psnr"] is None


def test_an_error_far_under_the_noise_is_null_with_its_interval():
    close = TRUTH + 0.15 * (SR - TRUTH)
    found = estimate(close, scan(1), None, Known(law(error=8.0)))
    assert found["clean_psnr"] is None
    assert found["clean_ssim"] is None
    assert found["clean_psnr_interval"][0] is not None
    assert "--repeat" in found["reason"]["clean_psnr"]
    wide = estimate(SR, scan(1), None, Known(law(error=8.0)))["clean_psnr_interval"]
    sharp = estimate(SR, scan(1), None, Known(law(error=1.0)))["clean_psnr_interval"]
    assert wide[1] - wide[0] > 3 * (sharp[1] - sharp[0])


def test_what_is_not_known_is_said():
    nothing = estimate(SR, scan(1), None, Known(None, "told by nothing"))
    assert nothing["reason"]["clean_ssim"] == "told by nothing"
    grainy = estimate(SR, scan(1), None, Known(law(colour="correlated")))
    assert grainy["clean_psnr"] is not None
    assert "neighbouring pixels" in grainy["reason"]["clean_ssim"]
    beside = estimate(SR, scan(1), scan(2), Known(shift_px=1.4))
    assert "1.4 px out of register" in beside["reason"]["clean_ssim"]


@pytest.mark.parametrize("bias", [0.0, 6.0, -6.0])
def test_a_repeat_of_another_brightness_changes_nothing(bias):
    """d levels more would take d times SR's mean error off the squared error."""
    sr, hr, repeat = SR + bias, scan(1), scan(2)
    plain, brighter = (estimate(sr, hr, other) for other in (repeat, repeat + 15))
    low, high = brighter["clean_psnr_interval"]
    assert low - 0.1 <= psnr(sr, TRUTH, 255) <= high + 0.1
    for key in ("clean_psnr", "clean_ssim"):
        assert brighter[key] == pytest.approx(plain[key], abs=0.05)
    regions = [Regions(255, Known(), 64) for _ in range(2)]
    for one, other in zip(regions, (repeat, repeat + 15), strict=True):
        one.add(sr, hr, other, np.ones((SHAPE[0] - 6, SHAPE[1] - 6)))
    flat = [np.array(one.scores(None)["clean_psnr"], float) for one in regions]
    np.testing.assert_allclose(*flat, atol=0.3)


def test_repeats_of_one_brightness_are_left_alone():
    """Chance in the means is no offset: bringing them together would make noise common."""
    for k in range(8):
        repeat = scan(40 + k)
        assert levelled(scan(k), repeat) is repeat


def test_no_ssim_where_the_error_is_not_positive():
    """SR is HR: too few pixels to see it, and nothing said of the clean image."""
    part = (slice(0, 64), slice(0, 64))
    hr, repeat = scan(1)[part], scan(2)[part]
    clean = Clean(255, Known(), 16)
    clean.add(hr, hr, repeat)
    found = clean.scores(1.0, seed=0)
    assert found["clean_psnr"] is None
    assert found["clean_ssim"] is None
    assert found["reason"]["clean_ssim"] == found["reason"]["clean_psnr"]


def test_memory_does_not_grow_with_slices(monkeypatch):
    def scores():
        clean = Clean(255, Known(), 32)
        for k in range(12):
            clean.add(SR, scan(k), scan(100 + k))
        return clean, clean.scores(0.5, seed=0)

    monkeypatch.setattr("emsr.quality.clean.MOST_KEPT", 4)
    few, found = scores()
    monkeypatch.undo()
    every, expected = scores()
    assert len(every.errors) == len(every.ssim_terms) == 12
    assert max(len(few.errors), len(few.ssim_terms)) <= 4
    assert found["clean_psnr"] == pytest.approx(expected["clean_psnr"], abs=1e-9)
    assert found["clean_ssim_interval"] == pytest.approx(expected["clean_ssim_interval"], abs=1e-3)


def test_regions_of_few_blocks_hold_the_truth_as_often_as_they_say():
    held = []
    for k in range(30):
        regions = Regions(255, Known(), 32)
        regions.add(SR, scan(k), scan(200 + k), np.ones((SHAPE[0] - 6, SHAPE[1] - 6)))
        error = regions.sums["clean"] / regions.sums["pixels"]
        true = block_sums((SR - TRUTH) ** 2, 32) / 32**2
        held.append(np.abs(error - true) < 1.96 * regions._size(0.0))
    assert 0.93 <= np.mean(held) <= 0.99


@given(height=st.integers(32, 3000), width=st.integers(32, 90_000))
def test_strips_hold_every_window_once(height, width):
    rows = [range(s.start, s.stop - 6) for s in strips((height, width))]
    assert [r for one in rows for r in one] == list(range(height - 6))
    assert all(len(r) >= 1 for r in rows)


def test_strips_give_nearly_what_the_whole_gives(monkeypatch):
    whole = estimate(SR, scan(1), scan(2))
    monkeypatch.setattr("emsr.quality.clean.STRIP_PIXELS", 9000)
    cut = estimate(SR, scan(1), scan(2))
    assert cut["clean_psnr"] == whole["clean_psnr"]
    assert cut["clean_ssim"] == pytest.approx(whole["clean_ssim"], abs=0.01)


def test_regions_are_scores_of_their_own():
    hr, repeat = scan(1), scan(2)
    regions = Regions(255, Known(law()), 64)
    from emsr.quality.fidelity import ssim_map

    regions.add(SR, hr, repeat, ssim_map(SR, hr, 255))
    found = regions.scores(None)
    assert [len(row) for row in found["psnr"]] == [3, 3]
    part = (slice(64, 128), slice(0, 64))
    assert found["psnr"][1][0] == pytest.approx(psnr(SR[part], hr[part], 255))
    assert found["clean_psnr"][1][0] == pytest.approx(psnr(SR[part], TRUTH[part], 255), abs=1.2)
    middle = ssim_map(SR, hr, 255)[61:125, 61:125]
    assert found["ssim"][1][1] == pytest.approx(middle.mean(), abs=1e-9)
    why = regions.scores("not independent")
    assert why["clean_psnr"] is None
    assert why["reason"]["clean_psnr"] == "not independent"
    with pytest.raises(InputError, match="multiple of 16"):
        Regions(255, Known(), 40)
