"""Noise schedules (beta and alpha_bar) and sub-sequences of times (tau)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Schedule:
    """How much noise each time t = 0..T carries.

    Index 0 is clean data: ``alpha_bar[0] == 1`` and ``beta[0] == 0``. ``alpha_bar`` is DDPM's
    cumulative product of ``1 - beta`` (Ho et al. 2020, eq. 4); the DDIM paper calls it alpha.

    Attributes:
        beta: float64 (T+1,), the variance added at each step.
        alpha_bar: float64 (T+1,), the variance share of the signal, strictly decreasing in (0, 1].

    Raises:
        ValueError: another dtype, a length below 2, ``alpha_bar[0] != 1``, a value outside (0, 1], two neighbours that
            do not decrease, or a beta that belongs to another alpha_bar.
    """

    beta: Tensor
    alpha_bar: Tensor

    def __post_init__(self) -> None:
        for name in ("beta", "alpha_bar"):
            if (dtype := getattr(self, name).dtype) != torch.float64:
                raise ValueError(f"{name} must be float64, got {dtype}")
        _check_alpha_bar(self.alpha_bar)
        beta = _beta(self.alpha_bar)
        if self.beta.shape != beta.shape or not torch.allclose(self.beta, beta, atol=1e-9):
            raise ValueError(f"beta must be 1 - alpha_bar[t] / alpha_bar[t - 1], with beta[0] = 0, got {self.beta}")

    @property
    def T(self) -> int:
        """The number of training steps; times run from 1 to T."""
        return len(self.alpha_bar) - 1

    @classmethod
    def linear(cls, T: int = 1000, beta_1: float = 1e-4, beta_T: float = 0.02) -> Schedule:
        """Beta grows linearly from ``beta_1`` at t = 1 to ``beta_T`` at t = T (Ho et al. 2020, section 4).

        Raises:
            ValueError: T below 1, or a beta outside (0, 1).
        """
        T = _checked_T(T)
        for name, value in (("beta_1", beta_1), ("beta_T", beta_T)):
            if not 0 < value < 1:
                raise ValueError(f"{name} must lie in (0, 1), got {value}")
        return cls._from_beta(torch.linspace(beta_1, beta_T, T, dtype=torch.float64))

    @classmethod
    def cosine(cls, T: int) -> Schedule:
        """alpha_bar falls like a squared cosine; beta is capped at 0.999 (Nichol & Dhariwal 2021, eq. 17).

        Raises:
            ValueError: T below 1.
        """
        T = _checked_T(T)
        offset = 0.008
        phase = (torch.arange(T + 1, dtype=torch.float64) / T + offset) / (1 + offset) * math.pi / 2
        f = torch.cos(phase).square()
        return cls._from_beta((1 - f[1:] / f[:-1]).clamp(max=0.999))

    @classmethod
    def from_alpha_bar(cls, values: Sequence[float] | Tensor) -> Schedule:
        """Take alpha_bar as given: T+1 values, the first one 1, strictly decreasing, none at or below 0."""
        alpha_bar = torch.as_tensor(values, dtype=torch.float64).clone()
        _check_alpha_bar(alpha_bar)
        return cls(beta=_beta(alpha_bar), alpha_bar=alpha_bar)

    @classmethod
    def _from_beta(cls, beta: Tensor) -> Schedule:
        alpha_bar = torch.cumprod(1 - beta, dim=0)  # def-abar
        return cls(beta=_with_leading(0.0, beta), alpha_bar=_with_leading(1.0, alpha_bar))


def make_tau(T: int, S: int, spacing: str = "uniform") -> Tensor:
    """Choose the S times at which the network is evaluated, plus time 0.

    ``"uniform"`` is ``floor(i T / S)`` and ends at T for every S. ``"leading"`` is ``1 + (i - 1) * (T // S)``, the
    stride of the authors' code and of diffusers' default; it stops short of T. ``"quadratic"`` is
    ``ceil(T i^2 / S^2)``: small steps near the data, as in the DDIM paper's appendix D.2, but ending at T.

    Returns:
        tau: int64 (S+1,), strictly increasing, ``tau[0] == 0``.

    Raises:
        ValueError: S outside 1..T, an unknown spacing, or one that would repeat a time (the message names the largest
            S that works).
    """
    T = _checked_T(T)
    if int(S) != S or not 1 <= S <= T:
        raise ValueError(f"S must be a whole number in 1..T = 1..{T}, got {S}")
    if spacing not in ("uniform", "leading", "quadratic"):
        raise ValueError(f"spacing must be 'uniform', 'leading' or 'quadratic', got {spacing!r}")
    tau = _spaced(T, int(S), spacing)
    if _repeats(tau):
        sizes = range(1, min(T, math.isqrt(4 * T)) + 1)  # more have a second quadratic time of 1, as the first is
        largest = max(size for size in sizes if not _repeats(_spaced(T, size, spacing)))
        raise ValueError(f"spacing {spacing!r} with S = {S} repeats a time for T = {T}; the largest S is {largest}")
    return tau


def _spaced(T: int, S: int, spacing: str) -> Tensor:
    i = torch.arange(S + 1)
    if spacing == "uniform":
        return i * T // S  # def-tau
    if spacing == "quadratic":
        return -((-T * i * i) // (S * S))
    return torch.where(i > 0, 1 + (i - 1) * (T // S), 0)


def _repeats(tau: Tensor) -> bool:
    return bool((tau.diff() <= 0).any())


def _beta(alpha_bar: Tensor) -> Tensor:
    """1 - alpha_bar[t] / alpha_bar[t - 1], by a difference that floating point takes without loss, and beta[0] = 0."""
    return _with_leading(0.0, -alpha_bar.diff() / alpha_bar[:-1])


def _with_leading(first: float, rest: Tensor) -> Tensor:
    return torch.cat([rest.new_tensor([first]), rest])


def _checked_T(T: int) -> int:
    if int(T) != T or T < 1:
        raise ValueError(f"T must be a whole number, 1 or more, got {T}")
    return int(T)


def _check_alpha_bar(alpha_bar: Tensor) -> None:
    if alpha_bar.ndim != 1 or len(alpha_bar) < 2:
        raise ValueError(f"alpha_bar must be a list of at least 2 values, got shape {tuple(alpha_bar.shape)}")
    if alpha_bar[0] != 1:
        raise ValueError(f"alpha_bar[0] must be exactly 1 (time 0 is clean data), got {alpha_bar[0].item()}")
    outside = ~((alpha_bar > 0) & (alpha_bar <= 1))
    if outside.any():
        t = int(outside.nonzero()[0])
        raise ValueError(f"alpha_bar must lie in (0, 1], got alpha_bar[{t}] = {alpha_bar[t].item()}")
    rising = alpha_bar.diff() >= 0
    if rising.any():
        t = int(rising.nonzero()[0])
        pair = f"alpha_bar[{t}] = {alpha_bar[t].item()} and alpha_bar[{t + 1}] = {alpha_bar[t + 1].item()}"
        raise ValueError(f"alpha_bar must decrease strictly, got {pair}")
