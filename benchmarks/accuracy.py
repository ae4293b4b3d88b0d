"""What bf16 and tiles cost in accuracy: ``emsr upscale`` against float32 over the whole image.

    python benchmarks/accuracy.py --case NAME MODEL LR [TRUTH] [--case ...] --out FILE.jsonl

For each case one slice of LR is upscaled by the command (tiles of ``--tile`` LR pixels, in bf16 and
in float32, unrounded greys) and by the plain network of the model file over the whole slice at
once, in float32. Differences are in grey levels of 255 (the HR window is 255 of them). Goals: mean
at most 0.25, 99.9th percentile at most 1.5, PSNR against the truth within 0.02 dB, no seams, no
banding. Cases whose line is in ``--out`` are not done again; the table is of all of them.

Seams (``seams``): the error beside the borders of tiles and its steps across them, over those
inside, at positions that the network cannot tell from borders. In brackets the standard errors by
which borders stand out, bold from three on, and the size there in grey levels. Banding: the slice,
smoothed, as 16 bits: distinct greys of the output, over those of the whole slice in float32.
A model that kept its start is refused: its SR is the interpolation, whatever the precision.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from scale import command
from scipy.ndimage import gaussian_filter
from seams import Seam, seams

from emsr.errors import InputError
from emsr.geometry.box import Box
from emsr.network.checkpoint import Header, load_model, save_model
from emsr.quality.fidelity import psnr
from emsr.volumes.intensity import Intensity
from emsr.volumes.source import open_volume
from emsr.volumes.tiff import write_tiff

PRECISIONS = ("bf16", "float32")
GREY, DEEP = 255.0, 65535.0
SMOOTH_PX, SMOOTH_SIDE = 6.0, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", action="append", required=True)
    parser.add_argument("--slice", type=int, help="default: the middle one")
    parser.add_argument("--side", type=int, default=384, help="LR pixels to look at, at most")
    parser.add_argument("--tile", type=int, default=64, help="LR pixels along a tile's side")
    parser.add_argument("--halo", type=int, help="LR pixels around it; default: the network's")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for name, *paths in arguments.case:
        if len(paths) not in (2, 3):
            parser.error(f"--case {name}: expected NAME MODEL LR [TRUTH]")
        if not any(row["case"] == name for row in rows(arguments.out)):
            model, lr, *truth = map(Path, paths)
            try:
                found = measured(model, lr, truth[0] if truth else None, arguments)
            except InputError as error:
                parser.error(str(error))
            with arguments.out.open("a") as file:
                file.write(json.dumps({"case": name, **found}) + "\n")
    print(table(rows(arguments.out)))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measured(
    model: Path, lr: Path, truth: Path | None, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The figures of one case."""
    z, side = arguments.slice, arguments.side
    image = plane(lr, z, side)
    network, header = load_model(model)
    refuse_start(network, model)
    whole = whole_image(network, header, image)
    reference = None if truth is None else plane(truth, z, side * header.scale)
    step = header.scale * network.multiple
    cut = (arguments.tile, arguments.halo)
    found: dict[str, Any] = {"network": header.network, "shape": image.shape}
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            sr = tiled(Path(folder), model, header, image, precision, *cut)
            error = (sr - whole) * GREY / width(header.hr_window)
            found[precision] = compared(error, arguments.tile * header.scale, step)
            if reference is not None:
                span = width(header.hr_window)
                found[precision]["db"] = psnr(sr, reference, span) - psnr(whole, reference, span)
            found[precision]["levels"] = levels(Path(folder), model, image, precision)
    return found


def refuse_start(network: Any, model: Path) -> None:
    """InputError for a network that kept its start: its SR is the interpolation, in which bf16 has
    no part, so it would meet every goal and show nothing."""
    last = getattr(network, "last", None)
    if last is not None and not last.weight.any():
        raise InputError(
            f"{model}: its last layer is zero, so its SR is the interpolated LR and says nothing "
            "of bf16: give a model that learned"
        )


def compared(error: np.ndarray, period: int, step: int) -> dict[str, Any]:
    """Of differences ``(y, x)`` in grey levels, with tile borders every ``period`` SR pixels."""
    size = np.abs(error)
    return {
        "mean": float(size.mean()),
        "p999": float(np.percentile(size, 99.9)),
        "largest": float(size.max()),
        "bias": float(error.mean()),
        "seams": [asdict(one) for one in seams(error, period, step)],
    }


