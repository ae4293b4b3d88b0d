"""The verbs that lead to a model: scans, pairs, training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from emsr.cli.run import run
from emsr.options import (
    Device,
    Json,
    Levels,
    Overwrite,
    Quiet,
    RecipeFile,
    Seed,
    SpacingNm,
    levels_of,
    spacing_nm,
)


def demo(
    out: Annotated[Path, typer.Option(help="Directory for all that the demo makes.")] = Path(
        "emsr-demo"
    ),
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """The whole route on data it makes itself; ends with the path of a report."""
    from emsr.jobs.demo import demo as job

    run(lambda ears: job(out, overwrite=overwrite, listener=ears), quiet, as_json)


def simulate(
    out: Annotated[Path, typer.Option(help="Directory for truth, HR, repeat and LR scans.")],
    preset: Annotated[
        Literal["white-matter", "neuropil"], typer.Option(help="Kind of tissue.")
    ] = "white-matter",
    shape: Annotated[tuple[int, int, int], typer.Option(metavar="Z Y X", help="HR voxels.")] = (
        16,
        384,
        384,
    ),
    scale: Annotated[int, typer.Option(min=1, max=8, help="HR pixels along one LR pixel.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    spacing: SpacingNm = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """A phantom of brain tissue, scanned at LR and twice at HR, with its clean truth."""
    from emsr.jobs.simulate import simulate as job

    nm = spacing_nm(spacing)
    run(
        lambda ears: job(
            out, preset, shape, scale, seed, overwrite=overwrite, spacing_nm=nm, listener=ears
        ),
        quiet,
        as_json,
    )


def prepare(
    hr: Annotated[str, typer.Option(help="HR scan.")],
    strategy: Annotated[
        Literal["real", "synthetic", "denoised", "split"],
        typer.Option(help="Where LR and HR come from; `emsr advise` tells which suits."),
    ],
    out: Annotated[Path, typer.Option(metavar="PAIRS.zarr", help="Pairs to write.")],
    lr: Annotated[str | None, typer.Option(help="LR scan, in register with the HR scan.")] = None,
    repeat: Annotated[
        str | None, typer.Option(help="A second HR scan of the field: synthetic's target.")
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(metavar="LR", help="LR scan, of any field, that LR made from HR resembles."),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(min=0, help="HR's noise in grey levels; default: estimated."),
    ] = None,
    denoiser: Annotated[
        Literal["nlm", "blind", "slices"] | None,
        typer.Option(help="Of the strategy denoised; default nlm (non-local means)."),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=8,
            help="HR pixels along one LR pixel; default: what the scans say, or 3.",
        ),
    ] = None,
    seed: Seed = None,
    recipe: RecipeFile = None,
    spacing: SpacingNm = None,
    level: Levels = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Pairs of LR and HR fields to learn from; refuses what does not match."""
    from emsr.jobs.prepare import prepare as job
    from emsr.recipe import make_recipe

    nm = spacing_nm(spacing)
    levels = levels_of(level, ("hr", "lr", "repeat", "calibrate"))
    run(
        lambda ears: job(
            hr,
            out,
            strategy,
            lr=lr,
            scale=scale,
            recipe=make_recipe(recipe, seed=seed, denoiser=denoiser),
            overwrite=overwrite,
            spacing_nm=nm,
            levels=levels,
            repeat=repeat,
            calibrate=calibrate,
            noise_sigma=noise,
            listener=ears,
        ),
        quiet,
        as_json,
    )


def train(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS.zarr")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Directory of the run.")],
    network: Annotated[
        str | None,
        typer.Option(
            help="emsr (default; wants a GPU), emsr-tiny (minutes on a CPU), or one to compare."
        ),
    ] = None,
    loss: Annotated[
        Literal["l1", "l2"] | None, typer.Option(help="Distance to the reference; default l1.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps; default: the network's.")
    ] = None,
    seed: Seed = None,
    recipe: RecipeFile = None,
    watch: Annotated[
        Path | None,
        typer.Option(
            metavar="PAIRS2.zarr", help="Pairs to validate on; default: the last rows of PAIRS."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an earlier run.")] = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a network on pairs; writes RUN/model.safetensors and RUN/history.jsonl."""
    if resume and overwrite:
        raise typer.BadParameter("--resume and --overwrite exclude one another")
    from emsr.jobs.train import train as job
    from emsr.recipe import make_recipe

    run(
        lambda ears: job(
            pairs,
            out,
            make_recipe(recipe, network=network, loss=loss, steps=steps, seed=seed),
            watch=watch,
            resume=resume,
            device=device,
            overwrite=overwrite,
            listener=ears,
        ),
        quiet,
        as_json,
    )


def convert(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT.pt")],
    out: Annotated[Path, typer.Option(metavar="MODEL", help="Model file to write.")],
    spacing: Annotated[
        str | None,
        typer.Option("--spacing", metavar="Z,Y,X", help="LR spacing in nm it was trained at."),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """A checkpoint of the published code as a model file; loads tensors only."""
    from emsr.jobs.convert import convert as job

    nm = spacing_nm(spacing)
    run(lambda ears: job(checkpoint, out, nm, overwrite=overwrite, listener=ears), quiet, as_json)
