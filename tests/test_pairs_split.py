"""LR and target made from one noisy HR scan: their noises know nothing of one another, or it is said."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from emsr.errors import InputError
from emsr.microscope import stages
from emsr.microscope.presets import PRESETS, SUPERSAMPLING, hr_scan, lr_scan
from emsr.microscope.scan import Scan, acquire, expected
from emsr.microscope.tissue import tissue
from emsr.pairs.made_from import hr_field
from emsr.pairs.made_lr import Drawn, Microscope
from emsr.pairs.made_two import doubts, splitter_of
from emsr.pairs.neighbours import lr_channels
from emsr.pairs.noise import colour_kernel, colour_of
from emsr.pairs.scans import Prepared, Request
from emsr.pairs.split import split
from emsr.pairs.store import in_memory, open_pairs, write_pairs
from emsr.pairs.synthetic import synthetic
from emsr.recipe import Degradation, Splitting
from emsr.volumes.volume import StoredVolume, array_volume

SCALE, SHAPE = 3, (3, 288, 288)
PRESET = PRESETS["white-matter"]


@dataclass(frozen=True)
class Phantom:
    """One field, (z, y, x): its truth and scans with noise of their own."""

    truth: np.ndarray
    hr: np.ndarray
    repeat: np.ndarray
    lr: np.ndarray


@lru_cache
def phantom(seed: int = 0, slices: int = SHAPE[0]) -> Phantom:
    """White matter at scale 3."""
    depth, y, x = slices, *SHAPE[1:]
    nm = PRESET.spacing_nm
    fine = (nm[0], nm[1] / SUPERSAMPLING, nm[2] / SUPERSAMPLING)
    block = tissue("white-matter", (depth, y * SUPERSAMPLING, x * SUPERSAMPLING), fine, seed)
    stains = [block.render(z, z + 1)[0] for z in range(depth)]
    hr, lr = hr_scan(PRESET), lr_scan(PRESET, SCALE)

    def scanned(scan: Scan, stream: int) -> np.ndarray:
        rng = np.random.default_rng([seed, stream])
        return np.stack([acquire(stain, scan, rng) for stain in stains])

    truth = np.stack([expected(stain, hr) for stain in stains])
    return Phantom(truth, scanned(hr, 1), scanned(hr, 2), scanned(lr, 3))


def volume(planes: np.ndarray, name: str = "hr.tif") -> StoredVolume:
    return array_volume(planes, PRESET.spacing_nm, name)


def request(hr: StoredVolume, **wishes: Any) -> Request:
    plain = {"lr": None, "scale": SCALE, "degradation": Degradation(), "seed": 0}
    return Request(**{**plain, **wishes}, hr=hr)


def arrays(prepared: Prepared) -> tuple[np.ndarray, np.ndarray]:
    """LR and target, slice by slice; a target as often as it has LR slices."""
    pairs = [(lr, hr) for hr, planes in prepared.slices for lr in planes]
    lr, hr = (np.stack(planes) for planes in zip(*pairs, strict=True))
    return lr, hr


def noises(prepared: Prepared, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What LR and the area-averaged target hold beside the specimen, on the LR grid."""
    lr, target = arrays(prepared)
    facts = prepared.facts
    clean = [truth[z] for z in facts.hr_z for _ in range(len(lr) // len(facts.hr_z))]
    microscope = Microscope(
        SCALE, facts.recipe["degradation"]["sampling"], 1.0, 0.0, facts.lr_window, None
    )
    drawn = [Drawn(**one) for one in facts.measured["drawn"]]
    seen = [microscope.noise_free(x, d) for x, d in zip(clean, drawn, strict=True)]
    return lr - np.stack(seen), stages.sample_area(target - np.stack(clean), SCALE)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean(a * b) / np.sqrt(np.mean(a * a) * np.mean(b * b)))


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"splitting": Splitting(alpha=1.5)},
        {"splitting": Splitting(method="thin")},
        {"degradation": Degradation(sampling="point")},
        {"degradation": Degradation(noise_gain=-0.5, noise_offset=341.0)},
    ],
    ids=["recorrupt", "alpha", "thin", "point", "poisson"],
)
def test_noise_of_input_and_target_is_independent(wishes: dict[str, Any]) -> None:
    scans = phantom()
    made = request(volume(scans.hr), **wishes)
    prepared = split(made)
    lr, target = noises(prepared, scans.truth)
    error = 1 / np.sqrt(lr.size)
    assert abs(correlation(lr, target)) < 4 * error + 0.01
    for dy, dx in ((0, 1), (1, 0), (1, 1)):
        shifted = correlation(lr[:, dy:, dx:], target[:, : 96 - dy, : 96 - dx])
        assert abs(shifted) < 4 * error + 0.01
    together = synthetic(made)
    assert correlation(*noises(together, scans.truth)) > 0.1  # what there was to lose
    facts = prepared.facts
    assert facts.noise_correlation == pytest.approx(correlation(lr, target), abs=0.02)
    assert facts.warnings == () and (together.facts.noise_correlation or 0) > 0.1


