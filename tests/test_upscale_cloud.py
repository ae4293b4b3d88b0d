"""Upscaling to object storage: a real S3 server on loopback, the same bytes, nothing that only looks
whole."""

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from interruptions import at, interrupted
from route import EMSR, emsr
from test_volumes_cloud import bucket, s3  # noqa: F401
from volumes_to_upscale import LR_NM, command, run, tree

from emsr.errors import InputError
from emsr.geometry.box import whole
from emsr.jobs import claim_cloud
from emsr.jobs.claim import claimed
from emsr.jobs.form import Form
from emsr.jobs.trust import Trust
from emsr.volumes.omezarr import is_image
from emsr.volumes.place import Remote, place, spoken
from emsr.volumes.source import open_volume
from emsr.volumes.tiff import write_tiff

TILE_COUNT = 18


@pytest.fixture(scope="module")
def rig(rig, tmp_path_factory):
    """As that of all, with fewer tiles: a server in Python is slow."""
    folder = tmp_path_factory.mktemp("small")
    for name in ("model.safetensors", "recipe.toml"):
        shutil.copy(rig / name, folder)
    lr = np.random.default_rng(0).integers(0, 256, (2, 96, 96), np.uint8)
    write_tiff(folder / "lr.tif", lr, lr.shape, lr.dtype, LR_NM)
    (folder / "plain").mkdir()
    run(folder, folder / "plain" / "sr.ome.zarr")
    return folder


@pytest.fixture(scope="module")
def plain(rig):
    return tree(rig / "plain" / "sr.ome.zarr")


@pytest.fixture
def out(bucket, s3, request):  # noqa: F811
    """A URL of its own in a bucket that anybody with credentials may write to."""
    _, client = s3
    yield f"s3://brain/{request.node.name}/sr.ome.zarr"
    client.delete_bucket_policy(Bucket="brain")


def objects(url):
    """Every object of an output by name; and nothing may lie beside it."""
    here = place(url)
    held = {one.place.key: one for one in here.parents[0].below()}
    beside = [key for key in held if not key.startswith(f"{here.key}/")]
    assert beside == []
    return {key.removeprefix(f"{here.key}/"): here.files.cat_file(key) for key in held}


def root(url):
    return json.loads((place(url) / "zarr.json").read_text())["attributes"]


def shards(url):
    return sum(1 for _ in (place(url) / "0" / "c").below())


@contextmanager
def denied(s3, *actions):  # noqa: F811
    """A policy of the bucket, which the server enforces."""
    _, client = s3
    every = {"Effect": "Deny", "Principal": "*", "Resource": "arn:aws:s3:::brain/*"}
    policy = {"Version": "2012-10-17", "Statement": [{**every, "Action": list(actions)}]}
    client.put_bucket_policy(Bucket="brain", Policy=json.dumps(policy))
    try:
        yield
    finally:
        client.delete_bucket_policy(Bucket="brain")


def said(result):
    """The one line of a run that was refused."""
    assert result.returncode == 1, result.stderr
    lines = [line for line in result.stderr.splitlines() if "/18" not in line]
    assert len(lines) == 1, lines
    return lines[0]


# -- the same bytes ---------------------------------------------------------------------------


def test_killed_refused_and_gone_on_with_by_workers(rig, plain, out):
    log = rig / "log"
    arguments = [EMSR, *map(str, command(rig, out))]
    with log.open("w") as to, subprocess.Popen(arguments, stdout=to, stderr=to) as first:
        try:
            while shards(out) < 2:
                assert first.poll() is None, log.read_text()
                time.sleep(0.02)
            first.send_signal(signal.SIGSTOP)
            assert f"is being written by process {first.pid} on" in said(emsr(*command(rig, out)))
        finally:
            first.kill()
    there = shards(out)
    assert 2 <= there < TILE_COUNT
    attributes = root(out)
    assert attributes.keys() == {"emsr"}
    assert attributes["emsr"]["state"] == "unfinished"
    with pytest.raises(InputError, match="unfinished"):
        open_volume(out)
    result = emsr(*command(rig, out, "--workers", 2, "--json", "--quiet"))
    summary = json.loads(result.stdout)
    assert summary["tiles_resumed"] >= there - 2
    assert objects(out) == plain
    assert run(rig, out)["tiles_done"] == 0
    assert objects(out) == plain


def test_a_shard_is_a_single_put(rig, plain, out):
    assert run(rig, out)["finished"]
    assert objects(out) == plain
    # a server marks what was put in parts by a number of them
    assert not any("-" in one.etag for one in place(out).below())
    volume, local = open_volume(out), open_volume(rig / "plain" / "sr.ome.zarr")
    box = whole(volume.shape)
    np.testing.assert_array_equal(volume.read(box), local.read(box))
    assert volume.spacing_nm == local.spacing_nm


def test_interrupted_before_anything_is_written(rig, out):
    interrupted(rig, out, 3, "read input")
    assert not place(out).exists()


