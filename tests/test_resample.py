"""Another in-plane grid, read box by box: the same bits whichever way it is read."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from route import done, emsr
from volumes_to_upscale import LR_NM, command, run, tree

from emsr.errors import InputError
from emsr.geometry.box import Box, whole
from emsr.jobs.form import Form, in_form
from emsr.jobs.listener import Listener
from emsr.jobs.model import Model, load
from emsr.volumes.resample import resampled
from emsr.volumes.source import array_volume, open_volume
from emsr.volumes.tiff import write_tiff

DTYPES = ("uint8", "int16", "float32", "float64")


def volume_of(array, nm=(50.0, 50.0, 50.0)):
    return array_volume(np.asarray(array), nm, "array")


def read(volume):
    return volume.read(whole(volume.shape))


def noise(shape, dtype="float32", seed=0):
    values = 100 * np.random.default_rng(seed).standard_normal(shape) + 120
    return np.clip(values, 0, 255).astype(dtype)


@st.composite
def volumes_and_boxes(draw):
    shape = tuple(draw(st.integers(1, top)) for top in (3, 40, 40))
    ratios = [draw(st.floats(0.5, 2.0)) for _ in "yx"]
    array = noise(shape, draw(st.sampled_from(DTYPES)), draw(st.integers(0, 9)))
    volume = resampled(volume_of(array), tuple(50 * r for r in ratios))
    starts = [draw(st.integers(0, n - 1)) for n in volume.shape]
    stops = [draw(st.integers(a + 1, n)) for a, n in zip(starts, volume.shape, strict=True)]
    return volume, Box(tuple(starts), tuple(stops))


@settings(max_examples=150, deadline=None)
@given(volumes_and_boxes())
def test_any_box_is_bit_for_bit_that_part_of_the_whole(case):
    volume, box = case
    values = volume.read(box)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values.view(np.int32), read(volume)[box.slices].view(np.int32))


@given(st.floats(0.5, 2.0), st.floats(0.5, 2.0))
@settings(max_examples=50, deadline=None)
def test_shape_and_spacing(ry, rx):
    volume = resampled(volume_of(np.zeros((2, 30, 41))), (50 * ry, 50 * rx))
    assert volume.spacing_nm == (50.0, 50 * ry, 50 * rx)
    z, y, x = volume.shape
    assert z == 2
    assert abs(y * ry - 30) <= ry / 2 + 1e-6 and abs(x * rx - 41) <= rx / 2 + 1e-6
    np.testing.assert_array_equal(read(volume), 0)  # nothing rings out of nothing


@given(st.floats(0.5, 2.0), st.floats(-1e4, 1e4))
@settings(max_examples=50, deadline=None)
def test_a_constant_stays_one(ratio, grey):
    values = read(resampled(volume_of(np.full((1, 9, 13), grey)), (50 * ratio, 50.0)))
    np.testing.assert_allclose(values, np.float32(grey), rtol=1e-6)


def test_the_same_grid_gives_the_same_values():
    array = noise((2, 17, 23), "uint8")
    np.testing.assert_array_equal(read(resampled(volume_of(array), (50.0, 50.0))), array)


@pytest.mark.parametrize("new_nm", [25.0, 45.0, 60.0, 100.0])
def test_pixel_areas_share_the_corner(new_nm):
    """A ramp by position in nm is the same ramp on the new grid, away from the edges (the widened
    cubic errs by 1/100 of a pixel; centres instead of corners would by 1/20 and more)."""
    ramp = np.broadcast_to((np.arange(80) + 0.5) * 50, (1, 80, 80))
    volume = resampled(volume_of(ramp), (new_nm, new_nm))
    expected = (np.arange(volume.shape[2]) + 0.5) * new_nm
    inner = slice(6, -6)
    np.testing.assert_allclose(read(volume)[0, 5, inner], expected[inner], atol=0.015 * new_nm)
    turned = resampled(volume_of(ramp.swapaxes(1, 2)), (new_nm, new_nm))
    np.testing.assert_allclose(read(turned)[0, inner, 5], expected[inner], atol=0.015 * new_nm)


def test_each_axis_has_its_own_ratio_and_z_passes_through():
    array = noise((3, 20, 24))
    volume = resampled(volume_of(array, (40.0, 50.0, 60.0)), (45.0, 45.0))
    assert volume.shape == (3, 22, 32)
    alone = resampled(volume_of(array[1:2], (40.0, 50.0, 60.0)), (45.0, 45.0))
    np.testing.assert_array_equal(read(volume)[1:2], read(alone))


def wave(period_nm, nm, count=400):
    return np.broadcast_to(
        np.sin(2 * np.pi * (np.arange(count) + 0.5) * nm / period_nm), (8, count)
    )


def contrast(volume):
    return read(volume)[0, :, 20:-20].std()


def kept(wave_volume, new_nm):
    """The share of a wave's contrast that is left."""
    return contrast(resampled(wave_volume, new_nm)) / contrast(wave_volume)


