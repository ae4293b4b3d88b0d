"""`emsr enhance`: the input's own grid and greys, tile by tile, and an honest word on what changed."""

import json

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from route import HR_NM, LR_NM, done, emsr
from scipy import ndimage

from emsr.errors import InputError
from emsr.geometry.box import whole
from emsr.jobs.enhance import enhance
from emsr.jobs.form import Form, in_form
from emsr.jobs.listener import Listener
from emsr.jobs.model import Model, load
from emsr.jobs.sitting import Hands
from emsr.jobs.upscale import upscale
from emsr.microscope.distortions import charging
from emsr.network.averaged import Averaged
from emsr.network.checkpoint import Header, save_model
from emsr.network.lean import Lean
from emsr.network.named import build
from emsr.quality.cleaned import (
    beside,
    cleaned_psnr,
    finite,
    in_words,
    noise_ratio,
    on_greys_of,
)
from emsr.quality.fidelity import psnr
from emsr.quality.reference_free import clean_psnr_from_repeat
from emsr.recipe import Upscaling
from emsr.volumes.source import open_volume
from emsr.volumes.tiff import write_tiff
from emsr.volumes.volume import array_volume

SMALL = {"features": 4, "blocks": 1}
TILES = Upscaling(tile_px=(1, 32, 32))


def shaken(scale, seed=0):
    """A network that does something."""
    torch.manual_seed(seed)
    network = Lean(scale, **SMALL)
    torch.nn.init.normal_(network.last.weight, std=0.02)
    return network.eval()


def header(scale, lr_window=(0.0, 255.0), hr_window=(0.0, 255.0), dtype="uint8", **more):
    lr_nm = LR_NM if scale == 3 else HR_NM
    return Header("emsr-lean", SMALL, scale, lr_window, hr_window, dtype, lr_nm, HR_NM, **more)


def cleaning(network, head, dtype=np.uint8):
    given_ = Model(network, head, torch.device("cpu"))
    volume = array_volume(np.zeros((1, 8, 8), dtype), HR_NM, "HR")
    return in_form(volume, given_, Form(clean=True))[1]


# -- a network of scale 1 out of any ----------------------------------------------------------


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


# -- the scores -------------------------------------------------------------------------------


def scans(seed, sigma=20.0, second=20.0):
    rng = np.random.default_rng(seed)
    truth = 120 + 300 * ndimage.gaussian_filter(rng.normal(size=(3, 96, 130)), (0, 3, 3))
    hr, repeat = (truth + s * rng.normal(size=truth.shape) for s in (sigma, second))
    return truth, hr, repeat


def test_the_clean_score_holds_for_what_was_made_of_the_scan():
    inside = 0
    for seed in range(20):
        truth, hr, repeat = scans(seed)
        out = ndimage.gaussian_filter(hr, (0, 1.5, 1.5))
        for made in (out, hr):
            value, (low, high) = cleaned_psnr(made, hr, repeat, 255, np.random.default_rng(0))
            true = psnr(made, truth, 255)
            assert value == pytest.approx(true, abs=1.0)
            inside += low <= true <= high
        other, _ = clean_psnr_from_repeat(out, hr, repeat, 255, np.random.default_rng(0))
        assert other is None or abs(other - psnr(out, truth, 255)) > 1  # it shares hr's noise
    assert inside >= 34


@given(sigma=st.floats(10, 30), second=st.floats(10, 30))
@settings(deadline=None, max_examples=10)
def test_the_noise_of_two_scans_is_compared(sigma, second):
    _, hr, repeat = scans(3, sigma, second)
    assert noise_ratio(hr, repeat) == pytest.approx((sigma / second) ** 2, rel=0.1)


# -- the job ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two scans and a truth of a field, and a model of scale 3 and one of scale 1."""
    folder = tmp_path_factory.mktemp("enhance")
    truth, hr, repeat = scans(1, 12.0, 12.0)
    for name, image in (("hr", hr), ("repeat", repeat), ("truth", truth)):
        grey = np.clip(np.rint(image), 0, 255).astype(np.uint8)[:, :96, :96]
        write_tiff(folder / f"{name}.tif", grey, grey.shape, grey.dtype, HR_NM)
    save_model(folder / "three.safetensors", shaken(3), header(3))
    one = Header("emsr-lean", SMALL, 1, (0.0, 255.0), (0.0, 255.0), "uint8", HR_NM, HR_NM)
    save_model(folder / "one.safetensors", shaken(1), one)
    return folder


