"""Volumes of any size: is memory flat, time linear, writing quick, and do runs survive kills?

    python benchmarks/scale.py memory [--slices 8 80 800] [--side 1024]
    python benchmarks/scale.py writing [--slices 64] [--side 2048]
    python benchmarks/scale.py kills [--kills 50]
    python benchmarks/scale.py workers [--slices 8] [--side 512] [--network emsr-lean]
    python benchmarks/scale.py threads [--network emsr-tiny]

Each part makes its volume and its (untrained) model in a temporary folder, ``--folder`` says where.
memory: ``emsr upscale`` with bicubic x 2 over more and more slices; the peak resident set is to be
flat (5 %, at most 1.5 GiB) and the time in proportion. writing: the tiles' way to the disk without
a network, against zarr writing the same array in one call. kills: SIGKILL at random moments, in
turn to one process and to workers, until an output is finished; it must be the bytes of a run left
alone. workers: two of one thread against one of one thread. threads: whether the bytes depend on
the number of threads.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from emsr.geometry.box import whole
from emsr.jobs.bench import Bench, Task, Work
from emsr.jobs.execute import worked_off
from emsr.jobs.form import Form
from emsr.jobs.model import load
from emsr.network.checkpoint import Header, save_model
from emsr.network.named import build
from emsr.recipe import Upscaling
from emsr.volumes import omezarr
from emsr.volumes.source import open_volume
from emsr.volumes.tiff import write_tiff

LR_NM = (50.0, 30.0, 30.0)
PROGRAM = Path(sys.executable).with_name("emsr")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["memory", "writing", "kills", "workers", "threads"])
    parser.add_argument("--slices", type=int, nargs="+")
    parser.add_argument("--side", type=int)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--network", default="emsr-tiny")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        globals()[arguments.part](arguments, Path(folder))


def memory(arguments: argparse.Namespace, folder: Path) -> None:
    model = make_model(folder, "bicubic", 2)
    print("slices  SR voxels  peak RSS MiB  seconds  million voxels/s")
    for slices in arguments.slices or [8, 80, 800]:
        lr = make_volume(folder, slices, arguments.side or 1024)
        said = upscale(lr, model, folder / "sr.ome.zarr")
        rate = said["voxels"] / said["seconds"] / 1e6
        print(
            f"{slices:6d}  {said['voxels']:.2e}  {said['peak_memory_bytes'] / 2**20:12.0f}"
            f"  {said['seconds']:7.1f}  {rate:16.1f}",
            flush=True,
        )
        shutil.rmtree(folder / "sr.ome.zarr")


class _Passing(Bench):
    """A bench at which tiles are written as they were read."""

    def work(self, _: Task, values: Any) -> Any:
        lr, read = values
        return (lr, 0), read


def writing(arguments: argparse.Namespace, folder: Path) -> None:
    lr = make_volume(folder, (arguments.slices or [64])[0], arguments.side or 2048)
    volume = open_volume(lr)
    model = load(make_model(folder, "bicubic", 1), "cpu")
    store, upscaling = folder / "tiles.zarr", Upscaling(halo_px=0)
    work = Work(
        lr=str(lr),
        spacing_nm=None,
        level=0,
        model="",
        device="cpu",
        precision="float32",
        upscaling=upscaling,
        form=Form(),
        threads=None,
        store=str(store),
        notes=str(folder),
        token="",
        untouched=None,
    )
    bench = _Passing(work, volume, model)
    values = volume.read(whole(volume.shape))
    for _ in range(2):
        for path in (store, folder / "call.zarr"):
            shutil.rmtree(path, ignore_errors=True)
            layout = (volume.shape, volume.dtype, None, bench.chunk, bench.chunk, {})
            omezarr.create(path, *layout, coarsest_px=10**6)
        began = time.monotonic()
        for _ in worked_off(bench, (Task("tile", n) for n in range(len(bench.plan)))):
            pass
        tiles = time.monotonic() - began
        array = zarr.open_array(str(folder / "call.zarr" / "0"), mode="r+")
        began = time.monotonic()
        array[:] = values
        call = time.monotonic() - began
        print(
            f"tile by tile {values.nbytes / tiles / 1e6:.0f} MB/s, zarr in one call "
            f"{values.nbytes / call / 1e6:.0f} MB/s, ratio {call / tiles:.2f}",
            flush=True,
        )


def kills(arguments: argparse.Namespace, folder: Path) -> None:
    model, side = make_model(folder, arguments.network, 3), arguments.side or 256
    lr = make_volume(folder, (arguments.slices or [4])[0], side)
    recipe = folder / "recipe.toml"
    recipe.write_text("[upscaling]\ntile_px = [1, 32, 32]\n")
    ways = {"serial": ["--threads", "1"], "workers": ["--workers", "2", "--threads", "1"]}
    out, seconds = folder / "sr.ome.zarr", {}
    for name, way in ways.items():
        began = time.monotonic()
        upscale(lr, model, out, "--recipe", recipe, *way)
        seconds[name], expected = time.monotonic() - began, tree(out)
        shutil.rmtree(out)
    rng, finished = random.Random(0), 0
    for number in range(arguments.kills):
        name = list(ways)[number % 2]
        line = command(lr, model, out, "--recipe", recipe, *ways[name])
        process = subprocess.Popen([*map(str, line)], stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, seconds[name]))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if looks_finished(out):
            assert tree(out) == expected, f"kill {number}: finished, but with other bytes"
            shutil.rmtree(out)
            finished += 1
    upscale(lr, model, out, "--recipe", recipe, *ways["serial"])
    assert tree(out) == expected, "other bytes after the kills"
    left = sorted(p.name for p in folder.iterdir() if "sr.ome" in p.name)
    print(f"{arguments.kills} kills, {finished + 1} outputs finished, all the same bytes; {left}")


def workers(arguments: argparse.Namespace, folder: Path) -> None:
    model, side = make_model(folder, arguments.network, 3), arguments.side or 512
    lr, recipe = make_volume(folder, (arguments.slices or [8])[0], side), folder / "recipe.toml"
    recipe.write_text("[upscaling]\ntile_px = [1, 128, 128]\n")
    seconds = {}
    for count in (1, 2, 1, 2):
        way = ("--workers", count, "--threads", 1, "--recipe", recipe)
        said = upscale(lr, model, folder / "sr.ome.zarr", *way)
        seconds[count] = min(said["seconds"], seconds.get(count, np.inf))
        shutil.rmtree(folder / "sr.ome.zarr")
    ratio = seconds[1] / seconds[2]
    print(f"1 worker {seconds[1]:.1f} s, 2 workers {seconds[2]:.1f} s: {ratio:.2f} times as quick")


def threads(arguments: argparse.Namespace, folder: Path) -> None:
    model, trees = make_model(folder, arguments.network, 3), []
    lr = make_volume(folder, 1, arguments.side or 256)
    for count in (1, 2):
        upscale(lr, model, folder / "sr.ome.zarr", "--threads", count)
        trees.append(zarr.open_array(str(folder / "sr.ome.zarr" / "0"), mode="r")[:].astype(int))
        shutil.rmtree(folder / "sr.ome.zarr")
    other = np.count_nonzero(trees[0] != trees[1])
    most = abs(trees[0] - trees[1]).max()
    print(f"1 and 2 threads: {other} of {trees[0].size} voxels differ, by {most} at most")


def make_volume(folder: Path, slices: int, side: int) -> Path:
    """Smooth tissue-like greys with noise, so that it compresses as images do."""
    rng, path = np.random.default_rng(0), folder / "lr.tif"
    y, x = np.mgrid[:side, :side]
    tissue = 120 + 60 * np.sin(x / 9) * np.cos(y / 13)
    noise = rng.normal(0, 5, (8, side, side))
    planes = ((tissue + noise[z % 8]).astype(np.uint8) for z in range(slices))
    write_tiff(path, planes, (slices, side, side), "uint8", LR_NM)
    return path


def make_model(folder: Path, network: str, scale: int) -> Path:
    torch.manual_seed(0)
    window, path = (0.0, 255.0), folder / "model.safetensors"
    header = Header(network, {}, scale, window, window, "uint8", LR_NM, None)
    save_model(path, build(network, scale, {}), header)
    return path


def command(lr: Path, model: Path, out: Path, *more: object) -> tuple:
    return (PROGRAM, "upscale", lr, "--model", model, "--out", out, "--quiet", *more)


def upscale(lr: Path, model: Path, out: Path, *more: object) -> dict:
    line = [*map(str, command(lr, model, out, "--json", *more))]
    return json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE).stdout)


def tree(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def looks_finished(path: Path) -> bool:
    root = path / "zarr.json"
    return root.is_file() and "ome" in json.loads(root.read_text())["attributes"]


if __name__ == "__main__":
    main()
