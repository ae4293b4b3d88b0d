"""What is known of the tiles of an unfinished output: what their input is, how much was clipped.

JSON lines in a folder beside the output, which goes when the output is finished. Every process
appends to a file of its own, so nothing needs a lock; a line that a kill cut short is passed over.
On object storage nothing can be appended to: there a process puts its last lines anew with each.
A tile counts as written when its shard exists and its clipped voxels are known: that line is
written first.
"""

from __future__ import annotations

import io
import json
import math
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emsr.errors import InputError
from emsr.jobs.identity import DIGEST_BYTES
from emsr.volumes.place import Place, Remote

UNKNOWN = -1
LINES, PATIENCE_S = 500, 10


class Seen(NamedTuple):
    """The input of one tile: a digest of its grey values, and their moments."""

    digest: bytes
    voxels: int
    total: float
    squares: float


def changed(name: str) -> InputError:
    """What to say of an input whose digests differ."""
    return InputError(
        f"{name} has changed since this output was begun: bring the old input back, "
        "choose another --out, or start anew with --overwrite"
    )


class Pen:
    """Appends lines about the tiles of the output whose store has this ``token``."""

    def __init__(self, folder: Place, token: str, untouched: str | None) -> None:
        name = f"{token}-{uuid.uuid4().hex}"
        self._lines = _Objects(folder, name) if isinstance(folder, Remote) else _File(folder, name)
        self._untouched = untouched

    def seen(self, tile: int, seen: Seen) -> None:
        line = [seen.digest.hex(), seen.voxels, seen.total, seen.squares]
        found = {"tile": tile, "seen": line, "untouched": self._untouched}
        self._lines.add(found, later=True)

    def clipped(self, tile: int, voxels: int, read: bytes = b"") -> None:
        """``read`` is the digest of all that the tile was computed from, its halo too."""
        self._lines.add({"tile": tile, "clipped": voxels, "read": read.hex()})

    def void(self, tile: int) -> None:
        """The tile is to be computed again."""
        self.clipped(tile, UNKNOWN)

    def flush(self) -> None:
        """All that was seen can be read by others now."""
        self._lines.flush()


class _File:
    """Lines appended to a file."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.jsonl"

    def add(self, line: dict[str, Any], later: bool = False) -> None:  # noqa: ARG002
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        pass


class _Objects:
    """Lines in objects of ``LINES``: the last one is put again with each line, but with those that
    can wait only from time to time."""

    def __init__(self, folder: Remote, name: str) -> None:
        self._folder, self._name = folder, name
        self._number, self._lines, self._unsaid = 0, list[str](), 0
        self._put_at = time.monotonic()
        self._lock = threading.Lock()  # of two puts the one with more lines is to be the last

    def add(self, line: dict[str, Any], later: bool = False) -> None:
        with self._lock:
            self._lines.append(json.dumps(line))
            self._unsaid += 1
            if not later or time.monotonic() - self._put_at > PATIENCE_S:
                self._put()
            if len(self._lines) >= LINES:
                self._put()
                self._number, self._lines = self._number + 1, []

    def flush(self) -> None:
        with self._lock:
            self._put()

    def _put(self) -> None:
        if self._unsaid:
            place = self._folder / f"{self._name}-{self._number:06}.jsonl"
            place.write_text("\n".join(self._lines) + "\n")
            self._unsaid, self._put_at = 0, time.monotonic()


class Ledger:
    """All that is known of ``tiles`` tiles; arrays, as there may be millions."""

    def __init__(self, tiles: int) -> None:
        self.digests = np.zeros((tiles, DIGEST_BYTES), np.uint8)
        self.seen = np.zeros(tiles, bool)
        self.current = np.zeros(tiles, bool)
        """Seen in the input as it lies there now."""
        self.clipped = np.full(tiles, UNKNOWN, np.int64)
        self.reads = np.zeros((tiles, DIGEST_BYTES), np.uint8)
        """Digests of all that the tiles written were computed from; 0 where that is not known."""
        self.moments = np.zeros(3)

    def read(self, folder: Place, token: str, untouched: str | None) -> None:
        """Take in what processes have noted; ``untouched`` is the input's now."""
        # In the order of the sittings: what a later one says of a tile holds.
        for path in _in_order(folder, token):
            for line in _lines(path):
                tile = line["tile"]
                if "clipped" in line:
                    self.clipped[tile] = line["clipped"]
                    read = bytes.fromhex(line.get("read", "")) or bytes(DIGEST_BYTES)
                    self.reads[tile] = np.frombuffer(read, np.uint8)
                    continue
                digest, *moments = line["seen"]
                same = untouched is not None and line["untouched"] == untouched
                self.note(tile, Seen(bytes.fromhex(digest), *moments), "the input", same)

    def note(self, tile: int, seen: Seen, name: str, current: bool = True) -> None:
        """InputError where the tile's input was another one before."""
        digest = np.frombuffer(seen.digest, np.uint8)
        if self.seen[tile] and not np.array_equal(self.digests[tile], digest):
            raise changed(name)
        if not self.seen[tile]:
            self.moments += seen[1:]
        self.digests[tile], self.seen[tile] = digest, True
        self.current[tile] |= current

    def is_stale(self, tile: int, read: bytes) -> bool:
        """Whether a tile that was written was computed from something else than ``read``."""
        known = self.clipped[tile] != UNKNOWN and self.reads[tile].any()
        return bool(known and self.reads[tile].tobytes() != read)

    @property
    def mean_and_spread(self) -> tuple[float, float]:
        """Of the grey values seen so far."""
        count, total, squares = self.moments
        mean = total / max(1, count)
        return mean, math.sqrt(max(0.0, squares / max(1, count) - mean**2))


def _in_order(folder: Place, token: str) -> list[Path] | list[Remote]:
    """The notes of an output, by when they were last added to."""
    if isinstance(folder, Path):
        return sorted(folder.glob(f"{token}-*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    found = [one for one in folder.below() if one.place.name.startswith(f"{token}-")]
    return [one.place for one in sorted(found, key=lambda one: one.put_at)]


def _lines(path: Path | Remote) -> Iterator[dict[str, Any]]:
    with path.open() if isinstance(path, Path) else io.StringIO(path.read_text()) as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue
