"""The kernel that attends windows on a GPU, against torch's own attention. On a CPU its interpreter
runs it, in a process of its own, since it is chosen when the module is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from emsr.network.blocks import WindowAttention, kernel_for

pytest.importorskip("triton")
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
ALONE = """
import sys, torch
sys.path.insert(0, {here!r})
from test_window_kernel import differ
for shape in ((16, 16, 4), (16, 4, 4), (4, 2, 8), (1, 1, 1)):
    for dtype in (torch.float32, torch.bfloat16):
        print(differ(*shape, dtype, "cpu"))
"""


def differ(tokens, heads, features, dtype, device):
    """The largest difference from torch's attention in float32, for windows whose scores are far
    from even."""
    from emsr.network.window_kernel import attend

    generator = torch.Generator().manual_seed(tokens * heads + features)
    qkv = 2 * torch.randn(3, tokens, 3 * heads * features, generator=generator)
    qkv = qkv.to(device, dtype)
    found = attend(qkv, heads)
    assert found.dtype == dtype
    query, key, value = qkv.float().view(3, tokens, 3, heads, features).permute(2, 0, 3, 1, 4)
    expected = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    return float((found.float() - expected.reshape(found.shape)).abs().max())


def test_it_gives_what_torch_gives():
    here = str(Path(__file__).parent)
    run = subprocess.run(
        [sys.executable, "-c", ALONE.format(here=here)],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = [float(line) for line in run.stdout.split()]
    assert len(found) == 8
    assert max(found[::2]) < 1e-5
    assert max(found[1::2]) < 0.032  # bf16 from 4 on is that far apart


@pytest.mark.parametrize("shape", [(16, 3, 4), (9, 4, 4), (64, 16, 4)])
def test_windows_that_it_cannot_take_are_left_to_torch(shape):
    assert kernel_for(torch.device("cpu"), torch.float32, *shape) is None


@cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_used_where_there_is_a_gpu(dtype):
    there = torch.device("cuda:0")
    assert kernel_for(there, dtype, 16, 16, 4) is not None
    assert differ(16, 16, 4, dtype, there) < (1e-5 if dtype == torch.float32 else 0.032)


@cuda
def test_a_block_of_windows_is_as_on_a_cpu():
    torch.manual_seed(0)
    attention = WindowAttention(64, 16, 4).eval().requires_grad_(False)
    image = torch.randn(2, 64, 24, 32)
    with torch.inference_mode():
        expected = attention(image)
        found = attention.to("cuda")(image.to("cuda")).cpu()
    assert (found - expected).abs().max() < 1e-4