def test_interrupted_and_not_all_laid_out(rig, plain, out):
    interrupted(rig, out, 6)
    done = shards(out)
    assert root(out).keys() == {"emsr"}
    for name in ("0/zarr.json", "1/zarr.json"):
        (place(out) / name).unlink()
    assert run(rig, out)["tiles_resumed"] == done
    assert objects(out) == plain


def test_slabs_share_an_output(rig, plain, out):
    def others():
        for slab in ((1, 2), None):
            with pytest.raises(InputError, match="is being written by process"):
                run(rig, out, slab=slab)
        assert not run(rig, out, slab=(2, 2))["finished"]

    assert run(rig, out, slab=(1, 2), listener=at("upscale", 3, others))["finished"]
    assert objects(out) == plain


# -- locks ------------------------------------------------------------------------------------


def test_the_lock_of_a_killed_run_does_not_block(rig, plain, out):
    code = "import os; from emsr.jobs.claim import claimed; from emsr.volumes.place import place\n"
    code += f"with claimed(place({out!r}), None): os._exit(9)"
    subprocess.run([sys.executable, "-c", code])
    lock = claim_cloud.notes_of(place(out)) / "lock"
    assert json.loads(lock.read_text())["pid"]
    run(rig, out)
    assert objects(out) == plain


def test_a_lock_of_another_host_counts_while_it_gives_signs_of_life(rig, plain, out, monkeypatch):
    lock = claim_cloud.notes_of(place(out)) / "lock"
    lock.write_text(json.dumps({"pid": 7, "host": "node-far-away", "since": "yesterday"}))
    for slab in (None, (1, 2)):
        with pytest.raises(InputError, match=f"process 7 on node-far-away.* deleting {lock}"):
            run(rig, out, slab=slab)
    assert json.loads(lock.read_text())["pid"] == 7
    monkeypatch.setattr(claim_cloud, "TAKEN_FOR_DEAD_S", -5)
    run(rig, out)
    assert objects(out) == plain


def test_of_many_at_once_one_gets_the_lock(out):
    code = (
        "import sys; from emsr.jobs.claim import claimed; from emsr.volumes.place import place\n"
        f"with claimed(place({out!r}), None): sys.stdin.read(1)"
    )
    crew = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for _ in range(4)
    ]
    try:
        deadline = time.monotonic() + 60
        while sum(one.poll() is None for one in crew) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        holder = next(one for one in crew if one.poll() is None)
        lock = claim_cloud.notes_of(place(out)) / "lock"
        while not lock.exists():
            time.sleep(0.05)
        assert json.loads(lock.read_text())["pid"] == holder.pid
    finally:
        for one in crew:
            one.communicate(b"x")
    assert not place(out).parents[0].exists()


def test_a_sign_of_life_whose_answer_was_lost_is_not_the_last(out, monkeypatch):
    with claimed(place(out), None) as claim:
        lock = claim.notes / "lock"
        first = lock.found().etag

        def unanswered(place, text, instead_of=None):
            put_new(place, text, instead_of)
            raise InputError("no network for a while")

        put_new = claim_cloud.put_new
        with monkeypatch.context() as patch:
            patch.setattr(claim_cloud, "put_new", unanswered)
            claim.sign()
        second = lock.found().etag
        claim.sign()
        assert len({first, second, lock.found().etag}) == 3


def test_whoever_finishes_may_remove_the_clock(out, monkeypatch):
    found, gone = Remote.found, []

    def vanishing(self):
        if self.name.startswith("clock-") and not gone:
            gone.append(self.name)
            self.unlink()
        return found(self)

    with claimed(place(out), None):
        monkeypatch.setattr(Remote, "found", vanishing)
        with (
            pytest.raises(InputError, match="is being written by process"),
            claimed(place(out), None),
        ):
            pass
    assert gone
    assert not place(out).parents[0].exists()


def test_a_lock_of_a_host_of_the_same_name_counts(out, monkeypatch):
    lock = claim_cloud.notes_of(place(out)) / "lock"
    code = "import sys; from emsr.jobs import claim_cloud; from emsr.volumes.place import place\n"
    code += "place(sys.argv[1]).write_text(claim_cloud.CloudClaim(place('s3://b/c'), None)._text())"
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self: "x" if self.name == "boot_id" else read(self)
    )
    subprocess.run([sys.executable, "-c", code, str(lock)], check=True)
    with pytest.raises(InputError, match="is being written by process"), claimed(place(out), None):
        pass
    lock.unlink()


# -- what lies there --------------------------------------------------------------------------


def test_another_run_s_output_is_kept_unless_overwritten(rig, plain, out, s3):  # noqa: F811
    run(rig, out, form=Form(dtype="float32"))
    before = objects(out)
    assert before != plain
    with pytest.raises(InputError, match="is not this run's finished output"):
        run(rig, out)
    assert objects(out) == before
    with denied(s3, "s3:DeleteObject"), pytest.raises(InputError):
        run(rig, out, overwrite=True)
    assert root(out).keys() == {"emsr"}  # half removed, and no image any more
    (claim_cloud.notes_of(place(out)) / "lock").unlink()
    run(rig, out, overwrite=True)
    assert objects(out) == plain


