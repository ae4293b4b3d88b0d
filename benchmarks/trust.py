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
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats
from trust_lies import (
    FULL,
    SCALE,
    SIZES_PX,
    Case,
    auroc,
    cases,
    lie_scores,
    maps_of,
    power_of,
    with_usual,
)
from trust_picture import picture

from emsr.geometry.box import whole
from emsr.geometry.tiles import Tile
from emsr.jobs.trust_header import trusting
from emsr.jobs.trust_spread import calibration_of, spread_of
from emsr.jobs.trust_summary import DOUBTFUL, USUAL
from emsr.microscope import lies
from emsr.microscope.stages import sample_area
from emsr.pairs.store import open_pairs
from emsr.quality import consistency, spread
from emsr.recipe import DOUBT_PX, TRUST_WINDOW_PX

CLASSES = 8
OTHER = {"test": "test1", "test1": "test"}
CAUGHT, CAUGHT_USUAL = f"over {DOUBTFUL:g}", "over usual"
"""Shares of the lies that anybody would see."""
SURE = ("remove membrane", SIZES_PX[:3])
"""Lies planted into the truth itself too, whose residual is all of the noise."""


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


def honest(found: list[Case], work: Path) -> None:
    """What honest SR leaves on ``found``; and the doubt that a model file would say is usual."""
    names = ["power", "structure", f"over {DOUBTFUL:g}", f"quantile {USUAL:g}", "coarse noise"]
    names += ["quantile on the other field", "in the model file", "over that"]
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
            numbers += f" | {power_of(replace(case, sr=sr))[:4, :4].mean():.2f}"
            numbers += " | – | – | –" if name != case.network else usual(case, m.doubt, work)
            print(f"| {case.field} | {name} | {numbers} |", flush=True)


def usual(case: Case, doubt: np.ndarray, work: Path) -> str:
    """Cells: the quantile on the other field, what training would write into the model file (from
    the held-out rows), and the share of ``doubt`` over the latter."""
    pairs = open_pairs(work / case.field / "pairs.zarr")
    model = case.model
    header = trusting(model.header, model.network, model.device, pairs, None)
    told = header.degradation["honest"]["doubt"]
    return f" | {case.usual:.2f} | {told:.2f} | {(doubt > told).mean():.3%}"


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
    honest(found, arguments.work)
    for field in dict.fromkeys(case.field for case in found):
        print(f"\n{field}\n")
        table([case for case in found if case.field == field], arguments.lies, arguments.choose)
    if not arguments.choose:
        of_the_truth(found, arguments.lies)
        reliability(choice, found, arguments.work)


if __name__ == "__main__":
    main()
