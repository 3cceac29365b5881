"""What reads files from elsewhere, each with a good set of files: ``tools/fuzz.py`` damages these."""

import gzip
import hashlib
import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import safetensors.torch
import torch
from damage import BYTES, OUTSIDE, PLACES, edited, edited_tensors, hostile_archive, hostile_tensors, hostile_texts

from ddim_lib import Schedule, TrainConfig, UNet, UNetConfig, WeightsError, datasets, from_diffusers, train
from ddim_lib.checkpoints import load_checkpoint, save_checkpoint
from ddim_lib.classifier import Classifier, load_classifier, load_reference, save_classifier
from ddim_lib.datasets import DatasetError
from ddim_lib.diffusers_models import to_diffusers
from ddim_lib.metrics import FeatureStatistics
from ddim_lib.results import load_cells, write_result
from ddim_lib.variant import Variant
from ddim_lib.weights import json_sha256, load_weights, save_weights

TINY = UNetConfig(patch=1, channels=(4, 8), attention=(False, True), groups=2)
THEIRS = UNetConfig(3, 1, (4, 8), 1, (False, True), 2, variant=Variant(residual=False, head_width=4, time_shift=1))
TRAINING = TrainConfig(steps=4, batch_size=2, warmup=0)
HEADER = {"model": "mnist", "n": 100, "seed": 0, "bf16": False}
FIELDS = {"n", "frechet", "frechet_error"}


@dataclass
class Reader:
    """A way into the library.

    Attributes:
        write: makes good files in an empty folder.
        read: reads them: a value to compare.
        error: what a file that is not good raises.
        kinds: of damage that make sense here, by name: functions of the folder and a random.Random.
        hashes: whether the files hold, or the library knows, their hashes.
    """

    write: Callable[[Path], None]
    read: Callable[[Path], object]
    error: type[Exception]
    kinds: dict[str, Callable[[Path, random.Random], object]]
    hashes: bool = True


# Damage to a folder


def _one_of(folder, rng, suffix=""):
    return rng.choice(sorted(path for path in folder.rglob(f"*{suffix}") if path.is_file()))


def damage_bytes(damage):
    def change(folder, rng):
        path = _one_of(folder, rng)
        path.write_bytes(damage(path.read_bytes(), rng))

    return change


def change_place(how):
    return lambda folder, rng: how(_one_of(folder, rng))


def replace_json(folder, rng):
    path = _one_of(folder, rng, ".json")
    texts = hostile_texts(path.read_bytes())
    path.write_bytes(texts[rng.choice([*texts])])


def edit_json(folder, rng):
    path = _one_of(folder, rng, ".json")
    path.write_text(json.dumps(edited(json.loads(path.read_text()), rng)))


def replace_tensors(folder, rng):
    _one_of(folder, rng, ".safetensors").write_bytes(hostile_tensors(rng)[1])


def edit_tensors(folder, rng):
    path = _one_of(folder, rng, ".safetensors")
    _, tensors = edited_tensors(safetensors.torch.load(path.read_bytes()), rng)
    path.write_bytes(safetensors.torch.save(tensors))


def exchange(folder, rng):
    """Give one file the contents of another."""
    first, second = rng.sample(sorted(path for path in folder.rglob("*") if path.is_file()), 2)
    shutil.copyfile(first, second)


def forged(change):
    def both(folder, rng):
        change(folder, rng)
        forge_hashes(folder)

    return both


def forge_hashes(folder):
    """Make the hashes in the JSON files right again, where there is still an object to hold them."""
    small = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size < 1 << 30]
    for path in (path for path in small if path.suffix == ".json"):
        try:
            info = json.loads(path.read_bytes())
            beside = path.with_suffix(".safetensors")
            if beside in small:
                info["sha256"] = hashlib.sha256(beside.read_bytes()).hexdigest()
            path.write_text(json.dumps(info | {"json_sha256": json_sha256(info)}))
        except (AttributeError, OSError, RecursionError, TypeError, ValueError):  # no object any more
            continue


