"""The DDIM paper's Table 2 on a model trained here: images encoded with S steps, decoded with S steps, and compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .reading import brief
from .results import REMEDY, hardware, load_cells, write_result
from .samplers import ddim_encode, ddim_sample
from .schedules import Schedule, make_tau
from .unet import EpsModel, UNet
from .walks import counting, last_state

FIELDS = {"S", "n", "mse", "mse_error"}  # what a finished cell must hold


def reconstruction_error(model: EpsModel, schedule: Schedule, images: Tensor, S: int, batch_size: int = 100) -> Tensor:
    """Mean squared error over an image's pixels, on the scale [0, 1], after S steps up and S steps down with eta = 0.

    The reconstruction is not clipped (DDIM, section 5.4 and Table 2). Uniform tau; 2 S + 1 evaluations of the network
    for each image, one of which (of ``ddim_encode``, at the last time) is not needed.

    Args:
        model: the noise predictor; it and the images on the same device.
        images: floating point (N, ...), data in [-1, 1]. The walks keep their dtype.
        S: steps, 1..T.
        batch_size: images at a time.

    Returns:
        float64 (N,), on the CPU.

    Raises:
        ValueError: no images, an S that is none, a batch size below 1, or a model that returns NaN or infinity.
    """
    tau = make_tau(schedule.T, S)
    if images.ndim < 2 or len(images) == 0 or not images.is_floating_point():
        raise ValueError(f"images must be floating point (N, ...), got {images.dtype} of shape {tuple(images.shape)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    errors = []
    for x0 in images.split(batch_size):
        encoded = last_state(ddim_encode(model, schedule, x0, tau))
        decoded = last_state(ddim_sample(model, schedule, encoded, tau))
        off = (decoded.double() - x0.double()) / 2  # a difference of 2 on [-1, 1] is 1 on [0, 1]
        errors.append(off.square().flatten(1).mean(1).cpu())
    return torch.cat(errors)


def inversion_table(
    model: UNet,
    images: Tensor,
    steps: Sequence[int],
    path: Path,
    header: dict[str, Any],
    tell: Callable[[int], object] = lambda images: None,
    *,
    about: dict[str, Any] | None = None,
    batch_size: int = 100,
) -> dict[str, Any]:
    """Measure every S that ``path`` does not hold yet, and write the file after each: a kill loses one cell at most.

    Args:
        images: float32 (N, C, H, W) in [-1, 1]; moved to the model's device.
        steps: the S of the cells; cheap ones come first.
        header: what all cells have in common, with ``"n"``, the number of images. A file with another is refused.
        tell: called with the number of images after every network evaluation.
        about: what else the file says, such as command and versions of the last run.

    Returns:
        what the file holds: the header, ``about``, and cells ``"S=10"`` with ``mse``, ``mse_error`` (its standard
        error over the images), ``n``, ``evaluations`` (of the network, for an image) and ``seconds``.

    Raises:
        ValueError: no steps, an S that is none, fewer than 2 images, or a file made with another header.
    """
    schedule = Schedule.linear(model.config.T)
    _check_table(schedule, images, steps, header)
    finished = load_cells(path, header, FIELDS)
    if strange := [key for key, cell in finished.items() if key != f"S={cell['S']}"]:
        raise ValueError(f"{path} is damaged: {brief(repr(strange[0]))} holds the cell of another S; {REMEDY}")
    result = header | (about or {}) | {"cells": finished}
    images, counted = images.to(next(model.parameters()).device), counting(model, tell)
    for S in sorted(set(steps)):
        if f"S={S}" not in finished:
            began = time.perf_counter()
            errors = reconstruction_error(counted, schedule, images, S, batch_size)
            seconds = round(time.perf_counter() - began, 1)
            cost = {"seconds": seconds, "evaluations": 2 * S + 1, "hardware": hardware(model)}
            finished[f"S={S}"] = {"S": S} | summary(errors) | cost
            write_result(path, result)
    return result


def summary(errors: Tensor) -> dict[str, float | int]:
    """``n``, ``mse`` and ``mse_error``, the mean's standard error, of errors (N,) image by image, N >= 2."""
    n = len(errors)
    return {"n": n, "mse": errors.mean().item(), "mse_error": errors.std().item() / n**0.5}


def _check_table(schedule: Schedule, images: Tensor, steps: Sequence[int], header: dict[str, Any]) -> None:
    if not steps:
        raise ValueError("the table is empty: give at least one number of steps")
    for S in steps:
        make_tau(schedule.T, S)  # raises for an S that is none, before hours are spent on the others
    if images.ndim != 4 or len(images) < 2:
        raise ValueError(f"images must be (N, C, H, W) with N >= 2, got {tuple(images.shape)}")
    if header.get("n") != len(images):
        raise ValueError(f"header says n = {header.get('n')}, but there are {len(images)} images")
