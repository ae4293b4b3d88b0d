"""The input of a run: changed, broken, not a number; and what is not read twice."""

import json
import shutil
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from interruptions import at, interrupted
from volumes_to_upscale import LR_NM, run, tree

from emsr.errors import InputError
from emsr.jobs.identity import untouched
from emsr.jobs.listener import Listener


def copy_of_lr(rig, folder):
    return Path(shutil.copy(rig / "lr.tif", folder / "copy.tif"))


# -- it changes -------------------------------------------------------------------------------


@pytest.mark.parametrize("z", [0, -1])
def test_a_changed_input_is_refused_wherever_it_changed(z, rig, tmp_path):
    (tmp_path / "out").mkdir()
    out, lr = tmp_path / "out" / "sr.ome.zarr", copy_of_lr(rig, tmp_path)
    interrupted(rig, out, 10, lr=lr)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    values = tifffile.memmap(lr, mode="r+")
    values[z, -1, -1] ^= 1
    values.flush()
    for slab in (None, (1, 1)):
        with pytest.raises(InputError, match=r"copy.tif has changed since this output was begun"):
            run(rig, out, lr=lr, slab=slab)
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    values[z, -1, -1] ^= 1
    values.flush()
    assert run(rig, out, lr=lr)["tiles_resumed"] >= 10