@pytest.mark.parametrize(("method", "share"), [("recorrupt", 1 + 1 / 0.49), ("thin", 2.0)])
def test_levels_of_noise(method: Any, share: float) -> None:
    """LR is as noisy as that of ``synthetic``; the target is noisier than HR, as the method says."""
    scans = phantom()
    loud = Degradation((0.8, 1.2), 0.5, (0.06, 0.06), 1)
    asked = request(volume(scans.hr), splitting=Splitting(method=method), degradation=loud)
    one, other = split(asked), synthetic(asked)
    one = replace(one, slices=list(one.slices))
    assert noises(one, scans.truth)[0].std() == pytest.approx(
        noises(other, scans.truth)[0].std(), rel=0.03
    )
    _, target = arrays(one)
    noise = scans.hr - scans.truth
    assert (target - scans.truth).var() == pytest.approx(share * noise.var(), rel=0.05)
    assert abs((target - scans.truth).mean()) < 0.3
    assert target.dtype == np.float32 and np.any(target != np.rint(target))


def test_what_it_says_of_the_noise() -> None:
    scans = phantom()
    measured = split(request(volume(scans.hr))).facts.measured
    truth = (scans.hr - scans.truth).std()
    assert measured["hr_noise_sigma"] == pytest.approx(truth, rel=0.05)
    scan = hr_scan(PRESET)
    electrons = (scans.truth.mean() - scan.offset) / scan.gain
    assert measured["hr_electrons"] == pytest.approx(electrons, rel=0.15)
    assert max(map(abs, measured["hr_noise_correlation"])) < 0.05
    assert (
        abs(measured["input_target_correlation"]) < 4 * measured["input_target_correlation_error"]
    )


def test_a_stated_level_has_the_last_word() -> None:
    """One that is wrong is noticed."""
    hr = volume(phantom().hr)
    facts = split(request(hr, noise_sigma=16.0)).facts
    assert facts.measured["hr_noise_sigma"] == 16.0 and facts.measured["hr_noise_slope"] is None
    assert any("still correlate by -0." in line for line in facts.warnings)
    with pytest.raises(InputError, match=r"hr\.tif: noise of 0 grey levels .*--noise"):
        split(request(hr, noise_sigma=0.0))


@pytest.mark.parametrize(("correlation", "warned"), [((0.1, 0.4), True), ((0.14, 0.08), False)])
def test_correlated_noise_is_warned_of(correlation: tuple[float, float], warned: bool) -> None:
    """And what is added is of its colour, as far as that is known."""
    made = request(volume(phantom().hr))
    field = hr_field(made)
    splitter = splitter_of(made, field)
    noise = replace(splitter.noise, correlation=correlation)
    lines = doubts(replace(splitter, noise=noise), field, "recorrupt")
    assert [("0.40 between" in line, "--repeat" in line) for line in lines] == [
        (True, True)
    ] * warned
    assert colour_of(noise).shape == (3, 3) and splitter.colour.shape == (1, 1)


def test_correlated_noise_under_structure_is_noticed_too() -> None:
    """Where the estimate cannot tell that noise is correlated, its level comes out too low."""
    white = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    noise = 10 * stages.blur(white, colour_kernel((0.45, 0.45)))
    facts = split(request(volume(phantom().truth + noise))).facts
    assert facts.measured["hr_noise_correlation"] is None
    assert any("less white than estimated" in line for line in facts.warnings)


