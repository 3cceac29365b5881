"""The DDIM paper's Table 1 on a model trained here: quality for a grid of eta and S, cell by cell."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .classifier import Classifier, extract_features
from .metrics import (
    FeatureStatistics,
    fit_gaussian,
    frechet_distance,
    frechet_standard_error,
    kernel_distance,
    least_images,
)
from .results import hardware, load_cells, write_result
from .samplers import ddim_sample
from .schedules import Schedule, make_tau
from .unet import UNet

STREAM = 50  # images that share a random stream: batches are made of whole streams, so their size changes nothing
FIELDS = {"n", "frechet", "frechet_error", "kernel", "kernel_error"}  # what every finished cell holds


@dataclass(frozen=True)
class Cell:
    """One entry of the table: ``variance`` is ``"eta"`` or ``"sigma_hat"``, S the number of steps."""

    eta: float
    S: int
    variance: str = "eta"
    spacing: str = "uniform"

    @property
    def row(self) -> str:
        """The row of the table: ``"eta=0.2"`` or ``"sigma_hat"``."""
        return "sigma_hat" if self.variance == "sigma_hat" else f"eta={self.eta:g}"

    @property
    def key(self) -> str:
        """A name for the result file, such as ``"eta=0.2 S=50 uniform"``."""
        return f"{self.row} S={self.S} {self.spacing}"


def paper_grid(steps: tuple[int, ...] = (10, 20, 50, 100, 1000)) -> list[Cell]:
    """The grid of the paper's Table 1 (with uniform tau): cheap cells first."""
    if not steps:
        raise ValueError("the grid is empty: give at least one number of steps")
    rows = [(0.0, "eta"), (0.2, "eta"), (0.5, "eta"), (1.0, "eta"), (1.0, "sigma_hat")]
    return [Cell(eta, S, variance) for S in sorted(set(steps)) for eta, variance in rows]


@dataclass(frozen=True, eq=False)
class Measure:
    """What samples are measured with: a classifier's features, and those of real images."""

    classifier: Classifier
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


def sample_cell(
    model: UNet, schedule: Schedule, cell: Cell, n: int, seed: int, batch_size: int, tell: Callable[[int], object]
) -> Iterator[Tensor]:
    """Batches of samples, n in all: images 50 k to 50 k + 49 come from stream k of the seed, whatever the batches are.

    ``tell`` is called after every network evaluation with the number of images it was for.
    """
    _check_streams(n=n, batch_size=batch_size)
    side = 28 if model.config.in_channels == 1 else 32
    tau, device = make_tau(schedule.T, cell.S, cell.spacing), next(model.parameters()).device
    for first in range(0, n, batch_size):
        streams = range(first // STREAM, min(first + batch_size, n) // STREAM)
        generators = [torch.Generator().manual_seed(1_000_003 * seed + stream) for stream in streams]
        shape = (STREAM, model.config.in_channels, side, side)
        xT = torch.cat([torch.randn(shape, generator=generator) for generator in generators]).to(device)
        walk = ddim_sample(model, schedule, xT, tau, cell.eta, variance=cell.variance, generator=generators)
        for step in walk:
            if step.t:
                tell(len(xT))
        yield step.xt.cpu()


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
        header: what all cells have in common, with ``"n"`` and ``"seed"``. A file with another header is refused.
        about: what else the file says, such as command and versions of the last run.
        batch_size: images at a time; changes results by rounding only.
        tell: called with the number of images after every network evaluation.

    Raises:
        ValueError: before anything is sampled: an empty grid, n or a number of steps out of range, a batch size that is
            no multiple of 50, or a file that is damaged or made by another model, seed or n.
    """
    todo = pending(model, measure, cells, path, header, batch_size)
    schedule, finished = Schedule.linear(model.config.T), load_cells(path, header, FIELDS)
    result = header | about | {"cells": finished}
    for cell in todo:
        began = time.perf_counter()
        batches = sample_cell(model, schedule, cell, header["n"], header["seed"], batch_size, tell)
        features = torch.cat([extract_features(measure.classifier, batch.clamp(-1, 1)) for batch in batches])
        seconds = round(time.perf_counter() - began, 1)
        cost = {"seconds": seconds, "evaluations": cell.S, "hardware": hardware(model)}
        finished[cell.key] = asdict(cell) | measure.of(features) | cost
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
        make_tau(model.config.T, cell.S, cell.spacing)  # raises for an S that is none, before hours go into the others
    finished = load_cells(path, header, FIELDS)
    return [cell for key, cell in {cell.key: cell for cell in cells}.items() if key not in finished]


def _check_streams(**sizes: int) -> None:
    for name, value in sizes.items():
        if value < 1 or value % STREAM:
            raise ValueError(f"{name} must be a positive multiple of {STREAM}, got {value}")


def table(result: dict[str, Any], cells: list[Cell]) -> str:
    """Frechet distances and their standard errors in the classifier's features: eta by S, with the floor below."""
    steps, width = sorted({cell.S for cell in cells}), 20
    entries = {(cell.row, cell.S): _entry(result["cells"][cell.key]) for cell in cells}
    lines = [f"Frechet distance in the classifier's features, +- standard error, n = {result['n']}"]
    lines.append(" " * 12 + "".join(f"{f'S={S}':>{width}}" for S in steps))
    for row in dict.fromkeys(cell.row for cell in cells):
        lines.append(f"{row:<12}" + "".join(f"{entries.get((row, S), '-'):>{width}}" for S in steps))
    return "\n".join([*lines, f"{'real images':<12}{_entry(result['floor']):>{width}}"])


def _entry(cell: dict[str, Any]) -> str:
    return f"{cell['frechet']:.2f} +- {cell['frechet_error']:.2f}"
