"""As ``claim``, on object storage: locks are objects, put on condition that there is none.

    lock             of a whole run, or of whoever finishes
    slab-2-of-8      of that slab; no whole run begins beside one, nor a slab beside ``lock``

Nothing takes such a lock from a process that dies. So its holder puts it again from time to time,
and who finds one that is old by the server's clock, or of a process of this host that is gone,
takes it over: on condition that it is still as it was found.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from emsr.errors import InputError
from emsr.jobs.holder import (
    TAKEN_FOR_DEAD_S,
    Slab,
    holder_in,
    in_words,
    notes_of,
    this_process,
)
from emsr.volumes.place import Found, Remote, delete, put_new


class CloudClaim:
    """The right to write to an output by URL, or to a slab of it; see ``claim.claimed``."""

    def __init__(self, out: Remote, slab: Slab | None) -> None:
        self.out, self.notes = out, notes_of(out)
        self.alone = slab is None
        self._main = self.notes / "lock"
        self._mark = self.notes / f"slab-{slab[0]}-of-{slab[1]}" if slab else self._main
        self._nonce = uuid.uuid4().hex
        self._held: dict[str, Found] = {}

    def take(self) -> None:
        """InputError, naming the holder, where somebody else is at it."""
        try:
            if not self._put(self._mark):
                raise self._busy(self._mark)
            for other in self._slabs() if self.alone else [self._main]:
                if self._lives(other):
                    raise self._busy(other)
        except InputError:
            self.release()
            raise

    def share(self) -> None:
        """A slab leaves its share of the output, so that the last one to end finds all gone."""
        if not self.alone:
            self._drop(self._mark)

    def take_all(self) -> bool:
        """Whether this process has the output to itself, or now got it."""
        # Looked before it is locked: a slab that still runs is to find it free when it ends.
        if not self.alone and not any(map(self._lives, self._slabs())) and self._put(self._main):
            self._mark = self._main
            self.alone = not any(map(self._lives, self._slabs()))
            if not self.alone:  # one began since
                self._drop(self._main)
        return self.alone

    def clear(self) -> None:
        """What was noted of another output is worth nothing."""
        self.notes.remove("lock")

    def forget(self) -> None:
        """Nothing beside the output is needed any more."""
        if self.alone:
            delete(self.notes)
            self._held.clear()

    def release(self) -> None:
        for key in list(self._held):
            with suppress(InputError):
                self._drop(Remote(self.out.files, key))

    def sign(self) -> None:
        """Put the lock again, if it is still this process's."""
        if not (found := self._held.get(self._mark.key)):
            return
        again = None
        with suppress(InputError):
            again = put_new(self._mark, self._text(), instead_of=found)
        with suppress(InputError):
            if again or (again := self._own(self._mark)):
                self._held[self._mark.key] = again

    def _put(self, lock: Remote) -> bool:
        found = put_new(lock, self._text())
        if not found and (old := _found(lock)) and not self._lives(lock):
            found = put_new(lock, self._text(), instead_of=old)
        if found:
            self._held[lock.key] = found
        return found is not None

    def _drop(self, lock: Remote) -> None:
        self._held.pop(lock.key, None)
        if self._own(lock):  # it may have been taken for dead
            lock.unlink()

    def _own(self, lock: Remote) -> Found | None:
        """A lock as it lies there, if it is this process's; one put may have gone unanswered."""
        found, holder = _found(lock), holder_in(lock)
        return found if holder and holder.get("nonce") == self._nonce else None

    def _text(self) -> str:
        """Each one another, so that none is taken for gone that was put again meanwhile."""
        me = {**this_process(), "home": _home(), "nonce": self._nonce, "sign": uuid.uuid4().hex}
        return json.dumps(me)

    def _slabs(self) -> list[Remote]:
        found = [one.place for one in self.notes.below()]
        return [one for one in found if one.name.startswith("slab-") and one != self._mark]

    def _lives(self, lock: Remote) -> bool:
        """Whether the holder of a lock is there and may be at work."""
        found, holder = _found(lock), holder_in(lock)
        if not found or (holder and _is_here(holder) and not _runs(holder["pid"])):
            return False
        return self._now() - found.put_at < TAKEN_FOR_DEAD_S

    def _now(self) -> float:
        """The clock of the server, which is not this host's."""
        clock = self.notes / f"clock-{uuid.uuid4().hex}"
        while True:
            clock.write_text("")
            try:
                return clock.found().put_at
            except FileNotFoundError:  # whoever finished removed all notes just now
                continue
            finally:
                clock.unlink()

    def _busy(self, lock: Remote) -> InputError:
        return InputError(
            f"{self.out} is being written by {in_words(holder_in(lock))}: wait until it ends, or "
            f"choose another --out; if it was killed on another host, run again in "
            f"{TAKEN_FOR_DEAD_S} s, or now after deleting {lock}"
        )


def _is_here(holder: dict[str, Any]) -> bool:
    return (holder["host"], holder.get("home")) == (socket.gethostname(), _home())


def _home() -> str:
    """Where process numbers mean the same: containers and hosts may share a name, not numbers."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    with suppress(OSError):  # killed, but not yet waited for
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def _found(lock: Remote) -> Found | None:
    try:
        return lock.found()
    except FileNotFoundError:
        return None
