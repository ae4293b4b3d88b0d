"""The command line: the verbs, what they print, and what they exit with. Nothing else prints.

Exit 0: done. 1: the user's input is at fault, said in one line on stderr. 2: wrong usage. 70: a bug
of ours, its traceback in a file that is named. 130: interrupted. Jobs are imported inside their
command, so that ``emsr --help`` is quick.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from emsr import __version__
from emsr.errors import InputError
from emsr.options import (
    Device,
    Json,
    Level,
    Levels,
    Overwrite,
    Quiet,
    RecipeFile,
    Seed,
    SpacingNm,
    bytes_of,
    levels_of,
    slab_of,
    spacing_nm,
)
from emsr.recipe import make_recipe

if TYPE_CHECKING:
    from emsr.jobs.listener import Listener

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"emsr {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it and exit.")
    ] = False,
) -> None:
    """Electron-microscopy image super-resolution, trained without clean references."""


@app.command()
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

    _run(lambda ears: job(out, overwrite=overwrite, listener=ears), quiet, as_json)


@app.command()
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
    _run(
        lambda ears: job(
            out, preset, shape, scale, seed, overwrite=overwrite, spacing_nm=nm, listener=ears
        ),
        quiet,
        as_json,
    )


@app.command()
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
    _run(
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


@app.command()
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
    _run(
        lambda ears: job(lr, hr=hr, repeat=repeat, spacing_nm=nm, levels=levels, listener=ears),
        quiet,
        as_json,
    )


@app.command()
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

    nm = spacing_nm(spacing)
    levels = levels_of(level, ("hr", "lr", "repeat", "calibrate"))
    _run(
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


@app.command()
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

    _run(
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


@app.command()
def upscale(
    lr: Annotated[str, typer.Argument(metavar="INPUT", help="LR image, stack, volume or URL.")],
    model: Annotated[Path, typer.Option(help="Model file.")],
    out: Annotated[Path, typer.Option(metavar="OUT.ome.zarr", help="OME-Zarr, .tif, .mrc or .h5.")],
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

    _run(
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


@app.command()
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

    _run(
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


@app.command()
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
    _run(
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


@app.command()
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

    _run(
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


@app.command()
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
    _run(lambda ears: job(checkpoint, out, nm, overwrite=overwrite, listener=ears), quiet, as_json)


def _run(job: Callable[[Listener], dict[str, Any]], quiet: bool, as_json: bool) -> None:
    """Run a job with a progress line on stderr; print what it says, and its summary."""
    from emsr.console import listening

    said: list[str] = []
    try:
        with listening(quiet, said) as ears:
            summary = job(ears)
    except KeyboardInterrupt:  # caught here: the framework would end without a word
        _fail("interrupted; upscale goes on when run again, train with --resume", 130)
    lines = summary.pop("lines", [])
    summary["notices"] = said
    print(json.dumps(summary, allow_nan=False) if as_json else "\n".join(lines), flush=True)


def main() -> None:
    """The entry point of ``emsr``: one line and an exit code for whatever goes wrong."""
    try:
        app()
    except InputError as error:
        _fail(str(error), 1)
    except OSError as error:
        if error.filename is None and error.errno is None:
            _bug(error)
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}; check path and space", 1)
    except Exception as error:
        _bug(error)


def _fail(message: str, code: int) -> NoReturn:
    print("emsr: " + " ".join(message.split()), file=sys.stderr)
    raise SystemExit(code)


def _bug(error: BaseException) -> None:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="emsr-", suffix=".log", delete=False) as file:
        traceback.print_exception(error, file=file)
    _fail(f"a bug of ours ({type(error).__name__}); please report it with {file.name}", 70)
