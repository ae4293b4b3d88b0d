"""The verbs that put a model to work on a volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from emsr.cli.run import run
from emsr.options import (
    Device,
    Json,
    Level,
    Levels,
    Overwrite,
    Quiet,
    RecipeFile,
    SpacingNm,
    bytes_of,
    levels_of,
    slab_of,
    spacing_nm,
)

if TYPE_CHECKING:
    from emsr.jobs.listener import Listener


def upscale(
    lr: Annotated[str, typer.Argument(metavar="INPUT", help="LR image, stack, volume or URL.")],
    model: Annotated[Path, typer.Option(help="Model file.")],
    out: Annotated[
        Path,
        typer.Option(metavar="OUT.ome.zarr", help="OME-Zarr (also s3://...), .tif, .mrc or .h5."),
    ],
    device: Device = "auto",
    precision: Annotated[
        Literal["float32", "bf16"], typer.Option(help="Of the network's arithmetic.")
    ] = "float32",
    dtype: Annotated[
        Literal["uint8", "uint16", "float32"] | None,
        typer.Option(help="Of the output, grey values unchanged; default: the HR scans'."),
    ] = None,
    keep_range: Annotated[
        bool, typer.Option("--keep-range", help="Output on the input's grey scale, not the HR's.")
    ] = False,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring the input to the model's LR spacing first.")
    ] = False,
    halo: Annotated[
        int | None, typer.Option(min=0, help="LR pixels read around a tile; default: measured.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that share the work on this machine.")
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="A dask scheduler's workers; local starts some."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of each process; default: all, shared.")
    ] = None,
    slab: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only the I-th of N parts; the last to end finishes."),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="4GB", help="Choose the tile so that each process stays below."),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Maps of how far SR explains LR, beside the output.")
    ] = False,
    spread: Annotated[
        bool,
        typer.Option(
            "--spread", help="With --trust: do 8 flips and turns agree; 8 times the work."
        ),
    ] = False,
    recipe: RecipeFile = None,
    spacing: SpacingNm = None,
    level: Level = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """The SR volume, tile by tile; run again after any interruption, it goes on where it was."""
    nm, part, limit = spacing_nm(spacing), slab_of(slab), bytes_of(memory)
    if dask and dask != "local" and workers:
        raise typer.BadParameter(
            "--workers is for this machine or --dask local: a scheduler has its own"
        )
    if part and overwrite:
        raise typer.BadParameter(
            "--slab and --overwrite exclude one another: others may be writing"
        )
    if spread and not trust:
        raise typer.BadParameter("--spread is one of the maps of --trust: give both")
    from emsr.jobs.form import Form
    from emsr.jobs.sitting import Hands
    from emsr.jobs.trust import Trust
    from emsr.jobs.upscale import upscale as job
    from emsr.recipe import make_recipe

    run(
        lambda ears: job(
            lr,
            model,
            out,
            upscaling=make_recipe(recipe, halo_px=halo).upscaling,
            device=device,
            precision=precision,
            spacing_nm=nm,
            level=level,
            form=Form(dtype, keep_range, resample),
            hands=Hands(workers, dask, threads),
            slab=part,
            memory=limit,
            overwrite=overwrite,
            trust=Trust(spread) if trust else None,
            listener=ears,
        ),
        quiet,
        as_json,
    )


def enhance(
    hr: Annotated[str, typer.Argument(metavar="INPUT", help="HR image, stack, volume or URL.")],
    model: Annotated[Path, typer.Option(help="Model file; of scale 1, or its SR is averaged.")],
    out: Annotated[Path, typer.Option(metavar="OUT.ome.zarr", help="OME-Zarr, .tif, .mrc or .h5.")],
    repeat: Annotated[
        str | None, typer.Option(help="A second scan of the field: tells what was gained.")
    ] = None,
    truth: Annotated[str | None, typer.Option(help="Clean truth (phantoms have one).")] = None,
    device: Device = "auto",
    precision: Annotated[
        Literal["float32", "bf16"], typer.Option(help="Of the network's arithmetic.")
    ] = "float32",
    dtype: Annotated[
        Literal["uint8", "uint16", "float32"] | None,
        typer.Option(help="Of the output, grey values unchanged; default: the input's."),
    ] = None,
    halo: Annotated[
        int | None, typer.Option(min=0, help="Pixels read around a tile; default: measured.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that share the work on this machine.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of each process; default: all, shared.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="4GB", help="Choose the tile so that each process stays below."),
    ] = None,
    recipe: RecipeFile = None,
    spacing: SpacingNm = None,
    level: Levels = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """An HR scan cleaned on its own grid, and what that changed; goes on as upscale does."""
    nm, limit = spacing_nm(spacing), bytes_of(memory)
    levels = levels_of(level, ("hr", "repeat", "truth"))
    from emsr.jobs.enhance import enhance as job
    from emsr.jobs.form import Form
    from emsr.jobs.sitting import Hands
    from emsr.jobs.upscale import upscale as tiles
    from emsr.recipe import make_recipe

    def clean(ears: Listener) -> dict[str, Any]:
        return tiles(
            hr,
            model,
            out,
            upscaling=make_recipe(recipe, halo_px=halo).upscaling,
            device=device,
            precision=precision,
            spacing_nm=nm,
            level=levels.get("hr", 0),
            form=Form(dtype, clean=True),
            hands=Hands(workers, None, threads),
            memory=limit,
            overwrite=overwrite,
            listener=ears,
        )

    run(
        lambda ears: job(
            hr,
            model,
            out,
            lambda: clean(ears),
            repeat=repeat,
            truth=truth,
            spacing_nm=nm,
            levels=levels,
            listener=ears,
        ),
        quiet,
        as_json,
    )
