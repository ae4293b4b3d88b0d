"""What a second scan of the field tells of a cleaned one, and when it tells nothing."""

import base64
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from route import HR_NM
from scipy import ndimage
from volumes_to_clean import (
    header,
    moved,
    run,
    scans,
    shaken,
    told_with,
    values,
    written,
)

from emsr.errors import InputError
from emsr.jobs.enhance import enhance
from emsr.jobs.listener import Listener
from emsr.network.checkpoint import save_model
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
from emsr.volumes.source import open_volume
from emsr.volumes.tiff import write_tiff


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
    assert changed["repeat"]["trained_on"] is True
    why = changed["reason"]["clean_psnr"]
    assert "the repeat is a scan that" in why and "by heart" in why
    assert "reference" not in why and "evaluate" not in why
    assert changed["removed"] is not None


def test_unequal_noise_is_said(place, tmp_path):
    rng = np.random.default_rng(5)
    noisier = values(place / "repeat.tif") + rng.normal(0, 15, (3, 96, 96))
    grey = np.clip(np.rint(noisier), 0, 255).astype(np.uint8)
    write_tiff(place / "noisier.tif", grey, grey.shape, grey.dtype, HR_NM)
    said = []
    run(place, tmp_path / "o.ome.zarr", repeat="noisier.tif", listener=Listener(say=said.append))
    assert any("take both for equally noisy" in line for line in said)


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


def test_what_the_reader_of_a_repeat_noticed_is_said(place, tmp_path):
    said = []
    paths = {"repeat": place / "repeat.tif", "spacing_nm": (50.0, 10.2, 10.2)}

    def clean():
        return {"finished": False}

    listener = Listener(say=said.append)
    enhance(place / "hr.tif", None, tmp_path / "o.tif", clean, listener=listener, **paths)
    assert any("repeat.tif" in line for line in said)


def test_what_is_not_on_the_scans_grid_is_refused(place, tmp_path):
    other = (HR_NM[0], HR_NM[1] * 1.02, HR_NM[2] * 1.02)
    for role in ("repeat", "truth"):
        written(place / "wider.tif", values(place / f"{role}.tif"), other)
        with pytest.raises(InputError, match="contradict each other"):
            run(place, tmp_path / "o.ome.zarr", **{role: "wider.tif"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("px", [1.0, -3.0])
def test_a_single_slice_that_lies_elsewhere_is_said(place, tmp_path, px):
    warned, plain = told_with(place, tmp_path / "a.ome.zarr", "repeat.tif")
    assert warned == [] and plain["repeat"]["slices_elsewhere"] == []
    grey = values(place / "repeat.tif").astype(float)
    grey[2] = moved(grey[2], px)
    written(place / "slipped.tif", grey)
    (line,), changed = told_with(place, tmp_path / "b.ome.zarr", "slipped.tif")
    assert changed["repeat"]["slices_elsewhere"] == [2]
    found = re.search(r"lie elsewhere .* \(2 by \S+, (\S+) px along y, x\)", line)
    assert float(found[1]) == pytest.approx(px, abs=0.3)
    assert changed["clean_psnr"]["before"]["db"] < plain["clean_psnr"]["before"]["db"] - 0.1


def test_slices_that_lie_elsewhere_are_counted_in_the_volume():
    _, hr, repeat = scans(4)
    repeat[0] = moved(repeat[0], 2.0)
    found = beside(hr, repeat, first=40).elsewhere
    assert list(found) == [40] and found[40] == pytest.approx((0, 2), abs=0.15)


def sketch_of(hashes):
    return base64.b64encode(np.asarray(hashes, "<u8").tobytes()).decode()


LARGE = sketch_of(np.linspace(1, 2**64 / 1e6, 4096))
"""As of a scan so large that next to no run of the repeat would be kept."""
OTHER = sketch_of(np.linspace(1, 2**63, 4096))


@pytest.mark.parametrize(
    ("sketch", "trained_on"), [(LARGE, None), (OTHER, False)], ids=["untold", "another"]
)
def test_what_cannot_be_told_of_the_training_is_said(place, tmp_path, sketch, trained_on):
    model = header(3, trained_on={"strategy": "real", "hr_sketch": sketch})
    save_model(place / "sketched.safetensors", shaken(3), model)
    said = []
    listener = Listener(say=said.append)
    found = run(place, tmp_path / "o.ome.zarr", "sketched", repeat="repeat.tif", listener=listener)
    changed = found["changed"]
    assert changed["repeat"]["trained_on"] is trained_on
    assert changed["clean_psnr"]["after"]["db"] is not None
    lines = [line for line in said if "whether the model was trained on the repeat" in line]
    why = changed["reason"].get("repeat.trained_on")
    assert lines == ([why] if trained_on is None else []) and (why is None) == (trained_on is False)
