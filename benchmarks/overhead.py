"""What samplers cost beside the network: the book's, diffusers', and the authors' loop, on the same network.

A network that returns its input shows the sampler's own microseconds a step; the MNIST network shows what share of a
step they are. All walk the same times, eta = 0, without clipping; that their samples agree is checked first.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from measures import Run, quotients, seconds_of, summary
from torch import Tensor, nn

from ddim_lib import EpsModel, Schedule, ddim_sample, load_pretrained, make_tau
from ddim_lib.commands import versions
from ddim_lib.diffusers_unet import BookUNet
from ddim_lib.results import hardware, write_result
from ddim_lib.walks import last_state

TOLERANCE = 1e-4  # between samples in [-1, 1]
BARE, BOOK, AUTHORS, SCHEDULER, PIPELINE = (
    "bare network",
    "ddim_sample",
    "authors' loop",
    "diffusers scheduler",
    "diffusers pipeline",
)
SCHEDULE = Schedule.linear(1000)
Sample = Callable[[], Tensor]


class Returns(nn.Module):
    """A network that returns its input: what is left of a step is the sampler."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))  # diffusers' pipeline asks where it lies

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        """The input."""
        return xt


@torch.no_grad()
def bare(model: EpsModel, xT: Tensor, times: list[Tensor]) -> Tensor:
    """The network evaluations alone, with their times ready."""
    for t in times:
        eps = model(xT, t)
    return eps


def book(model: EpsModel, xT: Tensor, tau: Tensor) -> Tensor:
    """The sampler of this library."""
    return last_state(ddim_sample(model, SCHEDULE, xT, tau))


def authors_alpha_bar(beta: Tensor, t: Tensor) -> Tensor:
    """The cumulative product, taken anew, at times t (B,) from -1, which is clean data; shaped (B, 1, 1, 1)."""
    with_clean = torch.cat([torch.zeros(1), beta])
    return torch.cumprod(1 - with_clean, dim=0)[t + 1].reshape(-1, 1, 1, 1)


@torch.no_grad()
def authors(model: EpsModel, xT: Tensor, tau: Tensor, eta: float = 0.0) -> Tensor:
    """The sampler in the structure of the DDIM authors' public code, written anew here.

    Times count from 0. Every step looks its two alpha_bar up for the whole batch, draws noise whatever eta is, and
    keeps the state and the predicted x_0, all moved to the CPU.
    """
    beta, times = SCHEDULE.beta[1:].float(), (tau - 1).tolist()
    states, predictions = [xT], []
    for k, k_next in zip(times[:0:-1], times[-2::-1], strict=True):
        now, after = (authors_alpha_bar(beta, torch.full((len(xT),), index)) for index in (k, k_next))
        x = states[-1].to(xT.device)
        eps = model(x, torch.full((len(x),), k + 1, device=x.device))
        predictions.append(((x - eps * (1 - now).sqrt()) / now.sqrt()).to("cpu"))
        std = eta * ((1 - now / after) * (1 - after) / (1 - now)).sqrt()
        pointing = (1 - after - std**2).sqrt() * eps
        states.append((after.sqrt() * predictions[-1] + std * torch.randn_like(x) + pointing).to("cpu"))
    return states[-1]


def their_scheduler() -> diffusers.DDIMScheduler:
    """The default one, which has the times of make_tau's "leading", without clipping."""
    return diffusers.DDIMScheduler(clip_sample=False)


@torch.no_grad()
def scheduler_loop(model: EpsModel, xT: Tensor, S: int) -> Tensor:
    """The loop that diffusers' documentation shows, round this library's network."""
    scheduler, x = their_scheduler(), xT
    scheduler.set_timesteps(S)
    for k in scheduler.timesteps:
        x = scheduler.step(model(x, (k + 1).expand(len(x))), k, x).prev_sample
    return x


