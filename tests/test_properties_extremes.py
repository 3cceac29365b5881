"""From alpha_bar = 1 - 1e-12 to 1e-12: no NaN, no infinity, and what is exact at 50 digits, within rounding.

A bound of k roundings is k 2^-53 times the size of what is added up; a result that is small beside its terms cannot
be better than that. 1 - alpha_bar_t and alpha_bar_s - alpha_bar_t lose nothing, as long as they are taken of the
numbers as they are given, and not of a quotient that has been rounded.
"""

import math

import mpmath
import pytest
import strategies as draws
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import randn

from ddim_lib import (
    Schedule,
    ddim_coefficients,
    ddim_encode,
    ddim_sample,
    ddim_sigma,
    ddim_step,
    make_tau,
    predict_eps,
    predict_x0,
    q_sample,
    slerp,
)
from ddim_lib.oracle import GaussianMixture, PointSet
from ddim_lib.solvers import adams_bashforth_sample, exponential_sample, heun_sample, sigma_bar

ROUNDING = 2.0**-53
many = settings(max_examples=200)
number = st.just(0.0) | st.floats(1e-6, 4) | st.floats(-4, -1e-6)
share = st.just(0.0) | st.floats(1e-6, 1)
extremes = st.sampled_from([1 - 1e-12, 1e-12]) | draws.alpha_bars()
extreme_pairs = draws.pairs() | st.just((1e-12, 1 - 1e-12))


@pytest.fixture(autouse=True)
def fifty_digits():
    with mpmath.workdps(50):
        yield


def exact(*values):
    return [mpmath.mpf(value) for value in values]


def near(found, wanted, roundings, size=None):
    """Whether a number is that of 50 digits, but for so many roundings of numbers of the given size."""
    return abs(mpmath.mpf(float(found)) - wanted) <= roundings * ROUNDING * abs(wanted if size is None else size)


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


# The marginal


@many
@given(number, number, extremes)
def test_noising_and_both_ways_back_are_exact_within_rounding(x, y, level):
    (ab,) = exact(level)
    signal, std = mpmath.sqrt(ab), mpmath.sqrt(1 - ab)
    terms = [abs(signal * x) + abs(std * y), (abs(x) + abs(std * y)) / signal, (abs(x) + abs(signal * y)) / std]
    wanted = [signal * x + std * y, (x - std * y) / signal, (x - signal * y) / std]
    for operation, value, size in zip((q_sample, predict_x0, predict_eps), wanted, terms, strict=True):
        arguments = (f64(x), level, f64(y)) if operation is q_sample else (f64(x), f64(y), level)
        assert near(operation(*arguments), value, 6, size)


# Coefficients


@many
@given(extreme_pairs, share)
def test_sigma_is_exact_within_rounding(pair, eta):
    ab_t, ab_s = exact(*pair)
    wanted = eta * mpmath.sqrt((1 - ab_s) / (1 - ab_t) * (ab_s - ab_t) / ab_s)
    assert near(ddim_sigma(*pair, eta), wanted, 6)


@many
@given(draws.falling(-12, 12, 10))
def test_beta_is_exact_within_rounding(schedule):
    for t in range(1, schedule.T + 1):
        ab_t, ab_s = exact(*schedule.alpha_bar[[t, t - 1]].tolist())
        assert near(schedule.beta[t], (ab_s - ab_t) / ab_s, 3)


@many
@given(extreme_pairs, share)
def test_coefficients_are_exact_within_rounding(pair, part):
    sigma = part * math.sqrt(1 - pair[1]) * (1 - 1e-15)
    ab_t, ab_s, s = exact(*pair, sigma)
    kept, lost = max(1 - ab_s - s * s, mpmath.mpf(0)), 4 * ROUNDING * (1 - ab_s)
    n = mpmath.sqrt(kept / (1 - ab_t))
    # The root of kept +- lost: what a sigma that takes nearly all leaves is all the less certain.
    error = lost / mpmath.sqrt(max(kept, lost)) / mpmath.sqrt(1 - ab_t) + 3 * ROUNDING * n
    found_m, found_n = ddim_coefficients(*pair, sigma)
    assert abs(found_n.item() - n) <= error
    assert abs(found_m.item() - (mpmath.sqrt(ab_s) - n * mpmath.sqrt(ab_t))) <= error + 4 * ROUNDING * mpmath.sqrt(ab_s)


