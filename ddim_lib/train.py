"""Training the noise predictor (Ho et al. 2020, algorithm 1)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .forward import q_sample
from .schedules import Schedule
from .unet import EpsModel, UNet

HISTORY_EVERY = 100  # steps averaged into one point of TrainState.history


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        steps: optimizer steps in all.
        batch_size: images a step.
        lr: Adam's learning rate after the warm-up.
        warmup: steps over which the learning rate rises linearly.
        cooldown: share of ``steps`` at the end over which it falls linearly to 0.
        focus: share of the times drawn around T / 2, where shapes are decided (logit-normal, Esser et al. 2024), in
            place of uniformly. The best noise estimate at each time stays the same; this says where a small network
            spends itself.
        ema: decay of the exponential moving average of the weights; smaller in the first steps.
        bf16: run the network under bfloat16 autocast.
        seed: seeds batches, times and noise (the weights are the caller's).
    """

    steps: int = 10_000
    batch_size: int = 128
    lr: float = 1e-3
    warmup: int = 500
    cooldown: float = 0.5
    focus: float = 0.0
    ema: float = 0.999
    bf16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.warmup < 0:
            raise ValueError(f"warmup must be 0 or more, got {self.warmup}")
        for name in ("cooldown", "ema", "focus"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")


@dataclass(eq=False)
class TrainState:
    """All that training changes; one such state is yielded after every step.

    Attributes:
        step: optimizer steps done.
        loss: the last batch's loss, 0-d, on the training device.
        model: the network being trained.
        ema: its moving average, the one to sample from.
        optimizer: Adam.
        generator: draws batches, times and noise.
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
    model: EpsModel, schedule: Schedule, x0: Tensor, generator: torch.Generator | None = None, focus: float = 0.0
) -> Tensor:
    """L_simple (Ho et al. 2020, eq. 14): mean of (eps - model(x_t, t))^2 over one random t and eps an image.

    Args:
        x0: (B, C, H, W) clean images.
        generator: source of t and eps, on the device of ``x0``.
        focus: as in :class:`TrainConfig`.
    """
    t = draw_times(len(x0), schedule.T, generator, x0.device, focus)
    eps = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
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

    Args:
        unet: the network.
        images: (N, C, H, W) in [-1, 1].
        schedule: the noise schedule.
        config: how to train.
        state: where to go on from, as ``checkpoints.load_checkpoint`` returns it (``unet`` is then ``state.model``).

    Raises:
        ValueError: images out of range or not floating point.
        FloatingPointError: the loss is NaN or infinite (checked every 100 steps).
    """
    if not images.is_floating_point() or images.ndim != 4 or not len(images) or not images.abs().max() <= 1:
        raise ValueError(f"images must be (N, C, H, W) floats in [-1, 1], got {images.dtype} {tuple(images.shape)}")
    state = state or start(unet, config)
    images = images.to(next(state.model.parameters()).device)
    return _steps(state, images, schedule, config)


def _steps(state: TrainState, images: Tensor, schedule: Schedule, config: TrainConfig) -> Iterator[TrainState]:
    device = images.device
    while state.step < config.steps:
        began = time.perf_counter()
        state.model.train()
        batch = torch.randint(len(images), (config.batch_size,), generator=state.generator, device=device)
        # Dropout draws from the global generator: seed that by the step, so that a resumed run draws the same.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed((config.seed << 32) + state.step)
            with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
                loss = noise_prediction_loss(state.model, schedule, images[batch], state.generator, config.focus)
        state.optimizer.param_groups[0]["lr"] = learning_rate(state.step, config)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        update_ema(state.ema, state.model, min(config.ema, (1 + state.step) / (10 + state.step)))
        state.step += 1
        state.loss = loss.detach()
        _record(state)
        state.seconds += time.perf_counter() - began
        yield state


def _record(state: TrainState) -> None:
    state.running.append(state.loss)
    if state.step % HISTORY_EVERY:
        return
    mean = torch.stack(state.running).mean().item()
    if not math.isfinite(mean):
        raise FloatingPointError(f"the loss is {mean} in the {len(state.running)} steps up to {state.step}")
    state.history.append((state.step, mean))
    state.running.clear()
