"""What the tests of ``upscale --trust`` share: a run, its maps, and a phantom."""

from __future__ import annotations

from emsr.geometry.box import whole
from emsr.jobs.prepare import prepare
from emsr.jobs.simulate import simulate
from emsr.jobs.train import train
from emsr.jobs.trust import Trust
from emsr.jobs.upscale import upscale
from emsr.recipe import Upscaling, make_recipe
from emsr.volumes.source import open_volume

MAPS = ["doubt", "power", "structure"]
SPREAD = ["spread", "error"]


def tree(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def level(path, name):
    volume = open_volume(path / name)
    return volume.read(whole(volume.shape))


def run(field, out, tile=(1, 32, 32), trust=Trust(), **settings):
    model = settings.pop("model", field / "run" / "model.safetensors")
    settings = {"device": "cpu", "upscaling": Upscaling(tile_px=tile)} | settings
    return upscale(settings.pop("lr", field / "lr.tif"), model, out, trust=trust, **settings)


def make(folder):
    """Two scans of tissue, and interpolation as the model of them."""
    simulate(folder, "white-matter", (3, 240, 240), 3, 0)
    interpolating(folder, 3)
    return folder


def interpolating(folder, scale):
    """Pairs of lr.tif and hr.tif, and interpolation as the model of them."""
    recipe = make_recipe(scale=scale, network="bicubic")
    hr, lr, pairs = folder / "hr.tif", folder / "lr.tif", folder / "pairs.zarr"
    prepare(hr, pairs, "real", lr=lr, scale=scale, recipe=recipe)
    train(pairs, folder / "run", recipe)


def foreign(folder):
    (folder / "sr.trust.ome.zarr").mkdir()
    (folder / "sr.trust.ome.zarr" / "thesis.txt").write_text("mine")
