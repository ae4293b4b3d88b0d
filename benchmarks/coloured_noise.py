"""One HR scan whose noise neighbouring pixels share: are its scores null, or right?

    OMP_NUM_THREADS=1 python benchmarks/coloured_noise.py --work DIR [--seed 8]

The truth of each phantom's test field gets noise blurred along y and x (Poisson-like, sigma 6, 12
and 20 grey levels), and the SR of three networks (trained.py, in ``--work``) is scored from that
scan alone. Prints, for each blur, how many intervals of ``clean_psnr`` and ``clean_ssim`` hold the
truth, miss it, or are null: the table of docs/scores.md.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import torch
from fields import PHANTOMS
from scipy import ndimage
from scores import FULL_SCALE, _estimates, _holds, enlarged

from emsr.jobs.reference_noise import reference_noise
from emsr.quality.fidelity import psnr, ssim
from emsr.quality.known import Known
from emsr.volumes.source import array_volume

BLURS = ((0, 0), (0.3, 0.3), (0.4, 0.4), (0.5, 0.5), (0.7, 0.7), (1, 1), (0, 0.5), (0, 1))
"""Sigma of the blur along y and x, in pixels."""
SIGMAS = (6, 12, 20)
CUTS = {
    "4 x 384": (slice(None), slice(None)),
    "1 x 384": (slice(0, 1), slice(None)),
    "1 x 128": (slice(1, 2), slice(128, 256)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    default = os.environ.get("EMSR_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--seed", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    counts: Counter[tuple[str, tuple[float, float], str]] = Counter()
    for preset in PHANTOMS:
        images = enlarged(arguments.work, arguments.data, preset)
        for (z, yx), blur, sigma in product(CUTS.values(), BLURS, SIGMAS):
            part = {name: image[z, yx, yx] for name, image in images.items()}
            scan = scanned(part["truth"], sigma, blur, arguments.seed)
            for key, outcome in outcomes(part, scan):
                counts[key, blur, outcome] += 1
    print("| blur (y, x), px | clean_psnr held | missed | null | clean_ssim held | missed | null |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for blur in BLURS:
        cells = product(("psnr", "ssim"), ("held", "missed", "null"))
        shown = " | ".join(str(counts[key, blur, outcome]) for key, outcome in cells)
        print(f"| {blur[0]:g}, {blur[1]:g} | {shown} |")


def scanned(truth: np.ndarray, sigma: float, blur: tuple[float, float], seed: int) -> np.ndarray:
    noise = np.random.default_rng([seed, int(sigma)]).normal(size=truth.shape)
    noise = ndimage.gaussian_filter(noise, (0, *blur))
    scan = truth + sigma * np.sqrt(np.clip(truth, 1, None) / truth.mean()) * noise / noise.std()
    return np.clip(np.rint(scan), 0, 255).astype(np.uint8)


def outcomes(images: dict[str, np.ndarray], hr: np.ndarray) -> list[tuple[str, str]]:
    """Of each network and score: held, missed or null."""
    known = Known(*reference_noise(array_volume(hr, None, "hr")))
    found = []
    for name, sr in images.items():
        if name in ("truth", "bicubic"):
            continue
        scores = _estimates(sr, hr, None, known)
        for key, of in (("psnr", psnr), ("ssim", ssim)):
            outcome = "null"
            if scores[f"clean_{key}"] is not None:
                held = _holds(scores[f"clean_{key}_interval"], of(sr, images["truth"], FULL_SCALE))
                outcome = "held" if held else "missed"
            found.append((key, outcome))
    return found


if __name__ == "__main__":
    main()
