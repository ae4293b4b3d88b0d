"""Scores as one page for people who would rather look than read.

Knows a scores dict (what ``emsr evaluate`` writes) and the slice to show. Computes no score: what
stands on the page stands in scores.json. The page is one file, it loads nothing from elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from emsr.quality.curves import drawing
from emsr.quality.page import template
from emsr.quality.pictures import (
    Corner,
    Size,
    cut,
    grey_uri,
    heat_uri,
    most_structured,
    scale_bar,
    widened,
)

CROP_PX = 360
ZOOM_PX = 96


@dataclass(frozen=True)
class Slice:
    """One slice of everything that was compared, ``(y, x)`` each, in the reference's grey levels.

    ``lr`` is given on the HR grid already, each pixel repeated; what was not given is None.
    """

    z: int
    sr: np.ndarray
    reference: np.ndarray
    lr: np.ndarray | None = None
    bicubic: np.ndarray | None = None
    truth: np.ndarray | None = None
    scale: int = 1

    def named(self) -> list[tuple[str, np.ndarray]]:
        """The panels of a row, from left to right."""
        panels = [
            ("LR", self.lr),
            ("bicubic", self.bicubic),
            ("SR", self.sr),
            ("reference", self.reference),
            ("truth", self.truth),
        ]
        return [(name, plane) for name, plane in panels if plane is not None]


def report_html(scores: dict[str, Any], shown: Slice) -> str:
    """The page as text; the same scores and slice give the same bytes."""
    return template("report.html.j2").render(
        scores=scores,
        sentences=_sentences(scores),
        table=_table(scores),
        notes=_notes(scores),
        frc=drawing(_curves(scores), shown.scale if shown.lr is not None else None),
        z=shown.z,
        **_views(shown, _pixel_nm(scores)),
    )


def _views(shown: Slice, pixel_nm: float | None) -> dict[str, Any]:
    """Rows of pictures: the crop, the zoom, and the error maps of the crop."""
    height, width = shown.reference.shape
    shape = (height, width)
    zoom_size, crop_size = (_fitted(side, shape, shown.scale) for side in (ZOOM_PX, CROP_PX))
    zoom = most_structured(shown.reference, zoom_size, shown.scale)
    crop = widened(zoom, zoom_size, crop_size, shape, shown.scale)
    low, high = _window(cut(shown.reference, crop, crop_size))

    def row(corner: Corner, size: Size) -> dict[str, Any]:
        share, label = scale_bar(size[1], pixel_nm)
        panels = [(name, grey_uri(cut(p, corner, size), low, high)) for name, p in shown.named()]
        return {"panels": panels, "bar": 100 * share, "bar_label": label, "corner": corner}

    return {
        "crop": row(crop, crop_size),
        "zoom": row(zoom, zoom_size),
        "zoom_frame": [
            100 * (zoom[1] - crop[1]) / crop_size[1],
            100 * (zoom[0] - crop[0]) / crop_size[0],
            100 * zoom_size[1] / crop_size[1],
            100 * zoom_size[0] / crop_size[0],
        ],
        "window": (low, high),
        "errors": _errors(shown, crop, crop_size),
        "columns": len(shown.named()),
    }


def _errors(shown: Slice, corner: Corner, size: Size) -> list[dict[str, Any]]:
    """|image - target| in the crop, and per target the one top of the scale of its two maps."""
    images = [("bicubic", shown.bicubic), ("SR", shown.sr)]
    maps = []
    for target, plane in (("reference", shown.reference), ("truth", shown.truth)):
        if plane is None:
            continue
        errors = {
            f"|{name} − {target}|": np.abs(cut(image, corner, size) - cut(plane, corner, size))
            for name, image in images
            if image is not None
        }
        worst = float(np.percentile(np.stack(list(errors.values())), 99.5)) or 1.0
        panels = [(name, heat_uri(error, worst)) for name, error in errors.items()]
        maps.append({"target": target, "worst": worst, "panels": panels})
    return maps


def _curves(scores: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    curves = [("SR", "sr", scores)]
    if "bicubic" in scores:
        curves.append(("bicubic", "bicubic", scores["bicubic"]))
    if "truth" in scores:
        curves.append(("SR to truth", "sr dashed", scores["truth"]))
        if "bicubic" in scores:
            curves.append(("bicubic to truth", "bicubic dashed", scores["bicubic"]["truth"]))
    return curves


def _sentences(scores: dict[str, Any]) -> list[str]:
    """What was compared, how close, how fine: three sentences."""
    slices, height, width = scores["shape"]
    pixel_nm = _pixel_nm(scores)
    size = "of unknown size" if pixel_nm is None else f"of {pixel_nm:g} nm"
    names = {key: PurePath(path).name for key, path in scores["inputs"].items()}
    compared = (
        f"{names['sr']} was compared with {names['reference']}: {slices} "
        f"{'slice' if slices == 1 else 'slices'} of {height} × {width} pixels {size}."
    )
    return [compared, _closeness(scores), _fineness(scores)]


def _closeness(scores: dict[str, Any]) -> str:
    own, bicubic = scores["psnr"], scores.get("bicubic", {})
    if own is None:
        return "SR and reference are identical, so PSNR is infinite."
    text = f"PSNR of SR against the noisy reference is {own:.2f} dB"
    if bicubic.get("psnr") is not None:
        text += f", {own - bicubic['psnr']:+.2f} dB relative to bicubic".replace("-", "−")
    known, score, other = "the clean image, which nobody has seen,", scores["clean_psnr"], bicubic
    about, key = "about ", "clean_psnr"
    if "truth" in scores:
        known, about, key = "the truth", "", "psnr"
        score, other = scores["truth"]["psnr"], bicubic.get("truth", {})
    if score is not None:
        text += f"; against {known} {about}{score:.1f} dB"
        if other.get(key) is not None:
            text += f" (bicubic {other[key]:.1f} dB)"
    return text + "."


def _fineness(scores: dict[str, Any]) -> str:
    def detail(name: str, of: dict[str, Any]) -> str:
        nm = of["frc_resolution_nm"]
        if nm is None:
            return f"no resolution of {name} ({of['reason']['frc_resolution_nm']})"
        return f"{name} agrees with the reference down to details of {nm:.3g} nm"

    parts = [detail("SR", scores)]
    if "bicubic" in scores:
        parts.append(detail("bicubic", scores["bicubic"]).replace("agrees with the reference ", ""))
    text = ", ".join(parts) + "."
    return text[0].upper() + text[1:]


def _table(scores: dict[str, Any]) -> list[dict[str, str]]:
    """Rows of formatted scores: name, SR, bicubic, against what; `_notes` has what is null."""
    against, bicubic = scores["against"], scores.get("bicubic")
    rows = [
        ("PSNR, dB", "psnr", ".2f", scores, bicubic),
        ("SSIM", "ssim", ".4f", scores, bicubic),
        ("FRC resolution, nm", "frc_resolution_nm", ".3g", scores, bicubic),
        ("PSNR, dB (estimate)", "clean_psnr", ".2f", scores, bicubic),
        ("SSIM (estimate)", "clean_ssim", ".4f", scores, bicubic),
        ("FRC resolution, nm (estimate)", "clean_frc_resolution_nm", ".3g", scores, bicubic),
    ]
    if "truth" in scores:
        other = bicubic and bicubic["truth"]
        rows += [(name, key, form, scores["truth"], other) for name, key, form, _, _ in rows[:3]]
    return [
        {
            "name": name,
            "sr": _cell(own, key, form),
            "bicubic": _cell(other, key, form) if other else "",
            "against": against["truth" if own is scores.get("truth") else key],
        }
        for name, key, form, own, other in rows
        if own[key] is not None or (other and other[key] is not None)
    ]


def _cell(scores: dict[str, Any], key: str, form: str) -> str:
    if scores[key] is None:
        return "–"
    text = format(scores[key], form)
    if key in ("clean_psnr", "clean_ssim") and scores[f"{key}_interval"]:
        low, high = scores[f"{key}_interval"]
        text += f" ({low:{form}} to {'∞' if high is None else format(high, form)})"
    return text


def _notes(scores: dict[str, Any]) -> list[str]:
    """Why a cell is empty, once each."""
    parts = [("", scores), ("bicubic ", scores.get("bicubic")), ("truth ", scores.get("truth"))]
    shown = {
        "psnr": "PSNR",
        "frc_resolution_nm": "FRC resolution",
        "clean_psnr": "PSNR against the clean image",
        "clean_ssim": "SSIM against the clean image",
        "clean_frc_resolution_nm": "FRC resolution against the clean image",
    }
    notes = [
        f"No {prefix}{name}: {part['reason'][key]}."
        for prefix, part in parts
        if part
        for key, name in shown.items()
        if key in part["reason"]
    ]
    seen = {note.split(": ", 1)[1]: note for note in reversed(notes)}
    return list(reversed(seen.values()))


def _window(plane: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(plane, [0.5, 99.5])
    return float(low), float(high if high > low else low + 1)


def _fitted(side: int, shape: Size, scale: int) -> Size:
    """At most ``side`` pixels along y and x, whole LR pixels, inside ``shape``."""
    height, width = (min(side, n) // scale * scale for n in shape)
    return height, width


def _pixel_nm(scores: dict[str, Any]) -> float | None:
    """The pixel size the FRC was given; None where unknown or not square."""
    frc = scores["frc"]
    if frc["frequency_per_nm"] is None:
        return None
    return float(frc["frequency_per_px"][-1] / frc["frequency_per_nm"][-1])
