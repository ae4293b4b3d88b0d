"""EMSR: the published function, what it states of itself, and its seams."""

import math

import numpy as np
import pytest
import torch

from emsr.errors import InputError
from emsr.geometry.tiles import plan
from emsr.network.blocks import EdgePyramid, WindowAttention
from emsr.network.emsr import EMSR
from emsr.network.frame import interpolate, pad_to_multiple
from emsr.network.named import NETWORKS, build
from emsr.network.published import published_to_emsr

IN_BLOCK = [
    *("conv_1.weight", "conv_2.weight", "conv_3.weight", "conv_4.weight"),
    *(f"stageI.{i}.conv{k}.weight" for i in range(4) for k in (1, 2)),
    *(f"stageII_coarse.{i}.conv{k}.weight" for i in (0, 1) for k in (1, 2)),
    *(f"stageII_fine.{i}.conv{k}.weight" for i in (0, 1) for k in (1, 2)),
    *(f"stageII_att.{i}.k{k}.weight" for i in (0, 1) for k in (1, 2, 3, 4)),
    *(f"stageII_att.{i}.k2.bias" for i in (0, 1)),
    *(f"att.norm{i}.{k}" for i in (1, 2) for k in ("weight", "bias")),
    *("att.attn.qkv.weight", "att.attn.proj.weight", "att.attn.proj.bias"),
    *(f"att.mlp.net.{i}.{k}" for i in (0, 3) for k in ("weight", "bias")),
]  # fmt: skip
PUBLISHED = [
    *("conv_1.weight", "conv_4.weight", "upsample_shuffle.0.weight"),
    *(f"BasicBlocks.{b}.{name}" for b in range(3) for name in IN_BLOCK),
]
UNUSED = {
    "conv_2.weight": (1, 64, 3, 3),
    "conv_before_upsample.0.weight": (64, 64, 3, 3),
    "conv_before_upsample.0.bias": (64,),
    "BasicBlocks.1.conv_5.weight": (1, 64, 3, 3),
    "BasicBlocks.2.att.spatialConv.1.weight": (64, 1, 3, 3),
}
# Every fifth SR pixel (in steps of the scale) of the second image, computed by the published code
# with the weights of ``by_formula``.
GOLDEN = {
    2: [-0.1790901, -0.0373108, -0.1302386, -0.2575183, 0.006585, -0.0111619, -0.007491, 0.0070588,
        0.0042359, 0.013541, -0.0118822, -0.0109426, 0.0264707, 0.006239, 0.1816527, 0.2031743],
    3: [-0.1203258, -0.0135874, -0.0673953, -0.0344639, -0.0109588, 0.0070584, 0.0083425,
        -0.0136924, 0.0174593, -0.0121327, 0.0074925, -0.0026374, 0.0142647, 0.0157507, 0.0242733,
        0.046139],
}  # fmt: skip


