"""Locks, interruptions and damage: one writer, one line, and nothing lost that was done."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from route import EMSR
from volumes_to_upscale import LR_NM, TILE_COUNT, command, run, tree

from emsr.errors import InputError
from emsr.jobs.claim import TAKEN_FOR_DEAD_S, claimed, notes_of
from emsr.jobs.execute import deaf
from emsr.jobs.identity import untouched
from emsr.jobs.listener import Listener
from emsr.jobs.memory import bytes_needed, tile_within
from emsr.jobs.model import load
from emsr.recipe import Upscaling
from emsr.volumes.resample import resampled
from emsr.volumes.source import open_volume


def at(what, done, act):
    """A listener that acts when ``done`` pieces of ``what`` are done."""

    def progress(doing, count, total, note):
        if (doing, count) == (what, done):
            act()

    return Listener(progress=progress)


class Killed(Exception):
    pass


def interrupted(rig, out, after, what="upscale", **settings):
    """A run that ends in the middle of it, without a chance to tidy up its output."""

    def end():
        raise Killed

    with pytest.raises(Killed):
        run(rig, out, listener=at(what, after, end), **settings)


# -- locks ------------------------------------------------------------------------------------


def test_a_second_run_is_refused_and_told_who_holds_the_output(rig, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"

    def second():
        with pytest.raises(InputError, match=f"by process {os.getpid()} on {socket.gethostname()}"):
            run(rig, out)
        with pytest.raises(InputError, match="is being written by process"):
            run(rig, out, slab=(1, 2))
        with pytest.raises(InputError, match="is being written by process"):
            run(rig, out, overwrite=True)

    run(rig, out, listener=at("upscale", 5, second))
    assert tree(out) == plain


def test_slabs_share_an_output_but_none_is_done_twice_at_once(rig, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"

    def others():
        with pytest.raises(InputError, match="is being written by process"):
            run(rig, out, slab=(1, 2))
        with pytest.raises(InputError, match="is being written by process"):
            run(rig, out)
        assert not run(rig, out, slab=(2, 2))["finished"]

    assert run(rig, out, slab=(1, 2), listener=at("upscale", 5, others))["finished"]
    assert tree(out) == plain


def test_the_lock_of_a_killed_run_does_not_block(rig, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    code = "import os, pathlib; from emsr.jobs.claim import claimed; out = pathlib.Path({!r})\n"
    code += "with claimed(out, None): os._exit(9)"
    subprocess.run([sys.executable, "-c", code.format(str(out))])
    assert (notes_of(out) / "lock").exists()
    run(rig, out)
    assert tree(out) == plain


def test_a_lock_of_another_host_counts_while_it_gives_signs_of_life(rig, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    lock = notes_of(out) / "lock"
    lock.parent.mkdir()
    lock.write_text(json.dumps({"pid": 7, "host": "node-far-away", "since": "yesterday"}))
    for slab in (None, (1, 2)):
        with pytest.raises(InputError, match=f"process 7 on node-far-away.* removing {lock}"):
            run(rig, out, slab=slab)
    assert json.loads(lock.read_text())["pid"] == 7
    silent = time.time() - TAKEN_FOR_DEAD_S - 5
    os.utime(lock, (silent, silent))
    run(rig, out)
    assert tree(out) == plain


def test_claims_leave_nothing(tmp_path):
    for slab in (None, (1, 2)):
        with claimed(tmp_path / "sr.ome.zarr", slab) as claim:
            assert claim.notes.is_dir()
            if slab:
                claim.share()
                assert claim.take_all()
        assert list(tmp_path.iterdir()) == []


# -- going on ---------------------------------------------------------------------------------


def test_clipped_voxels_are_counted_over_all_sittings(rig, plain, tmp_path):
    whole = run(rig, tmp_path / "whole.ome.zarr")
    assert 0 < whole["clipped_fraction"] < 1
    out = tmp_path / "sr.ome.zarr"
    interrupted(rig, out, 10)
    interrupted(rig, out, 10)
    last = run(rig, out)
    assert last["clipped_fraction"] == whole["clipped_fraction"]
    assert TILE_COUNT - 26 <= last["tiles_done"] <= TILE_COUNT - 20
    assert last["tiles_resumed"] == TILE_COUNT - last["tiles_done"]
    assert tree(out) == plain


@pytest.mark.parametrize("what", ["read input", "level 1"])
def test_interrupted_elsewhere(what, rig, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    interrupted(rig, out, 3, what)
    run(rig, out)
    assert tree(out) == plain


def test_what_killed_writers_left_is_removed(rig, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    interrupted(rig, out, 10)
    (out / "0" / "c" / "0" / "1" / "1.0123456789abcdef.partial").write_bytes(b"half")
    (tmp_path / ".sr.ome.zarr.0123.partial").mkdir()
    ledger = next(notes_of(out).glob("*.jsonl"))
    ledger.write_text(ledger.read_text()[:-9])  # a line cut short: its tile is done again
    run(rig, out)
    assert tree(out) == plain


def test_killed_just_after_the_last_step(rig, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    run(rig, out)
    notes_of(out).mkdir()
    (notes_of(out) / "lock").touch()
    assert run(rig, out)["tiles_done"] == 0
    assert tree(out) == plain


def test_without_its_ledger_an_output_is_computed_again(rig, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    interrupted(rig, out, 10)
    shutil.rmtree(notes_of(out))
    assert run(rig, out)["tiles_done"] == TILE_COUNT
    assert tree(out) == plain


# -- the input --------------------------------------------------------------------------------


def copy_of_lr(rig, folder):
    return Path(shutil.copy(rig / "lr.tif", folder / "copy.tif"))


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


def test_slabs_of_an_input_that_changed_between_them_are_not_put_together(rig, tmp_path):
    (tmp_path / "out").mkdir()
    out, lr = tmp_path / "out" / "sr.ome.zarr", copy_of_lr(rig, tmp_path)
    run(rig, out, lr=lr, slab=(1, 2))
    values = tifffile.memmap(lr, mode="r+")
    values[0, 0, 0] ^= 1  # what the second slab does not look at
    values.flush()
    with pytest.raises(InputError, match="has changed"):
        run(rig, out, lr=lr, slab=(2, 2))


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


# -- space and memory -------------------------------------------------------------------------


def test_a_full_disk_is_one_line_and_the_run_goes_on_after(rig, plain, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True
    )
    if made.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        out = disk / "sr.ome.zarr"
        refused(command(rig, out), "No space left on device; the tiles that are done stay")
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        assert run(rig, out)["tiles_resumed"] > 0
        assert tree(out) == plain
    finally:
        subprocess.run(["umount", disk], check=True)


def test_files_that_may_not_grow(rig, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    for size in (4000, 8000):  # of the ledger of what was read, of a shard
        limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
        refused(command(rig, out), "File too large; the tiles that are done stay", preexec_fn=limit)
    run(rig, out)
    assert tree(out) == plain


def test_memory_that_runs_out_is_one_line_and_nothing_done_is_lost(rig, tmp_path):
    """A process that may grow by 500 MB, and a tile that needs more."""
    out = tmp_path / "sr.ome.zarr"
    np.save(
        tmp_path / "large.npy", np.random.default_rng(0).integers(0, 256, (1, 2048, 2048), np.uint8)
    )
    code = f"""
