"""The output store: whole shards or nothing, same bytes in any order, valid when finished."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from emsr.errors import InputError
from emsr.geometry.box import Box, blocks, whole
from emsr.volumes import omezarr
from emsr.volumes.flatten import omezarr_to_tiff
from emsr.volumes.pyramid import block_mean, downsample_plan
from emsr.volumes.source import open_volume
from emsr.volumes.tiff import software_of

SHAPE, CHUNK, SHARD = (5, 70, 90), (1, 16, 16), (2, 32, 32)
SPACING = (20.0, 5.0, 5.0)
RUN = {"model": "abc", "plan": [1, 2, 3]}
STACK = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)


def create(path, stack=STACK, spacing_nm=SPACING, coarsest_px=20):
    omezarr.create(
        path, stack.shape, stack.dtype, spacing_nm, CHUNK, SHARD, RUN, coarsest_px=coarsest_px
    )
    return path


def fill(path, stack=STACK, order=lambda boxes: boxes):
    """Write level 0 shard by shard, then the pyramid, then finish."""
    array = omezarr.open_level(path, 0)
    for box in order(omezarr.shard_boxes(path, 0)):
        omezarr.write_box(array, box, stack[box.slices])
    for level in range(1, omezarr.level_count(path)):
        for box in order(omezarr.shard_boxes(path, level)):
            omezarr.build_shard(path, level, box)
    omezarr.finish(path)
    return path


def tree(path):
    return {
        str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return fill(create(tmp_path_factory.mktemp("store") / "out.ome.zarr"))


# -- what others see --------------------------------------------------------------------------


def test_valid_for_an_independent_validator(finished):
    image = yaozarrs.validate_zarr_store(str(finished))
    assert image is not None


def test_zarr_reads_the_grey_values(finished):
    group = zarr.open_group(str(finished), mode="r")
    np.testing.assert_array_equal(group["0"][:], STACK)
    assert group["0"].shards == SHARD
    assert group["0"].chunks == CHUNK
    assert group["0"].metadata.dimension_names == ("z", "y", "x")


def test_our_reader_gives_spacing_of_every_level(finished):
    assert open_volume(finished).spacing_nm == (20.0, 5.0, 5.0)
    assert open_volume(finished, level=1).spacing_nm == (20.0, 10.0, 10.0)
    assert open_volume(finished, level=2).spacing_nm == (20.0, 20.0, 20.0)
    assert open_volume(finished, level=3).spacing_nm == (40.0, 40.0, 40.0)


def test_areas_are_aligned_not_centres(finished):
    """The outer edge of the first voxel, translation - scale / 2, is the same at all levels."""
    datasets = zarr.open_group(str(finished)).attrs["ome"]["multiscales"][0]["datasets"]
    assert len(datasets) == 4
    for dataset in datasets:
        scale, translation = dataset["coordinateTransformations"]
        edges = np.array(translation["translation"]) - np.array(scale["scale"]) / 2
        np.testing.assert_allclose(edges, np.array(SPACING) / -2)


def test_unknown_spacing_has_no_unit(tmp_path):
    path = fill(create(tmp_path / "a.zarr", spacing_nm=None))
    axes = zarr.open_group(str(path)).attrs["ome"]["multiscales"][0]["axes"]
    assert all("unit" not in axis for axis in axes)
    assert open_volume(path).spacing_nm is None
    assert open_volume(path, level=1).shape == (5, 35, 45)
    yaozarrs.validate_zarr_store(str(path))


@given(spacing=st.tuples(*[st.floats(1e-2, 1e5)] * 3))
@settings(max_examples=10, deadline=None)
def test_spacing_survives_exactly(tmp_path_factory, spacing):
    path = tmp_path_factory.mktemp("s") / "a.zarr"
    fill(create(path, STACK[:1, :8, :8], spacing), STACK[:1, :8, :8])
    assert open_volume(path).spacing_nm == spacing


# -- the state of a run -----------------------------------------------------------------------


def test_states(tmp_path):
    path = tmp_path / "a.zarr"
    assert omezarr.read_state(path) is None
    create(path)
    state = omezarr.read_state(path)
    assert (state["state"], state["run"]) == ("unfinished", RUN)
    with pytest.raises(InputError, match="unfinished: run the same emsr upscale again"):
        open_volume(path)
    with pytest.raises(ValueError, match="Is this an OME-Zarr group"):
        yaozarrs.validate_zarr_store(str(path))
    fill(path)
    state = omezarr.read_state(path)
    assert (state["state"], state["run"]) == ("finished", RUN)
    before = tree(path)
    omezarr.finish(path)
    assert tree(path) == before


@pytest.mark.parametrize("missing_level", [0, 1])
def test_an_incomplete_store_cannot_be_finished(tmp_path, missing_level):
    path = create(tmp_path / "a.zarr")
    for level in range(omezarr.level_count(path)):
        array = omezarr.open_level(path, level)
        for box in omezarr.shard_boxes(path, level)[level == missing_level :]:
            omezarr.write_box(array, box, np.zeros(box.shape, np.uint8))
    with pytest.raises(ValueError, match=f"level {missing_level}: the shard at .0, 0, 0. is not"):
        omezarr.finish(path)
    assert omezarr.read_state(path)["state"] == "unfinished"


def test_something_else_is_there(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    zarr.save_array(str(tmp_path / "array.zarr"), STACK)
    for name in ("file", "folder", "array.zarr"):
        with pytest.raises(InputError, match=r"not written by emsr.*--overwrite"):
            omezarr.read_state(tmp_path / name)
        with pytest.raises(InputError, match="exists"):
            create(tmp_path / name)


def test_a_killed_creation_leaves_nothing_in_the_way(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(omezarr, "write_root", killed)
        with pytest.raises(KeyboardInterrupt):
            create(tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".a.zarr.partial" / "0").mkdir(parents=True)  # what SIGKILL would leave
    fill(create(tmp_path / "a.zarr"))
    fill(create(tmp_path / "b.zarr"))
    assert tree(tmp_path / "a.zarr") == tree(tmp_path / "b.zarr")


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        create(tmp_path / "file" / "a.zarr")


# -- one writer, any order, same bytes --------------------------------------------------------


@given(seed=st.integers(0, 1000))
@settings(max_examples=8, deadline=None)
def test_order_does_not_change_a_byte(finished, tmp_path_factory, seed):
    def shuffled(boxes):
        return random.Random(seed).sample(boxes, len(boxes))

    other = tmp_path_factory.mktemp("order") / "another name.zarr"
    assert tree(fill(create(other), order=shuffled)) == tree(finished)


def test_a_box_through_a_shard_is_refused(tmp_path):
    array = omezarr.open_level(create(tmp_path / "a.zarr"), 0)
    for start, stop in [
        ((0, 0, 0), (2, 32, 31)),
        ((0, 1, 0), (2, 32, 32)),
        ((1, 0, 0), (2, 32, 32)),
        ((4, 64, 64), (6, 70, 90)),
    ]:
        box = Box(start, stop)
        with pytest.raises(ValueError, match="whole shards"):
            omezarr.write_box(array, box, np.zeros(box.shape, np.uint8))
        with pytest.raises(ValueError, match="whole shards"):
            omezarr.is_written(array, box)
    with pytest.raises(ValueError, match="expected"):
        omezarr.write_box(array, Box((0, 0, 0), (2, 32, 32)), np.zeros((2, 32, 32), np.float32))


def test_exactly_the_written_shards_exist_also_of_zeros(tmp_path):
    path = create(tmp_path / "a.zarr")
    array = omezarr.open_level(path, 0)
    boxes = omezarr.shard_boxes(path, 0)
    written = set()
    for box in boxes[::2]:
        omezarr.write_box(array, box, np.zeros(box.shape, np.uint8))
        written.add(box)
        assert {b for b in boxes if omezarr.is_written(array, b)} == written
    assert not omezarr.is_written(array, whole(SHAPE))
    assert sum(p.is_file() for p in (path / "0" / "c").rglob("*")) == len(written)


KILLED_WHILE_WRITING = """
import os, signal, sys, pathlib
import numpy as np
from emsr.volumes import omezarr

