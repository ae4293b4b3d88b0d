"""One run at a time on an output; or several slabs of it, each once.

A folder beside the output holds the locks, and the ledger of its tiles while it is unfinished. The
locks are the operating system's and die with the process. Some file systems do not carry them from
one host to another: there the age of the lock's file, which its holder touches, speaks for it.
Object storage has no such locks: ``claim_cloud``.

    lock             held alone by a whole run, or by whoever finishes; shared by slabs
    slab-2-of-8      held alone by that slab
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from emsr.errors import InputError
from emsr.jobs.claim_cloud import CloudClaim
from emsr.jobs.holder import (
    SIGN_OF_LIFE_S,
    TAKEN_FOR_DEAD_S,
    Slab,
    holder_in,
    in_words,
    notes_of,
    this_process,
)
from emsr.volumes.place import Place, Remote

__all__ = ["TAKEN_FOR_DEAD_S", "AnyClaim", "Claim", "Slab", "claimed", "notes_of"]


class Claim:
    """The right to write to an output, or to a slab of it; see ``claimed``."""

    def __init__(self, out: Path, slab: Slab | None) -> None:
        self.out, self.notes = out, notes_of(out)
        self._main = self.notes / "lock"
        self._mark = self.notes / f"slab-{slab[0]}-of-{slab[1]}" if slab else self._main
        self._files: dict[Path, IO[str]] = {}
        self.alone = slab is None

    def take(self) -> None:
        """InputError, naming the holder, where somebody else is at it."""
        try:
            for path in dict.fromkeys((self._mark, self._main)):
                if not self._lock(path, alone=path == self._mark):
                    raise self._busy(path)
            self._refuse_far()
            _sign(self._files[self._mark])
        except OSError as error:
            self._close()
            raise InputError(f"{self.out} cannot be written: {error.strerror or error}") from error
        except InputError:
            self._close()
            raise

    def share(self) -> None:
        """A slab leaves its share of the output, so that the last one to end finds all gone."""
        if not self.alone:
            self._files.pop(self._main).close()

    def take_all(self) -> bool:
        """Whether this process has the output to itself, or now got it."""
        self.alone = self.alone or self._lock(self._main, alone=True)
        return self.alone

    def clear(self) -> None:
        """What was noted of another output is worth nothing."""
        for ledger in self.notes.glob("*.jsonl"):
            ledger.unlink(missing_ok=True)

    def forget(self) -> None:
        """Nothing beside the output is needed any more."""
        if self.alone:
            shutil.rmtree(self.notes, ignore_errors=True)

    def release(self) -> None:
        for path, file in self._files.items():
            if (self.alone or path == self._mark) and _is_open_as(path, file):
                path.unlink(missing_ok=True)
        self._close()
        with suppress(OSError):
            self.notes.rmdir()  # stays where there is a ledger in it

    def sign(self) -> None:
        with suppress(OSError):
            os.utime(self._mark)

    def _lock(self, path: Path, alone: bool) -> bool:
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                file = path.open("a+")
            except FileNotFoundError:  # whoever finished removed the folder just now
                continue
            try:
                fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return False
            except OSError:
                pass  # a file system without locks: signs of life have to do
            if _is_open_as(path, file):
                self._files[path] = file
                return True
            file.close()  # its holder removed it while we waited: it locks nothing

    def _busy(self, path: Path) -> InputError:
        marks = [path, *sorted(self.notes.glob("slab-*"))]
        found = next((said for mark in marks if (said := holder_in(mark))), None)
        return InputError(
            f"{self.out} is being written by {in_words(found)}: wait until it ends, or choose "
            "another --out"
        )

    def _refuse_far(self) -> None:
        """Where a process on another host, whose lock may not be seen here, was alive just now."""
        slabs = self.notes.glob("slab-*") if self.alone else ()
        for path in {self._main, self._mark, *slabs}:
            found = holder_in(path)
            if not found or found["host"] == socket.gethostname():
                continue
            silent = _now(self.notes) - path.stat().st_mtime
            if silent < TAKEN_FOR_DEAD_S:
                raise InputError(
                    f"{self.out} is being written by {in_words(found)}, alive "
                    f"{max(0, silent):.0f} s ago: wait until it ends; if it was killed, "
                    f"run again in {TAKEN_FOR_DEAD_S} s, or now after removing {path}"
                )

    def _close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()


AnyClaim = Claim | CloudClaim


@contextmanager
def claimed(out: Place, slab: Slab | None) -> Iterator[AnyClaim]:
    """Holds the output, or its slab, until the end of the block. InputError where others do."""
    claim = CloudClaim(out, slab) if isinstance(out, Remote) else Claim(out, slab)
    ended = threading.Event()
    claim.take()

    def live() -> None:
        while not ended.wait(SIGN_OF_LIFE_S):
            claim.sign()

    threading.Thread(target=live, daemon=True).start()
    try:
        yield claim
    finally:
        ended.set()
        claim.release()


def _sign(file: IO[str]) -> None:
    file.truncate(0)
    file.write(json.dumps(this_process()))
    file.flush()


def _now(folder: Path) -> float:
    """The clock of the file system, which may not be this host's."""
    clock = folder / f"clock-{socket.gethostname()}-{os.getpid()}"
    clock.touch()
    try:
        return clock.stat().st_mtime
    finally:
        clock.unlink(missing_ok=True)


def _is_open_as(path: Path, file: IO[str]) -> bool:
    """Whether ``path`` is still the file that was opened, and not another's of that name."""
    with suppress(OSError):
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    return False
