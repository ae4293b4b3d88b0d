"""Kills and going on: nothing is lost that was done, and the bytes are the same."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from interruptions import Killed, interrupted
from volumes_to_upscale import TILE_COUNT, run, tree

from emsr.jobs.claim import notes_of
from emsr.jobs.execute import deaf
from emsr.recipe import Upscaling


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
