"""Where an output lies: a path of this machine, or a key on object storage.

Both know ``name``, ``suffix``, ``with_name``, ``/``, ``exists`` and ``read_text``; what differs
more is a function here, or asked for by ``isinstance``. An object appears whole or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import zarr

from emsr.errors import InputError
from emsr.files import is_url, split_address
from emsr.volumes.cloud import reason, s3_options
from emsr.volumes.cloud_write import writing
from emsr.volumes.extras import needed

_AT_ONCE = 1000  # keys that S3 lists or deletes in one request


class Found(NamedTuple):
    """An object, when it was put by the server's clock, and what its content is told by."""

    place: Remote
    put_at: float
    etag: str


@dataclass(frozen=True)
class Remote:
    """``bucket/key`` of an S3 file system. Every method is an InputError of one line where the
    server cannot be reached or denies; FileNotFoundError where there is no such object."""

    files: Any = field(repr=False, compare=False)
    key: str

    def __str__(self) -> str:
        return f"s3://{self.key}"

    def __truediv__(self, name: str) -> Remote:
        return Remote(self.files, f"{self.key}/{name}")

    @property
    def name(self) -> str:
        return PurePosixPath(self.key).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.key).suffix

    @property
    def parents(self) -> list[Remote]:
        """The prefixes that hold it, nearest first; the bucket itself is the last."""
        return [
            Remote(self.files, str(p)) for p in PurePosixPath(self.key).parents if str(p) != "."
        ]

    def with_name(self, name: str) -> Remote:
        return Remote(self.files, str(PurePosixPath(self.key).with_name(name)))

    def exists(self) -> bool:
        """Whether there is an object of that key, or one below it."""
        address = {**self._address, "Prefix": self._address["Key"] + "/", "MaxKeys": 1}
        del address["Key"]
        with spoken(self), suppress(FileNotFoundError):
            if self.files.call_s3("list_objects_v2", **address).get("KeyCount"):
                return True
        return is_file(self)

    def read_text(self) -> str:
        with spoken(self):
            return str(self.files.cat_file(self.key).decode())

    def write_text(self, text: str, **condition: str) -> str:
        """Put it, in one request; returns the server's tag of the content."""
        with writing(self):
            return str(self.files.pipe_file(self.key, text.encode(), **condition)["ETag"])

    def unlink(self) -> None:
        with writing(self):
            self.files.call_s3("delete_object", **self._address)

    def found(self) -> Found:
        """Itself, as it lies there now."""
        with spoken(self):
            head = self.files.call_s3("head_object", **self._address)
        return Found(self, head["LastModified"].timestamp(), head["ETag"])

    def below(self) -> Iterator[Found]:
        """All objects whose key begins with this one and a slash."""
        bucket, key = self._address.values()
        asked = {"Bucket": bucket, "Prefix": key + "/", "MaxKeys": _AT_ONCE}
        more = True
        while more:  # a page at a time: there may be millions
            page: dict[str, Any] = {}
            with spoken(self), suppress(FileNotFoundError):
                page = self.files.call_s3("list_objects_v2", **asked)
            for one in page.get("Contents", ()):
                put_at: datetime = one["LastModified"]
                there = Remote(self.files, f"{bucket}/{one['Key']}")
                yield Found(there, put_at.timestamp(), one["ETag"])
            more = page.get("IsTruncated", False)
            asked["ContinuationToken"] = page.get("NextContinuationToken", "")

    def remove(self, *but: str) -> None:
        """Delete all objects below, except those of these names directly below."""
        kept = {f"{self.key}/{name}" for name in but}
        keys = [one.place.key for one in self.below() if one.place.key not in kept]
        bucket = self._address["Bucket"]
        for first in range(0, len(keys), _AT_ONCE):  # s3fs would take * and [ in them for patterns
            named = [{"Key": key.partition("/")[2]} for key in keys[first : first + _AT_ONCE]]
            with writing(self):
                asked = {"Objects": named, "Quiet": True}
                told = self.files.call_s3("delete_objects", Bucket=bucket, Delete=asked)
                if told.get("Errors"):
                    raise PermissionError(told["Errors"][0].get("Message", "delete"))

    @cached_property
    def store(self) -> Any:
        """As zarr wants it, to read and write."""
        wrapper = needed("fsspec.implementations.asyn_wrapper", "cloud", str(self))
        files = wrapper.AsyncFileSystemWrapper(self.files, asynchronous=True)
        return zarr.storage.FsspecStore(files, path=self.key)

    @property
    def _address(self) -> dict[str, Any]:
        bucket, _, key = self.key.partition("/")
        return {"Bucket": bucket, "Key": key}


Place = Path | Remote


def place(address: str | Place) -> Place:
    """The path, or what is at an s3:// URL. InputError for another URL, and without credentials."""
    if isinstance(address, Remote) or not is_url(address):
        return address if isinstance(address, Remote) else Path(address)
    url, inside = split_address(address)
    scheme, _, key = url.partition("://")
    key = str(PurePosixPath(key.strip("/")))  # a slash too many would be a key of its own
    if scheme.lower() != "s3" or inside or "/" not in key:
        raise InputError(
            f"{url}: expected an output at s3://bucket/name.ome.zarr, or on this machine"
        )
    options, _ = s3_options(url)
    if options["anon"]:
        raise InputError(
            f"{url}: no credentials to write with: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    who = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    return Remote(_files(who), key)


@lru_cache(maxsize=1)
def _files(_: tuple[tuple[str, str], ...]) -> Any:
    """The file system as who the environment says; a connection takes a while to make."""
    s3fs = needed("s3fs", "cloud", "s3://")
    return s3fs.S3FileSystem(**s3_options("s3://")[0], use_listings_cache=False)


def is_file(where: Place) -> bool:
    """Whether a file, or an object of just that key, is there."""
    if isinstance(where, Path):
        return where.is_file()
    try:
        where.found()
    except FileNotFoundError:
        return False
    return True


def put_new(where: Remote, text: str, instead_of: Found | None = None) -> Found | None:
    """Put an object where there is none, or instead of one that is still as it was ``found``;
    None where somebody else did. ``text`` is to be like no other's: a server that does not know
    conditions lets the last one win, and that is seen here."""
    condition = {"IfMatch": instead_of.etag} if instead_of else {"IfNoneMatch": "*"}
    failed: InputError | None = None
    try:
        where.write_text(text, **condition)
    except InputError as error:
        failed = error  # the condition, or a request that was answered only the second time
    try:
        if where.read_text() == text:
            return where.found()
    except FileNotFoundError:
        if failed:
            raise failed from None
    return None


def delete(where: Place) -> None:
    """A file, a folder and all in it, or all objects below a key; none need be there."""
    if isinstance(where, Remote):
        where.remove()
    elif where.is_dir():
        shutil.rmtree(where, ignore_errors=True)
    else:
        where.unlink(missing_ok=True)


@contextmanager
def spoken(where: object) -> Iterator[None]:
    """Whatever servers and networks make the libraries raise, in one line."""
    try:
        yield
    except (InputError, FileNotFoundError):
        raise
    except Exception as error:
        raise InputError(f"{where}: {reason(error, 'with your credentials')}") from error
