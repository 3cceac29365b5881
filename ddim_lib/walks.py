"""What all samplers and solvers share: the states that they yield, and the checks on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .schedules import Schedule
from .unet import EpsModel


@dataclass(frozen=True, eq=False)
class Step:
    """One state of a trajectory.

    Attributes:
        t: the time of ``xt``.
        xt: (B, ...) the state.
        x0_pred: (B, ...) the clean image that ``eps`` implies; at t = 0 it is ``xt``.
        eps: (B, ...) the noise estimate used at this state; at t = 0, where there is none, the one before.
    """

    t: int
    xt: Tensor
    x0_pred: Tensor
    eps: Tensor


def evaluate(model: EpsModel, x: Tensor, t: int) -> Tensor:
    """The model's noise estimate for a batch at one time; raises ValueError if it has NaN or infinity."""
    eps = model(x, torch.full((len(x),), t, dtype=torch.int64, device=x.device))
    # The sum of finite numbers may overflow, and that of others is never finite: it saves a look at each of them.
    if not torch.isfinite(eps.sum()) and not torch.isfinite(eps).all():
        raise ValueError(f"the model returned NaN or infinity at t = {t}")
    return eps


def check_walk(name: str, x: Tensor, tau: Tensor, schedule: Schedule) -> None:
    """Raise ValueError unless ``x`` is a floating-point batch and ``tau`` increases from 0 to at most T."""
    if not x.is_floating_point() or x.ndim < 1 or len(x) == 0:
        raise ValueError(f"{name} must be a floating-point batch (B, ...), got {x.dtype} of shape {tuple(x.shape)}")
    if tau.ndim != 1 or tau.dtype != torch.int64 or len(tau) < 2:
        raise ValueError(f"tau must be int64 of shape (S+1,), got {tau.dtype} of shape {tuple(tau.shape)}")
    if tau[0] != 0 or (tau.diff() <= 0).any() or tau[-1] > schedule.T:
        raise ValueError(f"tau must increase strictly from 0 to at most T = {schedule.T}, got {tau.tolist()}")


def counting(model: EpsModel, tell: Callable[[int], object]) -> EpsModel:
    """The model, which calls ``tell`` with the number of images after every evaluation."""

    def eps_model(xt: Tensor, t: Tensor) -> Tensor:
        eps = model(xt, t)
        tell(len(xt))
        return eps

    return eps_model


def last_state(walk: Iterator[Step]) -> Tensor:
    """The state at the end of a walk, whose other states are not kept."""
    return deque(walk, maxlen=1)[0].xt
