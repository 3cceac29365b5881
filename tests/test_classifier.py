import json
import os

import pytest
import torch
from torch import nn

from ddim_lib import UNet, WeightsError, load_dataset
from ddim_lib import classifier as classifier_module
from ddim_lib.classifier import (
    Classifier,
    accuracy,
    classifier_path,
    extract_features,
    load_classifier,
    load_reference,
    save_classifier,
    shifted,
    train_classifier,
)
from ddim_lib.datasets import dataset_sha256
from ddim_lib.metrics import fit_gaussian
from ddim_lib.weights import WEIGHTS, load_tensors, save_tensors, save_weights

needs_classifier = pytest.mark.skipif(
    not (WEIGHTS / "classifiers" / "mnist.safetensors").exists(), reason="ddim_lib/weights/classifiers is empty"
)


@pytest.fixture(scope="module")
def digits(mnist_5k):
    """A thousand digits to learn from, and 500 others."""
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    (images, labels), learn, test = mnist_5k, order[:1000], order[2000:2500]
    return (images[learn], labels[learn]), (images[test], labels[test])


@pytest.fixture(scope="module")
def trained(digits):
    *_, (model, _) = train_classifier(*digits[0], epochs=2, batch_size=25)
    return model


@pytest.fixture
def stored(trained, digits, tmp_path):
    path = tmp_path / "net.safetensors"
    reference = fit_gaussian(extract_features(trained, digits[0][0][:200]))
    save_classifier(path, trained, reference, {"seed": 3})
    return path


def few(count=64):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, 1, 28, 28, generator=generator) * 2 - 1
    return images, torch.randint(10, (count,), generator=generator)


# The network


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
def test_logits_and_features_have_their_shapes(channels, size):
    model, images = Classifier(channels, size), torch.randn(5, channels, size, size)
    assert model(images).shape == (5, 10)
    assert model.features(images).shape == (5, 64)


def test_the_logits_are_a_linear_map_of_features_that_are_not_negative(trained, digits):
    images = digits[1][0][:7]
    features = trained.features(images)
    assert (features >= 0).all()
    torch.testing.assert_close(trained(images), features @ trained.head.weight.T + trained.head.bias)


# Training


def test_it_learns_digits_from_a_thousand_of_them(trained, digits):
    assert accuracy(trained, *digits[1]) > 0.9


@pytest.mark.parametrize("options", [{"width": 4}, {"flip": True}, {"bf16": True}])
def test_width_flips_and_bfloat16_change_the_training(digits, options):
    images, labels = digits[0]
    *_, (plain, _) = train_classifier(images[:50], labels[:50], epochs=1, batch_size=25)
    *_, (other, _) = train_classifier(images[:50], labels[:50], epochs=1, batch_size=25, **options)
    assert other.width == options.get("width", 32)
    assert all(weight.dtype == torch.float32 for weight in other.parameters())
    assert not torch.equal(plain(images[:1]), other(images[:1]))


def test_a_width_of_none_is_refused():
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        Classifier(width=0)


def test_an_epoch_is_yielded_at_a_time_ready_for_use():
    epochs = train_classifier(*few(), epochs=3, batch_size=16)
    assert [(model.training, 0 < loss < 10) for model, loss in epochs] == [(False, True)] * 3


