"""The way of tiles over a GPU. What needs nothing of CUDA runs on a CPU, by the same code; the rest
is marked ``cuda`` and skipped where there is none."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from route import emsr
from torch import nn

from emsr.errors import InputError
from emsr.geometry.box import Box
from emsr.jobs import execute, memory, on_gpu
from emsr.jobs.bench import Task
from emsr.jobs.execute import nth_device, overlapped, side_by_side
from emsr.jobs.lanes import Lanes, lanes
from emsr.jobs.model import Model
from emsr.network import blocks
from emsr.network.blocks import WindowAttention
from emsr.network.checkpoint import Header, save_model
from emsr.network.named import build
from emsr.network.quick import quick
from emsr.recipe import Upscaling
from emsr.volumes.intensity import Intensity
from emsr.volumes.intensity_gpu import grey_of, tensor_of, unit_of
from emsr.volumes.volume import array_volume

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32")
SMALL = {
    "emsr": {"features": 16, "heads": 4, "blocks": 1, "residuals": 1, "refinements": 1},
    "emsr-lean": {"features": 16, "blocks": 2},
}
KINDS = ("seen", "tile", "coarser")
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def model_of(name="emsr-lean", dtype="uint16", slices=1, device="cpu", precision="float32"):
    torch.manual_seed(0)
    network = build(name, 2, SMALL[name] | {"slices": slices})
    nn.init.normal_(network.last.weight, std=0.05)
    limits = (0.0, 1.0) if dtype == "float32" else (0.0, 0.7 * np.iinfo(dtype).max)
    header = Header(name, SMALL[name], 2, (100.0, 900.0), limits, dtype, None, None)
    network = quick(network, precision).to(device).to(memory_format=torch.channels_last)
    return Model(network, header, torch.device(device), precision)


def scan(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 1000, shape).astype(np.uint16)


def over_gpu(model, lr, crop, at_once):
    """As ``Model`` has it done on a GPU, on whatever device it is."""
    header = model.header
    greys = on_gpu.Greys(Intensity(*header.lr_window), Intensity(*header.hr_window), header.dtype)
    there = on_gpu.load(lr, model.device)
    return on_gpu.end(on_gpu.begin(model.forward, there, crop, greys, model.slices, at_once))


# --- greys --------------------------------------------------------------------------------------


@given(
    dtype=st.sampled_from(DTYPES),
    big_endian=st.booleans(),
    low=st.floats(-1e4, 1e4),
    width=st.floats(1e-3, 1e5),
    seed=st.integers(0, 99),
)
def test_greys_of_tensors_are_those_of_arrays_to_the_bit(dtype, big_endian, low, width, seed):
    window, rng = Intensity(low, low + width), np.random.default_rng(seed)
    grey = (rng.standard_normal((2, 3, 5)) * 100).astype(dtype)
    stored = grey.astype(np.dtype(dtype).newbyteorder(">")) if big_endian else grey
    unit = window.to_unit(grey)
    assert np.array_equal(unit_of(window, tensor_of(stored)).numpy(), unit)
    wild = (rng.standard_normal((4, 50)) * 3).astype(np.float32)
    expected, clipped = window.to_grey(wild, dtype)
    there, counts = grey_of(window, torch.from_numpy(wild), dtype)
    assert there.numpy().dtype == expected.dtype
    assert np.array_equal(there.numpy(), expected)
    assert counts.tolist() == [clipped, 0]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_nan_is_counted_where_the_greys_are_made_and_refused_where_they_arrive(dtype):
    unit = torch.tensor([[0.5, float("nan")], [2.0, float("nan")]])
    grey, counts = grey_of(Intensity(0, 255), unit, dtype)
    assert counts[1] == 2
    with pytest.raises(InputError, match="2 of 4 grey values are NaN"):
        on_gpu.end(on_gpu.Begun(grey, counts[None], None))


# --- tiles --------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(list(SMALL)),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    slices=st.sampled_from([1, 3]),
    depth=st.integers(1, 5),
    at_once=st.integers(1, 5),
    data=st.data(),
)
def test_a_tile_in_batches_is_the_tile_slice_by_slice(name, dtype, slices, depth, at_once, data):
    model, lr = model_of(name, dtype, slices), scan((depth, 16, 12))
    volume = array_volume(lr, None, "lr")
    tiles = model.plan(volume, Upscaling(tile_px=(data.draw(st.integers(1, depth)), 8, 8)))
    tile = tiles[data.draw(st.integers(0, len(tiles) - 1))]
    read = model.read(volume, tile)
    expected, clipped = model.enlarge(read, tile)
    found, lost = over_gpu(model, read, tile.crop, at_once)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    # A batch may be summed in another order: a grey level where the rounding is on the edge.
    step = 1e-5 if dtype == "float32" else 1
    assert np.abs(found.astype(np.float64) - expected).max() <= step
    assert (found != expected).mean() < (1 if dtype == "float32" else 0.01)
    assert abs(lost - clipped) <= 2


def test_each_slice_goes_where_it_belongs():
    """A network that gives back what it is shown: a slice, a row or a column that is mistaken for
    another shows in its number."""
    z, y, x = np.indices((5, 8, 8))
    lr = (10_000 * z + 100 * y + x).astype(np.int32)
    greys = on_gpu.Greys(Intensity(0, 1), Intensity(0, 1), "int32")
    crop = Box((1, 2, 3), (4, 7, 8))
    for channel in range(3):
        for at_once in (1, 2, 9):
            begun = on_gpu.begin(
                lambda lr, k=channel: lr[:, k : k + 1],
                torch.from_numpy(lr),
                crop,
                greys,
                3,
                at_once,
            )
            found, _ = on_gpu.end(begun)
            assert np.array_equal(found, lr[channel : channel + 3, 2:7, 3:8])


class LeavesOnTheCpu(nn.Module):
    def forward(self, lr):
        return lr * torch.ones(lr.shape)


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_network_leaves_nothing_on_the_cpu(name, precision):
    """Shapes and devices alone, on torch's device without numbers: a tensor that is made on the CPU
    by mistake is an error there, as on a GPU."""
    lr = torch.empty(4, 1, 24, 20, device="meta")
    with torch.inference_mode():
        sr = model_of(name, precision=precision).network.to("meta")(lr)
        assert (sr.device.type, tuple(sr.shape)) == ("meta", (4, 1, 48, 40))
        with pytest.raises(RuntimeError, match="device"):
            LeavesOnTheCpu()(lr)


def test_no_kernel_is_launched_over_more_windows_than_cuda_takes(monkeypatch):
    torch.manual_seed(0)
    attention, x = WindowAttention(8, 2, 4), torch.randn(2, 8, 12, 20)
    seen = []
    mix = WindowAttention._mix
    monkeypatch.setattr(
        WindowAttention, "_mix", lambda own, tokens: (seen.append(len(tokens)), mix(own, tokens))[1]
    )
    whole = attention(x)
    monkeypatch.setattr(blocks, "LAUNCHED_WINDOWS", 7)
    parts = attention(x)
    assert seen == [30, 7, 7, 7, 7, 2]
    assert torch.allclose(whole, parts, atol=1e-6)
    whole.sum().backward()  # also with gradients, where the batch is large
    assert blocks.LAUNCHED_WINDOWS <= 65535 and 2**15 <= 65535


# --- memory and devices -------------------------------------------------------------------------


@pytest.mark.parametrize(("fits", "found"), [(8, 8), (7, 4), (3, 2), (1, 1)])
def test_as_many_slices_at_once_as_fit(monkeypatch, fits, found):
    tried = []

    def attempt(model, count, sides, tile):
        tried.append((count, *sides))
        if count > fits:
            raise torch.OutOfMemoryError

    monkeypatch.setattr(memory, "_try", attempt)
    model = replace(model_of(), device=torch.device("cuda"))
    assert memory.slices_at_once(model, (8, 32, 48), Upscaling(halo_px=3)) == found
    assert tried[0] == (8, 32 + 2 * 4, 48 + 2 * 4)


def test_a_tile_that_does_not_fit_is_refused_in_one_line(monkeypatch):
    def attempt(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(memory, "_try", attempt)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10**9, 8 * 10**9))
    model = replace(model_of(), device=torch.device("cuda"))
    with pytest.raises(InputError) as told:
        memory.slices_at_once(model, (4, 512, 512), Upscaling())
    assert str(told.value) == (
        "a tile of 512 x 512 LR pixels does not fit on cuda (1.0 of 8.0 GB are free): give a "
        "smaller tile_px in the recipe, or --memory"
    )


def test_processes_take_gpus_in_turn(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert [nth_device("cuda", n) for n in range(4)] == ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]
    assert nth_device("cuda:2", 0) == "cuda:2"
    assert nth_device("cpu", 5) == "cpu"


def test_before_a_gpu_the_cores_read_and_compress():
    assert lanes("cpu", 64) == Lanes(1, 2)
    assert lanes("cuda:1", 16).writers > lanes("cuda", 1).writers >= 2
    assert lanes("cuda", 1000).tiles < 20  # tiles in memory, whatever the machine


def test_tasks_side_by_side_are_all_done_in_order_and_bounded():
    class Tasks:
        def __init__(self):
            self.now = self.most = 0

        def perform(self, task):
            self.now += 1
            self.most = max(self.most, self.now)
            time.sleep(0.002)
            self.now -= 1
            return task

    tasks = Tasks()
    assert list(side_by_side(tasks, iter(range(40)), Lanes(1, 2))) == list(range(40))
    assert 2 <= tasks.most <= 4


@pytest.mark.parametrize(("device", "kinds"), [("cuda:1", ["tile"]), ("cpu", KINDS)])
def test_before_a_gpu_only_tiles_wait_for_one_another(monkeypatch, device, kinds):
    ways = []
    for name in ("overlapped", "side_by_side"):
        monkeypatch.setattr(
            execute, name, lambda bench, tasks, lanes, n=name: ways.append((n, len([*tasks]))) or ()
        )

    class Bench:
        lanes = Lanes(1, 2)

        class work_on:
            pass

    Bench.work_on.device = device
    for kind in KINDS:
        list(execute.worked_off(Bench(), [Task(kind, n) for n in range(3)]))
    list(execute.worked_off(Bench(), []))
    assert ways == [("overlapped" if kind in kinds else "side_by_side", 3) for kind in KINDS]


# --- with a GPU ---------------------------------------------------------------------------------


@cuda
@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_gpu_gives_what_a_cpu_gives(name, precision):
    lr = scan((4, 96, 96))
    whole = array_volume(lr, None, "lr")
    there, here = (model_of(name, device=device, precision=precision) for device in ("cuda", "cpu"))
    (tile,) = there.plan(whole, Upscaling(tile_px=(4, 96, 96)))
    found, _ = over_gpu(there, lr, tile.crop, 4)
    expected, _ = here.enlarge(lr, tile)
    apart = np.abs(found.astype(np.float64) - expected) / (0.7 * 65535) * 255
    assert apart.mean() < (1e-3 if precision == "float32" else 0.25)
    assert apart.max() < (0.05 if precision == "float32" else 8)


@cuda
def test_a_gpu_takes_more_windows_than_one_kernel_does():
    model = model_of("emsr", device="cuda", precision="bf16")
    with torch.inference_mode():
        sr = model.forward(torch.rand(1, 1, 1072, 1072, device="cuda"))
    assert torch.isfinite(sr).all()


@cuda
def test_a_full_gpu_takes_fewer_slices_at_once_or_refuses():
    model, upscaling = model_of("emsr", device="cuda", precision="bf16"), Upscaling()
    tile = (8, 1024, 1024)
    every = memory.slices_at_once(model, tile, upscaling)
    torch.cuda.empty_cache()
    room = torch.cuda.mem_get_info()[0]
    torch.cuda.reset_peak_memory_stats()
    memory._try(model, 2, [1072, 1072], tile)
    needed = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    held = torch.empty(room - int(1.5 * needed), dtype=torch.uint8, device="cuda")
    assert 1 <= memory.slices_at_once(model, tile, upscaling) < every
    torch.cuda.empty_cache()
    more = torch.empty(int(1.4 * needed), dtype=torch.uint8, device="cuda")
    with pytest.raises(InputError, match="does not fit on cuda"):
        memory.slices_at_once(model, tile, upscaling)
    del held, more


@cuda
def test_tiles_in_flight_do_not_mix():
    """Many tiles of unlike greys, threads reading and writing: each ends as it does alone."""
    model = model_of(device="cuda")
    lr = np.stack([scan((96, 96), seed) // (seed + 1) for seed in range(40)])
    volume = array_volume(lr, None, "lr")
    tiles = model.plan(volume, Upscaling(tile_px=(1, 48, 48)))

    class Bench:
        def read(self, n):
            return model.upload(model.read(volume, tiles[n]))

        def work(self, n, values):
            return model.begin(values, tiles[n])

        def write(self, n, begun):
            return n, model.end(begun)[0]

    for n, found in overlapped(Bench(), range(len(tiles)), Lanes(2, 6)):
        assert np.array_equal(found, model.compute(volume, tiles[n])[0])


@cuda
@pytest.mark.parametrize("more", [(), ("--workers", "2"), ("--dask", "local")])
def test_a_volume_over_a_gpu_by_whoever_does_it(tmp_path, more):
    np.save(tmp_path / "lr.npy", scan((6, 100, 100)))
    model = model_of()
    save_model(tmp_path / "model.safetensors", model.network, model.header)
    for out, device in (("gpu", "cuda"), ("cpu", "cpu")):
        extra = more if device == "cuda" else ()
        line = ("upscale", tmp_path / "lr.npy", "--model", tmp_path / "model.safetensors")
        line += ("--out", tmp_path / f"{out}.tif", "--device", device, "--precision", "float32")
        result = emsr(*line, "--quiet", *extra)
        assert result.returncode == 0, result.stderr
    import tifffile

    gpu, cpu = (tifffile.imread(tmp_path / f"{name}.tif").astype(float) for name in ("gpu", "cpu"))
    assert np.abs(gpu - cpu).max() <= 0.001 * 65535
