"""The training loop: seeds, resuming, what is kept; and model files."""

import contextlib
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from emsr.errors import InputError
from emsr.network.checkpoint import Header, load_model, load_tensors, save_model, save_tensors
from emsr.network.fit import _finite, fit, follow, learning_rate, start
from emsr.network.losses import two_view_loss
from emsr.network.named import build
from emsr.network.run_state import load_state
from emsr.recipe import Training

TINY = {"features": 4, "residuals": 1, "refinements": 1, "heads": 2}
TRAINING = Training(steps=9, batch=2, patch_px=8, warmup_steps=3, checkpoint_every=3)
CPU = torch.device("cpu")


def draw(step):
    rng = np.random.default_rng([7, step])
    lr = rng.random((2, 1, 8, 8), np.float32)
    return lr, lr.repeat(2, 2).repeat(2, 3)


def validate(network):
    return float(sum(p.detach().abs().sum() for p in network.parameters()))


def begin():
    torch.manual_seed(3)
    return start(build("emsr-tiny", 2, TINY), TRAINING, CPU)


def train(run, folder, until=None, seed=5):
    def progress(step, _note):
        if step == until:
            raise KeyboardInterrupt

    fit(run, draw, validate, TRAINING, seed, folder, progress)


def weights(run):
    return {k: v.clone() for k, v in run.network.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def rising_and_falling(run):
    """A validation that is best at step 6; it reads the step off the run."""
    return lambda _: {0: 0.0, 3: 1.0, 6: 3.0, 9: 2.5, 12: 2.0, 15: 2.9}[run.step]


def patient(folder, patience, until=None, run=None, steps=15):
    """A run on that validation, stopped after ``until`` steps or by itself."""
    run = run or begin()
    training = dataclasses.replace(TRAINING, steps=steps, patience=patience)

    def progress(step, _note):
        if step == until:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        fit(run, draw, rising_and_falling(run), training, 5, folder, progress)
    return run


def test_training_stops_when_validation_has_not_improved_for_long(tmp_path):
    not_improved = "validation has not improved since step 6 (best 3.00 dB, now 2.00 dB)"
    for patience, ends, said in ((2, 12, not_improved), (3, 15, "all 15"), (0, 15, "all 15")):
        run = patient(tmp_path, patience)
        assert (run.step, run.best_step, run.best_psnr) == (ends, 6, 3.0)
        assert [line["step"] for line in run.history] == list(range(3, ends + 1, 3))
        assert ["stopped" in line for line in run.history] == [False] * (ends // 3 - 1) + [True]
        assert run.history[-1]["stopped"].startswith(said)
        written = (tmp_path / "history.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in written] == run.history


@pytest.mark.parametrize("until", [4, 9, 12])
def test_a_run_that_stops_by_itself_does_so_when_resumed(tmp_path, until):
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = patient(tmp_path / "whole", 2)
    patient(tmp_path / "parts", 2, until)
    resumed = begin()
    load_state(resumed, tmp_path / "parts")
    patient(tmp_path / "parts", 2, run=resumed)
    assert resumed.step == whole.step == 12
    assert same(weights(whole), weights(resumed)) and same(whole.best, resumed.best)
    strip = [{**line, "seconds": 0} for line in whole.history]
    assert strip == [{**line, "seconds": 0} for line in resumed.history]


def test_the_network_as_it_starts_may_be_the_best(tmp_path):
    run = begin()
    before = weights(run)
    fit(run, draw, lambda _: -run.step, TRAINING, 5, tmp_path, lambda *_: None)
    assert run.best_step == 0 and same(run.best, before)


def decayed(folder, weight_decay, adam=False):
    run = begin()
    training = dataclasses.replace(TRAINING, weight_decay=weight_decay)
    run = start(run.network, training, CPU)
    if adam:
        run.optimiser = torch.optim.Adam(run.network.parameters(), lr=training.learning_rate)
    fit(run, draw, validate, training, 5, folder, lambda *_: None)
    return run


def test_weight_decay_shrinks_weights_and_without_it_the_optimiser_is_adam(tmp_path):
    none, adam, strong = (decayed(tmp_path, *how) for how in ((0.0,), (0.0, True), (5.0,)))
    assert same(weights(none), weights(adam))
    assert validate(strong.network) < 0.99 * validate(none.network)


@pytest.mark.parametrize("stopped", [1, 3, 4, 8])
def test_a_stopped_and_resumed_run_ends_at_the_same_weights(tmp_path, stopped):
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = begin()
    train(whole, tmp_path / "whole")
    parts = begin()
    with pytest.raises(KeyboardInterrupt):
        train(parts, tmp_path / "parts", until=stopped)
    resumed = begin()
    if stopped >= TRAINING.checkpoint_every:
        load_state(resumed, tmp_path / "parts")
        assert resumed.step == stopped // 3 * 3
    train(resumed, tmp_path / "parts")
    assert same(weights(whole), weights(resumed))
    assert same(whole.best, resumed.best)
    strip = [{**line, "seconds": 0} for line in whole.history]
    assert strip == [{**line, "seconds": 0} for line in resumed.history]


def saved(folder):
    folder.mkdir()
    train(begin(), folder)
    return load_tensors(folder / "state.safetensors", "emsr-state", "training state")


def misshapen(key):
    def change(tensors, _value):
        tensors[key] = torch.zeros(3, 3)

    return change


FOREIGN_STATES = {
    "weights": (misshapen("network/last.weight"), "another network"),
    "running mean": (misshapen("mean/module.last.weight"), "another network"),
    "best weights": (misshapen("best/last.weight"), "another network"),
    "a moment": (misshapen("optimiser/0/exp_avg"), "another network"),
    "half an optimiser": (lambda tensors, _: tensors.pop("optimiser/0/exp_avg_sq"), "another network"),
    "moments of nothing": (misshapen("optimiser/x/exp_avg"), "another network"),
    "one weight more": (misshapen("network/extra"), "another network"),
    "no step": (lambda _, value: value.pop("step"), "damaged"),
    "a step in words": (lambda _, value: value.update(step="3"), "damaged"),
    "what no run has": (lambda _, value: value.update(network=3), "damaged"),
}  # fmt: skip


def test_training_states_that_do_not_fit(tmp_path):
    tensors, value = saved(tmp_path / "run")
    path = tmp_path / "run" / "state.safetensors"
    for case, (change, said) in FOREIGN_STATES.items():
        changed = dict(tensors), dict(value)
        change(*changed)
        save_tensors(path, changed[0], "emsr-state", changed[1])
        run = begin()
        before = weights(run)
        with pytest.raises(InputError, match=f"its training state is (of )?{said}"):
            load_state(run, path.parent)
            pytest.fail(case)
        assert same(weights(run), before) and run.step == 0, case


def test_the_seed_decides(tmp_path):
    runs = []
    for seed in (5, 5, 6):
        run = begin()
        train(run, tmp_path, seed=seed)
        runs.append(weights(run))
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_training_learns_what_can_be_learned(tmp_path):
    training = dataclasses.replace(TRAINING, steps=150, checkpoint_every=150, learning_rate=3e-3)
    run = start(build("emsr-tiny", 2, TINY), training, CPU)
    lr, hr = (torch.from_numpy(part) for part in draw(10_000))
    before = (run.network(lr) - hr).abs().mean().item()
    fit(run, draw, validate, training, 0, tmp_path, lambda *_: None)
    assert (run.network(lr) - hr).abs().mean().item() < 0.7 * before


def test_the_best_mean_weights_are_kept_and_not_the_last(tmp_path):
    scores = iter([0.0, 1.0, 3.0, 2.0])
    run = begin()
    fit(run, draw, lambda _: next(scores), TRAINING, 0, tmp_path, lambda *_: None)
    assert (run.best_step, run.best_psnr, run.step) == (6, 3.0, 9)
    assert not same(run.best, dict(run.mean.module.state_dict()))


def test_learning_rate_warms_up_and_falls():
    rates = [learning_rate(step, TRAINING) for step in range(9)]
    assert rates[:3] == sorted(rates[:3])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert max(rates) == pytest.approx(TRAINING.learning_rate)


def test_divergence_is_said(tmp_path):
    training = dataclasses.replace(TRAINING, learning_rate=1e30, warmup_steps=0)
    run = start(build("emsr-tiny", 2, TINY), training, CPU)
    with pytest.raises(InputError, match="diverged"):
        fit(run, draw, validate, training, 0, tmp_path, lambda *_: None)


def test_divergence_seen_late_is_said_of_the_step_where_it_began():
    losses = [torch.tensor(value) for value in (0.5, math.nan, math.inf, 0.25)]
    with pytest.raises(InputError, match="loss is nan at step 17;"):
        _finite(losses, 20)
    assert _finite(losses[:1] + losses[3:], 20) == [0.5, 0.25]


def test_the_mean_begins_with_the_weights_and_follows_them():
    layer = torch.nn.BatchNorm1d(1)
    mean = AveragedModel(layer)
    expected = None
    for count, value in enumerate((2.0, 5.0, -1.0)):
        layer.weight.data.fill_(value)
        layer.running_mean.fill_(value)
        follow(mean, layer, 0.15)
        keep = min(0.15, (1 + count) / (10 + count))
        expected = value if expected is None else keep * expected + (1 - keep) * value
        assert mean.module.weight.item() == pytest.approx(expected)
        assert mean.module.running_mean.item() == value
    assert int(mean.n_averaged) == 3


def test_the_mean_follows_without_asking_the_device_of_the_weights_for_a_number():
    layer = torch.nn.Linear(2, 2, device="meta")  # which has no numbers to give
    mean = AveragedModel(layer)
    for _ in range(3):
        follow(mean, layer, 0.9)
    assert int(mean.n_averaged) == 3


def test_the_network_that_trains_computes_what_is_validated():
    torch.manual_seed(0)
    network = build("emsr-tiny", 2, {**TINY, "input_skip": False})
    lr = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        validated = network(lr)
    trained = network(lr)
    torch.testing.assert_close(trained, validated, rtol=1e-4, atol=1e-6)
    assert float(validated.std()) > 1e-4


def test_without_a_second_view_the_network_sees_each_patch_once(tmp_path):
    training = dataclasses.replace(TRAINING, steps=1, checkpoint_every=1, second_view=False)
    seen = []
    run = begin()
    run.network.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].clone()))
    fit(run, draw, lambda _: 0.0, training, 0, tmp_path, lambda *_: None)
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], draw(0)[0])
    sr, reference = torch.rand(2, 2, 1, 4, 4)
    assert two_view_loss(sr, None, reference, "l1") == (sr - reference).abs().mean()