def by_formula(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    count = math.prod(shape)
    wave = torch.sin(torch.arange(count, dtype=torch.float64) * 0.7 + len(name))
    return (wave / math.sqrt(max(1, count // shape[0]))).reshape(shape).float()


def published_weights(network: EMSR) -> dict[str, torch.Tensor]:
    """A state dict under the published names, in our network's shapes."""
    ours = network.state_dict()
    renamed = {name: next(iter(published_to_emsr({name: torch.zeros(1)}))) for name in PUBLISHED}
    assert sorted(renamed.values()) == sorted(ours)
    shapes = {name: tuple(ours[renamed[name]].shape) for name in PUBLISHED} | UNUSED
    return {name: by_formula(name, shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("scale", [2, 3])
def test_default_network_computes_what_the_published_one_does(scale):
    network = EMSR(scale)
    network.load_state_dict(published_to_emsr(published_weights(network)))
    wave = torch.cos(torch.arange(2 * 16 * 16, dtype=torch.float64) * 0.37)
    lr = (wave.reshape(2, 1, 16, 16) * 0.5 + 0.5).float()
    with torch.no_grad():
        sr = network(lr)
    found = sr[1, 0, :: scale * 5, :: scale * 5].flatten()
    np.testing.assert_allclose(found.numpy(), GOLDEN[scale], atol=1e-6)


def test_default_network_has_the_published_parameters_that_reach_the_output():
    assert sum(p.numel() for p in EMSR().parameters()) == 3_164_992 - 40_960


SMALL = {
    "emsr": {"features": 8, "blocks": 1, "residuals": 1, "refinements": 1, "heads": 2},
    "emsr-lean": {"features": 8, "blocks": 2},
}


def small(scale=2, name="emsr", **options):
    """A network of the family with few features, and something to say."""
    torch.manual_seed(1)
    network = build(name, scale, SMALL[name] | options).eval()
    with torch.no_grad():
        network.last.weight.normal_(std=0.05)  # zero at the start when there is an input skip
    return network


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"blocks": 2},
        {"input_skip": True},
        {"edge_levels": 1},
        {"edge_attention": False},
        {"self_attention": False},
        {"slices": 3},
        {"name": "emsr-lean"},
        {"name": "emsr-lean", "slices": 3},
    ],
)
def test_receptive_radius_is_how_far_gradients_reach(options):
    network = small(**options).double()
    radius, scale = network.receptive_radius, network.scale
    side = 2 * radius + 9 + (-(2 * radius + 9) % 4)
    reach = 0
    for offset in range(network.multiple):
        centre = (side // 2 // 4) * 4 + offset
        lr = torch.rand(1, network.slices, side, side, dtype=torch.float64, requires_grad=True)
        sr = network(lr)
        pixels = sr[
            ..., scale * centre : scale * (centre + 1), scale * centre : scale * (centre + 1)
        ]
        pixels.square().sum().backward()
        rows = lr.grad[0].abs().sum((0, 2)).nonzero().flatten()
        reach = max(reach, centre - int(rows.min()), int(rows.max()) - centre)
    assert reach == radius


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("options", [{}, {"input_skip": True}, {"name": "emsr-lean"}])
def test_any_scale_and_any_side(scale, options):
    network = small(scale, **options)
    with torch.no_grad():
        assert network(torch.rand(1, 1, 9, 14)).shape == (1, 1, 9 * scale, 14 * scale)


def test_sides_are_padded_by_reflection_and_cropped():
    network = small()
    lr = torch.rand(1, 1, 10, 13)
    padded = torch.nn.functional.pad(lr, (0, 3, 0, 2), mode="reflect")
    with torch.no_grad():
        np.testing.assert_array_equal(network(lr), network(padded)[..., :20, :26])
    assert pad_to_multiple(torch.rand(1, 1, 1, 2), 4).shape == (1, 1, 4, 4)


@pytest.mark.parametrize("scale", [2, 3, 5])
def test_interpolation_of_a_tile_equals_that_of_a_large_image(scale):
    lr = torch.rand(1, 1, 4, 2048)
    whole, tile = interpolate(lr, scale), interpolate(lr[..., 1900:], scale)
    inside = slice(4 * scale, None)
    assert (whole[..., 1900 * scale :] - tile)[..., inside].abs().max() <= 1e-6


@pytest.mark.parametrize("options", [{}, {"input_skip": True}, {"name": "emsr-lean"}])
def test_tiles_with_a_halo_of_the_radius_equal_the_whole_image(options):
    network = small(**options)
    lr = torch.rand(1, 1, 90, 103)
    with torch.no_grad():
        whole = network(lr)
        assembled = torch.full_like(whole, torch.nan)
        halo = network.receptive_radius
        multiple = network.multiple
        for tile in plan((1, 90, 103), (1, 32, 32), scale=2, halo=halo, multiple=multiple):
            y, x = tile.read.slices[1:]
            part = network(lr[..., y, x])
            assembled[0, :, *tile.write.slices[1:]] = part[0, :, *tile.crop.slices[1:]]
    assert (assembled - whole).abs().max() <= 1e-5


def test_a_halo_below_the_radius_shows():
    """The test above can fail: without a halo the tiles differ."""
    network = small()
    lr = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        difference = network(lr[..., :32, :32]) - network(lr)[..., :64, :64]
    assert difference.abs().max() > 1e-3


def test_views_in_one_batch_do_not_see_each_other():
    network = small()
    a, b = torch.rand(2, 1, 1, 16, 16)
    with torch.no_grad():
        together = network(torch.cat([a, b]))
        np.testing.assert_allclose(together, torch.cat([network(a), network(b)]), atol=1e-5)


@pytest.mark.parametrize("name", ["emsr-tiny", "emsr-lean"])
def test_input_skip_starts_at_the_interpolated_image(name):
    torch.manual_seed(0)
    network = build(name, 3, {})
    lr = torch.rand(1, 1, 12, 12)
    with torch.no_grad():
        np.testing.assert_allclose(network(lr), interpolate(lr, 3), atol=1e-6)


def test_looks_are_what_the_forward_pass_computes():
    network = small(blocks=2, refinements=2)
    lr = torch.rand(2, 1, 16, 20)
    with torch.no_grad():
        looks = network.looks(lr)
        assert [look.image.shape for look in looks] == [(2, 1, 16, 20)] * 2
        for look in looks:
            assert len(look.weights) == 2
            np.testing.assert_allclose(look.edges[:, :3], network.edges(lr), atol=1e-6)
            np.testing.assert_allclose(look.edges[:, 3:], network.edges(look.image), atol=1e-6)
        expected = network(lr)
        network.blocks[1].attention[1].k4.weight.zero_()
        assert (network(lr) - expected).abs().max() > 0
        assert network.looks(lr)[1].weights[1].abs().max() == 0
    assert small(edge_attention=False).looks(lr) == []


@pytest.mark.parametrize("name", ["emsr-tiny", "emsr-lean"])
def test_neighbouring_slices_are_seen_and_the_middle_one_is_interpolated(name):
    network = build(name, 3, {"slices": 3})
    lr = torch.rand(1, 3, 12, 12)
    with torch.no_grad():
        np.testing.assert_allclose(network(lr), interpolate(lr[:, 1:2], 3), atol=1e-6)
        network.last.weight.normal_()
        assert (network(lr) - network(lr[:, [2, 1, 0]])).abs().max() > 1e-3


def test_edge_pyramid_is_blind_to_constants_and_telescopes():
    pyramid = EdgePyramid(3).double()
    flat = torch.ones(1, 1, 48, 48, dtype=torch.float64)
    inside = slice(pyramid.reach, -pyramid.reach)
    assert pyramid(flat)[..., inside, inside].abs().max() < 1e-6
    point = torch.zeros(1, 1, 48, 48, dtype=torch.float64)
    point[..., 24, 24] = 1
    assert pyramid(point).sum(dim=(2, 3)).abs().max() < 1e-6


def test_window_attention_keeps_to_its_window():
    torch.manual_seed(0)
    attention = WindowAttention(8, heads=2, window=4).double()
    x = torch.rand(1, 8, 8, 8, dtype=torch.float64, requires_grad=True)
    attention(x)[..., 2, 5].sum().backward()
    seen = x.grad[0].abs().sum(0).nonzero()
    assert seen.min(0).values.tolist() == [0, 4]
    assert seen.max(0).values.tolist() == [3, 7]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"scale": 0}, "scale 0"),
        ({"scale": 9}, "scale 9"),
        ({"features": 10, "heads": 4}, "10 features"),
        ({"blocks": 0}, "at least 1"),
        ({"slices": 2}, "slices 2.*odd"),
    ],
)
def test_arguments_that_cannot_be(arguments, said):
    with pytest.raises(InputError, match=said):
        EMSR(**arguments)


