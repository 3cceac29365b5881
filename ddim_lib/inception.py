"""The Inception features that FID is defined by: an optional extra, from the package pytorch-fid."""

from __future__ import annotations

import os
from unittest import mock

import torch
from torch import Tensor, nn

FEATURES = 2048
BATCH = 50  # images at a time, each of which becomes 3 x 299 x 299
NEEDS = (
    "Inception features need the package pytorch-fid (`pip install pytorch-fid`, which brings torchvision); its "
    "weights, about 91 MB, which that package downloads at first use from its release page, "
    "https://github.com/mseitzer/pytorch-fid/releases, and unpickles (tensors alone); at least 2,300 samples; "
    "and in practice a GPU"
)


class Inception(nn.Module):
    """The last pooling layer (block 3) of pytorch-fid's InceptionV3, in eval mode on the CPU.

    Attributes:
        name: ``"inception pytorch-fid <version>"``, what a result file says.

    Raises:
        ValueError: pytorch-fid or torchvision is missing, or cannot be imported.
        OSError: the weights cannot be downloaded.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            import pytorch_fid  # here, because it is no requirement of the library
            from pytorch_fid.inception import InceptionV3
        except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that was built for another torch
            raise ValueError(f"{NEEDS} (importing it: {error})") from None
        try:
            # The file is a pickle: torch.load is told to take tensors from it alone, and to run nothing.
            with mock.patch.dict(os.environ, TORCH_FORCE_WEIGHTS_ONLY_LOAD="1"):
                self.network = InceptionV3([3], resize_input=True, normalize_input=True)
        except OSError as error:
            raise OSError(f"{NEEDS} (loading the weights: {error})") from None
        self.eval().requires_grad_(False)
        self.name = f"inception pytorch-fid {pytorch_fid.__version__}"

    def features(self, images: Tensor) -> Tensor:
        """Features (B, 2048) of images (B, C, H, W) in [-1, 1], C = 1 (taken as grey) or 3.

        As the package does it with image files: 8 bits a pixel, in [0, 1]; the network resizes bilinearly to 299 x 299.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"images must be (B, 1 or 3, H, W), got {tuple(images.shape)}")
        parts = (((part + 1) * 127.5).round() / 255 for part in images.split(BATCH))
        return torch.cat([self.network(part.expand(-1, 3, -1, -1))[0].flatten(1) for part in parts])
