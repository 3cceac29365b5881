"""What the sampler costs beside the network it calls."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from .samplers import ddim_sample
from .schedules import Schedule, make_tau
from .unet import UNet


def sampler_overhead(unet: UNet, batch_size: int, steps: int, repeats: int) -> tuple[float, float]:
    """Median seconds a step of (bare network evaluations, :func:`ddim_sample`), measured in turn."""
    schedule = Schedule.linear(unet.config.T)
    tau = make_tau(schedule.T, steps)
    device = next(unet.parameters()).device
    x = torch.randn(batch_size, unet.config.in_channels, 28, 28, device=device)
    times = [torch.full((batch_size,), int(t), device=device) for t in tau[1:].flip(0)]

    def bare() -> None:
        with torch.no_grad():
            for t in times:
                unet(x, t)

    def sampled() -> None:
        for _ in ddim_sample(unet, schedule, x, tau):
            pass

    seconds: dict[Callable[[], None], list[float]] = {bare: [], sampled: []}
    for _ in range(repeats + 1):
        for run, found in seconds.items():
            _synchronize(device)
            began = time.perf_counter()
            run()
            _synchronize(device)
            found.append((time.perf_counter() - began) / steps)
    return statistics.median(seconds[bare][1:]), statistics.median(seconds[sampled][1:])  # the first is the warm-up


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
