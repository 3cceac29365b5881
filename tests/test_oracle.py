import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddim_lib import Schedule, q_sample
from ddim_lib.oracle import GaussianMixture, PointSet

MEANS = [[-1.0, 0.25], [0.5, -0.5], [1.0, 1.0]]
COVARIANCES = [[[0.3, 0.1], [0.1, 0.2]], [[0.05, 0.0], [0.0, 0.4]], [[0.1, -0.08], [-0.08, 0.1]]]
WEIGHTS = [1.0, 2.0, 5.0]


def ask(data, schedule, xt, t):
    xt = torch.as_tensor(xt, dtype=torch.float64)
    return data.eps_model(schedule)(xt, torch.full((len(xt),), t))


@given(st.floats(-3, 3), st.integers(1, 1000))
def test_eps_of_a_single_gaussian_is_the_closed_form_at_50_digits(x, t):
    schedule = Schedule.linear(1000)
    found = ask(GaussianMixture([[0.5]], [[[0.16]]]), schedule, [[x]], t).item()
    with mpmath.workdps(50):
        ab = mpmath.mpf(schedule.alpha_bar[t].item())
        marginal_variance = ab * mpmath.mpf(0.16) + 1 - ab
        exact = mpmath.sqrt(1 - ab) * (x - mpmath.sqrt(ab) * mpmath.mpf("0.5")) / marginal_variance
        assert abs(found - exact) < 1e-10


@pytest.mark.parametrize("t", [1, 100, 500, 1000])
@pytest.mark.parametrize("x", [(0.3, -0.2), (-1.5, 1.0)])
def test_eps_of_a_mixture_is_the_numerical_slope_of_its_log_density(linear, t, x):
    found = ask(GaussianMixture(MEANS, COVARIANCES, WEIGHTS), linear, [x], t)[0].tolist()
    with mpmath.workdps(50):
        ab = mpmath.mpf(linear.alpha_bar[t].item())

        def log_density(u, v):
            density = mpmath.mpf(0)
            for (mu, mv), ((a, b), (_, d)), weight in zip(MEANS, COVARIANCES, WEIGHTS, strict=True):
                a, b, d = ab * a + 1 - ab, ab * mpmath.mpf(b), ab * d + 1 - ab
                du, dv, det = u - mpmath.sqrt(ab) * mu, v - mpmath.sqrt(ab) * mv, a * d - b * b
                density += weight * mpmath.exp(-(d * du**2 - 2 * b * du * dv + a * dv**2) / det / 2) / mpmath.sqrt(det)
            return mpmath.log(density)

        for axis, value in zip([(1, 0), (0, 1)], found, strict=True):
            slope = mpmath.diff(log_density, tuple(map(mpmath.mpf, x)), axis)
            assert abs(value + mpmath.sqrt(1 - ab) * slope) < 1e-10


@given(st.floats(-2, 2), st.integers(1, 1000))
def test_two_points_give_the_hyperbolic_tangent(x, t):
    # E[x_0 | x_t] = tanh(sqrt(alpha_bar_t) x_t / (1 - alpha_bar_t)) for data that is 1 or -1 with equal chances
    schedule = Schedule.linear(1000)
    found = ask(PointSet([[-1.0], [1.0]]), schedule, [[x]], t).item()
    with mpmath.workdps(50):
        ab = mpmath.mpf(schedule.alpha_bar[t].item())
        x0 = mpmath.tanh(mpmath.sqrt(ab) * x / (1 - ab))
        assert abs(found - (x - mpmath.sqrt(ab) * x0) / mpmath.sqrt(1 - ab)) < 1e-9


@pytest.mark.parametrize("t", [1, 10, 300, 1000])
def test_a_point_is_a_gaussian_without_spread(linear, t):
    points = torch.tensor(MEANS, dtype=torch.float64)
    mixture, xt = GaussianMixture(points, torch.zeros(3, 2, 2)), torch.linspace(-1, 1, 10).view(5, 2)
    torch.testing.assert_close(ask(PointSet(points), linear, xt, t), ask(mixture, linear, xt, t), rtol=0, atol=1e-9)


def test_one_point_gives_back_the_very_noise(linear):
    generator = torch.Generator().manual_seed(0)
    point, noise = torch.rand(1, 4, dtype=torch.float64), torch.randn(9, 4, dtype=torch.float64, generator=generator)
    for t in (1, 2, 500, 1000):
        xt = q_sample(point.expand(9, 4), linear.alpha_bar[t], noise)
        torch.testing.assert_close(ask(PointSet(point), linear, xt, t), noise, rtol=0, atol=1e-12)


def test_points_far_apart_do_not_overflow(linear):
    eps = ask(PointSet([[-1e3], [1e3]]), linear, [[999.9], [0.0]], 1)
    assert torch.isfinite(eps).all()


def test_many_points_far_from_the_origin_are_told_apart_as_well_as_near_it(linear):
    points = torch.arange(50, dtype=torch.float64)[:, None] / 100
    shift, xt = 2.0**13, torch.tensor([[0.123], [0.3], [0.48]], dtype=torch.float64)
    far = ask(PointSet(points + shift), linear, xt + shift * linear.alpha_bar[1].sqrt(), 1)
    torch.testing.assert_close(far, ask(PointSet(points), linear, xt, 1), rtol=0, atol=1e-8)


