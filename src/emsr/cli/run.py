"""How a verb's job is run: progress on stderr, what it says on stdout, and how it fails."""

from __future__ import annotations

import gc
import json
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from emsr.jobs.listener import Listener


def run(job: Callable[[Listener], dict[str, Any]], quiet: bool, as_json: bool) -> None:
    """Run a job with a progress line on stderr; print what it says, and its summary."""
    from emsr.console import listening
    from emsr.network.allocator import keep_freed_memory

    keep_freed_memory()
    _loaded()
    said: list[str] = []
    try:
        with listening(quiet, said) as ears:
            summary = job(ears)
    except KeyboardInterrupt:  # caught here: the framework would end without a word
        fail("interrupted; upscale goes on when run again, train with --resume", 130)
    lines = summary.pop("lines", [])
    summary["notices"] = said
    print(json.dumps(summary, allow_nan=False) if as_json else "\n".join(lines), flush=True)


def _loaded() -> None:
    """All modules are: from here on memory is tidied up, but for what they hold. They stay, and
    looking through them at the end would cost a second. Where ``main`` was not the way in, the
    process is another's, and so is its garbage."""
    if not gc.isenabled():
        gc.enable()
        gc.freeze()


def fail(message: str, code: int) -> NoReturn:
    """End with one line on stderr and this exit code."""
    said = re.sub(r"\b(s3|gs|https?):/(?=[^/])", r"\1://", message)  # a Path has lost one slash
    print("emsr: " + " ".join(said.split()), file=sys.stderr)
    raise SystemExit(code)
