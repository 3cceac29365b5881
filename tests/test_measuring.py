"""The commands that measure: evaluate and train-classifier."""

import hashlib
import json

import pytest
import torch
from conftest import assert_refused

import ddim_lib.__main__ as cli
from ddim_lib import UNet, UNetConfig, classifier, commands, measuring
from ddim_lib import weights as weights_module
from ddim_lib.classifier import Classifier, accuracy, extract_features, load_classifier, load_reference, save_classifier
from ddim_lib.datasets import MNIST_5K_SHA256
from ddim_lib.metrics import fit_gaussian
from ddim_lib.weights import save_weights

TINY = UNetConfig(patch=1, channels=(4, 4, 8), attention=(False, False, True), groups=4)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# evaluate


GRID = ["evaluate", "mnist", "--grid", "paper", "--n", "100", "--steps", "2", "1", "--batch-size", "100"]


@pytest.fixture
def measured(tmp_path, monkeypatch, mnist_5k):
    """A folder of weights with a tiny U-Net and a classifier that was never trained, and 300 digits as test set."""
    folder = tmp_path / "weights"
    (folder / "classifiers").mkdir(parents=True)
    torch.manual_seed(0)
    model, images = Classifier().eval(), mnist_5k[0][::10]
    save_weights(folder / "mnist.safetensors", UNet(TINY), {})
    save_classifier(
        folder / "classifiers" / "mnist.safetensors", model, fit_gaussian(extract_features(model, images[:200])), {}
    )
    for module in (weights_module, classifier, commands):
        monkeypatch.setattr(module, "WEIGHTS", folder)
    monkeypatch.setattr(measuring, "load_dataset", lambda name, split: (images[200:], mnist_5k[1][::10][200:]))
    return folder


def test_evaluating_writes_the_file_and_prints_the_table(measured, tmp_path, capsys):
    out = tmp_path / "results" / "steps.json"
    assert cli.main([*GRID, "--out", str(out), "--device", "cpu"]) == 0
    said, result = capsys.readouterr(), json.loads(out.read_text())
    assert {key: result[key] for key in ("model", "dataset", "n", "seed")} == {
        "model": "mnist",
        "dataset": "mnist",
        "n": 100,
        "seed": 0,
    }
    for key, path in (("model_sha256", "mnist"), ("classifier_sha256", "classifiers/mnist")):
        assert result[key] == hashlib.sha256((measured / f"{path}.safetensors").read_bytes()).hexdigest()
    assert result["command"].startswith("python -m ddim_lib evaluate mnist --grid paper --n 100 ")
    assert result["versions"]["torch"] == torch.__version__
    assert result["note"].startswith("n = 100 images a cell are what the machine's time afforded; 5,000 to 50,000 are")
    assert (result["floor"]["n"], len(result["cells"])) == (100, 10)
    assert result["floor"]["frechet_error"] > 0
    rows = [line.split()[0] for line in said.out.splitlines()[1:]]
    assert rows == ["evaluations", "eta=0", "eta=0.2", "eta=0.5", "eta=1", "sigma_hat", "real"]
    assert "FID" not in said.out + out.read_text()
    assert "1.50k/1.50k" in said.err  # 100 images, five rows, 1 + 2 steps


def test_other_weights_are_measured_and_named(measured, tmp_path):
    weights, out = tmp_path / "other.safetensors", tmp_path / "steps.json"
    torch.manual_seed(1)
    save_weights(weights, UNet(TINY), {})
    assert cli.main([*GRID, "--weights", str(weights), "--out", str(out)]) == 0
    found = json.loads(out.read_text())["model_sha256"]
    assert found == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert found != hashlib.sha256((measured / "mnist.safetensors").read_bytes()).hexdigest()


def test_evaluating_again_does_only_what_is_missing(measured, tmp_path, capsys):
    out = tmp_path / "steps.json"
    short = [*GRID[:-4], "1", "--batch-size", "50", "--out", str(out)]  # without the column of S = 2
    assert cli.main(short) == 0
    before, cells = out.read_bytes(), json.loads(out.read_text())["cells"]
    assert cli.main(short) == 0
    assert out.read_bytes() == before
    capsys.readouterr()
    assert cli.main([*GRID, "--out", str(out)]) == 0
    assert "1.00k/1.00k" in capsys.readouterr().err
    after = json.loads(out.read_text())
    assert cells.items() <= after["cells"].items()
    assert len(after["cells"]) == 10


