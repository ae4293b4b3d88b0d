"""A reference that a network was trained on is recognised, however it was cut, and only then."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from emsr.errors import InputError
from emsr.jobs.evaluate import evaluate
from emsr.jobs.listener import Listener
from emsr.jobs.model import load
from emsr.jobs.prepare import prepare
from emsr.jobs.provenance import KEPT, RUN_PX, Trained, Witness, run_hashes, sketch
from emsr.jobs.simulate import simulate
from emsr.jobs.train import train
from emsr.jobs.upscale import upscale
from emsr.recipe import Upscaling, make_recipe
from emsr.volumes.source import open_volume
from emsr.volumes.tiff import write_tiff


def field(seed, shape=(4, 90, 120), dtype=np.uint8):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), (0, 2, 2))
    return np.clip(128 + 200 * smooth + rng.normal(0, 6, shape), 0, 255).round().astype(dtype)


def verdict(trained_planes, planes):
    witness = Witness(Trained("real", sketch(trained_planes), frozenset()))
    for plane in planes:
        witness.look(plane)
    return witness.verdict()


SEEN = field(0)
CROPS = {
    "whole": SEEN,
    "one slice": SEEN[2:3],
    "a corner": SEEN[1:3, 7:60, 13:97],
    "more than it": np.concatenate([field(5), SEEN[:, ::-1], SEEN, field(6)]),
    "as 16 bit": SEEN.astype(np.uint16),
    "as floats": SEEN.astype(np.float32),
}


@pytest.mark.parametrize("planes", CROPS.values(), ids=CROPS)
def test_recognised(planes):
    assert "trained on" in verdict(SEEN, planes)


OTHERS = {
    "another field": field(1),
    "another scan of it": np.clip(SEEN + np.random.default_rng(3).normal(0, 6, SEEN.shape), 0, 255),
    "nothing but flat": np.full((2, 90, 120), 17, np.uint8),
    "too narrow": SEEN[:, :, : RUN_PX - 1],
    "a touch of it": np.concatenate([*(field(k) for k in range(20, 26)), SEEN[:1]]),
}


@pytest.mark.parametrize("planes", OTHERS.values(), ids=OTHERS)
def test_not_accused(planes):
    assert verdict(SEEN, planes) is None


def test_a_small_crop_of_a_large_scan_is_accused_or_cannot_be_told():
    """Never said to be another: too few of its runs are in the sketch to tell."""
    large = field(8, (6, 400, 500))
    trained = Trained("real", sketch(large), frozenset())
    outcome = {"told": 0, "untold": 0}
    for k in range(40):
        side = (40, 64, 96, 160)[k % 4]
        y, x = np.random.default_rng(k).integers(0, 400 - side, 2)
        for scan, other in ((large[k % 6], False), (field(30, (1, 400, 500))[0], True)):
            witness = Witness(trained)
            witness.look(scan[y : y + side, x : x + side])
            if other:
                assert witness.verdict() is None
                continue
            assert witness.verdict() or "cannot be told" in witness.untold()
            outcome["told" if witness.verdict() else "untold"] += 1
    assert min(outcome.values()) >= 5
    witness.look(large[0])
    assert witness.untold() is None


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), y=st.integers(0, 20), x=st.integers(0, 40))
def test_hashes_of_a_crop_are_among_those_of_the_whole(seed, y, x):
    plane = field(seed, (1, 40, 70))[0]
    whole, part = run_hashes(plane), run_hashes(plane[y : y + 20, x : x + 30])
    assert np.isin(part, whole).all()
    assert len(np.unique(whole)) == len(whole)


def test_flat_and_clipped_runs_are_left_out():
    plane = field(3, (1, 8, 64))[0]
    plane[2] = 90
    plane[3, 30] = 255
    assert len(run_hashes(plane)) == 8 * 49 - 49 - 16
    assert len(sketch([field(9, (1, 200, 400))[0]])) == KEPT


@pytest.fixture(scope="module")
def route(tmp_path_factory):
    """A model of few steps, and SR of the field it was trained on and of another."""
    folder = tmp_path_factory.mktemp("route")
    for name, seed in (("learn", 0), ("test", 1)):
        simulate(folder / name, "white-matter", (3, 192, 192), 3, seed)
    recipe = make_recipe(network="emsr-tiny", steps=3, batch=1, patch_px=16)
    learn = folder / "learn"
    prepare(
        out=folder / "pairs.zarr",
        strategy="real",
        recipe=recipe,
        hr=learn / "hr.tif",
        lr=learn / "lr.tif",
    )
    train(folder / "pairs.zarr", folder / "run", recipe)
    model = folder / "run/model.safetensors"
    for name in ("learn", "test"):
        for suffix in ("ome.zarr", "tif"):
            out = folder / f"{name}.{suffix}"
            upscale(folder / name / "lr.tif", model, out, upscaling=Upscaling())
    return folder, model


def scores(route, name, **more):
    folder, _ = route
    sr = more.pop("sr", folder / f"{name}.ome.zarr")
    out = folder / f"out-{len(list(folder.iterdir()))}"
    said = []
    found = evaluate(sr, folder / name / "hr.tif", out, listener=Listener(say=said.append), **more)
    json.loads((out / "scores.json").read_text())
    return found, said


def test_a_training_field_has_no_clean_scores(route):
    found, said = scores(route, "learn", lr=route[0] / "learn/lr.tif")
    for key in ("clean_psnr", "clean_ssim"):
        assert found[key] is None
        assert "trained on" in found["reason"][key]
    assert found["provenance"]["trained_on_reference"] is True
    assert any("trained on" in line for line in said)
    assert found["bicubic"]["clean_psnr"] is not None  # interpolation learned nothing


def test_another_field_has(route):
    found, said = scores(route, "test")
    assert found["clean_psnr"] is not None
    assert found["provenance"]["trained_on_reference"] is False
    assert not any("trained on" in line for line in said)
    folder, _ = route
    truth = evaluate(
        folder / "test.ome.zarr",
        folder / "test/hr.tif",
        folder / "truth",
        truth=folder / "test/truth.tif",
        repeat=folder / "test/hr_repeat.tif",
        sr2=folder / "test.tif",
        regions=64,
    )
    assert truth["clean_psnr"] == pytest.approx(truth["truth"]["psnr"], abs=0.1)
    assert found["clean_psnr"] == pytest.approx(truth["truth"]["psnr"], abs=0.5)
    assert truth["consistency"]["rms_difference"] == 0
    assert "not resolution" in truth["consistency"]["note"]
    assert len(truth["regions"]["clean_psnr"]) == 3
    assert truth["repeat"]["shift_px"] == pytest.approx([0, 0], abs=0.2)


def test_a_flat_file_needs_the_model(route):
    folder, model = route
    without, _ = scores(route, "learn", sr=folder / "learn.tif")
    assert without["provenance"]["trained_on_reference"] is None
    assert "--model" in without["provenance"]["reason"]
    told, _ = scores(route, "learn", sr=folder / "learn.tif", model=model)
    assert told["clean_psnr"] is None
    assert told["provenance"]["trained_on_reference"] is True


def test_a_crop_of_a_training_field_is_recognised(route):
    folder, model = route
    cut = (slice(0, 2), slice(11, 140), slice(30, 190))
    for name in ("learn/hr.tif", "learn.tif"):
        volume = open_volume(folder / name)
        from emsr.geometry.box import whole

        part = volume.read(whole(volume.shape))[cut]
        write_tiff(folder / f"cut-{name[-6:-4]}.tif", part, part.shape, part.dtype, None)
    found = evaluate(folder / "cut-rn.tif", folder / "cut-hr.tif", folder / "cut", model=model)
    assert "trained on" in found["reason"]["clean_psnr"]


def test_what_the_model_file_says(route):
    header = load(route[1]).header
    assert len(header.trained_on["hr_sketch"]) < 48_000
    with pytest.raises(InputError, match="no such model file"):
        scores(route, "test", model=route[0] / "none.safetensors")
