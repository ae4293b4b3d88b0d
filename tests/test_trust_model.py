"""What a model file says for the maps of trust, of its scans and of how LR came of HR."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from maps_of_trust import (
    MAPS,
    run,
)
from route import LR_NM
from safetensors.torch import load_file

from emsr.errors import InputError
from emsr.jobs.listener import Listener
from emsr.jobs.prepare import prepare
from emsr.jobs.trust import Trust
from emsr.jobs.trust_degradation import degradation_of
from emsr.microscope.presets import PRESETS
from emsr.network.checkpoint import load_model, save_model
from emsr.pairs.store import open_pairs
from emsr.recipe import Degradation, make_recipe
from emsr.volumes.tiff import write_tiff


def test_training_says_how_lr_came_of_hr(field, phantom_scans):
    header = load_model(phantom_scans / "run" / "model.safetensors")[1]
    blur, noise = header.degradation["blur"], header.degradation["noise"]
    known = PRESETS["white-matter"]
    relative = np.sqrt((3 * known.lr_psf_px) ** 2 - known.hr_psf_px**2)
    assert blur["sigma_a_px"] == pytest.approx(relative, rel=0.2)
    assert blur["gain"] == pytest.approx(1, abs=0.1)
    assert noise["slope"] < 0
    header = load_model(field / "run" / "model.safetensors")[1]
    noise = header.degradation["noise"]
    assert noise["sigma"] == pytest.approx(5, rel=0.15)
    assert set(header.domain) == {"spacing_nm", "greys", "noise", "tilt", "spectrum"}
    assert header.domain["noise"] == pytest.approx(5 / 255, rel=0.15)
    assert set(header.spread) == {"spread", "error"}
    assert json.dumps([header.degradation, header.domain, header.spread], allow_nan=False)


def test_the_blur_of_made_pairs_is_found_though_they_share_noise(tmp_path):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:288, :288]
    hr = 120 + 50 * np.sin(x / 4 + y / 40) * np.cos(y / 5) + 12 * rng.standard_normal((2, 288, 288))
    hr = np.clip(np.rint(hr), 0, 255).astype(np.uint8)
    write_tiff(tmp_path / "hr.tif", hr, hr.shape, hr.dtype, (50.0, 10.0, 10.0))
    drawn = Degradation(blur_sigma_px=(1.2, 1.2), anisotropic=0.0)
    recipe = replace(make_recipe(scale=3), degradation=drawn)
    prepare(tmp_path / "hr.tif", tmp_path / "pairs.zarr", "synthetic", scale=3, recipe=recipe)
    found = degradation_of(open_pairs(tmp_path / "pairs.zarr"))
    assert found["blur"]["sigma_a_px"] == pytest.approx(1.2, abs=0.1)


def test_a_model_that_states_no_blur_has_it_measured_and_said(field, tmp_path):
    network, header = load_model(field / "run" / "model.safetensors")
    old = replace(header, degradation={}, domain={}, spread={})
    save_model(tmp_path / "old.safetensors", network, old)
    heard = []
    found = run(
        field,
        tmp_path / "sr.ome.zarr",
        model=tmp_path / "old.safetensors",
        trust=Trust(spread=True),
        listener=Listener(say=heard.append),
    )["trust"]
    assert any("states no blur" in line for line in heard)
    assert any("not to be compared" in line for line in heard)
    assert found["maps"] == [*MAPS, "spread"] and found["honest"] is None
    assert found["doubtful_over"] == 3
    assert "no calibration" in found["reason"]["expected_error"]


def test_files_from_before_there_was_trust_still_load(field, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = field / "run" / "model.safetensors"
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["emsr"])
    for key in ("degradation", "domain", "spread"):
        del header[key]
    old = tmp_path / "old.safetensors"
    save_file(load_file(path), old, {"emsr": json.dumps(header)})
    assert load_model(old)[1].domain == {}
    assert run(field, tmp_path / "sr.ome.zarr", model=old, trust=None)["finished"]


def test_upscale_says_that_an_input_lies_outside(field, tmp_path):
    lr = tifffile.imread(field / "lr.tif").astype(float)
    lr += 15 * np.random.default_rng(0).standard_normal(lr.shape)
    noisy = np.clip(np.rint(lr), 0, 255).astype(np.uint8)
    write_tiff(tmp_path / "noisy.tif", noisy, noisy.shape, noisy.dtype, LR_NM)
    heard = []
    ears = Listener(say=heard.append)
    run(field, tmp_path / "b.ome.zarr", trust=None, listener=ears)
    assert heard == []
    run(field, tmp_path / "a.ome.zarr", trust=None, lr=tmp_path / "noisy.tif", listener=ears)
    (line,) = heard
    assert "outside what the model was trained on: " in line and "noise 3" in line


BLUR = {"sigma_a_px": 1.0, "sigma_b_px": 1.0, "angle_rad": 0.0, "gain": 1.0, "offset": 0.0}


DAMAGED = {
    "blur of words": ("degradation", {"blur": {**BLUR, "gain": "x"}}),
    "blur without a width": ("degradation", {"blur": {"gain": 1.0}}),
    "noise of words": ("degradation", {"noise": {"sigma": "x"}}),
    "honest of words": ("degradation", {"honest": {"power": "x", "structure": 0.0}}),
    "spacing of two": ("domain", {"spacing_nm": [50.0, 10.0]}),
    "greys of words": ("domain", {"greys": ["x"]}),
    "no range": ("domain", {"ranges": {"noise": [1.0]}}),
    "an error too few": ("spread", {"spread": [1.0, 2.0], "error": [1.0]}),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_header_is_said_in_one_line(what, field, tmp_path):
    part, value = DAMAGED[what]
    network, header = load_model(field / "run" / "model.safetensors")
    save_model(tmp_path / "model.safetensors", network, replace(header, **{part: value}))
    with pytest.raises(InputError, match=f"damaged header, {part}: found .*emsr train"):
        load_model(tmp_path / "model.safetensors")


def test_a_header_may_say_more_or_less_than_we_know(field, tmp_path):
    network, header = load_model(field / "run" / "model.safetensors")
    odd = replace(
        header,
        degradation={**header.degradation, "blur": {**BLUR, "shape": "round"}, "more": 1},
        domain={"spacing_nm": None, "spectrum": [1.0], "ranges": {"spectrum": [[0.0], [1.0]]}},
    )
    save_model(tmp_path / "odd.safetensors", network, odd)
    assert run(field, tmp_path / "sr.ome.zarr", model=tmp_path / "odd.safetensors")["trust"]
