"""Quality of diffusers' samplers on the book's MNIST network, measured as ``python -m ddim_lib evaluate`` measures.

The same weights, noise, number of images and classifier as in ``results/mnist_solvers.json``, where the book's own
samplers stand. The file is written after every cell; stopped and called again, the script goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor
from tqdm import tqdm

from ddim_lib import Schedule, load_pretrained
from ddim_lib.classifier import classifier_path, extract_features, load_classifier, load_reference
from ddim_lib.commands import versions
from ddim_lib.evaluate import Measure, evaluate_grid, pending, table
from ddim_lib.grids import Cell
from ddim_lib.measuring import shuffled_test_set
from ddim_lib.unet import EpsModel
from ddim_lib.walks import Step, evaluate
from ddim_lib.weights import WEIGHTS, file_sha256

BOOK = Path(__file__).resolve().parent.parent / "results" / "mnist_solvers.json"
SHARED = ("model", "model_sha256", "classifier_sha256", "dataset", "n", "seed", "bf16", "note")
EVALUATIONS = (5, 10, 20)
SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {  # defaults, but for what is said; none but the first clips
    "DDIM clipped": ("DDIMScheduler", {}),
    "DDIM leading": ("DDIMScheduler", {"clip_sample": False}),
    "DDIM trailing": ("DDIMScheduler", {"clip_sample": False, "timestep_spacing": "trailing"}),
    "PNDM": ("PNDMScheduler", {"skip_prk_steps": True}),  # as pipelines set it: Runge-Kutta takes 12 evaluations
    "Euler": ("EulerDiscreteScheduler", {}),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "DPM-Solver++ 2M": ("DPMSolverMultistepScheduler", {}),
}


@dataclass(frozen=True)
class PeerCell:
    """A sampler of diffusers with so many network evaluations; stands where :class:`ddim_lib.grids.Cell` does."""

    sampler: str
    evaluations: int

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {self.sampler!r}")

    @property
    def row(self) -> str:
        """The row of the table."""
        return self.sampler

    @property
    def key(self) -> str:
        """A name for the result file."""
        return f"{self.sampler} {self.evaluations}"

    def scheduler(self, T: int) -> Any:
        """The scheduler of diffusers, set to as many evaluations; PNDM asks twice at its second time."""
        name, options = SAMPLERS[self.sampler]
        scheduler = getattr(diffusers, name)(num_train_timesteps=T, **options)
        scheduler.set_timesteps(self.evaluations - (name == "PNDMScheduler"))
        if len(scheduler.timesteps) != self.evaluations:
            raise ValueError(f"{self.key}: must be {self.evaluations} evaluations, got {len(scheduler.timesteps)}")
        return scheduler

    def tau(self, T: int) -> Tensor:
        """The times at which the network is asked, in 1..T: diffusers' are one less, and Euler's fractions."""
        return (self.scheduler(T).timesteps.round() + 1).long()

    @torch.no_grad()
    def walk(
        self, model: EpsModel, schedule: Schedule, xT: Tensor, generators: Sequence[torch.Generator]
    ) -> Iterator[Step]:
        """Sample from xT as diffusers' pipelines do, and yield the last state alone; none of these draws noise."""
        scheduler = self.scheduler(schedule.T)
        x = xT * float(scheduler.init_noise_sigma)
        for k, t in zip(scheduler.timesteps, self.tau(schedule.T).tolist(), strict=True):
            eps = evaluate(model, scheduler.scale_model_input(x, k), t)
            x = scheduler.step(eps, k, x, return_dict=False)[0]
        yield Step(0, x, x, eps)


def cells(counts: Sequence[int]) -> list[PeerCell | Cell]:
    """What is measured here, cheap ones first; of the book's samplers what ``results`` does not hold yet."""
    return [Cell(1.0, 5), *(PeerCell(sampler, count) for count in sorted(counts) for sampler in SAMPLERS)]


def shared_header(n: int) -> dict[str, Any]:
    """What the book's file says about model, classifier, n and seed; ValueError if the present files are others."""
    found = json.loads(BOOK.read_text())
    present = {
        "model_sha256": file_sha256(WEIGHTS / "mnist.safetensors"),
        "classifier_sha256": file_sha256(classifier_path("mnist")),
    }
    if differing := [key for key, value in present.items() if found[key] != value]:
        raise ValueError(f"{BOOK} was made with another {' and '.join(differing)}; measure it anew first")
    return {key: found[key] for key in SHARED} | {"n": n}


def main() -> None:
    """Measure what the file does not hold yet, and print the table."""
    top = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    top.add_argument("--n", type=int, default=1000, help="images a cell; other than 1000 only to try the script")
    top.add_argument("--evaluations", type=int, nargs="+", default=EVALUATIONS)
    top.add_argument("--batch-size", type=int, default=50, help="changes results by rounding only")
    top.add_argument("--out", type=Path, default=BOOK.with_name("mnist_peers.json"))
    args = top.parse_args()
    torch.set_num_threads(1)
    unet, classifier, header = load_pretrained("mnist"), load_classifier("mnist"), shared_header(args.n)
    real = extract_features(classifier, shuffled_test_set("mnist"))
    measure, grid = Measure(classifier, load_reference("mnist"), real), cells(args.evaluations)
    about = {"command": shlex.join(["python", *sys.argv]), "floor": measure.floor(args.n)}
    about["versions"] = versions() | {"diffusers": diffusers.__version__}
    todo = pending(unet, measure, grid, args.out, header, args.batch_size)
    with tqdm(total=args.n * sum(cell.evaluations for cell in todo), unit="eval", unit_scale=True) as bar:
        options = {"batch_size": args.batch_size, "tell": bar.update}
        result = evaluate_grid(unet, measure, grid, args.out, header, about, **options)
    print(table(result, grid))


if __name__ == "__main__":
    main()
