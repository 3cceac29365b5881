"""The book's U-Net beside those of diffusers and denoising-diffusion-pytorch: speed, memory, share of the peak."""

from __future__ import annotations

import argparse
import itertools
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import diffusers
import torch
from measures import flops, peak_bytes, product_peak, products, quotients, seconds_of, summary
from networks import BOOK, CONFIGS, EQUAL, NAMES, build, sampling, training
from torch import Tensor, nn

from ddim_lib.commands import versions
from ddim_lib.results import hardware, write_result

TOLERANCE = 1e-4  # between the outputs of networks with the same weights


def images(args: argparse.Namespace, key: str) -> Tensor:
    """A batch of noise in place of images."""
    config, size, batch = CONFIGS[key]
    return torch.rand(args.batch_size or batch, config.in_channels, size, size, device=args.device) * 2 - 1


def difference(networks: dict[str, nn.Module], x: Tensor) -> float:
    """The largest difference between the outputs of networks with the same weights, in true float32: without TF32."""
    torch.set_float32_matmul_precision("highest")
    with torch.backends.cudnn.flags(allow_tf32=False):
        outputs = [sampling(networks[name], x, bf16=False)() for name in EQUAL]
    torch.set_float32_matmul_precision("high" if x.is_cuda else "highest")  # the convolutions on CUDA have TF32 anyway
    found = max((output - outputs[0]).abs().max().item() for output in outputs)
    if not found < TOLERANCE:
        raise ValueError(f"the networks' outputs must agree to {TOLERANCE}, got a difference of {found:.1e}")
    return found


def compare(args: argparse.Namespace, key: str) -> dict[str, Any]:
    """All figures of one configuration."""
    x, networks = images(args, key), {name: build(name, key, args.device) for name in NAMES}
    cell = {"batch_size": len(x), "largest_difference": difference(networks, x)}
    cell["parameters"] = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    tasks = (training, sampling)
    counts = {task: {name: flops(task(networks[name], x, args.bf16)) for name in NAMES} for task in tasks}
    sizes = (512, 1024, 2048) if args.device == "cpu" else (2048, 4096, 8192)
    runs = products(sizes, torch.bfloat16 if args.bf16 else torch.float32, args.device)
    for name, network in networks.items():
        if args.compile:
            network.compile()
        runs |= {f"{task.__name__} {name}": task(network, x, args.bf16) for task in tasks}
    seconds = seconds_of(runs, args.repeats, args.device)
    cell["product_flops_per_second"] = product_peak(seconds)
    return cell | {task.__name__: figures(seconds, task.__name__, cell, found) for task, found in counts.items()}


def figures(seconds: dict[str, list[float]], task: str, cell: dict[str, Any], counts: dict[str, int]) -> dict[str, Any]:
    """Of each network: images a second, share of the peak, and its seconds divided by those of the book's."""
    ours, result = seconds[f"{task} {BOOK}"], {}
    for name, count in counts.items():
        theirs = seconds[f"{task} {name}"]
        took = summary(theirs)
        result[name] = {"seconds": took, "images_per_second": cell["batch_size"] / took["median"], "flops": count}
        result[name]["share_of_peak"] = count / took["median"] / cell["product_flops_per_second"]
        result[name]["over_book"] = quotients(theirs, ours)
    return result


def memory_of(name: str, key: str) -> int:
    """Peak memory of two training steps, in a process of its own.

    To be called before this process takes memory: Linux counts the parent's peak as the child's, too.
    """
    command = [sys.executable, *sys.argv, "--configs", key, "--memory-of", name]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def print_memory(args: argparse.Namespace, key: str) -> None:
    """What that process does; the memory of torch.compile itself is left out on a CPU, where it would count."""

    def train() -> None:
        network = build(args.memory_of, key, args.device)
        if args.compile and args.device == "cuda":
            network.compile()
        step = training(network, images(args, key), args.bf16)
        step(), step()

    print(peak_bytes(train, args.device))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument("--configs", nargs="+", choices=CONFIGS, default=["mnist", "cifar10"])
    top.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    top.add_argument("--threads", type=int, default=1, help="on a CPU")
    top.add_argument("--batch-size", type=int, help="in place of each configuration's own")
    top.add_argument("--bf16", action="store_true", help="bfloat16 autocast")
    top.add_argument("--compile", action="store_true", help="torch.compile, of all networks")
    top.add_argument("--repeats", type=int, default=5)
    top.add_argument("--out", type=Path, default=Path("results/bench_unet.json"))
    top.add_argument("--memory-of", choices=NAMES, help=argparse.SUPPRESS)
    return top


def main() -> None:
    """Measure, print a line a figure, write the result file."""
    args = parser().parse_args()
    if args.repeats < 2:
        parser().error(f"--repeats must be at least 2, for quartiles, got {args.repeats}")
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print_memory(args, *args.configs)
        return
    memory = {key: {name: memory_of(name, key) for name in NAMES} for key in args.configs}
    result: dict[str, Any] = {"command": shlex.join(["python", *sys.argv])}
    result |= {"versions": versions() | {"diffusers": diffusers.__version__}, "repeats": args.repeats}
    result |= {"hardware": hardware(build(BOOK, "tiny", args.device)), "cells": {}}
    for key in args.configs:
        cell = result["cells"][key] = {"memory_bytes": memory[key]} | compare(args, key)
        for task, name in itertools.product(("training", "sampling"), NAMES):
            found = cell[task][name]
            speed, share, over = found["images_per_second"], found["share_of_peak"], found["over_book"]
            spread = f"{over['median']:.2f} ({over['lower']:.2f} to {over['upper']:.2f})"
            print(f"{key} {task} {name}: {speed:.4g} images/s, {share:.0%} of peak, time over the book's {spread}")
        print(f"{key} memory:", {name: f"{count / 2**20:.0f} MiB" for name, count in memory[key].items()})
        write_result(args.out, result)


if __name__ == "__main__":
    main()
