"""The comparison: a small recipe run through the command line, killed and gone on with; ties."""

import csv
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from route import EMSR, done, emsr

from emsr.errors import InputError
from emsr.jobs.compare import cells_of, compare
from emsr.jobs.compare_cell import Cell
from emsr.jobs.compare_fields import make_field, plane
from emsr.jobs.compare_recipe import budget_named, read_comparison
from emsr.jobs.compare_sets import Block, Images, MadeLr, Part, Phantom
from emsr.jobs.compare_table import Row, tied
from emsr.jobs.simulate import simulate
from emsr.recipe import Recipe
from emsr.volumes.tiff import write_tiff

pytestmark = pytest.mark.xdist_group("compare")  # one run serves most of them

RECIPE = """
title = "A small comparison"
networks = ["emsr-tiny", "rcan"]
strategies = ["real", "split"]
[options.emsr-tiny]
features = 4
heads = 2
residuals = 1
[budgets.tiny]
seeds = [0, 1]
every_strategy = ["emsr-tiny"]
[budgets.tiny.steps]
emsr-tiny = 4
rcan = 2
[budgets.tiny.training]
batch = 2
patch_px = 16
warmup_steps = 0
second_view = false
[budgets.other]
seeds = [3]
[budgets.other.steps]
emsr-tiny = 2
rcan = 2
[[data]]
kind = "phantom"
name = "myelin"
split = "train: seed 0; test: seed 1"
preset = "white-matter"
train = { shape = [2, 192, 192], seed = 0 }
test = { shape = [2, 96, 96], seed = 1 }
[[data]]
kind = "phantom"
name = "too-small"
split = "train: seed 0; test: seed 1"
preset = "white-matter"
train = { shape = [2, 96, 96], seed = 0 }
test = { shape = [2, 96, 96], seed = 1 }
"""


@pytest.fixture(scope="module", autouse=True)
def no_zoo(tmp_path_factory):
    """Processes started here find a spandrel that cannot be imported, as where it is missing."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "spandrel").mkdir()
    (folder / "spandrel/__init__.py").write_text("raise ImportError('gone', name='spandrel')")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        yield


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    (folder / "tiny.toml").write_text(RECIPE)
    summary = done("compare", folder / "tiny.toml", "--out", folder / "out", "--jobs", 2)
    return folder, summary


def table(folder):
    with (folder / "table.csv").open() as file:
        return list(csv.DictReader(file))


def decided(folder):
    """What of the table does not depend on how busy the machine is."""
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in table(folder)]


def test_every_set_has_a_line_for_each_network_and_strategy(ran):
    folder, summary = ran
    rows = table(folder / "out")
    assert [(r["data"], r["network"], r["strategy"], r["seeds"]) for r in rows] == [
        ("myelin", "bicubic", "none", "1"),
        ("myelin", "emsr-tiny", "real", "2"),
        ("myelin", "emsr-tiny", "split", "2"),
        ("myelin", "rcan", "real", "0"),
        ("too-small", "bicubic", "none", "1"),
        ("too-small", "emsr-tiny", "real", "0"),
        ("too-small", "emsr-tiny", "split", "0"),
        ("too-small", "rcan", "real", "0"),
    ]
    assert all(r["split"] == "train: seed 0; test: seed 1" for r in rows)
    assert [r["data"] for r in rows if r["mark"] == "best"] == ["myelin"]  # alone is no best
    assert float(rows[1]["psnr_truth_db_sd"]) > 0
    assert float(rows[1]["mflop_per_lr_pixel"]) > 0 and int(rows[1]["parameters"]) > 0
    assert (summary["cells"], summary["done"]) == (14, 6)


def test_a_failed_cell_says_why_and_does_not_end_the_others(ran):
    folder, summary = ran
    rows = table(folder / "out")
    assert len(summary["failed"]) == 8
    assert "network 'rcan' needs spandrel: pip install" in rows[3]["reason"]
    assert "pairs need at least 64 x 64" in rows[5]["reason"]
    assert str(folder) not in rows[5]["reason"]
    assert "pairs need at least 64 x 64" in (folder / "out" / "report.html").read_text()


def test_gain_is_the_difference_of_the_scores(ran):
    """Of one slice volume, PSNR of the mean error; so over seeds only nearly the mean's."""
    plain, row, *_ = table(ran[0] / "out")
    gain = float(row["psnr_truth_db"]) - float(plain["psnr_truth_db"])
    assert float(row["gain_db"]) == pytest.approx(gain, abs=0.01)


def test_the_page_is_one_file_that_says_the_split(ran):
    text = (ran[0] / "out" / "report.html").read_text()
    assert text.count("train: seed 0; test: seed 1") == 2
    assert 'src="http' not in text and 'href="http' not in text and "url(http" not in text
    for line in ("LR", "bicubic", "reference", "truth"):
        assert f"<figcaption>{line}</figcaption>" in text