def test_each_sample_has_its_own_time(linear):
    model = GaussianMixture(MEANS, COVARIANCES, WEIGHTS).eps_model(linear)
    xt, t = torch.linspace(-1, 1, 6, dtype=torch.float64).view(3, 2), torch.tensor([1, 500, 1000])
    rows = torch.cat([model(xt[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(model(xt, t), rows, rtol=0, atol=1e-14)


@pytest.mark.parametrize("data", [PointSet(torch.rand(3, 4)), GaussianMixture(torch.rand(1, 4), torch.eye(4)[None])])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_keep_their_shape_and_dtype(device, linear, data, dtype):
    xt = torch.rand(2, 1, 2, 2, dtype=dtype, device=device)
    eps = data.eps_model(linear)(xt, torch.tensor([5, 900], device=device))
    assert (eps.shape, eps.dtype, eps.device) == (xt.shape, dtype, xt.device)


def test_samples_have_the_mixtures_mean_and_covariance():
    n = 20_000
    data = GaussianMixture([[1.0, 0.5], [-1.0, 0.0]], [[[0.3, 0.1], [0.1, 0.2]]] * 2, [1, 3])
    x = data.sample(n, torch.Generator().manual_seed(0))
    assert x.mean(0).tolist() == pytest.approx([-0.5, 0.125], abs=4 * math.sqrt(1.05 / n))
    # within, plus 3 / 16 of (2, 0.5) (2, 0.5)^T between the components
    assert x.mT.cov().flatten().tolist() == pytest.approx(
        [1.05, 0.2875, 0.2875, 0.246875], abs=5 * 1.05 * (2 / n) ** 0.5
    )


def test_samples_come_from_the_given_generator_only():
    data, before = GaussianMixture(MEANS, COVARIANCES), torch.get_rng_state()
    first, second = (data.sample(5, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_are_scaled_to_sum_to_1_and_default_to_equal():
    assert GaussianMixture(MEANS, COVARIANCES, WEIGHTS).weights.tolist() == [0.125, 0.25, 0.625]
    assert GaussianMixture(MEANS[:2], COVARIANCES[:2]).weights.tolist() == [0.5, 0.5]


def test_whole_numbers_and_lists_are_taken_for_float64():
    mixture, points = GaussianMixture([[0]], [[[1]]], [2]), PointSet([[0, 1]])
    assert {part.dtype for part in (mixture.means, mixture.covariances, mixture.weights, points.points)} == {
        torch.float64
    }


@pytest.mark.parametrize("data", [PointSet([[0.0]]), GaussianMixture([[0.0]], [[[1.0]]])])
@pytest.mark.parametrize("t", [0, -1, 1001])
def test_a_time_outside_1_to_T_is_refused(linear, data, t):
    with pytest.raises(ValueError, match=rf"t must lie in 1..T = 1..1000, got \[{t}\]"):
        ask(data, linear, [[0.5]], t)


@pytest.mark.parametrize("data", [PointSet([[0.0]]), GaussianMixture([[0.0]], [[[1.0]]])])
def test_a_state_of_another_size_is_refused(linear, data):
    with pytest.raises(ValueError, match=r"xt must hold 1 numbers a sample, got shape \(1, 2\)"):
        ask(data, linear, [[0.5, 0.5]], 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.0], [[[1.0]]]), r"means must have shape \(K, D\), got \(1,\)"),
        (([[0.0]], [[1.0]]), r"covariances must have shape \(1, 1, 1\), got \(1, 1\)"),
        (([[0.0]], [[[1.0]]], [0.5, 0.5]), r"weights must be 1 positive numbers, got \[0.5, 0.5\]"),
        (([[0.0]], [[[1.0]]], [0.0]), r"weights must be 1 positive numbers, got \[0.0\]"),
        (([[0.0]], [[[1.0]]], [math.nan]), r"weights must be 1 positive numbers, got \[nan\]"),
        (([[0.0]], [[[-1.0]]]), "every covariance must be symmetric and positive"),
        (([[0.0, 0.0]], [[[1.0, 0.5], [0.0, 1.0]]]), "every covariance must be symmetric and positive"),
        (([[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]]), "every covariance must be symmetric and positive"),
    ],
)
def test_a_mixture_that_is_none_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(*arguments)


@pytest.mark.parametrize("points", [torch.zeros(3), torch.zeros(0, 2)])
def test_a_point_set_without_points_is_refused(points):
    with pytest.raises(ValueError, match=r"points must have shape \(K, D\) with K >= 1"):
        PointSet(points)


def test_a_covariance_that_is_indefinite_by_rounding_loses_its_negative_spread():
    spreads = torch.tensor([[-1e-10, 1.0], [4.0, -1e-10]], dtype=torch.float64)
    found = GaussianMixture(torch.zeros(2, 2), torch.diag_embed(spreads))
    torch.testing.assert_close(found.covariances, torch.diag_embed(spreads.clamp(min=0)), atol=1e-15, rtol=0)


def test_a_state_may_be_one_number(linear):
    model = GaussianMixture([[-1.0], [1.0]], [[[0.1]], [[0.2]]]).eps_model(linear)
    x, t = torch.tensor([0.5, -2.0]), torch.tensor([10, 500])
    assert model(x, t).tolist() == model(x.unsqueeze(1), t).flatten().tolist()
