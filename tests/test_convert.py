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
from emsr.network.published import published_name, published_to_emsr


def checkpoint(path, scale=3, change=lambda state: None):
    state = published_weights(emsr.EMSR(scale))
    state = change(state) or state
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


def lost(name):
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


def changed(name, change):
    """Puts ``change`` of a weight in its place."""
    return lambda state: state.update({name: change(state[name])})


def filled(name, value):
    return changed(name, lambda weight: torch.full_like(weight, value))


UP, ATTENTION = "upsample_shuffle.0.weight", "BasicBlocks.2.att.attn.proj.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lost("conv_4.weight"), "missing conv_4.weight, unexpected none"),
        (lost(ATTENTION), f"missing {ATTENTION},"),
        (lambda state: state.update(extra=torch.zeros(1)), "unexpected extra:"),
        (shorten, r"conv_1.weight has shape \(3, 1, 3, 3\), the network expects \(64, 1, 3, 3\)"),
        (changed(ATTENTION, lambda w: w[:, :0]), rf"{ATTENTION} has shape \(64, 0\)"),
        (lost(UP), f"{UP} is missing"),
        (changed(UP, lambda w: torch.zeros(130, 64, 3, 3)), "130"),
        (changed(UP, lambda w: w[:, :0]), r"\(576, 0, 3, 3\)"),
        (changed(UP, lambda w: w[:0]), r"\(0, 64, 3, 3\)"),
        (changed(UP, lambda w: w[0]), r"\(64, 3, 3\)"),
        (changed(UP, lambda w: torch.zeros(64 * 81, 64, 1, 1)), "a scale s from 1 to 8"),
        (lambda state: state.update({3: torch.zeros(1)}), "has the key 3"),
        (changed(UP, torch.Tensor.to_sparse), f"{UP} is a sparse_coo float32 tensor"),
        (changed("conv_1.weight", lambda w: w.to(torch.complex64)), "conv_1.weight is a strided complex64"),
        (changed("conv_1.weight", torch.Tensor.int), "conv_1.weight is a strided int32"),
        (filled(ATTENTION, torch.nan), f"{ATTENTION} holds values that are no finite"),
        (filled("conv_4.weight", torch.inf), "conv_4.weight holds"),
        (changed("conv_4.weight", lambda w: torch.full(w.shape, 1e300, dtype=torch.float64)), "conv_4.weight holds"),
        (lambda state: state.update({"head.weight": state["conv_1.weight"]}), "conv_1.weight and head.weight are two names"),
        (lambda state: {f"module.{k}": v for k, v in state.items() if k != "conv_4.weight"}, "missing conv_4.weight,"),
        (lambda state: state.update({"module.conv_4.weight": state.pop("conv_4.weight")}), "unexpected module.conv_4.weight"),
        (lambda state: {"epoch": torch.zeros(1)}, "not the published network"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit(tmp_path, change, said):
    path = checkpoint(tmp_path / "c.pt", change=change)
    with pytest.raises(InputError, match=said) as caught:
        convert(path, tmp_path / "m.safetensors")
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert not (tmp_path / "m.safetensors").exists()


def test_weights_saved_under_data_parallel_are_the_same(tmp_path):
    def parallel(state):
        return {f"module.{name}": tensor for name, tensor in state.items()}

    plain, wrapped = tmp_path / "plain.safetensors", tmp_path / "wrapped.safetensors"
    convert(checkpoint(tmp_path / "c.pt"), plain)
    convert(checkpoint(tmp_path / "c.pt", change=parallel), wrapped)
    assert plain.read_bytes() == wrapped.read_bytes()


def test_what_the_network_never_uses_may_be_anything(tmp_path):
    change = filled("conv_2.weight", torch.nan)
    assert convert(checkpoint(tmp_path / "c.pt", change=change), tmp_path / "m.safetensors")


def test_published_names_and_ours_are_one_to_one():
    state = published_weights(emsr.EMSR(2))
    used = {published_name(ours) for ours in published_to_emsr(state)}
    assert used < set(state) and len(used) == len(emsr.EMSR(2).state_dict())
    assert (
        published_to_emsr({name: state[name] for name in used}).keys()
        == emsr.EMSR(2).state_dict().keys()
    )


def test_files_that_are_no_checkpoints(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        convert(tmp_path / "c.pt", tmp_path / "m.safetensors")
    (tmp_path / "c.pt").write_bytes(b"not torch")
    with pytest.raises(InputError, match="tensors alone"):
        convert(tmp_path / "c.pt", tmp_path / "m.safetensors")
    torch.save({"weights": {}}, tmp_path / "c.pt")
    with pytest.raises(InputError, match="model_state_dict"):
        convert(tmp_path / "c.pt", tmp_path / "m.safetensors")
