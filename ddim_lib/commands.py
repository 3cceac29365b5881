"""What the commands of :mod:`ddim_lib.__main__` do: one function each, from parsed arguments to files and a report."""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm

from .bench import overheads
from .checkpoints import checkpoint_files, load_checkpoint, save_checkpoint
from .datasets import dataset_sha256, download, load_pixels
from .files import sole_writer
from .plots import save_grid
from .presets import PRESETS
from .samplers import ddim_sample
from .schedules import Schedule, make_tau
from .stopping import agreed_signal, stop_signals
from .train import TrainConfig, TrainState, check_finite, start, train
from .unet import UNet
from .weights import WEIGHTS, file_sha256, load_pretrained, load_weights, save_weights

LARGEST_SHEET = 10_000  # images
SETTINGS = ("steps", "batch_size", "accumulate", "lr", "focus", "ema", "seed")  # the options that change a preset


def run_train(args: argparse.Namespace) -> int:
    """Train on a data set; leave checkpoints, sample sheets and the averaged weights in ``args.out``.

    Returns:
        0, or 128 plus the number of the signal that stopped the run.
    """
    device = choose_device(args.device)
    check_positive(args, "checkpoint_every", "sample_every", "keep")
    processes = PartialState(cpu=args.device == "cpu")  # under `accelerate launch`, one process of several
    config = _train_config(args, device)
    with hold(args.out, processes, folder=True):
        images, _ = load_pixels(PRESETS[args.preset].dataset, "train")
        state = _first_or_last_state(args, config, device)
        try:
            stop = _train_loop(state, images, Schedule.linear(state.model.config.T), config, args)
        except FloatingPointError as error:
            good = [str(path) for path in checkpoint_files(args.out)[-1:]]
            raise FloatingPointError(f"{error}; the last good checkpoint: {', '.join(good) or 'none'}") from None
        if processes.is_main_process:
            _finish(state, config, args, stop)
    processes.destroy_process_group()
    return 128 + stop if stop else 0


def hold(out: Path, processes: PartialState, folder: bool = False) -> AbstractContextManager[None]:
    """Keep other runs from writing ``out``; of the processes of a run the main one does so, which alone writes."""
    return sole_writer(out, folder) if processes.is_main_process else nullcontext()


def _first_or_last_state(args: argparse.Namespace, config: TrainConfig, device: torch.device) -> TrainState:
    """The state before the first step, or that of the newest checkpoint."""
    found, preset = checkpoint_files(args.out), PRESETS[args.preset]
    if found and not args.resume:
        raise ValueError(f"{args.out} holds a checkpoint already; add --resume to go on, or name another --out")
    torch.manual_seed(config.seed)
    unet = UNet(preset.unet).to(device)
    state = load_checkpoint(args.out, unet, config, preset.dataset) if found else start(unet, config)
    if args.compile:
        unet.compile()
    return state


def _finish(state: TrainState, config: TrainConfig, args: argparse.Namespace, stop: int) -> None:
    if stop:
        again = "call again with --resume to go on"
        print(f"stopped by {signal.Signals(stop).name} after step {state.step}: saved; {again}", file=sys.stderr)
        return
    _save_sheet(state, args)
    unet = state.ema.half() if args.half else state.ema
    save_weights(args.out / "ema.safetensors", unet, _provenance(state, config, args))
    last = f"last loss {state.loss.item():.4f}"
    print(f"{state.step} steps in {state.seconds:.0f} s, {last}, weights in {args.out / 'ema.safetensors'}")


def _train_config(args: argparse.Namespace, device: torch.device) -> TrainConfig:
    bf16 = args.bf16
    if bf16 is None:
        bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    given = {name: value for name in SETTINGS if (value := getattr(args, name)) is not None}
    return replace(PRESETS[args.preset].train, **given, bf16=bf16)


def _train_loop(
    state: TrainState, images: Tensor, schedule: Schedule, config: TrainConfig, args: argparse.Namespace
) -> int:
    """Train to the end, or until a signal arrives; return its number, or 0."""
    main, total, size = PartialState().is_main_process, config.steps, config.batch_size
    known = {"total": total * size, "initial": state.step * size, "disable": not main}
    bar = tqdm(**known, unit="img", smoothing=0.02, leave=False)
    sheets = range(args.sample_every, total if main else 0, args.sample_every)  # after these steps, and after the last
    if state.step in sheets and not _sheet(state, args).exists():
        _save_sheet(state, args)  # before which a run was killed
    with bar, stop_signals() as caught:
        for _ in train(state.model, images, schedule, config, state):
            bar.update(size)
            if state.step % 10 == 0:
                bar.set_postfix(step=state.step, loss=f"{state.loss.item():.4f}")
            stop = agreed_signal(caught, state.step)
            if stop or state.step % args.checkpoint_every == 0 or state.step == total:
                _save(state, config, args)
            if stop:
                return stop
            if state.step in sheets:
                _save_sheet(state, args)
    return 0


