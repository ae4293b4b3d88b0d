"""PNG images of one grey channel, 8 or 16 bits deep. Refuses colour and transparency."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np

from emsr.errors import InputError
from emsr.files import replacing

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _GREY_ALPHA = 0, 4
_COLOURS = {2: "RGB", 3: "palette", 6: "RGBA"}


@dataclass(frozen=True)
class PngHeader:
    """What the first bytes of a PNG say."""

    shape: tuple[int, int]
    dtype: np.dtype
    alpha: bool


def read_png_header(path: Path) -> PngHeader:
    """Shape (y, x) and dtype without decoding; InputError for anything but grey values."""
    with path.open("rb") as file:
        head = file.read(26)
    if len(head) < 26 or not head.startswith(_SIGNATURE) or head[12:16] != b"IHDR":
        raise InputError(f"{path} is not a PNG, or a truncated one: copy or export it again")
    width, height, bits, colour = struct.unpack(">IIBB", head[16:26])
    if colour not in (_GREY, _GREY_ALPHA):
        raise InputError(
            f"{path} is a colour PNG ({_COLOURS.get(colour, colour)}, {height} x {width}): "
            "expected one grey channel; convert it"
        )
    if bits not in (8, 16):
        raise InputError(
            f"{path} has {bits} bits per pixel: expected 8 or 16 grey bits; convert it"
        )
    return PngHeader((height, width), np.dtype(f"uint{bits}"), colour == _GREY_ALPHA)


def write_png(path: Path, image: np.ndarray) -> None:
    """``image`` (y, x), 8 or 16 bits, as a PNG that is there whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(image)))


def decode_png(path: Path) -> np.ndarray:
    """The (y, x) grey values; an alpha channel must be opaque everywhere, and is dropped."""
    image = imagecodecs.png_decode(path.read_bytes())
    if image.ndim == 2:
        return image
    if image.shape[2] != 2 or (image[..., 1] != np.iinfo(image.dtype).max).any():
        raise InputError(
            f"{path} has a transparency channel that is not opaque everywhere: "
            "expected one grey channel; convert it"
        )
    return np.ascontiguousarray(image[..., 0])
