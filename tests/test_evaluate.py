"""`evaluate` through real files: what it writes, what it refuses, and how the page opens."""

import base64
import json
import math
import re
import shutil
from html.parser import HTMLParser

import imagecodecs
import numpy as np
import pytest
import torch
from scipy import ndimage

from emsr.errors import InputError
from emsr.jobs.evaluate import evaluate
from emsr.jobs.listener import Listener
from emsr.quality.fidelity import psnr, ssim
from emsr.quality.resolution import frc, frc_resolution_nm
from emsr.volumes.tiff import write_tiff

SHAPE, SCALE = (3, 96, 120), 3
HR_NM, LR_NM = (30.0, 10.0, 10.0), (30.0, 30.0, 30.0)


def arrays():
    """A field of blobs: truth, two scans of it, LR, and an SR closer to truth than bicubic."""
    rng = np.random.default_rng(0)
    fine = ndimage.gaussian_filter(rng.normal(size=SHAPE), (0, 1.6, 1.6))
    truth = (120 + 140 * fine / np.abs(fine).max()).astype(np.float32)
    z, y, x = SHAPE
    areas = truth.reshape(z, y // SCALE, SCALE, x // SCALE, SCALE).mean((2, 4))

    def scan(clean, sigma):
        return np.clip(np.rint(clean + rng.normal(0, sigma, clean.shape)), 0, 255).astype(np.uint8)

    return {
        "truth": truth,
        "hr": scan(truth, 15),
        "repeat": scan(truth, 15),
        "lr": scan(areas, 4),
        "sr": scan(truth, 4),
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    paths = {}
    for name, array in arrays().items():
        paths[name] = folder / f"{name}.tif"
        save(paths[name], array, LR_NM if name == "lr" else HR_NM)
    return paths


def save(path, array, spacing_nm=HR_NM):
    write_tiff(path, list(array), array.shape, array.dtype, spacing_nm)
    return path


@pytest.fixture(scope="module")
def full(files, tmp_path_factory):
    """The scores and the folder of a run with everything given."""
    out = tmp_path_factory.mktemp("full") / "out"
    scores = evaluate(files["sr"], files["hr"], out, files["repeat"], files["lr"], files["truth"])
    return scores, out


def numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from numbers(part)
    elif isinstance(value, float):
        yield value


def test_scores_are_those_of_the_whole_arrays(full):
    scores, _ = full
    given = arrays()
    wide = torch.nn.functional.interpolate(
        torch.from_numpy(given["lr"].astype(np.float64))[:, None],
        scale_factor=SCALE,
        mode="bicubic",
        align_corners=False,
    )[:, 0].numpy()
    for found, image in ((scores, given["sr"]), (scores["bicubic"], wide)):
        assert found["psnr"] == pytest.approx(psnr(image, given["hr"], 255))
        assert found["ssim"] == pytest.approx(ssim(image, given["hr"], 255))
        assert found["truth"]["psnr"] == pytest.approx(psnr(image, given["truth"], 255))
        curve = frc(image, given["hr"])
        np.testing.assert_allclose(found["frc"]["correlation"], curve, atol=1e-9)
        assert found["frc_resolution_nm"] == pytest.approx(frc_resolution_nm(curve, 96, 10.0))
        low, high = found["clean_psnr_interval"]
        assert low < found["clean_psnr"] < high
        assert low - 0.2 < found["truth"]["psnr"] < high + 0.2
        assert found["clean_psnr_method"] == "repeat"
        low, high = found["clean_ssim_interval"]
        assert low < found["clean_ssim"] < high
        assert found["clean_ssim"] == pytest.approx(found["truth"]["ssim"], abs=0.03)
        clean, true = found["frc"]["clean"], frc(image, given["truth"])
        assert np.abs(np.array(clean[3:20]) - true[3:20]).mean() < 0.05
    assert scores["frc"]["frequency_per_nm"][-1] == pytest.approx(1 / 20)
    assert scores["data_range"] == 255
    assert scores["spacing_nm"] == list(HR_NM)
    assert scores["scale"] == SCALE
    assert len(scores["slices"]["psnr"]) == SHAPE[0]
    assert scores["psnr"] > scores["bicubic"]["psnr"]
    assert scores["frc_resolution_nm"] < scores["bicubic"]["frc_resolution_nm"]


def test_json_on_disk_is_strict_and_the_same(full):
    scores, out = full
    text = (out / "scores.json").read_text()
    stored = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} in scores.json"))
    report = str(out / "report.html")
    assert {**stored, "report": report, "lines": scores["lines"]} == scores
    assert scores["lines"][-1] == f"report: {report}"
    assert all(math.isfinite(value) for value in numbers(stored))
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "scores.json"]


