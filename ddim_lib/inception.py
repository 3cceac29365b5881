"""The Inception features that FID is defined by: an optional extra, from the package pytorch-fid."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from .reading import brief
from .weights import file_sha256

FEATURES = 2048
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"  # of pytorch-fid's weights
BATCH = 50  # images at a time, each of which becomes 3 x 299 x 299
NEEDS = (
    "Inception features need the package pytorch-fid (`pip install pytorch-fid`, which brings torchvision); its "
    "weights, about 91 MB, which are downloaded at first use from its release page, "
    "https://github.com/mseitzer/pytorch-fid/releases, and unpickled (tensors alone); at least 2,300 samples; "
    "and in practice a GPU"
)


class Inception(nn.Module):
    """The last pooling layer (block 3) of pytorch-fid's InceptionV3, in eval mode on the CPU.

    Attributes:
        name: ``"inception pytorch-fid <version>"``, what a result file says.

    Raises:
        ValueError: pytorch-fid or torchvision is missing, or fails; or the weights are not those published.
        OSError: the weights cannot be downloaded.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            import pytorch_fid  # here, because it is no requirement of the library
            from pytorch_fid.inception import FID_WEIGHTS_URL, InceptionV3
        except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that was built for another torch
            raise ValueError(f"{NEEDS} (importing it: {error})") from None
        try:
            _fetch(FID_WEIGHTS_URL)
            with _tensors_alone():
                self.network = InceptionV3([3], resize_input=True, normalize_input=True)
        except OSError as error:
            raise OSError(f"{NEEDS} (loading the weights: {brief(error)})") from None
        except Exception as error:  # UnpicklingError, or what else a network of another package may raise
            raise ValueError(f"{NEEDS} (loading the weights: {brief(error)})") from None
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


def _fetch(url: str) -> None:
    """Put the weights where PyTorch looks for them, unless they are there; they must be those published."""
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), SHA256)
    if (found := file_sha256(path)) != SHA256:
        raise ValueError(f"{path} is truncated or altered: SHA-256 {found}, should be {SHA256}; remove it")


@contextmanager
def _tensors_alone() -> Iterator[None]:
    """Make torch.load take tensors from a pickle and run nothing, whatever it is told by its caller or the user."""
    names = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ[names[0]] = "1"
    try:
        yield
    finally:
        del os.environ[names[0]]
        os.environ.update(before)