ANY = {damage.__name__.replace("_", " "): damage_bytes(damage) for damage in BYTES}
ANY |= {f"in its place {name}": change_place(how) for name, how in PLACES.items()}
TEXT = {"hostile JSON": replace_json, "edited JSON": edit_json}
TENSORS = {"hostile tensors": replace_tensors, "edited tensors": edit_tensors, "files exchanged": exchange}


def with_forgeries(kinds):
    return kinds | {f"{name}, hashes forged": forged(change) for name, change in kinds.items()}


# Networks


def write_network(folder):
    torch.manual_seed(0)
    save_weights(folder / "net.safetensors", UNet(TINY), {"steps": 3, "history": [[100, 0.5]]})


def contents(network):
    """All that makes a network, to compare; checks that nothing impossible was let in."""
    state = network.state_dict()
    assert all(value.isfinite().all() for value in state.values())
    assert all(value.dtype == torch.float32 for value in state.values() if value.is_floating_point())
    return getattr(network, "config", None), {name: value.numpy().tobytes() for name, value in state.items()}


def write_classifier(folder):
    torch.manual_seed(0)
    statistics = FeatureStatistics(torch.zeros(64).double(), torch.eye(64).double(), 200)
    save_classifier(folder / "net.safetensors", Classifier(1, 8, 2).eval(), statistics, {"epochs": 1})


def read_classifier(folder):
    path = folder / "net.safetensors"
    found = load_reference(path=path)
    return contents(load_classifier(path=path)), found.n, found.mean.tolist(), found.covariance.tolist()


def write_checkpoint(folder):
    torch.manual_seed(0)
    images = torch.zeros(2, 1, 4, 4)
    *_, state = train(UNet(TINY), images, Schedule.linear(TINY.T), TRAINING)
    save_checkpoint(folder, state, TRAINING, dataset="mnist")


def read_checkpoint(folder):
    torch.manual_seed(1)
    unet = UNet(TINY)
    before = contents(unet)
    try:
        state = load_checkpoint(folder, unet, TRAINING, "mnist")
    except WeightsError:
        assert contents(unet) == before, "a refused checkpoint changed the network"
        raise
    by_weight = [state.optimizer.state[weight] for weight in unet.parameters()]  # a file keeps no order
    moments = [{name: value.numpy().tobytes() for name, value in each.items()} for each in by_weight]
    numbers = state.step, float(state.loss), state.history, state.seconds, [float(loss) for loss in state.running]
    return contents(state.model), contents(state.ema), moments, numbers, state.generator.get_state().tolist()


def write_folder(folder):
    torch.manual_seed(0)
    to_diffusers(UNet(THEIRS), folder, 8)
    (folder / "model_index.json").unlink()  # which is not read


# Results and data sets


def write_results(folder):
    cell = {"n": 100, "frechet": 1.25, "frechet_error": 0.5, "hardware": "a CPU"}
    write_result(folder / "result.json", HEADER | {"cells": {"eta=0 S=10": cell, "eta=1 S=10": cell}})


def write_mnist(folder):
    (folder / "mnist").mkdir()
    for split, count in (("train", 5), ("t10k", 3)):
        pixels = bytes(i % 251 for i in range(count * 784))
        images = struct.pack(">4i", 2051, count, 28, 28) + pixels
        labels = struct.pack(">2i", 2049, count) + bytes(range(count))
        for name, data in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / "mnist" / f"{split}-{name}-ubyte.gz").write_bytes(gzip.compress(data, mtime=0))


def write_cifar10(folder):
    (folder / datasets.CIFAR10_FOLDER).mkdir()
    for number, file in enumerate(CIFAR10):
        data = b"".join(bytes([number + i]) + bytes((i * j + number) % 256 for j in range(3072)) for i in range(3))
        (folder / datasets.CIFAR10_FOLDER / file).write_bytes(data)


CIFAR10 = [*datasets.CIFAR10_FILES["train"], *datasets.CIFAR10_FILES["test"]]


