"""Networks that see neighbouring slices: each finds the right ones, in training and in use."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from route import HR_NM, LR_NM, done, emsr
from safetensors.numpy import load_file
from test_pairs_store import FACTS

from emsr.errors import InputError
from emsr.geometry.box import Box
from emsr.geometry.neighbours import seen_with, z_halo
from emsr.jobs.listener import Listener
from emsr.jobs.model import Model, load
from emsr.jobs.prepare import prepare
from emsr.jobs.train import train, validation_field
from emsr.jobs.upscale import upscale
from emsr.network.checkpoint import Header
from emsr.network.emsr import EMSR
from emsr.pairs.neighbours import have_neighbours, lr_channels
from emsr.pairs.patches import draw_batch
from emsr.pairs.store import Pairs, open_pairs
from emsr.recipe import Degradation, Recipe, Training, Upscaling
from emsr.volumes.intensity import Intensity
from emsr.volumes.tiff import write_tiff
from emsr.volumes.volume import array_volume

SCALE = 2


class ShowsChannel(torch.nn.Module):
    """A network whose output is one of its channels, enlarged."""

    scale, multiple, halo, receptive_radius = SCALE, 4, 4, 0

    def __init__(self, slices: int, channel: int) -> None:
        super().__init__()
        self.slices, self.channel = slices, channel

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        assert lr.shape[:2] == (1, self.slices)
        shown = lr[:, self.channel : self.channel + 1]
        return shown.repeat_interleave(SCALE, 2).repeat_interleave(SCALE, 3)


def model_of(network: Any) -> Model:
    header = Header("stub", {}, SCALE, (0, 1), (0, 1), "float32", LR_NM, HR_NM)
    return Model(network, header, torch.device("cpu"))


def tiled(model: Model, stack: np.ndarray, tile_z: int, halo_px: int | None = None) -> np.ndarray:
    volume = array_volume(stack, None, "stack")
    z, y, x = stack.shape
    sr = np.full((z, y * SCALE, x * SCALE), np.nan, np.float32)
    for tile in model.plan(volume, Upscaling((tile_z, 8, 8), halo_px)):
        sr[tile.write.slices], _ = model.compute(volume, tile)
    return sr


def coordinates(depth: int, height: int, width: int) -> np.ndarray:
    z, y, x = np.indices((depth, height, width))
    return (10_000 * z + 100 * y + x).astype(np.float32)


# --- in use -------------------------------------------------------------------------------------


@given(depth=st.integers(1, 9), reach=st.integers(0, 4), data=st.data())
def test_a_slice_is_seen_in_the_middle_of_its_neighbours(depth: int, reach: int, data: Any) -> None:
    z = data.draw(st.integers(0, depth - 1))
    seen = seen_with(z, depth, 2 * reach + 1)
    assert z_halo(len(seen)) == reach and seen[reach] == z
    for k, found in enumerate(seen):
        wanted = z + k - reach
        assert found == wanted if 0 <= wanted < depth else found in (0, depth - 1)
    assert seen == sorted(seen)


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(5, 19), st.integers(5, 19)),
    tile_z=st.integers(1, 4),
    reach=st.integers(0, 2),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_every_channel_shows_the_slice_it_should_across_tiles_and_at_the_ends(
    shape: tuple[int, int, int], tile_z: int, reach: int, data: Any
) -> None:
    channel = data.draw(st.integers(0, 2 * reach))
    stack = coordinates(*shape)
    sr = tiled(model_of(ShowsChannel(2 * reach + 1, channel)), stack, tile_z)
    shown = np.clip(np.arange(shape[0]) + channel - reach, 0, shape[0] - 1)
    expected = stack[shown].repeat(SCALE, axis=1).repeat(SCALE, axis=2)
    np.testing.assert_array_equal(sr, expected)


def test_a_single_image_is_its_own_neighbour_and_networks_that_do_not_say_see_one() -> None:
    image = coordinates(1, 9, 11)[0]
    enlarged = image.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    for channel in range(3):
        sr = model_of(ShowsChannel(3, channel)).upscale(image)
        np.testing.assert_array_equal(sr, enlarged)
    silent = ShowsChannel(1, 0)
    del silent.slices
    silent.forward = lambda lr: torch.nn.functional.interpolate(lr, scale_factor=SCALE)
    assert model_of(silent).slices == 1
    np.testing.assert_array_equal(model_of(silent).upscale(image), enlarged)


@pytest.mark.parametrize("slices", [3, 5])
@pytest.mark.parametrize("tile_z", [1, 2, 4])
def test_tiles_along_z_leave_no_seam(slices: int, tile_z: int) -> None:
    torch.manual_seed(0)
    small = {"features": 4, "blocks": 1, "residuals": 1, "refinements": 1, "heads": 2}
    network = EMSR(SCALE, **small, slices=slices).eval()
    model = model_of(network)
    stack = np.random.default_rng(0).random((5, 24, 20), np.float32)
    whole = model.upscale(stack)
    assert np.abs(whole).max() > 1e-3
    parts = tiled(model, stack, tile_z, network.receptive_radius)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-5)
    stack[3] += 1
    changed = np.abs(model.upscale(stack) - whole).max((1, 2)) > 1e-4
    assert changed.tolist() == [abs(z - 3) <= z_halo(slices) for z in range(5)]


def test_what_is_read_at_once_does_not_grow_with_the_volume() -> None:
    read: list[Box] = []
    volume = array_volume(coordinates(40, 8, 8), None, "stack")
    watched = replace(volume, fetch=lambda box: read.append(box) or volume.fetch(box))
    model = model_of(ShowsChannel(5, 0))
    for tile in model.plan(watched, Upscaling((3, 8, 8))):
        model.compute(watched, tile)
    assert max(box.shape[0] for box in read) == 3 + 2 * 2 and len(read) == 14


# --- in training --------------------------------------------------------------------------------

HR_Z = (0, 1, 2, 4, 5, 9)
VARIANTS = 2


def coded_pairs(hr_z: tuple[int, ...] = HR_Z) -> Pairs:
    """Every LR pixel says its z in the scan, its variant, its row and its column; every HR pixel
    what the first variant of the LR pixel that covers it says."""
    field = coordinates(10, 96, 80)[list(hr_z)]
    facts = replace(
        FACTS, scale=SCALE, lr_window=Intensity(0, 1), hr_window=Intensity(0, 1), hr_z=hr_z
    )
    lr = np.stack([plane + 1_000_000 * v for plane in field for v in range(VARIANTS)])
    return Pairs(
        **{name: getattr(facts, name) for name in facts.__dataclass_fields__},
        lr=lr,
        hr=field.repeat(SCALE, axis=1).repeat(SCALE, axis=2),
        hr_slice=np.arange(len(hr_z)).repeat(VARIANTS),
    )


def expected_z(z: int, reach: int) -> list[int]:
    """By hand: outwards from z, staying where the scan has a gap."""
    below, above = [z], [z]
    for _ in range(reach):
        below.insert(0, below[0] - (below[0] - 1 in HR_Z))
        above.append(above[-1] + (above[-1] + 1 in HR_Z))
    return below + above[1:]


@pytest.mark.parametrize("slices", [1, 3, 5])
def test_drawn_neighbours_are_adjacent_of_one_variant_and_turned_alike(slices: int) -> None:
    pairs, reach = coded_pairs(), slices // 2
    # 10 000 z + 100 y + x: a row of 96 and more would count as a slice
    lr, hr = draw_batch(pairs, slice(0, 90), 12, batch=200, seed=1, step=2, slices=slices)
    assert lr.shape == (200, slices, 12, 12) and hr.shape == (200, 1, 24, 24)
    own, places = lr % 1_000_000 // 10_000, lr % 10_000
    np.testing.assert_array_equal(lr // 1_000_000, (lr // 1_000_000)[:, :1, :1, :1] + 0 * lr)
    np.testing.assert_array_equal(places, places[:, :1] + 0 * lr)
    np.testing.assert_array_equal(hr[:, 0, ::2, ::2], lr[:, reach] % 1_000_000)
    for seen in own[:, :, 0, 0].astype(int).tolist():
        assert seen == expected_z(seen[reach], reach)
    assert {*own[:, reach, 0, 0].astype(int)} == {*HR_Z}


def test_neighbours_leave_every_drawn_number_as_it_is() -> None:
    alone = draw_batch(coded_pairs(), slice(0, 64), 8, batch=50, seed=3, step=4)
    among = draw_batch(coded_pairs(), slice(0, 64), 8, batch=50, seed=3, step=4, slices=5)
    np.testing.assert_array_equal(alone[0][:, 0], among[0][:, 2])
    np.testing.assert_array_equal(alone[1], among[1])


def test_a_variant_that_a_neighbour_lacks_is_not_replaced_by_another() -> None:
    pairs = coded_pairs()
    kept = np.delete(np.arange(12), 3)  # the second variant of z = 1
    pairs = replace(pairs, lr=pairs.lr[kept], hr_slice=pairs.hr_slice[kept])
    assert lr_channels(pairs, 1, 3) == [1, 1, 1]
    assert lr_channels(pairs, 0, 3) == [0, 0, 2]


def test_the_validation_field_shows_the_same_neighbours() -> None:
    pairs = coded_pairs()
    lr, hr = validation_field(pairs, slice(72, 96), 3)
    assert lr.shape == (12, 3, 24, 80) and hr.shape == (12, 1, 48, 160)
    seen = [[int(v) % 1_000_000 // 10_000 for v in field[:, 0, 0]] for field in lr]
    assert seen == [expected_z(z, 1) for z in HR_Z for _ in range(VARIANTS)]
    np.testing.assert_array_equal(hr[:, 0, ::2, ::2], lr[:, 1] % 1_000_000)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HR of seven slices, the fourth constant; LR of its areas, with noise of their own."""
    folder = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:192, :192]
    waves = np.sin(x / 9 + np.arange(7)[:, None, None]) * np.cos(y / 13)
    clean = 120 + 60 * waves
    clean[3] = 90
    hr = clean + 5 * rng.standard_normal(clean.shape)
    lr = clean.reshape(7, 64, 3, 64, 3).mean((2, 4))
    lr = lr + 5 * rng.standard_normal(lr.shape)
    hr[3], lr[3] = 90, 90
    for name, stack, spacing in (("hr", hr, HR_NM), ("lr", lr, LR_NM)):
        stack = stack.astype(np.uint8)
        write_tiff(folder / f"{name}.tif", stack, stack.shape, stack.dtype, spacing)
    return folder