def pipeline(model: nn.Module, xT: Tensor, S: int) -> Sample:
    """Diffusers' DDIMPipeline round the network as ``export-diffusers`` wraps it; it draws xT itself, from seed 0."""
    unet = BookUNet(xT.shape[-1], xT.shape[1], asdict(load_pretrained("mnist").config)).eval()
    unet.unet = model
    made = diffusers.DDIMPipeline(unet, their_scheduler())
    made.set_progress_bar_config(disable=True)
    options = {"batch_size": len(xT), "num_inference_steps": S, "output_type": "pt"}
    return lambda: 2 * made(generator=torch.Generator().manual_seed(0), **options).images - 1


def samplers(model: nn.Module, batch_size: int, S: int) -> dict[str, Sample]:
    """Each way to sample, from the same noise."""
    xT = torch.randn(batch_size, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    tau = make_tau(SCHEDULE.T, S, "leading")
    times = [torch.full((batch_size,), t) for t in tau[1:].flip(0).tolist()]
    return {
        BARE: partial(bare, model, xT, times),
        BOOK: partial(book, model, xT, tau),
        AUTHORS: partial(authors, model, xT, tau),
        SCHEDULER: partial(scheduler_loop, model, xT, S),
        PIPELINE: pipeline(model, xT, S),
    }


def difference(ways: dict[str, Sample]) -> float:
    """The largest difference from the book's samples, which the pipeline clips."""
    ours, *others = (sample().clamp(-1, 1) for name, sample in ways.items() if name != BARE)
    found = max((other - ours).abs().max().item() for other in others)
    if not found < TOLERANCE:
        raise ValueError(f"the samplers must agree to {TOLERANCE}, got a difference of {found:.1e}")
    return found


def measure(model: nn.Module, batch_size: int, S: int, rounds: int) -> dict[str, Any]:
    """Seconds a step of every way, less those of the bare network, and as multiples of it and of the book's."""
    ways = samplers(model, batch_size, S)
    result: dict[str, Any] = {"batch_size": batch_size, "largest_difference": difference(ways), "ways": {}}
    runs: dict[str, Run] = ways
    for name, seconds in (found := seconds_of(runs, rounds, "cpu")).items():
        beside = [(a - b) / S for a, b in zip(seconds, found[BARE], strict=True)]
        way = {"seconds_a_step": summary([took / S for took in seconds]), "beside_network": summary(beside)}
        way["images_per_second"] = batch_size / S / way["seconds_a_step"]["median"]
        over = {"over_bare": quotients(seconds, found[BARE]), "over_book": quotients(seconds, found[BOOK])}
        result["ways"][name] = way | over
    return result


def main() -> None:
    """Measure, print a line a figure, write the result file after each cell."""
    top = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    top.add_argument("--steps", type=int, default=20)
    top.add_argument("--batch-sizes", type=int, nargs="+", default=(1, 16))
    top.add_argument("--rounds", type=int, default=15, help="at least 2, for quartiles")
    top.add_argument("--out", type=Path, default=Path("results/bench_overhead.json"))
    args = top.parse_args()
    torch.set_num_threads(1)
    mnist = load_pretrained("mnist")
    result: dict[str, Any] = {"command": shlex.join(["python", *sys.argv]), "hardware": hardware(mnist)}
    result["versions"] = versions() | {"diffusers": diffusers.__version__}
    result |= {"S": args.steps, "rounds": args.rounds, "cells": {}}
    for batch_size in args.batch_sizes:
        cells = {"trivial": (Returns(), 20 * args.rounds), "mnist": (mnist, args.rounds)}
        for name, (model, rounds) in cells.items():
            cell = result["cells"][f"{name} {batch_size}"] = measure(model, batch_size, args.steps, rounds)
            for way, found in cell["ways"].items():
                step, more = found["seconds_a_step"]["median"], found["beside_network"]["median"]
                print(f"{name}, batch {batch_size}, {way}: {1e3 * step:.3f} ms a step, {1e6 * more:+.0f} us")
        write_result(args.out, result)


if __name__ == "__main__":
    main()
