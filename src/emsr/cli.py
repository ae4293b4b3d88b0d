"""The command line: the verbs, what they print, and what they exit with. Nothing else prints.

Exit 0: done. 1: the user's input is at fault, said in one line on stderr. 2: wrong usage. 70: a bug
of ours, its traceback in a file that is named. 130: interrupted. Jobs are imported inside their
command, so that ``emsr --help`` is quick.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from emsr import __version__
from emsr.errors import InputError
from emsr.recipe import make_recipe

if TYPE_CHECKING:
    from emsr.jobs.listener import Listener

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _spacing(text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: expected Z,Y,X in nm, such as 50,15,15") from None
    if not all(0 < part < float("inf") for part in (z, y, x)):
        raise typer.BadParameter(f"{text!r}: every spacing must be a positive number of nm")
    return z, y, x


def _levels(text: str | None, roles: tuple[str, ...]) -> dict[str, int]:
    """The pyramid level of each input: one number for all of them, or by role."""
    if text is None:
        return {}
    try:
        if "=" not in text:
            found = dict.fromkeys(roles, int(text))
        else:
            parts = (part.split("=") for part in text.split(","))
            found = {role.strip(): int(number) for role, number in parts}
        if set(found) <= set(roles) and min(found.values()) >= 0:
            return found
    except ValueError:
        pass
    raise typer.BadParameter(
        f"{text!r}: expected a number from 0 on, or some of {', '.join(f'{r}=N' for r in roles)}"
    )


def _slab(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    i, n = (int(part) for part in found.groups()) if found else (0, 0)
    if not 1 <= i <= n:
        raise typer.BadParameter(f"{text!r}: expected I/N from 1/N to N/N, such as 2/8")
    return i, n


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,15}(?:\.\d+)?) ?([KMGT]?)(I?)B?", text.strip().upper())
    if not found:
        raise typer.BadParameter(f"{text!r}: expected an amount of memory, such as 4GB")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " KMGT".index(unit or " "))


Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
Json = Annotated[bool, typer.Option("--json", help="Print a summary for machines on stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is at the output.")]
SpacingNm = Annotated[
    str | None,
    typer.Option("--spacing", metavar="Z,Y,X", help="Spacing in nm; overrides the file's."),
]
Level = Annotated[
    int, typer.Option("--level", min=0, help="Level of the input's pyramid, 0 the finest.")
]
Levels = Annotated[
    str | None,
    typer.Option(
        "--level",
        metavar="N",
        help="Pyramid level to read, 0 the finest; or by input, such as hr=1,lr=0.",
    ),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="R.toml", help="Settings (docs/recipe.md)."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of everything random; default 0.")]


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

    nm = _spacing(spacing)
    _run(
        lambda ears: job(
            out, preset, shape, scale, seed, overwrite=overwrite, spacing_nm=nm, listener=ears
        ),
        quiet,
        as_json,
    )


@app.command()
def prepare(
    hr: Annotated[str, typer.Option(help="HR scan.")],
    strategy: Annotated[
        Literal["real", "synthetic", "denoised", "split"],
        typer.Option(help="Where LR and HR come from (denoised, split: not in this version)."),
    ],
    out: Annotated[Path, typer.Option(metavar="PAIRS.zarr", help="Pairs to write.")],
    lr: Annotated[str | None, typer.Option(help="LR scan, in register with the HR scan.")] = None,
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

    nm, levels = _spacing(spacing), _levels(level, ("hr", "lr"))
    _run(
        lambda ears: job(
            hr,
            out,
            strategy,
            lr=lr,
            scale=scale,
            recipe=make_recipe(recipe, seed=seed),
            overwrite=overwrite,
            spacing_nm=nm,
            levels=levels,
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
    recipe: RecipeFile = None,
    spacing: SpacingNm = None,
    level: Level = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """The SR volume, tile by tile; run again after any interruption, it goes on where it was."""
    nm, part, limit = _spacing(spacing), _slab(slab), _bytes(memory)
    if dask and dask != "local" and workers:
        raise typer.BadParameter(
            "--workers is for this machine or --dask local: a scheduler has its own"
        )
    if part and overwrite:
        raise typer.BadParameter(
            "--slab and --overwrite exclude one another: others may be writing"
        )
    from emsr.jobs.form import Form
    from emsr.jobs.upscale import Hands
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

    nm = _spacing(spacing)
    levels = _levels(level, ("sr", "reference", "repeat", "lr", "truth"))
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
            fit_grey=fit_grey,
            overwrite=overwrite,
            seed=seed,
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

    nm = _spacing(spacing)
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
