"""The U-Net as a component of diffusers' pipelines, for networks that no ``UNet2DModel`` equals.

``to_diffusers`` copies this file, ``unet.py`` and ``variant.py`` into the folders that need them, so that those open
where this library is not installed. Nothing else imports it.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor

from .unet import UNet, UNetConfig
from .variant import Variant  # noqa: F401, diffusers takes along only what this file itself imports


class BookUNet(ModelMixin, ConfigMixin):
    """A U-Net of this library that is called as ``UNet2DModel`` is: at times 0..T-1, for a result with ``sample``."""

    @register_to_config
    def __init__(self, sample_size: int, in_channels: int, unet_config: dict[str, Any]) -> None:
        super().__init__()
        self.unet = UNet(UNetConfig.from_json(unet_config))

    def forward(self, sample: Tensor, timestep: Tensor | int, return_dict: bool = True) -> UNet2DOutput | tuple[Tensor]:
        """Estimate the noise in ``sample`` (B, C, H, W) at one time, or at a time for each image, counted from 0."""
        t = torch.as_tensor(timestep, device=sample.device, dtype=torch.int64).expand(len(sample)) + 1
        eps = self.unet(sample, t)
        return UNet2DOutput(sample=eps) if return_dict else (eps,)