def test_few_electrons_are_warned_of() -> None:
    truth = phantom().truth
    scan = stages.poisson_gaussian(truth / 20, 1.0, 0.0, 0.0, np.random.default_rng(0))
    lines = split(request(volume(scan))).facts.warnings
    assert any("6 electrons per pixel" in line and "thin" in line for line in lines)
    counted = Degradation(noise_gain=1.0)
    thinned = split(request(volume(scan), degradation=counted, splitting=Splitting(method="thin")))
    assert np.mean(scan == 0) > 0.01  # no electrons: nothing is clipped there
    assert thinned.facts.warnings == () and thinned.facts.measured["gain"] == 1.0


def test_clipped_greys_are_warned_of() -> None:
    hr = phantom().hr.clip(40, 255)
    lines = split(request(volume(hr))).facts.warnings
    share = np.mean(hr == 40)
    assert share > 0.01 and any(f"{share:.1%} of the grey values" in line for line in lines)


def test_each_variant_is_a_stack_with_targets_of_its_own(tmp_path: Path) -> None:
    hr = phantom().hr
    hr = np.stack([hr[0], np.full_like(hr[0], 7), hr[1], hr[2]])
    made = split(request(volume(hr), degradation=Degradation(variants=2), seed=3))
    assert made.facts.hr_z == (0, 2, 3, 0, 2, 3) and made.refused == 1
    shapes = made.lr_shape, made.lr_dtype, made.hr_shape, made.hr_array_dtype
    write_pairs(tmp_path / "p.zarr", made.facts, made.slices, *shapes)
    pairs = in_memory(open_pairs(tmp_path / "p.zarr"))
    assert pairs.hr.dtype == np.float32 and pairs.hr_dtype == "uint8"
    assert [lr_channels(pairs, i, 3) for i in range(6)] == [
        [0, 0, 0],
        [1, 1, 2],
        [1, 2, 2],
        [3, 3, 3],
        [4, 4, 5],
        [4, 5, 5],
    ]
    targets = pairs.hr[[0, 3]] - hr[0].astype(np.float32)
    assert abs(correlation(targets[0] - targets[0].mean(), targets[1] - targets[1].mean())) < 0.02


def test_equal_seeds_give_equal_pairs() -> None:
    hr = volume(phantom().hr[:1])
    one, again, other = (arrays(split(request(hr, seed=seed))) for seed in (1, 1, 2))
    for a, b, c in zip(one, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_what_cannot_be_split() -> None:
    field = phantom().hr
    thin = Splitting(method="thin")
    with pytest.raises(InputError, match=r"100% of the grey values .*noise_offset 0"):
        split(request(volume(field.clip(0, 200)), degradation=Degradation(noise_gain=-0.5)))
    with pytest.raises(InputError, match=r"electrons cannot be counted.*noise_gain"):
        split(request(volume(field), splitting=thin, noise_sigma=10.0))
    with pytest.raises(InputError, match="every slice is constant"):
        split(request(volume(np.zeros(SHAPE, np.uint8))))
    with pytest.raises(InputError, match="scale None"):
        split(request(volume(field), scale=None))


def test_a_single_slice_will_do() -> None:
    facts = split(request(volume(phantom().hr[:1]))).facts
    assert facts.measured["hr_noise_method"] == "one image"
    assert abs(facts.noise_correlation or 1) < 0.03


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("scan", "correlated"),
    [("fibsem-fly-10nm/medulla_z000-219.tif", True), ("sbem-neural-noisy/z020-039.tif", False)],
)
def test_real_scans(real_data: Path, scan: str, correlated: bool) -> None:
    planes = tifffile.imread(real_data / scan, key=range(8))[:, :510, :510]
    hr = array_volume(planes, None, scan)
    facts = split(request(hr)).facts
    assert any("spatially correlated" in line for line in facts.warnings) == correlated
    assert abs(facts.noise_correlation or 1) < 0.05
    both = synthetic(request(hr)).facts
    assert (both.noise_correlation or 0) > (0.1 if correlated else 0.4)


def test_where_the_split_is_noisier_than_the_recipe_allows_it_is_said() -> None:
    quiet = Degradation(noise_sigma=(0.0, 0.001), variants=1)
    warnings = split(request(volume(phantom().hr), degradation=quiet)).facts.warnings
    assert any("more noise from the split" in line for line in warnings)


def test_noise_stated_too_low_does_not_hide_what_is_shared() -> None:
    scans = phantom()
    facts = split(request(volume(scans.hr), noise_sigma=1.0)).facts
    assert facts.noise_correlation is not None and facts.noise_correlation > 0.1
    assert any("still correlate" in line for line in facts.warnings)
