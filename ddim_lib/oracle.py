"""Exact noise predictors, for data whose every marginal is known: theory needs no training.

The best noise estimate is E[eps | x_t] = -sqrt(1 - alpha_bar_t) * score of q(x_t) (Song et al. 2021, "Score SDE").
It is computed on the CPU in float64 and handed back in the dtype and on the device of the state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .forward import predict_eps
from .schedules import Schedule
from .unet import EpsModel


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """Data drawn from sum_k weights[k] N(means[k], covariances[k]).

    Attributes:
        means: float64 (K, D).
        covariances: float64 (K, D, D), symmetric and positive semi-definite.
        weights: float64 (K,), positive, scaled to sum to 1; equal where left out.

    Lists of numbers are taken for tensors. Raises ValueError for shapes that do not fit, a weight that is not positive,
    or a covariance that is none.
    """

    means: Tensor
    covariances: Tensor
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        means = torch.as_tensor(self.means, dtype=torch.float64)
        covariances = torch.as_tensor(self.covariances, dtype=torch.float64)
        if means.ndim != 2:
            raise ValueError(f"means must have shape (K, D), got {tuple(means.shape)}")
        k, d = means.shape
        weights = torch.as_tensor(torch.ones(k) if self.weights is None else self.weights, dtype=torch.float64)
        if covariances.shape != (k, d, d):
            raise ValueError(f"covariances must have shape {(k, d, d)}, got {tuple(covariances.shape)}")
        if weights.shape != (k,) or not (weights > 0).all():
            raise ValueError(f"weights must be {k} positive numbers, got {weights.tolist()}")
        values, vectors = torch.linalg.eigh(covariances)
        if not torch.allclose(covariances, covariances.mT) or (values < -1e-9).any():
            raise ValueError(
                f"every covariance must be symmetric and positive semi-definite, got {covariances.tolist()}"
            )
        if (values < 0).any():  # by rounding; little noise would not hide it
            covariances = vectors * values.clamp(min=0).unsqueeze(-2) @ vectors.mT
        for name, value in (("means", means), ("covariances", covariances), ("weights", weights / weights.sum())):
            object.__setattr__(self, name, value)  # the way to set a field of a frozen dataclass

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw data, float64 (count, D)."""
        k = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        values, vectors = torch.linalg.eigh(self.covariances)
        roots = vectors * values.clamp(min=0).sqrt().unsqueeze(-2)
        z = torch.randn(count, self.means.shape[1], dtype=torch.float64, generator=generator)
        return self.means[k] + (roots[k] @ z.unsqueeze(-1)).squeeze(-1)

    def eps_model(self, schedule: Schedule) -> EpsModel:
        """The exact E[eps | x_t] under ``schedule``, for states of shape (B, ...) with D numbers each."""
        return _eps_model(self.expected_x0, self.means.shape[1], schedule)

    def expected_x0(self, xt: Tensor, alpha_bar_t: Tensor) -> Tensor:
        """E[x_0 | x_t], float64 (B, D), for states ``xt`` (B, D) that carry ``alpha_bar_t`` (B,)."""
        scale = alpha_bar_t.sqrt()[:, None, None]
        d = self.means.shape[1]
        spread = alpha_bar_t[:, None, None, None] * self.covariances  # (B, K, D, D)
        total = spread + (1 - alpha_bar_t)[:, None, None, None] * torch.eye(d)
        offset = xt[:, None, :] - scale * self.means  # (B, K, D)
        solved = torch.linalg.solve(total, offset)
        quadratic = (offset * solved).sum(-1)
        log_density = -0.5 * (quadratic + torch.logdet(total))  # but for a constant, which softmax takes out
        share = torch.softmax(self.weights.log() + log_density, dim=1)  # which component, given x_t
        mean = self.means + scale * (self.covariances @ solved.unsqueeze(-1)).squeeze(-1)
        return (share.unsqueeze(-1) * mean).sum(1)


@dataclass(frozen=True, eq=False)
class PointSet:
    """Data drawn uniformly from finitely many points: a data set, seen as a distribution.

    Attributes:
        points: (K, D), kept in float64.
    """

    points: Tensor

    def __post_init__(self) -> None:
        points = torch.as_tensor(self.points, dtype=torch.float64)
        if points.ndim != 2 or len(points) < 1:
            raise ValueError(f"points must have shape (K, D) with K >= 1, got {tuple(points.shape)}")
        object.__setattr__(self, "points", points)

    def eps_model(self, schedule: Schedule) -> EpsModel:
        """The exact E[eps | x_t] under ``schedule``, for states of shape (B, ...) with D numbers each."""
        return _eps_model(self.expected_x0, self.points.shape[1], schedule)

    def expected_x0(self, xt: Tensor, alpha_bar_t: Tensor) -> Tensor:
        """E[x_0 | x_t], float64 (B, D): the points, each weighted by its likelihood of having become ``xt`` (B, D)."""
        scaled = xt / alpha_bar_t.sqrt()[:, None]
        variance = (1 - alpha_bar_t) / alpha_bar_t
        distance = torch.cdist(scaled, self.points, compute_mode="donot_use_mm_for_euclid_dist")
        return torch.softmax(-distance.square() / (2 * variance[:, None]), dim=1) @ self.points


def _eps_model(expected_x0: Callable[[Tensor, Tensor], Tensor], d: int, schedule: Schedule) -> EpsModel:
    def model(xt: Tensor, t: Tensor) -> Tensor:
        if not ((t >= 1) & (t <= schedule.T)).all():
            raise ValueError(f"t must lie in 1..T = 1..{schedule.T}, got {t.tolist()}")
        x = xt.detach().cpu().double().unsqueeze(-1).flatten(1)
        if x.shape[1] != d:
            raise ValueError(f"xt must hold {d} numbers a sample, got shape {tuple(xt.shape)}")
        alpha_bar_t = schedule.alpha_bar[t.cpu()]
        eps = predict_eps(x, expected_x0(x, alpha_bar_t), alpha_bar_t)  # eq-best-eps
        return eps.reshape(xt.shape).to(xt)

    return model
