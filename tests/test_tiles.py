"""The tile plan: every SR voxel has one writer, in the right place, with what it needs to see."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emsr.geometry.box import Box, whole
from emsr.geometry.tiles import plan, tile_shape

shapes = st.tuples(st.integers(1, 5), st.integers(1, 70), st.integers(1, 70))
plans = st.fixed_dictionaries(
    {
        "scale": st.integers(1, 5),
        "halo": st.integers(0, 20),
        "multiple": st.sampled_from([1, 2, 4]),
        "z_halo": st.integers(0, 3),
    }
)
wanted_tiles = st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40))


def made(shape, wanted, facts):
    return plan(shape, tile_shape(shape, wanted, facts["multiple"]), **facts)


@given(shapes, wanted_tiles, plans)
@settings(deadline=None)
def test_every_sr_voxel_is_written_exactly_once(shape, wanted, facts):
    z, y, x = shape
    written = np.zeros((z, y * facts["scale"], x * facts["scale"]), int)
    for tile in made(shape, wanted, facts):
        written[tile.write.slices] += 1
    assert (written == 1).all()


@given(shapes, wanted_tiles, plans)
@settings(deadline=None)
def test_read_boxes_are_aligned_inside_the_volume_and_hold_the_halo(shape, wanted, facts):
    multiple, halo, scale = facts["multiple"], facts["halo"], facts["scale"]
    for tile in made(shape, wanted, facts):
        (z0, *_), (z1, *_) = tile.write.start, tile.write.stop
        assert tile.read.start[0] == max(0, z0 - facts["z_halo"])
        assert tile.read.stop[0] == min(shape[0], z1 + facts["z_halo"])
        for axis in (1, 2):
            start, stop = tile.read.start[axis], tile.read.stop[axis]
            core = tile.write.start[axis] // scale, tile.write.stop[axis] // scale
            assert start % multiple == 0
            assert stop % multiple == 0 or stop == shape[axis]
            assert 0 <= start <= max(0, core[0] - halo)
            assert min(shape[axis], core[1] + halo) <= stop <= shape[axis]


@given(shapes, wanted_tiles, plans)
@settings(deadline=None)
def test_a_nearest_neighbour_network_puts_every_voxel_in_its_place(shape, wanted, facts):
    """The volume's values are its coordinates, so that a misplaced voxel is seen by value."""
    scale = facts["scale"]
    lr = np.arange(np.prod(shape)).reshape(shape)
    sr = np.full((shape[0], shape[1] * scale, shape[2] * scale), -1)
    for tile in made(shape, wanted, facts):
        enlarged = lr[tile.read.slices].repeat(scale, axis=1).repeat(scale, axis=2)
        sr[tile.write.slices] = enlarged[tile.crop.slices]
    z, y, x = np.indices(sr.shape)
    assert (sr == lr[z, y // scale, x // scale]).all()


def test_writes_start_at_multiples_of_the_tile_so_that_each_fills_a_shard():
    shape, tile, scale = (5, 100, 70), (2, 32, 32), 3
    for one in plan(shape, tile, scale=scale, halo=8, multiple=4):
        shard = (2, 32 * scale, 32 * scale)
        assert all(a % s == 0 for a, s in zip(one.write.start, shard, strict=True))
        assert all(n <= s for n, s in zip(one.write.shape, shard, strict=True))


def test_a_tile_that_cuts_windows_is_refused():
    with pytest.raises(ValueError, match="multiples of 4"):
        plan((1, 64, 64), (1, 30, 32), scale=2, halo=0, multiple=4)


def test_boxes():
    box = Box((1, 2, 3), (2, 4, 6))
    assert box.shape == (1, 2, 3)
    assert box.scaled(3) == Box((1, 6, 9), (2, 12, 18))
    assert box.shifted((1, 1, 1)).inside(box) == Box((1, 1, 1), (2, 3, 4))
    assert whole((2, 3, 4)).slices == (slice(0, 2), slice(0, 3), slice(0, 4))
    with pytest.raises(ValueError, match="empty"):
        Box((0, 0, 0), (1, 0, 1))
