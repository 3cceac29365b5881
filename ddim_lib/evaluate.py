"""Samples of the cells of a grid, in one process or several, and how far they are from real images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .classifier import extract_features
from .grids import Cell
from .metrics import (
    FeatureStatistics,
    fit_gaussian,
    frechet_distance,
    frechet_standard_error,
    kernel_distance,
    least_images,
)
from .parallel import load_accelerate
from .results import hardware, load_cells, write_result
from .schedules import Schedule
from .unet import EpsModel, UNet
from .walks import counting, last_state

STREAM = 50  # images that share a random stream: batches are made of whole streams, so their size changes nothing
NAME, ENTRY = 18, 16  # widths of the table's columns
FIELDS = {"n", "frechet", "frechet_error", "kernel", "kernel_error"}  # what every finished cell holds


@dataclass(frozen=True, eq=False)
class Measure:
    """What samples are measured with: a network's features, and those of real images."""

    classifier: nn.Module  # its features(images) are (B, D): a Classifier, or another network such as Inception
    reference: FeatureStatistics  # of the training set
    real: Tensor  # features of the test set in a random order, for the kernel distance and the floor

    def check(self, n: int) -> None:
        """Raise ValueError if n images are too few for the distances, or more than there are real ones."""
        least = -(-least_images(len(self.reference.mean)) // STREAM) * STREAM
        if n % STREAM or not least <= n <= len(self.real):
            raise ValueError(
                f"n must be a multiple of {STREAM} from {least} (the features need so many images) "
                f"to {len(self.real)} (the real images to compare with), got {n}"
            )

    def frechet(self, features: Tensor) -> dict[str, float | int]:
        """The Frechet distance of features (n, D) from the reference, with its standard error and n."""
        distance = frechet_distance(fit_gaussian(features), self.reference)
        error = frechet_standard_error(features, self.reference)
        return {"n": len(features), "frechet": distance, "frechet_error": error}

    def of(self, features: Tensor) -> dict[str, float | int]:
        """Both distances of features (n, D) from real images, with standard errors and n."""
        kernel, kernel_error = kernel_distance(features, self.real[: len(features)])
        return self.frechet(features) | {"kernel": kernel, "kernel_error": kernel_error}

    def floor(self, n: int) -> dict[str, float | int]:
        """What n real images of the test set score: samples cannot be expected to come closer."""
        self.check(n)
        return self.frechet(self.real[:n])


def in_bfloat16(model: EpsModel) -> EpsModel:
    """The model with its matrix products in bfloat16 and its result in float32."""

    def eps_model(xt: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(xt.device.type, torch.bfloat16):
            return model(xt, t).float()

    return eps_model


def sample_cell(
    model: UNet,
    cell: Cell,
    streams: Sequence[int],
    seed: int,
    batch_size: int,
    *,
    bf16: bool = False,
    tell: Callable[[int], object] = lambda images: None,
) -> Iterator[Tensor]:
    """Batches of samples: 50 from each stream of the seed, in order, the same whatever the batches are.

    Args:
        model: of the linear schedule.
        streams: numbers from 0; stream k holds images 50 k to 50 k + 49 of the cell.
        batch_size: images at a time, a multiple of 50.
        bf16: run the network :func:`in_bfloat16`.
        tell: called with the number of images after every network evaluation.
    """
    _check_streams(batch_size=batch_size)
    counted = counting(in_bfloat16(model) if bf16 else model, tell)
    schedule, device = Schedule.linear(model.config.T), next(model.parameters()).device
    shape, each = (STREAM, *model.config.image_shape), batch_size // STREAM
    for some in (streams[i : i + each] for i in range(0, len(streams), each)):
        generators = [torch.Generator().manual_seed(1_000_003 * seed + stream) for stream in some]
        xT = torch.cat([torch.randn(shape, generator=generator) for generator in generators]).to(device)
        yield last_state(cell.walk(counted, schedule, xT, generators)).cpu()


def cell_features(
    model: UNet, classifier: nn.Module, cell: Cell, n: int, seed: int, batch_size: int, **options: Any
) -> Tensor:
    """Features (n, D) of a cell's samples, in the order of the streams; the processes of a launch share the work.

    Takes :func:`sample_cell`'s options. Under ``accelerate launch`` every process gets the features of all.
    """
    _check_streams(n=n)
    accelerate = load_accelerate()
    state = accelerate.PartialState()
    mine = range(n // STREAM)[state.process_index :: state.num_processes]
    batches = sample_cell(model, cell, mine, seed, batch_size, **options)
    features = [part for images in batches for part in _features(classifier, images).split(STREAM)]
    found = dict(accelerate.utils.gather_object([*zip(mine, features, strict=True)]))
    return torch.cat([found[stream] for stream in range(n // STREAM)])


def _features(classifier: nn.Module, images: Tensor) -> Tensor:
    return extract_features(classifier, images.clamp(-1, 1)).cpu()


def evaluate_grid(
    model: UNet,
    measure: Measure,
    cells: list[Cell],
    path: Path,
    header: dict[str, Any],
    about: dict[str, Any],
    *,
    batch_size: int = 250,
    tell: Callable[[int], object] = lambda images: None,
) -> dict[str, Any]:
    """Measure every cell that ``path`` does not hold yet, and write the file after each: a kill loses one cell at most.

    Args:
        header: what all cells have in common, with ``"n"``, ``"seed"`` and ``"bf16"``. A file with another header is
            refused.
        about: what else the file says, such as command and versions of the last run.
        batch_size: images at a time; changes results by rounding only.
        tell: called with the number of images after every network evaluation of this process.

    Raises:
        ValueError: before anything is sampled: an empty grid, n or a number of steps out of range, a batch size that is
            no multiple of 50, or a file that is damaged or made by another model, seed or n.
    """
    todo, state = pending(model, measure, cells, path, header, batch_size), load_accelerate().PartialState()
    finished = load_cells(path, header, FIELDS)
    result = header | about | {"cells": finished}
    sampling = {"seed": header["seed"], "batch_size": batch_size, "bf16": header["bf16"]}
    if todo:  # the first call is slow, most of all with torch.compile, and no part of a cell's time
        cell_features(model, measure.classifier, Cell(0.0, 1), header["n"], **sampling)
    for cell in todo:
        began = time.perf_counter()
        features = cell_features(model, measure.classifier, cell, header["n"], **sampling, tell=tell)
        seconds = round(time.perf_counter() - began, 1)
        cost = {"seconds": seconds, "processes": state.num_processes, "hardware": hardware(model)}
        cost["evaluations"] = cell.evaluations
        finished[cell.key] = asdict(cell) | measure.of(features) | cost
        if state.is_main_process:
            write_result(path, result)
    return result


def pending(
    model: UNet, measure: Measure, cells: list[Cell], path: Path, header: dict[str, Any], batch_size: int = 250
) -> list[Cell]:
    """The cells that ``path`` does not hold yet; raises ValueError as :func:`evaluate_grid` does."""
    if not cells:
        raise ValueError("the grid is empty: give at least one cell")
    measure.check(header["n"])
    _check_streams(batch_size=batch_size)
    for cell in cells:
        cell.tau(model.config.T)  # raises for an S that is none, before hours go into the others
    finished = load_cells(path, header, FIELDS)
    return [cell for key, cell in {cell.key: cell for cell in cells}.items() if key not in finished]


def _check_streams(**sizes: int) -> None:
    for name, value in sizes.items():
        if value < 1 or value % STREAM:
            raise ValueError(f"{name} must be a positive multiple of {STREAM}, got {value}")


def table(result: dict[str, Any], cells: list[Cell]) -> str:
    """Frechet distances and their standard errors: a row a way to sample, a column a cost, with the floor below."""
    columns = sorted({cell.evaluations for cell in cells})
    entries = {(cell.row, cell.evaluations): _entry(result["cells"][cell.key]) for cell in cells}
    name = "Frechet distance in the classifier's features"
    if "features" in result:  # of the header, where they are not the classifier's
        name = "FID (Inception features, pytorch-fid's weights)"
    lines = [f"{name}, +- standard error, n = {result['n']}"]
    lines.append(f"{'evaluations':<{NAME}}" + "".join(f"{column:>{ENTRY}}" for column in columns))
    for row in dict.fromkeys(cell.row for cell in cells):
        lines.append(f"{row:<{NAME}}" + "".join(f"{entries.get((row, column), '-'):>{ENTRY}}" for column in columns))
    return "\n".join([*lines, f"{'real images':<{NAME}}{_entry(result['floor']):>{ENTRY}}"])


def _entry(cell: dict[str, Any]) -> str:
    return f"{cell['frechet']:.2f} +- {cell['frechet_error']:.2f}"