def run(place, out, model="three", scan=None, listener=Listener(), **beside):
    paths = {name: place / path for name, path in beside.items()}
    scan, weights = scan or place / "hr.tif", place / f"{model}.safetensors"

    def clean():
        form, hands = Form(clean=True), Hands(threads=1)
        return upscale(
            scan, weights, out, upscaling=TILES, form=form, hands=hands, listener=listener
        )

    return enhance(scan, weights, out, clean, listener=listener, **paths)


def values(path):
    volume = open_volume(path)
    return volume.read(whole(volume.shape))


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


def test_what_it_says_of_the_change_is_true(place, tmp_path):
    out = tmp_path / "out.ome.zarr"
    changed = run(place, out, repeat="repeat.tif", truth="truth.tif")["changed"]
    assert json.loads((tmp_path / "out.ome.zarr.enhance.json").read_text()) == changed
    for when, image in (("before", place / "hr.tif"), ("after", out)):
        true = psnr(values(image), values(place / "truth.tif"), 255)
        assert changed["truth_psnr"][when] == pytest.approx(true, abs=1e-9)
        assert changed["clean_psnr"][when]["db"] == pytest.approx(true, abs=0.3)
    before, after = (10 ** (-changed["truth_psnr"][when] / 10) for when in ("before", "after"))
    assert changed["noise_removed"] == pytest.approx(1 - after / before, abs=0.1)
    residual = values(place / "hr.tif").astype(float) - values(out)
    assert changed["removed"]["sigma"] == pytest.approx(residual.std(), rel=0.05)


def test_no_score_from_a_repeat_that_was_trained_on(place, tmp_path):
    from emsr.pairs.scans import checked_slices, new_digest, provenance

    volume, digest = open_volume(place / "repeat.tif"), new_digest()
    list(checked_slices(volume, digest))
    scans_ = [provenance(volume, "hr", digest)]
    head = header(3, trained_on={"scans": scans_})
    save_model(place / "trained.safetensors", shaken(3), head)
    changed = run(place, tmp_path / "out.ome.zarr", "trained", repeat="repeat.tif")["changed"]
    assert changed["clean_psnr"] is None and changed["frc"] is None
    why = changed["reason"]["clean_psnr"]
    assert "the repeat is a scan that" in why and "by heart" in why
    assert "reference" not in why and "evaluate" not in why
    assert changed["removed"] is not None


def test_what_cannot_be_measured_is_null_and_the_volume_is_there(place, tmp_path):
    flat = np.full((1, 40, 40), 90, np.uint8)
    write_tiff(tmp_path / "hr.tif", flat, flat.shape, flat.dtype, HR_NM)
    said = run(place, tmp_path / "out.ome.zarr", "one", scan=tmp_path / "hr.tif")
    assert said["finished"]
    changed = json.loads((tmp_path / "out.ome.zarr.enhance.json").read_text())
    for key in ("removed", "frc", "clean_psnr", "noise_removed", "truth_psnr"):
        assert changed[key] is None and changed["reason"][key]


def test_unequal_noise_is_said(place, tmp_path):
    rng = np.random.default_rng(5)
    noisier = values(place / "repeat.tif") + rng.normal(0, 15, (3, 96, 96))
    grey = np.clip(np.rint(noisier), 0, 255).astype(np.uint8)
    write_tiff(place / "noisier.tif", grey, grey.shape, grey.dtype, HR_NM)
    said = []
    run(place, tmp_path / "o.ome.zarr", repeat="noisier.tif", listener=Listener(say=said.append))
    assert any("take both for equally noisy" in line for line in said)


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


# -- what is wrong with a repeat or a truth ---------------------------------------------------


def written(path, grey, nm=HR_NM):
    grey = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    write_tiff(path, grey, grey.shape, grey.dtype, nm)
    return path


def moved(image, px):
    """Along x, by a part of a pixel too."""
    wave = np.exp(-2j * np.pi * np.fft.fftfreq(image.shape[-1]) * px)
    return np.fft.ifft(np.fft.fft(image, axis=-1) * wave, axis=-1).real


