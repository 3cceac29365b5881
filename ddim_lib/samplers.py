"""The DDIM update and the samplers built on it (Song et al. 2021, "DDIM")."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .forward import check_alpha_bar, check_same, in_double, per_sample, predict_eps, predict_x0, root, shown
from .schedules import Schedule
from .unet import EpsModel
from .walks import Step, check_walk, evaluate


def ddim_sigma(alpha_bar_t: Tensor | float, alpha_bar_s: Tensor | float, eta: float) -> Tensor:
    """The noise put back in a step from t to s < t: sigma = eta * sqrt(beta_tilde) (DDIM, eq. 16).

    beta_tilde = (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s) is the variance of DDPM's
    posterior. eta = 0 is deterministic, eta = 1 is DDPM; sigma goes with eta, the variance with eta squared.

    Returns:
        float64, the common shape of both alpha_bar.

    Raises:
        ValueError: an alpha_bar outside (0, 1], ``alpha_bar_t >= alpha_bar_s``, eta negative, or eta so large that
            sigma^2 > 1 - alpha_bar_s (the message names the largest eta).
    """
    alpha_bar_t, alpha_bar_s = _check_pair(alpha_bar_t, alpha_bar_s)
    if not eta >= 0:
        raise ValueError(f"eta must be 0 or more, got {eta}")
    one_step = (alpha_bar_s - alpha_bar_t) / alpha_bar_s  # eq-forward-jump; 1 - the quotient would lose digits
    bound = torch.where(alpha_bar_s < 1, (1 - alpha_bar_t) / one_step, math.inf).sqrt().min().item()  # at s = 0 any eta
    if eta > bound * (1 + 1e-13):  # what passes here leaves a step its real root
        largest = math.floor(bound * 1e6) / 1e6
        raise ValueError(f"eta = {eta} makes sigma^2 > 1 - alpha_bar_s; here eta must be at most {largest}")
    return eta * ((1 - alpha_bar_s) / (1 - alpha_bar_t) * one_step).sqrt()  # def-eta, eq-ddpm-variance


def ddim_coefficients(
    alpha_bar_t: Tensor | float, alpha_bar_s: Tensor | float, sigma: Tensor | float
) -> tuple[Tensor, Tensor]:
    """(m, n) of q(x_s | x_t, x_0) = N(m x_0 + n x_t, sigma^2 I) (DDIM, eq. 7, solved for m and n).

    Returns:
        two float64 tensors, the common shape of the arguments.

    Raises:
        ValueError: an alpha_bar outside (0, 1], ``alpha_bar_t >= alpha_bar_s``, sigma negative or
            sigma^2 > 1 - alpha_bar_s.
    """
    alpha_bar_t, alpha_bar_s = _check_pair(alpha_bar_t, alpha_bar_s)
    n = _direction(alpha_bar_s, sigma) / (1 - alpha_bar_t).sqrt()  # eq-n
    return alpha_bar_s.sqrt() - n * alpha_bar_t.sqrt(), n  # eq-m


def _direction(alpha_bar_s: Tensor | float, sigma: Tensor | float) -> Tensor:
    """sqrt(1 - alpha_bar_s - sigma^2), what multiplies eps in x_s; raises ValueError where there is no real root."""
    sigma, room = in_double(sigma), in_double(1 - alpha_bar_s)
    variance = sigma * sigma
    if not torch.all(torch.as_tensor((sigma >= 0) & (variance <= room * (1 + 1e-12)))):  # eq-range
        limits = f"0 <= sigma^2 <= 1 - alpha_bar_s = {shown(room)}"
        raise ValueError(f"sigma must satisfy {limits}, got sigma = {shown(sigma)}")
    return torch.as_tensor(room - variance, dtype=torch.float64).clamp(min=0).sqrt()


def ddim_step(
    xt: Tensor,
    eps: Tensor,
    alpha_bar_t: Tensor | float,
    alpha_bar_s: Tensor | float,
    sigma: Tensor | float,
    noise: Tensor | None = None,
) -> Tensor:
    """One update x_t -> x_s (DDIM, eq. 12), with x0_pred from :func:`predict_x0`.

    x_s = sqrt(alpha_bar_s) x0_pred + sqrt(1 - alpha_bar_s - sigma^2) eps + sigma noise.

    s may also be the later time (``alpha_bar_s < alpha_bar_t``): that is how images are encoded, with sigma = 0.

    Args:
        xt: (B, ...) the state at time t.
        eps: its noise estimate, the shape of ``xt``.
        alpha_bar_t, alpha_bar_s, sigma: numbers, or one for each sample, (B,).
        noise: standard Gaussian, the shape of ``xt``; needed where sigma > 0.

    Raises:
        ValueError: shapes or dtypes that differ, coefficients out of range, or noise missing.
    """
    return _step_from(predict_x0(xt, eps, alpha_bar_t), eps, alpha_bar_s, sigma, noise)


def _step_from(
    x0_pred: Tensor, eps: Tensor, alpha_bar_s: Tensor | float, sigma: Tensor | float, noise: Tensor | None
) -> Tensor:
    """x_s of :func:`ddim_step`, where x0_pred is known."""
    alpha_bar_s, sigma = check_alpha_bar("alpha_bar_s", alpha_bar_s), in_double(sigma)
    xs = per_sample(root(alpha_bar_s), eps) * x0_pred + per_sample(_direction(alpha_bar_s, sigma), eps) * eps
    if not torch.any(torch.as_tensor(sigma > 0)):
        return xs
    if noise is None:
        raise ValueError(f"a step with sigma = {shown(sigma)} > 0 needs noise, got None")
    check_same("xt", xs, "noise", noise)
    return xs + per_sample(sigma, xs) * noise  # eq-update


def ddim_sample(
    model: EpsModel,
    schedule: Schedule,
    xT: Tensor,
    tau: Tensor,
    eta: float = 0.0,
    *,
    variance: str = "eta",
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    clip_x0: bool = False,
) -> Iterator[Step]:
    """Walk from x_T down to x_0 along tau: S network evaluations, S + 1 steps, the last with ``t == 0``.

    Args:
        model: the noise predictor.
        schedule: the schedule that the model was trained with.
        xT: (B, ...) standard Gaussian noise.
        tau: int64 (S+1,) from :func:`make_tau`, or any increasing times that start at 0.
        eta: 0 is deterministic and draws no random number; 1 is DDPM on tau. Not used with ``"sigma_hat"``.
        variance: ``"eta"``; or ``"sigma_hat"``, DDPM with the larger noise sqrt(1 - alpha_bar_t / alpha_bar_s) beside
            the mean of eta = 1 (DDIM, appendix D.3). Both leave the last step, to t = 0, without noise.
        generator: source of the noise; drawn on the generator's device, so that seeds mean the same everywhere. Or
            several, each for an equal share of the batch: then it does not matter how samples are put into batches.
        clip_x0: clip x0_pred to [-1, 1] and take eps anew from it.

    Raises:
        ValueError: at once for bad arguments; while walking, if the model returns NaN or infinity (naming the time).
    """
    check_walk("xT", xT, tau, schedule)
    _check_share(xT, generator)
    levels = _noise_levels(schedule.alpha_bar[tau], eta, variance)
    times, alpha_bar, sigma, std = (values.tolist() for values in (tau, schedule.alpha_bar[tau], *levels))

    def walk() -> Iterator[Step]:
        x = xT
        for i in range(len(times) - 1, 0, -1):
            eps = evaluate(model, x, times[i])
            x0_pred = predict_x0(x, eps, alpha_bar[i])
            if clip_x0:
                x0_pred = x0_pred.clamp(-1, 1)
                eps = predict_eps(x, x0_pred, alpha_bar[i])
            yield Step(times[i], x, x0_pred, eps)
            # the step multiplies the noise by sigma, which is its right size but for sigma_hat
            noise = _randn_like(x, generator) * (std[i] / sigma[i]) if std[i] > 0 else None
            x = _step_from(x0_pred, eps, alpha_bar[i - 1], sigma[i], noise)
        yield Step(0, x, x, eps)

    return torch.no_grad()(walk)()  # no decorator: mutation tests pass over a function that has one


def ddim_encode(model: EpsModel, schedule: Schedule, x0: Tensor, tau: Tensor) -> Iterator[Step]:
    """Walk from x_0 up to x_T with the deterministic update run backwards (DDIM, section 4.3).

    S + 1 steps and as many network evaluations. The noise estimate at x_s is held over the step to the next time; at
    time 0, which the network never saw, it is asked about t = 1. Arguments and errors as in :func:`ddim_sample`.
    """
    check_walk("x0", x0, tau, schedule)
    alpha_bar = schedule.alpha_bar[tau]

    def walk() -> Iterator[Step]:
        x = x0
        for i in range(len(tau)):
            eps = evaluate(model, x, max(1, int(tau[i])))
            yield Step(int(tau[i]), x, predict_x0(x, eps, alpha_bar[i]), eps)
            if i + 1 < len(tau):
                x = ddim_step(x, eps, alpha_bar[i], alpha_bar[i + 1], sigma=0.0)

    return torch.no_grad()(walk)()  # no decorator: mutation tests pass over a function that has one


def slerp(x: Tensor, y: Tensor, weight: float) -> Tensor:
    """Spherical interpolation of two batches of noise, sample by sample (Shoemake 1985): x at 0, y at 1.

    Args:
        x, y: (B, ...), the same shape.
        weight: where between them, in [0, 1].
    """
    check_same("x", x, "y", y)
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must lie in [0, 1], got {weight}")
    a, b = (z.unsqueeze(-1).flatten(1).double() for z in (x, y))
    cosine = (a / a.norm(dim=1, keepdim=True) * (b / b.norm(dim=1, keepdim=True))).sum(1)
    angle = cosine.acos()
    straight = ~(angle.sin() >= 1e-6)  # parallel, be it beyond 1 by rounding; or one of them is 0, without a direction
    at_x = torch.where(straight, 1 - weight, ((1 - weight) * angle).sin() / angle.sin())
    at_y = torch.where(straight, weight, (weight * angle).sin() / angle.sin())
    return per_sample(at_x, x) * x + per_sample(at_y, y) * y


def _randn_like(x: Tensor, generator: torch.Generator | Sequence[torch.Generator] | None) -> Tensor:
    if isinstance(generator, Sequence):
        return torch.cat([_randn_like(part, one) for part, one in zip(x.chunk(len(generator)), generator, strict=True)])
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device).to(x.device)


def _check_share(xT: Tensor, generator: torch.Generator | Sequence[torch.Generator] | None) -> None:
    if isinstance(generator, Sequence) and (not generator or len(xT) % len(generator)):
        raise ValueError(f"generator: {len(generator)} generators cannot share a batch of {len(xT)} equally")


def _noise_levels(alpha_bar: Tensor, eta: float, variance: str) -> tuple[Tensor, Tensor]:
    """For each time of tau: sigma, which shapes the mean, and the standard deviation of the noise added."""
    if variance not in ("eta", "sigma_hat"):
        raise ValueError(f"variance must be 'eta' or 'sigma_hat', got {variance!r}")
    if variance == "sigma_hat" and eta not in (0.0, 1.0):
        raise ValueError(f"variance='sigma_hat' takes its mean from eta = 1; leave eta out, got {eta}")
    zero = alpha_bar.new_zeros(1)  # nothing is below time 0
    sigma = torch.cat([zero, ddim_sigma(alpha_bar[1:], alpha_bar[:-1], 1.0 if variance == "sigma_hat" else eta)])
    if variance == "eta":
        return sigma, sigma
    one_step = (alpha_bar[1:-1] - alpha_bar[2:]) / alpha_bar[1:-1]
    std = torch.cat([zero, zero, one_step.sqrt()])  # def-sigma-hat; none on the last step
    return sigma, std


def _check_pair(alpha_bar_t: Tensor | float, alpha_bar_s: Tensor | float) -> tuple[Tensor, Tensor]:
    alpha_bar_t = torch.as_tensor(check_alpha_bar("alpha_bar_t", alpha_bar_t), dtype=torch.float64)
    alpha_bar_s = torch.as_tensor(check_alpha_bar("alpha_bar_s", alpha_bar_s), dtype=torch.float64)
    if not torch.all(alpha_bar_t < alpha_bar_s):
        pair = f"{alpha_bar_t.tolist()} and {alpha_bar_s.tolist()}"
        raise ValueError(f"alpha_bar_t must be below alpha_bar_s (s is the earlier time), got {pair}")
    return alpha_bar_t, alpha_bar_s
