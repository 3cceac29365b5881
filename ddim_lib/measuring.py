"""What the commands that measure do: evaluate, invert, and train-classifier, which makes the measure."""

from __future__ import annotations

import argparse
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm

from .classifier import (
    accuracy,
    classifier_path,
    extract_features,
    load_classifier,
    load_reference,
    save_classifier,
    train_classifier,
)
from .commands import check_positive, choose_device, hold, load_network, model_sha256, versions
from .datasets import dataset_sha256, load_dataset
from .evaluate import STREAM, Measure, evaluate_grid, pending, table
from .files import sole_writer
from .grids import GRIDS
from .inception import FEATURES, Inception
from .inversion import inversion_table
from .metrics import FeatureStatistics, fit_gaussian
from .weights import file_sha256


def run_evaluate(args: argparse.Namespace) -> None:
    """Measure a trained model's samples over a grid of eta and S; go on where an earlier run stopped."""
    state = PartialState(cpu=args.device == "cpu")  # under `accelerate launch`, one process of several
    device = choose_device(args.device)
    with hold(args.out, state):
        _evaluate(args, device, state)
    state.destroy_process_group()


def _evaluate(args: argparse.Namespace, device: torch.device, state: PartialState) -> None:
    unet = load_network(args, device)
    inception = args.features == "inception"
    measure = _inception_measure(args.model, device, args.n) if inception else _measure(args.model, device)
    header = _header(args, measure)
    about = _note(args.n) | {"command": args.command, "versions": versions(), "floor": measure.floor(args.n)}
    cells = GRIDS[args.grid]() if args.steps is None else GRIDS[args.grid](args.steps)
    todo = pending(unet, measure, cells, args.out, header, args.batch_size)
    share = STREAM * -(-args.n // STREAM // state.num_processes)  # images of the first process, whose progress is shown
    total = share * sum(cell.evaluations for cell in todo)
    quiet = not (total and state.is_main_process)
    with tqdm(total=total, unit="eval", unit_scale=True, smoothing=0.02, disable=quiet) as bar:
        options = {"batch_size": args.batch_size, "tell": bar.update}
        result = evaluate_grid(unet, measure, cells, args.out, header, about, **options)
    if state.is_main_process:
        print(table(result, cells))


def _note(n: int) -> dict[str, str]:
    """What a result file says about a number of images that is less than is customary."""
    customary = 5_000
    note = f"n = {n} images a cell are what the machine's time afforded; {customary:,} to 50,000 are customary"
    return {"note": note} if n < customary else {}


def _header(args: argparse.Namespace, measure: Measure) -> dict[str, Any]:
    """What all cells of a result file have in common."""
    if isinstance(measure.classifier, Inception):
        features = {"features": measure.classifier.name}
    else:
        features = {"classifier_sha256": file_sha256(classifier_path(args.model))}
    return {
        "model": args.model,
        "model_sha256": model_sha256(args),
        **features,
        "dataset": args.model,
        "n": args.n,
        "seed": args.seed,
        "bf16": args.bf16,
    }


def run_invert(args: argparse.Namespace) -> None:
    """Encode and decode real test images with each S; go on where an earlier run stopped."""
    check_positive(args, "n", "batch_size")
    with sole_writer(args.out):
        _invert(args)


def _invert(args: argparse.Namespace) -> None:
    unet = load_network(args, choose_device(args.device))
    images = load_dataset(args.model, "test")[0][: args.n]
    header = {
        "model": args.model,
        "model_sha256": model_sha256(args),
        "dataset": args.model,
        "split": "test",
        "n": len(images),
    }
    about = {"command": args.command, "versions": versions()}
    with tqdm(unit="eval", unit_scale=True) as bar:
        result = inversion_table(
            unet, images, args.steps, args.out, header, bar.update, about=about, batch_size=args.batch_size
        )
    for cell in result["cells"].values():
        print(f"S = {cell['S']:4}: {cell['mse']:.2e} +- {cell['mse_error']:.0e}, n = {cell['n']}")


def _measure(name: str, device: torch.device) -> Measure:
    classifier = load_classifier(name).to(device)
    return Measure(classifier, load_reference(name), extract_features(classifier, shuffled_test_set(name)))


def _inception_measure(name: str, device: torch.device, n: int) -> Measure:
    """The measure of FID, its reference computed from the training set; refuses n before it computes anything."""
    network = Inception().to(device)
    test, (train, _) = shuffled_test_set(name), load_dataset(name, "train")
    sizes = FeatureStatistics(torch.zeros(FEATURES), torch.zeros(0), 0)
    Measure(network, sizes, test).check(n)  # which asks for no more than these sizes
    batches, quiet = [*train.split(STREAM), *test.split(STREAM)], not PartialState().is_main_process
    with tqdm(batches, "real images", unit_scale=STREAM, unit="img", disable=quiet) as bar:
        features = torch.cat([extract_features(network, batch) for batch in bar])
    return Measure(network, fit_gaussian(features[: len(train)]), features[len(train) :])


def shuffled_test_set(name: str) -> Tensor:
    """A data set's test images (N, C, H, W), always in the same random order.

    The first half of MNIST's test set was written by other people than the second.
    """
    images, _ = load_dataset(name, "test")
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]


def run_train_classifier(args: argparse.Namespace) -> None:
    """Train the classifier that evaluate measures with; store it with the statistics of its training set."""
    check_positive(args, "epochs", "width")
    if args.out.suffix != ".safetensors":
        raise ValueError(f"--out must end in .safetensors, got {args.out}")
    with sole_writer(args.out):
        _train_classifier(args)


def _train_classifier(args: argparse.Namespace) -> None:
    (images, labels), test = _splits(args.dataset)
    with tqdm(total=args.epochs, unit="epoch") as bar:
        options = {"width": args.width, "flip": args.dataset == "cifar10", "bf16": args.bf16}
        for epoch in train_classifier(images, labels, args.epochs, seed=args.seed, **options):
            bar.set_postfix(loss=f"{epoch[1]:.4f}")
            bar.update()
    model, loss = epoch
    found = accuracy(model, *test)
    info = {
        "command": args.command,
        "dataset": args.dataset,
        "dataset_sha256": dataset_sha256(args.dataset),
        "epochs": args.epochs,
        "seed": args.seed,
        "final_loss": loss,
        "test_accuracy": found,
        "versions": versions(),
    }
    save_classifier(args.out, model, fit_gaussian(extract_features(model, images)), info)
    print(f"{100 * found:.2f} % of {len(test[0])} test images right; {args.out}")


def _splits(name: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training and test images with labels; of the 5,000 digits, which have no test split, every tenth is one."""
    if name != "mnist-5k":
        return load_dataset(name, "train"), load_dataset(name, "test")
    images, labels = load_dataset(name)
    held = torch.arange(len(images)) % 10 == 0
    return (images[~held], labels[~held]), (images[held], labels[held])
