"""Inception's features, with a small network in the place of pytorch-fid's: neither the package nor a download."""

import hashlib
import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import assert_refused
from damage import MARK, Payload
from torch import nn

import ddim_lib.__main__ as cli
from ddim_lib import UNet, UNetConfig, classifier, commands, inception, load_dataset, measuring
from ddim_lib import weights as weights_module
from ddim_lib.classifier import Classifier, extract_features, save_classifier
from ddim_lib.evaluate import Measure
from ddim_lib.inception import FEATURES, NEEDS, Inception
from ddim_lib.metrics import FeatureStatistics, fit_gaussian, frechet_distance
from ddim_lib.weights import save_weights

TINY = UNetConfig(patch=2, channels=(4, 8), attention=(False, False), groups=4)
NAME = "inception pytorch-fid 9.8"
GRID = ["evaluate", "mnist", "--n", "100", "--steps", "1", "--batch-size", "50", "--device", "cpu"]


class Network(nn.Module):
    """Stands for pytorch-fid's InceptionV3: keeps what it gets; its features are means over parts of an image."""

    side, told = (32, 64), []

    def __init__(self, output_blocks, resize_input, normalize_input):
        super().__init__()
        self.options = (output_blocks, resize_input, normalize_input)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        self.told.append(images.cpu())
        grey = self.scale * images[:, :1]
        return [nn.functional.adaptive_avg_pool2d(grey, self.side).view(len(images), -1, 1, 1)]


@pytest.fixture
def package(monkeypatch, tmp_path_factory):
    """A package pytorch_fid, its weights fetched, with the network above; gives that class, told nothing."""
    hub = tmp_path_factory.mktemp("hub")
    modules = ModuleType("pytorch_fid"), ModuleType("pytorch_fid.inception")
    modules[0].__version__, modules[1].InceptionV3 = "9.8", Network
    modules[1].FID_WEIGHTS_URL = "https://example.org/weights.pth"
    (hub / "checkpoints").mkdir()
    (hub / "checkpoints" / "weights.pth").write_bytes(b"weights")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub))
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(b"weights").hexdigest())
    for module in modules:
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Network, "told", [])
    return Network


@pytest.fixture
def small(package, monkeypatch, tmp_path):
    """Eight features instead of 2,048, 300 digits to compare with, and a tiny U-Net without a classifier beside it."""
    monkeypatch.setattr(Network, "side", (2, 4))
    monkeypatch.setattr(measuring, "FEATURES", 8)
    images, labels = (part[::10] for part in load_dataset("mnist-5k"))
    parts = {"train": slice(0, 300), "test": slice(300, 500)}
    monkeypatch.setattr(measuring, "load_dataset", lambda name, split: (images[parts[split]], labels[parts[split]]))
    folder = tmp_path / "weights"
    (folder / "classifiers").mkdir(parents=True)
    torch.manual_seed(0)
    save_weights(folder / "mnist.safetensors", UNet(TINY), {})
    for module in (weights_module, classifier, commands):
        monkeypatch.setattr(module, "WEIGHTS", folder)
    return {split: images[part] for split, part in parts.items()}


@pytest.fixture
def with_classifier(small):
    model = Classifier().eval()
    statistics = fit_gaussian(extract_features(model, small["train"]))
    save_classifier(commands.WEIGHTS / "classifiers" / "mnist.safetensors", model, statistics, {})


# What is needed


