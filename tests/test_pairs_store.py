"""Pairs on disk: round trip, equal bytes, nothing half-written, refusals."""

import dataclasses
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

from emsr.errors import InputError
from emsr.pairs.store import Facts, SlicePair, in_memory, open_pairs, write_pairs
from emsr.volumes.intensity import Intensity

SCALE = 2
LR_SHAPE, HR_SHAPE = (4, 6, 8), (2, 12, 16)
HR = np.arange(np.prod(HR_SHAPE)).reshape(HR_SHAPE).astype(np.uint16)
LR = np.random.default_rng(0).normal(size=LR_SHAPE).astype(np.float32)

FACTS = Facts(
    strategy="synthetic",
    scale=SCALE,
    lr_spacing_nm=(40.0, 10.0, 10.0),
    hr_spacing_nm=(40.0, 5.0, 5.0),
    lr_window=Intensity(1.5, 200.0),
    hr_window=Intensity(3.0, 250.0),
    hr_z=(4, 7),
    hr_dtype="uint16",
    assumption="none",
    noise_correlation=0.25,
    measured={"shift_px": [0.0, 1.0], "refused_constant": []},
    warnings=("one", "two"),
    provenance=({"role": "hr", "name": "a.tif", "shape": [2, 12, 16]},),
    recipe={"degradation": {"variants": 2}},
    seed=11,
)


def _slices() -> Iterator[SlicePair]:
    for m in range(HR_SHAPE[0]):
        yield HR[m], [LR[2 * m], LR[2 * m + 1]]


def _write(path: Path, overwrite: bool = False, facts: Facts = FACTS) -> Path:
    write_pairs(
        path, facts, _slices(), LR_SHAPE, np.dtype(np.float32), HR_SHAPE, HR.dtype, overwrite
    )
    return path


def _bytes(path: Path) -> dict[str, str]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }


def test_round_trip(tmp_path: Path) -> None:
    pairs = open_pairs(_write(tmp_path / "deep" / "pairs.zarr"))
    for field in dataclasses.fields(Facts):
        assert getattr(pairs, field.name) == getattr(FACTS, field.name), field.name
    assert isinstance(pairs.lr, zarr.Array)
    assert pairs.hr.chunks == (1, 12, 16)
    assert pairs.hr_slice.tolist() == [0, 0, 1, 1]
    loaded = in_memory(pairs)
    np.testing.assert_array_equal(loaded.lr, LR)
    np.testing.assert_array_equal(loaded.hr, HR)
    assert (loaded.lr.dtype, loaded.hr.dtype) == (np.float32, np.uint16)


def test_unknown_spacing_stays_unknown(tmp_path: Path) -> None:
    facts = dataclasses.replace(FACTS, lr_spacing_nm=None, hr_spacing_nm=None)
    pairs = open_pairs(_write(tmp_path / "pairs.zarr", facts=facts))
    assert pairs.lr_spacing_nm is None and pairs.hr_spacing_nm is None


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    one, other = (_bytes(_write(tmp_path / name)) for name in ("a.zarr", "b.zarr"))
    assert one == other and len(one) == 4 + 4 + 2 + 1  # metadata and slices


def test_what_fails_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    def breaking() -> Iterator[SlicePair]:
        yield next(_slices())
        assert not (tmp_path / "pairs.zarr").exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pairs(
            tmp_path / "pairs.zarr",
            FACTS,
            breaking(),
            LR_SHAPE,
            np.dtype(np.float32),
            HR_SHAPE,
            HR.dtype,
        )
    assert list(tmp_path.iterdir()) == []


def test_too_few_slices_are_a_bug_and_not_published(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="announced"):
        write_pairs(
            tmp_path / "p.zarr",
            FACTS,
            list(_slices())[:1],
            LR_SHAPE,
            np.dtype("f4"),
            HR_SHAPE,
            HR.dtype,
        )
    unplaced = dataclasses.replace(FACTS, hr_z=(4,))
    with pytest.raises(RuntimeError, match="1 HR slices are placed"):
        _write(tmp_path / "p.zarr", facts=unplaced)
    assert list(tmp_path.iterdir()) == []


def test_failed_overwrite_keeps_the_old_pairs(tmp_path: Path) -> None:
    def breaking() -> Iterator[SlicePair]:
        raise OSError("disk full")
        yield

    path = _write(tmp_path / "pairs.zarr")
    before = _bytes(path)
    with pytest.raises(InputError, match="disk full"):
        write_pairs(
            path, FACTS, breaking(), LR_SHAPE, np.dtype("f4"), HR_SHAPE, HR.dtype, overwrite=True
        )
    assert _bytes(path) == before and list(tmp_path.iterdir()) == [path]


