"""The training loss of the paper: two noisy views of one LR image, one noisy reference."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": F.l1_loss, "l2": F.mse_loss}


def two_view_loss(sr: Tensor, sr_view: Tensor | None, reference: Tensor, loss: str) -> Tensor:
    """``L(f(y), x) + L(f(y'), x) + L(f(y), f(y'))`` for the noisy reference x and the noisier
    view y' = y + n (arXiv 2401.08115, equation of the total loss); without a second view the first
    term alone.

    The first two terms are sound against noisy references; the third is a regulariser.
    """
    if sr_view is None:
        return LOSSES[loss](sr, reference)
    distance = LOSSES[loss]
    return distance(sr, reference) + distance(sr_view, reference) + distance(sr, sr_view)
