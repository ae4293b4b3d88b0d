"""``emsr convert``: the published code's checkpoints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_network import published_weights

import emsr
from emsr.errors import InputError
from emsr.jobs.convert import convert
from emsr.network.published import published_to_emsr


def checkpoint(path, scale=3, change=lambda state: None):
    state = published_weights(emsr.EMSR(scale))
    change(state)
    torch.save({"model_state_dict": state, "epoch": 3}, path)
    return path


@pytest.mark.parametrize("scale", [2, 3])
def test_a_checkpoint_becomes_a_model_that_computes_the_same(tmp_path, scale):
    out = tmp_path / "m.safetensors"
    said = convert(checkpoint(tmp_path / "c.pt", scale), out, (50.0, 45.0, 45.0))
    assert said["scale"] == scale
    network = emsr.EMSR(scale).eval()
    network.load_state_dict(published_to_emsr(published_weights(network)))
    model = emsr.load(out, device="cpu")
    assert model.header.hr_spacing_nm == (50.0, 45.0 / scale, 45.0 / scale)
    lr = torch.rand(1, 1, 12, 12)
    with torch.no_grad():
        assert torch.allclose(model.network(lr), network(lr), atol=1e-5)


def test_the_command_and_upscaling_with_unknown_spacing(tmp_path):
    program = Path(sys.executable).with_name("emsr")
    path = checkpoint(tmp_path / "c.pt")
    command = [program, "convert", path, "--out", tmp_path / "m.safetensors"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "spacing" in result.stderr
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 1
    assert "--overwrite" in again.stderr


class Planted:
    """Unpickling this would run a command."""

    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return os.system, (f"touch {self.flag}",)


def test_a_checkpoint_is_never_executed(tmp_path):
    flag = tmp_path / "executed"
    torch.save({"model_state_dict": Planted(flag)}, tmp_path / "c.pt")
    with pytest.raises(InputError, match="tensors alone"):
        convert(tmp_path / "c.pt", tmp_path / "m.safetensors")
    assert not flag.exists()


def shorten(state):
    state["conv_1.weight"] = state["conv_1.weight"][:3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("conv_4.weight"), r"missing \['last.weight'\]"),
        (lambda state: state.update(extra=torch.zeros(1)), r"unexpected \['extra'\]"),
        (shorten, r"head.weight has shape \(3, 1, 3, 3\), the network expects \(64, 1, 3, 3\)"),
        (lambda state: state.pop("upsample_shuffle.0.weight"), "upsample_shuffle"),
        (lambda state: state.update({"upsample_shuffle.0.weight": torch.zeros(130, 64, 3, 3)}), "130"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit(tmp_path, change, said):
    path = checkpoint(tmp_path / "c.pt", change=change)
    with pytest.raises(InputError, match=said):
        convert(path, tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()


def test_files_that_are_no_checkpoints(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        convert(tmp_path / "c.pt", tmp_path / "m.safetensors")
    (tmp_path / "c.pt").write_bytes(b"not torch")
    with pytest.raises(InputError, match="tensors alone"):
        convert(tmp_path / "c.pt", tmp_path / "m.safetensors")
    torch.save({"weights": {}}, tmp_path / "c.pt")
    with pytest.raises(InputError, match="model_state_dict"):
        convert(tmp_path / "c.pt", tmp_path / "m.safetensors")
