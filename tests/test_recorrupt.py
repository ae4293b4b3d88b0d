"""Two images from one: their noises have the stated moments and know nothing of one another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from emsr.microscope import stages
from emsr.pairs.noise import WHITE, colour_kernel
from emsr.pairs.recorrupt import recorrupt, thin

SIDE = 300
CLOSE = 5 / SIDE
"""Five standard errors of a mean of SIDE^2 numbers of variance 1."""


def gaussian_scan(clean: np.ndarray, sigma: float | np.ndarray, seed: int) -> np.ndarray:
    return clean + sigma * np.random.default_rng([seed, 1]).standard_normal(clean.shape)


def poisson_scan(electrons: float, gain: float, offset: float, read: float, seed: int):
    rng = np.random.default_rng([seed, 2])
    clean = np.full((SIDE, SIDE), gain * electrons + offset, np.float32)
    return stages.poisson_gaussian(clean, gain, offset, read, rng), clean


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean(a * b) / np.sqrt(np.mean(a * a) * np.mean(b * b)))


def dependence(a: np.ndarray, b: np.ndarray) -> float:
    """p-value of independence of two samples, cut into fifths."""
    fifths = [np.searchsorted(np.quantile(v, [0.2, 0.4, 0.6, 0.8]), v.ravel()) for v in (a, b)]
    table = np.zeros((5, 5))
    np.add.at(table, tuple(fifths), 1)
    filled = table[:, table.sum(axis=0) > 0][table.sum(axis=1) > 0]  # counts have ties
    return float(chi2_contingency(filled).pvalue)


@given(sigma=st.floats(0.1, 900), alpha=st.floats(0.2, 3), seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_recorrupted_gaussian_noise_is_independent(sigma: float, alpha: float, seed: int) -> None:
    clean = np.linspace(0, 50 * sigma, SIDE * SIDE).reshape(SIDE, SIDE)
    made = recorrupt(gaussian_scan(clean, sigma, seed), sigma, alpha, np.random.default_rng(seed))
    errors = [image - clean for image in made]
    widths = sigma * np.sqrt(1 + alpha**2), sigma * np.sqrt(1 + alpha**-2)
    for error, width in zip(errors, widths, strict=True):
        assert abs(error.mean()) < CLOSE * width
        assert error.std() == pytest.approx(width, rel=CLOSE)
    assert abs(correlation(*errors)) < CLOSE
    assert abs(correlation(errors[0] ** 2 - widths[0] ** 2, errors[1])) < CLOSE
    assert dependence(*errors) > 1e-7


def test_more_noise_than_there_is_would_be_noticed() -> None:
    clean = np.zeros((SIDE, SIDE))
    made = recorrupt(gaussian_scan(clean, 10.0, 0), 12.0, 0.7, np.random.default_rng(0))
    assert correlation(*made) < -2 * CLOSE
    assert dependence(*made) < 1e-7


def test_a_level_of_noise_for_each_pixel() -> None:
    clean = np.zeros((SIDE, SIDE))
    sigma = np.repeat(np.linspace(1, 9, SIDE)[:, None], SIDE, axis=1)
    made = recorrupt(gaussian_scan(clean, sigma, 3), sigma, 0.7, np.random.default_rng(3))
    for rows in (slice(0, 100), slice(200, 300)):
        a, b = (image[rows] / sigma[rows] for image in made)
        assert a.std() == pytest.approx(np.sqrt(1.49), rel=2 * CLOSE)
        assert abs(correlation(a, b)) < 2 * CLOSE


def test_nothing_is_rounded_or_clipped() -> None:
    scan = np.full((64, 64), 255, np.uint8)
    for made in (
        recorrupt(scan, 4.0, 0.7, np.random.default_rng(0)),
        thin(scan, 1.7, 0.0, 0.4, np.random.default_rng(0)),
    ):
        for image in made:
            assert image.dtype == np.float32
            assert image.max() > 255 > image.min() and np.any(image != np.rint(image))


@pytest.mark.parametrize("r", [(0.4, 0.2), (-0.3, 0.0), (0.0, 0.65)])
def test_coloured_noise_has_the_correlation_asked_for(r: tuple[float, float]) -> None:
    kernel = colour_kernel(r)
    assert np.sum(kernel**2) == pytest.approx(1, abs=1e-5)
    made = recorrupt(np.zeros((SIDE, SIDE)), 2.0, 1.0, np.random.default_rng(0), kernel)[0]
    assert made.std() == pytest.approx(2, rel=2 * CLOSE)
    assert made[0].std() == pytest.approx(2, rel=0.15)  # the edge is like the middle
    assert correlation(made[1:], made[:-1]) == pytest.approx(r[0], abs=2 * CLOSE)
    assert correlation(made[:, 1:], made[:, :-1]) == pytest.approx(r[1], abs=2 * CLOSE)


def test_coloured_noise_needs_coloured_recorruption() -> None:
    kernel = colour_kernel((0.4, 0.4))
    rng = np.random.default_rng(1)
    scan = 5 * stages.blur(rng.standard_normal((SIDE, SIDE), dtype=np.float32), kernel)
    by_colour = {}
    for name, colour in (("white", WHITE), ("its own", kernel)):
        a, b = recorrupt(scan, 5.0, 0.7, np.random.default_rng(2), colour)
        by_colour[name] = correlation(a[:, 1:], b[:, :-1])
    assert by_colour["white"] > 0.1
    assert abs(by_colour["its own"]) < CLOSE


@given(
    electrons=st.floats(0.5, 900),
    gain=st.floats(0.05, 50),
    sign=st.sampled_from([-1, 1]),
    share=st.floats(0.2, 0.8),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=25, deadline=None)
def test_thinned_counts_are_independent(
    electrons: float, gain: float, sign: int, share: float, seed: int
) -> None:
    gain, offset = sign * gain, 300.0
    scan, clean = poisson_scan(electrons, gain, offset, 0.0, seed)
    errors = [
        (image - clean) / gain
        for image in thin(scan, gain, offset, share, np.random.default_rng(seed))
    ]
    for error, part in zip(errors, (share, 1 - share), strict=True):
        width = np.sqrt(electrons / part)
        assert abs(error.mean()) < CLOSE * width
        assert error.var() == pytest.approx(width**2, rel=0.08)
    assert abs(correlation(*errors)) < 1.5 * CLOSE
    assert dependence(*errors) > 1e-7


def test_recorrupted_counts_are_uncorrelated_but_not_independent() -> None:
    """At 3 electrons the target's error is biased, given the input; thinning has no such bias."""
    scan, clean = poisson_scan(3.0, 1.0, 0.0, 0.0, 7)
    biases = {}
    for name, made in (
        ("recorrupt", recorrupt(scan, np.sqrt(3.0), 0.7, np.random.default_rng(7))),
        ("thin", thin(scan, 1.0, 0.0, 0.5, np.random.default_rng(7))),
    ):
        given_, target = (image - clean for image in made)
        assert abs(correlation(given_, target)) < CLOSE
        biases[name] = float(np.mean(target[given_ > np.quantile(given_, 0.9)]))
    scatter = np.sqrt(3 * 3) / np.sqrt(0.1 * SIDE**2)
    assert abs(biases["recorrupt"]) > 8 * scatter
    assert abs(biases["thin"]) < 5 * scatter


