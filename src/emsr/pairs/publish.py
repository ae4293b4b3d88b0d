"""A directory that appears under its name only when it is complete."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from emsr.errors import InputError


def check_target(path: Path, overwrite: bool, ours: Callable[[Path], bool]) -> None:
    """InputError where writing to ``path`` would lose something: it exists and ``overwrite`` is
    not given, or it is not one of ``ours`` and we do not remove what we did not make."""
    if not (path.exists() or path.is_symlink()):
        return
    if not ours(path):
        raise InputError(f"{path} exists and does not hold pairs: choose another output")
    if not overwrite:
        raise InputError(f"{path} exists: choose another output or give --overwrite")


@contextmanager
def published(path: Path, overwrite: bool, ours: Callable[[Path], bool]) -> Iterator[Path]:
    """A fresh name beside ``path`` to build a directory under; renamed to ``path`` at the end.

    What an earlier, killed attempt left under that name is removed first, and so is what this one
    built if it fails. With ``overwrite`` the old directory stays until the new one is complete.
    InputError where the place cannot be written to, or no longer can.
    """
    check_target(path, overwrite, ours)
    unfinished = path.with_name(f".{path.name}.unfinished")
    replaced = path.with_name(f".{path.name}.replaced")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(unfinished)
        unfinished.mkdir()
        yield unfinished
        _remove(replaced)
        if path.exists():
            path.rename(replaced)
        unfinished.rename(path)
        _remove(replaced)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path} cannot be written: {reason}: choose another output") from error
    finally:
        _remove(unfinished)


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
