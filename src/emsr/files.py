"""A file is written under a temporary name beside its own, and renamed when it is complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from emsr.errors import InputError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives the temporary path; on success it becomes ``path``, on failure it is removed.

    InputError where the place cannot be written to.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
