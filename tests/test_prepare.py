"""The verb prepare, from files to pairs.zarr."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from test_pairs_strategies import SPACING, made_pair, scan, specimen

from emsr.errors import InputError
from emsr.geometry.box import whole
from emsr.jobs.listener import Listener
from emsr.jobs.prepare import prepare
from emsr.pairs import real as real_strategy
from emsr.pairs.store import open_pairs
from emsr.recipe import Degradation, Recipe
from emsr.volumes.tiff import write_tiff

RECIPE = Recipe(seed=5, degradation=Degradation(variants=2))


@pytest.fixture
def scans(tmp_path: Path) -> tuple[Path, Path]:
    """An LR and an HR file of one field, in register."""
    files = []
    for volume in made_pair():
        path = tmp_path / volume.name
        planes = volume.read(whole(volume.shape))
        write_tiff(path, planes, volume.shape, volume.dtype, volume.spacing_nm)
        files.append(path)
    return files[0], files[1]


def _bytes(path: Path) -> dict[str, str]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }


def test_real_pairs(scans: tuple[Path, Path], tmp_path: Path) -> None:
    lr, hr = scans
    summary = prepare(hr, tmp_path / "pairs.zarr", "real", lr=lr)
    assert (summary["scale"], summary["pairs"], summary["refused"]) == (3, 2, 0)
    assert summary["residual_px_rms"] < 0.3 and summary["reason"] is None
    np.testing.assert_allclose(summary["shift_px"], (0, 0), atol=0.2)
    pairs = open_pairs(tmp_path / "pairs.zarr")
    np.testing.assert_array_equal(pairs.lr[:], tifffile.imread(lr))
    np.testing.assert_array_equal(pairs.hr[:], tifffile.imread(hr))
    assert pairs.hr_slice.tolist() == [0, 1]
    assert (pairs.lr_spacing_nm, pairs.hr_spacing_nm) == ((40, 15, 15), SPACING)
    lr_scan, hr_scan = pairs.provenance
    assert (lr_scan["role"], lr_scan["name"], lr_scan["dtype"]) == ("lr", "lr.tif", "uint16")
    assert hr_scan["sha256"] == hashlib.sha256(tifffile.imread(hr).tobytes()).hexdigest()


def test_synthetic_pairs(scans: tuple[Path, Path], tmp_path: Path) -> None:
    summary = prepare(scans[1], tmp_path / "pairs.zarr", "synthetic", recipe=RECIPE)
    assert (summary["scale"], summary["pairs"], summary["refused"]) == (3, 4, 0)
    assert summary["residual_px_rms"] is None and summary["shift_px"] is None
    assert "by construction" in summary["reason"]
    assert len(summary["warnings"]) == 1 and "noise correlates" in summary["warnings"][0]
    pairs = open_pairs(tmp_path / "pairs.zarr")
    assert pairs.lr.shape == (4, 64, 70) and pairs.lr.dtype == np.float32
    assert pairs.hr.dtype == np.uint16 and pairs.hr_slice.tolist() == [0, 0, 1, 1]
    assert pairs.seed == 5 and pairs.recipe["degradation"]["variants"] == 2
    assert len(pairs.measured["drawn"]) == 4
    assert pairs.lr_spacing_nm == (40, 15, 15) and pairs.lr_window == pairs.hr_window


def test_equal_input_and_seed_give_equal_bytes(scans: tuple[Path, Path], tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        prepare(scans[1], tmp_path / name, "synthetic", recipe=replace(RECIPE, seed=seed))
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")
    assert _bytes(tmp_path / "a")["lr/c/0/0/0"] != _bytes(tmp_path / "c")["lr/c/0/0/0"]


def test_the_listener_hears_progress_and_warnings(
    scans: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    told: list[tuple[str, int, int]] = []
    listener = Listener(
        progress=lambda what, done, total, _note: told.append((what, done, total)),
        say=said.append,
    )
    out = tmp_path / "p.zarr"
    prepare(scans[1], out, "synthetic", lr=scans[0], recipe=RECIPE, listener=listener)
    assert told == [
        (what, done, 2) for what in ("measuring slices", "writing pairs") for done in (1, 2)
    ]
    assert any("is not used" in line for line in said)
    assert any("noise correlates" in line for line in said)
    assert capsys.readouterr() == ("", "")


def test_given_spacing_overrides_both_scans_and_is_said(
    scans: tuple[Path, Path], tmp_path: Path
) -> None:
    said: list[str] = []
    lr, hr = scans
    spacing = (30.0, 4.0, 4.0)
    out = tmp_path / "p.zarr"
    prepare(hr, out, "real", lr=lr, spacing_nm=spacing, listener=Listener(say=said.append))
    pairs = open_pairs(out)
    assert (pairs.hr_spacing_nm, pairs.lr_spacing_nm) == (spacing, (30, 12, 12))
    assert sum("was given" in line for line in said) == 2


def test_interrupted_in_the_middle_nothing_is_left(
    scans: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out" / "pairs.zarr"

    def interrupted(volume: Any, z: int) -> np.ndarray:
        assert not out.exists()
        if z == 1:
            raise KeyboardInterrupt
        return volume.read(replace(whole(volume.shape), stop=(1, *volume.shape[1:])))[0]

    monkeypatch.setattr(real_strategy, "read_slice", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(scans[1], out, "real", lr=scans[0])
    assert list(out.parent.iterdir()) == []


def test_an_existing_output_is_refused_before_the_scans_are_read(
    scans: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "pairs.zarr"
    prepare(scans[1], out, "synthetic", recipe=RECIPE)
    before = _bytes(out)
    with pytest.raises(InputError, match="--overwrite"):
        prepare(tmp_path / "missing.tif", out, "synthetic")
    assert _bytes(out) == before
    prepare(scans[1], out, "synthetic", recipe=replace(RECIPE, seed=99), overwrite=True)
    assert open_pairs(out).seed == 99


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        ({"strategy": "real"}, "--lr"),
        ({"strategy": "denoised"}, "--lr"),
        ({"strategy": "guess"}, "no strategy 'guess'"),
        ({"strategy": "synthetic", "scale": 4}, "48 x 52 pixels"),
    ],
)
def test_wishes_that_cannot_be_met(
    scans: tuple[Path, Path], tmp_path: Path, wishes: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says) as refusal:
        prepare(scans[1], tmp_path / "pairs.zarr", **wishes)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "pairs.zarr").exists()


def test_missing_scan(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.tif"):
        prepare(tmp_path / "missing.tif", tmp_path / "pairs.zarr", "synthetic")
    assert list(tmp_path.iterdir()) == []


def test_two_dimensional_scans_are_one_slice(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "hr.tif", scan(specimen(1)[0], 5, 0).astype(np.uint8))
    summary = prepare(tmp_path / "hr.tif", tmp_path / "p.zarr", "synthetic", recipe=RECIPE)
    assert summary["pairs"] == 2 and open_pairs(tmp_path / "p.zarr").hr.shape == (1, 192, 210)


@pytest.mark.real_data
def test_a_noisy_acquired_scan(real_data: Path, tmp_path: Path) -> None:
    stack = tifffile.imread(real_data / "sbem-neural-noisy" / "z020-039.tif", key=range(2))
    tifffile.imwrite(tmp_path / "hr.tif", stack)
    summary = prepare(tmp_path / "hr.tif", tmp_path / "p.zarr", "synthetic", recipe=RECIPE)
    pairs = open_pairs(tmp_path / "p.zarr")
    assert summary["pairs"] == 4 and pairs.hr.shape == (2, 1023, 1023)
    assert 15 < pairs.measured["hr_noise_sigma"] < 30
    assert summary["noise_correlation"] > 0.3