def test_finer_keeps_contrast_as_documented():
    assert kept(volume_of(wave(4 * 45.0, 50.0)), (50.0, 45.0)) == pytest.approx(0.91, abs=0.02)


def test_coarser_does_not_alias():
    """A period of 1.33 new pixels cannot be shown: it is to vanish, not to come out longer."""
    fine = volume_of(wave(20.0, 10.0), (10.0, 10.0, 10.0))
    assert kept(fine, (10.0, 15.0)) == pytest.approx(0.09, abs=0.01)


def test_noise_as_documented():
    white = volume_of(np.random.default_rng(0).standard_normal((1, 900, 900)))
    finer, coarser = (read(resampled(white, (nm, nm)))[0] for nm in (45.0, 100.0))
    by_place = [finer[i:990:10, j:990:10].std() for i in range(10) for j in range(10)]
    assert min(by_place) == pytest.approx(0.65, abs=0.04)
    assert max(by_place) == pytest.approx(0.99, abs=0.04)
    assert coarser.std() == pytest.approx(0.40, abs=0.02)
    beside = np.corrcoef(finer[:, 1:].ravel(), finer[:, :-1].ravel())[0, 1]
    assert beside == pytest.approx(0.25, abs=0.03)


def test_only_the_pixels_of_a_box_are_read():
    asked, stack = [], noise((2, 500, 500))

    def fetch(box):
        asked.append(box)
        return stack[box.slices]

    volume = resampled(replace(volume_of(stack), fetch=fetch), (45.0, 45.0))
    volume.read(Box((1, 100, 200), (2, 110, 220)))
    (box,) = asked
    assert box.start[0] == 1 and box.shape[0] == 1
    assert box.shape[1] <= 10 * 0.9 + 5 and box.shape[2] <= 20 * 0.9 + 5


@pytest.mark.parametrize(
    ("nm", "new_nm", "says"),
    [
        ((50, 50, 50), (24.9, 45), "choose a model of its spacing"),
        ((50, 50, 50), (45, 101), "--level"),
        (None, (45, 45), "--spacing"),
    ],
)
def test_what_makes_no_sense_is_refused(nm, new_nm, says):
    with pytest.raises(InputError, match=says):
        resampled(volume_of(np.zeros((1, 20, 20)), nm), new_nm)


def test_a_damaged_input_is_named(tmp_path):
    write_tiff(
        tmp_path / "a.tif", noise((2, 64, 64), "uint8"), (2, 64, 64), "uint8", (50.0,) * 3, True
    )
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        at = tif.pages[0].dataoffsets[0]
    raw[at : at + 40] = b"\xff" * 40
    (tmp_path / "a.tif").write_bytes(raw)
    volume = resampled(open_volume(tmp_path / "a.tif"), (45.0, 45.0))
    with pytest.raises(InputError, match=r"a\.tif cannot be read"):
        read(volume)


# In a run