def test_an_input_that_changes_while_it_is_read_finishes_nothing(rig, tmp_path):
    lr = tmp_path / "lr.tif"
    shutil.copy(rig / "lr.tif", lr)

    def change():
        tifffile.imwrite(lr, tifffile.imread(lr) // 2, photometric="minisblack")

    out = tmp_path / "sr.ome.zarr"
    with pytest.raises(InputError, match="has changed since this output was begun"):
        run(rig, out, lr=lr, spacing_nm=LR_NM, listener=at("upscale", 3, change))
    state = json.loads((out / "zarr.json").read_text())["attributes"]["emsr"]["state"]
    assert state == "unfinished"


@pytest.mark.parametrize("slabs", [1, 2])
def test_an_input_that_was_another_one_for_a_while_leaves_no_trace(slabs, rig, plain, tmp_path):
    """The voxels that change are those of a tile that is done; its neighbours see them only in
    their halo. The input is then brought back."""
    (tmp_path / "out").mkdir()
    out, lr = tmp_path / "out" / "sr.ome.zarr", copy_of_lr(rig, tmp_path)
    values, heard = tifffile.memmap(lr, mode="r+"), []
    old = values.copy()

    def change():
        values[0, 28:32, :32] = 255 - old[0, 28:32, :32]  # the lower edge of the first tile
        values.flush()

    mine = None if slabs == 1 else (1, slabs)
    with pytest.raises(InputError, match=r"was changed while it was read|has changed since"):
        run(rig, out, lr=lr, slab=mine, listener=at("upscale", 1, change))
    values[:] = old
    values.flush()
    ears = Listener(say=heard.append)
    for n in range(slabs):
        slab = None if slabs == 1 else (n + 1, slabs)
        run(rig, out, lr=lr, slab=slab, listener=ears)
    assert any("computed from another input: they are done again" in line for line in heard)
    assert tree(out) == plain


def test_slabs_of_an_input_that_changed_between_them_are_not_put_together(rig, tmp_path):
    (tmp_path / "out").mkdir()
    out, lr = tmp_path / "out" / "sr.ome.zarr", copy_of_lr(rig, tmp_path)
    run(rig, out, lr=lr, slab=(1, 2))
    values = tifffile.memmap(lr, mode="r+")
    values[0, 0, 0] ^= 1  # what the second slab does not look at
    values.flush()
    with pytest.raises(InputError, match="has changed"):
        run(rig, out, lr=lr, slab=(2, 2))


# -- it breaks --------------------------------------------------------------------------------


def test_not_a_number_is_refused_before_anything_is_begun(rig, tmp_path):
    (tmp_path / "out").mkdir()
    values = np.zeros((3, 128, 128), np.float32)
    values[2, 100, 100] = np.nan
    np.save(tmp_path / "nan.npy", values)
    with pytest.raises(InputError, match="slice 2 holds values that are not numbers"):
        run(rig, tmp_path / "out" / "sr.ome.zarr", lr=tmp_path / "nan.npy", spacing_nm=LR_NM)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_slice_that_vanishes_midway(rig, plain, tmp_path):
    (tmp_path / "out").mkdir()
    out, folder = tmp_path / "out" / "sr.ome.zarr", tmp_path / "slices"
    folder.mkdir()
    lr = tifffile.imread(rig / "lr.tif")
    for z, plane in enumerate(lr):
        (folder / f"z{z}.png").write_bytes(imagecodecs.png_encode(plane))
    gone = folder / "z2.png"
    bytes_of_it = gone.read_bytes()
    with pytest.raises(InputError, match=r"slices cannot be read at .*z2\.png"):
        settings = {"lr": folder, "spacing_nm": LR_NM}
        run(rig, out, listener=at("upscale", 1, gone.unlink), **settings)
    gone.write_bytes(bytes_of_it)
    assert run(rig, out, **settings)["tiles_resumed"] >= 16
    assert tree(out) == plain


def test_a_chunk_that_breaks_midway_is_named(rig, plain, tmp_path):
    (tmp_path / "out").mkdir()
    out, store = tmp_path / "out" / "sr.ome.zarr", tmp_path / "lr.zarr"
    lr = tifffile.imread(rig / "lr.tif")
    zarr.create_array(str(store), data=lr, chunks=(1, 64, 64), compressors=zarr.codecs.ZstdCodec())
    chunk = store / "c" / "2" / "1" / "1"
    whole = chunk.read_bytes()

    def spoil():
        chunk.write_bytes(whole[:100])

    with pytest.raises(InputError, match=r"at the chunk \(2, 64, 64\) to \(3, 128, 128\)"):
        run(rig, out, lr=store, spacing_nm=LR_NM, listener=at("upscale", 1, spoil))
    chunk.write_bytes(whole)
    run(rig, out, lr=store, spacing_nm=LR_NM)
    assert tree(out) == plain


# -- it lies untouched ------------------------------------------------------------------------


def test_the_same_input_elsewhere_is_gone_on_with(rig, plain, tmp_path):
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "sr.ome.zarr"
    interrupted(rig, out, 10)
    assert run(rig, out, lr=copy_of_lr(rig, tmp_path))["tiles_resumed"] >= 10
    assert tree(out) == plain


def test_an_input_that_lies_untouched_is_read_once(rig, tmp_path):
    (tmp_path / "out").mkdir()
    out, lr, heard = tmp_path / "out" / "sr.ome.zarr", copy_of_lr(rig, tmp_path), []
    interrupted(rig, out, 10, lr=lr)
    ears = Listener(progress=lambda what, *_: heard.append(what))
    run(rig, out, lr=lr, listener=ears)
    assert "upscale" in heard
    assert "read input" not in heard


def test_an_hdf5_file_that_lies_untouched_is_read_once_unless_it_is_made_of_others(rig, tmp_path):
    lr = tifffile.imread(rig / "lr.tif")
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file["lr"] = lr
    layout = h5py.VirtualLayout(lr.shape, lr.dtype)
    layout[:] = h5py.VirtualSource(tmp_path / "whole.h5", "lr", lr.shape)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("lr", layout)
        file["linked"] = h5py.ExternalLink(tmp_path / "whole.h5", "lr")
    seen = untouched(f"{tmp_path}/whole.h5::/lr")
    assert seen is not None
    assert seen == untouched(tmp_path / "whole.h5")
    assert untouched(f"{tmp_path}/virtual.h5::/lr") is None
    assert untouched(f"{tmp_path}/virtual.h5::/linked") is None
    with h5py.File(tmp_path / "whole.h5", "r+") as file:
        file["lr"][0, 0, 0] ^= 1
    assert untouched(tmp_path / "whole.h5") != seen


def test_links_in_a_circle_are_walked_once(tmp_path):
    inner = tmp_path / "v.zarr" / "0"
    inner.mkdir(parents=True)
    (inner / "c").write_text("1")
    (inner / "back").symlink_to(tmp_path / "v.zarr")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "c").write_text("1")
    (tmp_path / "v.zarr" / "1").symlink_to(elsewhere)
    before = untouched(tmp_path / "v.zarr")
    (elsewhere / "c").write_text("22")
    assert untouched(tmp_path / "v.zarr") != before
