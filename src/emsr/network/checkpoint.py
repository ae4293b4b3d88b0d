"""A model as one safetensors file, never a pickle: the weights, and a header that says the rest.

The header is JSON under the key ``emsr`` of the file's metadata. It alone rebuilds the network and
tells what it was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le, Predicate
from pydantic import Strict, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from emsr.errors import InputError
from emsr.files import replacing
from emsr.network.named import build
from emsr.network.trust_facts import EXPECTED, Degradation, Domain, Number, Spread

FORMAT = 1
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
"""The dtypes that volumes have, and so those that an output can have."""

_Length = Annotated[Number, Gt(0)]
Window = Annotated[tuple[Number, Number], Predicate(lambda pair: pair[0] < pair[1])]
SpacingNm = tuple[_Length, _Length, _Length] | None
_EXPECTED = {
    "network": "the name of a network",
    "scale": "a whole number from 1 to 8",
    "lr_window": "two finite numbers, the lower one first",
    "hr_window": "two finite numbers, the lower one first",
    "dtype": f"one of {', '.join(DTYPES)}",
    "lr_spacing_nm": "three positive lengths in nm (z, y, x), or null",
    "hr_spacing_nm": "three positive lengths in nm (z, y, x), or null",
    **EXPECTED,
}


@dataclass(frozen=True)
class Header:
    """What a model file says of itself. Spacings are (z, y, x) in nm, or None where unknown."""

    network: str
    network_options: dict[str, Any]
    scale: Annotated[int, Strict(), Ge(1), Le(8)]
    lr_window: Window
    """Grey values of an LR image that are 0 and 1 in network units."""
    hr_window: Window
    dtype: Annotated[str, Predicate(DTYPES.__contains__)]
    """Of the HR training data, and so of the SR output."""
    lr_spacing_nm: SpacingNm
    hr_spacing_nm: SpacingNm
    recipe: dict[str, Any] = field(default_factory=dict)
    trained_on: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    degradation: Degradation = field(default_factory=dict)
    """What made LR of HR (``jobs/trust_degradation``); empty in a file that does not say, as are
    the two below."""
    domain: Domain = field(default_factory=dict)
    """What the LR images trained on were like (``quality/domain``)."""
    spread: Spread = field(default_factory=dict)
    """Which error went with which spread of eight answers (``quality/spread``)."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], key: str, value: object) -> None:
    """One safetensors file with ``value`` as JSON under ``key``; written aside, then renamed."""
    metadata = {key: json.dumps(value, sort_keys=True)}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as partial:
        partial.write_bytes(save(plain, metadata))


def load_tensors(path: Path, key: str, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file that ``save_tensors`` wrote under ``key``, and its value, which must be
    a JSON object. InputError for any other file."""
    if path.is_dir():
        raise InputError(f"{path} is a directory: give the {what} in it")
    if not path.is_file():
        raise InputError(f"{path}: no such {what}; give the path of an existing one")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is not a safetensors file ({error}): expected a {what} that emsr wrote"
        ) from None
    if key not in metadata:
        raise InputError(
            f"{path} is a safetensors file without emsr's header: expected a {what} that emsr wrote"
        )
    try:
        value = json.loads(metadata[key])
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InputError(
            f"{path}: damaged header, expected a JSON object: take another copy of the {what}"
        )
    return tensors, value


def save_model(path: Path, network: torch.nn.Module, header: Header) -> None:
    """Write the model file: weights and header."""
    save_tensors(path, network.state_dict(), "emsr", {"format": FORMAT, **asdict(header)})


def load_model(path: Path) -> tuple[Any, Header]:
    """The network, in evaluation mode on the CPU, and the header of a model file.

    Raises InputError, which names the file, when it is missing, is not ours, is of another format,
    or says what cannot be.
    """
    tensors, value = load_tensors(path, "emsr", "model file")
    if value.pop("format", None) != FORMAT:
        raise InputError(
            f"{path}: not model format {FORMAT}; train the model again, or update emsr"
        )
    try:
        header = TypeAdapter(Header).validate_python(value)
    except ValidationError as error:
        raise InputError(f"{path}: damaged header, {_wrong(error, value)}") from None
    try:
        network = build(header.network, header.scale, header.network_options)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    load_weights(network, tensors, str(path))
    return network.eval(), header


def _wrong(error: ValidationError, value: dict[str, Any]) -> str:
    """The first field that is wrong: what was found there, and what was expected."""
    name = str(error.errors()[0]["loc"][0])
    if name not in value:
        return f"{name} is missing: take another copy of the model file"
    return f"{name}: found {value[name]!r:.40}, expected {_EXPECTED.get(name, 'a JSON object')}"


def load_weights(
    network: torch.nn.Module,
    tensors: Mapping[str, Tensor],
    name: str,
    spelled: Callable[[str], str] = str,
) -> None:
    """Load ``tensors``, saying which are missing, extra or of another shape; ``spelled`` gives the
    file's name for one of ours."""
    expected = network.state_dict()
    missing = sorted(map(spelled, expected.keys() - tensors.keys()))
    extra = sorted(map(spelled, tensors.keys() - expected.keys()))
    if missing or extra:
        raise InputError(
            f"{name}: weights do not fit the network; missing {', '.join(missing[:3]) or 'none'}, "
            f"unexpected {', '.join(extra[:3]) or 'none'}: choose the network it was made with"
        )
    for key, tensor in tensors.items():
        if tensor.shape != expected[key].shape:
            raise InputError(
                f"{name}: {spelled(key)} has shape {tuple(tensor.shape)}, the network expects "
                f"{tuple(expected[key].shape)}: another size or scale of the network"
            )
    network.load_state_dict(dict(tensors))
