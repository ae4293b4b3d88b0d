"""The verb simulate: four files that belong together, or one line that says why not."""

import hashlib

import numpy as np
import pytest
import tifffile

from emsr.errors import InputError
from emsr.jobs.listener import Listener
from emsr.jobs.simulate import simulate
from emsr.volumes.source import open_volume

FILES = ["hr.tif", "hr_repeat.tif", "lr.tif", "truth.tif"]


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


@pytest.fixture(scope="module", params=["white-matter", "neuropil"])
def phantom(request, tmp_path_factory):
    """The summary and the arrays of a small phantom."""
    out = tmp_path_factory.mktemp("phantom") / request.param
    summary = simulate(out, request.param, (6, 96, 120), 3, 11)
    return summary, out, {p.stem: tifffile.imread(p).astype(np.float64) for p in out.iterdir()}


def test_files_and_summary(phantom):
    summary, out, arrays = phantom
    assert sorted(p.name for p in out.iterdir()) == sorted(summary["files"]) == FILES
    assert summary["shape"] == [6, 96, 120] and summary["lr_shape"] == [6, 32, 40]
    assert arrays["truth"].shape == arrays["hr"].shape == arrays["hr_repeat"].shape == (6, 96, 120)
    assert arrays["lr"].shape == (6, 32, 40)
    for name, dtype in (("truth", "float32"), ("hr", "uint8"), ("lr", "uint8")):
        volume = open_volume(out / f"{name}.tif")
        assert volume.dtype == np.dtype(dtype)
        z, y, x = summary["spacing_nm"]
        factor = 3 if name == "lr" else 1
        assert volume.spacing_nm == pytest.approx((z, y * factor, x * factor))


def test_scans_scatter_about_the_truth_independently(phantom):
    _, _, arrays = phantom
    noise = arrays["hr"] - arrays["truth"]
    repeat = arrays["hr_repeat"] - arrays["truth"]
    for n in (noise, repeat):
        assert abs(n.mean()) < 4 * n.std() / np.sqrt(n.size) + 0.05
        assert 6 < n.std() < 14
    bound = 4 / np.sqrt(noise.size)
    assert abs(np.corrcoef(noise.ravel(), repeat.ravel())[0, 1]) < bound
    assert abs(np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]) < 1.5 * bound
    binned = noise.reshape(6, 32, 3, 40, 3).mean(axis=(2, 4))
    area = arrays["truth"].reshape(6, 32, 3, 40, 3).mean(axis=(2, 4))
    lr_noise = arrays["lr"] - area
    assert abs(np.corrcoef(binned.ravel(), lr_noise.ravel())[0, 1]) < 4 / np.sqrt(binned.size)


def test_lr_is_the_same_tissue_in_register_but_blurred_and_noisier(phantom):
    _, _, arrays = phantom
    area = arrays["truth"].reshape(6, 32, 3, 40, 3).mean(axis=(2, 4))
    inner = np.s_[:, 4:-4, 4:-4]

    def match(dy, dx):
        moved = np.roll(arrays["lr"], (dy, dx), (1, 2))
        return np.corrcoef(moved[inner].ravel(), area[inner].ravel())[0, 1]

    here = match(0, 0)
    assert here > 0.6
    assert all(match(dy, dx) < here for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)))
    # in register to a fraction of a pixel: both neighbours match about equally well
    assert abs(match(0, 1) - match(0, -1)) < 0.05 and abs(match(1, 0) - match(-1, 0)) < 0.05
    assert arrays["lr"].mean() == pytest.approx(area.mean(), abs=1)
    assert (arrays["lr"] - area).std() > (arrays["hr"] - arrays["truth"]).std()


def test_truth_is_continuous_in_z(phantom):
    summary, _, arrays = phantom
    truth = arrays["truth"]
    one, far = (np.corrcoef(truth[0].ravel(), truth[k].ravel())[0, 1] for k in (1, 5))
    assert one > (0.85 if summary["preset"] == "white-matter" else 0.5)
    assert one > far + 0.02


def test_same_seed_same_bytes(tmp_path):
    for out, seed in (("a", 5), ("b", 5), ("c", 6)):
        simulate(tmp_path / out, "neuropil", (2, 36, 48), 2, seed)
    a, b, c = (digests(tmp_path / out) for out in "abc")
    assert a == b
    assert all(a[name] != c[name] for name in a)


def test_spacing_and_progress(tmp_path):
    heard = []
    ears = Listener(progress=lambda what, done, total, _: heard.append((what, done, total)))
    simulate(
        tmp_path, "white-matter", (2, 32, 32), 4, 0, listener=ears, spacing_nm=(25.0, 20.0, 18.0)
    )
    assert open_volume(tmp_path / "lr.tif").spacing_nm == pytest.approx((25, 80, 72))
    assert heard == [("simulate", 1, 2), ("simulate", 2, 2)]


def test_smallest(tmp_path):
    simulate(tmp_path, "neuropil", (1, 16, 16), 8, 0)
    assert open_volume(tmp_path / "lr.tif").shape == (1, 2, 2)


def test_an_interruption_leaves_nothing(tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "out", "neuropil", (2, 16, 16), 1, 0, listener=Listener(progress=stop))
    assert not (tmp_path / "out").exists()


def test_existing_files_stay_without_overwrite(tmp_path):
    (tmp_path / "lr.tif").write_text("somebody's")
    with pytest.raises(InputError, match=r"lr\.tif exists.*--overwrite"):
        simulate(tmp_path, "neuropil", (1, 16, 16), 1, 0)
    assert (tmp_path / "lr.tif").read_text() == "somebody's"
    simulate(tmp_path, "neuropil", (1, 16, 16), 1, 0, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == FILES


GOOD = {"preset": "neuropil", "shape": (1, 24, 24), "scale": 3, "seed": 0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"preset": "liver"}, "'liver' is unknown.*white-matter, neuropil"),
        ({"scale": 0}, "scale 0.*1 to 8"),
        ({"scale": 9}, "scale 9.*1 to 8"),
        ({"seed": -1}, "seed -1.*from 0"),
        ({"shape": (1, 25, 24)}, "1 x 25 x 24.*multiples of the scale 3.*try 1 27 24"),
        ({"shape": (1, 24, 32)}, "multiples of the scale 3.*try 1 24 33"),
        ({"shape": (0, 24, 24)}, "at least 1 x 16 x 16"),
        ({"shape": (1, 15, 24)}, "at least 1 x 16 x 16"),
        ({"shape": (24, 24)}, "at least 1 x 16 x 16"),
        ({"spacing_nm": (30.0, 0.0, 8.0)}, "30, 0, 8.*above 0"),
        ({"spacing_nm": (-30.0, 8.0, 8.0)}, "above 0"),
        ({"spacing_nm": (float("nan"), 8.0, 8.0)}, "above 0"),
        ({"spacing_nm": (30.0, 500.0, 8.0)}, "100 nm or less"),
    ],
)
def test_bad_input_is_said_in_one_line(tmp_path, change, says):
    with pytest.raises(InputError, match=says) as caught:
        simulate(tmp_path / "out", **{**GOOD, **change})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("inside", [False, True])
def test_a_file_in_the_way(tmp_path, inside):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "out" if inside else tmp_path / "file"
    with pytest.raises(InputError, match="file"):
        simulate(out, **GOOD)
