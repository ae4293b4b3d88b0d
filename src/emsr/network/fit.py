"""The one loop that trains a network.

Everything random at step k follows from (seed, k): the patches, their symmetry, the noise of the
second view. So a run is resumed from its weights, its optimiser and the number of its step, and
ends at the same weights as a run that was never stopped (on the CPU, at equal threads).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from emsr.errors import InputError
from emsr.network.losses import two_view_loss
from emsr.network.run_state import Run, save_state
from emsr.recipe import Training

Draw = Callable[[int], tuple[np.ndarray, np.ndarray]]
Validate = Callable[[torch.nn.Module], float]

LOOK_EVERY = 20
"""Steps on a GPU between two looks at the loss; a checkpoint is never written without one."""


def start(network: torch.nn.Module, training: Training, device: torch.device) -> Run:
    """A run at step 0."""
    network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean = AveragedModel(network)
    # Without decay AdamW is Adam, to the bit.
    optimiser = torch.optim.AdamW(
        network.parameters(),
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
        fused=device.type == "cuda",  # on CPUs not to the bit the plain one, and no gain
    )
    return Run(network, mean, optimiser, best=_copy(network))


@torch.no_grad()
def follow(mean: AveragedModel, network: torch.nn.Module, decay: float) -> None:
    """Move the mean weights towards those of now. In a young run the mean reaches back a tenth of
    the run at most, so that it is not stuck where the run began.

    ``AveragedModel``'s own update sends the count to the device of the weights, and a GPU would be
    waited for in every step.
    """
    count = int(mean.n_averaged)
    young = (1 + count) / (10 + count)
    weight = 1 - min(decay, young) if count else 1.0
    torch._foreach_lerp_([*mean.module.parameters()], [*network.parameters()], weight)
    for held, now in zip(mean.module.buffers(), network.buffers(), strict=True):
        held.copy_(now)
    mean.n_averaged += 1


def fit(
    run: Run,
    draw: Draw,
    validate: Validate,
    training: Training,
    seed: int,
    folder: Path,
    progress: Callable[[int, str], None],
) -> None:
    """Train ``run`` in place until ``stop_reason`` has one.

    ``draw(step)`` gives ``(b, slices, y, x)`` LR and ``(b, 1, s*y, s*x)`` HR patches in network
    units; ``validate(network)`` a PSNR in dB on a field that is never drawn from. Every
    ``checkpoint_every`` steps the mean weights are validated, the best are kept (those of step 0
    among them), and ``folder`` gets ``state.safetensors`` and a line of ``history.jsonl``, the last
    one with the reason. ``progress(step, note)``.
    """
    device = next(run.network.parameters()).device
    cast = _autocast(training.precision, device)
    # Each look at the loss waits for a GPU to finish.
    look_every = LOOK_EVERY if device.type == "cuda" else 1
    unseen: list[Tensor] = []
    losses: list[float] = []
    note = ""
    spent, began = run.seconds, time.monotonic()
    run.network.train()
    if run.step == 0:
        run.best_psnr = validate(run.mean.module)
    while stop_reason(run, training) is None:
        unseen.append(_train_step(run, draw, training, seed, run.step, device, cast))
        run.step += 1
        due = run.step % training.checkpoint_every == 0 or run.step == training.steps
        if due or run.step % look_every == 0:
            losses += _finite(unseen, run.step)
            unseen.clear()
        if due:
            run.seconds = spent + time.monotonic() - began
            _checkpoint(run, validate, float(np.mean(losses)), training, folder)
            losses.clear()
            last = run.history[-1]
            note = f"loss {last['loss']:.4f}, validation {last['validation_psnr']:.2f} dB"
        progress(run.step, note or (f"loss {losses[-1]:.4f}" if losses else ""))


def _finite(unseen: list[Tensor], step: int) -> list[float]:
    """The losses of the last steps before ``step``; InputError where one is no number."""
    values: list[float] = torch.stack(unseen).tolist()
    for back, value in zip(range(len(values), 0, -1), values, strict=True):
        if not math.isfinite(value):
            raise InputError(
                f"training diverged: the loss is {value} at step {step - back}; "
                "choose a smaller learning_rate in the recipe"
            )
    return values


def stop_reason(run: Run, training: Training) -> str | None:
    """Why training is over, in words; None while it goes on. Follows from the run's state alone, so
    that a resumed run ends where an uninterrupted one does."""
    if run.step >= training.steps:
        return f"all {training.steps} steps done"
    since = sum(line["step"] > run.best_step for line in run.history)
    if not training.patience or since < training.patience:
        return None
    return (
        f"validation has not improved since step {run.best_step} (best {run.best_psnr:.2f} dB, "
        f"now {run.history[-1]['validation_psnr']:.2f} dB)"
    )


def _train_step(
    run: Run,
    draw: Draw,
    training: Training,
    seed: int,
    step: int,
    device: torch.device,
    cast: torch.dtype | None,
) -> Tensor:
    lr, hr = (_moved(part, device) for part in draw(step))
    views = lr
    if training.second_view:
        views = torch.cat([lr, lr + _view_noise(lr, training.view_noise, seed, step)])
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(step, training)
    with torch.autocast(device.type, cast, enabled=cast is not None):
        outputs = run.network(views).float()
    sr, sr_view = outputs.chunk(2) if training.second_view else (outputs, None)
    loss = two_view_loss(sr, sr_view, hr, training.loss)
    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    run.optimiser.step()
    follow(run.mean, run.network, training.ema)
    return loss.detach()


def _moved(part: np.ndarray, device: torch.device) -> Tensor:
    """On a GPU without waiting for it: the copy runs behind the step before."""
    tensor = torch.from_numpy(part)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _view_noise(lr: Tensor, sigma: tuple[float, float], seed: int, step: int) -> Tensor:
    """White Gaussian noise for the second view, its sigma drawn once per batch (the paper)."""
    rng = np.random.default_rng([seed, step, 1])
    noise = rng.standard_normal(lr.shape, dtype=np.float32) * np.float32(rng.uniform(*sigma))
    return _moved(noise, lr.device)


def learning_rate(step: int, training: Training) -> float:
    """Linear warm-up, then a cosine down to 1 % of the peak."""
    if step < training.warmup_steps:
        return training.learning_rate * (step + 1) / training.warmup_steps
    done = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
    return training.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def _checkpoint(
    run: Run, validate: Validate, loss: float, training: Training, folder: Path
) -> None:
    psnr = validate(run.mean.module)
    if psnr >= run.best_psnr:
        run.best, run.best_psnr, run.best_step = _copy(run.mean.module), psnr, run.step
    run.history.append(
        {
            "step": run.step,
            "loss": loss,
            "learning_rate": learning_rate(run.step - 1, training),
            "validation_psnr": psnr,
            "seconds": round(run.seconds, 1),
        }
    )
    if stopped := stop_reason(run, training):
        run.history[-1]["stopped"] = stopped
    save_state(run, folder)


def _copy(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _autocast(precision: str, device: torch.device) -> torch.dtype | None:
    """bf16 where the device computes it natively, unless the recipe says otherwise."""
    native = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    wanted = precision == "bf16" or (precision == "auto" and native)
    return torch.bfloat16 if wanted else None
