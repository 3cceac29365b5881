import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest
import torch

import ddim_lib.__main__ as cli
from ddim_lib import UNet, UNetConfig, classifier, commands, make_tau
from ddim_lib import weights as weights_module
from ddim_lib.classifier import Classifier, accuracy, extract_features, load_classifier, load_reference, save_classifier
from ddim_lib.datasets import MNIST_5K_SHA256
from ddim_lib.metrics import fit_gaussian
from ddim_lib.weights import load_weights, save_weights

TINY = UNetConfig(patch=1, channels=(4, 4, 8), attention=(False, False, True), groups=4)
TRAIN = ["train", "mnist-5k", "--batch-size", "4", "--device", "cpu"]


@pytest.fixture(scope="module", autouse=True)
def small():
    """Train a tiny network, and sample its sheets in two steps instead of fifty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(commands.PRESETS, "mnist-5k", TINY)
        patch.setattr(commands, "make_tau", lambda T, S, *rest: make_tau(T, 2 if S == 50 else S, *rest))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of 4 steps."""
    out = tmp_path_factory.mktemp("run")
    assert cli.main([*TRAIN, "--steps", "4", "--out", str(out)]) == 0
    return out


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "net.safetensors"
    save_weights(path, UNet(TINY), {})
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_refused(capsys, arguments, *parts):
    """Exit status 2 and one line on stderr that holds the parts."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.removesuffix("\n").split("\n")
    line = line.rsplit("\r")[-1]  # what a progress bar wrote is gone from the screen
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


# train


def test_training_leaves_a_checkpoint_weights_and_a_sheet(trained):
    wanted = ["checkpoint-00000004.json", "checkpoint-00000004.safetensors", "ema.json", "ema.safetensors"]
    assert names(trained) == [*wanted, "samples-00000004.png"]


def test_training_writes_a_sheet_of_a_hundred_digits(trained):
    sheet = matplotlib.image.imread(trained / "samples-00000004.png")
    assert sheet.shape[:2] == (2 * (10 * 30 + 2), 2 * (10 * 30 + 2))


def test_training_says_where_the_weights_come_from(trained):
    info = json.loads((trained / "ema.json").read_text())
    assert (info["dataset"], info["steps"], info["seed"]) == ("mnist-5k", 4, 0)
    assert info["dataset_sha256"].startswith("846f6cad")
    assert info["final_loss"] > 0
    assert info["command"].startswith("python -m ddim_lib ")
    assert info["train"]["batch_size"] == 4


def test_a_folder_that_holds_a_checkpoint_is_not_trained_in_without_resume(trained, capsys):
    before = {path: path.read_bytes() for path in trained.iterdir()}
    assert_refused(capsys, [*TRAIN, "--steps", "4", "--out", trained], str(trained), "--resume")
    assert {path: path.read_bytes() for path in trained.iterdir()} == before


def test_a_resumed_run_equals_one_that_was_never_stopped(tmp_path):
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    common = ["--steps", "6", "--checkpoint-every", "3"]
    real = commands.save_checkpoint

    def stops(*args):
        real(*args)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "save_checkpoint", stops)
        assert cli.main([*TRAIN, *common, "--out", str(stopped)]) == 130
    torch.rand(3)  # another process would stand elsewhere in the global generator
    assert cli.main([*TRAIN, *common, "--out", str(stopped), "--resume"]) == 0
    assert cli.main([*TRAIN, *common, "--out", str(whole)]) == 0
    for file in ("ema.safetensors", "checkpoint-00000006.safetensors"):
        assert (stopped / file).read_bytes() == (whole / file).read_bytes()


def test_a_run_can_be_resumed_to_more_steps(trained, tmp_path):
    out = tmp_path / "more"
    out.mkdir()
    for path in trained.glob("checkpoint-*"):
        (out / path.name).write_bytes(path.read_bytes())
    assert cli.main([*TRAIN, "--steps", "6", "--out", str(out), "--resume"]) == 0
    assert "checkpoint-00000006.json" in names(out)
    assert "checkpoint-00000004.json" not in names(out)
    assert json.loads((out / "ema.json").read_text())["steps"] == 6


def test_an_interrupted_run_keeps_its_last_checkpoint(tmp_path, capsys, monkeypatch):
    real, calls = commands.train, []

    def interrupted(*args):
        for state in real(*args):
            calls.append(state.step)
            yield state
            if len(calls) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(commands, "train", interrupted)
    assert cli.main([*TRAIN, "--steps", "5", "--checkpoint-every", "1", "--out", str(tmp_path)]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert names(tmp_path) == ["checkpoint-00000002.json", "checkpoint-00000002.safetensors"]


@pytest.fixture
def resumable(trained, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    for path in trained.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    return out


def test_a_loss_that_turns_nan_never_replaces_a_good_checkpoint(resumable, capsys, monkeypatch):
    monkeypatch.setattr(sys.modules["ddim_lib.train"], "noise_prediction_loss", nan_loss)
    assert cli.main([*TRAIN, "--steps", "6", "--out", str(resumable), "--resume"]) == 2
    assert "checkpoint-00000004.safetensors" in names(resumable)


def nan_loss(model, schedule, x0, generator=None, focus=0.0):
    return model(x0, torch.ones(len(x0), dtype=torch.int64)).mean() * float("nan")


def test_resuming_with_another_learning_rate_is_refused(resumable, capsys):
    assert_refused(capsys, [*TRAIN, "--out", resumable, "--resume", "--lr", "0.5"], "lr", "0.5")


def test_resuming_without_a_checkpoint_is_refused(tmp_path, capsys):
    assert_refused(capsys, [*TRAIN, "--out", tmp_path, "--resume"], "no checkpoint in", str(tmp_path))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--steps", "0"),
        ("--batch-size", "0"),
        ("--lr", "-1"),
        ("--ema", "1"),
        ("--checkpoint-every", "0"),
        ("--sample-every", "0"),
    ],
)
def test_training_numbers_out_of_range_are_refused(tmp_path, capsys, option, value):
    arguments = [*TRAIN, "--steps", "4", "--out", tmp_path, option, value]
    assert cli.main([str(argument) for argument in arguments]) == 2
    assert option.strip("-").replace("-", "_") in capsys.readouterr().err.replace("-", "_")


def test_missing_data_is_refused_with_the_offline_choice(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DDIM_DATA", str(tmp_path))
    arguments = ["train", "mnist", "--out", tmp_path / "run", "--device", "cpu"]
    assert_refused(capsys, arguments, str(tmp_path / "mnist"), "python -m ddim_lib download mnist", "'mnist-5k'")


@pytest.mark.parametrize("command", [["train", "mnist-5k"], ["sample", "mnist"]])
def test_cuda_without_cuda_is_refused(tmp_path, capsys, monkeypatch, command):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert_refused(capsys, [*command, "--out", tmp_path / "out", "--device", "cuda"], "--device cuda", "--device cpu")
    assert names(tmp_path) == []


# sample


@pytest.mark.parametrize(("n", "side"), [(1, 1), (9, 3)])
def test_sampling_writes_a_square_sheet(weights, tmp_path, n, side):
    out = tmp_path / "digits.png"
    assert (
        cli.main(["sample", "mnist", "--weights", str(weights), "--steps", "3", "--n", str(n), "--out", str(out)]) == 0
    )
    assert matplotlib.image.imread(out).shape[:2] == (2 * (side * 30 + 2), 2 * (side * 30 + 2))


def test_weights_of_a_training_run_can_be_sampled(trained, tmp_path):
    out = tmp_path / "digits.png"
    arguments = ["sample", "mnist", "--weights", str(trained / "ema.safetensors"), "--steps", "2", "--n", "1"]
    assert cli.main([*arguments, "--out", str(out)]) == 0
    assert load_weights(trained / "ema.safetensors").config == TINY
    assert out.exists()


def test_sampling_says_how_long_it_took_and_what_it_spent(weights, tmp_path, capsys):
    out = tmp_path / "digits.png"
    arguments = ["sample", "mnist", "--weights", str(weights), "--steps", "7", "--n", "3", "--batch-size", "2"]
    assert cli.main([*arguments, "--out", str(out), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"\b\d+\.\d+ s on cpu", said)
    assert "14 network evaluations (7 an image)" in said
    assert str(out) in said


@pytest.mark.parametrize("eta", ["0", "1"])
def test_the_seed_of_the_command_line_decides_the_picture(weights, tmp_path, eta):
    pictures = []
    for number, seed in enumerate(("5", "5", "6")):
        out = tmp_path / f"{number}.png"
        arguments = ["sample", "mnist", "--weights", str(weights), "--steps", "2", "--n", "2", "--eta", eta]
        assert cli.main([*arguments, "--seed", seed, "--out", str(out)]) == 0
        pictures.append(out.read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--steps", "0"], ["S must be a whole number in 1..T = 1..1000", "got 0"]),
        (["--steps", "1001"], ["S must be a whole number in 1..T = 1..1000", "got 1001"]),
        (["--steps", "900", "--spacing", "quadratic"], ["S = 900", "the largest S is"]),
        (["--eta", "-1"], ["eta", "-1"]),
        (["--eta", "9"], ["eta = 9", "at most"]),
        (["--n", "0"], ["--n", "0"]),
        (["--batch-size", "0"], ["batch", "0"]),
        (["--batch-size", "-2"], ["batch", "-2"]),
    ],
    ids=" ".join,
)
def test_sampling_numbers_out_of_range_are_refused(weights, tmp_path, capsys, options, parts):
    out = tmp_path / "digits.png"
    assert_refused(capsys, ["sample", "mnist", "--weights", weights, "--out", out, *options], *parts)
    assert not out.exists()


def test_a_damaged_weight_file_is_refused(weights, tmp_path, capsys):
    weights.write_bytes(weights.read_bytes()[:-1])
    assert_refused(capsys, ["sample", "mnist", "--weights", weights], str(weights), "truncated or altered")


def test_a_missing_weight_file_is_refused(tmp_path, capsys):
    path = tmp_path / "none.safetensors"
    assert_refused(capsys, ["sample", "mnist", "--weights", path], "no weights at", str(path.with_suffix("")))


def test_an_unknown_pretrained_model_is_refused(capsys):
    assert_refused(capsys, ["sample", "imagenet"], "no pretrained model 'imagenet'")


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
    monkeypatch.setattr(commands, "load_dataset", lambda name, split: (images[200:], mnist_5k[1][::10][200:]))
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
    assert (result["floor"]["n"], len(result["cells"])) == (100, 10)
    assert result["floor"]["frechet_error"] > 0
    rows = [line.split()[0] for line in said.out.splitlines()[1:]]
    assert rows == ["S=1", "eta=0", "eta=0.2", "eta=0.5", "eta=1", "sigma_hat", "real"]
    assert "FID" not in said.out + out.read_text()
    assert "1.50k/1.50k" in said.err  # 100 images, five rows, 1 + 2 steps


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
    out, real, calls = tmp_path / "steps.json", commands.evaluate_grid, []

    def interrupted(*args, tell, **options):
        def count(images):
            calls.append(images)
            tell(images)
            if len(calls) == 3:
                raise KeyboardInterrupt

        return real(*args, tell=count, **options)

    monkeypatch.setattr(commands, "evaluate_grid", interrupted)
    assert cli.main([*GRID, "--out", str(out)]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert len(json.loads(out.read_text())["cells"]) == 2


def test_the_first_real_images_are_of_the_whole_test_set(measured):
    """MNIST's test set is not in random order, and n of its images stand for all of it."""
    images, _ = commands.load_dataset("mnist", "test")
    found, again = (commands._measure("mnist", torch.device("cpu")).real for _ in range(2))
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
    monkeypatch.setattr(commands, "load_dataset", lambda name: (images, labels))
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
    monkeypatch.setattr(commands, "load_dataset", lambda name, split: tuple(part[parts[split]] for part in mnist_5k))
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


# The rest


def test_a_download_says_where_the_files_are(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DDIM_DATA", str(tmp_path))
    monkeypatch.setattr("pooch.retrieve", lambda *args, **kwargs: None)
    assert cli.main(["download", "mnist"]) == 0
    assert str(tmp_path / "mnist") in capsys.readouterr().out


def test_the_benchmark_compares_bare_network_and_sampler(capsys, monkeypatch):
    monkeypatch.setattr(commands, "load_pretrained", lambda name: UNet(TINY).eval())
    assert cli.main(["bench", "--batch-size", "1", "--steps", "2", "--repeats", "1"]) == 0
    assert re.search(
        r"batch 1: bare network [\d.]+ ms a step, ddim_sample [\d.]+ ms \([-+][\d.]+ %\)", capsys.readouterr().out
    )


@pytest.mark.parametrize("arguments", [[], ["fly"], ["train", "imagenet", "--out", "x"], ["train", "mnist"]])
def test_usage_errors_end_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m ddim_lib" in capsys.readouterr().err


def test_the_module_runs_as_a_command_and_shows_no_traceback():
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "ddim_lib", "sample", "mnist", "--device", "cuda"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: --device cuda: .*\n", done.stderr)