def test_the_loss_that_is_yielded_falls():
    images, labels = few()
    grey = images / 5 + (labels % 2).view(-1, 1, 1, 1) / 2  # even labels dark, odd ones bright
    losses = [loss for _, loss in train_classifier(grey, labels % 2, epochs=3, batch_size=16)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.1 < 1 < losses[0]


def parameters_after(seed):
    (model, _), = train_classifier(*few(), epochs=1, batch_size=16, seed=seed)  # fmt: skip
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_the_seed_decides_every_bit():
    assert torch.equal(parameters_after(0), parameters_after(0))
    assert not torch.equal(parameters_after(0), parameters_after(1))


def test_training_neither_reads_nor_moves_the_global_random_numbers():
    torch.manual_seed(7)
    before, first = torch.get_rng_state(), parameters_after(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(parameters_after(0), first)


def test_a_last_batch_that_is_not_full_is_left_out():
    images, labels = few(40)
    assert len(list(train_classifier(images, labels, epochs=1, batch_size=32))) == 1
    assert len(list(train_classifier(images, labels, epochs=1, batch_size=40))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, r"epochs must be at least 1 .*, got 0 and 128"),
        ({"batch_size": 129}, r"batch_size lie in 1..128, got 8 and 129"),
        ({"batch_size": 0}, r"batch_size lie in 1..128, got 8 and 0"),
        ({"labels": torch.zeros(3)}, r"images and labels .* got \(128, 1, 28, 28\) and \(3,\)"),
        ({"images": torch.zeros(128, 784)}, r"images and labels .* got \(128, 784\) and \(128,\)"),
        ({"images": torch.zeros(128, 1, 28, 20)}, r"\(N, C, H, H\)"),
    ],
    ids=lambda value: str(list(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_trained_on_is_refused_at_once(change, message):
    images, labels = few(128)
    with pytest.raises(ValueError, match=message):
        train_classifier(**({"images": images, "labels": labels} | change))


# Shifts


def test_shifted_images_stay_in_range_and_keep_their_pixels(digits):
    images = digits[0][0][:50]
    for seed in range(20):
        moved = shifted(images, generator=torch.Generator().manual_seed(seed))
        assert moved.shape == images.shape
        assert moved.min() == -1
        assert moved.max() <= 1
        inner = moved[:, :, 2:-2, 2:-2]
        assert any(
            torch.equal(inner, images[:, :, 2 + i : 26 + i, 2 + j : 26 + j]) for i in range(-2, 3) for j in range(-2, 3)
        )


def test_every_shift_within_reach_occurs_and_leaves_a_black_border():
    dot, places = torch.zeros(1, 1, 9, 9), set()
    dot[0, 0, 4, 4] = 1
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        moved = shifted(dot, reach=1, generator=generator)[0, 0]
        row, column = divmod(int(moved.argmax()), 9)
        places.add((row - 4, column - 4))
        border = 9 * 9 - (9 - abs(row - 4)) * (9 - abs(column - 4))
        assert (moved == -1).sum() == border
    assert places == {(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)}


def test_a_shift_of_reach_0_changes_nothing():
    images, _ = few(3)
    assert torch.equal(shifted(images, reach=0), images)


# Accuracy and features


class Reader(nn.Module):
    """Answers with the class that is written in the first pixel; its features are the first two."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return self.scale * nn.functional.one_hot(images[:, 0, 0, 0].long(), 10).float()

    def features(self, images):
        return self.scale * images[:, 0, 0, :2]


@pytest.mark.parametrize("batch_size", [1, 3, 10, 1000])
def test_accuracy_is_the_share_of_images_in_batches_of_any_size(batch_size):
    images, labels = torch.zeros(10, 1, 2, 2), torch.arange(10)
    images[:, 0, 0, 0] = torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 0, 0])
    assert accuracy(Reader(), images, labels, batch_size) == 0.7


@pytest.mark.parametrize("batch_size", [1, 3, 10, 1000])
def test_features_come_in_order_from_batches_of_any_size(batch_size):
    images = torch.arange(40.0).view(10, 1, 2, 2)
    found = extract_features(Reader(), images, batch_size)
    assert torch.equal(found, images[:, 0, 0, :2])
    assert not found.requires_grad


def test_features_of_an_image_do_not_depend_on_the_others(trained, digits):
    images = digits[1][0][:60]
    whole = extract_features(trained, images)
    assert whole.shape == (60, 64)
    torch.testing.assert_close(extract_features(trained, images, 7), whole, rtol=1e-4, atol=1e-4)


def test_features_come_back_from_the_device(device, trained, digits):
    images = digits[1][0][:10]
    on_device = Classifier()
    on_device.load_state_dict(trained.state_dict())
    found = extract_features(on_device.eval().to(device), images)
    assert found.device.type == "cpu"
    torch.testing.assert_close(found, extract_features(trained, images), rtol=1e-2, atol=1e-2)


# Files


def test_a_round_trip_keeps_the_network_and_the_reference(stored, trained, digits):
    images, loaded = digits[1][0][:20], load_classifier(path=stored)
    assert torch.equal(loaded(images), trained(images))
    wanted, found = fit_gaussian(extract_features(trained, digits[0][0][:200])), load_reference(path=stored)
    assert torch.equal(found.mean, wanted.mean)
    assert torch.equal(found.covariance, wanted.covariance)
    assert (found.n, found.mean.dtype, found.covariance.dtype) == (200, torch.float64, torch.float64)


def test_a_loaded_classifier_is_for_measuring_only(stored):
    loaded = load_classifier(path=stored)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_the_json_holds_what_was_said(stored):
    info = json.loads(stored.with_suffix(".json").read_text())
    assert (info["seed"], info["in_channels"], info["size"], info["reference_n"]) == (3, 1, 28, 200)


def test_classifiers_are_found_by_name_beside_the_other_weights(stored, monkeypatch):
    monkeypatch.setattr(classifier_module, "WEIGHTS", stored.parent)
    folder = stored.parent / "classifiers"
    folder.mkdir()
    for path in (stored, stored.with_suffix(".json")):
        path.rename(folder / path.name)
    assert classifier_path("net") == folder / "net.safetensors"
    assert load_classifier("net").head.out_features == 10
    assert load_reference("net").n == 200


def test_an_unknown_classifier_is_refused_with_the_command_that_makes_it(monkeypatch, tmp_path):
    monkeypatch.setattr(classifier_module, "WEIGHTS", tmp_path)
    for load in (load_classifier, load_reference):
        with pytest.raises(WeightsError, match=r"no classifier 'mnits' \(there are: none\).* train-classifier mnits "):
            load("mnits")


@pytest.mark.parametrize("load", [load_classifier, load_reference])
def test_a_missing_or_damaged_file_is_refused_by_name(load, stored):
    stored.write_bytes(stored.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"net\.safetensors is truncated or altered"):
        load(path=stored)
    stored.unlink()
    with pytest.raises(WeightsError, match=r"no weights at .*net\.safetensors"):
        load(path=stored)


@pytest.mark.parametrize("change", [{"size": 32}, {"in_channels": 3}, {"size": "wide"}, {"size": None}, {"size": 4}])
def test_a_classifier_of_another_shape_is_refused(stored, change):
    tensors, info = load_tensors(stored)
    save_tensors(stored, tensors, info | change)
    with pytest.raises(WeightsError, match=r"net\.safetensors holds no classifier"):
        load_classifier(path=stored)


def test_a_u_net_is_no_classifier(tiny_config, tmp_path):
    save_weights(tmp_path / "unet.safetensors", UNet(tiny_config), {})
    with pytest.raises(WeightsError, match=r"unet\.safetensors holds no classifier: .*in_channels"):
        load_classifier(path=tmp_path / "unet.safetensors")


@pytest.mark.parametrize("missing", ["reference.mean", "reference.covariance", "reference_n"])
def test_a_classifier_without_statistics_can_classify_but_gives_no_reference(stored, missing):
    tensors, info = load_tensors(stored)
    (tensors if missing in tensors else info).pop(missing)
    save_tensors(stored, tensors, info)
    assert load_classifier(path=stored)
    with pytest.raises(WeightsError, match=f"holds no statistics of real images: '{missing}' is missing"):
        load_reference(path=stored)


# The classifier that comes with the library


@needs_classifier
@pytest.mark.parametrize(("name", "accuracy", "n"), [("mnist", 0.99, 60_000), ("cifar10", 0.8, 50_000)])
def test_a_committed_classifier_says_how_it_was_trained_and_how_good_it_is(name, accuracy, n):
    info = json.loads(classifier_path(name).with_suffix(".json").read_text())
    assert info["command"].startswith(f"python -m ddim_lib train-classifier {name} ")
    assert info["dataset_sha256"] == dataset_sha256(name)
    assert info["test_accuracy"] >= accuracy
    assert info["reference_n"] == load_reference(name).n == n
    assert {"epochs", "seed", "versions"} <= info.keys()


@needs_classifier
def test_the_committed_classifier_reads_the_digits_that_need_no_network(mnist_5k):
    images, labels = (part[::10] for part in mnist_5k)
    assert accuracy(load_classifier("mnist"), images, labels) > 0.98


@needs_classifier
def test_the_committed_reference_is_that_of_digits(mnist_5k):
    reference = load_reference("mnist")
    assert (reference.mean.shape, reference.covariance.shape, reference.n) == ((64,), (64, 64), 60_000)
    assert torch.linalg.eigvalsh(reference.covariance).min() > -1e-9
    features = extract_features(load_classifier("mnist"), mnist_5k[0][::5]).double()
    error = features.std(0) / len(features) ** 0.5
    assert ((features.mean(0) - reference.mean).abs() <= 6 * error + 1e-3).all()


@needs_classifier
@pytest.mark.parametrize(("name", "folder"), [("mnist", "mnist"), ("cifar10", "cifar-10-batches-bin")])
def test_a_committed_classifier_is_as_accurate_as_it_says_on_the_real_test_set(name, folder):
    if not (os.environ.get("DDIM_DATA") and os.path.isdir(os.path.join(os.environ["DDIM_DATA"], folder))):
        pytest.skip(f"$DDIM_DATA holds no {name}")
    found = accuracy(load_classifier(name), *load_dataset(name, "test"))
    claimed = json.loads(classifier_path(name).with_suffix(".json").read_text())["test_accuracy"]
    assert found == pytest.approx(claimed, abs=3e-4)  # rounding may turn an image or two