def test_leftovers_of_a_killed_attempt_do_not_disturb(tmp_path: Path) -> None:
    left = tmp_path / ".pairs.zarr.unfinished"
    left.mkdir()
    (left / "zarr.json").write_text("{")
    path = _write(tmp_path / "pairs.zarr")
    assert open_pairs(path).scale == SCALE and list(tmp_path.iterdir()) == [path]


def test_overwrite_replaces_pairs_and_only_pairs(tmp_path: Path) -> None:
    path = _write(tmp_path / "pairs.zarr")
    with pytest.raises(InputError, match="--overwrite"):
        _write(path)
    _write(path, overwrite=True, facts=dataclasses.replace(FACTS, seed=12))
    assert open_pairs(path).seed == 12 and list(tmp_path.iterdir()) == [path]
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter1").write_text("text")
    with pytest.raises(InputError, match="does not hold pairs"):
        _write(thesis, overwrite=True)
    assert (thesis / "chapter1").exists()


def test_unwritable_output(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        _write(tmp_path / "file" / "pairs.zarr")


def test_what_is_not_pairs_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such pairs"):
        open_pairs(tmp_path / "none.zarr")
    (tmp_path / "file.zarr").write_text("text")
    (tmp_path / "empty.zarr").mkdir()
    zarr.open_group(tmp_path / "other.zarr", mode="w")
    for name in ("file", "empty", "other"):
        with pytest.raises(InputError, match="does not hold pairs"):
            open_pairs(tmp_path / f"{name}.zarr")


def test_another_version_and_damage_are_said(tmp_path: Path) -> None:
    path = _write(tmp_path / "pairs.zarr")
    group = zarr.open_group(path, mode="r+")
    stored = dict(group.attrs["emsr_pairs"])
    for version in (1, 99):
        group.attrs["emsr_pairs"] = {**stored, "version": version}
        with pytest.raises(InputError, match=f"version {version}.*prepare them again"):
            open_pairs(path)
    group.attrs["emsr_pairs"] = {**stored, "facts": {"scale": 2}}
    with pytest.raises(InputError, match="damaged"):
        open_pairs(path)
    for wrong in ({"scale": 3}, {"hr_z": [4]}):
        group.attrs["emsr_pairs"] = {**stored, "facts": {**stored["facts"], **wrong}}
        with pytest.raises(InputError, match="do not agree"):
            open_pairs(path)


@pytest.mark.parametrize("lost", ["lr/c/3", "hr", "hr_slice"])
def test_a_copy_that_was_cut_short_is_said(tmp_path: Path, lost: str) -> None:
    path = _write(tmp_path / "pairs.zarr")
    shutil.rmtree(path / lost)
    with pytest.raises(InputError, match="damaged"):
        open_pairs(path)


@pytest.mark.parametrize(
    "owners",
    [[0, 0, 1, 2], [-1, 0, 0, 1], [0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1.5, 1]],
)  # fmt: skip
def test_lr_slices_of_no_hr_slice_are_damage(tmp_path: Path, owners: list[float]) -> None:
    path = _write(tmp_path / "pairs.zarr")
    group = zarr.open_group(path, mode="r+")
    group.create_array("hr_slice", data=np.array(owners), overwrite=True)
    with pytest.raises(InputError, match="damaged: hr_slice does not name each of the 2"):
        open_pairs(path)


@pytest.mark.parametrize("name", ["lr", "hr"])
def test_arrays_that_are_no_stacks_are_damage(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path / "pairs.zarr")
    zarr.open_group(path, mode="r+").create_array(name, data=HR[0], overwrite=True)
    with pytest.raises(InputError, match="are no stacks"):
        open_pairs(path)


def test_slices_that_are_all_zero_are_no_damage(tmp_path: Path) -> None:
    dark = ((np.zeros_like(HR[0]), [np.zeros_like(LR[0])] * 2) for _ in range(HR_SHAPE[0]))
    write_pairs(tmp_path / "p.zarr", FACTS, dark, LR_SHAPE, np.dtype("f4"), HR_SHAPE, HR.dtype)
    assert not np.any(open_pairs(tmp_path / "p.zarr").hr[:])


def test_the_name_appears_by_one_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Path, target: Path) -> None:
        assert open_pairs(self).hr_slice.size == LR_SHAPE[0] and not target.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path / "pairs.zarr")
    assert list(tmp_path.iterdir()) == []
