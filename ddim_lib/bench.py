"""What the samplers cost beside the network evaluations that they make."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from .classifier import Classifier
from .evaluate import STREAM, cell_features
from .grids import Cell
from .samplers import ddim_sample
from .schedules import Schedule
from .unet import UNet


def overheads(unet: UNet, batch_size: int, steps: int, repeats: int) -> dict[str, float]:
    """Median seconds a step of the bare network, of :func:`ddim_sample`, and of the evaluation of a cell.

    They are measured in turn, on batches of noise of one size. The last, classifier included, is left out where the
    batch size is no multiple of 50.
    """
    schedule, cell, device = Schedule.linear(unet.config.T), Cell(0.0, steps), next(unet.parameters()).device
    x = torch.randn(batch_size, *unet.config.image_shape, device=device)
    tau = cell.tau(schedule.T)
    times = [torch.full((batch_size,), int(t), device=device) for t in tau[1:].flip(0)]
    classifier = Classifier(*unet.config.image_shape[:2]).to(device).eval()

    @torch.no_grad()
    def bare() -> None:
        for t in times:
            unet(x, t)

    def sampled() -> None:
        for _ in ddim_sample(unet, schedule, x, tau):
            pass

    def evaluated() -> None:
        cell_features(unet, classifier, cell, batch_size, 0, batch_size)

    runs = {"bare network": bare, "ddim_sample": sampled}
    return _medians(runs if batch_size % STREAM else runs | {"evaluate": evaluated}, repeats, steps, device)


def _medians(runs: dict[str, Callable[[], None]], repeats: int, steps: int, device: torch.device) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            _synchronize(device)
            began = time.perf_counter()
            run()
            _synchronize(device)
            seconds[name].append((time.perf_counter() - began) / steps)
    return {name: statistics.median(found[1:]) for name, found in seconds.items()}  # the first is the warm-up


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
