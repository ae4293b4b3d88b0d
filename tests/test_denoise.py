"""The denoisers on stacks whose truth and noise are known, and the watch on what they remove."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from emsr.errors import InputError
from emsr.microscope.estimate import Noise
from emsr.microscope.presets import PRESETS, SUPERSAMPLING, hr_scan
from emsr.microscope.scan import acquire, expected
from emsr.microscope.tissue import tissue
from emsr.pairs import denoise_learned
from emsr.pairs.denoise import Noisy, denoise, doubts
from emsr.pairs.denoise_blind import Asked, blind, masked_patches, with_the_pixel
from emsr.pairs.denoise_learned import apply, network
from emsr.pairs.denoise_nlm import nlm, stabiliser
from emsr.pairs.denoise_residual import complaints, picture, removed
from emsr.pairs.denoise_slices import adjacent, adjacent_patches, change_of_tissue, slices
from emsr.pairs.made_from import noise_of
from emsr.volumes.intensity import Intensity

SIGMA = 10.0
EVEN = Noise(SIGMA, None, None, None, "stated")
STEPS = 120


def blobs(depth: int = 2, side: int = 96, seed: int = 0) -> np.ndarray:
    """(z, y, x) float32, standard deviation about 40 grey levels, the same tissue in each slice."""
    texture = np.random.default_rng(seed).standard_normal((side, side))
    one = 120 + 40 * np.sign(gaussian_filter(texture, 4)) + 0 * texture
    return np.repeat(gaussian_filter(one, 0.7)[None], depth, 0).astype(np.float32)


def noisy(clean: np.ndarray, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(clean.shape)
    return (clean + SIGMA * noise).astype(np.float32)


def left(denoised: np.ndarray, clean: np.ndarray) -> float:
    """Variance of the error, as a share of that of the noise."""
    return float(np.mean((denoised - clean) ** 2)) / SIGMA**2


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network and patches for seconds of training."""
    monkeypatch.setattr(denoise_learned, "OPTIONS", {"features": 12, "blocks": 2})
    monkeypatch.setattr(denoise_learned, "PATCH_PX", 32)


@pytest.fixture(scope="module", params=["white-matter", "neuropil"])
def phantom(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray, Noise]:
    """HR scan, its truth, both (1, y, x), and the noise that was estimated."""
    preset, side = PRESETS[request.param], 288
    z, y, x = preset.spacing_nm
    fine = (1, side * SUPERSAMPLING, side * SUPERSAMPLING)
    stain = tissue(request.param, fine, (z, y / SUPERSAMPLING, x / SUPERSAMPLING), 3).render(0, 1)
    scan = acquire(stain[0], hr_scan(preset), np.random.default_rng(0))[None]
    truth = expected(stain[0], hr_scan(preset))[None]
    return scan.astype(np.float32), truth, noise_of(scan, request.param)


# --- non-local means ----------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(slope=st.floats(-0.6, 0.6), least=st.floats(20, 60), grey=st.floats(30, 220))
def test_stabilised_noise_is_even_and_its_mean_comes_back(
    slope: float, least: float, grey: float
) -> None:
    intercept = least - min(0.0, slope * 255)
    noise = Noise(float(np.sqrt(intercept + slope * 128)), slope, intercept, None, "")
    even = stabiliser(noise, 0, 255)
    sigma = np.sqrt(noise.variance(grey))
    seen = even.forward(grey + sigma * np.random.default_rng(0).standard_normal(40_000))
    assert np.std(seen) == pytest.approx(1, abs=0.04)
    assert even.inverse(np.array(seen.mean(dtype=np.float64))) == pytest.approx(grey, abs=0.3)


def test_a_line_of_the_noise_that_runs_through_zero_is_borne() -> None:
    even = stabiliser(Noise(5.0, -0.4, 50.0, None, ""), 0, 255)
    assert (np.diff(even.stable) > 0).all() and (np.diff(even.seen) > 0).all()
    grey = np.linspace(0, 255, 50)
    np.testing.assert_allclose(even.inverse(even.forward(grey)), grey, atol=1)


def test_nlm_cleans_a_phantom_and_moves_with_its_greys(
    phantom: tuple[np.ndarray, np.ndarray, Noise],
) -> None:
    scan, truth, noise = phantom
    clean = nlm(scan, noise)
    assert clean.dtype == np.float32 and clean.shape == scan.shape
    assert np.mean((clean - truth) ** 2) < 0.4 * np.mean((scan - truth) ** 2)
    assert np.mean(clean - truth) == pytest.approx(0, abs=0.5)


