"""What the commands of :mod:`ddim_lib.__main__` do: one function each, from parsed arguments to files and a report."""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from .bench import overheads
from .checkpoints import load_checkpoint, save_checkpoint
from .datasets import dataset_sha256, download, load_dataset
from .plots import save_grid
from .samplers import ddim_sample
from .schedules import Schedule, make_tau
from .train import TrainConfig, TrainState, start, train
from .unet import UNet, UNetConfig
from .weights import load_pretrained, load_weights, save_weights

PRESETS = {
    "mnist": UNetConfig(),
    "mnist-5k": UNetConfig(),
    "cifar10": UNetConfig(3, patch=1, channels=(64, 128, 256), blocks=2, attention=(False, True, True), dropout=0.1),
}


def run_train(args: argparse.Namespace) -> None:
    """Train on a data set; leave checkpoints, sample sheets and the averaged weights in ``args.out``."""
    device = choose_device(args.device)
    check_positive(args, "checkpoint_every", "sample_every")
    if not args.resume and any(args.out.glob("checkpoint-*.json")):
        raise ValueError(f"{args.out} holds a checkpoint already; add --resume to go on, or name another --out")
    args.out.mkdir(parents=True, exist_ok=True)
    images, _ = load_dataset(args.dataset, "train")
    torch.manual_seed(args.seed)
    unet = UNet(PRESETS[args.dataset]).to(device)
    bf16 = device.type == "cuda" if args.bf16 is None else args.bf16
    chosen = {name: getattr(args, name) for name in ("steps", "batch_size", "lr", "focus", "ema", "seed")}
    config = TrainConfig(**chosen, bf16=bf16)
    state = load_checkpoint(args.out, unet, config) if args.resume else start(unet, config)
    if args.compile:
        unet.compile()
    schedule = Schedule.linear(unet.config.T)
    _train_loop(state, images, schedule, config, args)
    provenance = _provenance(args.command, state, config, args.dataset, device)
    save_weights(args.out / "ema.safetensors", state.ema, provenance)
    print(f"{state.step} steps in {state.seconds:.0f} s, weights in {args.out / 'ema.safetensors'}")


def _train_loop(
    state: TrainState, images: Tensor, schedule: Schedule, config: TrainConfig, args: argparse.Namespace
) -> None:
    done, total, size = state.step, config.steps, config.batch_size
    with tqdm(total=total * size, initial=done * size, unit="img", smoothing=0.02) as bar:
        for _ in train(state.model, images, schedule, config, state):
            bar.update(size)
            if state.step % 10 == 0:
                bar.set_postfix(step=state.step, loss=f"{state.loss.item():.4f}")
            if state.step % args.checkpoint_every == 0 or state.step == total:
                save_checkpoint(args.out, state, config)
            if state.step % args.sample_every == 0 or state.step == total:
                save_grid(args.out / f"samples-{state.step:08d}.png", _samples(state.ema, schedule))


def _samples(unet: UNet, schedule: Schedule) -> Tensor:
    """100 images at S = 50 from a fixed seed, to watch the training."""
    xT = torch.randn(100, *unet.config.image_shape, generator=torch.Generator().manual_seed(0))
    *_, last = ddim_sample(unet, schedule, xT.to(next(unet.parameters()).device), make_tau(schedule.T, 50))
    return last.xt


def _provenance(
    command: str, state: TrainState, config: TrainConfig, dataset: str, device: torch.device
) -> dict[str, Any]:
    return {
        "command": command,
        "dataset": dataset,
        "dataset_sha256": dataset_sha256(dataset),
        "schedule": "Schedule.linear(1000)",
        "train": asdict(config),
        "steps": state.step,
        "seed": config.seed,
        "final_loss": state.history[-1][1] if state.history else state.loss.item(),
        "history": state.history,
        "seconds": round(state.seconds),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads",
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """What a file of weights or results says about the software that made it."""
    return {"python": platform.python_version(), "torch": torch.__version__}


def run_sample(args: argparse.Namespace) -> None:
    """Sample images from a trained model into one PNG sheet; say how long it took."""
    device = choose_device(args.device)
    check_positive(args, "n", "batch_size")
    unet = (load_weights(args.weights) if args.weights else load_pretrained(args.model)).to(device)
    schedule = Schedule.linear(unet.config.T)
    generator = torch.Generator().manual_seed(args.seed)
    tau = make_tau(schedule.T, args.steps, args.spacing)
    batches = [min(args.batch_size, args.n - i) for i in range(0, args.n, args.batch_size)]
    images, began = [], time.perf_counter()
    with tqdm(total=args.steps * len(batches), unit="eval", leave=False) as bar:
        for size in batches:
            xT = torch.randn(size, *unet.config.image_shape, generator=generator).to(device)
            for step in ddim_sample(unet, schedule, xT, tau, args.eta, generator=generator):
                bar.update(step.t > 0)
            images.append(step.xt.cpu())
    seconds = time.perf_counter() - began
    save_grid(args.out, torch.cat(images), columns=max(1, round(args.n**0.5)))
    print(
        f"{args.n} images, S = {args.steps}, eta = {args.eta:g}: {seconds:.1f} s on {device}, "
        f"{args.steps * len(batches)} network evaluations ({args.steps} an image); {args.out}"
    )


def run_download(args: argparse.Namespace) -> None:
    """Fetch a data set and check it."""
    print(f"{args.dataset} is in {download(args.dataset)}")


def run_bench(args: argparse.Namespace) -> None:
    """Measure what the sampler and the loop of evaluate cost beside the bare network evaluations."""
    for batch_size in args.batch_size:
        found = overheads(load_pretrained("mnist"), batch_size, args.steps, args.repeats)
        bare = found.pop("bare network")
        others = [f"{name} {1e3 * each:.2f} ms ({100 * (each / bare - 1):+.1f} %)" for name, each in found.items()]
        print(f"batch {batch_size}: bare network {1e3 * bare:.2f} ms a step, {', '.join(others)}", flush=True)
    print(f"(medians of {args.repeats} runs of {args.steps} steps, taken in turn)")


def check_positive(args: argparse.Namespace, *names: str) -> None:
    """Raise ValueError for an option below 1."""
    for name in names:
        if getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(args, name)}")


def choose_device(name: str | None) -> torch.device:
    """The device of that name; without a name, CUDA where there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this machine has no CUDA device that torch can use; use --device cpu")
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
