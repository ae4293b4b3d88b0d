"""What an output on object storage costs in requests, how little is kept of its shards, and what is
told where it cannot be written."""

import re
import tracemalloc
from collections import Counter

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from test_upscale_cloud import TILE_COUNT, denied, objects, out, plain, rig  # noqa: F401
from test_volumes_cloud import NOWHERE, bucket, s3  # noqa: F401
from volumes_to_upscale import run, tree

from emsr.errors import InputError
from emsr.geometry.box import Box
from emsr.volumes import omezarr
from emsr.volumes.omezarr_boxes import stored, written
from emsr.volumes.place import place
from emsr.volumes.pyramid import block_mean

REQUEST = re.compile(r'"(?:\x1b\[[\d;]*m)*(\w+) /(\S*) HTTP')  # failures are coloured
SHARD = re.compile(r"sr\.ome\.zarr/(\d)/c/\d")
COARSER = 8
"""Shards of level 1; each is made of one to four of level 0, and every one of these once."""


@pytest.fixture
def requests(s3, tmp_path_factory):  # noqa: F811
    """All that the server was asked so far, as it logs it: (verb, path and query)."""
    endpoint, _ = s3
    logs = tmp_path_factory.getbasetemp().glob("s3*/log")
    log = next(path for path in logs if endpoint in path.read_text())
    return lambda: [found.groups() for found in REQUEST.finditer(log.read_text())]


# -- how many requests ------------------------------------------------------------------------


def test_a_shard_is_asked_for_no_more_than_it_must_be(rig, plain, out, requests):  # noqa: F811
    before = len(requests())
    run(rig, out)
    asked = requests()[before:]
    shards = Counter((verb, found[1]) for verb, path in asked if (found := SHARD.search(path)))
    notes = sum(verb == "PUT" and path.endswith(".jsonl") for verb, path in asked)
    assert objects(out) == plain
    assert shards["PUT", "0"] == TILE_COUNT
    assert notes <= TILE_COUNT + 3
    assert shards["PUT", "1"] == COARSER
    assert shards["GET", "0"] == TILE_COUNT  # read once, when they are averaged
    assert shards.total() == 2 * TILE_COUNT + COARSER
    for level in "01":  # listed before its shards are made, and before the store is finished
        assert sum(f"/{level}/c/&" in path for _, path in asked) == 2
    assert len(asked) - shards.total() - notes < 70  # what a run of any size asks


def test_shards_that_the_edge_cuts_are_read_in_one_request(out, requests, tmp_path):  # noqa: F811
    stack = np.random.default_rng(0).integers(0, 256, (1, 70, 70), np.uint8)
    layout = (stack.shape, stack.dtype, None, (1, 16, 16), (1, 32, 32), {})
    for where in (place(out), tmp_path / "sr.ome.zarr"):
        omezarr.create(where, *layout, coarsest_px=20)
        levels = omezarr.Levels(where)
        for box in levels.boxes(0):
            omezarr.write_box(levels.array(0), box, stack[box.slices])
        before = len(requests())
        for number in (1, 2):
            for box in levels.boxes(number):
                step, below = levels.finer(number, box)
                values = omezarr.read_box(levels.array(number - 1), below)
                omezarr.write_box(levels.array(number), box, block_mean(values, step))
        if where == place(out):
            asked = requests()[before:]
    got = [found[1] for verb, path in asked if verb == "GET" and (found := SHARD.search(path))]
    assert Counter(got) == {"0": 9, "1": 4}
    omezarr.finish(place(out))
    omezarr.finish(tmp_path / "sr.ome.zarr")
    assert objects(out) == tree(tmp_path / "sr.ome.zarr")


# -- what is kept of them ---------------------------------------------------------------------


def level(shape, shard):
    made = {"shape": shape, "chunks": shard, "shards": shard, "dtype": "uint8"}
    return zarr.create_array(zarr.storage.MemoryStore(), **made)


JUNK = [
    "",
    "c",
    "c/",
    "c/0/0",
    "c/0/0/0/0",
    "c/00/0/0",
    "c/0/0/x",
    "d/0/0/0",
    "c/-1/0/0",
    "c/9/0/0",
]
GRID = (3, 2, 4)


@given(there=st.sets(st.tuples(*(st.integers(0, n - 1) for n in GRID))))
@settings(max_examples=30, deadline=None)
def test_exactly_the_shards_whose_keys_are_listed_count_as_stored(there):
    array = level((5, 30, 70), (2, 16, 20))
    found = stored(array, [*JUNK, *("c/{}/{}/{}".format(*index) for index in there), "c/٣/0/0"])
    assert found.shape == GRID
    assert set(zip(*map(np.ndarray.tolist, found.nonzero()), strict=True)) == there


def test_many_shards_take_a_byte_each():
    side = 300
    array = level((1, side * 8, side * 8), (1, 8, 8))
    tracemalloc.start()
    found = stored(array, (f"c/0/{n // side}/{n % side}" for n in range(1, side * side)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.sum() == side * side - 1
    assert peak < 2 * side * side


def test_a_box_is_written_when_all_its_shards_are(out):  # noqa: F811
    array, folder = level((2, 48, 48), (2, 16, 16)), place(out) / "0"
    for key in ("c/0/0/0", "c/0/0/1", "c/0/2/2"):
        (folder / key).write_text("")
    is_there = written(folder, array)
    assert is_there(Box((0, 0, 0), (2, 16, 32)))
    assert is_there(Box((0, 32, 32), (2, 48, 48)))
    assert not is_there(Box((0, 0, 0), (2, 16, 48)))
    with pytest.raises(ValueError, match="whole shards"):
        is_there(Box((0, 0, 0), (2, 16, 17)))


# -- where it cannot be written ---------------------------------------------------------------

UNWRITABLE = {
    "denied": ("brain", r"access denied with your credentials: let them put.*run the same again$"),
    "no bucket": ("nobody", r"the bucket does not exist: make it, or choose another --out$"),
    "nobody listens": ("brain", r"Could not connect.*check the network and.*AWS_ENDPOINT_URL"),
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_a_shard_that_cannot_be_put(case, s3, bucket, monkeypatch):  # noqa: F811
    name, says = UNWRITABLE[case]
    if case == "nobody listens":
        monkeypatch.setenv("AWS_ENDPOINT_URL", NOWHERE)
    folder = place(f"s3://{name}/unwritable/sr.ome.zarr/0")
    known = level((2, 16, 16), (2, 16, 16)).async_array
    where = zarr.storage.StorePath(folder.store)
    array = zarr.Array(zarr.AsyncArray(known.metadata, where, known.config))
    with denied(s3, "s3:PutObject"), pytest.raises(InputError, match=says) as caught:
        omezarr.write_box(array, Box((0, 0, 0), (2, 16, 16)), np.ones((2, 16, 16), np.uint8))
    assert str(caught.value).startswith(f"{folder} cannot be written: ")
    assert "\n" not in str(caught.value)
