"""Where ``emsr upscale`` may write, and what its addresses mean elsewhere."""

from __future__ import annotations

from pathlib import Path

from emsr.errors import InputError
from emsr.files import is_url, split_address
from emsr.jobs.trust import Trust
from emsr.volumes import omezarr
from emsr.volumes.flatten import is_flat
from emsr.volumes.place import Place, Remote


def everywhere(address: str | Path) -> str:
    """An address that means the same from any folder."""
    outer, inner = split_address(address)
    if is_url(outer):
        return str(address)
    return str(Path(outer).resolve()) + (f"::/{inner}" if inner else "")


def refuse_there(out: Remote, lr: str | Path, trust: Trust | None) -> None:
    """InputError for what is not written to object storage, or over its own input."""
    if is_flat(out) or trust is not None:
        what = "--trust" if trust is not None else f"a {out.suffix} output"
        raise InputError(f"{out}: {what} is written to this machine only: choose a path for --out")
    held, inner = split_address(lr)
    read = f"{held.rstrip('/')}/{inner}".rstrip("/") + "/"
    if is_url(held) and (read.startswith(f"{out}/") or f"{out}/".startswith(read)):
        raise InputError(f"the output {out} and the input {lr} overlap: choose another --out")


def check_name(out: Place) -> None:
    if out.suffix.lower() != ".zarr" and not is_flat(out):
        raise InputError(
            f"{out}: expected an output whose name ends in .ome.zarr, .zarr, .tif, .mrc or .h5"
        )
    for folder in out.resolve().parents if isinstance(out, Path) else out.parents:
        if omezarr.is_image(folder):
            raise InputError(f"{out} lies inside the image {folder}: choose another --out")