def test_the_lean_network_spends_at_most_an_eighth_of_the_full_ones_compute():
    """Multiplications per LR pixel, counted as each convolution and linear layer runs."""
    counts = {}
    for name in ("emsr", "emsr-lean"):
        network, done = build(name, 3, {}), []
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                layer.register_forward_hook(
                    lambda layer, _, out, done=done: done.append(
                        layer.weight[0].numel() * out.numel()
                    )
                )
        with torch.no_grad():
            network(torch.rand(1, 1, 16, 16))
        counts[name] = sum(done) / 16**2
    assert counts["emsr"] == pytest.approx(3.1e6, rel=0.02)
    assert counts["emsr-lean"] <= counts["emsr"] / 8


def test_networks_by_name():
    with pytest.raises(InputError, match=r"'nope'.*emsr, emsr-tiny, emsr-lean, bicubic"):
        build("nope", 3, {})
    with pytest.raises(InputError, match="featurez"):
        build("emsr", 3, {"featurez": 3})
    for name in NETWORKS:
        network = build(name, 2, {})
        assert (network.scale, network.slices, network.multiple >= 1) == (2, 1, True)
        if network.halo is None:
            assert network.receptive_radius is None
        else:
            assert 0 <= network.halo <= network.receptive_radius


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("emsr-lean", {"blocks": 0}, "features, blocks"),
        ("emsr-lean", {"features": 2.5}, "features is 2.5, expected a whole number"),
        ("emsr-tiny", {"heads": 2.0}, "heads is 2.0"),
        ("emsr", {"halo": 7.5}, "halo is 7.5"),
        ("emsr", {"blocks": True}, "blocks is True, expected a whole number"),
        ("emsr", {"input_skip": "false"}, "expected true or false"),
        ("emsr", {"window": 100_000}, "at most 1024"),
        ("emsr", {"scale": 3}, "no option 'scale'"),
        ("unet", {"levels": 12}, "levels"),
        ("bicubic", {"features": 3}, "it has none"),
    ],
)
def test_options_that_cannot_be(name, options, said):
    with pytest.raises(InputError, match=said):
        build(name, 3, options)
