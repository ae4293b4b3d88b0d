"""What the parts of a model file that say of trust must look like: each may be empty, and may lack
or add what another version of emsr does not know, but what is there is of its kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Len
from pydantic import AfterValidator, AllowInfNan, Strict, TypeAdapter

Number = Annotated[float, Strict(), AllowInfNan(False)]
_Positive = Annotated[Number, Gt(0)]
_Width = Annotated[Number, Ge(0)]
_Pair = Annotated[list[Number], Len(2, 2)]


@dataclass(frozen=True)
class _Blur:
    sigma_a_px: _Width
    sigma_b_px: _Width
    angle_rad: Number
    gain: Number
    offset: Number


@dataclass(frozen=True)
class _Noise:
    sigma: _Width
    slope: Number | None
    intercept: Number | None
    correlation: _Pair
    method: str


@dataclass(frozen=True)
class _Honest:
    power: Number
    structure: Number
    doubt: _Positive | None = None


@dataclass(frozen=True)
class _Degradation:
    blur: _Blur | None = None
    noise: _Noise | None = None
    honest: _Honest | None = None


@dataclass(frozen=True)
class _Ranges:
    noise: _Pair | None = None
    spectrum: Annotated[list[list[Number]], Len(2, 2)] | None = None


@dataclass(frozen=True)
class _Domain:
    spacing_nm: Annotated[list[_Positive], Len(3, 3)] | None = None
    greys: list[Number] | None = None
    noise: _Width | None = None
    tilt: Number | None = None
    spectrum: list[Number] | None = None
    ranges: _Ranges | None = None


@dataclass(frozen=True)
class _Spread:
    spread: Annotated[list[Number], Len(1)]
    error: Annotated[list[Number], Len(1)]

    def __post_init__(self) -> None:
        if len(self.spread) != len(self.error):
            raise ValueError("as many errors as spreads are expected")


def _like(kind: type) -> AfterValidator:
    """Checks a JSON object against ``kind``, and leaves it as it is."""

    def checked(found: dict[str, Any]) -> dict[str, Any]:
        if found:
            TypeAdapter(kind).validate_python(found)
        return found

    return AfterValidator(checked)


Degradation = Annotated[dict[str, Any], _like(_Degradation)]
Domain = Annotated[dict[str, Any], _like(_Domain)]
Spread = Annotated[dict[str, Any], _like(_Spread)]
EXPECTED = dict.fromkeys(("degradation", "domain", "spread"), "what emsr train writes there, or {}")
