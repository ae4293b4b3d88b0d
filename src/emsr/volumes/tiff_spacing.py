"""The voxel spacing that a TIFF states, axis by axis; None where it states none."""

from __future__ import annotations

from xml.etree import ElementTree

import tifffile

from emsr.volumes.spacing import Stated, to_nm


def stated_nm(tif: tifffile.TiffFile) -> Stated:
    """(z, y, x) in nm as OME or ImageJ metadata state it; plain resolution tags are not believed:
    they mostly hold the 72 dpi of some screen."""
    if tif.is_ome:
        return _stated_by_ome(tif.ome_metadata or "")
    if tif.is_imagej:
        return _stated_by_imagej(tif)
    return None, None, None


def not_positive(tif: tifffile.TiffFile, name: str) -> tuple[str, ...]:
    """What is to be said of sizes that OME or ImageJ metadata state, but that are none."""
    pixels = _pixels(tif.ome_metadata or "") if tif.is_ome else None
    sizes = {axis: pixels.get(f"PhysicalSize{axis}") for axis in "ZYX"} if pixels else {}
    if tif.is_imagej:
        sizes = {"Z": (tif.imagej_metadata or {}).get("spacing")}
    return tuple(
        f"{name} states a spacing of {size} along {axis.lower()}, not a positive length: "
        "taken as unknown"
        for axis, size in sizes.items()
        if size is not None and not float(size) > 0
    )


def _pixels(xml: str) -> dict[str, str] | None:
    """The attributes of the first image's Pixels."""
    pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    return None if pixels is None else dict(pixels.attrib)


def _stated_by_ome(xml: str) -> Stated:
    """PhysicalSize of the first image; the schema's default unit is µm."""
    pixels = _pixels(xml)
    if pixels is None:
        return None, None, None

    def size(axis: str) -> float | None:
        value = pixels.get(f"PhysicalSize{axis}")
        unit = pixels.get(f"PhysicalSize{axis}Unit", "µm")
        return to_nm(float(value), unit) if value else None

    return size("Z"), size("Y"), size("X")


def _stated_by_imagej(tif: tifffile.TiffFile) -> Stated:
    """ImageJ writes pixels per unit in the resolution tags, and the z step as ``spacing``."""
    metadata = tif.imagej_metadata or {}
    unit = str(metadata.get("unit", "")).replace("\\u00B5", "µ")
    tags = tif.pages.first.tags

    def size(tag: str) -> float | None:
        numerator, denominator = tags[tag].value if tag in tags else (0, 0)
        return to_nm(denominator / numerator, unit) if numerator and denominator else None

    return (
        to_nm(metadata.get("spacing"), unit),
        size("YResolution"),
        size("XResolution"),
    )
