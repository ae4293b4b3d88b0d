"""The volumes that ``evaluate`` compares, opened and checked to lie on one grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emsr.errors import InputError
from emsr.geometry.box import Triple
from emsr.geometry.tiles import coarser_spacing, finer_spacing
from emsr.jobs.listener import Listener
from emsr.volumes.source import Volume, open_volume
from emsr.volumes.volume import with_spacing

SMALLEST_PX = 32


@dataclass(frozen=True)
class Inputs:
    """The opened volumes, checked to lie on one grid; ``scale`` is 1 without LR."""

    sr: Volume
    reference: Volume
    repeat: Volume | None
    truth: Volume | None
    lr: Volume | None
    scale: int
    sr2: Volume | None = None
    """The SR of another LR scan of the field."""


def open_inputs(
    given: dict[str, Any], spacing_nm: tuple[float, float, float] | None, levels: dict[str, int]
) -> Inputs:
    """The volumes at the paths ``given`` by role, at the level of their pyramids that ``levels``
    says (else 0); InputError where they are not of one grid."""
    if given.get("sr2") is not None and str(given["sr2"]) == str(given["sr"]):
        raise InputError(
            f"{given['sr']} was given as the other SR too, every image agrees with itself: give "
            "the SR of another LR scan (--sr2), or none"
        )
    on_grid = {
        name: open_volume(path, spacing_nm, levels.get(name, 0))
        for name, path in given.items()
        if name != "lr"
    }
    shape = on_grid["reference"].shape
    if min(shape[1:]) < SMALLEST_PX:
        raise InputError(
            f"{given['reference']} has slices of (y, x) {shape[1:]}, scores need at least "
            f"{SMALLEST_PX} x {SMALLEST_PX} pixels: give a larger field"
        )
    for name, volume in on_grid.items():
        if volume.shape != shape:
            raise InputError(
                f"{given[name]} has shape {volume.shape}, the reference {given['reference']} "
                f"{shape}: give volumes of the same field on the same grid"
            )
    scale = 1
    low = None
    if "lr" in given:
        stated = open_volume(given["lr"], None, levels.get("lr", 0))
        scale = _scale(stated.shape, shape, given)
        low = with_spacing(stated, coarser_spacing(spacing_nm, scale))
    return Inputs(
        on_grid["sr"],
        on_grid["reference"],
        on_grid.get("repeat"),
        on_grid.get("truth"),
        low,
        scale,
        on_grid.get("sr2"),
    )


def say_notices(inputs: Inputs, listener: Listener) -> None:
    """What the files' readers noticed, such as an overridden spacing."""
    volumes = (inputs.sr, inputs.reference, inputs.repeat, inputs.truth, inputs.lr, inputs.sr2)
    for volume in volumes:
        for notice in getattr(volume, "notices", ()):
            listener.say(notice)


def greys_unlike(inputs: Inputs) -> str | None:
    """What to say where SR and reference are integers of different size; None where they agree."""
    sr, reference = inputs.sr.dtype, inputs.reference.dtype
    if sr == reference or "f" in (sr.kind, reference.kind):
        return None
    return (
        f"warning: {inputs.sr.name} is {sr}, {inputs.reference.name} {reference}: their grey "
        "levels are compared as they are; --fit-grey fits them first"
    )


def _scale(lr: Triple, hr: Triple, given: dict[str, Any]) -> int:
    """The integer with which LR's y and x become those of the reference; else InputError."""
    scale = hr[1] // lr[1]
    if scale < 1 or hr != (lr[0], lr[1] * scale, lr[2] * scale):
        raise InputError(
            f"{given['lr']} has shape {lr}, the reference {given['reference']} {hr}: expected the "
            "same z, and y and x smaller by one integer: give the LR scan of the same field"
        )
    return scale


def common_spacing(inputs: Inputs) -> tuple[float, float, float] | None:
    """The reference's spacing, else the first one stated; contradictions beyond 1 % are refused."""
    stated = [
        (v, v.spacing_nm)
        for v in (inputs.reference, inputs.sr, inputs.repeat, inputs.truth, inputs.sr2)
        if v is not None and v.spacing_nm is not None
    ]
    if inputs.lr and (finer := finer_spacing(inputs.lr.spacing_nm, inputs.scale)):
        stated.append((inputs.lr, finer))
    # The z spacing of a single slice says nothing about the grid.
    first = 1 if inputs.reference.shape[0] == 1 else 0
    for volume, spacing in stated[1:]:
        pairs = zip(spacing[first:], stated[0][1][first:], strict=True)
        if any(abs(a - b) > 0.01 * b for a, b in pairs):
            name, expected = stated[0][0].name, stated[0][1]
            divided = (
                f" (its own, y and x divided by {inputs.scale})" if volume is inputs.lr else ""
            )
            raise InputError(
                f"{volume.name} has spacing {spacing} nm{divided}, {name} {expected} nm: "
                "they contradict each other, say which is right with --spacing Z,Y,X"
            )
    return stated[0][1] if stated else None
