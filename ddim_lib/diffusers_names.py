"""diffusers' ``UNet2DModel`` beside our U-Net: its fields and the names of its weights, both ways."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .unet import UNetConfig
from .variant import Variant

DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,
}
"""What ``UNet2DModel`` takes for a field that a config.json does not have."""

_SUPPORTED: dict[str, list[Any]] = {
    "center_input_sample": [False],
    "time_embedding_type": ["positional"],
    "freq_shift": [0, 1],
    "flip_sin_to_cos": [False, True],
    "mid_block_type": ["UNetMidBlock2D"],
    "mid_block_scale_factor": [1],
    "downsample_padding": [0, 1],
    "downsample_type": ["conv"],
    "upsample_type": ["conv"],
    "act_fn": ["silu", "swish"],
    "resnet_time_scale_shift": ["default"],
    "add_attention": [True],
    "class_embed_type": [None],
    "num_class_embeds": [None],
}

DOWN, UP = ("DownBlock2D", "AttnDownBlock2D"), ("UpBlock2D", "AttnUpBlock2D")  # without and with attention
RESNET = {"norm1": "norm1", "conv1": "conv1", "time": "time_emb_proj"}
RESNET |= {"norm2": "norm2", "conv2": "conv2", "shortcut": "conv_shortcut"}
ATTENTION = {"norm": ["group_norm"], "qkv": ["to_q", "to_k", "to_v"], "out": ["to_out.0"]}
ENDS = {"time_mlp.0": "time_embedding.linear_1", "time_mlp.2": "time_embedding.linear_2"}
ENDS |= {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out"}


def unet_config(values: dict[str, Any], T: int) -> UNetConfig:
    """UNetConfig from the fields of a ``UNet2DModel``.

    Raises:
        ValueError, TypeError: a field that this library's network has no equal to, or that makes no network.
    """
    _check_supported(values)
    values = DEFAULTS | values
    variant = Variant(
        residual=False,
        asymmetric=values["downsample_padding"] == 0,
        head_width=values["attention_head_dim"],
        time_shift=1,
        freq_shift=values["freq_shift"],
        guard=values["norm_eps"],
    )
    return UNetConfig(
        in_channels=values["in_channels"],
        patch=1,
        channels=tuple(values["block_out_channels"]),
        blocks=values["layers_per_block"],
        attention=tuple(DOWN.index(kind) == 1 for kind in values["down_block_types"]),
        groups=values["norm_num_groups"],
        dropout=values["dropout"],
        T=T,
        variant=variant,
    )


def _check_supported(values: dict[str, Any]) -> None:
    if values.get("_class_name") != "UNet2DModel":
        raise ValueError(f"_class_name must be 'UNet2DModel', got {values.get('_class_name')!r}")
    unknown = [name for name in values if name not in DEFAULTS and not name.startswith("_")]
    if unknown:
        raise ValueError(f"there must be no field {unknown[0]!r}; those known are {', '.join(DEFAULTS)}")
    values = DEFAULTS | values
    if not values["down_block_types"] or any(kind not in DOWN for kind in values["down_block_types"]):
        raise ValueError(f"down_block_types must be of {' and '.join(DOWN)}, got {values['down_block_types']}")
    mirrored = [UP[DOWN.index(kind)] for kind in reversed(values["down_block_types"])]
    supported = _SUPPORTED | {
        "out_channels": [values["in_channels"]],
        "up_block_types": [mirrored],
        "time_embedding_dim": [None, 4 * values["block_out_channels"][0]],
        "attn_norm_num_groups": [None, values["norm_num_groups"]],
    }
    for name, allowed in supported.items():
        if values[name] not in allowed:
            raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, got {values[name]!r}")


def their_config(config: UNetConfig, size: int) -> dict[str, Any]:
    """The fields of the ``UNet2DModel`` that equals our network, for images of ``size`` by ``size`` pixels."""
    return DEFAULTS | {
        "sample_size": size,
        "in_channels": config.in_channels,
        "out_channels": config.in_channels,
        "freq_shift": config.variant.freq_shift,
        "flip_sin_to_cos": False,
        "down_block_types": [DOWN[attention] for attention in config.attention],
        "up_block_types": [UP[attention] for attention in reversed(config.attention)],
        "block_out_channels": list(config.channels),
        "layers_per_block": config.blocks,
        "downsample_padding": 0 if config.variant.asymmetric else 1,
        "dropout": config.dropout,
        "attention_head_dim": config.variant.head_width,
        "norm_num_groups": config.groups,
        "norm_eps": config.variant.guard,
    }


def their_state(state: dict[str, Tensor], config: UNetConfig) -> dict[str, Tensor]:
    """Our weights under the names of ``UNet2DModel``."""
    return {
        f"{their}.{leaf}": part
        for our, theirs in _modules(config)
        for leaf in ("weight", "bias")
        if f"{our}.{leaf}" in state
        for their, part in zip(theirs, state[f"{our}.{leaf}"].chunk(len(theirs)), strict=True)
    }


def our_state(tensors: dict[str, Tensor], config: UNetConfig, cosines_first: bool) -> dict[str, Tensor]:
    """The weights of a ``UNet2DModel`` under our names, in float32, and for sines first."""
    state = {
        f"{our}.{leaf}": torch.cat([tensors[f"{their}.{leaf}"].float() for their in theirs])
        for our, theirs in _modules(config)
        for leaf in ("weight", "bias")
        if f"{theirs[0]}.{leaf}" in tensors
    }
    if cosines_first:
        state["time_mlp.0.weight"] = state["time_mlp.0.weight"].roll(config.channels[0] // 2, dims=1)
    return state


def _modules(config: UNetConfig) -> Iterator[tuple[str, list[str]]]:
    """Each of our layers with theirs, of which it holds one or, in attention, three below each other."""
    yield from ((our, [their]) for our, their in ENDS.items())
    down, up = itertools.count(), itertools.count()
    for level, attention in enumerate(config.attention):
        if level > 0:
            yield f"down.{next(down)}.conv", [f"down_blocks.{level - 1}.downsamplers.0.conv"]
        for i in range(config.blocks):
            yield from _block(f"down.{next(down)}", f"down_blocks.{level}", i, attention)
    for i, attention in enumerate((True, False)):
        yield from _block(f"middle.{i}", "mid_block", i, attention)
    for level, attention in enumerate(reversed(config.attention)):
        for i in range(config.blocks + 1):
            yield from _block(f"up.{next(up)}", f"up_blocks.{level}", i, attention)
        if level < len(config.channels) - 1:
            yield f"up.{next(up)}.conv", [f"up_blocks.{level}.upsamplers.0.conv"]


def _block(our: str, their: str, i: int, attention: bool) -> Iterator[tuple[str, list[str]]]:
    yield from ((f"{our}.block.{ours}", [f"{their}.resnets.{i}.{theirs}"]) for ours, theirs in RESNET.items())
    for ours, theirs in ATTENTION.items() if attention else ():
        yield f"{our}.attention.{ours}", [f"{their}.attentions.{i}.{name}" for name in theirs]
