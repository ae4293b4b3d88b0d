"""Every kind of bad input: one line, exit 1, and nothing that looks finished."""

import json

import numpy as np
import pytest
import tifffile
from route import HR_NM, LR_NM, done, emsr

from emsr.volumes.tiff import write_tiff


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
    write_tiff(folder / "tiny.tif", noise[:, :32, :32], (2, 32, 32), "u1", HR_NM)
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
    "denoised without LR": ("prepare --strategy denoised --hr {f}/hr.tif --out {t}/o.zarr", "--lr"),
    "a constant scan to split": ("prepare --strategy split --hr {t}/constant.tif --out {t}/o.zarr", "constant"),
    "noise that is no number": ("prepare --strategy split --hr {f}/hr.tif --noise inf --out {t}/o.zarr", "noise of inf"),
    "calibration at another spacing": ("prepare --strategy split --hr {f}/hr.tif --calibrate {t}/other-spacing.tif --out {t}/o.zarr", "20"),
    "a repeat that is a copy": ("prepare --strategy synthetic --hr {f}/hr.tif --repeat {f}/hr.tif --out {t}/o.zarr", "copy"),
    "a repeat of another field": ("prepare --strategy synthetic --hr {f}/hr.tif --repeat {t}/stranger.tif --out {t}/o.zarr", "same field"),
    "a blur below zero": ("prepare --strategy synthetic --hr {f}/hr.tif --out {t}/o.zarr --recipe {t}/blur.toml", "blur_sigma_px"),
    "electrons without end": ("prepare --strategy synthetic --hr {f}/hr.tif --out {t}/o.zarr --recipe {t}/gain.toml", "1e-6"),
    "HR smaller than a patch": ("prepare --strategy split --hr {f}/lr.tif --out {t}/o.zarr", "64"),
    "nothing to inspect": ("inspect {t}/absent.tif", "absent.tif"),
    "a constant image to inspect": ("inspect {t}/constant.tif", "constant"),
    "NaN to inspect": ("inspect {t}/nan.tif", "nan.tif"),
    "advice on a constant scan": ("advise --lr {t}/constant.tif", "constant"),
    "advice on a field too small": ("advise --lr {f}/lr.tif --hr {t}/tiny.tif", "32"),
    "a repeat of nothing": ("advise --lr {f}/lr.tif --repeat {f}/hr.tif", "--hr"),
    "watching what trains": ("train {f}/pairs.zarr --out {t}/o --watch {f}/pairs.zarr", "pairs.zarr"),
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
    (folder / "blur.toml").write_text("[degradation]\nblur_sigma_px = [-1.0, 1.0]\n")
    (folder / "gain.toml").write_text("[degradation]\nnoise_gain = 1e-18\n")
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
