"""Do the maps of trust find planted lies, and has a stated error really that size?

    python benchmarks/trust.py --work DIR [--lies 60]
    python benchmarks/trust.py --work DIR --picture docs/img/trust.png

Three networks on each phantom (trained.py). Lies are planted into their SR of ``test`` (seed 2);
window sizes were chosen on ``test1`` (seed 1; ``--field test1 --choose``). AUROC: the largest value
of a map over the LR pixels that a lie touches, against the same pixels of the honest SR. ``bound``
is what an observer reaches who knows the lie, its place and the power spectrum of the honest
residual, and only has to tell the one from the other. ``over usual``: the share of the lies whose
doubt is over the 99.9 % quantile of honest SR of the other field by the same network.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from fields import read
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from scipy import ndimage, stats
from trained import trained

from emsr.errors import InputError
from emsr.geometry.box import whole
from emsr.geometry.tiles import Tile
from emsr.jobs.model import Model, load
from emsr.jobs.trust_degradation import degradation_of, degraded, noise_from
from emsr.jobs.trust_spread import calibration_of, spread_of
from emsr.jobs.trust_summary import DOUBTFUL, USUAL
from emsr.microscope import lies
from emsr.microscope.estimate import Blur, Noise
from emsr.microscope.stages import sample_area
from emsr.pairs.store import open_pairs
from emsr.quality import consistency, spread
from emsr.recipe import DOUBT_PX, TRUST_WINDOW_PX

SCALE, FULL = 3, 255.0
SIZES_PX = (1, 2, 3, 5, 8)
"""Diameters of lies in LR pixels."""
CROP_PX = 43
"""LR pixels along each side of the piece that a lie is planted into."""
CHOICES_PX = (0.5, 0.7, 1.0, 1.5, 2.0)
CLASSES = 8
OTHER = {"test": "test1", "test1": "test"}
CAUGHT, CAUGHT_USUAL = f"over {DOUBTFUL:g}", "over usual"
"""Shares of the lies that anybody would see."""
SURE = ("remove membrane", SIZES_PX[:3])
"""Lies planted into the truth itself too, whose residual is all of the noise."""
Map = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Case:
    """The SR of one field by one network, and the way back to its LR."""

    field: str
    network: str
    lr: np.ndarray
    truth: np.ndarray
    sr: np.ndarray
    blur: Blur
    noise: Noise
    model: Model
    usual: float = DOUBTFUL
    """Honest doubt of the other field, its quantile ``USUAL``."""

    def residual(self, sr: np.ndarray, lr: np.ndarray) -> np.ndarray:
        back = degraded(sr, self.blur, SCALE)
        return consistency.normalised_residual(lr, back, self.noise.variance)


def cases(work: Path, data: Path, part: str) -> list[Case]:
    found = []
    for (field, network), path in trained(work, data).items():
        told = degradation_of(open_pairs(work / field / "pairs.zarr"))
        lr, truth = (read(work / field / part / f"{name}.tif") for name in ("lr", "truth"))
        model = load(path)
        blur, noise = Blur(**told["blur"]), noise_from(told["noise"])
        found.append(Case(field, network, lr, truth, model.upscale(lr), blur, noise, model))
    return found


def with_usual(found: list[Case], others: list[Case]) -> list[Case]:
    """``found``, each with what is usual of the same network on the other field."""
    doubts = (
        consistency.maps(o.residual(o.sr, o.lr), TRUST_WINDOW_PX, DOUBT_PX).doubt for o in others
    )
    return [
        replace(case, usual=float(np.quantile(doubt, USUAL)))
        for case, doubt in zip(found, doubts, strict=True)
    ]


def maps_of(choose: bool) -> dict[str, Map]:
    """What is looked at, made of a normalised residual."""
    scales = CHOICES_PX if choose else (DOUBT_PX,)
    doubts = {
        f"doubt {px:g}" if choose else "doubt": (
            lambda z, px=px: consistency.maps(z, TRUST_WINDOW_PX, px).doubt
        )
        for px in scales
    }
    return doubts | {
        "power": lambda z: consistency.maps(z, TRUST_WINDOW_PX, DOUBT_PX).power,
        "structure": lambda z: consistency.maps(z, TRUST_WINDOW_PX, DOUBT_PX).structure,
    }


def lie_scores(
    case: Case, kind: str, size_px: float, count: int, maps: dict[str, Map]
) -> dict[str, np.ndarray]:
    """By map, ``(lie, 2)`` values with and without the lie; ``bound`` is (lie,) detectabilities."""
    rng = np.random.default_rng([SIZES_PX.index(int(size_px)), list(lies.KINDS).index(kind)])
    rows: dict[str, list] = {name: [] for name in (*maps, "SR gradient", "bound")}
    power = _power(case)
    while len(rows["bound"]) < count:
        z = rng.integers(len(case.sr))
        y, x = rng.integers(0, np.array(case.lr.shape[1:]) - CROP_PX)
        coarse = np.s_[z, y : y + CROP_PX, x : x + CROP_PX]
        side = SCALE * CROP_PX
        fine = np.s_[z, SCALE * y : SCALE * y + side, SCALE * x : SCALE * x + side]
        free = np.zeros((side, side), bool)
        free[side // 3 : -side // 3, side // 3 : -side // 3] = True
        honest = case.sr[fine]
        try:
            altered, mask = lies.KINDS[kind](honest, case.truth[fine], rng, SCALE * size_px, free)
        except InputError:
            continue  # this piece shows nothing to lie about
        region = sample_area(mask, SCALE) > 0
        pair = [case.residual(sr, case.lr[coarse]) for sr in (altered, honest)]
        for name, make in maps.items():
            rows[name].append([make(residual)[region].max() for residual in pair])
        slopes = (
            ndimage.gaussian_gradient_magnitude(sr, 1.5) for sr in map(_float, (altered, honest))
        )
        rows["SR gradient"].append([slope[mask].max() for slope in slopes])
        rows["bound"].append(_detectability(case, altered, honest, power))
    return {name: np.array(values) for name, values in rows.items()}


def _float(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float64)


def _power(case: Case) -> np.ndarray:
    """Mean power spectrum of the honest residual over pieces of the size that lies are planted
    into, half overlapping; white noise: 1."""
    z, step = case.residual(case.sr, case.lr), CROP_PX // 2
    pieces = sliding_window_view(z, (CROP_PX, CROP_PX), (1, 2))[:, ::step, ::step]
    return np.mean(np.abs(np.fft.fft2(pieces)) ** 2, axis=(0, 1, 2)) / CROP_PX**2


def _detectability(case: Case, altered: np.ndarray, honest: np.ndarray, power: np.ndarray) -> float:
    """Distance of the two expected LR images in standard deviations of the honest residual, at
    each spatial frequency its own (the pre-whitened observer: Barrett and Myers, Foundations of
    Image Science, 2004, chapter 13)."""
    with_, without = (degraded(sr, case.blur, SCALE) for sr in (altered, honest))
    delta = (with_ - without) / np.sqrt(case.noise.variance(without))
    return float(np.sqrt(np.sum(np.abs(np.fft.fft2(delta)) ** 2 / delta.size / power)))


def auroc(pairs: np.ndarray) -> float:
    """Chance that a lie's value is above an honest one; ties count half."""
    lie, honest = pairs.T
    ranks = stats.rankdata(np.concatenate([lie, honest]))[: len(lie)]
    return float((ranks.sum() - len(lie) * (len(lie) + 1) / 2) / (len(lie) * len(honest)))


