"""A model as one safetensors file, never a pickle: the weights, and a header that says the rest.

The header is JSON under the key ``emsr`` of the file's metadata. It alone rebuilds the network and
tells what it was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from emsr.errors import InputError
from emsr.files import replacing
from emsr.network.named import build

FORMAT = 1


@dataclass(frozen=True)
class Header:
    """What a model file says of itself. Spacings are (z, y, x) in nm, or None where unknown."""

    network: str
    network_options: dict[str, Any]
    scale: int
    lr_window: tuple[float, float]
    """Grey values of an LR image that are 0 and 1 in network units."""
    hr_window: tuple[float, float]
    dtype: str
    """Of the HR training data, and so of the SR output."""
    lr_spacing_nm: tuple[float, float, float] | None
    hr_spacing_nm: tuple[float, float, float] | None
    recipe: dict[str, Any] = field(default_factory=dict)
    trained_on: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], key: str, value: object) -> None:
    """One safetensors file with ``value`` as JSON under ``key``; written aside, then renamed."""
    metadata = {key: json.dumps(value, sort_keys=True)}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as partial:
        partial.write_bytes(save(plain, metadata))


def load_tensors(path: Path, key: str, what: str) -> tuple[dict[str, Tensor], Any]:
    """The tensors of a file that ``save_tensors`` wrote under ``key``, and its value."""
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
    return tensors, json.loads(metadata[key])


def save_model(path: Path, network: torch.nn.Module, header: Header) -> None:
    """Write the model file: weights and header."""
    save_tensors(path, network.state_dict(), "emsr", {"format": FORMAT, **asdict(header)})


def load_model(path: Path) -> tuple[Any, Header]:
    """The network, in evaluation mode on the CPU, and the header of a model file.

    Raises InputError when the file is missing, is not ours, or is of another format.
    """
    tensors, value = load_tensors(path, "emsr", "model file")
    if value.pop("format", None) != FORMAT:
        raise InputError(
            f"{path}: not model format {FORMAT}; train the model again, or update emsr"
        )
    try:
        header = TypeAdapter(Header).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: damaged header, {first['loc']}: {first['msg']}") from None
    network = build(header.network, header.scale, header.network_options)
    load_weights(network, tensors, str(path))
    return network.eval(), header


def load_weights(network: torch.nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Load ``tensors``, saying which are missing, extra or of another shape."""
    expected = network.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    extra = sorted(tensors.keys() - expected.keys())
    if missing or extra:
        raise InputError(
            f"{name}: weights do not fit the network; missing {missing[:3] or 'none'}, "
            f"unexpected {extra[:3] or 'none'}: choose the network it was made with"
        )
    for key, tensor in tensors.items():
        if tensor.shape != expected[key].shape:
            raise InputError(
                f"{name}: {key} has shape {tuple(tensor.shape)}, the network expects "
                f"{tuple(expected[key].shape)}: another size or scale of the network"
            )
    network.load_state_dict(dict(tensors))