def read_data(name):
    def read(folder):
        splits = [datasets.load_pixels(name, split, folder) for split in ("train", "test")]
        return [(images.tolist(), labels.tolist()) for images, labels in splits]

    return read


def write_archive(folder):
    write_cifar10(folder)
    good = {file: (folder / datasets.CIFAR10_FOLDER / file).read_bytes() for file in CIFAR10}
    (folder / "sent.tar.gz").write_bytes(hostile_archive(good))
    shutil.rmtree(folder / datasets.CIFAR10_FOLDER)


def read_archive(folder):
    """Download what a server sends, and read it; whatever was sent, nothing is left outside, or of a wrong file."""
    sent, root = folder / "sent.tar.gz", folder / "data"

    def serve(url, output, pooch):
        assert url.startswith("https://")
        if not sent.is_file() or not os.access(sent, os.R_OK) or sent.stat().st_size > 1 << 30:
            raise OSError("the connection broke")
        shutil.copyfile(sent, output)

    with patch("pooch.HTTPDownloader", lambda **_: serve), patch("pooch.core.get_logger"):
        try:
            datasets.download("cifar10", root)
        except (DatasetError, OSError) as error:
            assert not [path for path in root.rglob("*") if path.is_file()], "a part of a wrong file is left"
            raise DatasetError(str(error)) from None
    names = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() or path.is_symlink()}
    assert names == {"cifar-10-binary.tar.gz", *(f"{datasets.CIFAR10_FOLDER}/{file}" for file in CIFAR10)}
    assert not (folder / "escaped").exists()
    assert not Path(OUTSIDE).exists()
    return read_data("cifar10")(root)


def read_network(folder):
    return contents(load_weights(folder / "net.safetensors"))


def read_folder(folder):
    return contents(from_diffusers(folder))


def read_results(folder):
    return load_cells(folder / "result.json", HEADER, FIELDS)


FORGED = with_forgeries(ANY | TEXT | TENSORS)
PRESENT = {name: change for name, change in ANY.items() if not name.endswith(("missing", "itself", "nowhere"))}
SWAPPED = ANY | {"files exchanged": exchange}
READERS = {
    "weights": Reader(write_network, read_network, WeightsError, FORGED),
    "classifier": Reader(write_classifier, read_classifier, WeightsError, FORGED),
    "checkpoint": Reader(write_checkpoint, read_checkpoint, WeightsError, FORGED),
    "diffusers": Reader(write_folder, read_folder, WeightsError, ANY | TEXT | TENSORS, hashes=False),
    "results": Reader(write_results, read_results, ValueError, with_forgeries(PRESENT | TEXT)),  # it need not be there
    "mnist": Reader(write_mnist, read_data("mnist"), DatasetError, SWAPPED),
    "cifar10": Reader(write_cifar10, read_data("cifar10"), DatasetError, SWAPPED),
    "archive": Reader(write_archive, read_archive, DatasetError, ANY),
}


def own_hashes(folder):
    """Let the hashes in the library be those of the small data sets here; to be closed by the caller."""
    stack, changes = ExitStack(), []
    for write in (write_mnist, write_cifar10, write_archive):
        (folder / write.__name__).mkdir()
        write(folder / write.__name__)
    mnist = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("write_mnist/mnist/*")}
    archive = hashlib.sha256((folder / "write_archive" / "sent.tar.gz").read_bytes()).hexdigest()
    changes = [("MNIST_SHA256", mnist), ("CIFAR10_SHA256", archive), ("CIFAR10_RECORDS_SHA256", {})]
    for name, value in changes:
        stack.enter_context(patch.object(datasets, name, value))
    for split, files in datasets.CIFAR10_FILES.items():
        data = b"".join((folder / "write_cifar10" / datasets.CIFAR10_FOLDER / file).read_bytes() for file in files)
        records = sorted(hashlib.sha256(data[i : i + 3073]).digest() for i in range(0, len(data), 3073))
        datasets.CIFAR10_RECORDS_SHA256[split] = hashlib.sha256(b"".join(records)).hexdigest()
    return stack