def table(found: list[Case], count: int, choose: bool) -> None:
    maps = maps_of(choose)
    names = [*maps, *([] if choose else [CAUGHT, CAUGHT_USUAL]), "SR gradient", "bound"]
    print(f"| lie | LR px | {' | '.join(names)} |\n| --- | --- |{' --- |' * len(names)}")
    for kind in lies.KINDS:
        for size in SIZES_PX:
            parts = [lie_scores(case, kind, size, count, maps) for case in found]
            cells = " | ".join(f"{cell(found, parts, name):.2f}" for name in names)
            print(f"| {kind} | {size} | {cells} |", flush=True)


def cell(found: list[Case], parts: list[dict[str, np.ndarray]], name: str) -> float:
    """Mean over the networks, each by itself: their levels differ."""
    if name == "bound":
        return float(np.mean([stats.norm.cdf(part[name] / np.sqrt(2)).mean() for part in parts]))
    if name in (CAUGHT, CAUGHT_USUAL):
        limits = [DOUBTFUL if name == CAUGHT else case.usual for case in found]
        shares = zip(parts, limits, strict=True)
        return float(np.mean([(part["doubt"][:, 0] > limit).mean() for part, limit in shares]))
    return float(np.mean([auroc(part[name]) for part in parts]))


def of_the_truth(found: list[Case], count: int) -> None:
    """The same lies in an SR that is the truth."""
    kind, sizes = SURE
    print("\n| SR = truth | lie | LR px | doubt | bound |\n| --- | --- | --- | --- | --- |")
    for field in dict.fromkeys(case.field for case in found):
        case = next(one for one in found if one.field == field)
        case = replace(case, sr=case.truth)
        for size in sizes:
            part = [lie_scores(case, kind, size, count, maps_of(False))]
            cells = " | ".join(f"{cell([case], part, name):.2f}" for name in ("doubt", "bound"))
            print(f"| {field} | {kind} | {size} | {cells} |", flush=True)


