"""Locks and claims: an output has one writer, by whatever name it is called."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
from interruptions import at, interrupted
from route import EMSR
from volumes_to_upscale import command, run, tree

from emsr.errors import InputError
from emsr.jobs.claim import TAKEN_FOR_DEAD_S, claimed, notes_of


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


def test_who_forgot_an_output_leaves_the_next_ones_lock_alone(tmp_path):
    out = tmp_path / "sr.ome.zarr"
    with claimed(out, None) as first:
        first.forget()
        second = claimed(out, None)
        second.__enter__()
    with pytest.raises(InputError, match="is being written by"), claimed(out, None):
        pass
    second.__exit__(None, None, None)


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


# -- where the output is ----------------------------------------------------------------------


def test_a_link_to_an_output_is_that_output(rig, plain, tmp_path):
    out, link = tmp_path / "sr.ome.zarr", tmp_path / "link.ome.zarr"
    link.symlink_to(out.name)
    with claimed(out, None), pytest.raises(InputError, match="is being written by"):
        run(rig, link)
    run(rig, link)
    assert tree(out) == plain


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
