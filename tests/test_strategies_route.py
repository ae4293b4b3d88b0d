"""The strategies, ``inspect`` and ``advise`` through the command line, on scans of a phantom."""

import json

import numpy as np
import pytest
from route import RECIPE, done, emsr

from emsr.pairs.store import open_pairs

SCANS = ("hr.tif", "hr_repeat.tif", "lr.tif")
TRUE_BLUR_PX = np.sqrt((3 * 0.45) ** 2 - 0.65**2)
"""Of the phantom's LR scan against its HR scan, in HR pixels."""


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    done("simulate", "--out", folder, "--shape", 3, 288, 288, "--overwrite")
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


WAYS = {
    "split": ("--strategy", "split"),
    "calibrated": ("--strategy", "synthetic", "--calibrate", "{p}/lr.tif"),
    "repeat": ("--strategy", "synthetic", "--repeat", "{p}/hr_repeat.tif"),
    "denoised": ("--strategy", "denoised", "--lr", "{p}/lr.tif"),
}


@pytest.mark.parametrize("way", WAYS)
def test_pairs_say_what_was_assumed_and_measured(phantom, tmp_path, way):
    words = [word.format(p=phantom) for word in WAYS[way]]
    out = tmp_path / "pairs.zarr"
    said = done("prepare", "--hr", phantom / "hr.tif", *words, "--out", out)
    pairs = open_pairs(out)
    assert said["strategy"] == pairs.strategy and said["assumption"] == pairs.assumption
    assert pairs.noise_correlation == pytest.approx(said["noise_correlation"])
    assert abs(pairs.noise_correlation) < (0.35 if way == "denoised" else 0.12)
    assert (pairs.hr.dtype == np.float32) == (way in ("split", "denoised"))
    assert pairs.hr_dtype == "uint8"
    for picture in said["pictures"]:
        assert (out / picture.split("/")[-1]).is_file()


def test_a_network_learns_from_split_pairs_and_writes_the_dtype_of_the_scan(phantom, tmp_path):
    pairs, recipe = tmp_path / "pairs.zarr", ("--recipe", phantom / "recipe.toml")
    done("prepare", "--hr", phantom / "hr.tif", *WAYS["split"], "--out", pairs)
    done("train", pairs, "--out", tmp_path / "run", *recipe)
    model = tmp_path / "run" / "model.safetensors"
    done("upscale", phantom / "lr.tif", "--model", model, "--out", tmp_path / "sr.tif")
    assert done("inspect", tmp_path / "sr.tif")["dtype"] == "uint8"


def test_inspect_reads_the_microscope_back(phantom):
    hr, repeat, lr = (phantom / name for name in SCANS)
    alone = done("inspect", hr)
    assert alone["blur_sigma_px"] is None and "blur_sigma_px" in alone["reason"]
    assert alone["shape"] == [3, 288, 288] and alone["spacing_nm"] == [50, 15, 15]
    twice = done("inspect", hr, "--repeat", repeat)
    assert twice["noise_gain"] == pytest.approx(-210 / (650 * 0.65), rel=0.1)
    assert abs(twice["noise_correlation"]) < 0.05 and twice["resolution_nm"] > 30
    assert alone["noise_sigma"] == pytest.approx(twice["noise_sigma"], rel=0.1)
    pair = done("inspect", lr, "--hr", hr)
    assert pair["blur_sigma_px"] == pytest.approx(TRUE_BLUR_PX, rel=0.1)


def test_advice_depends_on_what_there_is(phantom, tmp_path):
    hr, repeat, lr = (phantom / name for name in SCANS)
    assert done("advise", "--lr", lr)["strategy"] is None
    paired = done("advise", "--lr", lr, "--hr", hr)
    assert (paired["strategy"], paired["slices"]) == ("real", 3)
    done("simulate", "--out", tmp_path / "other", "--shape", 3, 384, 384, "--seed", 5)
    elsewhere = tmp_path / "other" / "lr.tif"
    apart = done("advise", "--lr", elsewhere, "--hr", hr)
    assert apart["strategy"] == "split" and "--calibrate" in apart["command"]
    twice = done("advise", "--lr", elsewhere, "--hr", hr, "--repeat", repeat)
    assert twice["strategy"] == "synthetic" and "--repeat" in twice["command"]
    shown = emsr("advise", "--lr", elsewhere, "--hr", hr, "--quiet").stdout.strip().splitlines()
    assert len(shown) == 5 and shown[-1] == apart["command"]
    json.dumps(apart, allow_nan=False)