def test_nothing_is_clipped_or_rounded() -> None:
    stack = noisy(blobs(1)) - 120
    clean = nlm(stack, EVEN)
    assert clean.min() < -10 and np.any(clean != np.rint(clean))
    np.testing.assert_allclose(nlm(stack + 1000, EVEN), clean + 1000, atol=0.05)


# --- the blind-spot network ---------------------------------------------------------------------


def test_a_hidden_pixel_is_not_in_the_input_and_alone_in_the_target() -> None:
    unit = 1 + np.arange(2 * 96 * 96, dtype=np.float32).reshape(2, 96, 96)
    seen, target = masked_patches(unit, 0)(3)
    image, mask = seen[:, :1], seen[:, 1:]
    assert 0.05 < mask.mean() < 0.1 and set(np.unique(mask)) == {0, 1}
    hidden = mask == 1
    assert (target[~hidden] == 0).all() and (image[hidden] != target[hidden]).all()
    for one, asked in zip(image, target, strict=True):
        assert not np.isin(one, asked[asked > 0]).all()
    again, other = masked_patches(unit, 0)(3), masked_patches(unit, 0)(4)
    np.testing.assert_array_equal(seen, again[0])
    assert (seen != other[0]).any()


def test_what_is_not_asked_for_does_not_count() -> None:
    import torch

    mask = torch.zeros(1, 1, 8, 8)
    mask[0, 0, 2, 3] = 1
    out = Asked(torch.nn.Identity())(torch.cat([torch.full((1, 1, 8, 8), 5.0), mask], 1))
    assert out[0, 0, 2, 3] == 5 and out.sum() == 5


def test_the_pixel_is_brought_in_by_its_variance() -> None:
    rng = np.random.default_rng(0)
    truth = 100 + np.zeros((1, 300, 300))
    estimate, scan = (truth + s * rng.standard_normal(truth.shape) for s in (6.0, SIGMA))
    error = np.var(with_the_pixel(estimate, scan, EVEN) - truth)
    assert error == pytest.approx(36 * 100 / 136, rel=0.03)
    np.testing.assert_allclose(with_the_pixel(truth, truth, EVEN), truth, atol=1e-4)


def test_the_pixels_own_noise_does_not_pass_through_the_input_skip() -> None:
    flat = np.full((2, 96, 96), 100, np.float32)
    assert left(blind(noisy(flat), EVEN, STEPS, 0), flat) < 0.05


def test_blind_cleans_and_is_decided_by_its_seed() -> None:
    clean = blobs()
    scan = noisy(clean)
    done = blind(scan, EVEN, STEPS, 0)
    assert done.dtype == np.float32 and left(done, clean) < 0.35
    short = [blind(scan[:1], EVEN, 8, seed).tobytes() for seed in (0, 0, 1)]
    assert short[0] == short[1] != short[2]


def test_strips_are_the_whole_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    trained, plane = network(0), noisy(blobs(1))[0] / 255
    for weight in trained.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    whole = apply(trained, plane)
    monkeypatch.setattr(denoise_learned, "STRIP_PX", 17 * plane.shape[1])
    np.testing.assert_allclose(apply(trained, plane), whole, atol=1e-4 * np.abs(whole).max())


def test_fields_smaller_than_a_patch() -> None:
    assert blind(noisy(blobs(1, 40)), EVEN, 2, 0).shape == (1, 40, 40)


# --- Noise2Noise between slices -----------------------------------------------------------------


def test_slices_learn_from_their_neighbours() -> None:
    clean = blobs(3)
    assert left(slices(noisy(clean), range(3), STEPS, 0), clean) < 0.25


def test_only_slices_one_apart_are_adjacent() -> None:
    assert adjacent([3, 4, 7, 8]).tolist() == [[0, 1], [1, 0], [2, 3], [3, 2]]
    for positions in ([5], [1, 3, 5]):
        with pytest.raises(InputError, match=f"of the {len(positions)} .*--denoiser nlm"):
            slices(noisy(blobs(len(positions), 64)), positions, 1, 0)
    unit = np.broadcast_to(np.arange(4, dtype=np.float32)[:, None, None], (4, 64, 64))
    draws = [adjacent_patches(unit, adjacent([3, 4, 7, 8]), 0)(step) for step in range(10)]
    met = {(int(a[0, 0, 0]), int(b[0, 0, 0])) for x, y in draws for a, b in zip(x, y, strict=True)}
    assert met == {(0, 1), (1, 0), (2, 3), (3, 2)}


