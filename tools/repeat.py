"""What is the same bit for bit on every run, with 1 or 2 threads, and in batches of any size: results/repeat.json.

``python tools/repeat.py`` runs everything in four processes, two with 1 thread and two with 2, and compares. Where bits
differ, the file holds the largest difference. No data set is needed but the 5,000 digits.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from ddim_lib import Schedule, UNet, load_dataset, load_pretrained, train
from ddim_lib.classifier import extract_features, load_classifier, train_classifier
from ddim_lib.commands import versions
from ddim_lib.evaluate import Measure
from ddim_lib.grids import Cell
from ddim_lib.metrics import fit_gaussian
from ddim_lib.presets import PRESETS
from ddim_lib.walks import last_state

RESULT = Path(__file__).resolve().parent.parent / "results" / "repeat.json"
BATCHES = (50, 25, 10, 5, 1)
Found = Iterator[tuple[str, Tensor]]


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Gaussian numbers, the same on every call."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def training(name: str, steps: int, batch_size: int) -> Found:
    """The losses and the averaged weights of a preset after a few steps on random images."""
    preset = PRESETS[name]
    torch.manual_seed(0)
    unet = UNet(preset.unet)
    pixels = (noise(256, *unet.config.image_shape) * 50 + 128).clamp(0, 255).to(torch.uint8)
    config = replace(preset.train, steps=steps, batch_size=batch_size)
    states = train(unet, pixels, Schedule.linear(unet.config.T), config)
    losses = torch.stack([(last := state).loss for state in states])
    yield f"train {name}: losses", losses
    yield f"train {name}: weights", torch.cat([value.flatten() for value in last.ema.state_dict().values()])


def sampling(name: str, n: int, batches: tuple[int, ...]) -> Found:
    """DDIM's and DDPM's samples in 5 steps, in batches of each size."""
    unet = load_pretrained(name)
    schedule, xT = Schedule.linear(unet.config.T), noise(n, *unet.config.image_shape)
    for eta, size in [(0.0, size) for size in batches] + [(1.0, batches[0])]:
        parts = enumerate(xT.split(size))
        walks = (Cell(eta, 5).walk(unet, schedule, x, [torch.Generator().manual_seed(k)]) for k, x in parts)
        yield f"sample {name}: eta = {eta:g}, batches of {size}", torch.cat([last_state(walk) for walk in walks])


def measuring(count: int) -> Found:
    """A classifier's training, features and what evaluate makes of them, on the 5,000 digits."""
    images, labels = (part[::4][:count] for part in load_dataset("mnist-5k"))
    *_, (model, loss) = train_classifier(images, labels, 1)
    yield "train-classifier: loss", torch.tensor([loss])
    yield "train-classifier: weights", torch.cat([value.flatten().double() for value in model.state_dict().values()])
    model = load_classifier("mnist")
    features = extract_features(model, images)
    yield "evaluate: features, batches of 250", features
    for size in (50, 10, 1):
        yield f"evaluate: features, batches of {size}", extract_features(model, images, size)
    half = count // 2
    found = Measure(model, fit_gaussian(features[:half]), features[half:]).of(features[: count - half])
    yield "evaluate: distances", torch.tensor([found[key] for key in ("frechet", "kernel")], dtype=torch.float64)


def operations() -> Found:
    """The parts of which networks and measures are made."""
    x, w = noise(64, 64, 14, 14), noise(128, 64, 3, 3, seed=1) * 0.05
    x, w = (part.to(memory_format=torch.channels_last).requires_grad_(True) for part in (x, w))
    yield "operation: convolution", (y := F.conv2d(x, w, padding=1)).detach()
    y.backward(noise(*y.shape, seed=2))
    yield "operation: convolution, gradient of its input", x.grad
    yield "operation: convolution, gradient of its weights", w.grad
    y = F.group_norm(x, 8)
    yield "operation: group normalization", y.detach()
    yield "operation: batch normalization", F.batch_norm(x, None, None, training=True).detach()
    q = noise(64, 4, 49, 32)
    yield "operation: attention", F.scaled_dot_product_attention(q, q, q)
    yield "operation: linear layer", F.linear(noise(64, 256), noise(512, 256, seed=1))
    yield "operation: mean over all elements", noise(1 << 20).mean().view(1)
    square = noise(300, 300).double()
    yield "operation: matrix product in float64", square @ square.mT
    yield "operation: eigenvalues in float64", torch.linalg.eigvalsh(square @ square.mT)


def everything(quick: bool) -> dict[str, Tensor]:
    """All that is compared, by name."""
    found = dict(training("mnist", *((2, 16) if quick else (10, 64))))
    if not quick:
        found |= dict(training("cifar10-small", 6, 64)) | dict(operations())
    for name in ("mnist",) if quick else ("mnist", "cifar10"):
        found |= dict(sampling(name, 10 if quick else 50, (10,) if quick else BATCHES))
    found |= dict(measuring(400 if quick else 1250))
    return {name: value.contiguous() for name, value in found.items()}


def in_a_process(threads: int, file: Path, quick: bool = False) -> dict[str, Tensor]:
    """What a process of its own with so many threads finds."""
    waiting = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}  # kind to what else runs on the machine
    command = [sys.executable, __file__, "--child", str(file), *["--quick"] * quick]
    environment = os.environ | waiting | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    subprocess.run(command, env=environment, check=True)
    return safetensors.torch.load(file.read_bytes())


def difference(one: Tensor, other: Tensor) -> float:
    """The largest difference of two tensors, two digits of it; 0 means that all bits are equal."""
    if one.shape != other.shape or one.dtype != other.dtype:
        raise ValueError(f"{one.dtype} {tuple(one.shape)} and {other.dtype} {tuple(other.shape)} cannot be compared")
    if torch.equal(one.view(torch.uint8), other.view(torch.uint8)):
        return 0.0
    return float(f"{(one.double() - other.double()).abs().max().item():.1e}")


def batch_differences(found: dict[str, Tensor]) -> dict[str, float]:
    """How much smaller batches change, of what was found in one process."""
    rows = {}
    for start in ("sample mnist: eta = 0", "sample cifar10: eta = 0", "evaluate: features"):
        names = {int(name.rsplit(" ", 1)[1]): name for name in found if name.startswith(f"{start}, batches of ")}
        sizes = sorted(names, reverse=True)
        rows |= {names[size]: difference(found[names[sizes[0]]], found[names[size]]) for size in sizes[1:]}
    return rows


def compared(one: list[dict[str, Tensor]], two: list[dict[str, Tensor]]) -> dict[str, dict[str, float]]:
    """By name: how large the values are, and how far they differ between runs, and between 1 and 2 threads."""
    return {
        name: {
            "largest": float(f"{value.double().abs().max().item():.1e}"),
            "same command again": max(difference(a[name], b[name]) for a, b in (one, two)),
            "2 threads instead of 1": difference(value, two[0][name]),
        }
        for name, value in sorted(one[0].items())
    }


def main() -> int:
    """Compare, and write the result file; status 1 if a run differs from its repetition."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, default=RESULT)
    options.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--quick", action="store_true", help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.child:
        args.child.write_bytes(safetensors.torch.save(everything(args.quick)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        one, two = ([in_a_process(n, Path(folder) / "found", args.quick) for _ in range(2)] for n in (1, 2))
    rows, machine = compared(one, two), torch.backends.cpu.get_cpu_capability()
    about = {"command": "make repeat", "versions": versions(), "instructions": machine}
    result = about | {"largest_differences": rows, "other_batches": batch_differences(one[0])}
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return int(any(row["same command again"] for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
