import itertools
import math
import re

import mpmath
import pytest
import sympy
import torch
from conftest import perturbed
from hypothesis import given
from hypothesis import strategies as st

from ddim_lib import (
    Schedule,
    UNet,
    ddim_coefficients,
    ddim_encode,
    ddim_sample,
    ddim_sigma,
    ddim_step,
    make_tau,
    q_sample,
    slerp,
)
from ddim_lib.oracle import GaussianMixture, PointSet
from ddim_lib.samplers import _randn_like

SPACINGS = ("uniform", "leading", "quadratic")
NOISE_KINDS = [{"eta": 0.0}, {"eta": 0.4}, {"eta": 1.0}, {"variance": "sigma_hat"}]

# ab_t < ab_s, far enough apart for float64 to keep 12 digits of their differences
pairs = st.tuples(st.floats(1e-4, 0.99), st.floats(1e-4, 0.99)).filter(lambda p: p[1] - p[0] > 1e-2)


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def noise_like(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Recorder:
    """A model that answers with one number and remembers the times it was asked about."""

    def __init__(self, answer=0.0):
        self.answer, self.times = answer, []

    def __call__(self, xt, t):
        assert t.dtype == torch.int64
        assert t.shape == xt.shape[:1]
        assert (t == t[0]).all()
        self.times.append(int(t[0]))
        return torch.full_like(xt, self.answer)


# sigma


@given(pairs, st.floats(0, 1))
def test_sigma_is_eta_times_the_root_of_beta_tilde_at_50_digits(pair, eta):
    found = ddim_sigma(*pair, eta).item()
    with mpmath.workdps(50):
        ab_t, ab_s = map(mpmath.mpf, pair)
        # The variance of s given t and x_0, from the joint Gaussian: precision of the prior plus that of the evidence.
        ratio = ab_t / ab_s
        beta_tilde = 1 / (ratio / (1 - ratio) + 1 / (1 - ab_s))
        assert abs(found - eta * mpmath.sqrt(beta_tilde)) < 1e-13


def test_sigma_by_hand():
    assert ddim_sigma(0.25, 0.64, 1.0).item() ** 2 == pytest.approx(
        0.2925, abs=1e-15
    )  # 0.36 / 0.75 * (1 - 0.25 / 0.64)


def test_sigma_squared_goes_with_eta_squared():
    whole, half = ddim_sigma(0.25, 0.64, 1.0), ddim_sigma(0.25, 0.64, 0.5)
    assert (whole / half).item() == pytest.approx(2, abs=1e-14)


def test_sigma_of_eta_0_is_exactly_0():
    assert ddim_sigma(f64(0.1, 0.25), f64(0.2, 0.64), 0.0).tolist() == [0.0, 0.0]


def test_the_last_step_has_no_sigma():
    assert ddim_sigma(0.64, 1.0, 1.0) == 0


@pytest.mark.parametrize("eta", [-0.1, -1, math.nan])
def test_a_negative_eta_is_refused(eta):
    with pytest.raises(ValueError, match=f"eta must be 0 or more, got {eta}"):
        ddim_sigma(0.25, 0.64, eta)


@given(pairs)
def test_the_largest_eta_named_in_the_message_works(pair):
    with pytest.raises(ValueError, match=r"eta = 1000000000\.0 ") as caught:
        ddim_sigma(*pair, 1e9)
    largest = float(re.search(r"at most ([-+.e\d]+)", str(caught.value))[1])
    assert ddim_sigma(*pair, largest).square() <= (1 - pair[1]) * (1 + 1e-9)


@given(pairs)
def test_eta_is_refused_just_where_sigma_squared_exceeds_the_room(pair):
    ab_t, ab_s = map(mpmath.mpf, pair)
    with mpmath.workdps(50):
        largest = float(mpmath.sqrt((1 - ab_t) / (1 - ab_t / ab_s)))
    ddim_sigma(*pair, largest * (1 - 1e-9))
    with pytest.raises(ValueError, match="eta"):
        ddim_sigma(*pair, largest * (1 + 1e-9))


def test_the_largest_eta_itself_takes_all_the_room_and_is_named_to_six_digits():
    bound = math.sqrt(1.5)  # (1 - 0.25) / (1 - 0.25 / 0.5)
    assert ddim_sigma(0.25, 0.5, bound).square().item() == pytest.approx(0.5, abs=1e-15)
    with pytest.raises(ValueError, match=r"here eta must be at most 1\.224744$"):
        ddim_sigma(0.25, 0.5, bound * (1 + 1e-11))


def test_eta_above_1_is_allowed_where_sigma_squared_stays_within_the_room():
    # To time 0, sigma is 0 for every eta, and 0 <= 1 - alpha_bar_0.
    assert ddim_sigma(0.64, 1.0, 1.5) == 0


@pytest.mark.parametrize(
    ("alpha_bar_t", "alpha_bar_s", "message"),
    [
        (0.0, 0.5, r"alpha_bar_t must lie in \(0, 1\], got 0.0"),
        (0.5, 1.5, r"alpha_bar_s must lie in \(0, 1\], got 1.5"),
        (0.5, math.nan, r"alpha_bar_s must lie in \(0, 1\], got nan"),
        (0.5, 0.5, "alpha_bar_t must be below alpha_bar_s .*got 0.5 and 0.5"),
        (0.6, 0.5, "alpha_bar_t must be below alpha_bar_s .*got 0.6 and 0.5"),
    ],
)
def test_times_in_the_wrong_order_or_range_are_refused(alpha_bar_t, alpha_bar_s, message):
    with pytest.raises(ValueError, match=message):
        ddim_sigma(alpha_bar_t, alpha_bar_s, 0.0)
    with pytest.raises(ValueError, match=message):
        ddim_coefficients(alpha_bar_t, alpha_bar_s, 0.0)


# m and n


def solve_the_two_equations():
    """SymPy's (m, n) of the mean and of the variance of x_s given x_0, on the branch n >= 0."""
    m, n = sympy.symbols("m n", real=True)
    ab_t, ab_s, sigma = sympy.symbols("ab_t ab_s sigma", positive=True)
    mean = sympy.Eq(m + n * sympy.sqrt(ab_t), sympy.sqrt(ab_s))
    variance = sympy.Eq(n**2 * (1 - ab_t) + sigma**2, 1 - ab_s)
    numbers = {ab_t: sympy.Rational(1, 4), ab_s: sympy.Rational(1, 2), sigma: sympy.Rational(1, 2)}
    roots = sympy.solve([mean, variance], [m, n], dict=True)
    (root,) = [root for root in roots if root[n].subs(numbers) > 0]
    return sympy.lambdify([ab_t, ab_s, sigma], [root[m], root[n]], "mpmath")


SOLUTION = solve_the_two_equations()


@given(pairs, st.floats(0, 0.999))
def test_coefficients_are_the_solution_of_the_two_equations_at_50_digits(pair, share):
    sigma = share * math.sqrt(1 - pair[1])
    found = ddim_coefficients(*pair, sigma)
    with mpmath.workdps(50):
        exact = SOLUTION(*map(mpmath.mpf, (*pair, sigma)))
        for value, wanted in zip(found, exact, strict=True):
            assert value.dtype == torch.float64
            assert abs(value.item() - wanted) < 1e-11


def test_coefficients_by_hand():
    m, n = ddim_coefficients(0.64, 0.84, 0.0)  # roots: 0.4 over 0.6
    assert n.item() == pytest.approx(2 / 3, abs=1e-15)
    assert m.item() == pytest.approx(math.sqrt(0.84) - 2 / 3 * 0.8, abs=1e-15)


def test_the_largest_sigma_forgets_the_present_state():
    m, n = ddim_coefficients(0.25, 0.64, 0.6)
    assert (m.item(), n.item()) == (pytest.approx(0.8), pytest.approx(0, abs=1e-7))


def test_at_time_0_the_mean_is_the_clean_image():
    m, n = ddim_coefficients(0.25, 1.0, 0.0)
    assert (m.item(), n.item()) == (1.0, 0.0)


def test_coefficients_of_many_pairs_are_those_of_each():
    m, n = ddim_coefficients(f64(0.25, 0.1), f64(0.64, 0.5), f64(0.1, 0.2))
    for i, arguments in enumerate([(0.25, 0.64, 0.1), (0.1, 0.5, 0.2)]):
        assert (m[i], n[i]) == ddim_coefficients(*arguments)


@pytest.mark.parametrize("sigma", [-0.1, 0.601, math.nan])
def test_a_sigma_without_a_real_root_is_refused(sigma):
    with pytest.raises(ValueError, match=rf"sigma must satisfy .* = 0\.36, got sigma = {sigma}"):
        ddim_coefficients(0.25, 0.64, sigma)


# One step


def test_a_step_by_hand():
    # x0_pred = (1.4 - 0.6 * 1) / 0.8 = 1; direction = sqrt(0.51 - 0.15) = 0.6; sqrt(0.49) = 0.7
    found = ddim_step(f64(1.4), f64(1.0), 0.64, 0.49, math.sqrt(0.15), f64(2.0))
    assert found.item() == pytest.approx(0.7 + 0.6 + 2 * math.sqrt(0.15), abs=1e-14)


def test_eta_1_on_consecutive_times_is_the_ddpm_posterior_for_every_t(linear):
    eps, x0 = 1.25, -0.75
    with mpmath.workdps(50):
        beta = [mpmath.mpf(0)]
        beta += [mpmath.mpf("0.0001") + (t - 1) * mpmath.mpf("0.0199") / 999 for t in range(1, 1001)]
        ab_t = mpmath.mpf(1)
        for t in range(1, 1001):
            ab_s, ab_t = ab_t, ab_t * (1 - beta[t])
            xt = mpmath.sqrt(ab_t) * x0 + mpmath.sqrt(1 - ab_t) * eps
            # Ho et al. 2020, equation 7; their alpha_t is 1 - beta_t
            mean = mpmath.sqrt(ab_s) * beta[t] / (1 - ab_t) * x0
            mean += mpmath.sqrt(1 - beta[t]) * (1 - ab_s) / (1 - ab_t) * xt
            std = mpmath.sqrt((1 - ab_s) / (1 - ab_t) * beta[t])
            arguments = linear.alpha_bar[t], linear.alpha_bar[t - 1]
            sigma = ddim_sigma(*arguments, 1.0)
            found = [ddim_step(f64(xt), f64(eps), *arguments, sigma, f64(z)).item() for z in (0.0, 1.0)]
            assert abs(found[0] - mean) < 1e-12, t
            assert abs(found[1] - found[0] - std) < 1e-12, t


def test_each_sample_may_have_its_own_coefficients():
    xt, eps, noise = noise_like(3, 4, 5)
    columns = f64(0.25, 0.1, 0.3, 0.2), f64(0.64, 0.5, 0.4, 1.0), f64(0.1, 0.0, 0.2, 0.0)
    together = ddim_step(xt, eps, *columns, noise)
    for i in range(4):
        alone = ddim_step(xt[i : i + 1], eps[i : i + 1], *(float(c[i]) for c in columns), noise[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-14)


def test_a_step_draws_no_random_number():
    before = torch.get_rng_state()
    ddim_step(f64(1.0), f64(1.0), 0.25, 0.64, 0.1, f64(1.0))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_step_leaves_its_arguments_alone():
    xt, eps, noise = f64(1.0), f64(2.0), f64(3.0)
    ddim_step(xt, eps, 0.25, 0.64, 0.1, noise)
    assert [xt.item(), eps.item(), noise.item()] == [1.0, 2.0, 3.0]


def test_a_deterministic_step_and_its_reverse_cancel():
    xt, eps = noise_like(2, 5)
    xs = ddim_step(xt, eps, 0.25, 0.64, 0.0)
    torch.testing.assert_close(ddim_step(xs, eps, 0.64, 0.25, 0.0), xt, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": torch.zeros(3)}, r"xt and eps .*\(2,\) .*\(3,\)"),
        ({"eps": torch.zeros(2, dtype=torch.float64)}, r"xt and eps .*float32 .*float64"),
        ({"xt": torch.zeros(2, dtype=torch.uint8)}, "xt must be a floating-point tensor, got torch.uint8"),
        ({"noise": torch.zeros(3)}, r"xt and noise .*\(2,\) .*\(3,\)"),
        ({"noise": torch.zeros(2, dtype=torch.float64)}, r"xt and noise .*float32 .*float64"),
        ({"noise": None}, "sigma = 0.1 > 0 needs noise, got None"),
        ({"alpha_bar_t": 0.0}, "alpha_bar_t must lie in .*got 0.0"),
        ({"alpha_bar_s": 1.5}, "alpha_bar_s must lie in .*got 1.5"),
        ({"sigma": 0.7}, r"sigma must satisfy .*got sigma = 0.7"),
        ({"sigma": -0.1}, r"sigma must satisfy .*got sigma = -0.1"),
    ],
)
def test_a_step_refuses_bad_input_by_name(change, message):
    arguments = {"xt": torch.zeros(2), "eps": torch.zeros(2), "alpha_bar_t": 0.25, "alpha_bar_s": 0.64}
    arguments |= {"sigma": 0.1, "noise": torch.zeros(2)}
    with pytest.raises(ValueError, match=message):
        ddim_step(**arguments | change)


# The walk


def every_tau(schedule):
    for spacing in SPACINGS:
        for S in range(1, schedule.T + 1):
            try:
                yield spacing, S, make_tau(schedule.T, S, spacing)
            except ValueError:
                assert spacing == "quadratic"


@pytest.mark.parametrize("kind", NOISE_KINDS, ids=str)
def test_single_point_data_is_recovered_for_every_S_and_spacing(short, kind):
    point = f64(0.3, -0.9)
    model, xT = PointSet(point[None]).eps_model(short), noise_like(3, 2)
    for spacing, S, tau in every_tau(short):
        *_, last = ddim_sample(model, short, xT, tau, **kind, generator=torch.Generator().manual_seed(1))
        assert (last.xt - point).abs().max() < 1e-12, (spacing, S)


@pytest.mark.parametrize("S", [1, 2, 3, 10, 50, 999, 1000])
def test_a_model_that_knows_the_image_leads_to_it_from_a_thousand_steps(linear, S):
    image = noise_like(1, 3, 4, 4).clamp(-1, 1)

    def model(xt, t):
        signal, std = linear.alpha_bar[t[0]].sqrt(), (1 - linear.alpha_bar[t[0]]).sqrt()
        return (xt - signal * image) / std

    *_, last = ddim_sample(model, linear, noise_like(2, 3, 4, 4, seed=1), make_tau(1000, S))
    assert (last.xt - image).abs().max() < 1e-12


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("S", [1, 2, 5, 10])
def test_the_model_is_called_S_times_at_the_reversed_times(short, S, spacing):
    tau, model = make_tau(short.T, S, spacing), Recorder()
    steps = list(ddim_sample(model, short, noise_like(2, 3), tau))
    assert model.times == tau.tolist()[:0:-1]
    assert [step.t for step in steps] == tau.tolist()[::-1]


def test_the_first_step_is_x_T_and_the_last_the_image(two_steps):
    xT = noise_like(2, 3)
    first, _, last = ddim_sample(Recorder(0.5), two_steps, xT, make_tau(2, 2))
    assert torch.equal(first.xt, xT)
    assert (first.t, last.t) == (2, 0)
    assert torch.equal(last.x0_pred, last.xt)


def test_a_deterministic_walk_by_hand(two_steps):
    # eps = 0: x0_pred = 1 / 0.5 = 2, x_1 = 0.8 * 2, x_0 = 1.6 / 0.8
    steps = list(ddim_sample(Recorder(), two_steps, f64(1.0), make_tau(2, 2)))
    assert [step.xt.item() for step in steps] == pytest.approx([1.0, 1.6, 2.0], abs=1e-15)
    assert [step.x0_pred.item() for step in steps] == pytest.approx([2.0, 2.0, 2.0], abs=1e-15)


def test_eta_0_draws_no_random_number(short):
    generator = torch.Generator().manual_seed(3)
    own, everyones = generator.get_state(), torch.get_rng_state()
    list(ddim_sample(Recorder(), short, noise_like(2, 3), make_tau(short.T, 7), 0.0, generator=generator))
    assert torch.equal(generator.get_state(), own)
    assert torch.equal(torch.get_rng_state(), everyones)


def test_noise_is_drawn_on_the_generators_device_and_handed_to_the_states():
    x, generator = torch.zeros(2, 3), torch.Generator().manual_seed(0)
    with torch.device("meta"):  # where torch puts what is not told where to be
        assert _randn_like(x, generator).device == _randn_like(x, None).device == x.device
    before = generator.get_state()
    assert _randn_like(x.to("meta"), generator).device.type == "meta"
    assert not torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("kind", NOISE_KINDS[1:], ids=str)
def test_noise_is_drawn_from_the_given_generator_only(short, kind):
    generator = torch.Generator().manual_seed(3)
    own, everyones = generator.get_state(), torch.get_rng_state()
    list(ddim_sample(Recorder(), short, noise_like(2, 3), make_tau(short.T, 7), **kind, generator=generator))
    assert not torch.equal(generator.get_state(), own)
    assert torch.equal(torch.get_rng_state(), everyones)


def test_without_a_generator_the_global_one_is_used(two_steps):
    torch.manual_seed(5)
    *_, first = ddim_sample(Recorder(), two_steps, f64(1.0), make_tau(2, 2), 1.0)
    torch.manual_seed(5)
    *_, second = ddim_sample(Recorder(), two_steps, f64(1.0), make_tau(2, 2), 1.0)
    *_, third = ddim_sample(Recorder(), two_steps, f64(1.0), make_tau(2, 2), 1.0)
    assert torch.equal(first.xt, second.xt)
    assert not torch.equal(first.xt, third.xt)


@pytest.mark.parametrize("kind", NOISE_KINDS, ids=str)
def test_the_same_seed_gives_the_same_samples_bit_for_bit(linear, tiny_unet, kind):
    xT, samples = noise_like(2, 1, 8, 8, dtype=torch.float32), []
    for _ in range(2):
        generator = torch.Generator().manual_seed(7)
        *_, last = ddim_sample(tiny_unet, linear, xT, make_tau(1000, 5), **kind, generator=generator)
        samples.append(last.xt)
    assert torch.equal(*samples)


def test_another_seed_gives_other_samples(short):
    xT, samples = noise_like(2, 3), []
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        *_, last = ddim_sample(Recorder(), short, xT, make_tau(short.T, 5), 1.0, generator=generator)
        samples.append(last.xt)
    assert not torch.equal(*samples)


@pytest.mark.parametrize("kind", [*NOISE_KINDS, {"eta": 0.9}], ids=str)
@pytest.mark.parametrize("S", [1, 2, 9])
def test_the_last_step_adds_no_noise(short, kind, S):
    *_, before, last = ddim_sample(Recorder(0.1), short, noise_like(50, 3), make_tau(short.T, S), **kind)
    assert torch.equal(last.xt, before.x0_pred)


def test_eta_adds_noise_of_its_sigma(two_steps):
    noise = noise_like(4, 3, seed=11)
    generator = torch.Generator().manual_seed(11)
    _, middle, _ = ddim_sample(Recorder(), two_steps, torch.zeros_like(noise), make_tau(2, 2), 1, generator=generator)
    torch.testing.assert_close(middle.xt, math.sqrt(0.2925) * noise, rtol=0, atol=1e-14)


def test_sigma_hat_has_the_mean_of_eta_1_and_the_larger_noise(two_steps):
    # mean: x0_pred = (1 - sqrt(0.75)) / 0.5, direction sqrt(0.36 - 0.2925); noise: 1 - 0.25 / 0.64 = 0.609375
    noise, generator = noise_like(4, 3, seed=11), torch.Generator().manual_seed(11)
    xT = torch.ones_like(noise)
    _, middle, _ = ddim_sample(Recorder(1.0), two_steps, xT, make_tau(2, 2), variance="sigma_hat", generator=generator)
    mean = 0.8 * (1 - math.sqrt(0.75)) / 0.5 + math.sqrt(0.0675)
    torch.testing.assert_close(middle.xt, mean + math.sqrt(0.609375) * noise, rtol=0, atol=1e-13)


def test_sigma_hat_may_be_said_with_eta_1(short):
    xT, samples = noise_like(2, 3), []
    for kind in ({"variance": "sigma_hat"}, {"variance": "sigma_hat", "eta": 1.0}):
        generator = torch.Generator().manual_seed(1)
        *_, last = ddim_sample(Recorder(0.3), short, xT, make_tau(short.T, 5), **kind, generator=generator)
        samples.append(last.xt)
    assert torch.equal(*samples)


@pytest.mark.parametrize("sign", [1, -1])
def test_clipping_takes_eps_anew_from_the_clipped_image(two_steps, sign):
    # x0_pred = 1 / 0.5 = 2 becomes 1; eps = (1 - 0.5) / sqrt(0.75) = 1 / sqrt(3); x_1 = 0.8 + 0.6 / sqrt(3)
    first, middle, last = ddim_sample(Recorder(), two_steps, f64(sign), make_tau(2, 2), clip_x0=True)
    assert first.x0_pred.item() == sign
    assert first.eps.item() == pytest.approx(sign / math.sqrt(3), abs=1e-15)
    assert middle.xt.item() == pytest.approx(sign * (0.8 + 0.6 / math.sqrt(3)), abs=1e-15)
    assert last.xt.item() == sign


def test_clipping_changes_nothing_within_the_range(two_steps):
    xT = f64(0.3, -0.2)
    plain = [step.xt for step in ddim_sample(Recorder(0.1), two_steps, xT, make_tau(2, 2))]
    clipped = [step.xt for step in ddim_sample(Recorder(0.1), two_steps, xT, make_tau(2, 2), clip_x0=True)]
    for a, b in zip(plain, clipped, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-15)


def test_splitting_a_batch_changes_nothing(linear, tiny_unet):
    xT, unet, tau = noise_like(5, 1, 8, 8), tiny_unet.double(), make_tau(1000, 6)
    *_, whole = ddim_sample(unet, linear, xT, tau)
    parts = [list(ddim_sample(unet, linear, part, tau))[-1].xt for part in xT.split([1, 3, 1])]
    torch.testing.assert_close(torch.cat(parts), whole.xt, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", NOISE_KINDS, ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_a_batch_of_several_generators_equals_a_walk_for_each(short, kind, count):
    xT, tau, model = noise_like(6, 3), make_tau(short.T, 4), PointSet(noise_like(5, 3, seed=1)).eps_model(short)
    generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
    together = list(ddim_sample(model, short, xT, tau, generator=generators, **kind))
    apart = [
        list(ddim_sample(model, short, part, tau, generator=torch.Generator().manual_seed(seed), **kind))
        for seed, part in enumerate(xT.chunk(count))
    ]
    for step, *parts in zip(together, *apart, strict=True):
        assert {part.t for part in parts} == {step.t}
        torch.testing.assert_close(step.xt, torch.cat([part.xt for part in parts]), rtol=0, atol=1e-12)


def test_several_generators_draw_the_same_noise_however_samples_are_put_into_batches(short):
    def walk(part, seeds):
        generators = tuple(torch.Generator().manual_seed(seed) for seed in seeds)
        return list(ddim_sample(Recorder(0.1), short, part, make_tau(short.T, 4), 1.0, generator=generators))[-1].xt

    xT = noise_like(6, 3)
    assert torch.equal(walk(xT, [7, 8, 9]), torch.cat([walk(xT[:4], [7, 8]), walk(xT[4:], [9])]))


@pytest.mark.parametrize("count", [0, 4, 5, 12])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_generators_that_cannot_share_a_batch_equally_are_refused_at_once(short, count, eta):
    generators = [torch.Generator() for _ in range(count)]
    with pytest.raises(ValueError, match=f"generator: {count} generators cannot share a batch of 6 equally"):
        ddim_sample(Recorder(), short, noise_like(6, 2), make_tau(short.T, 2), eta, generator=generators)


def test_sampling_keeps_the_dtype_and_tracks_no_gradient(linear, tiny_unet):
    for step in ddim_sample(tiny_unet, linear, torch.zeros(1, 1, 8, 8), make_tau(1000, 2), 1.0):
        assert torch.is_grad_enabled()  # the caller's mode is the caller's
        for value in (step.xt, step.x0_pred, step.eps):
            assert value.dtype == torch.float32
            assert not value.requires_grad


def test_sampling_leaves_x_T_alone(short):
    xT = noise_like(2, 3)
    kept = xT.clone()
    list(ddim_sample(Recorder(0.5), short, xT, make_tau(short.T, 3), 1.0, clip_x0=True))
    assert torch.equal(xT, kept)


def test_a_device_changes_samples_by_rounding_only(device, linear, tiny_config):
    unet = perturbed(UNet(tiny_config)).double()
    xT, samples = noise_like(2, 1, 8, 8), []
    for place in (torch.device("cpu"), device):
        generator = torch.Generator().manual_seed(2)  # on the CPU, so that seeds mean the same everywhere
        steps = ddim_sample(unet.to(place), linear, xT.to(place), make_tau(1000, 4), 1.0, generator=generator)
        *_, last = steps
        assert last.xt.device.type == place.type
        samples.append(last.xt.cpu())
    torch.testing.assert_close(*samples, rtol=0, atol=1e-8)


# What the walk refuses


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("t_bad", [40, 20])
def test_nan_from_the_network_is_refused_with_its_time(short, bad, t_bad):
    def model(xt, t):
        return torch.where(t[:, None] == t_bad, bad, 0.0) * torch.ones_like(xt)

    with pytest.raises(ValueError, match=f"NaN or infinity at t = {t_bad}"):
        list(ddim_sample(model, short, noise_like(2, 3), make_tau(40, 2)))


def test_a_network_of_another_shape_is_refused(short):
    with pytest.raises(ValueError, match=r"xt and eps must have the same shape .*\(2, 3\) .*\(2, 6\)"):
        list(ddim_sample(lambda xt, t: torch.cat([xt, xt], 1), short, noise_like(2, 3), make_tau(40, 2)))


NO_TAUS = [
    (torch.tensor([0.0, 1.0]), r"tau must be int64 of shape \(S\+1,\), got torch.float32"),
    (torch.tensor([[0, 1]]), r"got torch.int64 of shape \(1, 2\)"),
    (torch.tensor([0]), r"got torch.int64 of shape \(1,\)"),
    (torch.tensor([1, 2]), r"from 0 to at most T = 40, got \[1, 2\]"),
    (torch.tensor([0, 2, 2]), r"from 0 to at most T = 40, got \[0, 2, 2\]"),
    (torch.tensor([0, 3, 2]), r"from 0 to at most T = 40, got \[0, 3, 2\]"),
    (torch.tensor([0, 3, 41]), r"from 0 to at most T = 40, got \[0, 3, 41\]"),
]


@pytest.mark.parametrize("walk", [ddim_sample, ddim_encode])
@pytest.mark.parametrize(("tau", "message"), NO_TAUS)
def test_a_tau_that_is_none_is_refused_at_once(short, walk, tau, message):
    with pytest.raises(ValueError, match=message):
        walk(Recorder(), short, noise_like(2, 3), tau)


@pytest.mark.parametrize(("walk", "name"), [(ddim_sample, "xT"), (ddim_encode, "x0")])
@pytest.mark.parametrize("x", [torch.zeros(2, dtype=torch.int64), torch.tensor(1.0), torch.zeros(0, 3)])
def test_a_state_that_is_no_batch_of_floats_is_refused_at_once(short, walk, name, x):
    with pytest.raises(ValueError, match=rf"{name} must be a floating-point batch .*{re.escape(str(tuple(x.shape)))}"):
        walk(Recorder(), short, x, make_tau(40, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eta": -0.5}, "eta must be 0 or more, got -0.5"),
        ({"eta": 5.0}, "eta = 5.0 makes sigma"),
        ({"variance": "large"}, "variance must be 'eta' or 'sigma_hat', got 'large'"),
        ({"variance": "sigma_hat", "eta": 0.5}, "sigma_hat.*got 0.5"),
    ],
)
def test_bad_noise_is_refused_at_once(short, arguments, message):
    with pytest.raises(ValueError, match=message):
        ddim_sample(Recorder(), short, noise_like(2, 3), make_tau(40, 10), **arguments)


def test_the_largest_eta_of_a_walk_is_set_by_the_steps_that_add_noise():
    # Only t = 2 to s = 1 adds noise: eta^2 <= (1 - 0.25) / (1 - 0.25 / 0.64) = 1.2307...
    schedule = Schedule.from_alpha_bar([1.0, 0.64, 0.25])
    list(ddim_sample(Recorder(), schedule, noise_like(2, 3), make_tau(2, 2), 1.1))
    with pytest.raises(ValueError, match="eta"):
        ddim_sample(Recorder(), schedule, noise_like(2, 3), make_tau(2, 2), 1.11)


# The marginals


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_thousand_steps_reproduce_a_gaussian_in_one_dimension(linear, eta):
    mean, std, n = 0.4, 0.5, 20_000

    def model(xt, t):  # E[eps | x_t] of N(mean, std^2), by the formula for jointly Gaussian variables
        ab = linear.alpha_bar[t[0]].item()
        return math.sqrt(1 - ab) * (xt - math.sqrt(ab) * mean) / (ab * std**2 + 1 - ab)

    generator = torch.Generator().manual_seed(0)
    xT = torch.randn(n, 1, dtype=torch.float64, generator=generator)
    *_, last = ddim_sample(model, linear, xT, make_tau(1000, 1000), eta, generator=generator)
    assert abs(last.xt.mean().item() - mean) < 4 * std / math.sqrt(n)
    assert abs(last.xt.std().item() - std) < 4 * std / math.sqrt(2 * n)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_every_step_reproduces_mean_and_covariance_of_a_mixture_in_the_plane(eta):
    schedule = Schedule.linear(T=250, beta_1=4e-4, beta_T=0.08)
    means, covariance, n = f64(1.0, 0.5, -1.0, 0.0).view(2, 2), f64(0.3, 0.1, 0.1, 0.2).view(2, 2), 2000
    model = GaussianMixture(means, torch.stack([covariance, covariance]), [1, 3]).eps_model(schedule)
    generator = torch.Generator().manual_seed(0)
    xT = torch.randn(n, 2, dtype=torch.float64, generator=generator)
    *_, last = ddim_sample(model, schedule, xT, make_tau(250, 250), eta, generator=generator)
    # mean (1 * (1, 0.5) + 3 * (-1, 0)) / 4; covariance within, plus 3 / 16 of (2, 0.5) (2, 0.5)^T between
    mean, total = f64(-0.5, 0.125), f64(1.05, 0.2875, 0.2875, 0.246875).view(2, 2)
    assert ((last.xt.mean(0) - mean).abs() < 4 * (total.diagonal() / n).sqrt()).all()
    bound = 5 * ((total.diagonal().outer(total.diagonal()) + total.square()) / n).sqrt()
    assert ((last.xt.mT.cov() - total).abs() < bound).all()


# Encoding


def test_encoding_by_hand():
    # eps = 1 held from time 0 to 1: x_1 = 0.8 * 1 + 0.6 * 1
    schedule, model = Schedule.from_alpha_bar([1.0, 0.64]), Recorder(1.0)
    steps = list(ddim_encode(model, schedule, f64(1.0), make_tau(1, 1)))
    assert [step.xt.item() for step in steps] == pytest.approx([1.0, 1.4], abs=1e-15)
    assert [step.x0_pred.item() for step in steps] == pytest.approx([1.0, 1.0], abs=1e-15)
    assert [step.eps.item() for step in steps] == [1.0, 1.0]


def test_encoding_walks_up_tau_and_asks_about_time_1_at_time_0(short):
    model, tau = Recorder(), make_tau(40, 5)
    steps = list(ddim_encode(model, short, noise_like(2, 3), tau))
    assert [step.t for step in steps] == tau.tolist()
    assert model.times == [1, *tau.tolist()[1:]]


def test_encoding_draws_no_random_number(short):
    before = torch.get_rng_state()
    list(ddim_encode(Recorder(), short, noise_like(2, 3), make_tau(40, 5)))
    assert torch.equal(torch.get_rng_state(), before)


def test_nan_while_encoding_is_refused_with_its_time(short):
    def model(xt, t):
        return torch.where(t == 8, math.nan, 0.0)[:, None] * xt

    with pytest.raises(ValueError, match="NaN or infinity at t = 8"):
        list(ddim_encode(model, short, noise_like(2, 3), make_tau(40, 5)))


def test_the_error_of_encoding_then_decoding_falls_like_1_over_S(linear):
    data = GaussianMixture([[-1.0, 0.0], [1.0, 0.5]], [[[0.25, 0.1], [0.1, 0.3]], [[0.2, 0.0], [0.0, 0.25]]], [1, 2])
    model, x0, errors = data.eps_model(linear), data.sample(64, torch.Generator().manual_seed(0)), []
    for S in (25, 50, 100, 200):
        tau = make_tau(1000, S)
        *_, encoded = ddim_encode(model, linear, x0, tau)
        *_, decoded = ddim_sample(model, linear, encoded.xt, tau)
        errors.append((decoded.xt - x0).square().mean().sqrt().item())
    slopes = [math.log2(after / before) for before, after in itertools.pairwise(errors)]
    assert slopes == pytest.approx([-1] * 3, abs=0.1)


# Interpolation


def test_slerp_starts_at_x_and_ends_at_y():
    x, y = noise_like(2, 3, 1, 4, 4)
    torch.testing.assert_close(slerp(x, y, 0.0), x, rtol=0, atol=1e-14)
    torch.testing.assert_close(slerp(x, y, 1.0), y, rtol=0, atol=1e-14)


def test_slerp_by_hand():
    found = slerp(f64(1.0, 0.0)[None], f64(0.0, 1.0)[None], 1 / 3)  # a third of a right angle
    assert found[0].tolist() == pytest.approx([math.sqrt(3) / 2, 0.5], abs=1e-15)


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_slerp_keeps_the_norm_and_moves_at_an_even_pace(seed, weight):
    x, y = torch.nn.functional.normalize(noise_like(2, 3, 5, seed=seed), dim=2)
    z = slerp(x, y, weight)
    assert z.norm(dim=1).tolist() == pytest.approx([1] * 3, abs=1e-12)
    whole = (x * y).sum(1).acos()
    assert (x * z).sum(1).clamp(max=1).acos().tolist() == pytest.approx((weight * whole).tolist(), abs=1e-6)


def test_slerp_of_parallel_vectors_is_linear():
    x = f64(3.0, 4.0)[None]  # whose cosine with itself is exactly 1
    assert slerp(x, x, 0.3)[0].tolist() == pytest.approx([3.0, 4.0], abs=1e-12)
    assert slerp(x, 3 * x, 0.5)[0].tolist() == pytest.approx([6.0, 8.0], abs=1e-12)


def test_slerp_of_opposite_vectors_stays_between_them():
    x = f64(3.0, 4.0)[None]
    assert slerp(x, -x, 0.3).norm() <= 5


def test_slerp_of_vectors_whose_cosine_is_rounded_beyond_1():
    x = f64(1.0, 1.0, 1.0)[None]  # x . x / |x|^2 = 1.0000000000000002
    assert slerp(x, x, 0.3)[0].tolist() == pytest.approx([1.0, 1.0, 1.0], abs=1e-12)
    assert slerp(x, -x, 0.25)[0].tolist() == pytest.approx([0.5, 0.5, 0.5], abs=1e-12)


def test_slerp_looks_at_the_angle_alone_and_not_at_the_lengths():
    x, y = f64(2.0, 0.0)[None], f64(1.5, 1.5 * math.sqrt(3))[None]  # 2 and 3 long, at 60 degrees
    # both weights are sin 30 / sin 60
    assert slerp(x, y, 0.5)[0].tolist() == pytest.approx([3.5 / math.sqrt(3), 1.5], abs=1e-12)


def test_slerp_treats_each_sample_by_itself():
    x, y = noise_like(2, 3, 4)
    rows = torch.cat([slerp(x[i : i + 1], y[i : i + 1], 0.25) for i in range(3)])
    torch.testing.assert_close(slerp(x, y, 0.25), rows, rtol=0, atol=1e-15)


@pytest.mark.parametrize("weight", [-0.1, 1.1, math.nan])
def test_slerp_refuses_a_weight_outside_0_to_1(weight):
    with pytest.raises(ValueError, match=rf"weight must lie in \[0, 1\], got {weight}"):
        slerp(f64(1.0)[None], f64(1.0)[None], weight)


def test_slerp_refuses_shapes_that_differ():
    with pytest.raises(ValueError, match=r"x and y must have the same shape"):
        slerp(torch.zeros(1, 2), torch.zeros(1, 3), 0.5)


def test_noised_data_is_recovered_by_one_step_with_the_true_noise():
    x0, noise = noise_like(2, 2, 5)
    xt = q_sample(x0, 0.25, noise)
    torch.testing.assert_close(ddim_step(xt, noise, 0.25, 1.0, 0.0), x0, rtol=0, atol=1e-14)


def test_a_step_has_a_gradient_by_each_of_its_levels():
    levels = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.25, 0.64, 0.3)]
    xt, eps, noise = torch.tensor([[[1.0]], [[2.0]], [[-3.0]]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a_t, a_s, sigma: ddim_step(xt, eps, a_t, a_s, sigma, noise), levels)
    assert torch.autograd.gradcheck(ddim_coefficients, levels)


def test_slerp_of_states_of_one_number_is_a_straight_line():
    x, y = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([3.0, -2.0, 4.0])
    assert slerp(x, y, 0.25).tolist() == [1.5, 1.0, 1.0]


def test_slerp_between_states_whose_cosine_is_beyond_1_by_rounding_is_a_straight_line():
    x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(slerp(x, 3 * x, 0.5), 2 * x)
    torch.testing.assert_close(slerp(x, -3 * x, 0.5), -x)