def test_tissue_that_changes_is_measured_and_doubted() -> None:
    still, rng = blobs(4, 192), np.random.default_rng(5)
    moving = still + 14 * rng.standard_normal(still.shape).astype(np.float32)
    asked = [
        Noisy(noisy(tissue), range(4), noisy(tissue), EVEN, 1, 0) for tissue in (still, moving)
    ]
    assert change_of_tissue(asked[0].stack, range(4), SIGMA) < 2
    assert change_of_tissue(asked[1].stack, range(4), SIGMA) == pytest.approx(14, rel=0.05)
    assert doubts("slices", asked[0]) == ()
    assert "differs by 1" in doubts("slices", asked[1])[0]
    assert doubts("nlm", asked[1]) == ()


def test_correlated_noise_is_doubted_by_the_blind_one() -> None:
    for shared, said in ((0.1, 0), (0.3, 1)):
        noise = Noise(SIGMA, None, None, (0.0, shared), "")
        asked = Noisy(blobs(), range(2), blobs(), noise, 1, 0)
        assert len(doubts("blind", asked)) == said and doubts("nlm", asked) == ()


def test_noise_that_slices_share_is_doubted() -> None:
    rng, clean = np.random.default_rng(0), blobs(6, 192)
    own, shared = (SIGMA * rng.standard_normal((n, *clean.shape[1:])) for n in (6, 1))
    scan = (clean + np.sqrt(0.5) * (own + shared)).astype(np.float32)
    said = doubts("slices", Noisy(scan, range(6), scan, EVEN, 1, 0))
    assert len(said) == 1 and "noise of adjacent slices correlates by 0." in said[0]


# --- what was removed ---------------------------------------------------------------------------


def test_removing_the_noise_and_nothing_else_is_not_complained_of(
    phantom: tuple[np.ndarray, np.ndarray, Noise],
) -> None:
    scan, truth, noise = phantom
    found = removed(scan, truth, noise)
    assert found.ratio == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(found.autocorrelation, 0, atol=0.02)
    assert found.edge_excess == pytest.approx(1, abs=0.06)
    assert found.grey_correlation == pytest.approx(0, abs=0.02)
    assert complaints(found, noise) == ()


def test_nlm_passes_and_too_strong_a_one_and_a_blur_are_caught(
    phantom: tuple[np.ndarray, np.ndarray, Noise],
) -> None:
    scan, _, noise = phantom
    assert complaints(removed(scan, nlm(scan, noise), noise), noise) == ()
    blurred = complaints(removed(scan, gaussian_filter(scan, (0, 2, 2)), noise), noise)
    assert len(blurred) == 3 and "edges went" in blurred[2]
    assert len(complaints(removed(scan, nlm(scan, noise, 2.5), noise), noise)) >= 2


def test_noise_that_stays_is_complained_of_and_nothing_removed_is_borne() -> None:
    scan = noisy(blobs())
    for kept in (1.0, 0.7):
        done = kept * scan + (1 - kept) * blobs()
        said = complaints(removed(scan, done, EVEN), EVEN)
        assert len(said) == 1 and "keep much of their noise" in said[0]


def test_correlation_that_the_noise_has_itself_is_not_held_against_the_denoiser() -> None:
    white = np.random.default_rng(0).standard_normal((2, 128, 128))
    noise = SIGMA * gaussian_filter(white, (0, 0, 0.6)) / 0.77
    found = removed(blobs(side=128) + noise, blobs(side=128), EVEN)
    assert found.autocorrelation[1] > 0.3
    known = Noise(found.sigma, None, None, (0.0, found.autocorrelation[1]), "")
    assert any("neighbouring pixels" in line for line in complaints(found, EVEN))
    assert complaints(found, known) == ()


def test_the_picture_shows_what_was_removed_around_middle_grey() -> None:
    scan, clean = noisy(blobs(1, 600))[0], blobs(1, 600)[0]
    shown = picture(scan, clean, Intensity(0, 255), EVEN)
    assert shown.shape == (512, 3 * 512) and shown.dtype == np.uint8
    np.testing.assert_allclose(shown[:, :512], np.rint(clean[44:556, 44:556]), atol=1)
    residual = shown[:, 1024:].astype(float)
    assert residual.mean() == pytest.approx(127.5, abs=1)
    assert residual.std() == pytest.approx(255 / 8, rel=0.03)


@pytest.mark.real_data
def test_a_real_scan_comes_nearer_to_a_slower_one(real_data: Path) -> None:
    folder = real_data / "sem-brain-fast-slow"
    fast, slow = (tifffile.imread(folder / f"{name}.tif")[None] for name in ("fast", "slow"))
    noise = noise_of(fast, "fast.tif")
    part = (slice(None), slice(0, 384), slice(0, 384))
    asked = Noisy(fast[part].astype(np.float32), range(1), fast, noise, 1, 0)
    clean = denoise("nlm", asked)
    before, after = (np.std(image - slow[part].astype(np.float32)) for image in (fast[part], clean))
    assert after < 0.9 * before