def test_an_interrupted_evaluation_keeps_its_finished_cells(measured, tmp_path, capsys, monkeypatch):
    out, real, calls = tmp_path / "steps.json", measuring.evaluate_grid, []

    def interrupted(*args, tell, **options):
        def count(images):
            calls.append(images)
            tell(images)
            if len(calls) == 3:
                raise KeyboardInterrupt

        return real(*args, tell=count, **options)

    monkeypatch.setattr(measuring, "evaluate_grid", interrupted)
    assert cli.main([*GRID, "--out", str(out)]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert len(json.loads(out.read_text())["cells"]) == 2


def test_the_first_real_images_are_of_the_whole_test_set(measured):
    """MNIST's test set is not in random order, and n of its images stand for all of it."""
    images, _ = measuring.load_dataset("mnist", "test")
    found, again = (measuring._measure("mnist", torch.device("cpu")).real for _ in range(2))
    in_file = extract_features(load_classifier("mnist"), images)
    assert torch.equal(found, again)
    assert not torch.allclose(found, in_file, atol=1e-2)
    torch.testing.assert_close(found.sum(1).sort()[0], in_file.sum(1).sort()[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--n", "75"], ["n must be a multiple of 50 from 100", "to 300", "got 75"]),
        (["--n", "50"], ["from 100", "got 50"]),
        (["--n", "350"], ["to 300", "got 350"]),
        (["--batch-size", "64"], ["batch_size must be a positive multiple of 50, got 64"]),
        (["--steps", "1", "2000"], ["S must be a whole number in 1..T = 1..1000", "got 2000"]),
    ],
    ids=" ".join,
)
def test_evaluation_numbers_out_of_range_are_refused(measured, tmp_path, capsys, options, parts):
    out = tmp_path / "steps.json"
    assert_refused(capsys, [*GRID, "--out", out, *options], *parts)
    assert not out.exists()


def test_a_result_file_of_another_seed_is_refused(measured, tmp_path, capsys):
    out = tmp_path / "steps.json"
    out.write_text(json.dumps({"seed": 1, "cells": {}}))
    assert_refused(capsys, [*GRID, "--out", out], str(out), "seed = 1 instead of 0", "write elsewhere")


def test_a_missing_classifier_is_refused_with_the_command_that_makes_it(measured, tmp_path, capsys):
    (measured / "classifiers" / "mnist.safetensors").unlink()
    assert_refused(capsys, [*GRID, "--out", tmp_path / "steps.json"], "no classifier 'mnist'", "train-classifier mnist")


# train-classifier


def test_a_classifier_is_stored_with_its_provenance_and_its_reference(tmp_path, capsys, monkeypatch, mnist_5k):
    images, labels = (part[::10] for part in mnist_5k)
    monkeypatch.setattr(measuring, "load_dataset", lambda name: (images, labels))
    out = tmp_path / "new" / "net.safetensors"
    assert cli.main(["train-classifier", "mnist-5k", "--epochs", "2", "--seed", "3", "--out", str(out)]) == 0
    info, held = json.loads(out.with_suffix(".json").read_text()), torch.arange(500) % 10 == 0
    model = load_classifier(path=out)
    assert (info["dataset"], info["dataset_sha256"]) == ("mnist-5k", MNIST_5K_SHA256)
    assert (info["epochs"], info["seed"], info["in_channels"], info["size"]) == (2, 3, 1, 28)
    assert info["command"].startswith("python -m ddim_lib train-classifier mnist-5k ")
    assert info["versions"]["torch"] == torch.__version__
    *_, (same, _) = classifier.train_classifier(images[~held], labels[~held], epochs=2, seed=3)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in same.state_dict().items())
    assert info["test_accuracy"] == accuracy(model, images[held], labels[held])
    assert f"{100 * info['test_accuracy']:.2f} % of 50 test images right" in capsys.readouterr().out
    wanted, found = fit_gaussian(extract_features(model, images[~held])), load_reference(path=out)
    assert torch.equal(found.mean, wanted.mean)
    assert torch.equal(found.covariance, wanted.covariance)
    assert found.n == 450


def test_a_classifier_of_mnist_is_tested_on_its_test_set(tmp_path, capsys, monkeypatch, mnist_5k):
    parts = {"train": slice(0, 5000, 20), "test": slice(7, 5000, 100)}
    monkeypatch.setattr(measuring, "load_dataset", lambda name, split: tuple(part[parts[split]] for part in mnist_5k))
    out = tmp_path / "net.safetensors"
    assert cli.main(["train-classifier", "mnist", "--epochs", "1", "--out", str(out)]) == 0
    assert "of 50 test images right" in capsys.readouterr().out
    assert load_reference(path=out).n == 250


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--epochs", "0", "--out", "net.safetensors"], ["--epochs must be at least 1, got 0"]),
        (["--out", "net.json"], ["--out must end in .safetensors, got net.json"]),
    ],
    ids=" ".join,
)
def test_a_classifier_that_cannot_be_trained_or_stored_is_refused(tmp_path, capsys, monkeypatch, options, parts):
    monkeypatch.chdir(tmp_path)
    assert_refused(capsys, ["train-classifier", "mnist-5k", *options], *parts)
    assert names(tmp_path) == []
