"""What the root of an output says of it: unfinished or finished, of which run; and how an output
goes."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from emsr.errors import InputError
from emsr.files import replacing
from emsr.volumes.place import Place, Remote, delete, place

UNFINISHED, FINISHED = "unfinished", "finished"


def read_state(path: str | Place) -> dict[str, Any] | None:
    """The store's ``state`` and ``run``; None where nothing is at ``path``.

    InputError where something else is there.
    """
    path = place(path)
    if not path.exists():
        return None
    try:
        state = json.loads((path / "zarr.json").read_text())["attributes"]["emsr"]
        _ = state["state"], state["run"], state["spacing_nm"], state["levels"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{path} exists and was not written by emsr: choose another name or give --overwrite"
        ) from None
    return dict(state)


def state_there(path: str | Place) -> dict[str, Any]:
    """As ``read_state``, of a store that must be there: else ValueError."""
    state = read_state(path)
    if state is None:
        raise ValueError(f"there is no store at {path}")
    return state


def is_image(path: str | Place) -> bool:
    """Whether a folder is itself an image, of ours or OME-Zarr 0.4 or 0.5, and no place for
    others."""
    return any({"emsr", "multiscales"} & found.keys() for found in _attributes(place(path)))


def _attributes(path: Place) -> Iterator[dict[str, Any]]:
    """Where a Zarr group says what it is: of version 3 (and its part ``ome``), of version 2."""
    for name in ("zarr.json", ".zattrs"):
        try:
            found = json.loads((path / name).read_text())
        except (OSError, ValueError):
            continue
        except InputError as error:
            if not isinstance(error.__cause__, PermissionError):
                raise
            continue  # credentials may be for some folders of a bucket only
        found = found.get("attributes", found) if isinstance(found, dict) else {}
        yield from (one for one in (found, found.get("ome")) if isinstance(one, dict))


def write_root(path: Place, attributes: dict[str, Any]) -> None:
    """Put the attributes of the root in the place of those it has, at once."""
    root, text = path / "zarr.json", root_text(attributes)
    if isinstance(root, Remote):
        root.write_text(text)
        return
    with replacing(root) as partial:
        partial.write_text(text)


def root_text(attributes: dict[str, Any]) -> str:
    """A Zarr group with these attributes."""
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return json.dumps(group, indent=2, allow_nan=False) + "\n"


def remove(path: Place) -> None:
    """Remove a store, or what else lies there. It is set aside first, or, on object storage, called
    unfinished: half removed under its own name it would be nobody's output, or seem whole."""
    if isinstance(path, Remote):
        state: dict[str, Any] = {"state": UNFINISHED, "run": {}, "spacing_nm": None, "levels": []}
        write_root(path, {"emsr": state})
        path.remove("zarr.json")
        (path / "zarr.json").unlink()
    elif path.is_dir() and not path.is_symlink():
        hidden = aside(path)
        path.rename(hidden)
        shutil.rmtree(hidden)
    else:
        path.unlink()


def aside(path: Path) -> Path:
    """A name beside ``path`` that nobody takes for a store; ``leftovers`` finds it again."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")


def leftovers(path: str | Place) -> Iterator[Path]:
    """What killed writers left of the store at ``path``, in it or beside it; puts leave nothing."""
    path = place(path)
    if isinstance(path, Remote):
        return
    yield from path.parent.glob(f".{path.name}.*.partial")
    yield from path.rglob("*.partial")


def discard(places: Iterable[Path]) -> None:
    """Remove files and folders that may be gone already."""
    for found in list(places):
        delete(found)
