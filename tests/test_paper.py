"""The claims of Song, Meng & Ermon, "Denoising Diffusion Implicit Models" (ICLR 2021), by number.

Their alpha is alpha_bar here. Claims about trained networks' scores are not here: they need more than a test's time.
"""

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddim_lib import (
    ddim_coefficients,
    ddim_encode,
    ddim_sample,
    ddim_sigma,
    ddim_step,
    make_tau,
    predict_eps,
    predict_x0,
    q_sample,
)
from ddim_lib.oracle import GaussianMixture

pairs = st.tuples(st.floats(1e-4, 0.98), st.floats(1e-4, 0.98)).filter(lambda p: p[1] - p[0] > 1e-2)


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture(scope="module")
def mixture():
    return GaussianMixture([[-1.0, 0.0], [1.0, 0.5]], [[[0.25, 0.1], [0.1, 0.3]], [[0.2, 0.0], [0.0, 0.25]]], [1, 2])


def latents(count=32):
    return torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def sample(model, schedule, xT, S, eta=0.0, seed=1):
    *_, last = ddim_sample(
        model, schedule, xT, make_tau(schedule.T, S), eta, generator=torch.Generator().manual_seed(seed)
    )
    return last.xt


@given(pairs, st.floats(0, 1), st.floats(-2, 2))
def test_lemma_1_every_sigma_leaves_the_marginals_as_they_are(pair, share, x0):
    ab_t, ab_s = pair
    sigma = share * math.sqrt(1 - ab_s) * (1 - 1e-9)
    m, n = (c.item() for c in ddim_coefficients(ab_t, ab_s, sigma))
    with mpmath.workdps(50):  # push N(sqrt(ab_t) x_0, 1 - ab_t) through x_s = m x_0 + n x_t + sigma z
        mean = m * x0 + n * mpmath.sqrt(ab_t) * x0
        variance = mpmath.mpf(n) ** 2 * (1 - mpmath.mpf(ab_t)) + mpmath.mpf(sigma) ** 2
        assert abs(mean - mpmath.sqrt(ab_s) * x0) < 1e-13
        assert abs(variance - (1 - mpmath.mpf(ab_s))) < 1e-13


def test_lemma_1_along_a_whole_walk_with_random_sigmas(linear):
    n, x0, generator = 50_000, 0.7, torch.Generator().manual_seed(0)
    clean = torch.full((n,), x0, dtype=torch.float64)
    tau = make_tau(1000, 8)
    x = q_sample(clean, linear.alpha_bar[1000], torch.randn(n, dtype=torch.float64, generator=generator))
    for i in range(8, 1, -1):
        ab_t, ab_s = linear.alpha_bar[tau[i]], linear.alpha_bar[tau[i - 1]]
        sigma = torch.rand(1, dtype=torch.float64, generator=generator)[0] * (1 - ab_s).sqrt()
        noise = torch.randn(n, dtype=torch.float64, generator=generator)
        x = ddim_step(x, predict_eps(x, clean, ab_t), ab_t, ab_s, sigma, noise)
        spread = math.sqrt(1 - ab_s)
        assert abs(x.mean().item() - math.sqrt(ab_s) * x0) < 4.5 * spread / math.sqrt(n)
        assert abs(x.var().item() / spread**2 - 1) < 4.5 * math.sqrt(2 / n)


@given(pairs, st.floats(0, 1), st.floats(-2, 2), st.floats(-2, 2))
def test_equation_7_and_equation_12_are_one_step_in_two_forms(pair, eta, x0, eps):
    ab_t, ab_s = pair
    xt, sigma = q_sample(f64(x0), ab_t, f64(eps)), ddim_sigma(*pair, eta)
    m, n = ddim_coefficients(ab_t, ab_s, sigma)  # eq. 7 gives the mean as m x_0 + n x_t
    found = ddim_step(xt, f64(eps), ab_t, ab_s, sigma, f64(0.0))
    assert found.item() == pytest.approx((m * x0 + n * xt).item(), abs=1e-12)


