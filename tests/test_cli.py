"""The command line, as a user meets it: the route on real files, kills, seeds and exit codes."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from route import EMSR, LR_NM, RECIPE, done, emsr, upscale_of
from safetensors.numpy import load_file

from emsr.cli.run import _loaded
from emsr.volumes.tiff import write_tiff


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
    # Forty steps of two patches would touch the held-out rows if they could. Compared are the last
    # weights: which ones are the best is for the spoiled field to say.
    forty = ("--recipe", tmp_path / "r.toml", "--steps", 40)
    done("train", field / "pairs.zarr", "--out", tmp_path / "b", *forty)
    done("train", tmp_path / "spoiled.zarr", "--out", tmp_path / "c", *forty)
    clean, other = (load_file(tmp_path / run / "state.safetensors") for run in "bc")
    trained = [key for key in clean if key.startswith("network/")]
    assert trained and all((clean[k] == other[k]).all() for k in trained)


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
    recipe = tmp_path / "endless.toml"
    recipe.write_text((field / "recipe.toml").read_text().replace("steps = 4", "patience = 0"))
    train = ("train", field / "pairs.zarr", "--recipe", recipe, "--steps", 100000)
    process = subprocess.Popen(
        [EMSR, *map(str, train), "--out", tmp_path / "run"],
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what runs in the background deaf to it, and so are the tests there.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
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


def test_only_where_main_was_the_way_in_is_garbage_left_alone_for_good():
    frozen = gc.get_freeze_count()
    _loaded()
    assert gc.get_freeze_count() == frozen
    gc.disable()
    try:
        _loaded()
        assert gc.isenabled() and gc.get_freeze_count() > frozen
    finally:
        gc.enable()
        gc.unfreeze()
