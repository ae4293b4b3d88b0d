"""``emsr upscale --trust``: what is refused before anything is computed, and what is left alone."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from maps_of_trust import (
    MAPS,
    foreign,
    run,
    tree,
)
from route import LR_NM, emsr, upscale_of

from emsr.errors import InputError
from emsr.jobs.trust import trust_path
from emsr.network.checkpoint import load_model, save_model
from emsr.volumes import omezarr_maps
from emsr.volumes.tiff import write_tiff

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
