"""`emsr enhance`: the input's own grid and greys, tile by tile; what it refuses."""

import json

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from route import HR_NM, LR_NM, done, emsr
from volumes_to_clean import (
    SMALL,
    TILES,
    header,
    run,
    shaken,
    values,
    written,
)

from emsr.errors import InputError
from emsr.jobs.form import Form, in_form
from emsr.jobs.listener import Listener
from emsr.jobs.model import Model, load
from emsr.jobs.upscale import upscale
from emsr.network.averaged import Averaged
from emsr.network.lean import Lean
from emsr.network.named import build
from emsr.volumes.source import open_volume
from emsr.volumes.tiff import write_tiff
from emsr.volumes.volume import array_volume


def cleaning(network, head, dtype=np.uint8):
    given_ = Model(network, head, torch.device("cpu"))
    volume = array_volume(np.zeros((1, 8, 8), dtype), HR_NM, "HR")
    return in_form(volume, given_, Form(clean=True))[1]


@settings(deadline=None, max_examples=20)
@given(scale=st.integers(1, 5), slope=st.floats(-0.05, 0.05), offset=st.floats(0, 1))
def test_a_ramp_comes_back_as_it_was(scale, slope, offset):
    """What interpolates linearly and then averages by area changes no ramp: nothing is shifted."""
    ramp = offset + slope * torch.arange(24.0).expand(1, 1, 16, 24)
    back = Averaged(Lean(scale, **SMALL), scale)(ramp)
    assert back.shape == ramp.shape
    assert torch.allclose(back[..., 4:-4], ramp[..., 4:-4], atol=1e-5)


def test_an_averaged_network_states_what_networks_state():
    network = shaken(3)
    averaged = Averaged(network, 3)
    assert averaged.scale == 1
    for name in ("slices", "multiple", "halo", "receptive_radius"):
        assert getattr(averaged, name) == getattr(network, name)


def test_it_is_the_mean_of_the_sr_pixels():
    network, image = shaken(2), torch.rand(1, 1, 6, 8)
    with torch.inference_mode():
        sr = network(image)[0, 0].numpy()
        back = Averaged(network, 2)(image)[0, 0].numpy()
    assert np.allclose(back, sr.reshape(6, 2, 8, 2).mean((1, 3)), atol=1e-6)


@pytest.mark.parametrize(
    ("scale", "lr_window", "hr_window"),
    [(3, (0.0, 1.0), (1000.0, 3000.0)), (1, (1000.0, 3000.0), (0.0, 50.0))],
)
def test_greys_and_dtype_are_the_inputs(scale, lr_window, hr_window):
    """Of a finer model the HR window holds both ways; one of scale 1 knows its input's own."""
    model = cleaning(Lean(scale, **SMALL).eval(), header(scale, lr_window, hr_window), np.uint16)
    flat = np.full((1, 12, 12), 1730, np.uint16)
    back = model.upscale(flat)
    assert back.dtype == np.uint16
    assert np.array_equal(back, flat)


@pytest.mark.parametrize("model", ["three", "one"])
def test_tiles_give_what_the_whole_image_gives(place, tmp_path, model):
    said = run(place, tmp_path / "out.ome.zarr", model)
    scan = open_volume(place / "hr.tif")
    loaded = load(place / f"{model}.safetensors", "cpu")
    expected = in_form(scan, loaded, Form(clean=True))[1].upscale(values(place / "hr.tif"))
    assert said["shape"] == [3, 96, 96]
    assert np.array_equal(values(tmp_path / "out.ome.zarr"), expected)
    assert open_volume(tmp_path / "out.ome.zarr").spacing_nm == HR_NM
    assert not np.array_equal(expected, values(place / "hr.tif"))


def test_a_killed_run_is_gone_on_with(place, tmp_path):
    class Killed(Exception):
        pass

    def progress(what, count, _total, _note):
        if (what, count) == ("upscale", 10):
            raise Killed

    out = tmp_path / "out.ome.zarr"
    with pytest.raises(Killed):
        run(place, out, listener=Listener(progress=progress))
    assert not (tmp_path / "out.ome.zarr.enhance.json").exists()
    said = run(place, out)
    assert said["tiles_resumed"] > 0
    run(place, tmp_path / "plain.ome.zarr")
    assert np.array_equal(values(out), values(tmp_path / "plain.ome.zarr"))
    assert run(place, out)["tiles_done"] == 0


