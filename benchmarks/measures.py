"""Seconds and memory of pieces of work, and the speed of the device's matrix products beside them."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from statistics import median, quantiles

import torch
from torch.utils.flop_counter import FlopCounterMode

Run = Callable[[], None]


def seconds_of(runs: dict[str, Run], repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds of every run, all in turn, ``repeats`` times; a first round is the warm-up and is left out.

    What else the machine does then slows all of them alike, and runs of one round may be divided by each other.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            found[name].append(time.perf_counter() - began)
    return {name: seconds[1:] for name, seconds in found.items()}


def summary(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    lower, middle, upper = quantiles(values, n=4, method="inclusive")
    return {"median": middle, "lower": lower, "upper": upper}


def quotients(theirs: list[float], ours: list[float]) -> dict[str, float]:
    """Median and quartiles of the quotients of runs of one round."""
    return summary([a / b for a, b in zip(theirs, ours, strict=True)])


def products(sizes: tuple[int, ...], dtype: torch.dtype, device: str) -> dict[str, Run]:
    """Products of two square matrices, to be timed as the measure of the device."""

    def product(size: int) -> Run:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        return lambda: torch.mm(a, b)

    return {f"product {size}": product(size) for size in sizes}


def product_peak(seconds: dict[str, list[float]]) -> float:
    """Floating-point operations a second of the best of the timed ``products``."""
    found = {int(name.split()[1]): median(times) for name, times in seconds.items() if name.startswith("product ")}
    return max(2 * size**3 / took for size, took in found.items())


def flops(run: Run) -> int:
    """Floating-point operations of the convolutions and matrix products in a run."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def peak_bytes(run: Run, device: str) -> int:
    """The most memory that a run needs beyond what the process had before; on CUDA, what PyTorch allocated.

    On a CPU it is the growth of the process's peak, so that only the first run in a process tells anything.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return unit * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
