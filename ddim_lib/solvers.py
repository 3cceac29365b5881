"""Second-order solvers of the differential equation of which DDIM is Euler's method.

In the coordinates x_bar = x / sqrt(alpha_bar) and sigma_bar = sqrt((1 - alpha_bar) / alpha_bar) it reads
d x_bar / d sigma_bar = eps(x, t) (Song et al. 2021, eq. 14). Each solver walks tau as :func:`ddim_sample` does, yields
the same :class:`Step`, and takes the same arguments but for noise: all of them are deterministic. None takes two times
whose sigma_bar is the same, but for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .forward import predict_x0
from .schedules import Schedule
from .unet import EpsModel
from .walks import Step, check_walk, evaluate

# One step: (i, x_bar, the noise estimates at tau[i] and, after the first step, tau[i + 1]) -> x_bar at tau[i - 1].
Advance = Callable[[int, Tensor, list[Tensor]], Tensor]


def heun_sample(model: EpsModel, schedule: Schedule, xT: Tensor, tau: Tensor) -> Iterator[Step]:
    """Heun's method: an Euler step, then the mean of the slopes at both its ends (Karras et al. 2022, algorithm 1).

    2 S - 1 network evaluations: the last step, to t = 0, is Euler's, since there is no noise estimate at t = 0.
    """
    times, level = tau.tolist(), _levels(schedule, xT, tau)

    def advance(i: int, x_bar: Tensor, slopes: list[Tensor]) -> Tensor:
        h = level[i - 1] - level[i]
        end = x_bar + h * slopes[0]
        if i == 1:
            return end
        slope = evaluate(model, _to_state(end, level[i - 1]), times[i - 1])
        return x_bar + h * (slopes[0] + slope) / 2  # def-heun

    return _walk(model, schedule, xT, tau, advance)


def adams_bashforth_sample(model: EpsModel, schedule: Schedule, xT: Tensor, tau: Tensor) -> Iterator[Step]:
    """The two-step Adams-Bashforth method: the slope is extrapolated from this time and the one before.

    The idea of PNDM (Liu et al. 2022) at second order, for steps of unequal length. S network evaluations; the first
    step is Euler's.
    """
    level = _levels(schedule, xT, tau)

    def advance(i: int, x_bar: Tensor, slopes: list[Tensor]) -> Tensor:
        h = level[i - 1] - level[i]
        if len(slopes) == 1:
            return x_bar + h * slopes[0]
        ratio = h / (level[i] - level[i + 1])
        return x_bar + h * (slopes[0] + ratio / 2 * (slopes[0] - slopes[1]))  # eq-ab2

    return _walk(model, schedule, xT, tau, advance)


def exponential_sample(model: EpsModel, schedule: Schedule, xT: Tensor, tau: Tensor) -> Iterator[Step]:
    """A two-step exponential integrator: the predicted x_0 is extrapolated, in lambda = -log sigma_bar.

    The idea of DPM-Solver++ 2M (Lu et al. 2022, algorithm 2). S network evaluations; the first step and the last, to
    t = 0, are DDIM's.
    """
    level = _levels(schedule, xT, tau)
    clean: list[Tensor] = []  # predicted x_0, newest first

    def advance(i: int, x_bar: Tensor, slopes: list[Tensor]) -> Tensor:
        clean[:] = [x_bar - level[i] * slopes[0], *clean[:1]]
        target = clean[0]
        if len(clean) > 1 and i > 1:
            step, before = (math.log(level[j]) - math.log(level[j - 1]) for j in (i, i + 1))
            target = clean[0] + step / before / 2 * (clean[0] - clean[1])  # eq-exp2
        share = level[i - 1] / level[i]
        return share * x_bar + (1 - share) * target  # eq-exp-step

    return _walk(model, schedule, xT, tau, advance)


def sigma_bar(schedule: Schedule, tau: Tensor) -> Tensor:
    """sqrt((1 - alpha_bar) / alpha_bar) at the times of tau, float64 (S+1,), increasing from 0."""
    alpha_bar = schedule.alpha_bar[tau]
    return ((1 - alpha_bar) / alpha_bar).sqrt()


def _levels(schedule: Schedule, xT: Tensor, tau: Tensor) -> list[float]:
    check_walk("xT", xT, tau, schedule)
    level = sigma_bar(schedule, tau)
    alike = (level[2:] < level[1:-1] * (1 + 1e-9)).nonzero().flatten().tolist()
    if alike:  # a slope or x_0 cannot be extrapolated from the two: their difference is one of roundings
        times = tau[alike[0] + 1 : alike[0] + 3].tolist()
        raise ValueError(f"tau must have times of different noise, got {times}, where sigma_bar agrees to 9 digits")
    return level.tolist()


def _walk(model: EpsModel, schedule: Schedule, xT: Tensor, tau: Tensor, advance: Advance) -> Iterator[Step]:
    level = _levels(schedule, xT, tau)
    times, alpha_bar = tau.tolist(), schedule.alpha_bar[tau].tolist()

    def walk() -> Iterator[Step]:
        x_bar, slopes = xT * math.hypot(1, level[-1]), []
        for i in range(len(times) - 1, 0, -1):
            state = _to_state(x_bar, level[i])
            slopes = [evaluate(model, state, times[i]), *slopes[:1]]
            yield Step(times[i], state, predict_x0(state, slopes[0], alpha_bar[i]), slopes[0])
            x_bar = advance(i, x_bar, slopes)
        yield Step(0, x_bar, x_bar, slopes[0])

    return torch.no_grad()(walk)()  # no decorator: mutation tests pass over a function that has one


def _to_state(x_bar: Tensor, level: float) -> Tensor:
    return x_bar / math.hypot(1, level)