@many
@given(extreme_pairs, number, number, number, share)
def test_a_step_is_exact_within_rounding(pair, x, eps, noise, part):
    sigma = 0.99 * part * math.sqrt(1 - pair[1])
    ab_t, ab_s, s = exact(*pair, sigma)
    x0, kept = (x - mpmath.sqrt(1 - ab_t) * eps) / mpmath.sqrt(ab_t), mpmath.sqrt(1 - ab_s - s * s)
    wanted = mpmath.sqrt(ab_s) * x0 + kept * eps + s * noise
    size = mpmath.sqrt(ab_s / ab_t) * (abs(x) + abs(eps)) + kept * abs(eps) + s * abs(noise)
    found = ddim_step(f64(x), f64(eps), *pair, sigma, f64(noise))
    assert near(found, wanted, 10, size)
    assert torch.isfinite(ddim_step(f64(x), f64(eps), *reversed(pair), 0.0))  # upwards


@many
@given(draws.walks(low=-12, high=12), st.floats(-3e-12, 3e-12))
def test_an_eta_is_refused_at_once_or_never(walk, more):
    schedule, tau = walk
    eta = draws.largest_eta(schedule, tau) * (1 + more)
    try:
        steps = ddim_sample(lambda xt, t: xt, schedule, randn(1), tau, eta)
    except ValueError:
        assert more > 0
    else:
        assert torch.isfinite(list(steps)[-1].xt).all()


# Walks


DATA = [
    PointSet([[0.5]]),
    PointSet([[-1.0], [0.25], [1.0]]),
    GaussianMixture([[0.0]], [[[1.0]]]),
    GaussianMixture([[-1.0], [0.5]], [[[0.0]], [[0.25]]], [1, 2]),
]


@many
@given(
    draws.walks(low=-12, high=12),
    st.sampled_from(DATA),
    draws.dtypes,
    st.sampled_from([ddim_sample, ddim_encode, heun_sample, adams_bashforth_sample, exponential_sample]),
    st.sampled_from([{"eta": 0.0}, {"eta": 1.0}, {"variance": "sigma_hat"}]),
)
def test_walks_over_extreme_levels_stay_finite(walk, data, dtype, function, kind):
    schedule, tau = walk
    noise = kind | {"generator": torch.Generator().manual_seed(0)} if function is ddim_sample else {}
    for step in function(data.eps_model(schedule), schedule, randn(4, 1, dtype=dtype), tau, **noise):
        for value in (step.xt, step.x0_pred, step.eps):
            assert torch.isfinite(value).all()
            assert value.dtype == dtype


@st.composite
def schedules_with_neighbors_alike(draw):
    """Two neighbors differ by rounding, or by little more."""
    level, gap = draw(draws.alpha_bars(-9, 12)), draw(st.floats(-16, -6))
    neighbor = min(level * (1 - 10**gap), math.nextafter(level, 0))
    return Schedule.from_alpha_bar([1.0, level, neighbor, neighbor / 2])


@many
@given(
    schedules_with_neighbors_alike(),
    st.sampled_from([heun_sample, adams_bashforth_sample, exponential_sample]),
)
def test_times_of_the_same_noise_are_refused_or_do_no_harm(schedule, solve):
    xT, tau, model = randn(4, 1), torch.arange(4), GaussianMixture([[0.0]], [[[1.0]]]).eps_model(schedule)
    try:
        steps = list(solve(model, schedule, xT, tau))
    except ValueError as refusal:
        assert "tau must have times of different noise, got [1, 2]" in str(refusal)  # noqa: PT017
        assert sigma_bar(schedule, tau)[2] / sigma_bar(schedule, tau)[1] < 1 + 1e-8
    else:
        assert steps[-1].xt.abs().max() < 10 * xT.abs().max()  # exactly, it would be x_T


