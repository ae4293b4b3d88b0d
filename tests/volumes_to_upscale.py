"""A small volume, a quick model, and the whole tree of what an upscaling leaves."""

import numpy as np
import torch

from emsr.jobs.sitting import Hands
from emsr.jobs.upscale import upscale
from emsr.network.checkpoint import Header, save_model
from emsr.network.named import build
from emsr.recipe import Upscaling
from emsr.volumes.tiff import write_tiff

LR_NM, HR_NM = (50.0, 30.0, 30.0), (50.0, 10.0, 10.0)
TILES = Upscaling(tile_px=(1, 32, 32))
TILE_COUNT = 48
ONE = Hands(threads=1)
"""The law is about equal threads per process."""


def make(folder):
    """``lr.tif`` of 3 x 128 x 128 grey values, a few of them out of range when enlarged."""
    rng = np.random.default_rng(0)
    lr = rng.integers(0, 256, (3, 128, 128), np.uint8)
    write_tiff(folder / "lr.tif", lr, lr.shape, lr.dtype, LR_NM)
    options = {"features": 4, "heads": 2, "residuals": 1}
    torch.manual_seed(0)
    window = (0.0, 255.0)
    header = Header("emsr-tiny", options, 3, window, window, "uint8", LR_NM, HR_NM)
    save_model(folder / "model.safetensors", build("emsr-tiny", 3, options), header)
    (folder / "recipe.toml").write_text(f"[upscaling]\ntile_px = {list(TILES.tile_px)}\n")
    return folder


def run(rig, out, lr=None, **settings):
    settings = {"upscaling": TILES, "hands": ONE} | settings
    return upscale(lr or rig / "lr.tif", rig / "model.safetensors", out, **settings)


def command(rig, out, *more, lr=None):
    recipe = ("--recipe", rig / "recipe.toml", "--threads", 1)
    return (
        "upscale",
        lr or rig / "lr.tif",
        "--model",
        rig / "model.safetensors",
        "--out",
        out,
        *recipe,
        *more,
    )


def tree(path):
    """Every file of an output by name; and nothing may lie beside it."""
    beside = [p.name for p in path.parent.iterdir() if path.name in p.name and p != path]
    assert beside == []
    return {
        str(p.relative_to(path)): p.read_bytes() for p in [path, *path.rglob("*")] if p.is_file()
    }