@pytest.mark.parametrize(("strategy", "variants"), [("real", 1), ("synthetic", 2)])
def test_a_slice_left_out_parts_its_neighbours(
    scans: Path, tmp_path: Path, strategy: str, variants: int
) -> None:
    recipe = Recipe(degradation=Degradation(variants=variants))
    out = tmp_path / "p.zarr"
    prepare(scans / "hr.tif", out, strategy, lr=scans / "lr.tif", scale=3, recipe=recipe)
    pairs = open_pairs(out)
    assert pairs.hr_z == (0, 1, 2, 4, 5, 6) and pairs.lr.shape[0] == 6 * variants
    for i in range(6 * variants):
        z, variant = HR_SEEN[i // variants], i % variants
        assert lr_channels(pairs, i, 3) == [m * variants + variant for m in z]


HR_SEEN = [(0, 0, 1), (0, 1, 2), (1, 2, 2), (3, 3, 4), (3, 4, 5), (4, 5, 5)]


# --- the whole route ----------------------------------------------------------------------------

RECIPE = """
network = "emsr-tiny"
network_options = { features = 4, heads = 2, residuals = 1, slices = 3 }
[training]
steps = 4
batch = 2
patch_px = 16
checkpoint_every = 2
[upscaling]
tile_px = [2, 32, 32]
"""


@dataclass(frozen=True)
class Route:
    folder: Path
    model: Path


@pytest.fixture(scope="module")
def route(scans: Path) -> Route:
    (scans / "recipe.toml").write_text(RECIPE)
    recipe = ("--recipe", scans / "recipe.toml")
    pair = ("--hr", scans / "hr.tif", "--lr", scans / "lr.tif", "--strategy", "real")
    done("prepare", *pair, "--out", scans / "pairs.zarr")
    done("train", scans / "pairs.zarr", "--out", scans / "run", *recipe)
    return Route(scans, scans / "run" / "model.safetensors")


def test_the_route_sees_neighbours_from_training_to_output(route: Route, tmp_path: Path) -> None:
    recipe = ("--recipe", route.folder / "recipe.toml", "--halo", 64)
    out = tmp_path / "sr.ome.zarr"
    done("upscale", route.folder / "lr.tif", "--model", route.model, "--out", out, *recipe)
    model = load(route.model, device="cpu")
    assert (model.slices, model.network.head.weight.shape[1]) == (3, 3)
    stored = zarr.open_array(out / "0", mode="r")[:]
    lr = zarr.open_array(route.folder / "pairs.zarr" / "lr", mode="r")
    volume = np.insert(lr[:], 3, 90, axis=0)
    difference = model.upscale(volume).astype(int) - stored
    assert abs(difference).max() <= 1 and (difference != 0).mean() < 1e-3


def slices_recipe(**training: Any) -> Recipe:
    options = {"features": 4, "heads": 2, "residuals": 1, "slices": 3}
    wishes = {"steps": 8, "batch": 2, "patch_px": 16, "checkpoint_every": 2, **training}
    return Recipe(network="emsr-tiny", network_options=options, training=Training(**wishes))


def test_a_stopped_training_resumes_to_the_same_model(route: Route, tmp_path: Path) -> None:
    def stop(_what: str, step: int, _total: int, _note: str) -> None:
        if step == 5:
            raise KeyboardInterrupt

    pairs, recipe = route.folder / "pairs.zarr", slices_recipe()
    train(pairs, tmp_path / "whole", recipe, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(pairs, tmp_path / "parts", recipe, device="cpu", listener=Listener(progress=stop))
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    train(pairs, tmp_path / "parts", recipe, device="cpu", resume=True)
    whole, parts = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "parts"))
    assert all((whole[name] == parts[name]).all() for name in whole)


