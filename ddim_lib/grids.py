"""What is measured: cells of a table, each a way to sample, and the grids that the book's tables are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .paper import STEPS
from .samplers import ddim_sample
from .schedules import Schedule, make_tau
from .solvers import adams_bashforth_sample, exponential_sample, heun_sample
from .unet import EpsModel
from .walks import Step

SOLVERS = {"heun": heun_sample, "adams_bashforth": adams_bashforth_sample, "exponential": exponential_sample}
ROWS = [(0.0, "eta"), (0.2, "eta"), (0.5, "eta"), (1.0, "eta"), (1.0, "sigma_hat")]  # of the paper's Table 1


@dataclass(frozen=True)
class Cell:
    """One way to sample: S steps of ``spacing``, with eta and its variance for ``"ddim"``, without for a solver."""

    eta: float
    S: int
    variance: str = "eta"
    spacing: str = "uniform"
    solver: str = "ddim"

    def __post_init__(self) -> None:
        if self.solver not in ("ddim", *SOLVERS):
            raise ValueError(f"solver must be one of {', '.join(['ddim', *SOLVERS])}, got {self.solver!r}")

    @property
    def row(self) -> str:
        """The row of the table: ``"eta=0.2"``, ``"sigma_hat"``, ``"heun"``; with the spacing if it is not uniform."""
        name = "sigma_hat" if self.variance == "sigma_hat" else f"eta={self.eta:g}"
        name = name if self.solver == "ddim" else self.solver
        return name if self.spacing == "uniform" else f"{name} {self.spacing}"

    @property
    def key(self) -> str:
        """A name for the result file, such as ``"eta=0.2 S=50 uniform"``."""
        return f"{self.row.split()[0]} S={self.S} {self.spacing}"

    @property
    def evaluations(self) -> int:
        """Network evaluations an image."""
        return 2 * self.S - 1 if self.solver == "heun" else self.S

    def tau(self, T: int) -> Tensor:
        """The times to visit; raises ValueError for an S or a spacing that is none."""
        return make_tau(T, self.S, self.spacing)

    def walk(
        self, model: EpsModel, schedule: Schedule, xT: Tensor, generators: Sequence[torch.Generator]
    ) -> Iterator[Step]:
        """Sample from xT (B, ...) in this way; the noise is drawn as :func:`ddim_sample` says."""
        tau = self.tau(schedule.T)
        if self.solver != "ddim":
            return SOLVERS[self.solver](model, schedule, xT, tau)
        return ddim_sample(model, schedule, xT, tau, self.eta, variance=self.variance, generator=generators)


def paper_grid(steps: Sequence[int] = STEPS) -> list[Cell]:
    """The grid of the paper's Table 1 (with uniform tau): cheap cells first."""
    return [Cell(eta, S, variance) for S in _numbers(steps) for eta, variance in ROWS]


def tau_grid(steps: Sequence[int] = (10, 20, 50)) -> list[Cell]:
    """The same S with each spacing of :func:`make_tau`, at eta = 0 and 1."""
    spacings = ("uniform", "leading", "quadratic")
    return [Cell(eta, S, spacing=spacing) for S in _numbers(steps) for eta in (0.0, 1.0) for spacing in spacings]


def solver_grid(evaluations: Sequence[int] = (5, 10, 15, 20)) -> list[Cell]:
    """DDIM and the solvers with as many network evaluations, Heun with one less where the number is even."""
    cells = []
    for count in _numbers(evaluations):
        cells += [Cell(0.0, (count + 1) // 2 if solver == "heun" else count, solver=solver) for solver in SOLVERS]
        cells += [Cell(0.0, count)]
    return cells


GRIDS = {"paper": paper_grid, "tau": tau_grid, "solvers": solver_grid}


def _numbers(steps: Sequence[int]) -> list[int]:
    if not steps:
        raise ValueError("the grid is empty: give at least one number of steps")
    return sorted(set(steps))