def test_an_upscaled_volume_is_not_taken_for_an_enhanced_one(place, tmp_path):
    """The model, the input and the tiles are the same: only what is made of them is not."""
    out = tmp_path / "out.ome.zarr"
    copy = tmp_path / "no-spacing.tif"
    grey = values(place / "hr.tif")
    write_tiff(copy, grey, grey.shape, grey.dtype, None)
    model = place / "three.safetensors"
    upscale(copy, model, out, upscaling=TILES)
    with pytest.raises(InputError, match="not this run's finished output"):
        upscale(copy, model, out, upscaling=TILES, form=Form(clean=True))


BAD = {
    "a repeat of another shape": ({"repeat": "small.tif"}, "has shape .* same field on the same"),
    "a truth of another shape": ({"truth": "small.tif"}, "has shape .* same field on the same"),
    "the scan for its repeat": ({"repeat": "hr.tif"}, "identical to the scan"),
    "another field for a repeat": ({"repeat": "noise.tif"}, "does not show the scan's field"),
    "no such repeat": ({"repeat": "none.tif"}, "none.tif"),
    "no such model": ({"model": "none"}, "no such model file"),
}


@pytest.mark.parametrize(("given_", "said"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_before_anything_is_written(place, tmp_path, given_, said):
    grey = np.random.default_rng(0).integers(0, 256, (3, 96, 96), np.uint8)
    write_tiff(place / "noise.tif", grey, grey.shape, grey.dtype, HR_NM)
    write_tiff(place / "small.tif", grey[:, :64], (3, 64, 96), grey.dtype, HR_NM)
    with pytest.raises(InputError, match=said) as error:
        run(place, tmp_path / "out.ome.zarr", **given_)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_lr_scan_is_not_an_hr_scan(place, tmp_path):
    grey = values(place / "hr.tif")
    write_tiff(tmp_path / "lr.tif", grey, grey.shape, grey.dtype, LR_NM)
    with pytest.raises(InputError, match=r"30 x 30 nm.* 10 x 10 nm and takes this one for LR"):
        upscale(
            tmp_path / "lr.tif",
            place / "three.safetensors",
            tmp_path / "out.ome.zarr",
            upscaling=TILES,
            form=Form(clean=True),
        )


def test_the_route_through_the_command_line(place, tmp_path):
    out, model = tmp_path / "out.tif", place / "one.safetensors"
    pair = ("enhance", place / "hr.tif", "--model", model, "--out", out)
    said = done(*pair, "--repeat", place / "repeat.tif", "--threads", 1)
    assert said["finished"] and said["shape"] == [3, 96, 96]
    assert said["changed"]["clean_psnr"]["after"]["db"] is not None
    assert (tmp_path / "out.tif.enhance.json").is_file()
    grey = values(out)
    assert grey.dtype == np.uint8 and open_volume(out).spacing_nm == HR_NM
    refused = emsr(*pair, "--repeat", place / "hr.tif")
    assert refused.returncode == 1 and "Traceback" not in refused.stderr


def test_scale_one_is_a_scale_that_networks_have():
    assert build("emsr-lean", 1, SMALL)(torch.rand(1, 1, 16, 16)).shape == (1, 1, 16, 16)


def test_levels_by_role_through_the_command_line(place, tmp_path):
    """The scan is the second level of a pyramid, its repeat a plain TIFF."""
    grey = values(place / "hr.tif")
    big = np.repeat(np.repeat(grey, 2, 1), 2, 2)
    fine = (HR_NM[0], HR_NM[1] / 2, HR_NM[2] / 2)
    with tifffile.TiffWriter(tmp_path / "pyramid.ome.tif", ome=True) as file:
        nm = {"PhysicalSizeX": fine[2] / 1000, "PhysicalSizeY": fine[1] / 1000}
        file.write(big, subifds=1, metadata={"axes": "ZYX", **nm})
        file.write(grey, subfiletype=1)
    model = place / "one.safetensors"
    pair = ("enhance", tmp_path / "pyramid.ome.tif", "--model", model, "--out", tmp_path / "o.tif")
    more = ("--repeat", place / "repeat.tif", "--threads", 1, "--spacing", "50,10,10")
    refused = emsr(*pair, *more, "--level", 1)
    assert refused.returncode == 1 and "repeat.tif" in refused.stderr
    result = emsr(*pair, *more, "--level", "hr=1", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["changed"]["clean_psnr"]["after"]["db"] is not None


def test_messages_are_of_this_verb(place, tmp_path):
    written(tmp_path / "lr.tif", values(place / "hr.tif"), LR_NM)
    for model in ("one", "three"):
        with pytest.raises(InputError) as error:
            run(place, tmp_path / "o.ome.zarr", model, scan=tmp_path / "lr.tif")
        assert "--resample" not in str(error.value) and "--spacing" in str(error.value)
        assert ("emsr upscale" in str(error.value)) == (model == "three")
