"""Options that several verbs share, and how their texts are read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer


def spacing_nm(text: str | None) -> tuple[float, float, float] | None:
    """Z,Y,X in nm."""
    if text is None:
        return None
    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: expected Z,Y,X in nm, such as 50,15,15") from None
    if not all(0 < part < float("inf") for part in (z, y, x)):
        raise typer.BadParameter(f"{text!r}: every spacing must be a positive number of nm")
    return z, y, x


def levels_of(text: str | None, roles: tuple[str, ...]) -> dict[str, int]:
    """The pyramid level of each input: one number for all of them, or by role."""
    if text is None:
        return {}
    try:
        if "=" not in text:
            found = dict.fromkeys(roles, int(text))
        else:
            parts = (part.split("=") for part in text.split(","))
            found = {role.strip(): int(number) for role, number in parts}
        if set(found) <= set(roles) and min(found.values()) >= 0:
            return found
    except ValueError:
        pass
    raise typer.BadParameter(
        f"{text!r}: expected a number from 0 on, or some of {', '.join(f'{r}=N' for r in roles)}"
    )


def slab_of(text: str | None) -> tuple[int, int] | None:
    """I/N: the I-th of N parts, from 1."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    i, n = (int(part) for part in found.groups()) if found else (0, 0)
    if not 1 <= i <= n:
        raise typer.BadParameter(f"{text!r}: expected I/N from 1/N to N/N, such as 2/8")
    return i, n


def bytes_of(text: str | None) -> int | None:
    """An amount of memory: 4GB, 4GiB, 500M."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,15}(?:\.\d+)?) ?([KMGT]?)(I?)B?", text.strip().upper())
    if not found:
        raise typer.BadParameter(f"{text!r}: expected an amount of memory, such as 4GB")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " KMGT".index(unit or " "))


Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
Json = Annotated[bool, typer.Option("--json", help="Print a summary for machines on stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is at the output.")]
SpacingNm = Annotated[
    str | None,
    typer.Option("--spacing", metavar="Z,Y,X", help="Spacing in nm; overrides the file's."),
]
Level = Annotated[
    int, typer.Option("--level", min=0, help="Level of the input's pyramid, 0 the finest.")
]
Levels = Annotated[
    str | None,
    typer.Option(
        "--level",
        metavar="N",
        help="Pyramid level to read, 0 the finest; or by input, such as hr=1,lr=0.",
    ),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="R.toml", help="Settings (docs/recipe.md)."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of everything random; default 0.")]