def told_with(place, out, name):
    """What is said and measured of the one output with the repeat ``name``."""
    said = []
    run(place, out, repeat=name, truth="truth.tif", listener=Listener(say=said.append))
    changed = json.loads(out.with_name(f"{out.name}.enhance.json").read_text())
    return [line for line in said if line.startswith("warning: the repeat")], changed


@pytest.mark.parametrize("px", [1.0, 3.0, -0.5])
def test_a_shifted_repeat_gives_no_score(place, tmp_path, px):
    written(place / "moved.tif", moved(values(place / "repeat.tif"), px))
    warned, changed = told_with(place, tmp_path / "o.ome.zarr", "moved.tif")
    assert changed["repeat"]["shift_px"] == pytest.approx([0, px], abs=0.15)
    for key in ("frc", "clean_psnr", "noise_removed", "noise_ratio"):
        assert changed[key] is None and "px along x beside the scan" in changed["reason"][key]
    assert len(warned) == 1 and changed["reason"]["clean_psnr"] in warned[0]
    # What was removed is told without it.
    assert changed["removed"]["noise_sigma"] == pytest.approx(12, rel=0.1)


def test_a_slight_shift_is_said(place, tmp_path):
    written(place / "moved.tif", moved(values(place / "repeat.tif"), 0.2))
    (warned,), changed = told_with(place, tmp_path / "o.ome.zarr", "moved.tif")
    assert "px beside the scan" in warned and changed["clean_psnr"] is not None


@pytest.mark.parametrize(("gain", "offset"), [(1, 8), (0.9, 0), (1.1, -20), (0.8, 15)])
def test_other_greys_of_the_repeat_are_fitted_and_said(place, tmp_path, gain, offset):
    out = tmp_path / "o.ome.zarr"
    warned, plain = told_with(place, out, "repeat.tif")
    assert warned == []
    written(place / "other.tif", gain * values(place / "repeat.tif").astype(float) + offset)
    said, changed = told_with(place, out, "other.tif")
    assert len(said) == 1 and "gain and offset were fitted" in said[0]
    for when in ("before", "after"):
        found = changed["clean_psnr"][when]["db"]
        assert found == pytest.approx(plain["clean_psnr"][when]["db"], abs=0.05)
        assert found == pytest.approx(changed["truth_psnr"][when], abs=0.3)
    assert changed["noise_ratio"] == pytest.approx(plain["noise_ratio"], rel=0.03)


def test_greys_that_flicker_from_slice_to_slice_do_no_harm():
    truth, hr, repeat = scans(4)
    flickering = 1.3 * repeat + np.array([0, 9, -5])[:, None, None]
    found = beside(hr, flickering)
    assert found.contrast == pytest.approx(1.3, rel=0.01)
    assert found.shift_px == pytest.approx((0, 0), abs=0.1)
    out = ndimage.gaussian_filter(hr, (0, 1.5, 1.5))
    fitted = on_greys_of(hr, flickering, found.contrast)
    value, _ = cleaned_psnr(out, hr, fitted, 255, np.random.default_rng(0))
    assert value == pytest.approx(psnr(out, truth, 255), abs=0.5)


def test_a_constant_slice_says_nothing_of_the_repeat():
    _, hr, repeat = scans(4)
    hr[1], repeat[1] = 90, 90
    assert np.isfinite([*beside(hr, repeat).shift_px, beside(hr, repeat).contrast]).all()


def test_an_infinite_score_is_null(place, tmp_path):
    """The truth given is the scan itself."""
    changed = run(place, tmp_path / "o.ome.zarr", "one", truth="hr.tif")["changed"]
    assert changed["truth_psnr"]["before"] is None and changed["truth_psnr"]["after"] > 0
    assert "equal" in changed["reason"]["truth_psnr.before"]
    stored = (tmp_path / "o.ome.zarr.enhance.json").read_text()
    assert json.loads(stored) == changed and "Infinity" not in stored and "NaN" not in stored


def test_scans_without_noise_have_no_ratio_of_it():
    truth, _, _ = scans(0)
    assert noise_ratio(truth, truth) is None
    reason = {}
    numbers = {"a": {"b": [1.0, float("inf")], "c": float("nan")}, "d": 2}
    assert finite(numbers, reason) == {"a": {"b": [1.0, None], "c": None}, "d": 2}
    assert set(reason) == {"a.b", "a.c"}