def plane(path: Path, z: int | None, side: int) -> np.ndarray:
    """Slice ``z`` (None: the middle one), its corner of at most ``side`` pixels."""
    volume = open_volume(path)
    z = volume.shape[0] // 2 if z is None else z
    y, x = (min(n, side) for n in volume.shape[1:])
    return volume.read(Box((z, 0, 0), (z + 1, y, x)))[0]


def whole_image(network: Any, header: Header, lr: np.ndarray) -> np.ndarray:
    """Unrounded greys ``(y, x)`` of the plain network over the whole image, in float32."""
    unit = torch.from_numpy(Intensity(*header.lr_window).to_unit(lr))[None, None]
    with torch.inference_mode():
        sr = network(unit.expand(1, getattr(network, "slices", 1), -1, -1))[0, 0].numpy()
    return Intensity(*header.hr_window).to_grey(sr, "float64")[0]


def tiled(
    folder: Path,
    model: Path,
    header: Header,
    lr: np.ndarray,
    precision: str,
    tile: int,
    halo: int | None = None,
) -> np.ndarray:
    """The same from the command, in tiles."""
    image, recipe, out = folder / "lr.tif", folder / "recipe.toml", folder / "sr.ome.zarr"
    write_tiff(image, lr[None], (1, *lr.shape), lr.dtype, header.lr_spacing_nm)
    around = "" if halo is None else f"halo_px = {halo}\n"
    recipe.write_text(f"[upscaling]\ntile_px = [1, {tile}, {tile}]\n{around}")
    more = ("--recipe", recipe, "--dtype", "float32", "--precision", precision, "--overwrite")
    subprocess.run([*map(str, command(image, model, out, *more))], check=True)
    return np.asarray(zarr.open_array(str(out / "0"), mode="r")[0], dtype=np.float64)


def levels(folder: Path, model: Path, lr: np.ndarray, precision: str) -> float:
    """Distinct 16-bit greys of a smooth image's SR, over those of the whole image in float32."""
    network, header = load_model(model)
    deep = replace(header, dtype="uint16", lr_window=(0.0, DEEP), hr_window=(0.0, DEEP))
    save_model(folder / "deep.safetensors", network, deep)
    smooth = gaussian_filter(Intensity(*header.lr_window).to_unit(lr), SMOOTH_PX)
    smooth = (smooth[:SMOOTH_SIDE, :SMOOTH_SIDE].clip(0, 1) * DEEP).round().astype(np.uint16)
    there = tiled(folder, folder / "deep.safetensors", deep, smooth, precision, SMOOTH_SIDE // 2)
    whole = whole_image(network, deep, smooth)
    return len(np.unique(there.round())) / len(np.unique(whole.round()))


def width(window: tuple[float, float]) -> float:
    return window[1] - window[0]


def table(found: list[dict[str, Any]]) -> str:
    """Markdown; what misses a goal is in bold."""
    lines = [
        "| case | network | LR px | precision | mean | 99.9 % | largest | dB | seams: error, "
        "steps | 16-bit levels |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in found:
        for precision in PRECISIONS:
            one, shape = row[precision], " x ".join(map(str, row["shape"]))
            cells = [row["case"], row["network"], shape, precision, *_told(one)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _told(one: dict[str, Any]) -> list[str]:
    db = one.get("db")
    borders = [Seam(**seam) for seam in one["seams"]]
    return [
        _marked(f"{one['mean']:.4f}", one["mean"] <= 0.25),
        _marked(f"{one['p999']:.3f}", one["p999"] <= 1.5),
        f"{one['largest']:.2f}",
        "" if db is None else _marked(f"{db:+.4f}", abs(db) <= 0.02),
        ", ".join(_marked(_seam(s), not s.found) for s in borders),
        _marked(f"{one['levels']:.3f}", one["levels"] >= 0.95),
    ]


def _seam(one: Seam) -> str:
    return f"{one.ratio:.2f} ({one.errors:+.1f}; {one.at_borders:.2g})"


def _marked(text: str, good: bool) -> str:
    return text if good else f"**{text}**"


if __name__ == "__main__":
    main()
