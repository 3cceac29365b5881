"""Does a model memorize? Its samples beside the nearest training images, with real test images as the yardstick.

Three figures, each with its limits:

- The *distance* to the nearest training image. Small for a copy, but also for any smooth or blurred image, which is
  near to many by pixel distance: compared with test images alone it misleads. Of the samples 5 % would be nearer than
  the test images' 5th percentile if both were alike; the 1st would not do for CIFAR-10, of whose test images about 3
  in a hundred nearly repeat a training image (Barz & Denzler 2020, "Do we train on test data?").
- The *ratio* of that distance to the mean distance of the 50 nearest, near 0 for a copy and near 1 for any image with
  nothing special about it; below 0.5 the image is suspected to be a copy (Carlini et al. 2023, "Extracting training
  data from diffusion models", section 5, with their numbers). To be read beside the count among test images. What makes
  an image near to all others lowers both distances. Unlike the ratio to the second nearest it also finds a copy of an
  image that the training set holds twice.
- The share of samples whose *nearest of all real images*, training and test set together, is a training image. A
  sample that depends on the data only through their distribution cannot tell the sets apart, so that this share is
  that of the training images among all, within its standard error. A model that memorizes exceeds it; blur cannot
  (after Meehan, Chaudhuri & Dasgupta 2020, "A non-parametric test to detect data-copying in generative models").
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from .commands import check_positive, choose_device, load_network, model_sha256, versions
from .datasets import load_pixels
from .evaluate import STREAM, sample_cell
from .files import sole_writer
from .grids import Cell
from .measuring import shuffled_test_set
from .neighbors import nearest, neighbor_sheet
from .plots import sheet_png
from .results import hardware, write_result
from .unet import UNet

NEIGHBORS, COPY = 50, 0.5  # Carlini et al.: the mean is over so many; a smaller ratio is suspect
SHEETS = {"nearest": ".png", "lowest_ratio": "_by_ratio.png"}  # what they show, and how their names end
UNIT = "root mean square difference per pixel value, on the scale [-1, 1]"


def neighbor_ratio(distances: Tensor) -> Tensor:
    """The distance to the nearest over the mean distance of the k nearest, from distances (N, k): (N,), in [0, 1].

    0 also where all k are copies.
    """
    mean = distances.mean(1)
    return torch.where(mean > 0, distances[:, 0] / mean, 0.0)


def summary(distances: Tensor) -> dict[str, Any]:
    """What the result file says about images, from the distances (N, k) to their k nearest training images."""
    ratio = neighbor_ratio(distances)
    return {
        "distance": _quartiles(distances[:, 0]),
        "ratio": _quartiles(ratio),
        "suspected_copies": int((ratio < COPY).sum()),
        "distances": [round(value, 4) for value in distances[:, 0].tolist()],
        "ratios": [round(value, 4) for value in ratio.tolist()],
    }


def preference(to_training: Tensor, to_test: Tensor, training: int, test: int) -> dict[str, float]:
    """How often the nearest real image is a training image, and how often it would be by chance.

    Args:
        to_training: distances (N,) to the nearest training image.
        to_test: distances (N,) to the nearest test image. A tie counts one half.
        training, test: how many images there are of each.

    Returns:
        ``share``, ``by_chance``, and ``error``, the standard error of the share by chance.
    """
    share = ((to_training < to_test).double() + (to_training == to_test).double() / 2).mean().item()
    chance = training / (training + test)
    return {"share": share, "by_chance": chance, "error": (chance * (1 - chance) / len(to_training)) ** 0.5}


def memorization(
    samples: Tensor,
    training: Tensor,
    test: Tensor,
    *,
    mirrored: bool = False,
    tell: Callable[[int], object] = lambda pairs: None,
) -> tuple[dict[str, Any], Tensor, Tensor]:
    """The figures of this module for samples (N, C, H, W), with the first N test images as the yardstick.

    Args:
        samples: floats in [-1, 1].
        training: (M, C, H, W), uint8 or floats, M >= 50.
        test: (K, C, H, W), the same, K >= N, in a random order.
        mirrored: count mirror images, too, for a model that was trained with random flips.
        tell: called with the number of pairs after every block; there are N (2 M + K) in all.

    Returns:
        the figures; of the samples' 50 nearest training images the distances (N, 50) and indices (N, 50), on the CPU.

    Raises:
        ValueError: as :func:`ddim_lib.neighbors.nearest` does, or fewer test images than samples.
    """
    if len(test) < len(samples):
        raise ValueError(f"test must hold as many images as samples, {len(samples)}, or more, got {len(test)}")
    options, real = {"mirrored": mirrored, "tell": tell}, test[: len(samples)].to(samples.device)
    distances, indices = (found.cpu() for found in nearest(samples, training, NEIGHBORS, **options))
    yardstick = nearest(real, training, NEIGHBORS, **options)[0].cpu()
    to_test = nearest(samples, test, **options)[0].cpu()
    figures = {
        "samples": summary(distances),
        "test": summary(yardstick),
        "nearer_than_5_percent_of_test": (distances[:, 0] < yardstick[:, 0].quantile(0.05)).double().mean().item(),
        "nearest_is_training": preference(distances[:, 0], to_test[:, 0], len(training), len(test)),
    }
    return figures, distances, indices


def run_neighbors(args: argparse.Namespace) -> None:
    """Sample, find the nearest training images, and write a result file and two sheets of the worst cases."""
    _check(args)
    with sole_writer(args.out):
        _neighbors(args)


def _neighbors(args: argparse.Namespace) -> None:
    unet = load_network(args, choose_device(args.device))
    training, test = load_pixels(args.model, "train")[0], shuffled_test_set(args.model)
    if args.n > len(test):
        raise ValueError(f"--n must be at most {len(test)}, the number of test images, got {args.n}")
    Cell(0.0, args.steps).tau(unet.config.T)  # raises for an S that is none
    mirrored, began = args.model == "cifar10", time.perf_counter()  # as it was trained: a mirrored digit is none
    samples = _samples(unet, args)
    with tqdm(total=args.n * (2 * len(training) + len(test)), desc="neighbors", unit="pair", unit_scale=True) as bar:
        on_device = samples.to(next(unet.parameters()).device)
        figures, distances, indices = memorization(on_device, training, test, mirrored=mirrored, tell=bar.update)
    cost = {"seconds": round(time.perf_counter() - began, 1), "hardware": hardware(unet)}
    sizes = {"training_images": len(training), "test_images": len(test), "mirrored": mirrored, "unit": UNIT}
    rows, sheets, found = {}, {}, indices[:, : args.k]
    for key, order in _worst(distances, args.show).items():
        rows[key] = _rows(order, distances, found)
        sheet = neighbor_sheet(samples[order], training, found[order], mirrored)
        sheets[args.out.with_name(args.out.stem + SHEETS[key])] = sheet_png(sheet, 1 + args.k, scale=3)
    write_result(args.out, _header(args) | sizes | cost | figures | rows, sheets)
    print(report(figures, len(training)))


def _check(args: argparse.Namespace) -> None:
    check_positive(args, "n", "show", "k", "batch_size")
    for name, value in (("--n", args.n), ("--batch-size", args.batch_size)):
        if value % STREAM:
            raise ValueError(f"{name} must be a multiple of {STREAM}, got {value}")
    if args.show > args.n:
        raise ValueError(f"--show must be at most --n = {args.n}, got {args.show}")
    if args.k > NEIGHBORS:
        raise ValueError(f"--k must be at most {NEIGHBORS}, got {args.k}")
    if args.out.suffix != ".json":
        raise ValueError(f"--out must end in .json, got {args.out}; the sheets are written beside it")


def _samples(unet: UNet, args: argparse.Namespace) -> Tensor:
    """DDIM's samples (n, C, H, W), clipped to [-1, 1], on the CPU."""
    with tqdm(total=args.n * args.steps, desc="samples", unit="eval", unit_scale=True, smoothing=0.02) as bar:
        options = {"bf16": args.bf16, "tell": bar.update}
        cell, streams = Cell(0.0, args.steps), range(args.n // STREAM)
        return torch.cat([*sample_cell(unet, cell, streams, args.seed, args.batch_size, **options)]).clamp(-1, 1)


def _header(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "model": args.model,
        "model_sha256": model_sha256(args),
        "dataset": args.model,
        "n": args.n,
        "S": args.steps,
        "eta": 0.0,
        "seed": args.seed,
        "bf16": args.bf16,
        "command": args.command,
        "versions": versions(),
    }


def _worst(distances: Tensor, show: int) -> dict[str, Tensor]:
    """Numbers of the samples that are nearest to a training image, and of those with the lowest ratios."""
    values = {"nearest": distances[:, 0], "lowest_ratio": neighbor_ratio(distances)}
    return {key: value.argsort(stable=True)[:show] for key, value in values.items()}


def _rows(order: Tensor, distances: Tensor, indices: Tensor) -> list[dict[str, Any]]:
    """What the result file says about the rows of a sheet: numbers of the sample and of its neighbors, from 0."""
    ratio = neighbor_ratio(distances)
    return [
        {
            "sample": i,
            "distance": distances[i, 0].item(),
            "ratio": ratio[i].item(),
            "neighbors": indices[i].tolist(),
        }
        for i in order.tolist()
    ]


def report(figures: dict[str, Any], training: int) -> str:
    """The figures of :func:`memorization` in words."""
    lines = [f"{UNIT};", f"medians (quartiles) over {len(figures['samples']['ratios'])} images:"]
    for key, what in (("samples", "samples"), ("test", "test images")):
        distance, ratio = (_spread(figures[key][value]) for value in ("distance", "ratio"))
        copies = f"suspected copies (ratio < {COPY}): {figures[key]['suspected_copies']}"
        lines.append(f"{what:<12}distance to the nearest of {training} {distance}, ratio {ratio}, {copies}")
    share, chance, error = (figures["nearest_is_training"][key] for key in ("share", "by_chance", "error"))
    near = 100 * figures["nearer_than_5_percent_of_test"]
    lines.append(f"nearer than the 5th percentile of the test images: {near:.1f} % of the samples")
    return "\n".join(
        [*lines, f"nearest real image is a training image: {share:.3f}; {chance:.3f} +- {error:.3f} by chance"]
    )


def _spread(quartiles: dict[str, float]) -> str:
    return f"{quartiles['median']:.3f} ({quartiles['quartile_1']:.3f} to {quartiles['quartile_3']:.3f})"


def _quartiles(values: Tensor) -> dict[str, float]:
    points = values.quantile(torch.tensor([0.0, 0.25, 0.5, 0.75], dtype=values.dtype)).tolist()
    return dict(zip(("minimum", "quartile_1", "median", "quartile_3"), points, strict=True))