@given(pairs, st.floats(-2, 2), st.floats(-2, 2))
def test_equation_9_is_the_mean_at_time_0(pair, xt, eps):
    step = ddim_step(f64(xt), f64(eps), pair[0], 1.0, 0.0)
    assert step.item() == predict_x0(f64(xt), f64(eps), pair[0]).item()


def test_section_4_1_sigma_0_makes_the_samples_a_function_of_x_T(linear, mixture):
    model, xT = mixture.eps_model(linear), latents(4)
    assert torch.equal(sample(model, linear, xT, 10, 0.0, seed=1), sample(model, linear, xT, 10, 0.0, seed=2))
    assert not torch.equal(sample(model, linear, xT, 10, 1.0, seed=1), sample(model, linear, xT, 10, 1.0, seed=2))


@given(pairs, st.floats(-3, 3), st.floats(-3, 3))
def test_equation_13_ddim_is_the_euler_method_in_x_bar_over_sigma_bar(pair, xt, eps):
    found = ddim_step(f64(xt), f64(eps), *pair, 0.0).item()
    with mpmath.workdps(50):
        (ab_t, ab_s), sqrt = map(mpmath.mpf, pair), mpmath.sqrt
        sigma_bar_t, sigma_bar_s = sqrt((1 - ab_t) / ab_t), sqrt((1 - ab_s) / ab_s)
        x_bar_s = xt / sqrt(ab_t) + (sigma_bar_s - sigma_bar_t) * eps
        assert abs(found - sqrt(ab_s) * x_bar_s) < 1e-12


def test_equation_14_the_ode_of_a_gaussian_has_its_closed_solution(linear):
    # d x_bar / d sigma_bar = sigma_bar x_bar / (c^2 + sigma_bar^2): x_bar grows like sqrt(c^2 + sigma_bar^2)
    c, xT = 0.5, f64(-2.0, -0.5, 0.1, 1.5)[:, None]
    model = GaussianMixture([[0.0]], [[[c**2]]]).eps_model(linear)
    sigma_bar_squared = 1 / linear.alpha_bar[1000].item() - 1
    exact = xT / math.sqrt(linear.alpha_bar[1000].item()) * c / math.sqrt(c**2 + sigma_bar_squared)
    errors = [(sample(model, linear, xT, S) / exact - 1).abs().max().item() for S in (10, 100, 1000)]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[2] < 5e-3


@given(pairs)
def test_equation_16_eta_1_has_ddpms_variance_and_eta_0_none(pair):
    with mpmath.workdps(50):
        ab_t, ab_s = map(mpmath.mpf, pair)
        variance = (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)
        assert abs(ddim_sigma(*pair, 1.0).item() ** 2 - variance) < 1e-13
    assert ddim_sigma(*pair, 0.0) == 0


def test_section_5_sigma_hat_on_all_times_is_ddpms_larger_variance(linear):
    # Between neighbours 1 - alpha_bar_t / alpha_bar_s is beta_t; seen on a model that says 0, from x_T = 0
    n = 4000
    xT = torch.zeros(n, 1, dtype=torch.float64)
    steps = ddim_sample(
        lambda xt, t: torch.zeros_like(xt),
        linear,
        xT,
        make_tau(1000, 1000),
        variance="sigma_hat",
        generator=torch.Generator().manual_seed(0),
    )
    next(steps)
    beta_T = 0.02
    assert next(steps).xt.var().item() == pytest.approx(beta_T, rel=5 * math.sqrt(2 / n))


