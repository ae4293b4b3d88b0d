"""Is the domain silent on images like those trained on, and never on foreign ones?

    python benchmarks/trust_domain.py --work DIR [--data DIR]

``--work`` holds the phantoms' fields (trained.py makes them), ``--data`` the real images. Each
number is a difference as a multiple of its limit: over 1 is said. Pairs of real images: slices of
one volume, halves of one image, images of one animal, images of different animals and laboratories.
"""

from __future__ import annotations

import argparse
import os
from itertools import combinations
from pathlib import Path

import numpy as np
from fields import PHANTOMS

from emsr.jobs.trust_domain import fingerprint, sample
from emsr.microscope.stages import gaussian_noise, sample_area, sample_point
from emsr.quality import domain
from emsr.volumes.source import array_volume, open_volume

WHAT = ("greys", "noise", "tilt", "spectrum")
SCALE_GREYS, WINDOW, PIXELS = 0.6, (0.0, 255.0), 2
ONE_ANIMAL = ("data9_", "data10_", "data11_")


def of(stack: np.ndarray) -> domain.Fingerprint:
    return fingerprint(sample(array_volume(stack, None, "")), WINDOW, None)


def read(path: Path) -> np.ndarray:
    volume = open_volume(path)
    from emsr.geometry.box import whole

    return volume.read(whole(volume.shape))


def row(name: str, pairs: list[tuple[domain.Fingerprint, domain.Fingerprint]]) -> None:
    """Largest and smallest of the pairs; how many are outside in any respect."""
    found = [domain.departures(a, b) for a, b in pairs]
    said = sum(max(one.values()) > 1 for one in found)
    cells = []
    for what in WHAT:
        sizes = [one[what] for one in found if what in one]
        cells.append(
            f"{min(sizes):.1f} to {max(sizes):.1f}" if len(sizes) > 1 else f"{sizes[0]:.1f}"
        )
    print(f"| {name} | {' | '.join(cells)} | {said} of {len(found)} |", flush=True)


def phantoms(work: Path) -> None:
    scans = {
        (preset, part): read(work / preset / part / "lr.tif")
        for preset in PHANTOMS
        for part in ("learn", "test", "test1")
    }
    known = {key: of(stack) for key, stack in scans.items()}
    learnt = {preset: known[preset, "learn"] for preset in PHANTOMS}
    others = [(p, part) for p in PHANTOMS for part in ("test", "test1")]
    row("same tissue, other seeds", [(learnt[p], known[p, part]) for p, part in others])
    swapped = dict(zip(PHANTOMS, PHANTOMS[::-1], strict=True))
    row("other tissue", [(learnt[swapped[p]], known[p, part]) for p, part in others])
    rng = np.random.default_rng(0)

    def noisier(stack: np.ndarray, factor: float) -> np.ndarray:
        return gaussian_noise(stack, 24 * np.sqrt(factor**2 - 1), rng)

    changes = {
        "noise 1.15 times": lambda stack: noisier(stack, 1.15),
        "noise 1.5 times": lambda stack: noisier(stack, 1.5),
        f"pixels {PIXELS} times as wide": lambda stack: sample_point(stack[:, :126, :126], PIXELS),
        "mean of 2 x 2 pixels": lambda stack: sample_area(stack, PIXELS),
        f"greys times {SCALE_GREYS}": lambda stack: stack * SCALE_GREYS,
        "contrast inverted": lambda stack: 255.0 - stack,
    }
    for name, change in changes.items():
        row(name, [(learnt[p], of(change(scans[p, part]))) for p, part in others])


def real(data: Path) -> None:
    sbem = [of(read(path)) for path in sorted((data / "sbem-neural-noisy").glob("*.tif"))]
    fly = read(data / "fibsem-fly-10nm/medulla_z000-219.tif")
    halves = [of(fly[:70]), of(fly[150:])]
    scans = [read(data / f"sem-brain-fast-slow/{name}.tif") for name in ("fast", "slow")]
    top, bottom = ([of(scan[:, rows]) for scan in scans] for rows in (slice(384), slice(384, 768)))
    paths = sorted((data / "sem-rat-white-matter").glob("*.png"))
    rats = {path.stem: of(read(path)) for path in paths}
    row("SBEM, parts of one volume", list(combinations(sbem, 2)))
    row("FIB-SEM, parts of one volume", [(halves[0], halves[1])])
    row("SEM, halves of one scan", list(zip(top, bottom, strict=True)))
    row("SEM, fast and slow scan", [(top[0], bottom[1]), (top[1], bottom[0])])
    row("FIB-SEM, voxels 2 times as wide", [(halves[0], of(sample_area(fly[150:], 2)))])
    same = [name for name in rats if any(one in name for one in ONE_ANIMAL)]
    row("SEM rats, one animal", [(rats[a], rats[b]) for a, b in combinations(same, 2)])
    pairs = [p for p in combinations(rats, 2) if not set(p) <= set(same)]
    row("SEM rats, different animals", [(rats[a], rats[b]) for a, b in pairs])
    sets = [sbem, halves, [top[0], bottom[0]], list(rats.values())]
    row("of different data sets", [(a, b) for m, n in combinations(sets, 2) for a in m for b in n])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    default = os.environ.get("EMSR_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    arguments = parser.parse_args()
    print(f"| seen beside trained on | {' | '.join(WHAT)} | said |")
    print(f"| --- |{' --- |' * (len(WHAT) + 1)}")
    phantoms(arguments.work)
    real(arguments.data)


if __name__ == "__main__":
    main()
