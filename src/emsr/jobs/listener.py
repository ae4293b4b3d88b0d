"""How a job tells its caller what it is doing. Jobs never print; the door (cli) listens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _ignore(*_: object) -> None:
    return None


@dataclass(frozen=True)
class Listener:
    """``progress(what, done, total, note)`` hears counted work, ``say(line)`` hears a fact."""

    progress: Callable[[str, int, int, str], None] = _ignore
    say: Callable[[str], None] = _ignore


SILENT = Listener()