def processes():
    """(state, parent) of every process by its number."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            state, parent, *_ = stat.read_text().rsplit(")", 1)[1].split()
            found[int(stat.parent.name)] = state, int(parent)
    return found


def test_killed_it_goes_on_and_gives_the_same(ran, tmp_path):
    folder, _ = ran
    command = ["compare", folder / "tiny.toml", "--out", tmp_path / "out", "--quiet"]
    process = subprocess.Popen([EMSR, *command], stdout=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not list((tmp_path / "out").glob("cells/*tiny*.json")) and time.monotonic() < until:
        time.sleep(0.02)
    hands = [pid for pid, (_, parent) in processes().items() if parent == process.pid]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert hands
    while any(processes().get(pid, ("Z",))[0] != "Z" for pid in hands):
        assert time.monotonic() < until, "a hand outlives its comparison"
        time.sleep(0.02)
    there = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "cells").glob("*.json")}
    assert 0 < len(there) < 6
    compare(folder / "tiny.toml", tmp_path / "out")
    assert all(path.stat().st_mtime_ns == then for path, then in there.items())
    assert decided(tmp_path / "out") == decided(folder / "out")


def test_folders_of_others_are_left_alone(ran, tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match="holds other files"):
        compare(ran[0] / "tiny.toml", tmp_path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


BAD = {
    "unknown key": ("seeds = [3]", "seeds = [3]\nsteepness = 2", "steepness"),
    "unknown key of a set": ('name = "myelin"', 'name = "myelin"\ndosis = 2', "dosis"),
    "unknown network": ('["emsr-tiny", "rcan"]', '["emsr-tinny", "rcan"]', "emsr-tinny"),
    "unknown strategy": ('"real", "split"', '"reel"', "'reel'"),
    "unknown preset": ('preset = "white-matter"', 'preset = "liver"', "liver"),
    "unknown kind": ('kind = "phantom"', 'kind = "fantom"', "fantom"),
    "split unsaid": ('split = "train: seed 0; test: seed 1"\n', "", "split is missing"),
    "no steps": ("emsr-tiny = 4", "", "no steps for 'emsr-tiny'"),
    "steps of no network": ("emsr-tiny = 4", "emsr-tiny = 4\nunet = 3", "'unet'"),
    "training key": ("batch = 2", "badge = 2", "badge"),
    "no seed": ("seeds = [0, 1]", "seeds = []", "seeds"),
    "no number": ("seed = 0", 'seed = "0"', "seed"),
    "no whole LR pixels": ("[2, 192, 192]", "[2, 190, 192]", "multiples of the scale 3"),
    "two of a name": ('name = "too-small"', 'name = "myelin"', "two data sets"),
    "name of a path": ('name = "too-small"', 'name = "../small"', "expected letters"),
    "options of another": ("[options.emsr-tiny]", "[options.unet]", "'unet'"),
    "no TOML": ("seeds = [3]", "seeds = [3", "not valid TOML"),
}


@pytest.mark.parametrize(("old", "new", "said"), BAD.values(), ids=BAD)
def test_a_recipe_that_makes_no_sense_is_refused_in_one_line(old, new, said, tmp_path):
    assert old in RECIPE
    path = tmp_path / "bad.toml"
    path.write_text(RECIPE.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        budget_named(read_comparison(path), None, None)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert str(path) in str(error.value)


IMAGES = """
[[data]]
kind = "images"
name = "mine"
split = "none"
train = { hr = "hr.tif" }
test = { hr = "hr.tif" }
"""
BAD_IMAGES = {
    "missing file": ("made_lr = { blur_px = 1, noise_sigma = 2 }", False, "no file at"),
    "no LR to score on": ("", True, "either lr or made_lr, found neither"),
    "a plane": ('plane = "yx"', True, "plane"),
    "negative blur": ("made_lr = { blur_px = -1, noise_sigma = 2 }", True, "blur_px"),
}


@pytest.mark.parametrize(("more", "there", "said"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_real_sets_that_cannot_be_are_refused(more, there, said, tmp_path, monkeypatch):
    monkeypatch.setenv("EMSR_DATA", str(tmp_path / "data"))
    path = tmp_path / "bad.toml"
    path.write_text(RECIPE + IMAGES + more)
    if there:
        (tmp_path / "hr.tif").touch()
    with pytest.raises(InputError, match=said):
        read_comparison(path)


def test_an_unknown_budget_is_refused(ran):
    with pytest.raises(InputError, match="the recipe has tiny, other"):
        compare(ran[0] / "tiny.toml", ran[0] / "x", budget="huge")
    assert not (ran[0] / "x").exists()


def test_the_command_line_says_what_is_wrong_in_one_line(tmp_path):
    said = emsr("compare", tmp_path / "no.toml", "--out", tmp_path / "out", "--steps", 3)
    assert said.returncode == 1
    assert said.stderr.startswith("emsr: ") and said.stderr.count("\n") == 1


def test_the_recipe_of_nine_sets_is_sound(real_data, monkeypatch):
    monkeypatch.setenv("EMSR_DATA", str(real_data))
    path = Path(__file__).parents[1] / "recipes" / "nine.toml"
    comparison = read_comparison(path)
    assert len(comparison.data) >= 9
    assert all(one.split for one in comparison.data)
    for name in comparison.budgets:
        cells = cells_of(comparison, budget_named(comparison, name, None))
        assert len({cell.key for cell in cells}) == len(cells)
        assert {cell.data.name for cell in cells} == {one.name for one in comparison.data}


def test_a_phantom_at_the_presets_doses_is_what_simulate_writes(tmp_path):
    block = Block((2, 48, 48), 5)
    data = Phantom("phantom", "p", "none", "neuropil", block, block)
    make_field(data, tmp_path / "field")
    simulate(tmp_path / "same", "neuropil", block.shape, 3, block.seed)
    for name in ("lr", "hr", "hr_repeat", "truth"):
        made = tmp_path / "field" / "test" / f"{name}.tif"
        np.testing.assert_array_equal(plane(made, 1), plane(tmp_path / f"same/{name}.tif", 1))


def test_less_dose_is_more_noise_about_the_same_truth(tmp_path):
    block = Block((1, 96, 96), 5)
    noise = {}
    for dose in (1.0, 0.25):
        data = Phantom("phantom", "p", "none", "neuropil", block, block, hr_dose=dose)
        make_field(data, tmp_path / str(dose))
        hr, truth = (plane(tmp_path / f"{dose}/test/{n}.tif", 0) for n in ("hr", "truth"))
        noise[dose] = np.std(hr - truth)
        assert np.mean(hr - truth) == pytest.approx(0, abs=1)
    assert noise[0.25] == pytest.approx(2 * noise[1.0], rel=0.1)


def test_the_side_of_a_volume_is_cut_as_said(tmp_path):
    volume = np.random.default_rng(0).integers(0, 255, (36, 60, 45)).astype(np.uint8)
    write_tiff(tmp_path / "v.tif", volume, volume.shape, volume.dtype, (10.0, 8.0, 4.0))
    part = Part(str(tmp_path / "v.tif"), y=(2, 5), x=(0, 44))
    data = Images("images", "v", "none", part, part, plane="xz", made_lr=MadeLr(0, 0))
    make_field(data, tmp_path / "field")
    hr = tmp_path / "field" / "test" / "hr.tif"
    np.testing.assert_array_equal(plane(hr, 1), volume[:, 3, :42])
    low = volume[:, 3, :42].reshape(12, 3, 14, 3).mean((1, 3))
    lr = plane(tmp_path / "field" / "test" / "lr.tif", 1)
    np.testing.assert_allclose(lr, low, atol=0.51)


def row_of(errors):
    """A row of ``(seed, block)`` sums of squared errors over 100 pixels each."""
    data = Phantom("phantom", "p", "none", "neuropil", Block((1, 1, 1), 0), Block((1, 1, 1), 0))
    cells = tuple(Cell(data, "real", "unet", replace(Recipe(), seed=i)) for i in range(len(errors)))
    results = tuple({"blocks": [[e, 100] for e in one]} for one in errors)
    return Row(cells, results, {})


def test_ties_hold_for_equals_and_not_for_the_worse():
    rng = np.random.default_rng(0)
    scene = rng.gamma(2, 500, 100)  # blocks differ far more than networks do
    best = row_of([scene])
    assert tied(best, best)
    assert not tied(row_of([scene * 1.03]), best)
    assert tied(row_of([scene + rng.normal(0, 50, 100)]), best)
    # Seeds that scatter more than the rows differ cannot decide.
    assert tied(row_of([scene * 1.1, scene * 0.95]), row_of([scene * 1.06, scene * 0.96]))


def test_equals_tie_in_all_but_a_few_of_a_hundred():
    lost = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scene = rng.gamma(2, 500, 100)
        pair = [row_of([scene + rng.normal(0, 50, 100)]) for _ in range(2)]
        best, other = sorted(pair, key=lambda row: row.error)
        lost += not tied(other, best)
    # The best of two equals is chosen by looking, which doubles the 2.5 %.
    assert lost <= 7


def test_a_changed_image_is_another_cell(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"1")
    part = Part(str(tmp_path / "a.tif"))
    cell = Cell(Images("images", "v", "none", part, part), "split", "unet", Recipe())
    before = cell.key
    os.utime(tmp_path / "a.tif", (1, 1))
    assert cell.key != before
