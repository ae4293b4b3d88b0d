"""The command line as the tests call it: the installed ``emsr`` in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

EMSR = Path(sys.executable).with_name("emsr")
LR_NM, HR_NM = (50.0, 30.0, 30.0), (50.0, 10.0, 10.0)
RECIPE = """
network = "emsr-tiny"
[network_options]
features = 4
heads = 2
residuals = 1
[training]
steps = 4
batch = 2
patch_px = 16
checkpoint_every = 2
[upscaling]
tile_px = [1, 32, 32]
"""


def emsr(*arguments, cwd=None):
    return subprocess.run(
        [EMSR, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=300
    )


def done(*arguments):
    """The JSON summary of a command that must succeed, and says nothing on stderr."""
    result = emsr(*arguments, "--json", "--quiet")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


def upscale_of(field, out, *more, lr="lr.tif"):
    recipe = ("--recipe", field / "recipe.toml")
    model = ("--model", field / "run" / "model.safetensors")
    return ("upscale", field / lr, *model, "--out", out, *recipe, *more)
