"""Training the noise predictor (Ho et al. 2020, algorithm 1), in one process or several."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .datasets import draw_batch
from .forward import q_sample
from .parallel import batch_parts, memory_advice, this_process
from .schedules import Schedule
from .unet import EpsModel, UNet

if TYPE_CHECKING:
    from accelerate import Accelerator

HISTORY_EVERY = 100  # steps averaged into one point of TrainState.history


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        steps: optimizer steps in all.
        batch_size: images a step, of all processes together.
        accumulate: parts in which a process takes its share of a batch, one after the other, to save memory. The
            gradient is the same but for rounding.
        lr: Adam's learning rate after the warm-up.
        warmup: steps over which the learning rate rises linearly.
        cooldown: share of ``steps`` at the end over which it falls linearly to 0.
        focus: share of the times drawn around T / 2, where shapes are decided (logit-normal, Esser et al. 2024), in
            place of uniformly. The best noise estimate at each time stays the same; this says where a small network
            spends itself.
        ema: decay of the exponential moving average of the weights; smaller in the first steps.
        flip: mirror each image with probability 1/2.
        bf16: run the network under bfloat16 autocast.
        seed: seeds batches, flips, times, noise and dropout (the weights are the caller's).
    """

    steps: int = 10_000
    batch_size: int = 128
    accumulate: int = 1
    lr: float = 1e-3
    warmup: int = 500
    cooldown: float = 0.5
    focus: float = 0.0
    ema: float = 0.999
    flip: bool = False
    bf16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.warmup < 0:
            raise ValueError(f"warmup must be 0 or more, got {self.warmup}")
        for name in ("cooldown", "ema", "focus"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must lie in 0..2^31 - 1, got {self.seed}")


@dataclass(eq=False)
class TrainState:
    """All that training changes; one such state is yielded after every step.

    Attributes:
        step: optimizer steps done.
        loss: the last batch's loss, over all processes, 0-d, on the training device.
        model: the network being trained.
        ema: its moving average, the one to sample from.
        optimizer: Adam.
        generator: draws batches, flips, times and noise, the same in every process.
        history: (step, mean loss over the steps before it), every 100 steps.
        seconds: time spent in steps, over all runs.
        running: losses since the last entry of ``history``.
    """

    step: int
    loss: Tensor
    model: UNet
    ema: UNet
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    history: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    running: list[Tensor] = field(default_factory=list)


def noise_prediction_loss(
    model: EpsModel,
    schedule: Schedule,
    x0: Tensor,
    generator: torch.Generator | None = None,
    focus: float = 0.0,
    part: slice = slice(None),
) -> Tensor:
    """L_simple (Ho et al. 2020, eq. 14): mean of (eps - model(x_t, t))^2 over one random t and eps an image.

    Args:
        x0: (B, C, H, W) clean images.
        generator: source of t and eps, on the device of ``x0``.
        focus: as in :class:`TrainConfig`.
        part: the images to take the mean over; t and eps are drawn for all.
    """
    t = draw_times(len(x0), schedule.T, generator, x0.device, focus)
    eps = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
    x0, t, eps = x0[part], t[part], eps[part]  # of a batch that processes share
    xt = q_sample(x0, schedule.alpha_bar.to(x0.device)[t], eps)
    return F.mse_loss(model(xt, t).to(eps.dtype), eps)  # def-simple-loss


def draw_times(
    count: int, T: int, generator: torch.Generator | None, device: torch.device, focus: float = 0.0
) -> Tensor:
    """Random times, int64 (count,) in 1..T: uniform, but for the first ``focus * count``, drawn around T / 2."""
    share = torch.rand(count, generator=generator, device=device)
    middle = round(focus * count)
    if middle:
        share[:middle] = torch.randn(middle, generator=generator, device=device).sigmoid()
    return (1 + (share * T).long()).clamp(max=T)


def update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """Ema <- decay * ema + (1 - decay) * model, in place."""
    with torch.no_grad():
        torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - decay)


def learning_rate(step: int, config: TrainConfig) -> float:
    """The rate for the update after ``step`` steps: linear warm-up, constant, linear cool-down to 0."""
    rise = (step + 1) / (config.warmup + 1)
    fall = (config.steps - step) / max(1.0, config.cooldown * config.steps)
    return config.lr * min(1.0, rise, fall)


def start(unet: UNet, config: TrainConfig) -> TrainState:
    """The state before the first step. ``unet`` is trained in place."""
    device = next(unet.parameters()).device
    return TrainState(
        step=0,
        loss=torch.tensor(math.nan),
        model=unet,
        ema=copy.deepcopy(unet).eval().requires_grad_(False),
        optimizer=torch.optim.Adam(unet.parameters(), lr=config.lr, betas=(0.9, 0.99)),
        generator=torch.Generator(device).manual_seed(config.seed),
    )


