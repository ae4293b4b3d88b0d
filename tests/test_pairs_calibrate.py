"""A microscope fitted to an LR scan, against the one that made it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pairs_split import PRESET, SCALE, arrays, correlation, phantom, request, volume

from emsr.errors import InputError
from emsr.geometry.tiles import coarser_spacing
from emsr.microscope import stages
from emsr.microscope.estimate import Blur, Noise
from emsr.microscope.presets import lr_scan
from emsr.pairs.made_fit import Calibration
from emsr.pairs.made_levels import Level, left_behind, realised
from emsr.pairs.made_lr import Drawn, Microscope
from emsr.pairs.noise import inheritance
from emsr.pairs.split import split
from emsr.pairs.store import open_pairs, write_pairs
from emsr.pairs.synthetic import synthetic
from emsr.recipe import Degradation, Splitting
from emsr.volumes.intensity import Intensity
from emsr.volumes.volume import StoredVolume, array_volume

BLUR_PX = SCALE * PRESET.lr_psf_px, PRESET.hr_psf_px
TRUE_BLUR_PX = float(np.sqrt(BLUR_PX[0] ** 2 - BLUR_PX[1] ** 2))


def lr_volume(planes: np.ndarray, name: str = "lr.tif") -> StoredVolume:
    return array_volume(planes, coarser_spacing(PRESET.spacing_nm, SCALE), name)


def lr_noise() -> float:
    """Of the phantom's LR scan at its mean grey level."""
    scan = lr_scan(PRESET, SCALE)
    mean = phantom().truth.mean()
    return float(np.sqrt(scan.gain * (mean - scan.offset) + scan.read_noise**2 + 1 / 12))


@pytest.mark.parametrize("made", [synthetic, split])
def test_a_paired_fit_finds_the_microscope(made: Any) -> None:
    scans = phantom()
    prepared = made(request(volume(scans.hr), calibrate=lr_volume(scans.lr)))
    facts, fit = prepared.facts, prepared.facts.measured["calibration"]
    assert fit["paired"] and fit["blur"]["sigma_px"] == pytest.approx(TRUE_BLUR_PX, rel=0.1)
    assert fit["blur"]["gain"] == pytest.approx(1, abs=0.02)
    assert fit["lr_noise"]["sigma"] == pytest.approx(lr_noise(), rel=0.05)
    assert fit["lr_noise"]["slope"] == pytest.approx(lr_scan(PRESET, SCALE).gain, rel=0.15)
    assert fit["residual"]["rms"] == pytest.approx(fit["residual"]["expected"], rel=0.2)
    mismatch = fit["spectrum_mismatch_db"]
    assert mismatch["after"] < 0.6 < 2 < mismatch["before"]
    assert "paired" in prepared.remarks[-1] and "0.1" in f"{fit['drawn_within']}"
    assert prepared.pictures["calibration"].dtype == np.uint8
    assert [one["role"] for one in facts.provenance] == ["hr", "calibrate"]
    for drawn in facts.measured["drawn"]:
        for width in ("a", "b"):
            fitted = fit["blur"][f"sigma_{width}_px"]
            assert abs(drawn[f"blur_{width}_px"] / fitted - 1) <= 0.1 + 1e-6


