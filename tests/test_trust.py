"""``emsr upscale --trust`` as a user meets it: maps beside the output, whole or not there at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import yaozarrs
from route import LR_NM, done, emsr, upscale_of
from safetensors.torch import load_file

from emsr.errors import InputError
from emsr.geometry.box import whole
from emsr.jobs.listener import Listener
from emsr.jobs.prepare import prepare
from emsr.jobs.simulate import simulate
from emsr.jobs.train import train
from emsr.jobs.trust import Trust, trust_path
from emsr.jobs.trust_degradation import degradation_of
from emsr.jobs.upscale import upscale
from emsr.microscope.presets import PRESETS
from emsr.network.checkpoint import load_model, save_model
from emsr.pairs.store import open_pairs
from emsr.recipe import Degradation, Upscaling, make_recipe
from emsr.volumes.source import open_volume
from emsr.volumes.tiff import write_tiff, write_tiff_tiles

MAPS = ["doubt", "power", "structure"]
SPREAD = ["spread", "error"]


def tree(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def level(path, name):
    volume = open_volume(path / name)
    return volume.read(whole(volume.shape))


def run(field, out, tile=(1, 32, 32), trust=Trust(), **settings):
    model = settings.pop("model", field / "run" / "model.safetensors")
    settings = {"device": "cpu", "upscaling": Upscaling(tile_px=tile)} | settings
    return upscale(settings.pop("lr", field / "lr.tif"), model, out, trust=trust, **settings)


@pytest.fixture(scope="module")
def plain(field, tmp_path_factory):
    """The maps of a plain run, with spread."""
    out = tmp_path_factory.mktemp("plain") / "sr.ome.zarr"
    run(field, out, trust=Trust(spread=True))
    return trust_path(out)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """Two scans of tissue, and interpolation as the model of them."""
    folder = tmp_path_factory.mktemp("phantom")
    simulate(folder, "white-matter", (3, 240, 240), 3, 0)
    interpolating(folder, 3)
    return folder


def interpolating(folder, scale):
    """Pairs of lr.tif and hr.tif, and interpolation as the model of them."""
    recipe = make_recipe(scale=scale, network="bicubic")
    hr, lr, pairs = folder / "hr.tif", folder / "lr.tif", folder / "pairs.zarr"
    prepare(hr, pairs, "real", lr=lr, scale=scale, recipe=recipe)
    train(pairs, folder / "run", recipe)


# -- what is written ----------------------------------------------------------------------------


def test_trust_writes_maps_at_lr_resolution_beside_the_output(field, tmp_path):
    said = done(*upscale_of(field, tmp_path / "sr.ome.zarr", "--trust"))["trust"]
    path = tmp_path / "sr.trust.ome.zarr"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sr.ome.zarr", path.name]
    assert (said["path"], said["maps"]) == (str(path), MAPS)
    yaozarrs.validate_zarr_store(str(path))
    first = open_volume(path)
    assert (first.shape, first.spacing_nm, first.dtype) == ((2, 64, 64), LR_NM, np.float32)
    np.testing.assert_array_equal(first.read(whole(first.shape)), level(path, "doubt"))
    power, structure = level(path, "power"), level(path, "structure")
    assert said["residual_power"] == pytest.approx(power.mean(), rel=1e-6)
    assert said["residual_structure"] == pytest.approx(structure.mean(), rel=1e-6)
    assert said["spread"] is None and "--spread" in said["reason"]["spread"]
    assert 0.2 < said["residual_power"] < 100


def test_spread_is_another_map_and_comes_later_too(field, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    assert run(field, out)["trust"]["maps"] == MAPS
    found = run(field, out, trust=Trust(spread=True))["trust"]
    assert found["maps"] == MAPS + SPREAD
    assert tree(trust_path(out)) == tree(plain)
    assert found["spread"] == pytest.approx(np.sqrt(np.mean(level(plain, "spread") ** 2)), 1e-5)
    assert found["expected_error"] > found["spread"] > 0
    again = run(field, out)  # what is there stays, and is not asked for
    assert again["trust"]["maps"] == MAPS and tree(trust_path(out)) == tree(plain)


def test_flat_outputs_have_maps_too(field, plain, tmp_path):
    run(field, tmp_path / "sr.tif", trust=Trust())
    path = tmp_path / "sr.trust.ome.zarr"
    for name in MAPS:
        np.testing.assert_array_equal(level(path, name), level(plain, name))


def test_slabs_leave_the_maps_to_the_last(field, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    first = run(field, out, slab=(1, 2))
    assert first["trust"] is None and "not finished" in first["reason"]["trust"]
    assert not trust_path(out).exists()
    assert run(field, out, slab=(2, 2), trust=Trust(spread=True))["trust"]["maps"]
    assert tree(trust_path(out)) == tree(plain)


# -- laws ---------------------------------------------------------------------------------------


def test_maps_know_no_tiles(field, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    run(field, out, tile=(2, 64, 64), trust=Trust(spread=True))
    for name in MAPS:
        np.testing.assert_array_equal(level(trust_path(out), name), level(plain, name))
    for name in SPREAD:
        at_once, tiled = level(trust_path(out), name), level(plain, name)
        np.testing.assert_allclose(tiled, at_once, atol=2e-3 * at_once.max())


@pytest.mark.parametrize(("what", "tile"), [("doubt", 3), ("spread", 5), ("spread", 8)])
def test_killed_and_run_again_the_bytes_are_the_same(what, tile, field, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"

    class Killed(Exception):
        pass

    def progress(doing, count, *_):
        if (doing, count) == (f"trust: {what}", tile):
            raise Killed

    with pytest.raises(Killed):
        run(field, out, trust=Trust(spread=True), listener=Listener(progress=progress))
    with pytest.raises(InputError, match=r"unfinished"):
        open_volume(trust_path(out))
    assert open_volume(out).shape == (2, 192, 192)
    run(field, out, trust=Trust(spread=True))
    assert tree(trust_path(out)) == tree(plain)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sr.ome.zarr", "sr.trust.ome.zarr"]


def test_a_lie_in_the_output_is_doubted(phantom, tmp_path):
    """The output is changed by another hand, and judged again."""
    out = tmp_path / "sr.tif"
    said = run(phantom, out)["trust"]
    assert said["doubtful_fraction"] < 1e-3
    assert said["residual_power"] == pytest.approx(said["honest"]["power"], abs=0.1)
    with tifffile.TiffFile(out) as file:
        made_by, sr = file.pages[0].software, np.stack([page.asarray() for page in file.pages])
    sr[0, 90:105, 60:75] -= np.minimum(sr[0, 90:105, 60:75], 60)
    spacing = open_volume(out).spacing_nm
    write_tiff_tiles(out, list(sr), sr.shape, sr.dtype, spacing, (240, 240), False, made_by)
    shutil.rmtree(trust_path(out))
    found = run(phantom, out)["trust"]
    doubt = level(trust_path(out), "doubt")
    assert doubt[0, 31:34, 21:24].min() > 4
    doubt[0, 26:39, 16:29] = 0
    assert doubt.max() < 4 and found["doubtful_fraction"] >= 9 / doubt.size


# -- model files --------------------------------------------------------------------------------


def test_training_says_how_lr_came_of_hr(field, phantom):
    header = load_model(phantom / "run" / "model.safetensors")[1]
    blur, noise = header.degradation["blur"], header.degradation["noise"]
    known = PRESETS["white-matter"]
    relative = np.sqrt((3 * known.lr_psf_px) ** 2 - known.hr_psf_px**2)
    assert blur["sigma_a_px"] == pytest.approx(relative, rel=0.2)
    assert blur["gain"] == pytest.approx(1, abs=0.1)
    assert noise["slope"] < 0
    header = load_model(field / "run" / "model.safetensors")[1]
    noise = header.degradation["noise"]
    assert noise["sigma"] == pytest.approx(5, rel=0.15)
    assert set(header.domain) == {"spacing_nm", "greys", "noise", "tilt", "spectrum"}
    assert header.domain["noise"] == pytest.approx(5 / 255, rel=0.15)
    assert set(header.spread) == {"spread", "error"}
    assert json.dumps([header.degradation, header.domain, header.spread], allow_nan=False)


def test_the_blur_of_made_pairs_is_found_though_they_share_noise(tmp_path):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:288, :288]
    hr = 120 + 50 * np.sin(x / 4 + y / 40) * np.cos(y / 5) + 12 * rng.standard_normal((2, 288, 288))
    hr = np.clip(np.rint(hr), 0, 255).astype(np.uint8)
    write_tiff(tmp_path / "hr.tif", hr, hr.shape, hr.dtype, (50.0, 10.0, 10.0))
    drawn = Degradation(blur_sigma_px=(1.2, 1.2), anisotropic=0.0)
    recipe = replace(make_recipe(scale=3), degradation=drawn)
    prepare(tmp_path / "hr.tif", tmp_path / "pairs.zarr", "synthetic", scale=3, recipe=recipe)
    found = degradation_of(open_pairs(tmp_path / "pairs.zarr"))
    assert found["blur"]["sigma_a_px"] == pytest.approx(1.2, abs=0.1)


def test_a_model_that_states_no_blur_has_it_measured_and_said(field, tmp_path):
    network, header = load_model(field / "run" / "model.safetensors")
    old = replace(header, degradation={}, domain={}, spread={})
    save_model(tmp_path / "old.safetensors", network, old)
    heard = []
    found = run(
        field,
        tmp_path / "sr.ome.zarr",
        model=tmp_path / "old.safetensors",
        trust=Trust(spread=True),
        listener=Listener(say=heard.append),
    )["trust"]
    assert any("states no blur" in line for line in heard)
    assert found["maps"] == [*MAPS, "spread"] and found["honest"] is None
    assert "no calibration" in found["reason"]["expected_error"]


def test_files_from_before_there_was_trust_still_load(field, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = field / "run" / "model.safetensors"
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["emsr"])
    for key in ("degradation", "domain", "spread"):
        del header[key]
    old = tmp_path / "old.safetensors"
    save_file(load_file(path), old, {"emsr": json.dumps(header)})
    assert load_model(old)[1].domain == {}
    assert run(field, tmp_path / "sr.ome.zarr", model=old, trust=None)["finished"]


def test_upscale_says_that_an_input_lies_outside(field, tmp_path):
    lr = tifffile.imread(field / "lr.tif").astype(float)
    lr += 15 * np.random.default_rng(0).standard_normal(lr.shape)
    noisy = np.clip(np.rint(lr), 0, 255).astype(np.uint8)
    write_tiff(tmp_path / "noisy.tif", noisy, noisy.shape, noisy.dtype, LR_NM)
    heard = []
    ears = Listener(say=heard.append)
    run(field, tmp_path / "b.ome.zarr", trust=None, listener=ears)
    assert heard == []
    run(field, tmp_path / "a.ome.zarr", trust=None, lr=tmp_path / "noisy.tif", listener=ears)
    (line,) = heard
    assert "outside what the model was trained on: " in line and "noise 3" in line


# -- bad input ----------------------------------------------------------------------------------


def foreign(folder):
    (folder / "sr.trust.ome.zarr").mkdir()
    (folder / "sr.trust.ome.zarr" / "thesis.txt").write_text("mine")


BAD = {
    "a foreign folder": (foreign, "lr.tif", (), "is no map of trust that emsr wrote"),
    "a resampled image": (None, "lr.tif", ("--resample",), "--resample changes"),
    "a small image": (None, "small.tif", (), "20 x 20 pixels: --trust"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_said_in_one_line_before_anything_is_computed(what, field, tmp_path):
    prepare, lr, more, words = BAD[what]
    shutil.copy(field / "lr.tif", tmp_path / "lr.tif")
    small = tifffile.imread(field / "lr.tif")[:, :20, :20]
    write_tiff(tmp_path / "small.tif", small, small.shape, small.dtype, LR_NM)
    if prepare:
        prepare(tmp_path)
    before = sorted(p.name for p in tmp_path.rglob("*"))
    model = ("--model", field / "run" / "model.safetensors", "--out", tmp_path / "sr.ome.zarr")
    result = emsr("upscale", tmp_path / lr, *model, "--trust", *more, "--quiet")
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert words in result.stderr
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_maps_of_another_output_are_not_overwritten_unasked(field, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    run(field, out)
    before = tree(trust_path(out))
    with pytest.raises(InputError, match="is of another SR, model or setting"):
        run(field, tmp_path / "sr.tif")
    assert tree(trust_path(out)) == before
    assert run(field, tmp_path / "sr.tif", overwrite=True)["trust"]["maps"] == MAPS


def test_spread_alone_is_wrong_usage(field, tmp_path):
    result = emsr(*upscale_of(field, tmp_path / "sr.ome.zarr", "--spread"))
    assert result.returncode == 2 and "--trust" in result.stderr


def test_networks_of_scale_1_have_maps_too(tmp_path):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96]
    clean = 120 + 30 * np.sin(x / 9) * np.cos(y / 7) + 20 * np.sin(x / 3 + y / 4)
    scans = clean + np.array([20, 5])[:, None, None] * rng.standard_normal((2, 96, 96))
    for name, image in zip(("lr", "hr"), scans, strict=True):
        stack = np.repeat(image[None], 2, 0).astype(np.uint8)
        write_tiff(tmp_path / f"{name}.tif", stack, stack.shape, stack.dtype, LR_NM)
    interpolating(tmp_path, 1)
    found = run(tmp_path, tmp_path / "sr.ome.zarr")["trust"]
    # What is returned is the input itself: nothing is left but what the fitted blur takes away.
    assert found["residual_power"] < 0.2