def test_detail_that_goes_with_the_noise_is_said_in_words(place, tmp_path):
    changed = run(place, tmp_path / "o.ome.zarr", repeat="repeat.tif")["changed"]
    for key, (before, after) in {"clean_psnr": (25.0, 27.0), "frc": (0.6, 0.5)}.items():
        name = "db" if key == "clean_psnr" else "mean"
        changed[key]["before"][name], changed[key]["after"][name] = before, after
    assert any("fine detail went with the noise" in line for line in in_words(changed))
    changed["frc"]["after"]["mean"] = 0.61
    assert not any("fine detail" in line for line in in_words(changed))


def test_what_is_not_on_the_scans_grid_is_refused(place, tmp_path):
    other = (HR_NM[0], HR_NM[1] * 1.02, HR_NM[2] * 1.02)
    for role in ("repeat", "truth"):
        written(place / "wider.tif", values(place / f"{role}.tif"), other)
        with pytest.raises(InputError, match="contradict each other"):
            run(place, tmp_path / "o.ome.zarr", **{role: "wider.tif"})
    assert list(tmp_path.iterdir()) == []


def test_what_the_reader_of_a_repeat_noticed_is_said(place, tmp_path):
    said = []
    paths = {"repeat": place / "repeat.tif", "spacing_nm": (50.0, 10.2, 10.2)}

    def clean():
        return {"finished": False}

    listener = Listener(say=said.append)
    enhance(place / "hr.tif", None, tmp_path / "o.tif", clean, listener=listener, **paths)
    assert any("repeat.tif" in line for line in said)


# -- the file beside the output ---------------------------------------------------------------


def test_nothing_old_lies_beside_an_unfinished_output(place, tmp_path):
    out, place_of = tmp_path / "o.ome.zarr", tmp_path / "o.ome.zarr.enhance.json"
    old = run(place, out)["changed"]

    def killed(begin):
        def clean():
            begin()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            enhance(place / "hr.tif", place / "one.safetensors", out, clean)

    killed(lambda: None)  # before anything was touched: it is still that output's
    assert json.loads(place_of.read_text()) == old

    def begin():
        state = json.loads((out / "zarr.json").read_text())
        state["attributes"]["emsr"]["state"] = "unfinished"
        (out / "zarr.json").write_text(json.dumps(state))
        assert not place_of.exists()

    killed(begin)
    assert not list(tmp_path.glob("*enhance.json*")) + list(tmp_path.glob(".*enhance.json*"))


def test_a_refused_run_leaves_what_is_there(place, tmp_path):
    out, place_of = tmp_path / "o.ome.zarr", tmp_path / "o.ome.zarr.enhance.json"
    run(place, out)
    stored = place_of.read_text()
    with pytest.raises(InputError, match="not this run's finished output"):
        run(place, out, "one")
    assert place_of.read_text() == stored


@pytest.mark.parametrize("suffix", ["ome.zarr", "tif"])
def test_measured_scores_survive_a_run_without_the_repeat(place, tmp_path, suffix):
    out, said = tmp_path / f"o.{suffix}", []
    first = run(place, out, repeat="repeat.tif", truth="truth.tif")["changed"]
    again = run(place, out, listener=Listener(say=said.append))["changed"]
    assert again == first
    assert any("kept what an earlier run measured: " in line for line in said)
    assert json.loads((tmp_path / f"o.{suffix}.enhance.json").read_text()) == first
    # Of another output nothing is kept.
    (tmp_path / f"o.{suffix}.enhance.json").rename(tmp_path / f"n.{suffix}.enhance.json")
    assert run(place, tmp_path / f"n.{suffix}")["changed"]["clean_psnr"] is None


def test_a_place_that_cannot_be_written_is_refused_before_the_work(place, tmp_path):
    (tmp_path / "o.ome.zarr.enhance.json").mkdir()
    with pytest.raises(InputError, match="is a directory"):
        run(place, tmp_path / "o.ome.zarr")
    assert not (tmp_path / "o.ome.zarr").exists()


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


def test_the_highest_streak_is_as_high_as_charging_says():
    flat = np.full((200, 300), 10.0, np.float32)
    added = charging(flat, 0.4, np.random.default_rng(0)) - flat
    assert added.max() == pytest.approx(0.4 * 10, rel=1e-4)