def train(
    unet: UNet, images: Tensor, schedule: Schedule, config: TrainConfig, state: TrainState | None = None
) -> Iterator[TrainState]:
    """Train ``unet`` in place, on the device of its weights; yield the state after every step.

    Under ``accelerate launch`` or ``torchrun`` every process calls this alike and takes its share of each batch. The
    batches are those of one process, so that the losses are the same but for rounding (and for dropout).

    Args:
        unet: the network.
        images: (N, C, H, W), uint8 or floats in [-1, 1].
        schedule: the noise schedule.
        config: how to train.
        state: where to go on from, as ``checkpoints.load_checkpoint`` returns it (``unet`` is then ``state.model``).

    Raises:
        ValueError: images out of range or of another type; a batch that cannot be shared out evenly.
        FloatingPointError: the loss or a weight is NaN or infinite (checked every 100 steps and after the last).
        MemoryError: a batch too large for memory.
    """
    floats = images.is_floating_point() and len(images) and images.abs().max() <= 1
    if images.ndim != 4 or not len(images) or not (floats or images.dtype == torch.uint8):
        got = f"{images.dtype} {tuple(images.shape)}"
        raise ValueError(f"images must be (N, C, H, W) floats in [-1, 1] or uint8, got {got}")
    accelerator = this_process(unet)
    batch_parts(config, accelerator)  # raises before the first step
    images = images.to(next(unet.parameters()).device)
    return _steps(state or start(unet, config), images, schedule, config, accelerator)


def _steps(
    state: TrainState, images: Tensor, schedule: Schedule, config: TrainConfig, accelerator: Accelerator
) -> Iterator[TrainState]:
    network = accelerator.prepare_model(state.model)  # of several processes: averages their gradients
    while state.step < config.steps:
        began = time.perf_counter()
        network.train()
        with memory_advice(config):
            x0 = draw_batch(images, config.batch_size, state.generator, config.flip)
            loss = _gradient(state, network, x0, schedule, config, accelerator)
            state.optimizer.param_groups[0]["lr"] = learning_rate(state.step, config)
            state.optimizer.step()
            update_ema(state.ema, state.model, min(config.ema, (1 + state.step) / (10 + state.step)))
        state.step += 1
        state.loss = accelerator.reduce(loss, "mean")
        _record(state, config)
        state.seconds += time.perf_counter() - began
        yield state


def _gradient(
    state: TrainState, network: nn.Module, x0: Tensor, schedule: Schedule, config: TrainConfig, accelerator: Accelerator
) -> Tensor:
    """Leave the gradient of the batch's loss in the weights; return the loss of this process's parts of it."""
    state.optimizer.zero_grad(set_to_none=True)
    device, parts, losses = x0.device, batch_parts(config, accelerator), []
    before = state.generator.get_state()
    # Dropout draws from the global generator: seed that by the step, so that a resumed run draws the same.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed((config.seed << 32) + (accelerator.process_index << 24) + state.step)
        for part in parts:
            state.generator.set_state(before)  # each part draws the times and noise of all, and keeps its own
            with nullcontext() if part is parts[-1] else accelerator.no_sync(network):
                with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
                    loss = noise_prediction_loss(network, schedule, x0, state.generator, config.focus, part)
                (loss / len(parts)).backward()
            losses.append(loss.detach())
    return torch.stack(losses).mean()


def _record(state: TrainState, config: TrainConfig) -> None:
    state.running.append(state.loss)
    if state.step % HISTORY_EVERY == 0 or state.step == config.steps:
        check_finite(state, config)
    if state.step % HISTORY_EVERY == 0:
        state.history.append((state.step, torch.stack(state.running).mean().item()))
        state.running.clear()


def check_finite(state: TrainState, config: TrainConfig) -> None:
    """Raise FloatingPointError, with step and learning rate, if a recent loss or a weight is NaN or infinite."""
    losses = enumerate(state.running, state.step - len(state.running) + 1)
    bad = [(step, f"the loss is {loss.item()} at") for step, loss in losses if not math.isfinite(loss)]
    if not all(p.isfinite().all() for p in state.model.parameters()):
        bad.append((state.step, "a weight is NaN or infinite after"))
    for step, what in bad[:1]:
        raise FloatingPointError(f"{what} step {step}, with the learning rate {learning_rate(step - 1, config):.3g}")
