"""The marginal q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I), read in both directions."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def q_sample(x0: Tensor, alpha_bar_t: Tensor | float, noise: Tensor) -> Tensor:
    """Draw x_t given x_0: sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise (Ho et al. 2020, eq. 4).

    Args:
        x0: (B, ...) clean data.
        alpha_bar_t: a number, or one for each sample, (B,).
        noise: standard Gaussian, the shape of ``x0``.

    Raises:
        ValueError: shapes that differ, integer data, or an ``alpha_bar_t`` outside (0, 1].
    """
    check_same("x0", x0, "noise", noise)
    signal, std = _signal_and_noise(alpha_bar_t, x0)
    return signal * x0 + std * noise  # def-marginal, eq-closed-mean, eq-closed-variance


def predict_x0(xt: Tensor, eps: Tensor, alpha_bar_t: Tensor | float) -> Tensor:
    """The x_0 that a noise estimate implies: (x_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t).

    Source: Song et al. 2021 (DDIM), eq. 9. Arguments and errors as in :func:`q_sample`.
    """
    check_same("xt", xt, "eps", eps)
    signal, std = _signal_and_noise(alpha_bar_t, xt)
    return (xt - std * eps) / signal  # eq-x0-pred


def predict_eps(xt: Tensor, x0: Tensor, alpha_bar_t: Tensor | float) -> Tensor:
    """The noise that leads from x_0 to x_t: (x_t - sqrt(alpha_bar_t) x_0) / sqrt(1 - alpha_bar_t).

    Arguments and errors as in :func:`q_sample`; moreover ``alpha_bar_t`` must be below 1, since clean data carries no
    noise to read off.
    """
    check_same("xt", xt, "x0", x0)
    signal, std = _signal_and_noise(alpha_bar_t, xt)
    if torch.any(torch.as_tensor(std == 0)):
        raise ValueError("alpha_bar_t must be below 1 to recover the noise, got 1 (time 0 carries none)")
    return (xt - signal * x0) / std


def per_sample(coefficient: Tensor | float, x: Tensor) -> Tensor | float:
    """Shape a coefficient, a number or float64 (B,), so that its product with ``x`` (B, ...) keeps its dtype."""
    if isinstance(coefficient, float) or coefficient.ndim == 0:
        return coefficient
    if coefficient.shape != x.shape[:1]:
        shapes = f"have shape ({len(x)},), got shape {tuple(coefficient.shape)}"
        raise ValueError(f"alpha_bar_t, alpha_bar_s and sigma must be numbers or {shapes}")
    return coefficient.to(x.device, x.dtype).view(-1, *[1] * (x.ndim - 1))


def check_same(name_a: str, a: Tensor, name_b: str, b: Tensor) -> None:
    """Raise ValueError unless both are floating-point tensors of one shape and dtype."""
    for name, value in ((name_a, a), (name_b, b)):
        if not value.is_floating_point():
            raise ValueError(f"{name} must be a floating-point tensor, got {value.dtype}")
    if a.shape != b.shape or a.dtype != b.dtype:
        raise ValueError(
            f"{name_a} and {name_b} must have the same shape and dtype, "
            f"got {tuple(a.shape)} {a.dtype} and {tuple(b.shape)} {b.dtype}"
        )


def in_double(value: Tensor | float) -> Tensor | float:
    """A tensor in float64; a number, ten times as fast, where it has no dimensions and asks for no gradient."""
    return value.double() if isinstance(value, Tensor) and (value.ndim or value.requires_grad) else float(value)


def shown(value: Tensor | float) -> float | list[float]:
    """A number or a tensor as an error message shows it."""
    return value.tolist() if isinstance(value, Tensor) else value


def check_alpha_bar(name: str, value: Tensor | float) -> Tensor | float:
    """Return ``value`` :func:`in_double`; raise ValueError naming it unless all of it lies in (0, 1]."""
    value = in_double(value)
    low, high = value.aminmax() if isinstance(value, Tensor) else (value, value)
    if not (low > 0 and high <= 1):  # NaN fails both
        raise ValueError(f"{name} must lie in (0, 1], got {shown(value)}")
    return value


def root(value: Tensor | float) -> Tensor | float:
    """The square root of a number or a tensor."""
    return math.sqrt(value) if isinstance(value, float) else value.sqrt()


def _signal_and_noise(alpha_bar_t: Tensor | float, x: Tensor) -> tuple[Tensor | float, Tensor | float]:
    alpha_bar_t = check_alpha_bar("alpha_bar_t", alpha_bar_t)
    return per_sample(root(alpha_bar_t), x), per_sample(root(1 - alpha_bar_t), x)