@pytest.mark.parametrize("made", [synthetic, split])
def test_lr_made_from_hr_has_the_greys_and_the_noise_of_the_real_one(made: Any) -> None:
    scans = phantom()
    real = np.clip(np.rint(0.7 * scans.lr.astype(np.float32) + 30), 0, 255).astype(np.uint8)
    prepared = made(request(volume(scans.hr), calibrate=lr_volume(real)))
    prepared = replace(prepared, slices=list(prepared.slices))
    lr, _ = arrays(prepared)
    assert lr.mean() == pytest.approx(real.mean(), abs=1)
    assert lr.std() == pytest.approx(real.std(), rel=0.03)
    facts = prepared.facts
    # A real LR scan seen through lr_window lies on the target seen through hr_window.
    means = stages.sample_area(scans.truth, SCALE)
    unit = facts.lr_window.to_unit(real), facts.hr_window.to_unit(means)
    slope, shift = np.polyfit(unit[1].ravel(), unit[0].ravel(), 1)
    assert slope == pytest.approx(1, abs=0.05) and abs(shift + (slope - 1) / 2) < 0.02
    fit = facts.measured["calibration"]["blur"]
    assert fit["gain"] == pytest.approx(0.7, rel=0.03) and fit["offset"] == pytest.approx(30, abs=4)
    noise = _lr_noise(prepared, scans.truth)
    assert noise.std() == pytest.approx(0.7 * lr_noise(), rel=0.06)
    bright = means[np.array(facts.hr_z)].repeat(len(lr) // len(facts.hr_z), 0) > means.mean()
    assert noise[~bright].std() > 1.15 * noise[bright].std()  # dark stain, more electrons


def _lr_noise(prepared: Any, truth: np.ndarray) -> np.ndarray:
    """What LR holds beside the truth, seen as it was made."""
    facts = prepared.facts
    fit = facts.measured["calibration"]["blur"]
    seen = Microscope(SCALE, "area", fit["gain"], fit["offset"], facts.lr_window, None)
    lr, _ = arrays(prepared)
    owner = [z for z in facts.hr_z for _ in range(len(lr) // len(facts.hr_z))]
    drawn = facts.measured["drawn"]
    return lr - np.stack(
        [seen.noise_free(truth[z], Drawn(**d)) for z, d in zip(owner, drawn, strict=True)]
    )


def test_calibrated_splits_share_no_noise_either() -> None:
    scans = phantom()
    for method in ("recorrupt", "thin"):
        made = request(
            volume(scans.hr), calibrate=lr_volume(scans.lr), splitting=Splitting(method=method)
        )
        prepared = split(made)
        prepared = replace(prepared, slices=list(prepared.slices))
        lr, target = arrays(prepared)
        z = np.array(prepared.facts.hr_z)
        left = stages.sample_area(target - scans.truth[z], SCALE)
        noise = _lr_noise(prepared, scans.truth)
        assert abs(correlation(noise, left)) < 4 / np.sqrt(lr.size) + 0.01


def test_another_field_is_fitted_by_its_spectrum() -> None:
    scans, elsewhere = phantom(), phantom(1, 4)
    larger = np.concatenate([elsewhere.lr, elsewhere.lr[:, ::-1]], axis=2)  # same tissue, wider
    prepared = synthetic(request(volume(scans.hr), calibrate=lr_volume(larger)))
    fit = prepared.facts.measured["calibration"]
    assert not fit["paired"] and fit["drawn_within"] == 0.3 and fit["residual"] is None
    assert "another shape" in prepared.remarks[-1]
    assert fit["spectrum_mismatch_db"]["after"] < fit["spectrum_mismatch_db"]["before"]
    assert fit["lr_noise"]["sigma"] == pytest.approx(lr_noise(), rel=0.15)
    assert fit["blur"]["gain"] == 1 and fit["blur"]["offset"] == 0  # fields differ by more
    assert fit["blur"]["sigma_px"] == pytest.approx(TRUE_BLUR_PX, rel=fit["drawn_within"])
    moved = np.roll(scans.lr, 5, axis=1)
    remarks = synthetic(request(volume(scans.hr), calibrate=lr_volume(moved))).remarks
    assert any("unpaired" in line for line in remarks)


@pytest.mark.parametrize(("contrast", "is_equal"), [(1 / 1.35, True), (0.35, False)])
def test_fields_that_differ_as_fields_do_keep_equal_greys(contrast: float, is_equal: bool) -> None:
    """One SBEM volume holds fields whose contrast differs 1.35 times; a gain fitted to that takes
    the place of the blur."""
    scans, elsewhere = phantom(), phantom(1, 4)
    lr = elsewhere.lr.astype(np.float32)
    lr = (lr - lr.mean()) * contrast + scans.hr.mean() + 10
    wider = np.concatenate([lr, lr[:, ::-1]], axis=2)
    prepared = synthetic(request(volume(scans.hr), calibrate=lr_volume(wider)))
    blur = prepared.facts.measured["calibration"]["blur"]
    assert (blur["gain"] == 1 and blur["offset"] == 0) is is_equal


def test_an_lr_scan_that_is_too_quiet_is_warned_of() -> None:
    truth = phantom().truth
    seen = stages.sample_area(stages.blur(truth, stages.gaussian_kernel(1.0, 1.0, 0)), SCALE)
    quiet = stages.gaussian_noise(seen, 0.8, np.random.default_rng(0))
    for made in (synthetic, split):
        facts = made(request(volume(phantom().hr), calibrate=lr_volume(quiet))).facts
        assert any("less noisy" in line for line in facts.warnings)
        assert all(one["noise"] == 0 == one["noise_gain"] for one in facts.measured["drawn"])


def test_scans_that_cannot_calibrate() -> None:
    scans = phantom()
    hr = volume(scans.hr)
    with pytest.raises(InputError, match=r"lr\.tif shows HR inverted"):
        synthetic(request(hr, calibrate=lr_volume(255 - scans.lr)))
    with pytest.raises(InputError, match=r"lr\.tif: every slice is constant"):
        synthetic(request(hr, calibrate=lr_volume(np.full_like(scans.lr, 9))))
    with pytest.raises(InputError, match="give the --scale between"):
        synthetic(request(hr, calibrate=array_volume(scans.lr, (50.0, 30.0, 30.0), "lr.tif")))
    with pytest.raises(InputError, match="holds 1 value"):
        broken = scans.lr.astype(np.float32)
        broken[1, 3, 3] = np.nan
        synthetic(request(hr, calibrate=lr_volume(broken)))
    with pytest.raises(InputError, match="50 x 96 pixels"):
        synthetic(request(hr, calibrate=lr_volume(scans.lr[:, :50])))


def test_what_was_fitted_is_stored_with_the_pairs(tmp_path: Path) -> None:
    scans = phantom()
    by_point = Degradation(variants=1, sampling="point")
    made = synthetic(request(volume(scans.hr), calibrate=lr_volume(scans.lr), degradation=by_point))
    shapes = made.lr_shape, made.lr_dtype, made.hr_shape, made.hr_array_dtype
    write_pairs(tmp_path / "p.zarr", made.facts, made.slices, *shapes)
    pairs = open_pairs(tmp_path / "p.zarr")
    assert pairs.measured["calibration"] == json.loads(
        json.dumps(made.facts.measured["calibration"])
    )
    assert pairs.lr_window == made.facts.lr_window
    assert "sampling by area, as the fit takes it, not by point" in made.remarks[-1]


def test_repeat_and_calibration_go_together() -> None:
    scans = phantom()
    again = np.clip(np.rint(0.5 * scans.repeat.astype(np.float32) + 10), 0, 255).astype(np.uint8)
    facts = synthetic(
        request(volume(scans.hr), repeat=volume(again, "2.tif"), calibrate=lr_volume(scans.lr))
    ).facts
    assert [one["role"] for one in facts.provenance] == ["hr", "repeat", "calibrate"]
    means = stages.sample_area(scans.truth, SCALE)
    unit = facts.lr_window.to_unit(means) - facts.hr_window.to_unit(0.5 * means + 10)
    assert np.abs(unit).max() < 0.03
    assert abs(facts.noise_correlation or 1) < 0.02


# --- levels of noise ----------------------------------------------------------------------------

LINES = st.builds(Level, st.floats(-3, 3), st.floats(0, 900))


@given(line=LINES, low=st.floats(-20, 100), span=st.floats(1, 200))
@settings(max_examples=100, deadline=None)
def test_realised_noise_has_the_variance_wanted(line: Level, low: float, span: float) -> None:
    high, middle = low + span, low + span / 2
    added = realised(line, low, high, middle)
    for grey in (low, middle, high):
        made = added.gain * (grey - added.offset) + added.sigma**2
        assert made >= 0
        if min(line.at(low), line.at(high)) > 0:
            assert made == pytest.approx(line.at(grey), rel=2e-3)
        elif grey == middle:
            assert made == pytest.approx(max(line.at(middle), 0), abs=1e-6)


def test_left_behind_is_what_a_simulation_leaves() -> None:
    kernel = stages.gaussian_kernel(1.2, 0.8, 0.3)
    kept = inheritance(kernel, SCALE, "area").kept
    hr, gain, offset = Level(-0.5, 170.0), 0.7, 30.0
    for grey in (60.0, 200.0):
        flat = np.full((900, 900), grey, np.float32)
        noisy = stages.poisson_gaussian(flat, hr.slope, 340.0, 0.0, np.random.default_rng(1))
        lr = gain * stages.sample_area(stages.blur(noisy, kernel), SCALE) + offset
        expected = left_behind(hr, kept, gain, offset).at(gain * grey + offset)
        assert lr.var() == pytest.approx(expected, rel=0.03)


def test_without_a_slope_for_lr_the_added_noise_is_level() -> None:
    tilted = Noise(10.0, -0.5, 170.0, None, "adjacent slices")
    level = Noise(24.0, None, None, None, "adjacent slices")
    blur = Blur(1.2, 1.2, 0.0, 1.0, 0.0)
    fit = Calibration(
        blur, level, tilted, True, (40, 120, 200), Intensity(0, 255), SCALE, 24.0, 0.0
    )
    drawn = fit.drawn()
    assert drawn.noise_gain == 0
    inherited = inheritance(drawn.kernel(), SCALE, "area").kept * 100
    assert (drawn.noise * 255) ** 2 == pytest.approx(24.0**2 - inherited, rel=1e-3)
    assert fit.drawn(level=1.1).noise > drawn.noise
