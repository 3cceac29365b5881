"""Hostile command lines, for commands whose long work is left out."""

import contextlib
import io
import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from readers import TINY

import ddim_lib.__main__ as cli
from ddim_lib import UNet, classifier, commands, diffusers_models, measuring, memorization, onnx_export, weights
from ddim_lib.classifier import Classifier
from ddim_lib.evaluate import Measure
from ddim_lib.metrics import FeatureStatistics
from ddim_lib.weights import save_weights

GOOD = {
    "train": ["mnist-5k", "--steps", "2", "--batch-size", "2", "--out", "run", "--device", "cpu", "--seed", "1"],
    "sample": ["mnist", "--steps", "2", "--n", "1", "--eta", "0.5", "--out", "sheet.png", "--seed", "3"],
    "evaluate": ["mnist", "--n", "100", "--steps", "2", "5", "--batch-size", "50", "--out", "result.json"],
    "invert": ["mnist", "--n", "3", "--steps", "2", "5", "--out", "table.json", "--batch-size", "2"],
    "neighbors": ["mnist", "--n", "50", "--show", "2", "--k", "2", "--steps", "2", "--out", "near.json"],
    "train-classifier": ["mnist-5k", "--epochs", "1", "--width", "2", "--out", "c.safetensors", "--seed", "2"],
    "export-diffusers": ["mnist", "--size", "28", "--out", "folder"],
    "export-onnx": ["mnist", "--bits", "11", "--out", "net.onnx"],
    "download": ["mnist"],
    "bench": ["--batch-size", "1", "--steps", "1", "--repeats", "1"],
}
NUMBERS = [
    "",
    "0",
    "-1",
    "1",
    "2",
    "50",
    "999",
    "1001",
    "10000",
    "1e3",
    "1e999",
    "nan",
    "-inf",
    "0x10",
    "1_0",
    "٣",
    "2.5",
]
NUMBERS += ["9" * 12, "-" + "9" * 19, "9" * 40, "9" * 5000, "1e-400", "True", "--", "inf"]
PATHS = [
    "",
    ".",
    "..",
    "/",
    "/dev/null",
    "/dev/full",
    "pipe",
    "loop",
    "x/" * 300,
    "n" * 300,
    "n" * 100_000,
    "file/below",
]
PATHS += ["file", "a\nb.json", "\udcff\udcfe.json", "é☃.safetensors", "-", "~", "net.safetensors", "bomb.safetensors"]
PATHS += ["$(touch owned)", "%s{}.json", "a\x1b[31m.json", "\0", "../../../up.json", "con", "x.json", "x.safetensors"]
WORDS = [
    "--help",
    "-h",
    "--",
    "-",
    "@file",
    "--n=3",
    "--n",
    "--no-bf16",
    "--unknown",
    "--s",
    "mnist",
    "cifar10",
    "\udc80",
]
WORDS += ["--resume", "--compile", "--bf16", "--weights", "--device", "cuda", "../mnist", "mnist\n", "x" * 100_000]
WORDS += ["--weights=net.safetensors", "--weights=bomb.safetensors", "--grid", "solvers", "--features", "inception"]


class WorkError(ValueError):
    """Stands where the long work would begin."""


def command_line(command, rng):
    """A good command line after one to three changes, most often of an option's value."""
    argv = [command, *GOOD[command]]
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        options = [at for at, word in enumerate(argv[:-1]) if word.startswith("--")]
        how = rng.randrange(10)
        if how < 6 and options:
            at = rng.choice(options)
            argv[at + 1] = rng.choice(PATHS if argv[at] in ("--out", "--weights") else NUMBERS)
        elif how == 6:
            argv += ["--weights", rng.choice(PATHS)]
        elif how == 7:
            argv.insert(rng.randrange(1, len(argv) + 1), rng.choice([*WORDS, *NUMBERS, *PATHS]))
        elif how == 8 and len(argv) > 1:
            argv.pop(rng.randrange(1, len(argv)))
        else:
            argv += [rng.choice([argv[at] for at in options] or WORDS), rng.choice([*WORDS, *NUMBERS])]
    return argv


def run(argv):
    """(exit status, what the command wrote on stdout and on stderr)."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # as strict as a terminal's
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main(argv)
        except SystemExit as stop:
            status = stop.code
        out.flush()
        err.flush()
    return status, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()


def problem(status, err):
    """What is wrong with the end of a command, or None: it is 0, or 2 after one short line that says why."""
    if status not in (0, 2):
        return f"exit status {status}"
    lines = [line.rsplit("\r")[-1] for line in err.split("\n") if line.strip()]  # without progress bars
    if "Traceback" in err:
        return f"a traceback: {err[-300:]}"
    if "the memory is too small" in err:
        return f"a blow-up of memory: {err[-300:]}"
    if status == 2 and not (lines and "error: " in lines[-1] and len(lines[-1]) < 1200):
        return f"no short error: {err[-300:]}"
    if status == 2 and not err.startswith("usage: ") and sum("error" in line for line in lines) != 1:
        return f"not one line: {err[-300:]}"
    return None


@contextmanager
def small_commands(folder):
    """In a folder deep in ``folder``: networks, classifiers and data are tiny, and what takes long raises WorkError."""
    deep, before = folder / "a" / "b" / "c", os.getcwd()
    deep.mkdir(parents=True)
    torch.manual_seed(0)
    save_weights(deep / "net.safetensors", UNet(TINY), {})
    save_weights(folder / "mnist.safetensors", UNet(TINY), {})
    (deep / "bomb.safetensors").write_bytes(b"\xff" * 8)
    (deep / "bomb.json").write_bytes(b"[" * 100_000)
    (deep / "file").write_text("here already")
    (deep / "loop").symlink_to("loop")
    os.mkfifo(deep / "pipe")
    os.chdir(deep)
    with ExitStack() as stack:
        for where, name, value in _substitutes(folder):
            stack.enter_context(patch.object(where, name, value))
        try:
            yield deep
        finally:
            os.chdir(before)


def _substitutes(folder):
    images = torch.zeros(120, 1, 28, 28), torch.arange(120) % 10
    pixels = images[0].byte(), images[1]
    measure = Measure(
        Classifier(1, 28, 2),
        FeatureStatistics(torch.zeros(64).double(), torch.eye(64).double(), 100),
        torch.rand(120, 64),
    )
    yield from ((module, "WEIGHTS", folder) for module in (weights, classifier, commands))
    yield from ((module, "load_pixels", lambda *_: pixels) for module in (commands, memorization))
    yield from (
        (measuring, "load_dataset", lambda *_: images),
        (memorization, "shuffled_test_set", lambda *_: images[0]),
    )
    yield from (
        (measuring, "_measure", lambda *_: measure),
        (measuring, "classifier_path", lambda *_: Path("net.safetensors")),
    )
    long = [(commands, "_train_loop"), (commands, "download"), (measuring, "evaluate_grid"), (memorization, "_samples")]
    long += [(measuring, "inversion_table"), (measuring, "train_classifier"), (onnx_export, "to_onnx")]
    yield from ((module, name, _work) for module, name in long)
    yield commands, "ddim_sample", _unless_long(commands.ddim_sample, lambda args: len(args[2]) * len(args[3]))
    yield commands, "overheads", _unless_long(commands.overheads, lambda args: args[1] * args[2] * args[3])
    yield diffusers_models, "write_atomic", _work


def _work(*args, **options):
    raise WorkError("here the work would begin")


def _unless_long(function, size):
    return lambda *args, **options: (function if size(args) < 20 else _work)(*args, **options)
