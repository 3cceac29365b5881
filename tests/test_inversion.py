import json
import math

import pytest
import torch

from ddim_lib import UNet, make_tau
from ddim_lib.inversion import FIELDS, inversion_table, reconstruction_error, summary
from ddim_lib.oracle import GaussianMixture, PointSet
from ddim_lib.paper import TABLE_2
from ddim_lib.results import load_cells
from ddim_lib.weights import json_sha256


@pytest.fixture
def model(tiny_config):
    torch.manual_seed(0)
    return UNet(tiny_config).eval().requires_grad_(False)


@pytest.fixture
def images():
    return torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1


def plane():
    data = GaussianMixture([[-1.0, 0.0], [1.0, 0.5]], [[[0.25, 0.1], [0.1, 0.3]], [[0.2, 0.0], [0.0, 0.25]]], [1, 2])
    return data, data.sample(40, torch.Generator().manual_seed(0))


# The error


def test_the_squared_error_falls_like_the_square_of_1_over_S(linear):
    data, x0 = plane()
    model = data.eps_model(linear)
    errors = [reconstruction_error(model, linear, x0, S).mean().item() for S in (50, 100, 200)]
    slopes = [math.log(errors[i + 1] / errors[i]) / math.log(2) for i in range(2)]
    assert all(-2.2 < slope < -1.8 for slope in slopes)
    assert errors[-1] < 1e-4


def test_a_single_point_is_reconstructed_exactly(linear):
    points = torch.tensor([[0.5, -0.25, 1.0]])
    model = PointSet(points).eps_model(linear)
    assert reconstruction_error(model, linear, points.double(), 7).max() < 1e-15


def test_the_scale_is_that_of_pixels_in_0_to_1(two_steps):
    """The estimate is 1 at time 1 and 0 at time 2. Up to time 2 and down again shifts x by a number known by heart."""

    def model(xt, t):
        return torch.where(t == 1, 1.0, 0.0).to(xt)[:, None].expand_as(xt)

    found = reconstruction_error(model, two_steps, torch.zeros(2, 5, dtype=torch.float64), 1)
    shift = math.sqrt(0.75) / 0.5  # sigma_bar of time 2, times the estimate on the way up, less nothing on the way down
    assert found.tolist() == pytest.approx([(shift / 2) ** 2] * 2)


def test_errors_are_one_for_each_image_in_float64_and_do_not_depend_on_batches(linear):
    data, x0 = plane()
    model = data.eps_model(linear)
    found = reconstruction_error(model, linear, x0[:5].float(), 10)
    assert (found.shape, found.dtype) == ((5,), torch.float64)
    in_twos = reconstruction_error(model, linear, x0[:5].float(), 10, batch_size=2)
    torch.testing.assert_close(in_twos, found, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"S": 0}, r"S must be a whole number in 1..T = 1..40, got 0"),
        ({"S": 41}, r"got 41"),
        (
            {"images": torch.zeros(0, 3)},
            r"images must be floating point \(N, ...\), got torch.float32 of shape \(0, 3\)",
        ),
        ({"images": torch.zeros(2, 3, dtype=torch.uint8)}, r"got torch.uint8"),
        ({"images": torch.zeros(3)}, r"of shape \(3,\)"),
        ({"batch_size": 0}, r"batch_size must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_refused(short, arguments, message):
    defaults = {"images": torch.zeros(2, 3), "S": 4, "batch_size": 2}
    with pytest.raises(ValueError, match=message):
        reconstruction_error(lambda x, t: x, short, **(defaults | arguments))


def test_summary_is_the_mean_and_its_standard_error():
    assert summary(torch.tensor([1.0, 3.0]).double()) == pytest.approx({"n": 2, "mse": 2.0, "mse_error": 1.0})


# The table


def test_the_table_is_written_cell_by_cell_and_taken_up_again(model, images, tmp_path):
    path, header, told = tmp_path / "table.json", {"n": 3, "model": "tiny"}, []
    first = inversion_table(model, images, [4], path, header, told.append, about={"command": "one"}, batch_size=2)
    assert sum(told) == 3 * first["cells"]["S=4"]["evaluations"] == 3 * 9
    before = path.read_text()
    result = inversion_table(
        model, images, [4, 2, 2], path, header, told.append, about={"command": "two"}, batch_size=2
    )
    assert sum(told) == 3 * (9 + 5)  # S = 4 was not measured again
    assert result["cells"]["S=4"] == json.loads(before)["cells"]["S=4"]
    assert json.loads(path.read_text()) == result | {"json_sha256": json_sha256(result)}
    assert (result["command"], result["n"], result["model"]) == ("two", 3, "tiny")


def test_a_cell_holds_what_the_function_measures(model, images, tmp_path, linear):
    cell = inversion_table(model, images, [3], tmp_path / "table.json", {"n": 3})["cells"]["S=3"]
    expected = summary(reconstruction_error(model, linear, images, 3))
    assert {key: cell[key] for key in expected} == expected
    assert cell["S"] == 3
    assert cell["seconds"] >= 0
    assert "CPU" in cell["hardware"]


def test_a_run_that_is_killed_keeps_the_finished_cells(model, images, tmp_path):
    path, calls = tmp_path / "table.json", []

    def killer(count):
        calls.append(count)
        if len(calls) > 6:  # S = 2 takes 5 evaluations
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inversion_table(model, images, [4, 2], path, {"n": 3}, killer)
    assert list(load_cells(path, {"n": 3}, FIELDS)) == ["S=2"]
    assert [p.name for p in tmp_path.iterdir()] == ["table.json"]


def test_a_file_of_another_header_is_refused_and_left_alone(model, images, tmp_path):
    path = tmp_path / "table.json"
    inversion_table(model, images, [2], path, {"n": 3, "model": "tiny"})
    before = path.read_text()
    with pytest.raises(ValueError, match="made with model = 'tiny' instead of 'other'"):
        inversion_table(model, images, [2], path, {"n": 3, "model": "other"})
    assert path.read_text() == before


@pytest.mark.parametrize("text", ["", "{}", '{"n": 3, "cells": {"S=2": {}}}'])
def test_a_damaged_file_is_refused(model, images, tmp_path, text):
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="is damaged"):
        inversion_table(model, images, [2], path, {"n": 3})


@pytest.mark.parametrize(
    ("steps", "count", "n", "message"),
    [
        ([], 3, 3, "the table is empty"),
        ([2, 1001], 3, 3, "got 1001"),
        ([2], 1, 1, "N >= 2"),
        ([2], 3, 20, "header says n = 20, but there are 3 images"),
    ],
)
def test_a_table_that_cannot_be_made_is_refused_before_anything_is_measured(
    model, images, tmp_path, steps, count, n, message
):
    with pytest.raises(ValueError, match=message):
        inversion_table(model, images[:count], steps, tmp_path / "table.json", {"n": n})
    assert list(tmp_path.iterdir()) == []


def test_the_papers_grid_is_possible_for_a_thousand_steps():
    assert [len(make_tau(1000, S)) - 1 for S in TABLE_2] == [10, 20, 50, 100, 200, 500, 1000]
