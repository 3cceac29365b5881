"""The noise predictor: a small U-Net in the layout of Ho et al. 2020, appendix B."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .variant import BOOK, Variant

EpsModel = Callable[[Tensor, Tensor], Tensor]
"""``eps = model(xt, t)``: the noise estimate for states ``xt`` (B, ...) at int64 times ``t`` (B,) in 1..T."""


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a :class:`UNet`.

    Attributes:
        in_channels: image channels, 1 for MNIST and 3 for CIFAR-10.
        patch: side of the square of pixels that the network treats as one; 2 halves height and width at the door.
        channels: width at each resolution; every level after the first halves height and width.
        blocks: residual blocks a level on the way down (one more on the way up).
        attention: for each level, whether its residual blocks are followed by self-attention.
        groups: groups of every GroupNorm; divides every width.
        dropout: probability inside each residual block.
        T: the largest time the network may be asked about.
        variant: departures from this book's network, which published weights may need.
    """

    in_channels: int = 1
    patch: int = 2
    channels: tuple[int, ...] = (64, 128)
    blocks: int = 1
    attention: tuple[bool, ...] = (False, True)
    groups: int = 8
    dropout: float = 0.0
    T: int = 1000
    variant: Variant = field(default=BOOK, repr=False)

    def __post_init__(self) -> None:
        for name in ("in_channels", "patch", "blocks", "groups", "T"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.channels or self.channels[0] % 2:
            raise ValueError(f"channels needs a level, and an even first width, got {self.channels}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        if len(self.attention) != len(self.channels):
            raise ValueError(f"attention needs one entry a level ({len(self.channels)}), got {self.attention}")
        if any(width % self.groups for width in self.channels):
            raise ValueError(f"every width must be a multiple of groups = {self.groups}, got {self.channels}")
        attentive = [*itertools.compress(self.channels, self.attention), self.channels[-1]]
        if any(width % (self.variant.head_width or width) for width in attentive):
            raise ValueError(f"every width with attention must be a multiple of the head width, got {attentive}")
        if self.variant.freq_shift and self.channels[0] < 4:
            raise ValueError(f"a freq_shift of 1 needs a first width of at least 4, got channels = {self.channels}")

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> UNetConfig:
        """The configuration from the JSON form of its ``asdict``, where tuples are lists; older files lack variant."""
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return cls(**values | {"variant": Variant(**values.get("variant", {}))})

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the data set with so many channels: MNIST's or CIFAR-10's."""
        return (1, 28, 28) if self.in_channels == 1 else (self.in_channels, 32, 32)


def time_embedding(t: Tensor, width: int, variant: Variant = BOOK) -> Tensor:
    """Sines and cosines of t at frequencies from 1 towards 1/10,000: (B,) -> (B, width) (Vaswani et al. 2017)."""
    half = width // 2
    i = torch.arange(half, device=t.device, dtype=torch.float32)
    frequency = torch.exp(-math.log(10_000) * i / (half - variant.freq_shift))
    angle = (t - variant.time_shift)[:, None].float() * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class ResidualBlock(nn.Module):
    """x + conv(dropout(silu(norm(conv(silu(norm(x))) + time)))): the time enters as one bias for each channel."""

    def __init__(self, c_in: int, c_out: int, c_time: int, config: UNetConfig) -> None:
        super().__init__()
        self.norm1 = _norm(config, c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time = nn.Linear(c_time, c_out)
        self.norm2 = _norm(config, c_out)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = _zeroed(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        return self.shortcut(x) + self.conv2(self.dropout(F.silu(self.norm2(h))))


class Attention(nn.Module):
    """Self-attention over the pixels, added to its input; of one head, unless the variant has narrower ones."""

    def __init__(self, width: int, config: UNetConfig) -> None:
        super().__init__()
        self.heads = width // (config.variant.head_width or width)
        self.norm = _norm(config, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = _zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, H W, C)
        qkv = self.qkv(tokens).unflatten(2, (3, self.heads, -1))  # (B, H W, 3, heads, C / heads)
        q, k, v = qkv.transpose(1, 3).unbind(2)  # each (B, heads, H W, C / heads)
        mixed = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + mixed.transpose(1, 2).reshape_as(x)


class Block(nn.Module):
    """One residual block and, where the level has it, attention."""

    def __init__(self, c_in: int, c_out: int, c_time: int, config: UNetConfig, attention: bool) -> None:
        super().__init__()
        self.block = ResidualBlock(c_in, c_out, c_time, config)
        self.attention = Attention(c_out, config) if attention else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.attention(self.block(x, time))


class Downsample(nn.Module):
    """Halve height and width by a strided convolution."""

    def __init__(self, width: int, asymmetric: bool) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((0, 1, 0, 1)) if asymmetric else nn.Identity()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=0 if asymmetric else 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.conv(self.pad(x))


class Upsample(nn.Module):
    """Double height and width by nearest neighbours, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class UNet(nn.Module):
    """eps = UNet(x_t, t): predicts the noise in x_t (Ho et al. 2020, appendix B).

    The way down stores its feature maps, the way up takes them back in reverse order (the skip connections). The last
    layer predicts eps - x_t: at high noise eps is nearly x_t, and the small rest is what tells of the image. Where
    published networks do otherwise, ``config.variant`` says so.
    Weights are kept channels-last, which is the fast layout on CPUs and on tensor cores.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        first, last, c_time = config.channels[0], config.channels[-1], 4 * config.channels[0]
        self.time_mlp = nn.Sequential(nn.Linear(first, c_time), nn.SiLU(), nn.Linear(c_time, c_time), nn.SiLU())
        pixels = config.in_channels * config.patch**2
        self.conv_in = nn.Conv2d(pixels, first, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, skips = first, [first]
        for level, c_out in enumerate(config.channels):
            if level > 0:
                self.down.append(Downsample(width, config.variant.asymmetric))
                skips.append(width)
            for _ in range(config.blocks):
                self.down.append(Block(width, c_out, c_time, config, config.attention[level]))
                width = c_out
                skips.append(width)
        self.middle = nn.ModuleList(
            Block(last, last, c_time, config, with_attention) for with_attention in (True, False)
        )
        for level, c_out in reversed(list(enumerate(config.channels))):
            for _ in range(config.blocks + 1):
                self.up.append(Block(width + skips.pop(), c_out, c_time, config, config.attention[level]))
                width = c_out
            if level > 0:
                self.up.append(Upsample(width))
        self.norm_out = _norm(config, first)
        self.conv_out = _zeroed(nn.Conv2d(first, pixels, 3, padding=1))
        self.to(memory_format=torch.channels_last)

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        """Estimate the noise.

        Args:
            xt: (B, C, H, W), in the dtype of the weights; H and W multiples of patch * 2 ** (levels - 1).
            t: int64 (B,), times in 1..T.

        Returns:
            eps: (B, C, H, W).

        Raises:
            ValueError: a wrong shape or dtype, or a time outside 1..T.
        """
        if not torch.compiler.is_compiling():
            self._check(xt, t)
        time = self.time_mlp(time_embedding(t, self.config.channels[0], self.config.variant).to(xt.dtype))
        patches = F.pixel_unshuffle(xt, self.config.patch)  # (B, C patch^2, H / patch, W / patch)
        h = self.conv_in(patches.contiguous(memory_format=torch.channels_last))
        skips = [h]
        for layer in self.down:
            h = layer(h, time)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, time)
        for layer in self.up:
            h = layer(h, time) if isinstance(layer, Upsample) else layer(torch.cat([h, skips.pop()], dim=1), time)
        rest = F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(h))), self.config.patch)
        return xt + rest if self.config.variant.residual else rest

    def _check(self, xt: Tensor, t: Tensor) -> None:
        c, dtype = self.config.in_channels, self.conv_in.weight.dtype
        multiple = self.config.patch * 2 ** (len(self.config.channels) - 1)
        if xt.ndim != 4 or xt.shape[1] != c or xt.shape[2] % multiple or xt.shape[3] % multiple:
            wanted = f"(B, {c}, H, W) with H and W multiples of {multiple}"
            raise ValueError(f"xt must have shape {wanted}, got {tuple(xt.shape)}")
        if xt.dtype != dtype:
            raise ValueError(f"xt must have the dtype of the network's weights, {dtype}, got {xt.dtype}")
        if t.shape != xt.shape[:1] or t.dtype != torch.int64:
            raise ValueError(f"t must be int64 of shape ({len(xt)},), got {t.dtype} of shape {tuple(t.shape)}")
        if len(t) and not (int(t.min()) >= 1 and int(t.max()) <= self.config.T):
            span = f"{int(t.min())} to {int(t.max())}"
            raise ValueError(f"t must lie in 1..T = 1..{self.config.T}, got times from {span}")


def _norm(config: UNetConfig, width: int) -> nn.GroupNorm:
    return nn.GroupNorm(config.groups, width, eps=config.variant.guard)


def _zeroed(layer: nn.Module) -> nn.Module:
    """Start a layer at zero, so that its residual branch starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
