"""Who holds an output that is being written, and where that is noted; see ``claim``."""

from __future__ import annotations

import json
import os
import socket
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from emsr.volumes.place import Place, Remote

SIGN_OF_LIFE_S = 20
TAKEN_FOR_DEAD_S = 120
Slab = tuple[int, int]
"""(2, 8) is the second of eight."""
Anywhere = TypeVar("Anywhere", Path, Remote, Place)


def notes_of(out: Anywhere) -> Anywhere:
    """The folder beside an output that is being written."""
    return out.with_name(f".{out.name}.emsr-run")


def this_process() -> dict[str, Any]:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def holder_in(lock: Place) -> dict[str, Any] | None:
    """What a lock says of its holder, if it does."""
    try:
        found = json.loads(lock.read_text())
        _ = found["pid"], found["host"], found["since"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(found)


def in_words(holder: dict[str, Any] | None) -> str:
    if holder is None:
        return "another process"
    return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
