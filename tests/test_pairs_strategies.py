"""The strategies on small scans whose relation is known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from emsr.errors import InputError
from emsr.microscope import stages
from emsr.pairs.made_lr import draw
from emsr.pairs.scans import Prepared, Request
from emsr.pairs.strategies import strategy_named
from emsr.recipe import Degradation
from emsr.volumes.volume import StoredVolume, array_volume

SPACING = (40.0, 5.0, 5.0)
GOLDEN_PIXELS, GOLDEN_MEAN = [158.44763, 156.25511], 121.440623


def specimen(depth: int = 2, height: int = 192, width: int = 210, seed: int = 0) -> np.ndarray:
    """(z, y, x) float32 grey levels around 120, other structure in each slice."""
    rng = np.random.default_rng(seed)
    texture = rng.standard_normal((depth, height, width))
    coarse, fine = (gaussian_filter(texture, (0, w, w)) * 3.5 * w for w in (7.0, 2.5))
    return (120 + 20 * coarse + 15 * fine).astype(np.float32)


def scan(grey: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    """What a detector of 16 bit makes of it."""
    noisy = stages.gaussian_noise(grey, sigma, np.random.default_rng(seed))
    return stages.quantise(noisy, np.uint16)


def made_pair(
    moved_px: int = 0, depth: int = 2, scale: int = 3
) -> tuple[StoredVolume, StoredVolume]:
    """LR and HR volumes with noise of their own; LR shows the field moved down by ``moved_px`` HR
    pixels, in grey levels 2 * HR + 30."""
    whole = specimen(depth, 220, 210)
    hr = whole[:, 10:202]
    seen = whole[:, 10 - moved_px : 202 - moved_px]
    lr = 2 * stages.sample_area(stages.blur(seen, stages.gaussian_kernel(1, 1, 0)), scale) + 30
    z, y, x = SPACING
    return (
        array_volume(scan(lr, 12, 1), (z, y * scale, x * scale), "lr.tif"),
        array_volume(scan(hr, 6, 2), SPACING, "hr.tif"),
    )


def request(hr: StoredVolume, lr: StoredVolume | None = None, **wishes: Any) -> Request:
    return Request(
        **{"scale": None, "degradation": Degradation(), "seed": 0, **wishes}, hr=hr, lr=lr
    )


def real(lr: StoredVolume, hr: StoredVolume, **wishes: Any) -> Prepared:
    return strategy_named("real")(request(hr, lr, **wishes))


def synthetic(hr: StoredVolume, **wishes: Any) -> Prepared:
    return strategy_named("synthetic")(request(hr, **{"scale": 3, **wishes}))


def with_values(volume: StoredVolume, index: Any, value: float, dtype: str = "f4") -> StoredVolume:
    values = np.stack([volume.read(_plane(volume, z))[0] for z in range(volume.shape[0])])
    values = values.astype(dtype)
    values[index] = value
    return array_volume(values, volume.spacing_nm, volume.name)


def _plane(volume: StoredVolume, z: int) -> Any:
    from emsr.geometry.box import Box

    return Box((z, 0, 0), (z + 1, *volume.shape[1:]))


# --- real ---------------------------------------------------------------------------------------


def test_real_pair_in_register() -> None:
    lr, hr = made_pair()
    prepared = real(lr, hr)
    facts = prepared.facts
    assert facts.scale == 3 and prepared.refused == 0 and facts.warnings == ()
    assert facts.measured["residual_px_rms"] < 0.3
    assert facts.measured["grey_gain"] == pytest.approx(2, rel=0.05)
    low, high = facts.hr_window.low, facts.hr_window.high
    assert facts.lr_window.low == pytest.approx(2 * low + 30, abs=15)
    assert facts.lr_window.high == pytest.approx(2 * high + 30, abs=15)
    assert facts.measured["lr_noise_sigma"] == pytest.approx(12, rel=0.1)
    assert abs(facts.noise_correlation or 1) < 0.2
    assert (facts.lr_spacing_nm, facts.hr_spacing_nm) == ((40, 15, 15), SPACING)
    (hr_plane, (lr_plane,)), _ = prepared.slices
    np.testing.assert_array_equal(hr_plane, hr.read(_plane(hr, 0))[0])
    np.testing.assert_array_equal(lr_plane, lr.read(_plane(lr, 0))[0])


def test_a_shift_of_two_pixels_is_measured_and_warned_of() -> None:
    facts = real(*made_pair(moved_px=2)).facts
    np.testing.assert_allclose(facts.measured["shift_px"], (2, 0), atol=0.3)
    assert facts.measured["residual_px_rms"] == pytest.approx(2, abs=0.3)
    assert any("out of register" in line for line in facts.warnings)


def test_an_lr_scan_made_from_the_hr_scan_is_noticed() -> None:
    _, hr = made_pair()
    made = synthetic(hr, degradation=Degradation((0.3, 0.3), 0, (0.0, 0.0), 1))
    lr = np.stack([planes[0] for _, planes in made.slices])
    facts = real(array_volume(lr, made.facts.lr_spacing_nm, "lr.tif"), hr).facts
    assert facts.noise_correlation is not None and facts.noise_correlation > 0.8
    assert any("share their noise" in line for line in facts.warnings)


def test_another_field_is_refused_slice_by_slice_and_as_a_whole() -> None:
    lr, hr = made_pair(depth=3)
    values = np.stack([lr.read(_plane(lr, z))[0] for z in range(3)])
    one_wrong = array_volume(values[[0, 2, 2]], lr.spacing_nm, "lr.tif")
    prepared = real(one_wrong, hr)
    assert prepared.refused == 1 and prepared.lr_shape[0] == prepared.hr_shape[0] == 2
    assert prepared.facts.measured["refused_unlike"] == [1]
    assert any("1 of 3 slices" in line for line in prepared.facts.warnings)
    all_wrong = array_volume(values[[1, 2, 0]], lr.spacing_nm, "lr.tif")
    with pytest.raises(InputError, match="none of 3 slices"):
        real(all_wrong, hr)


def test_inverted_contrast_is_named() -> None:
    lr, hr = made_pair()
    values = 500 - np.stack([lr.read(_plane(lr, z))[0] for z in range(2)]).astype(np.float32)
    with pytest.raises(InputError, match="invert the contrast"):
        real(array_volume(values, lr.spacing_nm, "lr.tif"), hr)


@pytest.mark.parametrize(
    ("lr_shape", "hr_shape", "scale", "says"),
    [
        ((2, 64, 70), (2, 192, 209), None, "2 x 64 x 70.*2 x 192 x 209.*whole multiple"),
        ((2, 64, 70), (2, 192, 140), None, "2 x 192 x 140.*whole multiple"),
        ((2, 64, 70), (3, 192, 210), None, "as many slices"),
        ((2, 64, 70), (2, 192, 210), 2, "is 3 times.*asked for is 2.*--scale 3"),
        ((2, 192, 210), (2, 64, 70), None, "whole multiple"),
        ((2, 64, 70), (2, 64, 70), None, "--scale 1"),
        ((2, 63, 70), (2, 189, 210), None, "63 x 70 pixels.*64 x 64"),
    ],
)
def test_grids_that_do_not_match(
    lr_shape: tuple[int, ...], hr_shape: tuple[int, ...], scale: int | None, says: str
) -> None:
    lr, hr = (array_volume(np.zeros(s, np.uint8), None, "x.tif") for s in (lr_shape, hr_shape))
    with pytest.raises(InputError, match=says):
        real(lr, hr, scale=scale)


def test_spacings_must_agree_with_the_scale() -> None:
    lr, hr = made_pair()
    with pytest.raises(InputError, match=r"20.*5.*expected to have \(40.0, 15.0, 15.0\)"):
        real(replace(lr, spacing_nm=(40.0, 20.0, 20.0)), hr)
    with pytest.raises(InputError, match="--spacing"):
        real(replace(lr, spacing_nm=(50.0, 15.0, 15.0)), hr)
    prepared = real(replace(lr, spacing_nm=None), hr)
    assert prepared.facts.lr_spacing_nm == (40, 15, 15)
    assert any("lr.tif states no spacing" in line for line in prepared.remarks)
    prepared = real(lr, replace(hr, spacing_nm=None))
    assert prepared.facts.hr_spacing_nm == SPACING
    prepared = real(replace(lr, spacing_nm=None), replace(hr, spacing_nm=None))
    assert prepared.facts.lr_spacing_nm is None and prepared.facts.hr_spacing_nm is None


def test_z_spacing_of_single_slices_is_not_held_against_them() -> None:
    lr, hr = made_pair(depth=1)
    facts = real(replace(lr, spacing_nm=(15, 15, 15)), replace(hr, spacing_nm=(5, 5, 5))).facts
    assert facts.lr_spacing_nm == (15, 15, 15)


# --- synthetic ----------------------------------------------------------------------------------


def test_degradation_equals_the_stages_called_by_hand() -> None:
    grey = specimen()
    hr = array_volume(grey, SPACING, "hr.tif")
    ranges = Degradation((0.8, 2.0), 0.5, (0.01, 0.1), variants=3)
    prepared = synthetic(hr, degradation=ranges, seed=7)
    window = prepared.facts.hr_window
    made = [lr for _, planes in prepared.slices for lr in planes]
    assert prepared.lr_shape == (6, 64, 70) and prepared.hr_shape == (2, 192, 210)
    anisotropic = 0
    for k, drawn in enumerate(prepared.facts.measured["drawn"]):
        z, variant = divmod(k, 3)
        _, rng = draw(ranges, 7, variant, z)
        kernel = stages.gaussian_kernel(drawn["blur_a_px"], drawn["blur_b_px"], drawn["angle_rad"])
        blurred = stages.sample_area(stages.blur(grey[z], kernel), 3)
        sigma = drawn["noise"] * (window.high - window.low)
        expected = stages.gaussian_noise(blurred, sigma, rng)
        np.testing.assert_array_equal(made[k], expected)
        assert np.std(made[k] - blurred) == pytest.approx(sigma, rel=0.05)
        anisotropic += drawn["blur_a_px"] != drawn["blur_b_px"]
    assert 0 < anisotropic < 6
    assert len({lr.tobytes() for lr in made}) == 6


def test_draws_stay_in_their_ranges_and_follow_the_share() -> None:
    ranges = Degradation((0.5, 2.0), 0.25, (0.02, 0.05))
    all_drawn = [draw(ranges, 0, 0, z)[0] for z in range(2000)]
    values = np.array([(d.blur_a_px, d.blur_b_px, d.noise, d.angle_rad) for d in all_drawn])
    assert 0.5 <= values[:, :2].min() < 0.52 and 1.98 < values[:, :2].max() <= 2.0
    assert values[:, 2].min() >= 0.02 and values[:, 2].max() <= 0.05
    assert values[:, 3].min() >= 0 and 3 < values[:, 3].max() <= np.pi
    assert np.mean(values[:, 0] != values[:, 1]) == pytest.approx(0.25, abs=0.03)
    assert {d.blur_a_px for d in all_drawn[:50]}.isdisjoint(
        draw(ranges, 1, 0, z)[0].blur_a_px for z in range(50)
    )


def test_lr_keeps_grey_levels_beyond_the_range_of_hr() -> None:
    hr = array_volume(scan(specimen(), 3, 0).clip(100, 140).astype(np.uint8), SPACING, "hr.tif")
    prepared = synthetic(hr, degradation=Degradation((0.6, 0.6), 0, (0.5, 0.5), 1))
    lr = np.stack([planes[0] for _, planes in prepared.slices])
    assert lr.dtype == np.float32 and prepared.lr_dtype == np.float32
    assert lr.min() < 100 and lr.max() > 140 and np.any(lr != np.rint(lr))


def test_fields_that_are_no_multiple_are_cropped_at_the_far_edge() -> None:
    grey = specimen(1, 194, 211)
    prepared = synthetic(array_volume(grey, None, "hr.tif"))
    ((hr, planes),) = prepared.slices
    np.testing.assert_array_equal(hr, grey[0, :192, :210])
    assert planes[0].shape == (64, 70) and prepared.facts.lr_spacing_nm is None
    assert any("194 x 211" in line and "192 x 210" in line for line in prepared.remarks)


def test_synthetic_states_the_noise_it_shares() -> None:
    ranges = Degradation((0.6, 0.6), 0, (0.0, 0.0), 1)
    noisy = synthetic(array_volume(scan(specimen(), 20, 0), SPACING, "h"), degradation=ranges)
    assert noisy.facts.measured["hr_noise_sigma"] == pytest.approx(20, rel=0.1)
    assert noisy.facts.noise_correlation is not None and noisy.facts.noise_correlation > 0.7
    assert len(noisy.facts.warnings) == 1
    smooth = gaussian_filter(specimen(), (0, 4, 4))
    loud = Degradation((0.6, 0.6), 0, (0.4, 0.4), 1)
    quiet = synthetic(array_volume(smooth, SPACING, "h"), degradation=loud)
    assert quiet.facts.noise_correlation is not None and quiet.facts.noise_correlation < 0.02
    assert quiet.facts.warnings == ()


def test_constant_slices_are_left_out_and_counted() -> None:
    hr = array_volume(specimen(3), SPACING, "hr.tif")
    prepared = synthetic(with_values(hr, 1, 5.0))
    assert prepared.refused == 1 and prepared.facts.measured["refused_constant"] == [1]
    assert prepared.lr_shape[0] == 4 and len(list(prepared.slices)) == 2
    lr, hr = made_pair(depth=3)
    prepared = real(with_values(lr, 0, 9), with_values(hr, 2, 9))
    assert prepared.refused == 2 and prepared.facts.hr_z == (1,)


def test_all_constant_is_refused() -> None:
    lr, hr = made_pair()
    with pytest.raises(InputError, match=r"hr\.tif: every slice is constant"):
        synthetic(with_values(hr, ..., 7))
    with pytest.raises(InputError, match="every slice is constant"):
        real(with_values(lr, ..., 7), hr)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    lr, hr = made_pair()
    with pytest.raises(InputError, match=r"hr\.tif: slice 1 holds 1 value"):
        synthetic(with_values(hr, (1, 5, 5), value))
    with pytest.raises(InputError, match=r"lr\.tif: slice 1 holds 1 value"):
        real(with_values(lr, (1, 5, 5), value), hr)


def test_detail_that_averages_out_is_refused_like_another_field() -> None:
    lr, _ = made_pair()
    stripes = np.zeros((2, 192, 210), np.float32)
    stripes[:, :, ::3] = 1
    with pytest.raises(InputError, match="none of 2 slices"):
        real(lr, array_volume(stripes, SPACING, "hr.tif"))


def test_lr_spacing_has_no_noise_in_its_last_digits() -> None:
    hr = array_volume(specimen(1), (40.0, 5.9, 5.9), "hr.tif")
    assert synthetic(hr).facts.lr_spacing_nm == (40.0, 17.7, 17.7)


def test_small_fields_and_scales_are_refused_with_numbers() -> None:
    hr = array_volume(specimen(1, 191, 210), None, "hr.tif")
    with pytest.raises(InputError, match="63 x 70 pixels"):
        synthetic(hr)
    with pytest.raises(InputError, match="scale 0"):
        synthetic(hr, scale=0)


def test_the_smallest_field_is_accepted() -> None:
    prepared = synthetic(array_volume(specimen(1, 128, 128), None, "hr.tif"), scale=2)
    assert prepared.lr_shape == (2, 64, 64)


def test_unknown_strategies_are_named() -> None:
    with pytest.raises(InputError, match=r"no strategy 'magic'.*real, synthetic"):
        strategy_named("magic")


def test_default_draws_are_those_of_the_first_release() -> None:
    """Golden numbers: seeds in recipes that were published go on to mean the same pairs."""
    prepared = synthetic(array_volume(specimen(1), SPACING, "hr.tif"), seed=5)
    lr = np.stack([plane for _, planes in prepared.slices for plane in planes])
    assert lr[:, 10, 10] == pytest.approx(GOLDEN_PIXELS, abs=1e-3)
    assert lr.mean(dtype=np.float64) == pytest.approx(GOLDEN_MEAN, abs=1e-4)


@pytest.mark.parametrize("sampling", ["area", "point"])
@pytest.mark.parametrize("gain", [0.0, 1.5, -0.8])
def test_richer_noise_and_point_sampling(sampling: Any, gain: float) -> None:
    grey = specimen()
    offset = 20.0 if gain >= 0 else 250.0
    ranges = Degradation((0.9, 0.9), 0, (0.02, 0.02), 1, sampling, gain, offset)
    prepared = synthetic(array_volume(grey, SPACING, "hr.tif"), degradation=ranges)
    window = prepared.facts.hr_window
    made = np.stack([planes[0] for _, planes in prepared.slices])
    blurred = stages.blur(grey, stages.gaussian_kernel(0.9, 0.9, 0))
    seen = {"area": stages.sample_area, "point": stages.sample_point}[sampling](blurred, 3)
    variance = gain * (seen - offset) + (0.02 * (window.high - window.low)) ** 2
    left = (made - seen) / np.sqrt(variance)
    assert left.std() == pytest.approx(1, abs=0.03) and abs(left.mean()) < 0.04
    bright = seen > np.median(seen)
    assert left[bright].std() == pytest.approx(left[~bright].std(), rel=0.06)
    assert prepared.facts.measured["drawn"][0]["noise_gain"] == gain


def test_point_sampling_shares_more_noise_in_itself() -> None:
    hr = array_volume(scan(specimen(), 20, 0), SPACING, "h")
    kept = {}
    for sampling in ("area", "point"):
        ranges = Degradation((0.9, 0.9), 0, (0.0, 0.0), 1, sampling)
        kept[sampling] = synthetic(hr, degradation=ranges).facts.noise_correlation
    assert kept["area"] > kept["point"] > 0.5  # one pixel's blur covers less than its area


def test_an_offset_that_cannot_be_is_refused() -> None:
    hr = array_volume(scan(specimen(), 5, 0), SPACING, "hr.tif")
    inverted = Degradation(noise_gain=-0.5)
    with pytest.raises(InputError, match=r"100% of the grey values of hr\.tif lie above noise_off"):
        synthetic(hr, degradation=inverted)
    below = Degradation(noise_gain=0.5, noise_offset=125.0)
    with pytest.raises(InputError, match="lie below noise_offset 125"):
        synthetic(hr, degradation=below)


# --- synthetic, with a repeated scan as target --------------------------------------------------


def two_scans(sigma: float = 15.0, depth: int = 2) -> tuple[StoredVolume, StoredVolume]:
    """HR and a repeat in other grey levels: HR = 0.5 * repeat - 20."""
    grey = specimen(depth)
    hr, repeat = scan(grey, sigma, 1), scan(2 * grey + 40, 2 * sigma, 2)
    return array_volume(hr, SPACING, "hr.tif"), array_volume(repeat, SPACING, "again.tif")


def test_a_repeat_is_the_target_and_its_noise_is_independent() -> None:
    hr, repeat = two_scans()
    quiet = Degradation((0.6, 0.6), 0, (0.0, 0.0), 1)
    prepared = synthetic(hr, repeat=repeat, degradation=quiet)
    facts = prepared.facts
    assert abs(facts.noise_correlation or 1) < 0.03 and facts.warnings == ()
    assert (synthetic(hr, degradation=quiet).facts.noise_correlation or 0) > 0.7
    assert "second scan" in facts.assumption
    assert [one["role"] for one in facts.provenance] == ["hr", "repeat"]
    assert facts.measured["residual_px_rms"] < 0.3
    (target, (lr,)), _ = prepared.slices
    np.testing.assert_array_equal(target, repeat.read(_plane(repeat, 0))[0])
    clean = specimen()[0]
    seen = stages.sample_area(stages.blur(clean, stages.gaussian_kernel(0.6, 0.6, 0)), 3)
    noise = lr - seen, stages.sample_area(target - (2 * clean + 40), 3)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05
    # One grey window: what LR shows as 0 and 1, the target shows as 0 and 1.
    unit = facts.lr_window.to_unit(seen) - facts.hr_window.to_unit(2 * seen + 40)
    assert np.abs(unit).max() < 0.02


def test_repeats_that_are_none() -> None:
    hr, repeat = two_scans(depth=3)
    values = np.stack([repeat.read(_plane(repeat, z))[0] for z in range(3)])

    def other(planes: np.ndarray, nm: Any = SPACING) -> StoredVolume:
        return array_volume(planes, nm, "again.tif")

    with pytest.raises(InputError, match="not a copy"):
        synthetic(hr, repeat=replace(hr, name="again.tif"))
    own = np.stack([hr.read(_plane(hr, z))[0] for z in range(3)])
    with pytest.raises(InputError, match="not a copy"):
        synthetic(hr, repeat=other(3 * own.astype(np.float32) + 7))
    with pytest.raises(InputError, match="same field in none of 3 slices"):
        synthetic(hr, repeat=other(values[[1, 2, 0]]))
    with pytest.raises(InputError, match="invert the contrast"):
        synthetic(hr, repeat=other(700 - values.astype(np.float32)))
    with pytest.raises(InputError, match=r"\(3, 191, 210\).*same grid"):
        synthetic(hr, repeat=other(values[:, 1:]))
    with pytest.raises(InputError, match=r"spacing of .*same grid"):
        synthetic(hr, repeat=other(values, (40.0, 6.0, 6.0)))
    with pytest.raises(InputError, match=r"again\.tif: slice 1 holds 1 value"):
        synthetic(hr, repeat=with_values(repeat, (1, 5, 5), np.nan))
    one_wrong = synthetic(hr, repeat=other(values[[0, 2, 2]]))
    assert one_wrong.facts.hr_z == (0, 2) and one_wrong.refused == 1
    assert any("1 of 3 slices" in line for line in one_wrong.facts.warnings)


def test_a_repeat_out_of_register_or_with_shared_noise_is_warned_of() -> None:
    grey = specimen(2, 196, 210)
    hr = array_volume(scan(grey[:, :192], 10, 1), SPACING, "hr.tif")
    moved = array_volume(scan(grey[:, 3:195], 10, 2), SPACING, "again.tif")
    facts = synthetic(hr, repeat=moved).facts
    assert facts.measured["residual_px_rms"] == pytest.approx(3, abs=0.3)
    assert any("3.0 HR pixels (rms) out of register" in line for line in facts.warnings)
    own = np.stack([hr.read(_plane(hr, z))[0] for z in range(2)])
    averaged = array_volume(own + scan(grey[:, :192], 5, 3), SPACING, "again.tif")
    lines = synthetic(hr, repeat=averaged).facts.warnings
    assert any("or they share noise" in line for line in lines)


@pytest.mark.real_data
def test_real_scans(real_data: Path) -> None:
    folder = real_data / "sem-brain-fast-slow"
    fast, slow = (
        array_volume(tifffile.imread(folder / name), None, name)
        for name in ("fast.tif", "slow.tif")
    )
    facts = real(fast, slow, scale=1).facts
    assert facts.measured["residual_px_rms"] < 0.5 and facts.warnings == ()
    assert facts.noise_correlation is not None and facts.noise_correlation < 0.2
