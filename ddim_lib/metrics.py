"""Distances between two sets of images, measured on features of a classifier.

With the features of :mod:`ddim_lib.classifier` these are distances *in that feature space*. They are not FID or KID,
which are defined by the features of one particular Inception network, and must not be compared with published figures.
All of them depend on the number of images: compare only figures of equal ``n``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """The Gaussian fit of a set of features.

    Attributes:
        mean: float64 (D,).
        covariance: float64 (D, D), with the divisor n - 1.
        n: the number of images.
    """

    mean: Tensor
    covariance: Tensor
    n: int


def fit_gaussian(features: Tensor) -> FeatureStatistics:
    """Mean and covariance of ``features`` (N, D).

    Raises:
        ValueError: NaN or infinity, or fewer than D + 1 images, whose covariance would be singular.
    """
    features = _checked("features", features)
    n, d = features.shape
    if n < d + 1:
        raise ValueError(f"features of {d} numbers need at least {d + 1} images, got {n}")
    covariance = features.mT.cov().view(d, d)  # cov() makes a number of a 1 x 1 matrix
    return FeatureStatistics(features.mean(0), covariance, n)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Squared Frechet (Wasserstein-2) distance of two Gaussians (Dowson & Landau 1982; Heusel et al. 2017, eq. 6).

    |mean_a - mean_b|^2 + tr(A) + tr(B) - 2 tr((A B)^(1/2)). The last trace is the sum of the singular values of
    A^(1/2) B^(1/2), which needs no root of a matrix that is not symmetric: it is stable for singular covariances, too,
    and the same with both arguments exchanged.

    Raises:
        ValueError: features of different length, or statistics with NaN or infinity.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features must have the same length, got {len(a.mean)} and {len(b.mean)}")
    if not all(torch.isfinite(part).all() for part in (a.mean, a.covariance, b.mean, b.covariance)):
        raise ValueError("mean and covariance must be finite, got NaN or infinity")
    cross = torch.linalg.svdvals(_root(a.covariance) @ _root(b.covariance)).sum()
    spread = a.covariance.trace() + b.covariance.trace() - 2 * cross
    return max(0.0, ((a.mean - b.mean).square().sum() + spread).item())


def frechet_standard_error(features: Tensor, reference: FeatureStatistics, blocks: int = 10) -> float:
    """Standard error of the distance of ``features`` (N, D) from ``reference``, by a delete-one-block jackknife.

    Raises:
        ValueError: fewer than 2 blocks, or so few images that those left without a block are fewer than D + 1.
    """
    features = _checked("features", features)
    n, d = features.shape
    if blocks < 2:
        raise ValueError(f"blocks must be at least 2, got {blocks}")
    if n < least_images(d, blocks):
        raise ValueError(f"features of {d} numbers in {blocks} blocks need {least_images(d, blocks)} images, got {n}")
    kept = _leave_one_out(features, blocks)
    distances = torch.tensor([frechet_distance(fit_gaussian(part), reference) for part in kept], dtype=torch.float64)
    return ((blocks - 1) * distances.var(correction=0)).sqrt().item()


def least_images(d: int, blocks: int = 10) -> int:
    """The smallest n of which d + 1 are left when one of ``blocks`` blocks is, features of d numbers being measured."""
    return next(n for n in itertools.count(max(d, blocks)) if n - -(-n // blocks) > d)


def kernel_distance(x: Tensor, y: Tensor, blocks: int = 10) -> tuple[float, float]:
    """Squared maximum mean discrepancy with the kernel (x . y / D + 1)^3, and its standard error.

    Source: Binkowski et al. 2018, section 4. The unbiased estimate is taken on ``blocks`` disjoint blocks of the
    features x (N, D) and y (M, D); what is returned is their mean, and the standard error of that mean. It may be
    negative where the true value is near 0.
    """
    x, y = _checked("x", x), _checked("y", y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"features must have the same length, got {x.shape[1]} and {y.shape[1]}")
    if blocks < 2:
        raise ValueError(f"blocks must be at least 2, got {blocks}")
    size = min(len(x), len(y)) // blocks
    if size < 2:
        raise ValueError(f"{blocks} blocks need at least {2 * blocks} images on both sides, got {len(x)} and {len(y)}")
    pairs = zip(x[: blocks * size].split(size), y[: blocks * size].split(size), strict=True)
    estimates = torch.stack([_mmd(part_x, part_y) for part_x, part_y in pairs])
    return estimates.mean().item(), (estimates.std() / blocks**0.5).item()


def _mmd(x: Tensor, y: Tensor) -> Tensor:
    n, d = x.shape

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.mT / d + 1) ** 3

    within = sum((kernel(a, a).sum() - kernel(a, a).trace()) / (n * (n - 1)) for a in (x, y))
    return within - 2 * kernel(x, y).mean()


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.mT


def _leave_one_out(features: Tensor, blocks: int) -> list[Tensor]:
    parts = features.tensor_split(blocks)
    return [torch.cat(parts[:i] + parts[i + 1 :]) for i in range(blocks)]


def _checked(name: str, features: Tensor) -> Tensor:
    if features.ndim != 2:
        raise ValueError(f"{name} must have shape (N, D), got {tuple(features.shape)}")
    if not torch.isfinite(features).all():
        raise ValueError(
            f"{name} must be finite, got NaN or infinity in {int((~torch.isfinite(features)).any(1).sum())} rows"
        )
    return features.double()