def test_read_noise_is_what_thinning_shares() -> None:
    read, gain = 4.0, 0.5
    scan, clean = poisson_scan(400.0, gain, 10.0, read * gain, 5)
    a, b = (image - clean for image in thin(scan, gain, 10.0, 0.5, np.random.default_rng(5)))
    expected = (read * gain) ** 2 + gain**2 / 12  # rounding to whole electrons
    assert np.mean(a * b) == pytest.approx(expected, abs=float(CLOSE * np.std(a) * np.std(b)))


def test_equal_seeds_give_equal_images() -> None:
    scan, _ = poisson_scan(50.0, 1.0, 0.0, 1.0, 1)
    for split in (
        lambda rng: recorrupt(scan, 7.0, 0.7, rng),
        lambda rng: thin(scan, 1.0, 0.0, 0.5, rng),
    ):
        one, again, other = (split(np.random.default_rng(seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, again)
        assert not np.array_equal(one, other)


def test_impossible_settings() -> None:
    scan, rng = np.zeros((4, 4)), np.random.default_rng(0)
    with pytest.raises(ValueError, match="alpha is 0"):
        recorrupt(scan, 1.0, 0, rng)
    with pytest.raises(ValueError, match="share is 1"):
        thin(scan, 1.0, 0.0, 1, rng)
    with pytest.raises(ValueError, match="gain is 0"):
        thin(scan, 0.0, 0.0, 0.5, rng)
