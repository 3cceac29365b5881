"""Nearest neighbors among images by the Euclidean distance of their pixels: exact, and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .datasets import to_unit


def nearest(
    images: Tensor,
    among: Tensor,
    k: int = 1,
    batch_size: int = 1000,
    *,
    mirrored: bool = False,
    tell: Callable[[int], object] = lambda pairs: None,
) -> tuple[Tensor, Tensor]:
    """The k nearest of ``among`` to each of ``images``, nearest first.

    The distance is the root mean square difference of two images' values, on the scale [-1, 1]: the Euclidean distance
    over sqrt(C H W). It is 0 for a copy and 2 for black beside white. The search orders |b|^2 - 2 a.b in float64; the
    distances of the k that it finds are then taken from the differences, which lose no digits.

    Args:
        images: (N, C, H, W), uint8 0..255 or floats on the scale [-1, 1].
        among: (M, C, H, W), the same; may lie on another device, from which it is fetched block by block.
        k: how many, 1..M.
        batch_size: images of either side at a time; memory grows with it, results change by rounding only.
        mirrored: take the nearer of each of ``among`` and its mirror image (left and right exchanged).
        tell: called with the number of pairs after every block of the search.

    Returns:
        distances float64 (N, k) and indices int64 (N, k) into ``among``, on the device of ``images``. Of several at the
        same distance the first stand first; which of them come where not all are among the k is left open.

    Raises:
        ValueError: no images, other shapes or dtypes, NaN or infinity, or a k or batch size out of range.
    """
    _check(images, among, k, batch_size)
    distances, indices = [], []
    for part in images.split(batch_size):
        a = _floats(part)
        found = _search(a, among, k, batch_size, mirrored, tell).sort(1)[0]
        exact, order = _exact(a, among, found, mirrored).sort(dim=1, stable=True)
        distances.append(exact)
        indices.append(found.gather(1, order))
    return torch.cat(distances), torch.cat(indices)


def neighbor_sheet(images: Tensor, among: Tensor, indices: Tensor, mirrored: bool = False) -> Tensor:
    """Rows of 1 + k, each of the images followed by its neighbors: (N (1 + k), C, H, W) on the scale [-1, 1].

    Args:
        images, among: as for :func:`nearest`.
        indices: (N, k) into ``among``, as found by :func:`nearest`.
        mirrored: show a neighbor's mirror image where that is the nearer.
    """
    columns = [_floats(images)]
    for index in indices.T:
        others = _floats(among[index])
        columns.append(_facing(images, others) if mirrored else others)
    return torch.stack(columns, 1).flatten(0, 1)


def _search(a: Tensor, among: Tensor, k: int, batch_size: int, mirrored: bool, tell: Callable[[int], object]) -> Tensor:
    """Indices (N, k) of those of ``among`` with the least |b|^2 - 2 a.b, which is |a - b|^2 without |a|^2."""
    faces = torch.cat([face.flatten(1) for face in _faces(a, mirrored)])  # of a: there are fewer of them
    best = a.new_empty(len(a), 0)
    indices = torch.empty(len(a), 0, dtype=torch.int64, device=a.device)
    for start in range(0, len(among), batch_size):
        b = _floats(among[start : start + batch_size].to(a.device)).flatten(1)
        gaps = (b.square().sum(1) - 2 * faces @ b.mT).view(-1, len(a), len(b)).amin(0)
        numbers = torch.arange(start, start + len(b), device=a.device).expand(len(a), -1)
        best, indices = torch.cat([best, gaps], 1), torch.cat([indices, numbers], 1)
        best, kept = best.topk(min(k, best.shape[1]), largest=False)
        indices = indices.gather(1, kept)
        tell(len(a) * len(b))
    return indices


def _exact(a: Tensor, among: Tensor, indices: Tensor, mirrored: bool) -> Tensor:
    """Distances (N, k) of a (N, C, H, W) from those of ``among`` at ``indices`` (N, k)."""
    columns = []
    for index in indices.T:
        b = _floats(among[index.to(among.device)].to(a.device))
        columns.append(torch.stack([_gap(a, face) for face in _faces(b, mirrored)]).amin(0).sqrt())
    return torch.stack(columns, 1)


def _facing(images: Tensor, others: Tensor) -> Tensor:
    """Of each of ``others`` (N, C, H, W) and its mirror image the one that is nearer to the image in its place."""
    as_is, mirror = (_gap(images, face) for face in _faces(others, True))
    return torch.where((mirror < as_is)[:, None, None, None], others.flip(-1), others)


def _gap(a: Tensor, b: Tensor) -> Tensor:
    """Mean squares (N,) of the differences of a and b (N, C, H, W)."""
    return (a - b).square().flatten(1).mean(1)


def _faces(images: Tensor, mirrored: bool) -> list[Tensor]:
    return [images, images.flip(-1)] if mirrored else [images]


def _floats(images: Tensor) -> Tensor:
    return (to_unit(images) if images.dtype == torch.uint8 else images).double()


def _check(images: Tensor, among: Tensor, k: int, batch_size: int) -> None:
    for name, some in (("images", images), ("among", among)):
        if some.ndim != 4 or some.numel() == 0:
            raise ValueError(f"{name} must be (N, C, H, W) with N >= 1, got {tuple(some.shape)}")
        if some.dtype != torch.uint8 and not some.is_floating_point():
            raise ValueError(f"{name} must be uint8 or floating point, got {some.dtype}")
        bad = 0 if some.dtype == torch.uint8 else int((~torch.isfinite(some)).flatten(1).any(1).sum())
        if bad:
            raise ValueError(f"{name} must be finite, got NaN or infinity in {bad} of {len(some)}")
    if images.shape[1:] != among.shape[1:]:
        sizes = f"{tuple(images.shape[1:])} and {tuple(among.shape[1:])}"
        raise ValueError(f"images and among must have the same (C, H, W), got {sizes}")
    if not 1 <= k <= len(among):
        raise ValueError(f"k must be from 1 to the {len(among)} images of among, got {k}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