def test_two_view_loss_is_the_sum_of_three_distances():
    sr, view, reference = torch.rand(3, 2, 1, 4, 4)
    for name, power in (("l1", 1), ("l2", 2)):
        sides = ((sr, reference), (view, reference), (sr, view))
        expected = sum(float((a - b).abs().pow(power).mean()) for a, b in sides)
        assert two_view_loss(sr, view, reference, name) == pytest.approx(expected)


def header(**changes):
    values = {
        "network": "emsr-tiny",
        "network_options": TINY,
        "scale": 2,
        "lr_window": (0.0, 255.0),
        "hr_window": (3.0, 200.0),
        "dtype": "uint8",
        "lr_spacing_nm": (50.0, 30.0, 30.0),
        "hr_spacing_nm": None,
        "summary": {"steps": 3},
    }
    return Header(**(values | changes))


def test_a_model_file_alone_rebuilds_the_network(tmp_path):
    network = build("emsr-tiny", 2, TINY).eval()
    torch.nn.init.normal_(network.last.weight)
    save_model(tmp_path / "m.safetensors", network, header())
    loaded, said = load_model(tmp_path / "m.safetensors")
    assert said == header()
    lr = torch.rand(1, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(loaded(lr), network(lr))
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_files_that_are_not_models(tmp_path):
    network = build("emsr-tiny", 2, TINY)
    path = tmp_path / "m.safetensors"
    with pytest.raises(InputError, match="no such model file"):
        load_model(path)
    path.write_bytes(b"PK not a model")
    with pytest.raises(InputError, match="not a safetensors file"):
        load_model(path)
    save_tensors(path, network.state_dict(), "someone-else", {})
    with pytest.raises(InputError, match="without emsr's header"):
        load_model(path)
    save_model(path, network, header(scale=3))
    with pytest.raises(InputError, match=r"reconstruct.weight.*\(16, 4, 3, 3\).*\(36, 4, 3, 3\)"):
        load_model(path)
    save_model(path, network, header(network_options={**TINY, "residuals": 2}))
    with pytest.raises(InputError, match=r"missing blocks.0.stage1.1"):
        load_model(path)
