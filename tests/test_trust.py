"""``emsr upscale --trust`` as a user meets it: maps beside the output, whole or not there at all."""

from __future__ import annotations

import json
import shutil
import time
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
from emsr.volumes import omezarr_maps
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
    assert said["doubtful_over"] == said["honest"]["doubt"] and 0.5 < said["doubtful_over"] < 2
    assert said["doubtful_fraction"] < 5e-3  # one in a thousand is usual
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
    assert any("not to be compared" in line for line in heard)
    assert found["maps"] == [*MAPS, "spread"] and found["honest"] is None
    assert found["doubtful_over"] == 3
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


def test_an_honest_residual_is_that_of_another_field(phantom, tmp_path):
    """Noise and power are told of one field; of another one they are the same."""
    simulate(tmp_path, "white-matter", (3, 240, 240), 3, 1)
    model = phantom / "run" / "model.safetensors"
    said = run(phantom, tmp_path / "sr.ome.zarr", lr=tmp_path / "lr.tif", model=model)["trust"]
    assert said["residual_power"] == pytest.approx(said["honest"]["power"], abs=0.05)
    assert said["residual_structure"] == pytest.approx(said["honest"]["structure"], abs=0.05)


def test_another_model_leaves_no_maps_of_the_old_output(field, tmp_path):
    out, other = tmp_path / "sr.ome.zarr", tmp_path / "other.safetensors"
    network, header = load_model(field / "run" / "model.safetensors")
    save_model(other, network, replace(header, hr_window=(0.0, 200.0)))
    run(field, out)
    assert run(field, out, model=other, trust=None, overwrite=True)["finished"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.safetensors", "sr.ome.zarr"]
    foreign(tmp_path)
    run(field, out, trust=None, overwrite=True)
    assert (trust_path(out) / "thesis.txt").exists()


def test_spread_that_was_begun_and_is_not_asked_for_again_goes(field, tmp_path):
    class Killed(Exception):
        pass

    def progress(doing, count, *_):
        if (doing, count) == ("trust: spread", 2):
            raise Killed

    out = tmp_path / "sr.ome.zarr"
    with pytest.raises(Killed):
        run(field, out, trust=Trust(spread=True), listener=Listener(progress=progress))
    assert (trust_path(out) / "spread").exists()
    run(field, out)
    assert sorted(p.name for p in trust_path(out).iterdir()) == sorted([*MAPS, "zarr.json"])


def test_seconds_are_those_of_the_maps_too(field, tmp_path):
    def progress(doing, count, *_):
        if (doing, count) == ("trust: doubt", 1):
            time.sleep(2)

    found = run(field, tmp_path / "sr.ome.zarr", listener=Listener(progress=progress))
    bare = run(field, tmp_path / "bare.ome.zarr", trust=None)
    assert found["seconds"] > bare["seconds"] + 1.5
    assert " in " in found["lines"][-1]


def test_maps_lie_where_the_output_lies(field, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    run(field, out)

    def placed(path, level):
        image = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]
        scale, move = image["datasets"][level]["coordinateTransformations"]
        return np.array(scale["scale"]), np.array(move["translation"])

    (fine, first), (coarse, second) = placed(out, 0), placed(trust_path(out), 0)
    # the upper left corner of the first voxel
    np.testing.assert_allclose(second - coarse / 2, first - fine / 2)
    np.testing.assert_allclose(placed(trust_path(out) / "power", 0), (coarse, second))


def test_an_input_without_noise_is_measured_by_that_trained_on(field, tmp_path):
    stack = np.tile(60 + 2 * np.arange(64), (2, 64, 1)).astype(np.uint8)
    write_tiff(tmp_path / "ramp.tif", stack, stack.shape, stack.dtype, LR_NM)
    heard = []
    ears = Listener(say=heard.append)
    found = run(field, tmp_path / "sr.ome.zarr", lr=tmp_path / "ramp.tif", listener=ears)["trust"]
    assert any("that trained on is taken" in line for line in heard)
    assert found["residual_power"] < 50


def test_six_digits_decide_the_maps(plain):
    made_by = json.loads((plain / "zarr.json").read_text())["attributes"]["emsr"]["run"]
    facts = [made_by["noise"]["sigma"], *made_by["noise"]["correlation"], *made_by["blur"].values()]
    assert all(float(f"{value:.6g}") == value for value in facts)


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


def bereft(folder):
    omezarr_maps.create(trust_path(folder / "sr.ome.zarr"), (), (2, 64, 64), None, (1, 64, 64), {})


@pytest.mark.parametrize(
    ("there", "overwrite", "words"),
    [(bereft, False, "but no finished sr.ome.zarr"), (foreign, True, "no map of trust")],
)
def test_what_is_in_the_way_is_said_before_anything_is_computed(
    there, overwrite, words, field, tmp_path
):
    there(tmp_path)
    with pytest.raises(InputError, match=words):
        run(field, tmp_path / "sr.ome.zarr", overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["sr.trust.ome.zarr"]


def test_noise_that_nobody_knows_is_said_before_anything_is_computed(field, tmp_path):
    network, header = load_model(field / "run" / "model.safetensors")
    save_model(tmp_path / "old.safetensors", network, replace(header, degradation={}))
    stack = np.full((2, 64, 64), 100, np.uint8)
    write_tiff(tmp_path / "lr.tif", stack, stack.shape, stack.dtype, LR_NM)
    with pytest.raises(InputError, match="its noise cannot be told"):
        run(tmp_path, tmp_path / "sr.ome.zarr", model=tmp_path / "old.safetensors")
    assert not (tmp_path / "sr.ome.zarr").exists()


BLUR = {"sigma_a_px": 1.0, "sigma_b_px": 1.0, "angle_rad": 0.0, "gain": 1.0, "offset": 0.0}
DAMAGED = {
    "blur of words": ("degradation", {"blur": {**BLUR, "gain": "x"}}),
    "blur without a width": ("degradation", {"blur": {"gain": 1.0}}),
    "noise of words": ("degradation", {"noise": {"sigma": "x"}}),
    "honest of words": ("degradation", {"honest": {"power": "x", "structure": 0.0}}),
    "spacing of two": ("domain", {"spacing_nm": [50.0, 10.0]}),
    "greys of words": ("domain", {"greys": ["x"]}),
    "no range": ("domain", {"ranges": {"noise": [1.0]}}),
    "an error too few": ("spread", {"spread": [1.0, 2.0], "error": [1.0]}),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_header_is_said_in_one_line(what, field, tmp_path):
    part, value = DAMAGED[what]
    network, header = load_model(field / "run" / "model.safetensors")
    save_model(tmp_path / "model.safetensors", network, replace(header, **{part: value}))
    with pytest.raises(InputError, match=f"damaged header, {part}: found .*emsr train"):
        load_model(tmp_path / "model.safetensors")


def test_a_header_may_say_more_or_less_than_we_know(field, tmp_path):
    network, header = load_model(field / "run" / "model.safetensors")
    odd = replace(
        header,
        degradation={**header.degradation, "blur": {**BLUR, "shape": "round"}, "more": 1},
        domain={"spacing_nm": None, "spectrum": [1.0], "ranges": {"spectrum": [[0.0], [1.0]]}},
    )
    save_model(tmp_path / "odd.safetensors", network, odd)
    assert run(field, tmp_path / "sr.ome.zarr", model=tmp_path / "odd.safetensors")["trust"]


def test_maps_of_another_output_are_not_overwritten_unasked(field, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    run(field, out)
    before = tree(trust_path(out))
    run(field, tmp_path / "sr.tif", trust=None)
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
