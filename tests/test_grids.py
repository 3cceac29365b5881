import pytest
import torch

from ddim_lib import Schedule, ddim_sample, make_tau
from ddim_lib.grids import GRIDS, SOLVERS, Cell, paper_grid, solver_grid, tau_grid


def test_the_grid_of_the_paper_has_five_rows_and_cheap_cells_first():
    cells = paper_grid()
    assert len({cell.key for cell in cells}) == len(cells) == 25
    assert [cell.S for cell in cells] == sorted(cell.S for cell in cells)
    assert {cell.S for cell in cells} == {10, 20, 50, 100, 1000}
    assert [cell.key for cell in cells[:5]] == [
        "eta=0 S=10 uniform",
        "eta=0.2 S=10 uniform",
        "eta=0.5 S=10 uniform",
        "eta=1 S=10 uniform",
        "sigma_hat S=10 uniform",
    ]


def test_the_grid_of_conventions_has_every_spacing_at_every_number_of_steps():
    cells = tau_grid()
    assert len({cell.key for cell in cells}) == len(cells) == 18
    assert {(cell.S, cell.spacing) for cell in cells} == {
        (S, spacing) for S in (10, 20, 50) for spacing in ("uniform", "leading", "quadratic")
    }
    for cell in cells:
        assert len(cell.tau(1000)) == cell.S + 1
    assert Cell(1.0, 20, spacing="leading").row == "eta=1 leading"


@pytest.mark.parametrize("evaluations", [1, 2, 5, 10, 20])
def test_solvers_are_compared_at_equal_cost(evaluations):
    cells = solver_grid([evaluations])
    assert [cell.solver for cell in cells] == ["heun", "adams_bashforth", "exponential", "ddim"]
    for cell in cells:
        calls = []

        def model(xt, t, calls=calls):
            calls.append(len(xt))
            return 0.1 * xt

        list(cell.walk(model, Schedule.linear(1000), torch.randn(2, 3), None))
        assert len(calls) == cell.evaluations
        assert evaluations - len(calls) == (cell.solver == "heun" and evaluations % 2 == 0)


def test_a_walk_is_the_samplers():
    schedule, xT = Schedule.linear(1000), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    for cell, options in {
        Cell(0.3, 7, spacing="quadratic"): {"eta": 0.3},
        Cell(1.0, 7, "sigma_hat", spacing="quadratic"): {"eta": 1.0, "variance": "sigma_hat"},
    }.items():
        walks = [
            ddim_sample(lambda xt, t: 0.1 * xt, schedule, xT, make_tau(1000, 7, "quadratic"), **options, generator=g)
            if sampler
            else cell.walk(lambda xt, t: 0.1 * xt, schedule, xT, g)
            for sampler, g in ((sampler, [torch.Generator().manual_seed(1)]) for sampler in (False, True))
        ]
        (*_, found), (*_, wanted) = walks
        assert torch.equal(found.xt, wanted.xt)


def test_steps_in_any_order_and_twice_make_the_same_grid():
    for grid in GRIDS.values():
        assert grid((20, 10, 20)) == grid((10, 20))


@pytest.mark.parametrize("name", GRIDS)
def test_an_empty_grid_is_refused(name):
    with pytest.raises(ValueError, match="the grid is empty: give at least one number of steps"):
        GRIDS[name](())


def test_an_unknown_solver_is_refused():
    message = f"solver must be one of ddim, {', '.join(SOLVERS)}, got 'euler'"
    with pytest.raises(ValueError, match=message):
        Cell(0.0, 5, solver="euler")
