"""The command line: ``python -m ddim_lib {train, sample, download, bench}``."""

from __future__ import annotations

import argparse
import platform
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from .bench import sampler_overhead
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
    device = _device(args.device)
    _check_positive(args, "checkpoint_every", "sample_every")
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
    state: TrainState, images: torch.Tensor, schedule: Schedule, config: TrainConfig, args: argparse.Namespace
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


def _samples(unet: UNet, schedule: Schedule) -> torch.Tensor:
    """100 images at S = 50 from a fixed seed, to watch the training."""
    xT = torch.randn(100, unet.config.in_channels, *_size(unet), generator=torch.Generator().manual_seed(0))
    *_, last = ddim_sample(unet, schedule, xT.to(next(unet.parameters()).device), make_tau(schedule.T, 50))
    return last.xt


def _size(unet: UNet) -> tuple[int, int]:
    return (28, 28) if unet.config.in_channels == 1 else (32, 32)


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
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def run_sample(args: argparse.Namespace) -> None:
    """Sample images from a trained model into one PNG sheet; say how long it took."""
    device = _device(args.device)
    _check_positive(args, "n", "batch_size")
    unet = (load_weights(args.weights) if args.weights else load_pretrained(args.model)).to(device)
    schedule = Schedule.linear(unet.config.T)
    generator = torch.Generator().manual_seed(args.seed)
    tau = make_tau(schedule.T, args.steps, args.spacing)
    batches = [min(args.batch_size, args.n - i) for i in range(0, args.n, args.batch_size)]
    images, began = [], time.perf_counter()
    with tqdm(total=args.steps * len(batches), unit="eval", leave=False) as bar:
        for size in batches:
            xT = torch.randn(size, unet.config.in_channels, *_size(unet), generator=generator).to(device)
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
    """Measure what the sampler costs beside the bare network evaluations."""
    for batch_size in args.batch_size:
        bare, sampled = sampler_overhead(load_pretrained("mnist"), batch_size, args.steps, args.repeats)
        print(
            f"batch {batch_size}: bare network {1e3 * bare:.2f} ms a step, ddim_sample {1e3 * sampled:.2f} ms "
            f"({100 * (sampled / bare - 1):+.1f} %), medians of {args.repeats} runs of {args.steps} steps"
        )


def _check_positive(args: argparse.Namespace, *names: str) -> None:
    for name in names:
        if getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(args, name)}")


def _device(name: str | None) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this machine has no CUDA device that torch can use; use --device cpu")
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def parser() -> argparse.ArgumentParser:
    """The argument parser of all commands."""
    top = argparse.ArgumentParser(prog="python -m ddim_lib", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="{train,sample,download,bench}")

    sub = commands.add_parser("train", help="train a U-Net")
    sub.add_argument("dataset", choices=PRESETS)
    sub.add_argument("--steps", type=int, default=20_000)
    sub.add_argument("--batch-size", type=int, default=64)
    sub.add_argument("--out", type=Path, required=True, help="folder for checkpoints, sheets and weights")
    sub.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda where there is one")
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    sub.add_argument("--lr", type=float, default=1e-3)
    sub.add_argument("--focus", type=float, default=0.0, help="share of the times drawn around T / 2, 0 for DDPM's")
    sub.add_argument("--ema", type=float, default=0.999, help="decay of the averaged weights")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--bf16", action=argparse.BooleanOptionalAction, help="default: on CUDA only")
    sub.add_argument("--compile", action="store_true", help="torch.compile; needs a C++ compiler")
    sub.add_argument("--checkpoint-every", type=int, default=500, metavar="STEPS")
    sub.add_argument("--sample-every", type=int, default=2000, metavar="STEPS")
    sub.set_defaults(run=run_train)

    sub = commands.add_parser("sample", help="sample images from a trained model")
    sub.add_argument("model", help="a pretrained model: mnist")
    sub.add_argument("--weights", type=Path, help="a file of weights instead of the pretrained ones")
    sub.add_argument("--steps", type=int, default=50, help="S, network evaluations an image")
    sub.add_argument("--eta", type=float, default=0.0, help="0 is DDIM, 1 is DDPM")
    sub.add_argument("--spacing", default="uniform", choices=("uniform", "leading", "quadratic"))
    sub.add_argument("--n", type=int, default=64, help="number of images")
    sub.add_argument("--batch-size", type=int, default=256)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--out", type=Path, default=Path("samples.png"))
    sub.add_argument("--device", choices=("cuda", "cpu"))
    sub.set_defaults(run=run_sample)

    sub = commands.add_parser("download", help="fetch a data set into $DDIM_DATA or the user's cache")
    sub.add_argument("dataset", choices=("mnist", "cifar10"))
    sub.set_defaults(run=run_download)

    sub = commands.add_parser("bench", help="measure the sampler against bare network evaluations")
    sub.add_argument("--batch-size", type=int, nargs="+", default=[1, 16, 64])
    sub.add_argument("--steps", type=int, default=20)
    sub.add_argument("--repeats", type=int, default=7)
    sub.set_defaults(run=run_bench)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; bad input ends in one line on stderr and exit status 2."""
    argv = sys.argv[1:] if argv is None else argv
    args = parser().parse_args(argv)
    args.command = shlex.join(["python", "-m", "ddim_lib", *argv])
    try:
        args.run(args)
    except (ValueError, FloatingPointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