import resource, sys, torch, numpy
import emsr.jobs.upscale
import emsr.cli
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 500 * 2**20,) * 2)
sys.argv = {["emsr", *map(str, command(rig, out, lr=tmp_path / "large.npy")), "--spacing", "50,30,30"]}
emsr.cli.main()
"""
    (rig / "large.toml").write_text("[upscaling]\ntile_px = [1, 2048, 2048]\n")
    code = code.replace("recipe.toml", "large.toml")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1, result.stderr
    assert "memory ran out; the tiles that are done stay" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_memory_chooses_the_tile(rig, tmp_path):
    np.save(tmp_path / "lr.npy", np.zeros((1, 2000, 2000), np.uint8))
    lr, given = tmp_path / "lr.npy", {"spacing_nm": LR_NM, "upscaling": Upscaling()}
    with pytest.raises(InputError, match=r"--memory 0.1GB is too little .* needs 0\.\d+GB"):
        run(rig, tmp_path / "sr.ome.zarr", lr=lr, memory=10**8, **given)
    assert [p.name for p in tmp_path.iterdir()] == ["lr.npy"]
    model, volume = load(rig / "model.safetensors", "cpu"), open_volume(lr)
    limits = (520_000_000, 600_000_000, 800_000_000, 4_000_000_000)
    sides = [tile_within(limit, model, volume, Upscaling())[1] for limit in limits]
    assert sides == sorted(sides)
    assert sides[0] < sides[-1] == 1024


def test_a_process_stays_below_the_memory_it_was_given(rig, tmp_path):
    np.save(tmp_path / "lr.npy", np.random.default_rng(0).integers(0, 256, (1, 400, 400), np.uint8))
    line = command(rig, tmp_path / "sr.ome.zarr", "--memory", "550MB", "--json", "--quiet")
    line = [*line, "--spacing", "50,30,30"]
    line[1] = tmp_path / "lr.npy"
    result = subprocess.run([EMSR, *map(str, line)], capture_output=True, text=True)
    assert json.loads(result.stdout)["peak_memory_bytes"] < 550_000_000, result.stderr


def refused(arguments, said, **more):
    line = [EMSR, *map(str, arguments), "--quiet"]
    result = subprocess.run(line, capture_output=True, text=True, **more)
    assert result.returncode == 1, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr


# -- what a second look found -----------------------------------------------------------------


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


def test_slabs_at_once_after_a_kill_before_the_file_was_made(rig, tmp_path):
    run(rig, tmp_path / "whole.tif")
    out = tmp_path / "slabs.tif"
    interrupted(rig, out, 1, what="write tif")
    lines = [command(rig, out, "--quiet", "--slab", f"{n}/3") for n in (1, 2, 3)]
    slabs = [
        subprocess.Popen([EMSR, *map(str, line)], stderr=subprocess.PIPE, text=True)
        for line in lines
    ]
    said = [slab.communicate(timeout=100)[1] for slab in slabs]
    # Who comes while another makes the file is told so; nobody else makes it too.
    assert all(line == "" or "is being written by process" in line for line in said)
    assert min(slab.returncode for slab in slabs) == 0
    assert notes_of(out).exists() is False
    assert out.read_bytes() == (tmp_path / "whole.tif").read_bytes()


def test_processes_that_are_deaf_to_the_terminal():
    before = signal.getsignal(signal.SIGINT)
    with deaf():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    ignored = int(
        re.search(r"SigIgn:\s+(\w+)", Path(f"/proc/{child.pid}/status").read_text())[1], 16
    )
    child.kill()
    child.wait()
    assert ignored >> (signal.SIGINT - 1) & 1
    assert signal.getsignal(signal.SIGINT) is before


def test_an_output_inside_an_image_is_refused(rig, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    run(rig, out)
    before = tree(out)
    with pytest.raises(InputError, match=r"lies inside the image .*sr.ome.zarr: choose another"):
        run(rig, out / "0" / "again.ome.zarr")
    (tmp_path / "elsewhere").symlink_to(out / "0")
    with pytest.raises(InputError, match=r"lies inside the image .*sr.ome.zarr: choose another"):
        run(rig, tmp_path / "elsewhere" / "again.ome.zarr")
    assert tree(out) == before


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


def test_chunks_that_are_unpacked_count_as_memory(rig, tmp_path):
    model, sizes = load(rig / "model.safetensors"), {}
    for name, chunk in (("small", (1, 64, 64)), ("large", (64, 1024, 1024))):
        made = {"shape": (64, 1024, 1024), "chunks": chunk, "dtype": "uint16"}
        zarr.create_array(tmp_path / f"{name}.zarr", **made)
        volume = open_volume(tmp_path / f"{name}.zarr", LR_NM)
        sizes[name] = bytes_needed((1, 64, 64), 100.0, model, volume, Upscaling())
    assert sizes["large"] - sizes["small"] > 2 * 64 * 1024 * 1024 * 0.9


def test_chunks_of_an_input_that_is_resampled_count_as_memory_too(rig, tmp_path):
    model = load(rig / "model.safetensors")
    made = {"shape": (64, 1024, 1024), "chunks": (64, 1024, 1024), "dtype": "uint16"}
    zarr.create_array(tmp_path / "lr.zarr", **made)
    z, y, x = LR_NM
    volume = open_volume(tmp_path / "lr.zarr", (z, 0.8 * y, 0.8 * x))
    coarser = resampled(volume, (y, x))
    assert coarser.chunk == (64, 820, 820)
    sizes = [
        bytes_needed((1, 64, 64), 100.0, model, one, Upscaling())
        for one in (replace(coarser, chunk=None), coarser)
    ]
    # One chunk as it is unpacked: 16-bit, on the file's own grid.
    assert sizes[1] - sizes[0] == 64 * 1024 * 1024 * 2


def test_killed_while_an_old_output_is_removed_it_goes_on(rig, plain, tmp_path, monkeypatch):
    out = tmp_path / "sr.ome.zarr"
    run(rig, out, upscaling=Upscaling(tile_px=(2, 64, 64)))
    remove = shutil.rmtree

    def killed(path, *_, **__):
        remove(path / "0")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("emsr.jobs.output.shutil.rmtree", killed)
        with pytest.raises(Killed):
            run(rig, out, overwrite=True)
    run(rig, out)
    assert tree(out) == plain
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_link_to_an_output_is_that_output(rig, plain, tmp_path):
    out, link = tmp_path / "sr.ome.zarr", tmp_path / "link.ome.zarr"
    link.symlink_to(out.name)
    with claimed(out, None), pytest.raises(InputError, match="is being written by"):
        run(rig, link)
    run(rig, link)
    assert tree(out) == plain


def test_who_forgot_an_output_leaves_the_next_ones_lock_alone(tmp_path):
    out = tmp_path / "sr.ome.zarr"
    with claimed(out, None) as first:
        first.forget()
        second = claimed(out, None)
        second.__enter__()
    with pytest.raises(InputError, match="is being written by"), claimed(out, None):
        pass
    second.__exit__(None, None, None)


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
