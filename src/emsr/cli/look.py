"""The verbs that look: what a scan is, what suits it, how good a result is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emsr.cli.run import run
from emsr.options import Device, Json, Levels, Overwrite, Quiet, SpacingNm, levels_of, spacing_nm


def inspect(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Image, stack, volume or URL.")],
    hr: Annotated[
        str | None, typer.Option(help="HR scan of the same field: tells the blur of PATH.")
    ] = None,
    repeat: Annotated[
        str | None, typer.Option(help="A second scan like PATH: tells noise and resolution.")
    ] = None,
    offset: Annotated[
        float | None, typer.Option(help="Grey level without electrons: tells the read noise.")
    ] = None,
    spacing: SpacingNm = None,
    level: Levels = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """What an image is: grid, greys, noise, blur, resolution."""
    from emsr.jobs.inspect import inspect as job

    nm, levels = spacing_nm(spacing), levels_of(level, ("path", "hr", "repeat"))
    run(
        lambda ears: job(
            path,
            hr=hr,
            repeat=repeat,
            offset=offset,
            spacing_nm=nm,
            levels=levels,
            listener=ears,
        ),
        quiet,
        as_json,
    )


def advise(
    lr: Annotated[str, typer.Option(help="LR scan.")],
    hr: Annotated[str | None, typer.Option(help="HR scan, of the same field or another.")] = None,
    repeat: Annotated[str | None, typer.Option(help="A second HR scan of the HR field.")] = None,
    spacing: SpacingNm = None,
    level: Levels = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Which strategy and network suit these scans, and the numbers that say so."""
    from emsr.jobs.advise import advise as job

    nm, levels = spacing_nm(spacing), levels_of(level, ("lr", "hr", "repeat"))
    run(
        lambda ears: job(lr, hr=hr, repeat=repeat, spacing_nm=nm, levels=levels, listener=ears),
        quiet,
        as_json,
    )


def evaluate(
    sr: Annotated[str, typer.Option(help="SR volume.")],
    reference: Annotated[str, typer.Option(help="HR scan of the same field.")],
    out: Annotated[Path, typer.Option(help="Directory for scores.json and report.html.")],
    repeat: Annotated[str | None, typer.Option(help="A second HR scan of the field.")] = None,
    lr: Annotated[str | None, typer.Option(help="LR scan: adds the scores of bicubic.")] = None,
    truth: Annotated[str | None, typer.Option(help="Clean truth (phantoms have one).")] = None,
    sr2: Annotated[
        str | None, typer.Option(help="SR of another LR scan: how far the two agree.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Model of the SR, where its file does not say it.")
    ] = None,
    regions: Annotated[
        int | None,
        typer.Option(min=32, metavar="PX", help="Scores of squares of so many pixels too."),
    ] = None,
    fit_grey: Annotated[
        bool, typer.Option("--fit-grey", help="Fit gain and offset to the reference first.")
    ] = False,
    spacing: SpacingNm = None,
    level: Levels = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Scores of an SR volume, and a report to look at."""
    from emsr.jobs.evaluate import evaluate as job

    nm = spacing_nm(spacing)
    levels = levels_of(level, ("sr", "reference", "repeat", "lr", "truth", "sr2"))
    run(
        lambda ears: job(
            sr,
            reference,
            out,
            repeat=repeat,
            lr=lr,
            truth=truth,
            spacing_nm=nm,
            levels=levels,
            sr2=sr2,
            model=model,
            regions=regions,
            fit_grey=fit_grey,
            overwrite=overwrite,
            seed=seed,
            listener=ears,
        ),
        quiet,
        as_json,
    )


def compare(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="docs/comparison.md.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory for table and report.")],
    budget: Annotated[
        str | None, typer.Option(help="One of the recipe's budgets; default: its first.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps of every network, not the budget's.")
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Processes of one thread at a time.")
    ] = 1,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Strategies x networks x data sets as one table with pictures; run again, it goes on."""
    from emsr.jobs.compare import compare as job

    run(
        lambda ears: job(
            recipe,
            out,
            budget=budget,
            steps=steps,
            jobs=jobs,
            device=device,
            overwrite=overwrite,
            listener=ears,
        ),
        quiet,
        as_json,
    )
