"""What the tests of ``enhance`` share: two scans and a truth of a field, models, and a run."""

import json

import numpy as np
import torch
from route import HR_NM, LR_NM
from scipy import ndimage

from emsr.geometry.box import whole
from emsr.jobs.enhance import enhance
from emsr.jobs.form import Form
from emsr.jobs.listener import Listener
from emsr.jobs.sitting import Hands
from emsr.jobs.upscale import upscale
from emsr.network.checkpoint import Header, save_model
from emsr.network.lean import Lean
from emsr.recipe import Upscaling
from emsr.volumes.source import open_volume
from emsr.volumes.tiff import write_tiff

SMALL = {"features": 4, "blocks": 1}
TILES = Upscaling(tile_px=(1, 32, 32))


def shaken(scale, seed=0):
    """A network that does something."""
    torch.manual_seed(seed)
    network = Lean(scale, **SMALL)
    torch.nn.init.normal_(network.last.weight, std=0.02)
    return network.eval()


def header(scale, lr_window=(0.0, 255.0), hr_window=(0.0, 255.0), dtype="uint8", **more):
    lr_nm = LR_NM if scale == 3 else HR_NM
    return Header("emsr-lean", SMALL, scale, lr_window, hr_window, dtype, lr_nm, HR_NM, **more)


def scans(seed, sigma=20.0, second=20.0):
    rng = np.random.default_rng(seed)
    truth = 120 + 300 * ndimage.gaussian_filter(rng.normal(size=(3, 96, 130)), (0, 3, 3))
    hr, repeat = (truth + s * rng.normal(size=truth.shape) for s in (sigma, second))
    return truth, hr, repeat


def make(folder):
    """Two scans and a truth of a field, and a model of scale 3 and one of scale 1."""
    truth, hr, repeat = scans(1, 12.0, 12.0)
    for name, image in (("hr", hr), ("repeat", repeat), ("truth", truth)):
        grey = np.clip(np.rint(image), 0, 255).astype(np.uint8)[:, :96, :96]
        write_tiff(folder / f"{name}.tif", grey, grey.shape, grey.dtype, HR_NM)
    save_model(folder / "three.safetensors", shaken(3), header(3))
    one = Header("emsr-lean", SMALL, 1, (0.0, 255.0), (0.0, 255.0), "uint8", HR_NM, HR_NM)
    save_model(folder / "one.safetensors", shaken(1), one)
    return folder


def run(place, out, model="three", scan=None, listener=Listener(), **beside):
    paths = {name: place / path for name, path in beside.items()}
    scan, weights = scan or place / "hr.tif", place / f"{model}.safetensors"

    def clean():
        form, hands = Form(clean=True), Hands(threads=1)
        return upscale(
            scan, weights, out, upscaling=TILES, form=form, hands=hands, listener=listener
        )

    return enhance(scan, weights, out, clean, listener=listener, **paths)


def values(path):
    volume = open_volume(path)
    return volume.read(whole(volume.shape))


def written(path, grey, nm=HR_NM):
    grey = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    write_tiff(path, grey, grey.shape, grey.dtype, nm)
    return path


def moved(image, px):
    """Along x, by a part of a pixel too."""
    wave = np.exp(-2j * np.pi * np.fft.fftfreq(image.shape[-1]) * px)
    return np.fft.ifft(np.fft.fft(image, axis=-1) * wave, axis=-1).real


def told_with(place, out, name):
    """What is said and measured of the one output with the repeat ``name``."""
    said = []
    run(place, out, repeat=name, truth="truth.tif", listener=Listener(say=said.append))
    changed = json.loads(out.with_name(f"{out.name}.enhance.json").read_text())
    return [line for line in said if line.startswith("warning: the repeat")], changed
