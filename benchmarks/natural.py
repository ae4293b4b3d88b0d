"""Why a network trained on photographs fails on EM: one thing changed at a time.

    python benchmarks/natural.py [--data DIR]

The network ``natural`` (scale 3) is made for photographs, reduced by bicubic sampling, without
noise. From there one thing at a time becomes what EM is: what is shown, its greys, how it is
sampled, its noise; then all of them. Gains are in dB of PSNR over bicubic interpolation of the same
LR image, means over three images. Photographs are those that scikit-image ships; EM is the truth of
a white-matter phantom, and slices of the FIB-SEM set, whose own noise (4 grey levels) counts in
both scores.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from skimage import data as photographs
from skimage.color import rgb2gray
from skimage.exposure import match_histograms
from torch.nn import functional as F

from emsr.geometry.box import Box
from emsr.microscope.presets import PRESETS, SUPERSAMPLING, hr_scan
from emsr.microscope.scan import expected
from emsr.microscope.stages import gaussian_noise, sample_area
from emsr.microscope.tissue import tissue
from emsr.network.frame import interpolate
from emsr.network.zoo import Natural
from emsr.quality.fidelity import psnr
from emsr.volumes.source import open_volume

SCALE, SIDE, FRAME = 3, 384, 12
Images = list[np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("EMSR_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    real = fibsem(parser.parse_args().data)
    network = Natural(SCALE)
    network.load_pretrained()
    network.eval()
    photos, phantom = photo_images(), phantom_images()
    rows: list[tuple[str, Images, Callable[[np.ndarray], np.ndarray], float]] = [
        ("photographs, as it was trained", photos, reduced, 0),
        ("content: EM phantom, no noise", phantom, reduced, 0),
        ("content: FIB-SEM", real, reduced, 0),
        ("greys: photographs with the phantom's histogram", matched(photos, phantom), reduced, 0),
        ("greys: phantom with the photographs' histogram", matched(phantom, photos), reduced, 0),
        ("sampling: photographs, area mean", photos, area, 0),
        *((f"noise: photographs, {n:g} grey levels", photos, reduced, n) for n in (2, 5, 10, 22)),
        *((f"noise: phantom, {n:g} grey levels", phantom, reduced, n) for n in (2, 5, 10, 22)),
        ("all: phantom, area mean, noise 22", phantom, area, 22),
        ("all: FIB-SEM, area mean, noise 10", real, area, 10),
    ]
    print("| LR image | bicubic dB | network dB | gain dB |\n| --- | --- | --- | --- |")
    for name, images, sampled, noise in rows:
        scores = np.mean([both(network, image, sampled, noise) for image in images], axis=0)
        print(f"| {name} | {scores[0]:.2f} | {scores[1]:.2f} | {scores[1] - scores[0]:+.2f} |")


def both(
    network: Natural, hr: np.ndarray, sampled: Callable[[np.ndarray], np.ndarray], noise: float
) -> tuple[float, float]:
    """PSNR of bicubic interpolation and of the network, away from the border."""
    lr = gaussian_noise(sampled(hr), noise, np.random.default_rng(0))
    unit = torch.from_numpy(lr / np.float32(255))[None, None]
    with torch.inference_mode():
        outputs = interpolate(unit, SCALE), network(unit)
    inside = slice(FRAME, -FRAME)
    first, second = (
        psnr(255 * sr[0, 0].numpy()[inside, inside], hr[inside, inside], 255) for sr in outputs
    )
    return first, second


def reduced(hr: np.ndarray) -> np.ndarray:
    """Antialiased bicubic sampling, what networks for photographs are trained with."""
    image = torch.from_numpy(hr)[None, None]
    size = [n // SCALE for n in hr.shape]
    return F.interpolate(image, size, mode="bicubic", antialias=True)[0, 0].numpy()


def area(hr: np.ndarray) -> np.ndarray:
    return sample_area(hr, SCALE)


def photo_images() -> Images:
    greys = [photographs.camera(), *map(rgb2gray, (photographs.astronaut(), photographs.coffee()))]
    return [_cropped(grey if grey.max() > 1 else 255 * grey) for grey in greys]


def phantom_images() -> Images:
    preset = PRESETS["white-matter"]
    z, y, x = preset.spacing_nm
    fine = (z, y / SUPERSAMPLING, x / SUPERSAMPLING)
    block = tissue("white-matter", (3, SIDE * SUPERSAMPLING, SIDE * SUPERSAMPLING), fine, 2)
    scan = hr_scan(preset)
    return [_cropped(expected(block.render(z, z + 1)[0], scan)) for z in range(3)]


def fibsem(folder: Path) -> Images:
    volume = open_volume(folder / "fibsem-fly-10nm/medulla_z000-219.tif")
    return [_cropped(volume.read(Box((z, 0, 0), (z + 1, SIDE, SIDE)))[0]) for z in (200, 205, 210)]


def matched(images: Images, references: Images) -> Images:
    """``images`` with the grey histograms of ``references``."""
    pairs = zip(images, references, strict=True)
    return [match_histograms(image, other).astype(np.float32) for image, other in pairs]


def _cropped(image: np.ndarray) -> np.ndarray:
    top, left = ((n - SIDE) // 2 for n in image.shape)
    return image[top : top + SIDE, left : left + SIDE].astype(np.float32)


if __name__ == "__main__":
    main()