@pytest.fixture(scope="module")
def other(rig, tmp_path_factory):
    """A corner of the LR volume as if its pixels were 33.3 nm, where the model knows 30."""
    path = tmp_path_factory.mktemp("other") / "lr.tif"
    lr = tifffile.imread(rig / "lr.tif")[:2, :64, :49]
    write_tiff(path, lr, lr.shape, lr.dtype, (50.0, 33.3, 33.3))
    return path


def test_tile_by_tile_as_in_one_piece(rig, other, tmp_path):
    out, heard = tmp_path / "sr.ome.zarr", []
    ears = Listener(say=heard.append)
    form = Form(dtype="float32", resample=True)
    said = run(rig, out, other, form=form, listener=ears)
    assert said["shape"] == [2, 213, 162]  # 64 and 49 x 33.3 / 30 = 71.04 and 54.39
    assert said["tiles_done"] == 12
    assert any("resampled from 33.3 x 33.3 nm to 30 x 30 nm" in line for line in heard)
    lr = read(resampled(open_volume(other), LR_NM[1:]))
    model = load(rig / "model.safetensors")
    whole_sr = Model(model.network, replace(model.header, dtype="float32"), model.device).upscale(
        lr
    )
    sr = open_volume(out)
    assert sr.spacing_nm == (50.0, 10.0, 10.0)
    assert np.abs(read(sr) - whole_sr).max() <= 1e-5 * 255
    assert run(rig, out, other, form=form)["tiles_done"] == 0


def test_the_command_offers_it_and_workers_do_it(rig, other, tmp_path):
    refused = emsr(*command(rig, tmp_path / "sr.ome.zarr", lr=other))
    assert refused.returncode == 1
    assert all(word in refused.stderr for word in ("33.3 x 33.3", "30 x 30", "--resample"))
    assert list(tmp_path.iterdir()) == []
    done(*command(rig, tmp_path / "sr.ome.zarr", "--resample", "--workers", 2, lr=other))
    run(rig, tmp_path / "alone.ome.zarr", other, form=Form(resample=True))
    assert tree(tmp_path / "sr.ome.zarr") == tree(tmp_path / "alone.ome.zarr")


@pytest.mark.parametrize(("y_nm", "says"), [(31.0, "within 5%"), (30.0, "that of the model")])
def test_an_input_within_five_per_cent_is_taken_as_it_is(rig, other, tmp_path, y_nm, says):
    heard = []
    settings = {"spacing_nm": (50.0, y_nm, 30.0), "listener": Listener(say=heard.append)}
    run(rig, tmp_path / "a.ome.zarr", other, form=Form(resample=True), **settings)
    run(rig, tmp_path / "b.ome.zarr", other, **settings)
    assert tree(tmp_path / "a.ome.zarr") == tree(tmp_path / "b.ome.zarr")
    assert sum(says in line for line in heard) == 1
    found = open_volume(tmp_path / "a.ome.zarr").spacing_nm
    assert found == pytest.approx((50.0, y_nm / 3, 10.0))


@pytest.mark.parametrize(
    ("spacing_nm", "says"),
    [
        (None, "--spacing"),
        ((50.0, 75.0, 75.0), "choose a model"),
        ((50.0, 14.0, 14.0), "--level"),
    ],
)
def test_a_run_refuses_what_cannot_be_resampled(rig, tmp_path, spacing_nm, says):
    np.save(tmp_path / "lr.npy", noise((1, 32, 32), "uint8"))
    settings = {"form": Form(resample=True), "spacing_nm": spacing_nm}
    with pytest.raises(InputError, match=says):
        run(rig, tmp_path / "sr.h5", tmp_path / "lr.npy", **settings)
    assert [p.name for p in tmp_path.iterdir()] == ["lr.npy"]


def test_a_model_of_unknown_spacing_has_nothing_to_resample_to(rig, other):
    model = load(rig / "model.safetensors")
    unknown = replace(model, header=replace(model.header, lr_spacing_nm=None))
    with pytest.raises(InputError, match="leave --resample out"):
        in_form(open_volume(other), unknown, Form(resample=True))
