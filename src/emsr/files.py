"""How files are named and written: aside, then renamed; and never over what is being read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from emsr.errors import InputError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?=[^/])")  # a Path has lost one slash


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


def split_address(address: str | Path) -> tuple[str, str]:
    """File, folder or URL, and the place inside it: ``a.h5::/raw`` is ("a.h5", "raw").

    The place is "" where none is given. A URL whose slashes a Path collapsed has them back.
    """
    text = str(address)
    if Path(text).exists():
        return text, ""
    outer, _, inner = text.partition("::")
    parts = text.split("::")
    for count in range(len(parts) - 1, 1, -1):  # names may hold the sign themselves
        if Path("::".join(parts[:count])).exists():
            outer, inner = "::".join(parts[:count]), "::".join(parts[count:])
            break
    return _URL.sub(r"\1://", outer, count=1) if is_url(outer) else outer, inner.strip("/")


def is_url(address: str | Path) -> bool:
    """Whether the address is one of a server, such as s3://bucket/key."""
    return _URL.match(str(address)) is not None


def refuse_overlap(out: str | Path, *inputs: str | Path) -> None:
    """InputError where ``out`` is one of the inputs, lies inside one, holds one, or is a URL."""
    if is_url(out):
        url, _ = split_address(out)
        raise InputError(f"{url}: expected an output on this machine; choose a path")
    place = Path(out).resolve()
    for one in inputs:
        held, _ = split_address(one)
        if is_url(held):
            continue
        other = Path(held).resolve()
        if place == other or place in other.parents or other in place.parents:
            raise InputError(f"the output {out} and the input {one} overlap: choose another --out")
