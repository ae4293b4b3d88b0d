"""How files are written: aside, then renamed; and never over what is being read."""

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


def refuse_overlap(out: str | Path, *inputs: str | Path) -> None:
    """InputError where ``out`` is one of the inputs, lies inside one, or holds one."""
    place = Path(out).resolve()
    for one in inputs:
        other = Path(one).resolve()
        if place == other or place in other.parents or other in place.parents:
            raise InputError(f"the output {out} and the input {one} overlap: choose another --out")
