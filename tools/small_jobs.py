"""Commands with networks so small that a whole run takes a second, to be killed by ``tools/soak.py``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # with the next, what every process would import
import torch.distributed.fsdp
from killing import Job

from ddim_lib import UNet, UNetConfig, classifier, commands, load_dataset, measuring, memorization, weights
from ddim_lib.checkpoints import checkpoint_files
from ddim_lib.metrics import fit_gaussian

TINY = UNetConfig(patch=1, channels=(4, 4, 8), attention=(False, False, True), groups=4, dropout=0.1)
STEPS = 12


def newest_step(folder: Path) -> int:
    """The step of the newest checkpoint."""
    return max([int(path.stem[-8:]) for path in checkpoint_files(folder)], default=0)


def cells(folder: Path) -> int:
    """How many cells the result file holds."""
    return len(json.loads((folder / "r.json").read_text())["cells"]) if (folder / "r.json").exists() else 0


def finished(folder: Path) -> int:
    """1 if the result file is there."""
    return int((folder / "r.json").exists())


EVERY = "--checkpoint-every 2 --sample-every 4 --keep 1"
TRAIN = f"train mnist-5k --steps {STEPS} --batch-size 4 {EVERY} --resume --device cpu"
TRAIN_FILES = {"checkpoint": "checkpoint-*", "sheet": "samples-*", "final weights": "ema.*"}
EVALUATE = "evaluate mnist --n 100 --steps 1 2 --batch-size 100 --device cpu"
INVERT = "invert mnist --n 10 --steps 1 2 3 4 5 6 --device cpu"
NEIGHBORS = "neighbors mnist --n 50 --batch-size 50 --steps 4 --show 2 --k 1 --device cpu"
RESULT_FILE = {"result": "r.json"}
SHEETS = RESULT_FILE | {"sheet": "r*.png"}

JOBS = {
    "train": Job(TRAIN, "", "commands.run_train", "step", "train.update_ema", newest_step, TRAIN_FILES),
    "evaluate": Job(
        EVALUATE, "r.json", "measuring.run_evaluate", "cell", "evaluate.cell_features", cells, RESULT_FILE, ahead=1
    ),
    "invert": Job(
        INVERT, "r.json", "measuring.run_invert", "cell", "inversion.reconstruction_error", cells, RESULT_FILE
    ),
    "neighbors": Job(
        NEIGHBORS, "r.json", "memorization.run_neighbors", "run", "memorization.memorization", finished, SHEETS, units=1
    ),
}


def make_small(folder: Path, put: Callable[[object, str, Any], None] = setattr) -> None:
    """A tiny network, a classifier that was never trained, and a few digits, in place of the book's.

    Args:
        folder: for the weights of both.
        put: sets an attribute of a module.
    """
    torch.set_num_threads(1)  # a fork takes no threads along
    digits, labels = load_dataset("mnist-5k")
    pixels, images = commands.load_pixels("mnist-5k", "train"), digits[::10]
    torch.manual_seed(0)
    model = classifier.Classifier(width=4).eval()
    (folder / "classifiers").mkdir(parents=True)
    weights.save_weights(folder / "mnist.safetensors", UNet(TINY), {})
    statistics = fit_gaussian(classifier.extract_features(model, images[:200]))
    classifier.save_classifier(folder / "classifiers" / "mnist.safetensors", model, statistics, {})
    for module in (weights, classifier, commands):
        put(module, "WEIGHTS", folder)
    preset = replace(commands.PRESETS["mnist-5k"], unet=TINY)
    put(commands, "PRESETS", commands.PRESETS | {"mnist-5k": preset})
    put(commands, "make_tau", lambda T, S, *spacing: torch.tensor([0, T]))  # one evaluation a sheet
    for module in (commands, memorization):
        put(module, "load_pixels", lambda name, split: pixels)
    put(measuring, "load_dataset", lambda name, split="train": (images[200:], labels[::10][200:]))