@pytest.mark.parametrize("name", ["OTHER", "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
def test_no_pickle_is_run_where_the_package_loads_its_weights(package, monkeypatch, tmp_path, name):
    monkeypatch.setenv(name, "0" if name == "TORCH_FORCE_WEIGHTS_ONLY_LOAD" else "1")
    before = dict(os.environ)
    path = tmp_path / "weights.pth"
    torch.save(Payload(), path)

    class Loading(package):
        def __init__(self, *args, **options):
            torch.load(path, weights_only=False)

    monkeypatch.setattr(sys.modules["pytorch_fid.inception"], "InceptionV3", Loading)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(NEEDS) + ".*[Ww]eights.only") as caught:
        Inception()
    assert str(caught.value).isprintable()
    assert not (tmp_path / MARK).exists()
    assert dict(os.environ) == before


def test_weights_that_are_not_those_published_are_never_opened(package, monkeypatch):
    path = Path(torch.hub.get_dir(), "checkpoints", "weights.pth")
    path.write_bytes(b"other weights")

    def opened(*args, **options):
        raise OSError("they were opened")

    monkeypatch.setattr(package, "__init__", opened)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is truncated or altered.*remove it"):
        Inception()


def test_weights_are_fetched_once_with_their_hash(package, monkeypatch):
    path, fetched = Path(torch.hub.get_dir(), "checkpoints", "weights.pth"), []

    def download(url, to, sha256):
        fetched.append((url, sha256))
        Path(to).write_bytes(b"weights")

    path.unlink()
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        Inception()
    assert fetched == [("https://example.org/weights.pth", inception.SHA256)]


def test_without_the_package_the_error_says_what_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_fid", None)
    with pytest.raises(ValueError, match="pip install pytorch-fid") as caught:
        Inception()
    said = str(caught.value)
    for part in ("torchvision", "about 91 MB", "downloaded at first use", "unpickled", "2,300 samples", "a GPU"):
        assert part in said
    assert "\n" not in said


def test_without_the_package_the_command_ends_in_one_line_and_leaves_nothing(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_fid", None)
    out = tmp_path / "new" / "fid.json"
    assert_refused(capsys, [*GRID, "--features", "inception", "--out", out], NEEDS, "pytorch_fid")
    assert not out.parent.exists()


def test_a_torchvision_of_another_torch_is_refused_with_its_own_words(monkeypatch, tmp_path):
    (tmp_path / "pytorch_fid.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.delitem(sys.modules, "pytorch_fid", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=re.escape(NEEDS) + ".*torchvision::nms does not exist"):
        Inception()


def test_weights_that_cannot_be_downloaded_are_named(package, monkeypatch):
    def offline(self, *args, **options):
        raise OSError("Name or service not known")

    monkeypatch.setattr(package, "__init__", offline)
    with pytest.raises(OSError, match=re.escape(NEEDS) + ".*Name or service not known"):
        Inception()


def test_the_number_of_samples_that_is_said_is_the_one_that_is_needed():
    measure = Measure(None, FeatureStatistics(torch.zeros(FEATURES), torch.zeros(0), 0), torch.zeros(10_000, 1))
    measure.check(2300)
    with pytest.raises(ValueError, match="n must be a multiple of 50 from 2300 "):
        measure.check(2250)
    assert "at least 2,300 samples" in NEEDS


# Features


def test_the_network_is_asked_for_its_last_pooling_with_its_own_resizing_and_scaling(package):
    model = Inception()
    assert model.network.options == ([3], True, True)
    assert model.name == NAME
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
def test_it_gets_three_channels_in_0_to_1_and_gives_2048_numbers(package, channels, size):
    levels = torch.arange(256.0).repeat(120 * size * size)[: 120 * channels * size * size]
    images = levels.view(120, channels, size, size) / 127.5 - 1
    assert Inception().features(images).shape == (120, FEATURES)
    assert [len(part) for part in package.told] == [50, 50, 20]
    got = torch.cat(package.told)
    assert got.shape == (120, 3, size, size)
    assert (got.min(), got.max()) == (0, 1)
    assert torch.equal(got, (levels / 255).view(120, channels, size, size).expand(-1, 3, -1, -1))


def test_features_keep_the_order_of_the_images(package):
    images = torch.linspace(-1, 1, 120).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)
    found = Inception().features(images)
    assert (found.diff(dim=0) > 0).all()
    torch.testing.assert_close(found[77], Inception().features(images[77:78])[0])


def test_a_sample_is_rounded_to_the_nearest_of_256_levels(package):
    Inception().features(torch.tensor([-1.0, -0.9961, -0.996, 0.0, 0.0039, 0.999]).view(6, 1, 1, 1))
    wanted = torch.tensor([0, 0, 1, 128, 128, 255])  # of -1: 0; of -0.9961: 0.497; of -0.996: 0.51
    assert torch.equal((package.told[0][:, 0, 0, 0] * 255).round().int(), wanted.int())
    assert torch.equal(package.told[0][:, 0, 0, 0], wanted / 255)


@pytest.mark.parametrize("shape", [(5, 2, 28, 28), (5, 4, 32, 32), (28, 1, 28), (5, 784)], ids=str)
def test_what_is_no_batch_of_images_is_refused(package, shape):
    with pytest.raises(ValueError, match=re.escape(f"images must be (B, 1 or 3, H, W), got {shape}")):
        Inception().features(torch.zeros(shape))


def test_features_come_back_from_the_device(package, device):
    images = torch.rand(60, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = extract_features(Inception().to(device), images)
    assert (found.device.type, found.shape, found.requires_grad) == ("cpu", (60, FEATURES), False)


# The command


def test_the_command_measures_in_inceptions_features_and_says_so(small, tmp_path, capsys):
    out = tmp_path / "fid.json"
    assert cli.main([*GRID, "--features", "inception", "--out", str(out)]) == 0
    result, said = json.loads(out.read_text()), capsys.readouterr().out
    assert result["features"] == NAME
    assert "classifier_sha256" not in result
    assert len(result["cells"]) == 5
    assert said.startswith("FID (Inception features, pytorch-fid's weights), +- standard error, n = 100\n")
    assert "classifier" not in said
    measure = measuring._inception_measure("mnist", torch.device("cpu"), 100)
    assert result["floor"]["frechet"] == frechet_distance(fit_gaussian(measure.real[:100]), measure.reference)


def test_the_reference_is_the_training_set_and_real_the_shuffled_test_set(small):
    measure = measuring._inception_measure("mnist", torch.device("cpu"), 50)
    wanted = fit_gaussian(extract_features(Inception(), small["train"]))
    assert measure.reference.n == 300
    torch.testing.assert_close(measure.reference.mean, wanted.mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(measure.reference.covariance, wanted.covariance, rtol=0, atol=1e-6)
    in_file = extract_features(Inception(), small["test"])
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(measure.real, in_file[order])
    assert not torch.allclose(measure.real, in_file)


def test_the_samples_are_seen_as_8_bit_images(small, tmp_path, package):
    assert cli.main([*GRID, "--features", "inception", "--out", str(tmp_path / "fid.json")]) == 0
    for part in package.told:
        assert torch.equal((part * 255).round() / 255, part)
        assert part.min() >= 0
        assert part.max() <= 1


@pytest.mark.parametrize("n", ["75", "250", "0"])
def test_an_n_out_of_range_is_refused_before_the_training_set_is_looked_at(small, tmp_path, capsys, package, n):
    arguments = [*GRID, "--features", "inception", "--out", tmp_path / "fid.json", "--n", n]
    assert_refused(capsys, arguments, "n must be a multiple of 50 from 50", "to 200", f"got {n}")
    assert package.told == []


def test_other_features_are_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([*GRID, "--features", "pixels", "--out", "x.json"])
    assert caught.value.code == 2
    assert "--features" in capsys.readouterr().err


# Two kinds of result files


def test_the_classifier_stays_the_default_and_its_header_as_it_was(small, with_classifier, tmp_path, capsys, package):
    out = tmp_path / "steps.json"
    assert cli.main([*GRID, "--out", str(out)]) == 0
    keys = ["model", "model_sha256", "classifier_sha256", "dataset", "n", "seed", "bf16"]
    assert list(json.loads(out.read_text()))[: len(keys)] == keys
    assert "features" not in json.loads(out.read_text())
    assert capsys.readouterr().out.startswith("Frechet distance in the classifier's features, ")
    assert package.told == []


@pytest.mark.parametrize(
    ("first", "then", "key"),
    [
        ("classifier", "inception", f"features = None instead of '{NAME}'"),
        ("inception", "classifier", "classifier_sha256 = None instead of "),
    ],
)
def test_a_file_of_the_other_features_is_refused(small, with_classifier, tmp_path, capsys, first, then, key):
    out = tmp_path / "result.json"
    assert cli.main([*GRID, "--features", first, "--out", str(out)]) == 0
    before = out.read_bytes()
    capsys.readouterr()
    assert cli.main([*GRID, "--features", then, "--out", str(out)]) == 2
    assert f"{out} was made with {key}" in capsys.readouterr().err
    assert out.read_bytes() == before


def test_a_file_of_another_version_of_the_package_is_refused(small, tmp_path, capsys, monkeypatch):
    out = tmp_path / "fid.json"
    assert cli.main([*GRID, "--features", "inception", "--out", str(out)]) == 0
    capsys.readouterr()
    monkeypatch.setattr(sys.modules["pytorch_fid"], "__version__", "9.9")
    assert cli.main([*GRID, "--features", "inception", "--out", str(out)]) == 2
    assert f"features = '{NAME}' instead of 'inception pytorch-fid 9.9'" in capsys.readouterr().err
