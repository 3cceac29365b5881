"""What ``python -m ddim_lib train NAME`` trains, where no option says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from .train import TrainConfig
from .unet import UNetConfig


@dataclass(frozen=True)
class Preset:
    """A data set, the network for it, and how to train it."""

    dataset: str
    unet: UNetConfig
    train: TrainConfig


MNIST = TrainConfig(steps=20_000, batch_size=64)
CIFAR10 = UNetConfig(3, patch=1, channels=(64, 128, 256), blocks=2, attention=(False, True, True), dropout=0.1)

PRESETS = {
    "mnist": Preset("mnist", UNetConfig(), MNIST),
    "mnist-5k": Preset("mnist-5k", UNetConfig(), MNIST),
    # 16 million weights, for a GPU. Batch size, rate, dropout and decay are those of Ho et al. 2020, appendix B, which
    # trains a network of 36 million 16 times as long.
    "cifar10": Preset(
        "cifar10", CIFAR10, TrainConfig(steps=50_000, batch_size=128, lr=2e-4, warmup=5_000, ema=0.9999, flip=True)
    ),
    # MNIST's network with three channels, 2.8 million weights, for an hour on a CPU.
    "cifar10-small": Preset("cifar10", UNetConfig(3), TrainConfig(steps=11_000, batch_size=64, focus=0.5, flip=True)),
}
