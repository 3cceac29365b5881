"""The networks that are compared, and what they are made to do.

The book's and diffusers' have the same weights. That of denoising-diffusion-pytorch, compared where it is installed, is
of another architecture, in the size that is nearest.
"""

from __future__ import annotations

import importlib.util

import torch
from diffusers import UNet2DModel
from measures import Run
from nearest import load
from torch import Tensor, nn

from ddim_lib import Schedule, UNet, UNetConfig
from ddim_lib.diffusers_names import their_config, their_state
from ddim_lib.train import noise_prediction_loss
from ddim_lib.variant import Variant

DDPM = Variant(residual=False, asymmetric=True, time_shift=1, freq_shift=1, guard=1e-6)
CONFIGS = {  # name: (configuration, side of an image, batch size)
    "tiny": (UNetConfig(3, 1, (8, 16), 1, (False, True), 4, variant=DDPM), 8, 2),  # for the test
    "mnist": (UNetConfig(4, 1, variant=Variant(residual=False, time_shift=1)), 14, 64),  # patches as channels
    "cifar10": (UNetConfig(3, 1, (128, 256, 256, 256), 2, (False, True, False, False), 32, variant=DDPM), 32, 16),
}
NEAREST_SIZES = {  # with attention where the book has it, in the package's own form of it
    "tiny": {"dim": 8, "dim_mults": (1, 2)},
    "mnist": {"dim": 64, "dim_mults": (1, 2)},
    "cifar10": {"dim": 144, "dim_mults": (1, 2, 2, 2), "full_attn": (False, True, False, False)},
}
BOOK, DEFAULT, NHWC = EQUAL = ("book", "diffusers", "diffusers channels-last")
NEAREST = "denoising-diffusion-pytorch"
PACKAGE = load() if importlib.util.find_spec("denoising_diffusion_pytorch") else None
NAMES = (*EQUAL, NEAREST) if PACKAGE else EQUAL


class Theirs(nn.Module):
    """A UNet2DModel that takes this book's times and returns the noise alone."""

    def __init__(self, unet: nn.Module, memory_format: torch.memory_format) -> None:
        super().__init__()
        self.unet, self.memory_format = unet.to(memory_format=memory_format), memory_format

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        """The noise in xt at times t in 1..T."""
        return self.unet(xt.contiguous(memory_format=self.memory_format), t - 1).sample


def build(name: str, key: str, device: str) -> nn.Module:
    """One of ``NAMES`` in one of ``CONFIGS``, with random weights; all of ``EQUAL`` get the same."""
    config, size, _ = CONFIGS[key]
    torch.manual_seed(0)
    if name == NEAREST:
        return PACKAGE.Unet(channels=config.in_channels, **NEAREST_SIZES[key]).to(device)
    network: nn.Module = UNet(config)
    with torch.no_grad():  # the last layers start at zero, and then any two networks agree
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    if name != BOOK:
        unet = UNet2DModel(**their_config(config, size))
        unet.load_state_dict(their_state(network.state_dict(), config))
        network = Theirs(unet, torch.channels_last if name == NHWC else torch.contiguous_format)
    return network.to(device)


def training(network: nn.Module, x0: Tensor, bf16: bool) -> Run:
    """One training step, the same lines for every network: noise, loss, gradient, Adam."""
    schedule, optimizer = Schedule.linear(1000), torch.optim.Adam(network.parameters(), lr=1e-6, betas=(0.9, 0.99))

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(x0.device.type, torch.bfloat16, enabled=bf16):
            loss = noise_prediction_loss(network, schedule, x0)
        loss.backward()
        optimizer.step()

    return step


def sampling(network: nn.Module, xt: Tensor, bf16: bool) -> Run:
    """One evaluation of the network without gradients."""
    t = torch.arange(len(xt), device=xt.device) % 1000 + 1

    def evaluate() -> Tensor:
        with torch.no_grad(), torch.autocast(xt.device.type, torch.bfloat16, enabled=bf16):
            return network(xt, t)

    return evaluate
