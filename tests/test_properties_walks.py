"""What theory says of every walk: marginals, the way up and down again, and the order of each method."""

import itertools
import math

import mpmath
import pytest
import strategies as draws
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import randn

from ddim_lib import ddim_coefficients, ddim_encode, ddim_sample, ddim_sigma
from ddim_lib.oracle import GaussianMixture, PointSet
from ddim_lib.solvers import adams_bashforth_sample, exponential_sample, heun_sample, sigma_bar

ROUNDING = 2.0**-53


def last_of(steps):
    *_, last = steps
    return last.xt


# Marginals


@settings(max_examples=100)
@given(st.data(), draws.walks(low=-12, high=12))
def test_any_sigmas_along_a_walk_leave_every_marginal_as_it_is(data, walk):
    """The law of x_s given x_0 = 1, from the law of x_t by m, n and sigma, step by step from N(sqrt(ab), 1 - ab)."""
    schedule, tau = walk
    levels = schedule.alpha_bar[tau].flip(0).tolist()
    mean, variance = math.sqrt(levels[0]), 1 - levels[0]
    for steps, (ab_t, ab_s) in enumerate(itertools.pairwise(levels), 1):
        sigma = data.draw(st.floats(0, 1)) * math.sqrt(1 - ab_s) * (1 - 1e-9)
        m, n = (c.item() for c in ddim_coefficients(ab_t, ab_s, sigma))
        mean, variance = m + n * mean, n**2 * variance + sigma**2
        assert abs(mean - math.sqrt(ab_s)) < 100 * steps * ROUNDING
        assert abs(variance - (1 - ab_s)) <= 10 * steps * ROUNDING * (1 - ab_s)


@settings(max_examples=100)
@given(draws.walks(low=-12, high=12), st.floats(0, 1))
def test_every_eta_leaves_every_marginal_as_it_is(walk, share):
    schedule, tau = walk
    eta = share * draws.largest_eta(schedule, tau)
    for ab_s, ab_t in itertools.pairwise(schedule.alpha_bar[tau].tolist()):
        sigma = ddim_sigma(ab_t, ab_s, eta)
        _, n = ddim_coefficients(ab_t, ab_s, sigma)
        assert abs(n**2 * (1 - ab_t) + sigma**2 - (1 - ab_s)) <= 20 * ROUNDING * (1 - ab_s)


@given(draws.walks(low=-3, high=3), st.floats(0, 1), st.floats(-1, 1), draws.seeds)
def test_sampled_states_have_mean_and_variance_of_the_marginal(walk, eta, point, seed):
    """Of 20,000 walks. A right sampler fails with a chance below 1e-6 for each of 2 figures at each time of a walk."""
    schedule, tau = walk
    count, generator = 20_000, torch.Generator().manual_seed(seed)
    noise = torch.randn(count, dtype=torch.float64, generator=generator)
    ab_T = schedule.alpha_bar[tau[-1]]
    xT, model = ab_T.sqrt() * point + (1 - ab_T).sqrt() * noise, PointSet([[point]]).eps_model(schedule)
    for step in ddim_sample(model, schedule, xT, tau, eta, generator=generator):
        if step.t > 0:
            ab = schedule.alpha_bar[step.t]
            z = (step.xt - ab.sqrt() * point) / (1 - ab).sqrt()
            assert abs(z.mean()) < 5 / math.sqrt(count)
            assert abs(z.square().mean() - 1) < 5 * math.sqrt(2 / count)


# Up and down again


def there_and_back(model, schedule, x0, tau):
    return last_of(ddim_sample(model, schedule, last_of(ddim_encode(model, schedule, x0, tau)), tau))


@settings(max_examples=100)
@given(draws.walks(), draws.shapes, draws.seeds)
def test_an_image_comes_back_exactly_if_the_estimate_is_constant(walk, shape, seed):
    schedule, tau = walk
    x0, eps = randn(*shape, seed=seed), randn(*shape, seed=seed + 1)
    back = there_and_back(lambda xt, t: eps, schedule, x0, tau)
    size = x0.abs().max() + eps.abs().max() * (1 + sigma_bar(schedule, tau)[-1])
    assert (back - x0).abs().max() <= 20 * len(tau) * ROUNDING * size


@settings(max_examples=100)
@given(draws.walks(), st.floats(0.01, 4), st.floats(0.01, 3))
def test_data_of_one_gaussian_comes_back_scaled_by_the_product_of_eulers_factors(walk, variance, x0):
    schedule, tau = walk
    model = GaussianMixture([[0.0]], [[[variance]]]).eps_model(schedule)
    back = there_and_back(model, schedule, torch.tensor([[x0]], dtype=torch.float64), tau).item()
    with mpmath.workdps(50):
        alpha_bar = [mpmath.mpf(ab) for ab in schedule.alpha_bar[tau].tolist()]
        level = [mpmath.sqrt((1 - ab) / ab) for ab in alpha_bar]
        slope = [sigma / (variance + sigma**2) for sigma in level]  # of the estimate, in x_bar
        ab_1 = mpmath.mpf(schedule.alpha_bar[1].item())
        slope[0] = mpmath.sqrt(1 - ab_1) / (ab_1 * variance + 1 - ab_1)  # at time 0 the model is asked about time 1
        factor = mpmath.mpf(1)
        for i in range(1, len(level)):
            h = level[i] - level[i - 1]
            factor *= (1 + h * slope[i - 1]) * (1 - h * slope[i])
        assert abs(back - factor * x0) <= 1e-9 * abs(x0) * max(1, abs(factor))


@settings(max_examples=5)
@given(draws.mixtures(), draws.seeds)
def test_the_error_of_encoding_then_decoding_halves_with_the_steps(data, seed):
    schedule, x0 = draws.log_uniform(321), data.sample(8, torch.Generator().manual_seed(seed))
    model = data.eps_model(schedule)
    errors = [(there_and_back(model, schedule, x0, halved(320, S)) - x0).square().mean().sqrt() for S in (40, 80, 160)]
    for coarse, fine in itertools.pairwise(errors):
        assert 1.6 < coarse / fine < 2.5
    assert errors[-1] < 0.2


# Order


def halved(T, S):
    """S steps of one factor of sigma_bar, from T + 1 down to time 1, and the step to 0."""
    return torch.cat([torch.tensor([0]), 1 + torch.arange(S + 1) * T // S])


@pytest.mark.parametrize(
    ("solve", "order"),
    [(ddim_sample, 1), (heun_sample, 2), (adams_bashforth_sample, 2), (exponential_sample, 2)],
    ids=lambda value: getattr(value, "__name__", ""),
)
@settings(max_examples=5)
@given(draws.mixtures(), draws.seeds)
def test_halving_the_steps_shows_the_order_of_the_method_on_any_mixture(solve, order, data, seed):
    """Without the last step, to sigma_bar = 0, which is Euler's in all of them but one."""
    schedule = draws.log_uniform(321)
    model, xT, ends = data.eps_model(schedule), randn(8, data.means.shape[1], seed=seed), []
    for S in (40, 80, 160):
        *_, before, _ = solve(model, schedule, xT, halved(320, S))
        ends.append(before.xt)
    coarse, fine = ((a - b).square().mean().sqrt().item() for a, b in itertools.pairwise(ends))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)