def test_every_null_has_its_reason(files, tmp_path):
    scores = evaluate(files["sr"], files["hr"], tmp_path / "out")
    assert "bicubic" not in scores
    assert "truth" not in scores
    for key, value in scores.items():
        if value is None and key not in ("grey_fit", "scale"):
            assert scores["reason"][key]
    assert "--repeat" in scores["reason"]["clean_psnr"]
    noise = scores["reference_noise"]
    assert noise["sigma"] ** 2 == pytest.approx(noise["variance"])
    assert noise["colour"] in ("white", "correlated", "unknown")
    assert noise["white"] == (noise["colour"] == "white")
    assert scores["clean_psnr_method"] in ("adjacent slices", "one image")
    assert scores["provenance"]["trained_on_reference"] is None
    assert "--model" in scores["provenance"]["reason"]


def test_same_input_same_bytes(files, full, tmp_path):
    _, out = full
    everything = (files["repeat"], files["lr"], files["truth"])
    evaluate(files["sr"], files["hr"], tmp_path / "again", *everything)
    for name in ("scores.json", "report.html"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


def test_identical_volumes(files, tmp_path):
    scores = evaluate(files["hr"], files["hr"], tmp_path / "out")
    assert scores["psnr"] is None
    assert "infinite" in scores["reason"]["psnr"]
    assert scores["ssim"] == pytest.approx(1)
    assert scores["frc_resolution_nm"] is None
    assert "at Nyquist" in scores["reason"]["frc_resolution_nm"]
    assert scores["slices"]["psnr"] == [None] * SHAPE[0]
    assert "infinite" in (tmp_path / "out" / "report.html").read_text()


def test_greys_are_fitted_on_request_only(files, tmp_path):
    given = arrays()
    sr = save(tmp_path / "sr.tif", (given["sr"] * 0.5 + 40).astype(np.float32))
    lr = save(tmp_path / "lr.tif", (given["lr"] * 200.0 + 900).astype(np.uint16), LR_NM)
    plain = evaluate(sr, files["hr"], tmp_path / "plain", lr=lr)
    fitted = evaluate(sr, files["hr"], tmp_path / "fitted", lr=lr, fit_grey=True)
    straight = evaluate(files["sr"], files["hr"], tmp_path / "straight", lr=files["lr"])
    assert plain["grey_fit"] is None
    assert plain["psnr"] < straight["psnr"] - 3
    assert fitted["psnr"] == pytest.approx(straight["psnr"], abs=0.2)
    assert fitted["bicubic"]["psnr"] == pytest.approx(straight["bicubic"]["psnr"], abs=0.3)
    a, b = given["sr"].ravel() * 0.5 + 40, given["hr"].ravel().astype(float)
    gain, offset = np.polyfit(a, b, 1)
    assert fitted["grey_fit"]["sr"]["gain"] == pytest.approx(gain, rel=1e-5)
    assert fitted["grey_fit"]["sr"]["offset"] == pytest.approx(offset, rel=1e-4)


def test_data_range_of_16_bit_is_what_the_scan_uses(tmp_path):
    given = arrays()
    sr, hr = (
        save(tmp_path / f"{name}.tif", given[name].astype(np.uint16) * 20 + 3000)
        for name in ("sr", "hr")
    )
    scores = evaluate(sr, hr, tmp_path / "out")
    low, high = np.percentile(given["hr"].astype(float) * 20 + 3000, [0.1, 99.9])
    assert scores["data_range"] == pytest.approx(high - low)
    assert "percentile" in scores["data_range_reason"]


def test_spacing_unknown_overridden_and_oblong(tmp_path):
    given = arrays()
    sr, hr = (save(tmp_path / f"{name}.tif", given[name], None) for name in ("sr", "hr"))
    scores = evaluate(sr, hr, tmp_path / "unknown")
    assert scores["spacing_nm"] is None
    assert scores["frc_resolution_nm"] is None
    assert scores["frc"]["frequency_per_nm"] is None
    assert scores["frc"]["frequency_per_px"][-1] == 0.5
    assert "--spacing" in scores["reason"]["frc_resolution_nm"]
    lr = save(tmp_path / "lr.tif", given["lr"], (30.0, 1.0, 1.0))
    told = evaluate(sr, hr, tmp_path / "told", lr=lr, spacing_nm=(30, 5, 5))
    doubled = evaluate(sr, hr, tmp_path / "doubled", spacing_nm=(30, 10, 10))
    assert doubled["frc_resolution_nm"] == pytest.approx(2 * told["frc_resolution_nm"])
    oblong = evaluate(sr, hr, tmp_path / "oblong", spacing_nm=(30, 10, 5))
    assert "not square" in oblong["reason"]["frc_resolution_nm"]


def test_two_dimensional_images_and_progress(tmp_path):
    given = arrays()
    for name in ("sr", "hr"):
        np.save(tmp_path / f"{name}.npy", given[name][0])
    heard = []
    listener = Listener(progress=lambda *said: heard.append(said))
    scores = evaluate(tmp_path / "sr.npy", tmp_path / "hr.npy", tmp_path / "out", listener=listener)
    assert scores["shape"] == [1, *SHAPE[1:]]
    assert heard == [("evaluate", 1, 1, "")]


def changed(array, value):
    array = array.astype(np.float32)
    array[1, 5, 7] = value
    return array


SMALL = {name: array[:, :30, :30] for name, array in arrays().items()}
BAD = [
    ("sr", lambda a: a[:, :93], "(3, 93, 120)", "(3, 96, 120)"),
    ("sr", lambda a: a[1:], "(2, 96, 120)", "(3, 96, 120)"),
    ("repeat", lambda a: a[:, :, 1:], "(3, 96, 119)", "same grid"),
    ("truth", lambda a: a[:, 1:], "(3, 95, 120)", "same grid"),
    ("lr", lambda a: a[:, :31], "(3, 31, 40)", "one integer"),
    ("lr", lambda a: a[:, ::2], "(3, 16, 40)", "one integer"),
    ("lr", lambda a: a[:1], "(1, 32, 40)", "same z"),
    ("lr", lambda a: a.repeat(6, 1), "(3, 192, 40)", "one integer"),
    ("hr", lambda a: a * 0 + 7, "constant (7", "structure"),
    ("hr", lambda a: np.where(a > 120, a, 120), "lie at the lowest (120)", "unclipped"),
    ("hr", lambda a: changed(a, np.nan), "hr.tif", "NaN"),
    ("sr", lambda a: changed(a, np.inf), "sr.tif", "slice 1"),
    ("lr", lambda a: changed(a, np.nan), "lr.tif", "NaN"),
    ("repeat", lambda a: np.roll(a, 31, 1), "does not show", "correlation"),
    ("repeat", lambda _: arrays()["hr"], "identical", "second acquisition"),
    ("repeat", lambda _: arrays()["hr"] ^ 1, "identical", "second acquisition"),
    ("repeat", lambda a: np.stack([arrays()["hr"][0], *a[1:]]), "identical", "second"),
    ("repeat", lambda a: np.roll(a, 1, 0), "repeat", "reference"),
]


@pytest.mark.parametrize(("name", "spoil", "found", "expected"), BAD)
def test_bad_input(files, tmp_path, name, spoil, found, expected):
    spoiled = save(
        tmp_path / f"{name}.tif", spoil(arrays()[name]), LR_NM if name == "lr" else HR_NM
    )
    paths = {**files, name: spoiled}
    with pytest.raises(InputError) as caught:
        evaluate(
            paths["sr"], paths["hr"], tmp_path / "out", paths["repeat"], paths["lr"], paths["truth"]
        )
    message = str(caught.value)
    assert found in message
    assert expected in message
    assert "\n" not in message
    assert not list((tmp_path / "out").glob("*"))


SAID = [
    ("hr", lambda a: np.clip(a, 70, 255), "lie at its lowest or highest grey level"),
    ("repeat", lambda a: np.roll(a, 2, 1), "beside the reference"),
    ("repeat", lambda a: a + np.uint8(15), "brought to the means"),
    ("repeat", lambda a: (128 + 0.7 * (a - 128.0)).astype(np.uint8), "contrast"),
]


@pytest.mark.parametrize(("name", "spoil", "words"), SAID)
def test_doubtful_input_is_said(files, tmp_path, name, spoil, words):
    spoiled = save(tmp_path / f"{name}.tif", spoil(arrays()[name]))
    paths, said = {**files, name: spoiled}, []
    listener = Listener(say=said.append)
    found = evaluate(paths["sr"], paths["hr"], tmp_path / "out", paths["repeat"], listener=listener)
    assert any(words in line for line in said), said
    if "beside" in words:
        assert found["repeat"]["shift_px"] == pytest.approx([2, 0], abs=0.2)
        assert "out of register" in found["reason"]["clean_ssim"]


def test_options_that_cannot_be(files, tmp_path):
    with pytest.raises(InputError, match=r"regions of 7 px.*multiple of 16"):
        evaluate(files["sr"], files["hr"], tmp_path / "out", regions=7)
    with pytest.raises(InputError, match=r"regions of 0 px.*multiple of 16"):
        evaluate(files["sr"], files["hr"].with_name("none.tif"), tmp_path / "out", regions=0)
    with pytest.raises(InputError, match="same grid"):
        evaluate(files["sr"], files["hr"], tmp_path / "out", sr2=files["lr"])
    with pytest.raises(InputError, match=r"agrees with itself.*--sr2"):
        evaluate(files["sr"], files["hr"], tmp_path / "out", sr2=files["sr"])
    with pytest.raises(InputError, match="safetensors"):
        evaluate(files["sr"], files["hr"], tmp_path / "out", model=files["lr"])
    assert not (tmp_path / "out").exists()


def test_another_sr_is_compared_as_consistency(files, tmp_path):
    found = evaluate(files["sr"], files["hr"], tmp_path / "out", sr2=files["repeat"])
    assert "frc_resolution_nm" not in found["consistency"]
    curve = frc(arrays()["sr"], arrays()["repeat"])
    np.testing.assert_allclose(found["consistency"]["correlation"], curve, atol=1e-9)
    assert "not resolution" in found["against"]["consistency"]
    copied = save(tmp_path / "copy.tif", arrays()["sr"])
    same = evaluate(files["sr"], files["hr"], tmp_path / "same", sr2=copied)["consistency"]
    assert "identical" in same["reason"]["agrees_to_nm"]


def test_too_small(tmp_path):
    sr, hr = (save(tmp_path / f"{name}.tif", SMALL[name]) for name in ("sr", "hr"))
    with pytest.raises(InputError, match=r"\(30, 30\).*at least 32 x 32"):
        evaluate(sr, hr, tmp_path / "out")


@pytest.mark.parametrize(("name", "stated"), [("sr", (30.0, 10.2, 10.2)), ("lr", HR_NM)])
def test_contradictory_spacing(files, tmp_path, name, stated):
    wrong = save(tmp_path / f"{name}.tif", arrays()[name], stated)
    paths = {**files, name: wrong}
    with pytest.raises(InputError, match=r"contradict.*--spacing") as caught:
        evaluate(paths["sr"], paths["hr"], tmp_path / "out", lr=paths["lr"])
    assert "(30.0, 10.0, 10.0)" in str(caught.value)
    close = save(tmp_path / "close.tif", arrays()["sr"], (30.0, 10.05, 10.05))
    evaluate(close, files["hr"], tmp_path / "out")


def test_output_that_exists_or_cannot_be_written(files, tmp_path):
    out = tmp_path / "out"
    evaluate(files["sr"], files["hr"], out)
    before = (out / "scores.json").read_bytes()
    with pytest.raises(InputError, match="--overwrite"):
        evaluate(files["lr"], files["lr"], out)
    assert (out / "scores.json").read_bytes() == before
    evaluate(files["repeat"], files["hr"], out, overwrite=True)
    assert (out / "scores.json").read_bytes() != before
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made a folder"):
        evaluate(files["sr"], files["hr"], tmp_path / "file")


class Page(HTMLParser):
    """Remembers open tags and every attribute that could load something."""

    VOID = frozenset({"meta", "link", "img", "br", "line", "path", "circle"})

    def __init__(self, text):
        super().__init__()
        self.open, self.links = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.links += [value for key, value in attrs if key in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, _tag, attrs):
        self.links += [value for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report_is_one_file_and_its_pictures_decode(full):
    _, out = full
    text = (out / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert all(link.startswith("data:") for link in page.links)
    outside = re.sub(r'xmlns="[^"]*"', "", text)
    assert "http:" not in outside
    assert "https:" not in outside
    assert "@import" not in text
    pictures = [link for link in page.links if link.startswith("data:image/png;base64,")]
    assert len(pictures) == 5 + 5 + 4
    shapes = [imagecodecs.png_decode(base64.b64decode(p.split(",")[1])).shape for p in pictures]
    assert shapes[0] == (96, 120)
    assert shapes[5] == (96, 96)
    assert shapes[-1] == (96, 120, 3)


def test_panels_share_one_grey_window(full):
    """The LR panel is LR itself, each pixel repeated; every panel maps the same greys alike."""
    _, out = full
    text = (out / "report.html").read_text()
    pictures = [link for link in Page(text).links if link.startswith("data:image/png")][:5]
    lr, _, sr, hr, _ = (imagecodecs.png_decode(base64.b64decode(p.split(",")[1])) for p in pictures)
    given = {name: array[1] for name, array in arrays().items()}
    low, high = np.percentile(given["hr"], [0.5, 99.5])
    for shown, grey in ((sr, given["sr"]), (hr, given["hr"])):
        expected = np.rint(np.clip((grey - low) / (high - low), 0, 1) * 255)
        np.testing.assert_array_equal(shown, expected)
    np.testing.assert_array_equal(lr, lr[::3, ::3].repeat(3, 0).repeat(3, 1))


def test_report_says_the_scores(full):
    scores, out = full
    text = (out / "report.html").read_text()
    for value in (scores["psnr"], scores["bicubic"]["psnr"], scores["clean_psnr"]):
        assert f"{value:.2f}" in text
    assert f"SR {scores['frc_resolution_nm']:.3g} nm" in text
    assert "against what" in text
    assert text.count("How to read this") == 6


def test_file_names_are_escaped(files, tmp_path):
    odd = tmp_path / "<script>alert(1)<"
    odd.mkdir()
    shutil.copy(files["sr"], odd / "a&b.tif")
    evaluate(odd / "a&b.tif", files["hr"], tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    assert "<script>alert" not in text
    assert "a&amp;b.tif" in text
