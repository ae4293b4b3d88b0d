"""Training where a lab has one small HR field: what is watched, when it stops, what it says."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from safetensors.numpy import load_file

from emsr.errors import InputError
from emsr.jobs.listener import Listener
from emsr.jobs.prepare import prepare
from emsr.jobs.train import train
from emsr.jobs.watch import BLOCK_PX, Field, gain
from emsr.network.checkpoint import load_model
from emsr.network.frame import interpolate
from emsr.pairs.enough import passes
from emsr.pairs.patches import draw_batch
from emsr.pairs.store import in_memory, open_pairs
from emsr.recipe import Recipe, recipe_from
from emsr.volumes.intensity import Intensity
from emsr.volumes.tiff import write_tiff

SCALE, SIDE = 3, 64
LR_NM, HR_NM = (50.0, 30.0, 30.0), (50.0, 10.0, 10.0)


def scans(folder: Path, seed: int, side: int = SIDE, lr_nm: Any = LR_NM, grey: float = 1.0) -> Path:
    """Pairs of two noisy slices of a field of its own; greys are floats times ``grey``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SCALE * side, : SCALE * side]
    z = np.arange(2)[:, None, None]
    clean = 120 + 60 * np.sin(x / 9 + z + seed) * np.cos(y / 13 + 2 * seed)
    low = clean.reshape(2, side, SCALE, side, SCALE).mean((2, 4))
    folder.mkdir()
    for name, image, nm in (("lr", low, lr_nm), ("hr", clean, (50, lr_nm[1] / 3, lr_nm[2] / 3))):
        noisy = grey * (image + 12 * rng.standard_normal(image.shape)).astype(np.float32)
        write_tiff(folder / f"{name}.tif", noisy, noisy.shape, np.dtype(np.float32), nm)
    prepare(folder / "hr.tif", folder / "pairs.zarr", "real", lr=folder / "lr.tif")
    return folder / "pairs.zarr"


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scans(tmp_path_factory.mktemp("field") / "learn", 0)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another field, higher than the first."""
    return scans(tmp_path_factory.mktemp("other") / "watch", 1, 80)


def recipe(features: int = 8, **training: Any) -> Recipe:
    table = {"batch": 2, "patch_px": 16, "checkpoint_every": 5, "warmup_steps": 3, "steps": 20}
    return recipe_from(
        {
            "network": "emsr-lean",
            "network_options": {"features": features, "blocks": 1},
            "training": {**table, "second_view": False, "learning_rate": 1e-2, **training},
        }
    )


def run(pairs: Path, out: Path, wishes: Recipe, **more: Any) -> tuple[dict[str, Any], list[str]]:
    """The summary, and what was said."""
    heard: list[str] = []
    summary = train(pairs, out, wishes, device="cpu", listener=Listener(say=heard.append), **more)
    return summary, heard


def trained(out: Path) -> dict[str, np.ndarray]:
    """The last weights, which no score decides."""
    state = load_file(out / "state.safetensors")
    return {name: value for name, value in state.items() if name.startswith("network/")}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all((a[name] == b[name]).all() for name in a)


def spoiled(pairs: Path, copy: Path, rows: slice, value: float) -> Path:
    """A copy whose LR ``rows``, and the HR below them, are ``value``."""
    shutil.copytree(pairs, copy)
    store: Any = zarr.open_group(copy)
    store["lr"][:, rows] = value
    store["hr"][:, SCALE * rows.start : SCALE * rows.stop] = value
    return copy


def history(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    return [{**line, "seconds": 0} for line in lines]


LEARNS_NOISE = {"features": 24, "steps": 900, "checkpoint_every": 10, "patience": 2}


def test_a_small_field_stops_by_itself_and_resumes_to_the_same(field: Path, tmp_path: Path) -> None:
    def stop(_what: str, step: int, _total: int, _note: str) -> None:
        if step == 35:
            raise KeyboardInterrupt

    wishes = recipe(**LEARNS_NOISE)
    whole, heard = run(field, tmp_path / "whole", wishes)
    assert whole["best_step"] + 2 * 10 == whole["steps"] < 900
    assert f"not improved since step {whole['best_step']} (best" in whole["stopped"]
    assert any(whole["stopped"] in line for line in heard)
    assert any(whole["stopped"] in line for line in whole["lines"])
    assert history(tmp_path / "whole")[-1]["stopped"] == whole["stopped"]
    with pytest.raises(KeyboardInterrupt):
        train(field, tmp_path / "parts", wishes, device="cpu", listener=Listener(progress=stop))
    run(field, tmp_path / "parts", wishes, resume=True)
    # Killed between the last checkpoint and the model file.
    (tmp_path / "parts/model.safetensors").unlink()
    parts, _ = run(field, tmp_path / "parts", wishes, resume=True)
    assert history(tmp_path / "whole") == history(tmp_path / "parts")
    assert same(trained(tmp_path / "whole"), trained(tmp_path / "parts"))
    models = [load_file(tmp_path / one / "model.safetensors") for one in ("whole", "parts")]
    assert same(*models)
    again, heard = run(field, tmp_path / "parts", wishes, resume=True)
    assert "is finished; nothing to do" in heard[-1]
    assert again == parts
    assert {**parts, "seconds": 0, "model": 0, "lines": 0} == {
        **whole, "seconds": 0, "model": 0, "lines": 0
    }  # fmt: skip


def test_what_it_keeps_is_better_than_where_it_stopped(field: Path, tmp_path: Path) -> None:
    summary, _ = run(field, tmp_path / "run", recipe(**LEARNS_NOISE))
    assert summary["validation_psnr"] == max(
        line["validation_psnr"] for line in history(tmp_path / "run")
    )
    assert summary["gain_db"] == pytest.approx(
        summary["validation_psnr"] - summary["bicubic_psnr"], abs=1e-4
    )
    assert summary["gain_db"] > 2 * summary["gain_se_db"] > 0
    assert summary["fall_db"] > 0
    assert load_model(tmp_path / "run/model.safetensors")[1].summary["stopped"]


def test_rows_between_training_and_watched_field_are_never_read(
    field: Path, tmp_path: Path
) -> None:
    """Rows that are not numbers: one patch that touches them ends the training."""
    start, _ = run(field, tmp_path / "a", recipe())[0]["validation_rows"]
    guard = spoiled(field, tmp_path / "guard.zarr", slice(start - 8, start), np.nan)
    run(guard, tmp_path / "b", recipe())
    assert same(trained(tmp_path / "a"), trained(tmp_path / "b"))
    seen = spoiled(field, tmp_path / "seen.zarr", slice(start - 9, start - 8), np.nan)
    with pytest.raises(InputError, match="diverged"):
        run(seen, tmp_path / "c", recipe())


def test_with_a_watched_field_every_row_trains_and_none_of_that_field(
    field: Path, other: Path, tmp_path: Path
) -> None:
    wishes = recipe(patience=0)
    summary, _ = run(field, tmp_path / "a", wishes, watch=other)
    assert summary["hr_pixels"] == 2 * (SCALE * SIDE) ** 2
    assert summary["validation_rows"] == [0, 80]
    dull = spoiled(other, tmp_path / "dull.zarr", slice(0, 79), 77.0)
    run(field, tmp_path / "b", wishes, watch=dull)
    assert same(trained(tmp_path / "a"), trained(tmp_path / "b"))
    assert history(tmp_path / "a") != history(tmp_path / "b")
    last = spoiled(field, tmp_path / "last.zarr", slice(63, 64), np.nan)
    with pytest.raises(InputError, match="diverged"):
        run(last, tmp_path / "c", wishes, watch=other)
    header = load_model(tmp_path / "a/model.safetensors")[1]
    assert [scan["name"] for scan in header.trained_on["watched_scans"]] == ["lr.tif", "hr.tif"]


def test_a_watched_field_is_scored_in_the_greys_of_the_training(
    field: Path, other: Path, tmp_path: Path
) -> None:
    """The model will be used with them; a brighter field scores differently and says so."""
    bright = scans(tmp_path / "bright", 1, 80, grey=1.2)
    plain, heard = run(field, tmp_path / "a", recipe(), watch=other)
    assert not any("greys" in line for line in heard)
    other_greys, heard = run(field, tmp_path / "b", recipe(), watch=bright)
    assert sum("judged on greys that it was not trained on" in line for line in heard) == 2
    assert other_greys["bicubic_psnr"] != plain["bicubic_psnr"]


def test_fields_that_cannot_be_watched(field: Path, other: Path, tmp_path: Path) -> None:
    prepare(field.parent / "hr.tif", tmp_path / "again.zarr", "synthetic")
    prepare(other.parent / "hr.tif", tmp_path / "two.zarr", "synthetic", scale=2)
    cases = {
        field: "cannot train and be watched",
        tmp_path / "again.zarr": r"made from the same scan \(hr.tif\)",
        tmp_path / "two.zarr": "has the scale 2, .* has 3",
        scans(tmp_path / "far", 2, lr_nm=(50.0, 40.0, 40.0)): "spacing .* 50, 40, 40 nm",
        scans(tmp_path / "loud", 3, grey=40.0): "same detector settings",
        tmp_path / "none.zarr": "no such pairs",
    }
    for watch, said in cases.items():
        with pytest.raises(InputError, match=said) as caught:
            run(field, tmp_path / "run", recipe(), watch=watch)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()


def test_a_run_resumes_only_with_the_field_that_it_began_with(
    field: Path, other: Path, tmp_path: Path
) -> None:
    run(field, tmp_path / "run", recipe(), watch=other)
    assert "is finished" in run(field, tmp_path / "run", recipe(), watch=other, resume=True)[1][-1]
    with pytest.raises(InputError, match="watched another field"):
        run(field, tmp_path / "run", recipe(), resume=True)


def test_too_few_pixels_are_said_with_their_numbers_and_only_then(
    field: Path, tmp_path: Path
) -> None:
    """A small network, or a short training, cannot learn the noise of that field by heart."""
    pixels = 2 * 40 * SIDE * SCALE**2
    seen_often = {"steps": 700, "batch": 8, "checkpoint_every": 1, "patience": 1}
    seen_rarely = {**seen_often, "steps": 20}
    few, heard = run(field, tmp_path / "a", recipe(24, **seen_often))
    (said,) = (line for line in heard if "by heart" in line)
    assert said.startswith(f"warning: {pixels:,} HR pixels for {few['parameters']:,} parameters")
    assert "by heart" in said and f"{6 * few['parameters']:,} HR pixels" in said
    assert few["hr_pixels"] == pixels and few["enough"] is False
    assert said == f"warning: {few['warnings'][0]}"
    for name, wishes, enough in (
        ("b", recipe(8, **seen_often), True),
        ("c", recipe(24, **seen_rarely), False),
    ):
        summary, heard = run(field, tmp_path / name, wishes)
        assert not any("by heart" in line for line in (*heard, *summary["warnings"]))
        assert summary["enough"] is enough


def test_passes_are_how_often_training_draws_each_pixel(field: Path) -> None:
    """Pixels that hold their own number, counted as they are drawn."""
    training, rows = recipe(steps=30, patch_px=48).training, slice(0, 40)
    stored = in_memory(open_pairs(field))
    count = int(np.prod(stored.lr.shape))
    numbers = np.arange(count, dtype=np.float64).reshape(stored.lr.shape)
    coded = replace(stored, lr=numbers, lr_window=Intensity(0, 1))
    drawn = np.zeros(count)
    for step in range(training.steps):
        lr, _ = draw_batch(coded, rows, training.patch_px, training.batch, 0, step)
        np.add.at(drawn, lr.astype(int).ravel(), 1)
    drawn = drawn.reshape(stored.lr.shape)
    assert drawn[:, 40:].sum() == 0
    assert drawn[:, :40].mean() == pytest.approx(passes(stored, rows, training))


def test_a_network_that_learned_nothing_of_use_says_so(field: Path, tmp_path: Path) -> None:
    """A noise that no second scan repeats is all there is to learn: the start is the best."""
    noise = tmp_path / "noise.zarr"
    shutil.copytree(field, noise)
    store: Any = zarr.open_group(noise)
    rng = np.random.default_rng(0)
    store["hr"][:] = 100 + 60 * rng.standard_normal(store["hr"].shape)
    store["lr"][:] = 100
    summary, _ = run(noise, tmp_path / "run", recipe(learning_rate=0.3, warmup_steps=0))
    assert summary["best_step"] == 0
    assert "the model only interpolates" in summary["warnings"][-1]
    assert "the model only interpolates" in summary["lines"][-1]
    network, _ = load_model(tmp_path / "run/model.safetensors")
    lr = torch.rand(1, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(network(lr), interpolate(lr, SCALE))


def test_the_standard_error_of_a_gain_is_that_of_repeated_fields() -> None:
    """Many draws of one situation: the error that each states is the spread that they show."""
    rng = np.random.default_rng(5)
    side = 4 * BLOCK_PX
    found = []
    for _ in range(60):
        hr = torch.from_numpy(rng.standard_normal((1, 1, side, side)).astype(np.float32))
        better, worse = (torch.full_like(hr, offset) for offset in (0.0, 0.3))
        found.append(gain(better, worse, Field(torch.zeros(1, 1, side, side), hr)))
    gains, errors = np.array(found).T
    assert gains.mean() == pytest.approx(10 * np.log10(1.09), abs=0.01)
    assert gains.std() == pytest.approx(errors.mean(), rel=0.25)
