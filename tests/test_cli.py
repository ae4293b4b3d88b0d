"""The command line, as a user meets it: the route on real files, and every kind of bad input.

Every call runs the installed ``emsr`` in a process of its own.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from emsr.volumes.tiff import write_tiff

EMSR = Path(sys.executable).with_name("emsr")
LR_NM, HR_NM = (50.0, 30.0, 30.0), (50.0, 10.0, 10.0)
RECIPE = """
network = "emsr-tiny"
[network_options]
features = 4
heads = 2
residuals = 1
[training]
steps = 4
batch = 2
patch_px = 16
checkpoint_every = 2
[upscaling]
tile_px = [1, 32, 32]
"""


def emsr(*arguments, cwd=None):
    return subprocess.run(
        [EMSR, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=300
    )


def done(*arguments):
    """The JSON summary of a command that must succeed, and says nothing on stderr."""
    result = emsr(*arguments, "--json", "--quiet")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


@pytest.fixture(scope="session")
def field(tmp_path_factory):
    """The smallest route: two scans of one field, pairs, a trained model."""
    folder = tmp_path_factory.mktemp("field")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:192, :192]
    clean = 120 + 60 * np.sin(x / 9 + np.arange(2)[:, None, None]) * np.cos(y / 13)
    hr = (clean + 5 * rng.standard_normal(clean.shape)).astype(np.uint8)
    low = clean.reshape(2, 64, 3, 64, 3).mean((2, 4))
    lr = (low + 5 * rng.standard_normal(low.shape)).astype(np.uint8)
    write_tiff(folder / "hr.tif", hr, hr.shape, hr.dtype, HR_NM)
    write_tiff(folder / "lr.tif", lr, lr.shape, lr.dtype, LR_NM)
    (folder / "recipe.toml").write_text(RECIPE)
    pair = ("--hr", folder / "hr.tif", "--lr", folder / "lr.tif")
    done("prepare", *pair, "--strategy", "real", "--out", folder / "pairs.zarr")
    recipe = ("--recipe", folder / "recipe.toml")
    done("train", folder / "pairs.zarr", "--out", folder / "run", *recipe)
    return folder


def upscale_of(field, out, *more, lr="lr.tif"):
    recipe = ("--recipe", field / "recipe.toml")
    model = ("--model", field / "run" / "model.safetensors")
    return ("upscale", field / lr, *model, "--out", out, *recipe, *more)


def test_the_route_upscales_and_scores(field, tmp_path):
    said = done(*upscale_of(field, tmp_path / "sr.ome.zarr"))
    assert (said["shape"], said["voxels"]) == ([2, 192, 192], 2 * 192 * 192)
    assert (said["tiles_done"], said["tiles_resumed"]) == (8, 0)
    assert said["clipped_fraction"] == 0
    assert said["peak_memory_bytes"] > 0
    scans = ("--reference", field / "hr.tif", "--lr", field / "lr.tif")
    scores = done("evaluate", "--sr", tmp_path / "sr.ome.zarr", *scans, "--out", tmp_path / "e")
    stored = json.loads((tmp_path / "e" / "scores.json").read_text())
    assert scores["psnr"] == stored["psnr"] > 20
    assert stored["bicubic"]["psnr"] > 20
    assert stored["data_range"] == 255
    assert (tmp_path / "e" / "report.html").stat().st_size > 10_000


def test_the_output_is_an_ome_zarr_with_the_spacing_divided(field, tmp_path):
    done(*upscale_of(field, tmp_path / "sr.ome.zarr"))
    group = zarr.open_group(tmp_path / "sr.ome.zarr", mode="r")
    assert group["0"].shape == (2, 192, 192)
    assert group["0"].dtype == np.uint8
    scale = group.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]
    assert scale == {"type": "scale", "scale": [50.0, 10.0, 10.0]}


def test_tiff_and_zarr_hold_the_same_voxels(field, tmp_path):
    done(*upscale_of(field, tmp_path / "sr.ome.zarr"))
    done(*upscale_of(field, tmp_path / "sr.tif"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sr.ome.zarr", "sr.tif"]
    with tifffile.TiffFile(tmp_path / "sr.tif") as tif:
        assert 'PhysicalSizeX="10' in tif.ome_metadata
        voxels = tif.asarray()
    assert (voxels == zarr.open_array(tmp_path / "sr.ome.zarr" / "0", mode="r")[:]).all()


def test_python_gives_what_the_command_gives(field, tmp_path):
    import emsr as package

    done(*upscale_of(field, tmp_path / "sr.ome.zarr", "--halo", 64))
    model = package.load(field / "run" / "model.safetensors", device="cpu")
    lr = tifffile.imread(field / "lr.tif")
    stored = zarr.open_array(tmp_path / "sr.ome.zarr" / "0", mode="r")[:]
    difference = model.upscale(lr).astype(int) - stored
    assert abs(difference).max() <= 1  # rounding of values that differ by 1e-6
    assert (difference != 0).mean() < 1e-3
    assert model.upscale(lr[0]).shape == (192, 192)


def test_a_finished_output_is_left_alone_and_another_is_refused(field, tmp_path):
    for name in ("sr.ome.zarr", "sr.tif"):
        out = tmp_path / name
        done(*upscale_of(field, out))
        before = {p: p.read_bytes() for p in [out, *out.rglob("*")] if p.is_file()}
        again = done(*upscale_of(field, out))
        assert (again["tiles_done"], again["clipped_fraction"]) == (0, None)
        other = emsr(*upscale_of(field, out, "--halo", 4))
        assert other.returncode == 1
        assert "--overwrite" in other.stderr
        assert before == {p: p.read_bytes() for p in [out, *out.rglob("*")] if p.is_file()}
        assert done(*upscale_of(field, out, "--halo", 4, "--overwrite"))["tiles_done"] == 8


def test_another_input_is_noticed_wherever_it_differs(field, tmp_path):
    lr = tifffile.imread(field / "lr.tif")
    write_tiff(tmp_path / "lr.tif", lr, lr.shape, lr.dtype, LR_NM)
    done(*upscale_of(field, tmp_path / "sr.ome.zarr", lr=tmp_path / "lr.tif"))
    lr[-1, -1, -1] ^= 1
    write_tiff(tmp_path / "lr.tif", lr, lr.shape, lr.dtype, LR_NM)
    again = emsr(*upscale_of(field, tmp_path / "sr.ome.zarr", lr=tmp_path / "lr.tif"))
    assert again.returncode == 1
    assert "another input" in again.stderr


def test_an_output_never_replaces_what_is_read(field, tmp_path):
    import shutil

    shutil.copytree(field, tmp_path / "copy")
    copy, before = tmp_path / "copy", tree(tmp_path / "copy")
    for command in (
        upscale_of(copy, copy / "lr.tif", "--overwrite"),
        upscale_of(copy, copy / "x.zarr", "--overwrite", lr="."),
        ("prepare", "--strategy", "synthetic", "--hr", copy / "hr.tif", "--out", copy / "hr.tif"),
        ("train", copy / "pairs.zarr", "--out", copy, "--overwrite"),
        ("train", copy / "pairs.zarr", "--out", copy / "pairs.zarr" / "run"),
    ):
        assert emsr(*command).returncode == 1
        assert tree(copy) == before


def test_overwriting_a_run_keeps_the_users_own_files(field, tmp_path):
    train = ("train", field / "pairs.zarr", "--recipe", field / "recipe.toml")
    done(*train, "--out", tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    done(*train, "--out", tmp_path / "run", "--overwrite", "--seed", 1)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_greys_unlike_the_trainings_are_said_and_not_learned_from_json_alone(field, tmp_path):
    lr = tifffile.imread(field / "lr.tif")
    dim = (lr / 255).astype(np.float32)
    write_tiff(tmp_path / "dim.tif", dim, dim.shape, dim.dtype, LR_NM)
    said = done(*upscale_of(field, tmp_path / "dim.ome.zarr", lr=tmp_path / "dim.tif"))
    assert any("another grey scale" in line for line in said["notices"])
    wide = lr.astype(np.uint16) * 257
    write_tiff(tmp_path / "wide.tif", wide, wide.shape, wide.dtype, LR_NM)
    result = emsr(*upscale_of(field, tmp_path / "wide.ome.zarr", lr=tmp_path / "wide.tif"))
    assert "clipped" in result.stdout
    assert "another grey scale" in result.stderr
    assert "were clipped" in result.stderr
    assert done(*upscale_of(field, tmp_path / "ok.ome.zarr"))["notices"] == []


def test_a_refused_training_does_not_block_the_corrected_one(field, tmp_path):
    train = ("train", field / "pairs.zarr", "--out", tmp_path / "run")
    assert emsr(*train, "--network", "nope").returncode == 1
    assert not (tmp_path / "run").exists()
    done(*train, "--recipe", field / "recipe.toml")
    more = emsr(*train, "--recipe", field / "recipe.toml", "--steps", 9, "--resume")
    assert more.returncode == 1
    assert "steps 4, 9 is asked for" in more.stderr


def test_a_model_can_be_read_by_others(field):
    assert (field / "run" / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask()


def umask():
    value = os.umask(0)
    os.umask(value)
    return value


def tree(root):
    return {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_killed_anywhere_and_run_again_gives_the_same_bytes(field, tmp_path):
    whole, killed = tmp_path / "whole.ome.zarr", tmp_path / "killed.ome.zarr"
    done(*upscale_of(field, whole))
    for shards in (0, 1, 5):
        process = subprocess.Popen(
            [EMSR, *map(str, upscale_of(field, killed))], stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if len(list(killed.glob("0/c/*/*/*"))) > shards:
                break
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        attributes = json.loads((killed / "zarr.json").read_text())["attributes"]
        assert attributes["emsr"]["state"] == "finished" or "ome" not in attributes
    said = done(*upscale_of(field, killed))
    assert said["tiles_done"] + said["tiles_resumed"] == 8
    assert tree(killed) == tree(whole)


def test_training_resumes_after_a_kill_to_the_same_model(field, tmp_path):
    train = ("train", field / "pairs.zarr", "--recipe", field / "recipe.toml", "--steps", 30)
    done(*train, "--out", tmp_path / "whole")
    process = subprocess.Popen(
        [EMSR, *map(str, train), "--out", tmp_path / "killed"], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (tmp_path / "killed" / "state.safetensors").exists():
            break
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    refused = emsr(*train, "--out", tmp_path / "killed")
    assert refused.returncode == 1
    assert "--resume" in refused.stderr
    done(*train, "--out", tmp_path / "killed", "--resume")
    whole, killed = (weights_of(tmp_path / name) for name in ("whole", "killed"))
    assert all((whole[k] == killed[k]).all() for k in whole)
    history = (tmp_path / "killed/history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in history] == list(range(2, 31, 2))


def weights_of(run):
    from safetensors.numpy import load_file

    return load_file(run / "model.safetensors")


def test_same_seed_same_model_other_seed_another(field, tmp_path):
    models = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        recipe = ("--recipe", field / "recipe.toml", "--seed", seed)
        done("train", field / "pairs.zarr", "--out", tmp_path / name, *recipe)
        models.append(weights_of(tmp_path / name)["head.weight"])
    assert (models[0] == models[1]).all()
    assert (models[0] != models[2]).any()


def test_validation_rows_never_enter_training(field, tmp_path):
    """Spoil the held-out rows of the pairs: the trained weights do not change."""
    said = done(
        "train", field / "pairs.zarr", "--out", tmp_path / "a", "--recipe", field / "recipe.toml"
    )
    import shutil

    shutil.copytree(field / "pairs.zarr", tmp_path / "spoiled.zarr")
    spoiled = zarr.open_group(tmp_path / "spoiled.zarr")
    start = said["validation_rows"][0]
    spoiled["lr"][:, start:] = 0
    spoiled["hr"][:, 3 * start :] = 0
    (tmp_path / "r.toml").write_text(
        RECIPE.replace("checkpoint_every = 2", "checkpoint_every = 99")
    )
    # Forty steps of two patches would touch the held-out rows if they could; one checkpoint, at the
    # end, so that which weights are the best does not depend on the spoiled scores.
    forty = ("--recipe", tmp_path / "r.toml", "--steps", 40)
    done("train", field / "pairs.zarr", "--out", tmp_path / "b", *forty)
    done("train", tmp_path / "spoiled.zarr", "--out", tmp_path / "c", *forty)
    clean, other = weights_of(tmp_path / "b"), weights_of(tmp_path / "c")
    assert all((clean[k] == other[k]).all() for k in clean)


def spoil(folder):
    """Files that cannot be used, by name."""
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 255, (2, 192, 192), np.uint8)
    write_tiff(
        folder / "constant.tif", np.full((2, 192, 192), 9, np.uint8), (2, 192, 192), "u1", HR_NM
    )
    nan = noise.astype(np.float32)
    nan[1, 5, 5] = np.nan
    write_tiff(folder / "nan.tif", nan, nan.shape, nan.dtype, HR_NM)
    nan_lr = nan[:, :64, :64]
    write_tiff(folder / "nan-lr.tif", nan_lr, nan_lr.shape, nan.dtype, LR_NM)
    write_tiff(folder / "half.tif", noise[:, :128, :128], (2, 128, 128), "u1", HR_NM)
    write_tiff(folder / "other-spacing.tif", noise[:, :64, :64], (2, 64, 64), "u1", (50, 20, 20))
    write_tiff(folder / "stranger.tif", noise, noise.shape, "u1", HR_NM)
    tifffile.imwrite(
        folder / "rgb.tif", rng.integers(0, 255, (64, 64, 3), np.uint8), photometric="rgb"
    )
    np.save(folder / "4d.npy", np.zeros((2, 2, 64, 64), np.uint8))
    (folder / "empty").mkdir()
    (folder / "unequal").mkdir()
    for k, side in enumerate((64, 65)):
        tifffile.imwrite(folder / "unequal" / f"{k}.tif", noise[0, :side, :64])
    (folder / "text.tif").write_text("not an image")
    (folder / "not-a-model.safetensors").write_bytes(b"nonsense")
    (folder / "occupied.ome.zarr").mkdir()
    (folder / "occupied.ome.zarr" / "notes.txt").write_text("mine")
    (folder / "a-file").write_text("")


PREPARE = "prepare --strategy real --out {t}/o.zarr"
UPSCALE = "--model {f}/run/model.safetensors --out {t}/o.ome.zarr"
BAD = {
    "missing file": ("upscale {t}/absent.tif " + UPSCALE, "absent.tif"),
    "a directory without images": ("upscale {t}/empty " + UPSCALE, "empty"),
    "truncated TIFF": ("upscale {t}/cut.tif " + UPSCALE, "cut.tif"),
    "text named tif": ("upscale {t}/text.tif " + UPSCALE, "text.tif"),
    "slices of unequal size": ("upscale {t}/unequal " + UPSCALE, "65"),
    "four axes": ("upscale {t}/4d.npy " + UPSCALE, "4d.npy"),
    "colour": ("upscale {t}/rgb.tif " + UPSCALE, "rgb.tif"),
    "unknown kind": ("upscale {f}/recipe.toml " + UPSCALE, "recipe.toml"),
    "NaN to upscale": ("upscale {t}/nan-lr.tif " + UPSCALE, "slice 1"),
    "NaN to learn from": (PREPARE + " --hr {t}/nan.tif --lr {f}/lr.tif", "nan.tif"),
    "constant HR": ("prepare --strategy synthetic --hr {t}/constant.tif --out {t}/o.zarr", "constant"),
    "HR not scale times LR": (PREPARE + " --hr {f}/hr.tif --lr {t}/half.tif", "128"),
    "another scale than asked": (PREPARE + " --hr {f}/hr.tif --lr {f}/lr.tif --scale 2", "2"),
    "another field": (PREPARE + " --hr {t}/stranger.tif --lr {f}/lr.tif", "register"),
    "spacing that contradicts": (PREPARE + " --hr {f}/hr.tif --lr {t}/other-spacing.tif", "20"),
    "real without LR": (PREPARE + " --hr {f}/hr.tif", "--lr"),
    "a strategy to come": ("prepare --strategy split --hr {f}/hr.tif --out {t}/o.zarr", "split"),
    "pairs that are not": ("train {f}/hr.tif --out {t}/o", "pairs"),
    "no pairs": ("train {t}/absent.zarr --out {t}/o", "absent.zarr"),
    "unknown network": ("train {f}/pairs.zarr --out {t}/o --network nope", "emsr-tiny"),
    "a run in the way": ("train {f}/pairs.zarr --out {f}/run", "--resume"),
    "files in the way": ("train {f}/pairs.zarr --out {t}/unequal --overwrite", "other files"),
    "pairs in the way": ("prepare --strategy synthetic --hr {f}/hr.tif --out {f}/pairs.zarr", "--overwrite"),
    "unknown recipe key": ("train {f}/pairs.zarr --out {t}/o --recipe {t}/bad.toml", "speed"),
    "recipe that does not exist": ("train {f}/pairs.zarr --out {t}/o --recipe {t}/no.toml", "no.toml"),
    "no model": ("upscale {f}/lr.tif --model {t}/no.safetensors --out {t}/o.ome.zarr", "no.safetensors"),
    "model not ours": ("upscale {f}/lr.tif --model {t}/not-a-model.safetensors --out {t}/o.ome.zarr", "not-a-model"),
    "image as model": ("upscale {f}/lr.tif --model {f}/lr.tif --out {t}/o.ome.zarr", "lr.tif"),
    "another spacing than trained at": ("upscale {t}/other-spacing.tif " + UPSCALE, "30"),
    "output in the way": ("upscale {f}/lr.tif --model {f}/run/model.safetensors --out {t}/occupied.ome.zarr", "--overwrite"),
    "an output that is neither": ("upscale {f}/lr.tif --model {f}/run/model.safetensors --out {t}/o.png", ".ome.zarr"),
    "a recipe of another scale": ("train {f}/pairs.zarr --out {t}/o --recipe {t}/two.toml", "scale 3"),
    "a directory as model": ("upscale {f}/lr.tif --model {f}/run --out {t}/o.zarr", "directory"),
    "a device of another kind": ("upscale {f}/lr.tif --device mps " + UPSCALE, "mps"),
    "a recipe's range upside down": ("prepare --strategy synthetic --hr {f}/hr.tif --out {t}/o.zarr --recipe {t}/range.toml", "lower one first"),
    "a directory of files in the way": ("upscale {f}/lr.tif --model {f}/run/model.safetensors --out {t}/occupied.ome.zarr --overwrite", "remove it yourself"),
    "unwritable output": ("upscale {f}/lr.tif --model {f}/run/model.safetensors --out {t}/a-file/o.ome.zarr", "a-file"),
    "unwritable tif": ("upscale {f}/lr.tif --model {f}/run/model.safetensors --out {t}/a-file/o.tif", "a-file"),
    "unwritable pairs": ("prepare --strategy synthetic --hr {f}/hr.tif --out {t}/a-file/o.zarr", "a-file"),
    "unwritable run": ("train {f}/pairs.zarr --out {t}/a-file/o", "a-file"),
    "unwritable phantom": ("simulate --out {t}/a-file/o --shape 1 48 48", "a-file"),
    "unwritable scores": ("evaluate --sr {f}/hr.tif --reference {f}/hr.tif --out {t}/a-file/o", "a-file"),
    "no GPU": ("upscale {f}/lr.tif --device cuda:77 " + UPSCALE, "cuda:77"),
    "a device that is none": ("upscale {f}/lr.tif --device toaster " + UPSCALE, "toaster"),
    "shapes to score": ("evaluate --sr {f}/lr.tif --reference {f}/hr.tif --out {t}/o", "64"),
    "constant reference": ("evaluate --sr {f}/hr.tif --reference {t}/constant.tif --out {t}/o", "constant"),
    "phantom that does not divide": ("simulate --out {t}/o --shape 2 50 48", "50"),
    "phantom in the way": ("simulate --out {t}/phantom --shape 1 48 48", "--overwrite"),
    "demo in the way": ("demo --out {t}/unequal --overwrite", "other files"),
}  # fmt: skip


@pytest.fixture(scope="session")
def bad(field, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    spoil(folder)
    whole = (field / "lr.tif").read_bytes()
    (folder / "cut.tif").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "bad.toml").write_text("speed = 3\n")
    (folder / "two.toml").write_text("scale = 2\n")
    (folder / "range.toml").write_text("[degradation]\nnoise_sigma = [0.5, 0.1]\n")
    done("simulate", "--out", folder / "phantom", "--shape", 1, 48, 48)
    return folder


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_1(case, field, bad):
    command, said = BAD[case]
    before = names(bad)
    result = emsr(*command.format(f=field, t=bad).split(), "--quiet")
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stderr.startswith("emsr: ")
    assert said in result.stderr
    for name in names(bad) - before:
        # What a refused run may leave lies under a name that no reader takes for a result.
        assert "finished" in name or not looks_finished(bad / name), name


def names(folder):
    return {str(p.relative_to(folder)) for p in folder.iterdir()}


def looks_finished(path):
    """Whether a reader would take what lies there for a result."""
    if path.is_dir():
        root = path / "zarr.json"
        if root.exists():
            return "ome" in json.loads(root.read_text()).get("attributes", {})
        return any((path / n).exists() for n in ("model.safetensors", "scores.json", "hr.tif"))
    return True


@pytest.mark.parametrize(
    "command",
    [
        "upscale --nonsense",
        "nonsense",
        "upscale x.tif",
        "prepare --strategy magic --hr a --out b",
        "train p --out o --steps none",
        "train p --out o --loss l3",
        "train p --out o --resume --overwrite",
        "simulate --out o --scale 9",
        "simulate --out o --preset bone",
        "upscale x --model m --out o --spacing 1,2",
        "upscale x --model m --out o --spacing 0,1,1",
    ],
)
def test_wrong_usage_is_exit_2(command, tmp_path):
    result = emsr(*command.split(), cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_interrupting_is_exit_130(field, tmp_path):
    train = ("train", field / "pairs.zarr", "--recipe", field / "recipe.toml", "--steps", 100000)
    process = subprocess.Popen(
        [EMSR, *map(str, train), "--out", tmp_path / "run"], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "state.safetensors").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-1].startswith("emsr: interrupted")
    assert "Traceback" not in stderr
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_bug_of_ours_is_exit_70_with_the_traceback_in_a_file(tmp_path):
    code = (
        "import emsr.cli, emsr.console\n"
        "def broken(*_): raise ZeroDivisionError('on purpose')\n"
        "emsr.console.listening = broken\n"
        "import sys; sys.argv = ['emsr', 'simulate', '--out', 'x']\n"
        "emsr.cli.main()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 70
    named = Path(result.stderr.split()[-1])
    assert "on purpose" in named.read_text()
    named.unlink()


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = (
        "import sys; from emsr.cli import app\n"
        "print([m for m in ('torch', 'numpy', 'zarr', 'skimage') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
