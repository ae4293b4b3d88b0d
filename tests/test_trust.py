"""``emsr upscale --trust`` as a user meets it: maps beside the output, whole or not there at all."""

from __future__ import annotations

import json
import shutil
import time

import numpy as np
import pytest
import tifffile
import yaozarrs
from maps_of_trust import (
    MAPS,
    SPREAD,
    interpolating,
    level,
    run,
    tree,
)
from route import LR_NM, done, upscale_of

from emsr.errors import InputError
from emsr.geometry.box import whole
from emsr.jobs.listener import Listener
from emsr.jobs.simulate import simulate
from emsr.jobs.trust import Trust, trust_path
from emsr.volumes.source import open_volume
from emsr.volumes.tiff import write_tiff, write_tiff_tiles


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


def test_spread_is_another_map_and_comes_later_too(field, plain_maps, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    assert run(field, out)["trust"]["maps"] == MAPS
    found = run(field, out, trust=Trust(spread=True))["trust"]
    assert found["maps"] == MAPS + SPREAD
    assert tree(trust_path(out)) == tree(plain_maps)
    assert found["spread"] == pytest.approx(
        np.sqrt(np.mean(level(plain_maps, "spread") ** 2)), 1e-5
    )
    assert found["expected_error"] > found["spread"] > 0
    again = run(field, out)  # what is there stays, and is not asked for
    assert again["trust"]["maps"] == MAPS and tree(trust_path(out)) == tree(plain_maps)


def test_flat_outputs_have_maps_too(field, plain_maps, tmp_path):
    run(field, tmp_path / "sr.tif", trust=Trust())
    path = tmp_path / "sr.trust.ome.zarr"
    for name in MAPS:
        np.testing.assert_array_equal(level(path, name), level(plain_maps, name))


def test_slabs_leave_the_maps_to_the_last(field, plain_maps, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    first = run(field, out, slab=(1, 2))
    assert first["trust"] is None and "not finished" in first["reason"]["trust"]
    assert not trust_path(out).exists()
    assert run(field, out, slab=(2, 2), trust=Trust(spread=True))["trust"]["maps"]
    assert tree(trust_path(out)) == tree(plain_maps)


def test_maps_know_no_tiles(field, plain_maps, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    run(field, out, tile=(2, 64, 64), trust=Trust(spread=True))
    for name in MAPS:
        np.testing.assert_array_equal(level(trust_path(out), name), level(plain_maps, name))
    for name in SPREAD:
        at_once, tiled = level(trust_path(out), name), level(plain_maps, name)
        np.testing.assert_allclose(tiled, at_once, atol=2e-3 * at_once.max())


@pytest.mark.parametrize(("what", "tile"), [("doubt", 3), ("spread", 5), ("spread", 8)])
def test_killed_and_run_again_the_bytes_are_the_same(what, tile, field, plain_maps, tmp_path):
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
    assert tree(trust_path(out)) == tree(plain_maps)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sr.ome.zarr", "sr.trust.ome.zarr"]


def test_a_lie_in_the_output_is_doubted(phantom_scans, tmp_path):
    """The output is changed by another hand, and judged again."""
    out = tmp_path / "sr.tif"
    said = run(phantom_scans, out)["trust"]
    assert said["doubtful_over"] == said["honest"]["doubt"] and 0.5 < said["doubtful_over"] < 2
    assert said["doubtful_fraction"] < 5e-3  # one in a thousand is usual
    with tifffile.TiffFile(out) as file:
        made_by, sr = file.pages[0].software, np.stack([page.asarray() for page in file.pages])
    sr[0, 90:105, 60:75] -= np.minimum(sr[0, 90:105, 60:75], 60)
    spacing = open_volume(out).spacing_nm
    write_tiff_tiles(out, list(sr), sr.shape, sr.dtype, spacing, (240, 240), False, made_by)
    shutil.rmtree(trust_path(out))
    found = run(phantom_scans, out)["trust"]
    doubt = level(trust_path(out), "doubt")
    assert doubt[0, 31:34, 21:24].min() > 4
    doubt[0, 26:39, 16:29] = 0
    assert doubt.max() < 4 and found["doubtful_fraction"] >= 9 / doubt.size


def test_an_honest_residual_is_that_of_another_field(phantom_scans, tmp_path):
    """Noise and power are told of one field; of another one they are the same."""
    simulate(tmp_path, "white-matter", (3, 240, 240), 3, 1)
    model = phantom_scans / "run" / "model.safetensors"
    said = run(phantom_scans, tmp_path / "sr.ome.zarr", lr=tmp_path / "lr.tif", model=model)[
        "trust"
    ]
    assert said["residual_power"] == pytest.approx(said["honest"]["power"], abs=0.05)
    assert said["residual_structure"] == pytest.approx(said["honest"]["structure"], abs=0.05)


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


def test_six_digits_decide_the_maps(plain_maps):
    made_by = json.loads((plain_maps / "zarr.json").read_text())["attributes"]["emsr"]["run"]
    facts = [made_by["noise"]["sigma"], *made_by["noise"]["correlation"], *made_by["blur"].values()]
    assert all(float(f"{value:.6g}") == value for value in facts)


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