def _save(state: TrainState, config: TrainConfig, args: argparse.Namespace) -> None:
    if PartialState().is_main_process:
        save_checkpoint(args.out, state, config, args.keep, PRESETS[args.preset].dataset)
    else:
        check_finite(state, config)  # so that no process outlives a run that diverged


def _sheet(state: TrainState, args: argparse.Namespace) -> Path:
    return args.out / f"samples-{state.step:08d}.png"


def _save_sheet(state: TrainState, args: argparse.Namespace) -> None:
    """100 images at S = 50 from a fixed seed, to watch the training."""
    unet = state.ema
    xT = torch.randn(100, *unet.config.image_shape, generator=torch.Generator().manual_seed(0))
    schedule = Schedule.linear(unet.config.T)
    *_, last = ddim_sample(unet, schedule, xT.to(next(unet.parameters()).device), make_tau(schedule.T, 50))
    save_grid(_sheet(state, args), last.xt)


def _provenance(state: TrainState, config: TrainConfig, args: argparse.Namespace) -> dict[str, Any]:
    threads, dataset = f"CPU, {torch.get_num_threads()} threads", PRESETS[args.preset].dataset
    return {
        "command": args.command,
        "preset": args.preset,
        "dataset": dataset,
        "dataset_sha256": dataset_sha256(dataset),
        "schedule": "Schedule.linear(1000)",
        "train": asdict(config),
        "steps": state.step,
        "seed": config.seed,
        "final_loss": state.history[-1][1] if state.history else state.loss.item(),
        "history": state.history,
        "seconds": round(state.seconds),
        "peak_mib": peak_mib(state.loss.device),
        "device": torch.cuda.get_device_name() if state.loss.device.type == "cuda" else threads,
        "processes": PartialState().num_processes,
        "versions": versions(),
    }


def peak_mib(device: torch.device) -> int | None:
    """MiB that this process has held at most: on a GPU its tensors, else everything; None on Windows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    if platform.system() == "Windows":
        return None
    import resource  # which Windows lacks

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return held >> (20 if platform.system() == "Darwin" else 10)


def versions() -> dict[str, str]:
    """What a file of weights or results says about the software that made it."""
    return {"python": platform.python_version(), "torch": torch.__version__}


def run_sample(args: argparse.Namespace) -> None:
    """Sample images from a trained model into one PNG sheet; say how long it took."""
    device = choose_device(args.device)
    check_positive(args, "n", "batch_size")
    if args.n > LARGEST_SHEET:
        raise ValueError(f"--n must be at most {LARGEST_SHEET:,}, the images of one sheet, got {args.n}")
    unet = load_network(args, device)
    schedule = Schedule.linear(unet.config.T)
    generator = torch.Generator().manual_seed(args.seed)
    tau = make_tau(schedule.T, args.steps, args.spacing)
    batches = [min(args.batch_size, args.n - i) for i in range(0, args.n, args.batch_size)]
    images, began = [], time.perf_counter()
    with sole_writer(args.out), tqdm(total=args.steps * len(batches), unit="eval", leave=False) as bar:
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
    check_positive(args, "batch_size", "repeats")
    for batch_size in args.batch_size:
        found = overheads(load_pretrained("mnist"), batch_size, args.steps, args.repeats)
        bare = found.pop("bare network")
        others = [f"{name} {1e3 * each:.2f} ms ({100 * (each / bare - 1):+.1f} %)" for name, each in found.items()]
        print(f"batch {batch_size}: bare network {1e3 * bare:.2f} ms a step, {', '.join(others)}", flush=True)
    print(f"(medians of {args.repeats} runs of {args.steps} steps, taken in turn)")


def load_network(args: argparse.Namespace, device: torch.device) -> UNet:
    """The network that the arguments name, on the device, compiled if they say so."""
    unet = (load_weights(args.weights) if args.weights else load_pretrained(args.model)).to(device)
    if args.compile:
        unet.compile()
    return unet


def model_sha256(args: argparse.Namespace) -> str:
    """The hash of the file that :func:`load_network` reads."""
    return file_sha256(args.weights or WEIGHTS / f"{args.model}.safetensors")


def check_positive(args: argparse.Namespace, *names: str) -> None:
    """Raise ValueError for an option below 1."""
    for name in names:
        value = getattr(args, name)
        least = min(value) if isinstance(value, list) else value
        if least < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {least}")


def choose_device(name: str | None) -> torch.device:
    """The device of that name; without a name, CUDA where there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this machine has no CUDA device that torch can use; use --device cpu")
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