def honest(found: list[Case]) -> None:
    names = ("power", "structure", f"over {DOUBTFUL:g}", f"quantile {USUAL:g}", "coarse noise")
    print(f"\n| field | SR by | {' | '.join(names)} |\n| --- | --- |{' --- |' * len(names)}")
    for case in found:
        rows = {case.network: case.sr}
        if case.network == "emsr-lean":
            rows["(the truth itself)"] = case.truth
        for name, sr in rows.items():
            z = case.residual(sr, case.lr)
            m = consistency.maps(z, TRUST_WINDOW_PX, DOUBT_PX)
            numbers = f"{m.power.mean():.2f} | {m.structure.mean():+.2f}"
            numbers += f" | {(m.doubt > DOUBTFUL).mean():.3%} | {np.quantile(m.doubt, USUAL):.2f}"
            numbers += f" | {_power(replace(case, sr=sr))[:4, :4].mean():.2f}"
            print(f"| {case.field} | {name} | {numbers} |", flush=True)


def spread_and_error(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Spread and squared error on the LR grid, shares of the HR grey window."""
    tile = Tile(whole(case.lr.shape), whole(case.sr.shape), SCALE)
    model = replace(case.model, header=replace(case.model.header, dtype="float32"))
    error = (model.upscale(case.lr) - case.truth) / FULL
    return spread_of(model, case.lr, tile), sample_area(error**2, SCALE)


def reliability(choice: list[Case], found: list[Case], work: Path) -> None:
    """Stated against real error on ``found``, calibrated on ``choice`` against the truth, and as
    training does: on the held-out rows, against the noisy HR scan."""
    print("\nstated : real error in grey levels, eight classes of equal number by the stated one")
    for chosen, case in zip(choice, found, strict=True):
        seen, wrong = spread_and_error(chosen)
        there, real = spread_and_error(case)
        pairs = open_pairs(work / case.field / "pairs.zarr")
        rows = slice(*case.model.header.summary["validation_rows"])
        ways = {
            "truth of test1": spread.calibrate(seen, wrong, CLASSES),
            "held-out HR": calibration_of(case.model, pairs, rows),
        }
        share = np.mean(np.square(there)) / np.mean(real)
        print(f"{case.field}, {case.network}: spread² is {share:.1%} of the squared error")
        for name, told in ways.items():
            stated = spread.expected_error(there, told)
            curve = spread.reliability(stated, real, CLASSES)
            said = " ".join(f"{FULL * a:.1f}:{FULL * b:.1f}" for a, b in curve)
            print(f"    {name:15} {said}", flush=True)


def picture(case: Case, path: Path) -> None:
    """SR with four lies, the LR it has to explain, and the map that finds them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rng = np.random.default_rng(4)
    side = 60 * SCALE
    altered, centres = case.sr[0, : 2 * side, : 2 * side].copy(), []
    for n, plant in enumerate(lies.KINDS.values()):
        free = np.zeros(altered.shape, bool)
        y, x = side * (n // 2), side * (n % 2)
        free[y + 40 : y + side - 40, x + 40 : x + side - 40] = True
        truth = case.truth[0, : 2 * side, : 2 * side]
        altered, mask = plant(altered, truth, rng, 5.0 * SCALE, free)
        centres.append(np.argwhere(mask).mean(axis=0))
    lr = case.lr[0, :120, :120]
    doubt = consistency.maps(case.residual(altered, lr), TRUST_WINDOW_PX, DOUBT_PX).doubt
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    shown = (("LR as measured", lr), ("SR with four lies", altered))
    for axis, (title, image) in zip(axes, shown, strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=FULL, extent=(0, 120, 120, 0))
        axis.set_title(title)
    drawn = axes[2].imshow(doubt, cmap="magma", vmin=0, vmax=8, extent=(0, 120, 120, 0))
    axes[2].set_title("doubt (standard deviations)")
    figure.colorbar(drawn, ax=axes[2])
    for axis in axes[1:]:
        for y, x in centres:
            ring = pyplot.Circle((x / SCALE, y / SCALE), 5, fill=False, color="cyan", lw=1)
            axis.add_patch(ring)
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(path, dpi=80)
    with Image.open(path) as drawn_image:
        small = drawn_image.convert("RGB").quantize(96)
    small.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    default = os.environ.get("EMSR_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--field", choices=tuple(OTHER), default="test")
    parser.add_argument("--lies", type=int, default=60, help="of each kind, size and network")
    parser.add_argument("--choose", action="store_true", help="doubt at several scales")
    parser.add_argument("--picture", type=Path, help="draw this and nothing else")
    arguments = parser.parse_args()
    found = cases(arguments.work, arguments.data, arguments.field)
    if arguments.picture:
        picture(found[0], arguments.picture)
        return
    choice = cases(arguments.work, arguments.data, OTHER[arguments.field])
    found = with_usual(found, choice)
    honest(found)
    for field in dict.fromkeys(case.field for case in found):
        print(f"\n{field}\n")
        table([case for case in found if case.field == field], arguments.lies, arguments.choose)
    if not arguments.choose:
        of_the_truth(found, arguments.lies)
        reliability(choice, found, arguments.work)


if __name__ == "__main__":
    main()
