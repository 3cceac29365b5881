"""The package denoising-diffusion-pytorch without torchvision and pytorch-fid, which it imports at its top.

It reads images with the one and measures FID with the other. Its networks need neither, so that empty modules may stand
in for both while it is imported.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from unittest.mock import patch

UNUSED = ("torchvision", "torchvision.transforms", "pytorch_fid", "pytorch_fid.fid_score", "pytorch_fid.inception")


class _Empty(ModuleType):
    """A module that has every name, each of them None."""

    __path__ = ()

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def load() -> ModuleType:
    """The package; its Trainer, and whatever else reads or writes images, cannot be used."""
    stand_ins = {name: _Empty(name) for name in UNUSED}
    for name, module in stand_ins.items():
        module.__spec__ = ModuleSpec(name, None)
    with patch.dict(sys.modules):
        sys.modules.update(stand_ins)
        import denoising_diffusion_pytorch

        loaded = {name: module for name, module in sys.modules.items() if name not in stand_ins}
    sys.modules.update(loaded)
    return denoising_diffusion_pytorch
