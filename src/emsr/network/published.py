"""The parameter names of the published EMSR code, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from emsr.errors import InputError

# Never reach the published network's output: 40,960 parameters at its default size.
_UNUSED = re.compile(
    r"conv_2\.weight|conv_before_upsample\..*"
    r"|BasicBlocks\.\d+\.(conv_5\.weight|att\.spatialConv\..*)"
)
_WHOLE = {
    "conv_1.weight": "head.weight",
    "conv_4.weight": "last.weight",
    "upsample_shuffle.0.weight": "reconstruct.weight",
}
_IN_BLOCK = {
    "conv_1": "to_hidden",
    "conv_2": "to_image",
    "conv_3": "from_edges",
    "conv_4": "out",
    "stageI": "stage1",
    "stageII_coarse": "coarse",
    "stageII_fine": "fine",
    "stageII_att": "attention",
    "att.norm1": "self_attention.norm1",
    "att.norm2": "self_attention.norm2",
    "att.attn.qkv": "self_attention.qkv",
    "att.attn.proj": "self_attention.proj",
    "att.mlp.net.0": "self_attention.mlp.0",
    "att.mlp.net.3": "self_attention.mlp.2",
}
_BLOCK = re.compile(r"BasicBlocks\.(\d+)\.(" + "|".join(map(re.escape, _IN_BLOCK)) + r")\.(.+)")
_OUR_WHOLE = {ours: theirs for theirs, ours in _WHOLE.items()}
_OUR_IN_BLOCK = {ours: theirs for theirs, ours in _IN_BLOCK.items()}
_OUR_BLOCK = re.compile(r"blocks\.(\d+)\.(" + "|".join(map(re.escape, _OUR_IN_BLOCK)) + r")\.(.+)")


def published_to_emsr(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published code's parameters under our names; those its output never uses are dropped.

    Names that are not the published code's are kept as they are, so that loading them into
    ``EMSR`` says which they are. InputError where two names are of one parameter.
    """
    used = [name for name in state_dict if not _UNUSED.fullmatch(name)]
    origin: dict[str, str] = {}
    for name in used:
        if (first := origin.setdefault(_ours(name), name)) != name:
            raise InputError(f"{first} and {name} are two names of one weight: remove one of them")
    return {_ours(name): state_dict[name] for name in used}


def published_name(name: str) -> str:
    """What the published code calls the parameter that we call ``name``."""
    if match := _OUR_BLOCK.fullmatch(name):
        return f"BasicBlocks.{match[1]}.{_OUR_IN_BLOCK[match[2]]}.{match[3]}"
    return _OUR_WHOLE.get(name, name)


def _ours(name: str) -> str:
    if match := _BLOCK.fullmatch(name):
        return f"blocks.{match[1]}.{_IN_BLOCK[match[2]]}.{match[3]}"
    return _WHOLE.get(name, name)
