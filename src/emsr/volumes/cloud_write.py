"""What a failed write to object storage is told as: one line, what was found and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from emsr.errors import InputError


@contextmanager
def writing(where: object) -> Iterator[None]:
    """Whatever server and network make the libraries raise at a put or a deletion of ``where``, as
    an InputError. What is not there can be deleted, so only a bucket may be missing."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{where} cannot be written: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return (
            "access denied with your credentials: let them put and delete objects there, or check "
            "the URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_PROFILE; then run the same "
            "again"
        )
    if isinstance(error, FileNotFoundError):
        return "the bucket does not exist: make it, or choose another --out"
    said = " ".join(str(error).split()) or type(error).__name__
    return (
        f"{said}: check the network and, for a server of your own, AWS_ENDPOINT_URL; then run the "
        "same again"
    )
