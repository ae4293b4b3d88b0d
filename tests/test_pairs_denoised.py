"""The strategy ``denoised`` on small scans whose relation is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_pairs_strategies import made_pair, real, request, scan, specimen, with_values

from emsr.errors import InputError
from emsr.geometry.box import whole
from emsr.microscope.stages import sample_area
from emsr.pairs import denoise_learned
from emsr.pairs.denoised import denoised
from emsr.pairs.scans import Prepared
from emsr.pairs.store import open_pairs, write_pairs
from emsr.recipe import Denoising
from emsr.volumes.volume import StoredVolume, array_volume

HR_SIGMA = 6.0
"""Of ``made_pair``."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network for seconds of training."""
    monkeypatch.setattr(denoise_learned, "OPTIONS", {"features": 8, "blocks": 1})


def made(
    lr: StoredVolume, hr: StoredVolume, method: str = "nlm", steps: int = 4, **wishes: Any
) -> Prepared:
    return denoised(request(hr, lr, denoising=Denoising(method, steps), **wishes))  # type: ignore[arg-type]


def truth() -> np.ndarray:
    """What the HR scan of ``made_pair`` shows without noise."""
    return specimen(2, 220, 210)[:, 10:202]


def test_targets_are_cleaner_and_all_else_is_that_of_real() -> None:
    lr, hr = made_pair()
    prepared, same = made(lr, hr), real(lr, hr)
    facts, seen = prepared.facts, hr.read(whole(hr.shape)).astype(np.float32)
    pairs = list(prepared.slices)
    targets = np.stack([target for target, _ in pairs])
    assert targets.dtype == prepared.hr_array_dtype == np.float32
    assert np.std(targets - truth()) < 0.75 * HR_SIGMA < np.std(seen - truth())
    for (_, (lr_plane,)), (_, (expected,)) in zip(pairs, same.slices, strict=True):
        np.testing.assert_array_equal(lr_plane, expected)
    assert (facts.strategy, facts.hr_dtype) == ("denoised", "uint16")
    assert (facts.lr_window, facts.hr_window) == (same.facts.lr_window, same.facts.hr_window)
    assert facts.noise_correlation == same.facts.noise_correlation
    assert facts.measured["residual_px_rms"] == same.facts.measured["residual_px_rms"]
    assert facts.recipe == {"denoising": {"method": "nlm", "steps": 4}}
    assert "no longer noise of mean zero" in facts.assumption


def test_what_was_removed_is_measured_and_shown() -> None:
    prepared = made(*made_pair())
    measured = prepared.facts.measured
    assert measured["hr_noise_sigma"] == pytest.approx(HR_SIGMA, rel=0.1)
    assert 0.6 < measured["removed"]["ratio"] < 1.1
    assert measured["removed"]["sigma"] == pytest.approx(
        measured["removed"]["ratio"] * measured["hr_noise_sigma"]
    )
    assert len(measured["removed"]["autocorrelation"]) == 2
    assert prepared.facts.warnings == ()
    assert prepared.pictures["removed"].shape == (192, 3 * 210)
    assert prepared.pictures["removed"].dtype == np.uint8


def test_pairs_can_be_stored_and_opened_again(tmp_path: Path) -> None:
    prepared = made(*made_pair())
    targets = np.stack([target for target, _ in made(*made_pair()).slices])
    write_pairs(
        tmp_path / "pairs.zarr",
        prepared.facts,
        prepared.slices,
        prepared.lr_shape,
        prepared.lr_dtype,
        prepared.hr_shape,
        prepared.hr_array_dtype,
    )
    pairs = open_pairs(tmp_path / "pairs.zarr")
    np.testing.assert_array_equal(pairs.hr[:], targets)
    assert pairs.hr.dtype == np.float32 and pairs.strategy == "denoised"
    assert pairs.measured["removed"] == prepared.facts.measured["removed"]


def test_what_speaks_against_the_targets_is_warned_of() -> None:
    """The slices of ``made_pair`` have nothing in common, and noise of 6 grey levels, not 40."""
    (warned, *_) = made(*made_pair(), method="slices").facts.warnings
    assert "tissue of adjacent slices differs" in warned
    facts = made(*made_pair(), noise_sigma=40.0).facts
    assert facts.measured["hr_noise_sigma"] == 40
    assert facts.measured["hr_noise_method"] == "stated"
    assert any("keep much of their noise" in line for line in facts.warnings)


def test_slices_that_are_left_out_are_no_neighbours() -> None:
    lr, hr = made_pair(depth=3)
    gap = with_values(hr, 1, 5.0, "u2")
    with pytest.raises(InputError, match=r"of the 2 that are paired.*--denoiser nlm"):
        made(lr, gap, method="slices")
    prepared = made(lr, gap)
    assert prepared.facts.hr_z == (0, 2) and prepared.refused == 1
    assert len(list(prepared.slices)) == 2


def test_a_single_slice_has_no_neighbour() -> None:
    with pytest.raises(InputError, match="adjacent"):
        made(*made_pair(depth=1), method="slices")
    assert made(*made_pair(depth=1), method="blind").hr_shape == (1, 192, 210)


def test_equal_input_and_seed_give_equal_targets() -> None:
    runs = [
        np.stack([target for target, _ in made(*made_pair(), method="blind", seed=seed).slices])
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


def pair_of(hr: np.ndarray) -> tuple[StoredVolume, StoredVolume]:
    """An LR scan of what ``hr`` (z, y, x) shows, and ``hr``."""
    lr = scan(sample_area(hr, 3), 5, 0)
    return array_volume(lr, None, "lr.tif"), array_volume(hr, None, "hr.tif")


def test_noise_that_cannot_be_told_is_asked_for() -> None:
    clipped = np.where(specimen() > 120, 255, 0).astype(np.uint8)
    with pytest.raises(InputError, match=r"hr\.tif: noise cannot be told.*with --noise"):
        made(*pair_of(clipped))
    for method in ("nlm", "slices"):
        stated = made(*pair_of(clipped), method, noise_sigma=3.0).facts
        assert stated.measured["hr_noise_sigma"] == 3


def test_a_scan_without_noise_has_nothing_to_remove() -> None:
    squares = np.random.default_rng(0).integers(50, 200, (2, 3, 3), np.uint8)
    with pytest.raises(InputError, match=r"hr\.tif.*leaves nothing to remove.*strategy real"):
        made(*pair_of(squares.repeat(64, axis=1).repeat(64, axis=2)))


def test_what_is_missing_is_said() -> None:
    lr, hr = made_pair()
    with pytest.raises(InputError, match="give the LR scan with --lr"):
        denoised(request(hr))
    with pytest.raises(InputError, match=r"leaves nothing to remove.*strategy real"):
        made(lr, hr, noise_sigma=0.0)
    other = array_volume(scan(specimen(seed=9), 6, 1), hr.spacing_nm, "other.tif")
    with pytest.raises(InputError, match="same field in none"):
        made(lr, other)