def test_another_spacing_along_z_is_refused_where_neighbours_are_seen(
    route: Route, tmp_path: Path
) -> None:
    def run(model: Path, lr: Path, name: str, z_nm: float) -> dict[str, Any]:
        tiles = Upscaling((4, 64, 64))
        nm = (z_nm, *LR_NM[1:])
        return upscale(lr, model, tmp_path / name, upscaling=tiles, device="cpu", spacing_nm=nm)

    lr = route.folder / "lr.tif"
    with pytest.raises(InputError, match=r"80 nm apart.*3 adjacent.*50 nm.*--spacing"):
        run(route.model, lr, "far.ome.zarr", 80)
    assert list(tmp_path.iterdir()) == []
    assert run(route.model, lr, "near.ome.zarr", 51)["tiles_done"] == 2
    recipe = slices_recipe(steps=2)
    plain = replace(recipe, network_options={**recipe.network_options, "slices": 1})
    train(route.folder / "pairs.zarr", tmp_path / "plain", plain, device="cpu")
    assert run(tmp_path / "plain/model.safetensors", lr, "plain.ome.zarr", 80)["tiles_done"] == 2
    one = np.full((1, 64, 64), 90, np.uint8)
    one[0, :32] = 150
    write_tiff(tmp_path / "one.tif", one, one.shape, one.dtype, LR_NM)
    assert run(route.model, tmp_path / "one.tif", "one.ome.zarr", 80)["tiles_done"] == 1


def test_pairs_without_neighbours_and_even_numbers_of_slices_are_refused(
    route: Route, tmp_path: Path
) -> None:
    assert have_neighbours(coded_pairs()) and not have_neighbours(coded_pairs((0, 2, 5)))
    hr = np.random.default_rng(0).integers(0, 255, (1, 192, 192), np.uint8)
    write_tiff(tmp_path / "one.tif", hr, hr.shape, hr.dtype, HR_NM)
    prepare(tmp_path / "one.tif", tmp_path / "one.zarr", "synthetic")
    with pytest.raises(InputError, match=r"no two adjacent slices.*looks at 3.*slices = 1"):
        train(tmp_path / "one.zarr", tmp_path / "run", slices_recipe(), device="cpu")
    (tmp_path / "even.toml").write_text(RECIPE.replace("slices = 3", "slices = 2"))
    even = ("--recipe", tmp_path / "even.toml", "--out", tmp_path / "run")
    result = emsr("train", route.folder / "pairs.zarr", *even)
    assert result.returncode == 1 and "slices 2: expected an odd number" in result.stderr
    assert not (tmp_path / "run").exists()