def test_what_is_no_zarr_is_not_removed(rig, out):
    (place(out) / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="no Zarr: remove it yourself"):
        run(rig, out, overwrite=True)
    assert objects(out) == {"notes.txt": b"mine"}


def test_puts_denied_midway_stop_in_one_line_and_it_goes_on(rig, plain, out, s3):  # noqa: F811
    with pytest.raises(InputError) as caught, _denied_after(rig, out, s3, 6):
        pass
    assert "\n" not in str(caught.value)
    assert "access denied" in str(caught.value)
    assert root(out).keys() == {"emsr"}
    assert run(rig, out)["tiles_resumed"] >= 4
    assert objects(out) == plain


@contextmanager
def _denied_after(rig, out, s3, tiles):  # noqa: F811
    with denied(s3, "s3:NoSuchAction") as _:
        _, client = s3

        def deny():
            every = {"Effect": "Deny", "Principal": "*", "Resource": "arn:aws:s3:::brain/*"}
            policy = {"Statement": [{**every, "Action": ["s3:PutObject"]}]}
            client.put_bucket_policy(Bucket="brain", Policy=json.dumps(policy))

        run(rig, out, listener=at("upscale", tiles, deny))
        yield


def test_many_objects_are_listed_and_removed_by_pages(out, monkeypatch):
    monkeypatch.setattr("emsr.volumes.place._AT_ONCE", 2)
    here = place(out)
    here.write_text("not below")
    names = ["a", "b/c", "d*", "e?f", "g[h]%20 ü#+"]
    for name in names:
        (here / name).write_text(name)
    assert [one.place.key.removeprefix(f"{here.key}/") for one in here.below()] == names
    here.remove("a")
    assert [one.place.name for one in here.below()] == ["a"]
    (here / "a").unlink()
    assert list(here.below()) == []
    here.unlink()


def test_names_with_signs_and_slashes(rig, plain, out):
    folder = out.rpartition("/")[0]
    url = f"{folder}//s r#+*[x]%20ü.ome.zarr/"
    summary = run(rig, url)
    assert summary["finished"]
    assert summary["out"] == f"{folder}/s r#+*[x]%20ü.ome.zarr"
    assert objects(url) == plain


def test_credentials_of_a_folder_of_the_bucket(out, monkeypatch):
    read = Remote.read_text

    def denied_above(self):
        if self.name in ("zarr.json", ".zattrs"):
            with spoken(self):
                raise PermissionError("Access Denied")
        return read(self)

    monkeypatch.setattr(Remote, "read_text", denied_above)
    assert not any(map(is_image, place(out).parents))


# -- bad input --------------------------------------------------------------------------------

BAD = {
    "no such bucket": ("s3://nobody/sr.ome.zarr", {}, "bucket does not exist"),
    "no name": ("s3://brain", {}, "expected an output at s3://bucket/name.ome.zarr"),
    "another scheme": ("gs://brain/sr.ome.zarr", {}, "expected an output at s3://"),
    "no Zarr": ("s3://brain/sr.tif", {}, "a .tif output is written to this machine only"),
    "no suffix": ("s3://brain/sr", {}, "whose name ends in .ome.zarr"),
    "maps of trust": (
        "s3://brain/sr.ome.zarr",
        {"trust": Trust(False)},
        "--trust is written to this machine",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_urls_are_refused_in_one_line(case, rig, out, s3):  # noqa: F811
    url, more, says = BAD[case]
    with pytest.raises(InputError, match=says) as caught:
        run(rig, url, **more)
    assert "\n" not in str(caught.value)
    _, client = s3
    assert not client.list_objects_v2(Bucket="brain", Prefix="sr").get("Contents")


def test_without_credentials(rig, out, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "no credentials to write with: set AWS_ACCESS_KEY_ID" in said(emsr(*command(rig, out)))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "writer")
    assert not place(out).parents[0].exists()


def test_puts_denied(rig, out, s3):  # noqa: F811
    with denied(s3, "s3:PutObject"), pytest.raises(InputError) as caught:
        run(rig, out)
    assert "access denied" in str(caught.value)
    assert str(caught.value).startswith(out.rpartition("/")[0])
    assert not place(out).parents[0].exists()


def test_nobody_listens(rig, out, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="check the URL and the network"):
        run(rig, out)


def test_over_its_own_input(rig, plain, out):
    run(rig, out)
    for url in (out, f"{out}/0", out.rpartition("/")[0]):
        with pytest.raises(InputError, match=r"overlap|lies inside"):
            run(rig, out, lr=url)
    with pytest.raises(InputError, match="lies inside the image"):
        run(rig, f"{out}/sr.zarr")
    assert objects(out) == plain