@given(draws.walks(low=-12, high=12), number)
def test_data_that_is_one_point_is_found_from_anywhere(walk, point):
    schedule, tau = walk
    model, xT = PointSet([[point]]).eps_model(schedule), randn(3, 1)
    *_, last = ddim_sample(model, schedule, xT, tau, 1.0, generator=torch.Generator().manual_seed(0))
    # the last step divides by the signal, and the walk kept it in sums of size 1
    assert (last.xt - point).abs().max() <= 100 * ROUNDING * (4 + sigma_bar(schedule, tau)[1].item() * 8) * len(tau)


# Exact estimates


@many
@given(number, extremes, st.floats(0.01, 4), number)
def test_the_estimate_of_a_gaussian_is_exact_within_rounding(x, level, variance, mean):
    schedule = Schedule.from_alpha_bar([1.0, level])
    found = GaussianMixture([[mean]], [[[variance]]]).eps_model(schedule)(f64(x)[:, None], torch.tensor([1]))
    (ab,) = exact(level)
    wanted = mpmath.sqrt(1 - ab) * (x - mpmath.sqrt(ab) * mean) / (ab * variance + 1 - ab)
    assert near(found, wanted, 10, (abs(x) + abs(mean) + variance) / mpmath.sqrt(1 - ab))


@many
@given(number, extremes)
def test_the_estimate_of_two_points_is_exact_within_rounding(x, level):
    schedule = Schedule.from_alpha_bar([1.0, level])
    found = PointSet([[-1.0], [1.0]]).eps_model(schedule)(f64(x)[:, None], torch.tensor([1]))
    (ab,) = exact(level)
    x0 = mpmath.tanh(mpmath.sqrt(ab) * x / (1 - ab))
    wanted = (x - mpmath.sqrt(ab) * x0) / mpmath.sqrt(1 - ab)
    likelihoods = (abs(x) + mpmath.sqrt(ab)) ** 2 / (1 - ab)  # are compared, and x_0 changes by as much
    assert near(found, wanted, 10, (abs(x) + 1 + likelihoods * (1 - x0**2)) / mpmath.sqrt(1 - ab))


@given(draws.seeds, extremes, st.integers(2, 4))
def test_data_on_a_line_has_a_finite_estimate_at_every_level(seed, level, d):
    """Its covariances are singular, but for rounding, which may make them indefinite."""
    schedule, root = Schedule.from_alpha_bar([1.0, level]), randn(2, d, 1, seed=seed)
    covariances = root @ root.mT - 1e-10 * torch.eye(d)
    for x in (randn(3, d, seed=seed), torch.zeros(3, d)):
        eps = GaussianMixture(torch.zeros(2, d), covariances).eps_model(schedule)(x, torch.ones(3, dtype=torch.int64))
        assert torch.isfinite(eps).all()


# Interpolation


@many
@given(draws.shapes, st.floats(-150, 150), st.floats(-150, 150), share, draws.seeds)
def test_interpolation_of_any_lengths_is_finite_and_keeps_to_them(shape, low, high, weight, seed):
    x, y = randn(*shape, seed=seed) * 10**low, randn(*shape, seed=seed + 1) * 10**high
    for a, b in ((x, y), (x, x), (x, -x), (x, 0 * y), (0 * x, 0 * y)):
        found = slerp(a, b, weight)
        longest = torch.maximum(*(z.flatten().abs().max() for z in (a, b)))
        assert torch.isfinite(found).all()
        assert found.abs().max() <= 2 * longest


# Times


@given(st.integers(1, 300).flatmap(lambda T: st.tuples(st.just(T), st.integers(1, T))))
def test_whole_numbers_of_any_type_are_the_same_times(T_S):
    T, S = T_S
    for other in (float, torch.tensor):
        tau = make_tau(other(T), other(S))
        assert tau.dtype == torch.int64
        assert torch.equal(tau, make_tau(T, S))
        assert torch.equal(Schedule.linear(other(T)).alpha_bar, Schedule.linear(T).alpha_bar)
        assert torch.equal(Schedule.cosine(other(T)).alpha_bar, Schedule.cosine(T).alpha_bar)