path, box_number = sys.argv[1], int(sys.argv[2])
array = omezarr.open_level(path, 0)
box = omezarr.shard_boxes(path, 0)[box_number]
replace = pathlib.Path.replace

def killed_before_the_rename(self, target):
    size = self.stat().st_size
    with self.open("r+b") as file:
        file.truncate(size // 2)
    os.kill(os.getpid(), signal.SIGKILL)

pathlib.Path.replace = killed_before_the_rename
omezarr.write_box(array, box, np.ones(box.shape, np.uint8))
"""


def test_a_shard_that_was_being_written_at_a_kill_does_not_exist(finished, tmp_path):
    path = create(tmp_path / "a.zarr")
    for number in (0, 5):
        killed = subprocess.run(
            [sys.executable, "-c", KILLED_WHILE_WRITING, str(path), str(number)], check=False
        )
        assert killed.returncode == -signal.SIGKILL
    assert len(list(path.rglob("*.partial"))) == 2
    array = omezarr.open_level(path, 0)
    assert not any(omezarr.is_written(array, box) for box in omezarr.shard_boxes(path, 0))
    assert tree(fill(path)) == tree(finished)


def test_shards_appear_by_rename(tmp_path, monkeypatch):
    """A shard's name never shows an incomplete file: it appears by one rename of all its bytes."""
    path = create(tmp_path / "a.zarr")
    array, box = omezarr.open_level(path, 0), Box((0, 0, 0), (2, 32, 32))
    sizes, replace = [], Path.replace

    def watched(self, target):
        if "c" in Path(target).parts:
            assert not Path(target).exists()
            sizes.append(self.stat().st_size)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    omezarr.write_box(array, box, STACK[box.slices])
    assert sizes == [(path / "0" / "c" / "0" / "0" / "0").stat().st_size]


# -- the pyramid ------------------------------------------------------------------------------


def brute_mean(values, step):
    shape = tuple(-(-n // s) for n, s in zip(values.shape, step, strict=True))
    out = np.empty(shape)
    for index in np.ndindex(shape):
        cut = tuple(slice(i * s, (i + 1) * s) for i, s in zip(index, step, strict=True))
        out[index] = np.mean(values[cut].astype(float))
    return np.rint(out).astype(values.dtype) if values.dtype.kind in "iu" else out


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
    step=st.sampled_from([(1, 2, 2), (2, 2, 2), (1, 1, 1)]),
    dtype=st.sampled_from([np.uint8, np.int16, np.uint16, np.float32]),
    seed=st.integers(0, 99),
)
def test_block_mean_is_the_mean_of_what_is_there(shape, step, dtype, seed):
    values = np.random.default_rng(seed).integers(0, 120, shape).astype(dtype)
    mean = block_mean(values, step)
    assert mean.dtype == dtype
    np.testing.assert_allclose(mean, brute_mean(values, step), rtol=1e-6)


def test_block_mean_does_not_drift():
    values = np.random.default_rng(0).integers(0, 256, (4, 512, 512), np.uint8)
    assert abs(block_mean(values, (1, 2, 2)).mean() - values.mean()) < 0.01
    full = np.full((2, 4, 4), 255, np.uint8)
    assert (block_mean(full, (2, 2, 2)) == 255).all()


def test_levels_built_by_shards_equal_the_whole_mean(finished):
    group = zarr.open_group(str(finished), mode="r")
    expected = STACK
    for level, step in ((1, (1, 2, 2)), (2, (1, 2, 2)), (3, (2, 2, 2))):
        expected = block_mean(expected, step)
        np.testing.assert_array_equal(group[str(level)][:], expected)
    np.testing.assert_array_equal(group["1"][:], brute_mean(STACK, (1, 2, 2)))


def test_z_is_halved_once_the_plane_has_caught_up():
    factors = [level.factor for level in downsample_plan((64, 999, 800), (40.0, 6.0, 6.0), 20)]
    assert factors == [
        (1, 1, 1),
        (1, 2, 2),
        (1, 4, 4),
        (1, 8, 8),
        (2, 16, 16),
        (4, 32, 32),
        (8, 64, 64),
    ]
    isotropic = downsample_plan((64, 64, 64), (5.0, 5.0, 5.0), 16)
    assert [level.shape for level in isotropic] == [(64, 64, 64), (32, 32, 32), (16, 16, 16)]
    unknown = downsample_plan((3, 100, 33), None, 30)
    assert [level.shape for level in unknown] == [(3, 100, 33), (3, 50, 17), (3, 25, 9)]
    assert [level.shape for level in downsample_plan((9, 8, 8), None, 16)] == [(9, 8, 8)]


@given(shape=st.tuples(*[st.integers(1, 12)] * 3), shard=st.tuples(*[st.integers(1, 5)] * 3))
def test_shard_boxes_cover_every_voxel_once(shape, shard):
    count = np.zeros(shape, int)
    for box in blocks(shape, shard):
        count[box.slices] += 1
        assert all(a % s == 0 for a, s in zip(box.start, shard, strict=True))
    assert (count == 1).all()


# -- OME-TIFF ---------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [False, True])
def test_flattened_to_tiff(finished, tmp_path, compress):
    omezarr_to_tiff(finished, tmp_path / "a.tif", 30, compress, software="emsr run 7")
    assert software_of(tmp_path / "a.tif") == "emsr run 7"
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_ome
        assert tif.series[0].axes == "ZYX"
        assert tif.pages[0].tile == (32, 32)
        np.testing.assert_array_equal(tif.asarray(), STACK)
    volume = open_volume(tmp_path / "a.tif")
    assert volume.spacing_nm == SPACING
    box = Box((1, 20, 30), (4, 69, 90))
    np.testing.assert_array_equal(volume.read(box), STACK[box.slices])
    omezarr_to_tiff(finished, tmp_path / "b.tif", 30, compress, software="emsr run 7")
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_an_unfinished_store_is_not_flattened(tmp_path):
    create(tmp_path / "a.zarr")
    with pytest.raises(InputError, match="unfinished"):
        omezarr_to_tiff(tmp_path / "a.zarr", tmp_path / "a.tif", tile_px=32)
    assert not (tmp_path / "a.tif").exists()


def test_root_metadata_is_plain_json(finished):
    root = json.loads((finished / "zarr.json").read_text())
    assert set(root["attributes"]) == {"ome", "emsr"}
    assert root["attributes"]["ome"]["version"] == "0.5"
    assert os.listdir(finished.parent) == ["out.ome.zarr"]  # noqa: PTH208