def test_section_5_sigma_hat_is_larger_than_sigma_of_eta_1(two_steps):
    spread, n = [], 4000
    for kind in ({"eta": 1.0}, {"variance": "sigma_hat"}):
        steps = ddim_sample(
            lambda xt, t: torch.zeros_like(xt),
            two_steps,
            torch.zeros(n, 1, dtype=torch.float64),
            make_tau(2, 2),
            **kind,
            generator=torch.Generator().manual_seed(0),
        )
        next(steps)
        spread.append(next(steps).xt.var().item())
    # beta_tilde = 0.36 / 0.75 * (1 - 0.25 / 0.64), and 1 - 0.25 / 0.64 without the factor
    assert spread == pytest.approx([0.2925, 0.609375], rel=5 * math.sqrt(2 / n))


@pytest.mark.parametrize("S", [10, 20, 50])
def test_section_5_2_samples_from_one_x_T_agree_over_S(linear, mixture, S):
    model, xT = mixture.eps_model(linear), latents()
    fine, coarse = sample(model, linear, xT, 500), sample(model, linear, xT, S)
    unrelated = (fine - fine.roll(1, 0)).square().mean().sqrt()
    assert (coarse - fine).square().mean().sqrt() < unrelated * 3 / S


def test_section_5_2_samples_of_ddpm_do_not_agree_over_S(linear, mixture):
    model, xT = mixture.eps_model(linear), latents()
    fine, coarse = (sample(model, linear, xT, S, eta=1.0) for S in (500, 50))
    unrelated = (fine - fine.roll(1, 0)).square().mean().sqrt()
    assert (coarse - fine).square().mean().sqrt() > unrelated / 2


def test_table_2_the_reconstruction_error_falls_with_every_larger_S(linear, mixture):
    model, x0, errors = mixture.eps_model(linear), mixture.sample(32, torch.Generator().manual_seed(0)), []
    for S in (10, 20, 50, 100, 200, 500):
        tau = make_tau(1000, S)
        *_, encoded = ddim_encode(model, linear, x0, tau)
        *_, decoded = ddim_sample(model, linear, encoded.xt, tau)
        errors.append((decoded.xt - x0).square().mean().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 100


def test_section_4_3_encoded_data_is_standard_gaussian(linear, mixture):
    n = 1000
    x0 = mixture.sample(n, torch.Generator().manual_seed(0))
    *_, encoded = ddim_encode(mixture.eps_model(linear), linear, x0, make_tau(1000, 100))
    covariance = encoded.xt.mT.cov()
    assert encoded.xt.mean(0).abs().max() < 5 / math.sqrt(n)
    assert (covariance - torch.eye(2)).abs().max() < 5 * math.sqrt(2 / n) + 0.02


@pytest.mark.parametrize("S", [10, 20, 50])
def test_appendix_d_2_quadratic_times_are_dense_near_the_data(S):
    gaps = make_tau(1000, S, "quadratic").diff()
    assert gaps[0] == math.ceil(1000 / S**2)
    assert gaps[-1] > S / 2 * gaps[0]
    assert gaps.diff().min() >= -1  # they grow, but for rounding


def test_ho_et_al_equation_8_the_mean_in_terms_of_eps(linear):
    # mu = (x_t - beta_t / sqrt(1 - alpha_bar_t) eps) / sqrt(1 - beta_t), algorithm 2 of DDPM
    xt, eps = 0.3, -1.1
    with mpmath.workdps(50):
        ab_t = mpmath.mpf(1)
        for t in range(1, 1001):
            beta = mpmath.mpf("0.0001") + (t - 1) * mpmath.mpf("0.0199") / 999
            ab_t *= 1 - beta
            exact = (mpmath.mpf(xt) - beta / mpmath.sqrt(1 - ab_t) * eps) / mpmath.sqrt(1 - beta)
            sigma = ddim_sigma(linear.alpha_bar[t], linear.alpha_bar[t - 1], 1.0)
            found = ddim_step(f64(xt), f64(eps), linear.alpha_bar[t], linear.alpha_bar[t - 1], sigma, f64(0.0))
            assert abs(found.item() - exact) < 1e-12, t
