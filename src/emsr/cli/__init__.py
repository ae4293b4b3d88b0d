"""The command line: the verbs, what they print, and what they exit with. Nothing else prints.

Exit 0: done. 1: the user's input is at fault, said in one line on stderr. 2: wrong usage. 70: a bug
of ours, its traceback in a file that is named. 130: interrupted. Each verb imports its job when it
runs, so that ``emsr --help`` is quick.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import Annotated, NoReturn

import typer

from emsr import __version__
from emsr.cli.apply import enhance, upscale
from emsr.cli.learn import convert, demo, prepare, simulate, train
from emsr.cli.look import advise, compare, evaluate, inspect
from emsr.cli.run import fail
from emsr.errors import InputError

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


for verb in (
    demo,
    simulate,
    inspect,
    advise,
    prepare,
    train,
    upscale,
    enhance,
    evaluate,
    compare,
    convert,
):
    app.command()(verb)


def main() -> None:
    """The entry point of ``emsr``: one line and an exit code for whatever goes wrong."""
    gc.disable()  # while modules are loaded, which makes no garbage; ``run`` enables it again
    try:
        app()
    except InputError as error:
        fail(str(error), 1)
    except OSError as error:
        if error.filename is None and error.errno is None:
            _bug(error)
        fail(f"{error.filename or 'a file'}: {error.strerror or error}; check path and space", 1)
    except Exception as error:
        _bug(error)


def program() -> NoReturn:
    """``main`` as a process of its own, which leaves it to the system to take modules and memory
    apart: that takes the interpreter a tenth of a second."""
    try:
        main()
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    sys.stdout.flush()
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(0)


def _bug(error: BaseException) -> None:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="emsr-", suffix=".log", delete=False) as file:
        traceback.print_exception(error, file=file)
    fail(f"a bug of ours ({type(error).__name__}); please report it with {file.name}", 70)
