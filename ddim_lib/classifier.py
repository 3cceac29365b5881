"""A small classifier of images, whose features measure samples (see :mod:`ddim_lib.metrics`)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .datasets import mirrored_half
from .metrics import FeatureStatistics
from .reading import brief
from .weights import WEIGHTS, WeightsError, check_tensors, fill, load_tensors, save_tensors

FEATURES = 64
CLASSES = 10


class Classifier(nn.Module):
    """Three convolutions with pooling, a layer of 64 features, and ten logits, for (B, C, H, W) images in [-1, 1].

    Attributes:
        in_channels: image channels.
        size: height and width of the images.
        width: channels of the first convolution; the others have twice as many.
    """

    def __init__(self, in_channels: int = 1, size: int = 28, width: int = 32) -> None:
        super().__init__()
        if size < 8:
            raise ValueError(f"size must be at least 8, since three poolings divide it by 8, got {size}")
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.in_channels, self.size, self.width = in_channels, size, width
        layers, widths = [], (in_channels, width, 2 * width, 2 * width)
        for width_in, width_out in pairwise(widths):
            layers += [nn.Conv2d(width_in, width_out, 3, padding=1, bias=False), nn.BatchNorm2d(width_out)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * width * (size // 8) ** 2, FEATURES), nn.ReLU())
        self.head = nn.Linear(FEATURES, CLASSES)
        self.to(memory_format=torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        """What the last layer sees, (B, 64)."""
        return self.trunk(images)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (B, 10)."""
        return self.head(self.features(images))


def train_classifier(
    images: Tensor,
    labels: Tensor,
    epochs: int = 8,
    batch_size: int = 128,
    seed: int = 0,
    *,
    width: int = 32,
    flip: bool = False,
    bf16: bool = False,
) -> Iterator[tuple[Classifier, float]]:
    """Train on images (N, C, H, W) with labels (N,): yields the network and the mean loss after every epoch.

    AdamW with a one-cycle rate; images are shifted by up to two pixels. The global random numbers are left alone.

    Args:
        images: in [-1, 1].
        width: that of :class:`Classifier`.
        flip: mirror each image with probability 1/2.
        bf16: run the network under bfloat16 autocast.

    Raises:
        ValueError: fewer images than a batch, no epoch, or images and labels that do not belong together.
    """
    if images.ndim != 4 or images.shape[2] != images.shape[3] or len(images) != len(labels):
        shapes = f"{tuple(images.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"images and labels must have shapes (N, C, H, H) and (N,), got {shapes}")
    if epochs < 1 or not 1 <= batch_size <= len(images):
        limits = f"epochs must be at least 1 and batch_size lie in 1..{len(images)}"
        raise ValueError(f"{limits}, got {epochs} and {batch_size}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(images.shape[1], images.shape[2], width)
    return _epochs(model, images, labels, epochs, batch_size, seed, flip, bf16)


def _epochs(
    model: Classifier,
    images: Tensor,
    labels: Tensor,
    epochs: int,
    batch_size: int,
    seed: int,
    flip: bool,
    bf16: bool,
) -> Iterator[tuple[Classifier, float]]:
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
    steps = len(images) // batch_size
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=epochs * steps)
    for _ in range(epochs):
        model.train()
        total = 0.0
        for batch in torch.randperm(len(images), generator=generator)[: steps * batch_size].view(steps, batch_size):
            seen = shifted(images[batch], generator=generator)
            seen = mirrored_half(seen, generator) if flip else seen
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = F.cross_entropy(model(seen), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            total += loss.item()
        yield model.eval(), total / steps


def shifted(images: Tensor, reach: int = 2, generator: torch.Generator | None = None) -> Tensor:
    """Images (B, C, H, W) moved by one random offset of up to ``reach`` pixels each way; the border is black."""
    down, right = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()
    h, w = images.shape[2:]
    return F.pad(images, [reach] * 4, value=-1.0)[:, :, down : down + h, right : right + w]


@torch.no_grad()
def accuracy(model: Classifier, images: Tensor, labels: Tensor, batch_size: int = 250) -> float:
    """The share of images that are classified as labelled."""
    found = torch.cat([model(part).argmax(1) for part in images.split(batch_size)])
    return (found == labels).sum().item() / len(images)


@torch.no_grad()
def extract_features(model: Classifier, images: Tensor, batch_size: int = 250) -> Tensor:
    """Features (N, 64) on the CPU, for images (N, C, H, W) in [-1, 1], taken in batches."""
    device = next(model.parameters()).device
    return torch.cat([model.features(part.to(device)).cpu() for part in images.split(batch_size)])


def classifier_path(name: str) -> Path:
    """The file of the classifier trained here for ``name``; raises WeightsError if there is none."""
    folder = WEIGHTS / "classifiers"
    names = sorted(path.stem for path in folder.glob("*.safetensors"))
    if name not in names:
        train = f"`python -m ddim_lib train-classifier {name} --out {folder / name}.safetensors` makes one"
        raise WeightsError(f"no classifier {name!r} (there are: {', '.join(names) or 'none'}); {train}")
    return folder / f"{name}.safetensors"


def save_classifier(path: Path, model: Classifier, reference: FeatureStatistics, info: dict[str, Any]) -> None:
    """Write the weights with the features' statistics of real images, so that measuring needs no training images."""
    statistics = {"reference.mean": reference.mean, "reference.covariance": reference.covariance}
    shape = {"in_channels": model.in_channels, "size": model.size, "width": model.width, "reference_n": reference.n}
    save_tensors(path, model.state_dict() | statistics, shape | info)


def load_classifier(name: str = "mnist", path: Path | None = None) -> Classifier:
    """The classifier trained here for ``name``, or that of ``path``, in eval mode on the CPU.

    Raises:
        WeightsError: a file that is missing, truncated or altered, or that holds no classifier.
    """
    path = path or classifier_path(name)
    tensors, info = load_tensors(path)
    try:
        shape = [_count(info, name) for name in ("in_channels", "size")]
        with torch.device("meta"):
            model = Classifier(*shape, _count({"width": 32} | info, "width"))
        return fill(model, {key: value for key, value in tensors.items() if not key.startswith("reference.")})
    except (KeyError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path} holds no classifier: {brief(repr(error))}") from None


def _count(info: dict[str, Any], name: str) -> int:
    if type(info[name]) is not int or not 1 <= info[name] < 2**31:
        raise ValueError(f"{name} must be a whole number of at least 1, got {brief(repr(info[name]))}")
    return info[name]


def load_reference(name: str = "mnist", path: Path | None = None) -> FeatureStatistics:
    """Statistics of the training set's features under that classifier; errors as in :func:`load_classifier`."""
    path = path or classifier_path(name)
    tensors, info = load_tensors(path)
    wanted = {"reference.mean": torch.empty(FEATURES), "reference.covariance": torch.empty(FEATURES, FEATURES)}
    try:
        check_tensors(found := {name: tensors[name] for name in wanted}, wanted)
        mean, covariance = (value.double() for value in found.values())
        return FeatureStatistics(mean, covariance, _count(info, "reference_n"))
    except KeyError as error:
        raise WeightsError(f"{path} holds no statistics of real images: {error} is missing") from None
    except ValueError as error:
        raise WeightsError(f"{path} holds no statistics of real images: {error}") from None
