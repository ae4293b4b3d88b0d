"""A truncated TIFF, told from a whole one before any grey value is used.

Parsers forgive: a file cut short loses pages, or its description, without a word. Sizes and
offsets are compared with the file's length instead.
"""

from __future__ import annotations

import struct

import tifffile

from emsr.errors import InputError

_DESCRIPTION = 270  # the tag that holds OME and ImageJ metadata


def refuse_broken_chain(tif: tifffile.TiffFile, name: str) -> None:
    """The last page directory must say that it is the last: a cut file loses pages silently."""
    if len(tif.pages) == 0:
        raise InputError(f"{name} holds no image: the TIFF is empty or truncated")
    tif.filehandle.seek(tif.pages.next_page_offset or 0)
    next_offset = tif.filehandle.read(tif.tiff.offsetsize)
    if len(next_offset) < tif.tiff.offsetsize or any(next_offset):
        raise _truncated(name, f"the directory after page {len(tif.pages)} lies beyond its end")


def refuse_lost_description(tif: tifffile.TiffFile, name: str) -> None:
    """A description beyond the file's end is dropped in silence, and axes and spacing with it."""
    tiff, page, file = tif.tiff, tif.pages.first, tif.filehandle
    file.seek(page.offset)
    (count,) = struct.unpack(tiff.tagnoformat, file.read(tiff.tagnosize))
    entries = file.read(count * tiff.tagsize)
    starts = range(0, len(entries), tiff.tagsize)
    codes = {struct.unpack_from(tiff.byteorder + "H", entries, start)[0] for start in starts}
    if _DESCRIPTION in codes and _DESCRIPTION not in page.tags:
        raise _truncated(name, "its image description lies beyond its end")


def refuse_missing_pages(
    tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, name: str
) -> None:
    size = tif.filehandle.size
    if series.dataoffset is not None:
        end = series.dataoffset + series.nbytes
        if end > size:
            raise _truncated(name, f"has {size} bytes, its grey values end at {end}")
        return
    for number, page in enumerate(series.pages):
        if page is None or not page.dataoffsets:
            raise _truncated(name, f"page {number} is missing")
        end = max(a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=True))
        if end > size:
            raise _truncated(name, f"has {size} bytes, page {number} ends at {end}")


def _truncated(name: str, fact: str) -> InputError:
    return InputError(f"{name} is a truncated TIFF: {fact}; copy or export it again")
