"""The form in which networks are run: the same function, in float32 to rounding, in bf16 nearly."""

import platform
import resource
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from emsr.network import blocks
from emsr.network.averaged import Averaged
from emsr.network.blocks import WindowAttention
from emsr.network.frame import interpolate
from emsr.network.named import build
from emsr.network.quick import Composed, casts, quick

SMALL = {
    "emsr": {"features": 16, "heads": 4, "blocks": 1, "residuals": 1, "refinements": 1},
    "emsr-tiny": {},
    "emsr-lean": {"features": 16, "blocks": 2},
}


def network(name, scale=3, **options):
    """One whose last layer, which starts at zero, says something."""
    torch.manual_seed(0)
    net = build(name, scale, SMALL[name] | options).eval()
    nn.init.normal_(net.last.weight, std=0.05)
    return net


@settings(max_examples=25, deadline=None)
@given(
    scale=st.integers(1, 4),
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    seed=st.integers(0, 99),
)
def test_two_convolutions_as_one_up_to_every_edge(scale, height, width, seed):
    torch.manual_seed(seed)
    first = nn.Conv2d(4, 4 * scale**2, 3, padding=1, bias=False)
    last = nn.Conv2d(4, 1, 3, padding=1, bias=False)
    x = torch.randn(2, 4, height, width)
    with torch.inference_mode():
        expected = last(nn.functional.pixel_shuffle(first(x), scale))
        assert torch.allclose(Composed(first, last, scale)(x), expected, atol=1e-5)


def test_without_the_edges_one_kernel_would_be_wrong():
    """What the treatment of the frame is for."""
    torch.manual_seed(0)
    first = nn.Conv2d(4, 36, 3, padding=1, bias=False)
    last = nn.Conv2d(4, 1, 3, padding=1, bias=False)
    both, x = Composed(first, last, 3), torch.randn(1, 4, 12, 12)
    with torch.inference_mode():
        alone = nn.functional.pixel_shuffle(nn.functional.conv2d(x, both.kernel, padding=2), 3)
        differs = (alone - both(x)).abs() > 1e-5
    assert differs[..., 0, :].any()
    assert not differs[..., 3:-3, 3:-3].any()


@pytest.mark.parametrize("name", SMALL)
def test_in_float32_the_same_to_rounding(name):
    net, lr = network(name), torch.rand(1, 1, 40, 52)
    with torch.inference_mode():
        assert torch.allclose(quick(net)(lr), net(lr), atol=2e-6)


@pytest.mark.parametrize("name", SMALL)
def test_in_bf16_within_a_percent_of_what_the_network_adds(name):
    net, lr = network(name), torch.rand(1, 1, 40, 52)
    with torch.inference_mode():
        full = net(lr)
        added = full - interpolate(lr, 3)
        difference = quick(net, "bf16")(lr) - full
    assert difference.std() <= 0.012 * added.std()
    assert difference.std() > 0.0005 * added.std(), "this was computed in float32"


@pytest.mark.parametrize("name", SMALL)
def test_greys_pass_through_in_float32(name):
    """A body in bf16 must not round the greys themselves: 16-bit data would show bands."""
    net = quick(network(name), "bf16")
    ramp = torch.linspace(0.2, 0.8, 4096).view(1, 1, 1, 4096).expand(1, 1, 16, 4096).contiguous()
    with torch.inference_mode():
        sr = net(ramp)
    assert sr.dtype == torch.float32
    assert len(sr[0, 0, 20].unique()) > 4096


@pytest.mark.parametrize("name", SMALL)
def test_the_network_itself_stays_as_it_was(name):
    net, lr = network(name), torch.rand(1, 1, 16, 16)
    before = net(lr).detach()
    states = {key: getattr(net, key) for key in ("scale", "multiple", "halo", "receptive_radius")}
    fast = quick(net, "bf16")
    assert torch.equal(net(lr).detach(), before)
    assert {key: getattr(fast, key) for key in states} == states
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_who_needs_autocast():
    assert not casts(Averaged(quick(network("emsr-lean"), "bf16"), 3), "bf16")
    assert casts(Averaged(build("unet", 3, {}), 3), "bf16")
    unet = build("unet", 3, {})
    assert quick(unet, "bf16") is unet
    assert casts(unet, "bf16")
    assert not casts(unet, "float32")
    assert not casts(quick(network("emsr-lean"), "bf16"), "bf16")


def test_in_bf16_a_tile_with_the_whole_reach_has_the_bits_of_the_whole_image():
    net = network("emsr", edge_levels=1)
    reach, top = net.receptive_radius, 2 * net.multiple
    lr = torch.rand(1, 1, top + 2 * reach + 8, 40, generator=torch.Generator().manual_seed(0))
    fast = quick(net, "bf16").to(memory_format=torch.channels_last)
    with torch.inference_mode():
        whole, tile = fast(lr)[..., 3 * top :, :], fast(lr[..., top:, :])
    same = (whole == tile).all(-1)[0, 0]
    assert same[3 * reach :].all()
    assert not same.all()  # the cut is seen, so that the rows above can tell


@pytest.mark.parametrize("count", [1, 3, 5])
def test_attention_in_parts_is_attention(count, monkeypatch):
    torch.manual_seed(0)
    attention = WindowAttention(8, 2, 4).eval()
    x = torch.randn(1, 8, 12, 16).to(memory_format=torch.channels_last)
    expected = attention(x).detach()  # with gradients: in one
    monkeypatch.setattr(blocks, "CACHED_WINDOWS", count)
    with torch.inference_mode():
        found = attention(x)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


FAULTS = """
import resource, torch
from emsr.network.allocator import keep_freed_memory
if {keep}:
    keep_freed_memory()
for _ in range(20):
    torch.empty(2**24).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_the_memory_of_large_tensors_is_used_again():
    def faults(keep):
        line = [sys.executable, "-c", FAULTS.format(keep=keep)]
        return int(subprocess.run(line, check=True, capture_output=True, text=True).stdout)

    pages = 2**26 // resource.getpagesize()
    assert faults(False) - faults(True) > 10 * pages
