"""Space and memory that run out, and the memory that a tile is chosen for."""

import json
import resource
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import zarr
from route import EMSR
from volumes_to_upscale import LR_NM, command, run, tree

from emsr.errors import InputError
from emsr.jobs.memory import bytes_needed, tile_within
from emsr.jobs.model import load
from emsr.recipe import Upscaling
from emsr.volumes.resample import resampled
from emsr.volumes.source import open_volume


def refused(arguments, said, **more):
    line = [EMSR, *map(str, arguments), "--quiet"]
    result = subprocess.run(line, capture_output=True, text=True, **more)
    assert result.returncode == 1, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr


# -- space ------------------------------------------------------------------------------------


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


# -- memory -----------------------------------------------------------------------------------


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
