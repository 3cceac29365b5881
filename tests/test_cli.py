import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import pytest
import torch
from conftest import assert_refused

import ddim_lib.__main__ as cli
from ddim_lib import UNet, UNetConfig, commands, make_tau
from ddim_lib.datasets import load_pixels
from ddim_lib.weights import load_weights, save_weights

TINY = UNetConfig(patch=1, channels=(4, 4, 8), attention=(False, False, True), groups=4)
TRAIN = ["train", "mnist-5k", "--batch-size", "4", "--device", "cpu"]


@pytest.fixture(scope="module", autouse=True)
def small():
    """Train a tiny network, and sample its sheets in two steps instead of fifty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(commands.PRESETS, "mnist-5k", replace(commands.PRESETS["mnist-5k"], unet=TINY))
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


# train


def test_training_leaves_a_checkpoint_weights_and_a_sheet(trained):
    wanted = ["checkpoint-00000004.json", "checkpoint-00000004.safetensors", "ema.json", "ema.safetensors"]
    assert names(trained) == [*wanted, "samples-00000004.png"]


def test_the_weights_say_which_preset_they_are_of_and_what_the_run_took(trained):
    info = json.loads((trained / "ema.json").read_text())
    assert (info["preset"], info["dataset"], info["processes"]) == ("mnist-5k", "mnist-5k", 1)
    assert 10 < info["peak_mib"] < 2**20
    assert info["seconds"] >= 0


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
    kept = [f"checkpoint-0000000{step}.{suffix}" for step in (4, 6) for suffix in ("json", "safetensors")]
    assert names(out)[:4] == kept
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
    assert names(tmp_path)[2:] == ["checkpoint-00000002.json", "checkpoint-00000002.safetensors"]


def test_a_run_killed_while_it_draws_a_sheet_has_saved_that_step_and_draws_the_sheet_when_resumed(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    common = [*TRAIN, "--steps", "3", "--checkpoint-every", "2", "--sample-every", "2", "--out"]

    def killing(*args):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "save_grid", killing)
        assert cli.main([*common, str(killed)]) == 130
    assert names(killed) == ["checkpoint-00000002.json", "checkpoint-00000002.safetensors"]
    assert cli.main([*common, str(killed), "--resume"]) == 0
    assert cli.main([*common, str(whole)]) == 0
    assert names(killed) == names(whole)
    for path in whole.glob("samples-*"):
        assert (killed / path.name).read_bytes() == path.read_bytes()


def test_a_sheet_that_is_there_is_not_drawn_again_when_a_run_is_resumed(resumable, monkeypatch):
    drawn, real = [], commands.save_grid
    monkeypatch.setattr(commands, "save_grid", lambda path, images: [drawn.append(path.name), real(path, images)])
    options = ["--steps", "6", "--sample-every", "2", "--out", str(resumable), "--resume"]
    assert cli.main([*TRAIN, *options]) == 0
    assert drawn == ["samples-00000006.png"]


@pytest.fixture
def resumable(trained, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    for path in trained.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    return out


def test_a_loss_that_diverges_is_named_with_the_last_good_checkpoint(tmp_path, capsys):
    options = ["--steps", "9", "--checkpoint-every", "1", "--lr", "1e30", "--out", tmp_path]
    parts = ["the loss is", "at step 2, with the learning rate", str(tmp_path / "checkpoint-00000001.safetensors")]
    assert_refused(capsys, [*TRAIN, *options], *parts)
    assert names(tmp_path) == ["checkpoint-00000001.json", "checkpoint-00000001.safetensors"]


def test_a_loss_that_diverges_before_the_first_checkpoint_is_named_too(tmp_path, capsys):
    options = ["--steps", "3", "--lr", "1e30", "--out", tmp_path]
    assert_refused(capsys, [*TRAIN, *options], "at step 2", "the last good checkpoint: none")


def test_resuming_with_another_learning_rate_is_refused(resumable, capsys):
    assert_refused(capsys, [*TRAIN, "--out", resumable, "--resume", "--lr", "0.5"], "lr", "0.5")


def test_resuming_on_another_data_set_is_refused(resumable, capsys, monkeypatch):
    monkeypatch.setitem(commands.PRESETS, "mnist", replace(commands.PRESETS["mnist"], unet=TINY))
    monkeypatch.setattr(commands, "load_pixels", lambda *args: load_pixels("mnist-5k"))
    arguments = ["train", "mnist", *TRAIN[2:], "--out", resumable, "--resume"]
    assert_refused(capsys, arguments, "made with dataset = mnist-5k, this run asks for mnist")


@pytest.mark.parametrize("folder", ["empty", "missing", "killed before the first checkpoint"])
def test_resuming_without_a_checkpoint_starts_anew(trained, tmp_path, folder):
    out = tmp_path / "run"
    if folder != "missing":
        out.mkdir()
    if folder.startswith("killed"):
        (out / "checkpoint-00000003.safetensors").write_bytes(b"part")
    assert cli.main([*TRAIN, "--steps", "4", "--out", str(out), "--resume"]) == 0
    assert names(out) == names(trained)
    assert (out / "ema.safetensors").read_bytes() == (trained / "ema.safetensors").read_bytes()


def test_a_finished_run_may_be_called_again(resumable, trained):
    (resumable / "ema.json").unlink()  # killed before the end
    assert cli.main([*TRAIN, "--steps", "4", "--out", str(resumable), "--resume"]) == 0
    found, wanted = (json.loads((folder / "ema.json").read_text()) for folder in (resumable, trained))
    assert (found["final_loss"], found["sha256"]) == (wanted["final_loss"], wanted["sha256"])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_stops_after_the_step(tmp_path, capsys, monkeypatch, number, status):
    real = commands.train

    def signalled(*args):
        for state in real(*args):
            if state.step == 3:
                os.kill(os.getpid(), number)
            yield state

    monkeypatch.setattr(commands, "train", signalled)
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert cli.main([*TRAIN, "--steps", "5", "--out", str(tmp_path)]) == status
    assert f"stopped by {number.name} after step 3: saved; call again with --resume" in capsys.readouterr().err
    assert names(tmp_path) == ["checkpoint-00000003.json", "checkpoint-00000003.safetensors"]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_batch_too_large_for_memory_is_refused(tmp_path, capsys):
    options = ["--batch-size", str(10**14), "--out", tmp_path]  # more than can be addressed
    assert_refused(capsys, [*TRAIN, *options], "memory", f"batch_size = {10**14}", "lower batch_size", "accumulate")


def test_only_cifar10_is_mirrored(tmp_path):
    def config_of(dataset):
        args = cli.parser().parse_args(["train", dataset, "--out", str(tmp_path)])
        return commands._train_config(args, torch.device("cpu"))

    assert [config_of(name).flip for name in ("mnist", "mnist-5k", "cifar10")] == [False, False, True]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--steps", "0"),
        ("--batch-size", "0"),
        ("--lr", "-1"),
        ("--ema", "1"),
        ("--checkpoint-every", "0"),
        ("--keep", "0"),
        ("--accumulate", "0"),
        ("--accumulate", "3"),
        ("--seed", "-1"),
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


# The rest


def test_a_download_says_where_the_files_are(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DDIM_DATA", str(tmp_path))
    monkeypatch.setattr("pooch.retrieve", lambda *args, **kwargs: None)
    assert cli.main(["download", "mnist"]) == 0
    assert str(tmp_path / "mnist") in capsys.readouterr().out


def test_the_benchmark_compares_the_bare_network_the_sampler_and_the_evaluation(capsys, monkeypatch):
    monkeypatch.setattr(commands, "load_pretrained", lambda name: UNet(TINY).eval())
    assert cli.main(["bench", "--batch-size", "1", "50", "--steps", "2", "--repeats", "1"]) == 0
    each = r"[\d.]+ ms \([-+][\d.]+ %\)"
    one, many, _ = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"batch 1: bare network [\d.]+ ms a step, ddim_sample {each}", one)
    assert re.fullmatch(rf"batch 50: bare network [\d.]+ ms a step, ddim_sample {each}, evaluate {each}", many)


WRITERS = {
    "train": ("mnist-5k", "folder"),
    "sample": ("mnist", "file"),
    "evaluate": ("mnist --n 100", "file"),
    "invert": ("mnist --n 1", "file"),
    "neighbors": ("mnist", "file"),
    "train-classifier": ("mnist-5k", "file"),
    "export-diffusers": ("mnist", "folder"),
    "export-onnx": ("mnist", "file"),
}


@pytest.mark.parametrize("command", WRITERS)
def test_a_folder_in_place_of_a_file_or_the_reverse_is_refused_before_any_work(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(UNet, "__init__", None)
    options, wanted = WRITERS[command]
    folder, file, pipe = (tmp_path / name for name in ("run.safetensors", "file", "pipe"))
    folder.mkdir()
    file.write_text("here already")
    os.mkfifo(pipe)
    other, got = (folder, "folder") if wanted == "file" else (file, "file")
    for out, what in ((other, got), (pipe, "pipe or device")):
        message = f"--out must be a {wanted}, got the {what} {out}"
        assert_refused(capsys, [command, *options.split(), "--out", out], message)
    assert (names(folder), file.read_text()) == ([], "here already")


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
