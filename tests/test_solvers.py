import itertools
import math
import re

import pytest
import torch
from conftest import perturbed
from test_samplers import NO_TAUS, SPACINGS, Recorder, f64, noise_like

from ddim_lib import Schedule, UNet, ddim_sample, make_tau, predict_x0
from ddim_lib.oracle import GaussianMixture, PointSet
from ddim_lib.solvers import adams_bashforth_sample, exponential_sample, heun_sample, sigma_bar

SOLVERS = [heun_sample, adams_bashforth_sample, exponential_sample]
each_solver = pytest.mark.parametrize("solve", SOLVERS, ids=lambda solve: solve.__name__)
UNEVEN = torch.tensor([0, 1, 4, 7, 15, 22, 40])  # times of the schedule called short


def last_of(steps):
    *_, last = steps
    return last.xt


def states(steps):
    return torch.stack([step.xt for step in steps])


def clean_image_model(schedule, x0_at):
    """The noise estimate with the predicted x_0 ``x0_at(lambda)``, whatever the state; lambda = -log sigma_bar."""

    def model(xt, t):
        alpha_bar = schedule.alpha_bar[t[0]]
        return (xt - alpha_bar.sqrt() * x0_at(-noise_level(alpha_bar).log())) / (1 - alpha_bar).sqrt()

    return model


def noise_level(alpha_bar):
    return (1 / alpha_bar - 1).sqrt()


# Noise levels


def test_sigma_bar_is_noise_over_signal_and_starts_at_0(two_steps, short):
    found = sigma_bar(two_steps, torch.tensor([0, 1, 2]))
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([0, 0.75, math.sqrt(3)], abs=1e-15)
    assert sigma_bar(short, UNEVEN)[0] == 0
    assert (sigma_bar(short, UNEVEN).diff() > 0).all()


# Evaluations and what is yielded


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("S", [1, 2, 5, 10])
def test_multistep_methods_call_the_model_once_a_step_and_heun_twice_but_for_the_last(short, S, spacing):
    tau = make_tau(short.T, S, spacing)
    once = tau.tolist()[:0:-1]
    twice = once[:1] + [t for t in once[1:] for _ in range(2)]
    for solve, times in zip(SOLVERS, (twice, once, once), strict=True):
        model = Recorder(0.5)
        steps = list(solve(model, short, noise_like(2, 3), tau))
        assert model.times == times
        assert [step.t for step in steps] == tau.tolist()[::-1]


@pytest.mark.parametrize(("solve", "count"), [(heun_sample, 9), (adams_bashforth_sample, 5), (exponential_sample, 5)])
def test_five_steps_take_nine_evaluations_by_heun_and_five_else(short, solve, count):
    model = Recorder()
    list(solve(model, short, noise_like(2, 3), make_tau(short.T, 5)))
    assert len(model.times) == count


@each_solver
def test_every_step_holds_the_estimate_at_its_state_and_the_image_that_it_implies(short, solve):
    model = GaussianMixture([[0.5, 0.0], [-1.0, 1.0]], torch.eye(2).double().repeat(2, 1, 1) / 4).eps_model(short)
    xT = noise_like(3, 2)
    *steps, before, last = solve(model, short, xT, UNEVEN)
    torch.testing.assert_close(steps[0].xt, xT, rtol=0, atol=1e-15)
    for step in (*steps, before):
        assert torch.equal(step.eps, model(step.xt, torch.full((3,), step.t)))
        assert torch.equal(step.x0_pred, predict_x0(step.xt, step.eps, short.alpha_bar[step.t]))
    assert last.t == 0
    assert torch.equal(last.x0_pred, last.xt)
    assert torch.equal(last.eps, before.eps)


@each_solver
@pytest.mark.parametrize("shape", [(3,), (1, 2), (2, 1, 4, 4)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_shape_and_dtype_are_kept_and_no_gradient_is_tracked(short, solve, shape, dtype):
    weight = torch.ones((), dtype=dtype, requires_grad=True)
    for step in solve(lambda xt, t: weight * xt, short, noise_like(*shape, dtype=dtype), UNEVEN):
        assert torch.is_grad_enabled()  # the caller's mode is the caller's
        for value in (step.xt, step.x0_pred, step.eps):
            assert (value.shape, value.dtype) == (shape, dtype)
            assert not value.requires_grad


@each_solver
def test_float32_differs_from_float64_by_rounding_only(linear, solve):
    data, xT = GaussianMixture([[-1.0], [0.8]], [[[0.04]], [[0.09]]], [3, 7]), noise_like(50, 1)
    model = data.eps_model(linear)
    fine, coarse = (last_of(solve(model, linear, x, make_tau(1000, 20))) for x in (xT, xT.float()))
    assert (fine - coarse).abs().max() < 2e-4


@each_solver
def test_splitting_a_batch_changes_nothing(linear, tiny_unet, solve):
    xT, unet, tau = noise_like(5, 1, 8, 8), tiny_unet.double(), make_tau(1000, 4)
    whole = last_of(solve(unet, linear, xT, tau))
    parts = [last_of(solve(unet, linear, part, tau)) for part in xT.split([1, 3, 1])]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-10)


@each_solver
def test_a_walk_draws_no_random_number_leaves_x_T_alone_and_repeats_itself(short, solve):
    xT, before = noise_like(2, 3), torch.get_rng_state()
    kept = xT.clone()
    first, second = (last_of(solve(Recorder(0.5), short, xT, UNEVEN)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(xT, kept)
    assert torch.equal(torch.get_rng_state(), before)


@each_solver
def test_a_device_changes_samples_by_rounding_only(device, linear, tiny_config, solve):
    unet, xT, tau = perturbed(UNet(tiny_config)).double(), noise_like(2, 1, 8, 8), make_tau(1000, 3)
    samples = [last_of(solve(unet.to(place), linear, xT.to(place), tau)) for place in (torch.device("cpu"), device)]
    assert samples[1].device.type == device.type
    torch.testing.assert_close(samples[0], samples[1].cpu(), rtol=0, atol=1e-8)


# By hand. On two_steps sigma_bar is 0, 3/4, sqrt(3), and x_bar_T = 2 x_T.


def answers(*values):
    """A model that gives these answers one after the other."""
    each = iter(values)
    return lambda xt, t: torch.full_like(xt, next(each))


def test_heuns_method_by_hand(two_steps):
    # slopes 1, then 3 at the end of the step: their mean 2; then 5 at the state kept, and Euler's step to 0
    steps = list(heun_sample(answers(1.0, 3.0, 5.0), two_steps, f64(1.0), make_tau(2, 2)))
    middle = 2 + 2 * (0.75 - math.sqrt(3))
    assert [step.xt.item() for step in steps] == pytest.approx([1.0, 0.8 * middle, middle - 5 * 0.75], abs=1e-14)


def test_heuns_second_slope_is_asked_for_at_the_end_of_an_euler_step(two_steps):
    asked = []

    def model(xt, t):
        asked.append((int(t[0]), xt.item()))
        return torch.ones_like(xt)

    list(heun_sample(model, two_steps, f64(1.0), make_tau(2, 2)))
    end = 0.8 * (2 + (0.75 - math.sqrt(3)))
    assert [t for t, _ in asked] == [2, 1, 1]
    assert [x for _, x in asked] == pytest.approx([1.0, end, end], abs=1e-14)


def test_the_adams_bashforth_method_by_hand(two_steps):
    # Slopes 1, then 3. The last step is 3/4 long, the one before sqrt(3) - 3/4: at its middle the slope is 3 + rise.
    steps = list(adams_bashforth_sample(answers(1.0, 3.0), two_steps, f64(1.0), make_tau(2, 2)))
    middle, rise = 2 + (0.75 - math.sqrt(3)), (3 - 1) / (math.sqrt(3) - 0.75) * 0.75 / 2
    assert [s.xt.item() for s in steps] == pytest.approx([1.0, 0.8 * middle, middle - 0.75 * (3 + rise)], abs=1e-14)


def test_the_exponential_method_by_hand():
    # sigma_bar 0, 1/4, 1/2, 1: lambda grows by log 2 a step. Predicted x_0: 1, then 2, then 4.
    schedule = Schedule.from_alpha_bar([1.0, 16 / 17, 4 / 5, 1 / 2])
    signal = schedule.alpha_bar.sqrt().tolist()
    clean = iter((1.0, 2.0, 4.0))
    model = clean_image_model(schedule, lambda _: next(clean))
    found = [
        step.xt.item() / a
        for step, a in zip(exponential_sample(model, schedule, f64(1.0), make_tau(3, 3)), signal[::-1], strict=True)
    ]
    second = (math.sqrt(2) + 1) / 2  # halfway to 1, as sigma_bar halves
    assert found == pytest.approx([math.sqrt(2), second, (second + 2.5) / 2, 4.0], abs=1e-14)  # 2.5 = 2 + (2 - 1) / 2


# Where all of them are exact


@each_solver
@pytest.mark.parametrize("tau", [make_tau(40, 1), make_tau(40, 7), UNEVEN], ids=len)
def test_with_a_constant_slope_every_method_is_exact_and_is_ddim(short, solve, tau):
    xT, slope = noise_like(4, 3), 0.7
    found = states(solve(Recorder(slope), short, xT, tau))
    alpha_bar = short.alpha_bar[tau.flip(0)].view(-1, 1, 1)
    x_bar = xT / alpha_bar[0].sqrt() + slope * (noise_level(alpha_bar) - noise_level(alpha_bar[0]))
    torch.testing.assert_close(found, alpha_bar.sqrt() * x_bar, rtol=0, atol=1e-12)
    torch.testing.assert_close(found, states(ddim_sample(Recorder(slope), short, xT, tau)), rtol=0, atol=1e-12)


@each_solver
def test_one_step_is_ddims(linear, solve):
    data, xT = GaussianMixture([[-1.0, 0.0], [0.8, 0.3]], torch.eye(2).double().repeat(2, 1, 1) / 9), noise_like(20, 2)
    walks = [states(walk(data.eps_model(linear), linear, xT, make_tau(1000, 1))) for walk in (solve, ddim_sample)]
    torch.testing.assert_close(*walks, rtol=0, atol=1e-11)


@each_solver
def test_the_first_step_of_a_multistep_method_is_ddims_and_heuns_is_not(linear, solve):
    model, xT = GaussianMixture([[0.4]], [[[0.25]]]).eps_model(linear), noise_like(20, 1)
    walks = [states(walk(model, linear, xT, make_tau(1000, 5))) for walk in (solve, ddim_sample)]
    off = (walks[0] - walks[1]).abs().amax((1, 2))
    assert (off[1] > 1e-3) == (solve is heun_sample)
    assert (off[1] < 1e-12) == (solve is not heun_sample)
    assert off[-1] > 1e-3


@each_solver
@pytest.mark.parametrize("spacing", SPACINGS)
def test_single_point_data_is_recovered(short, solve, spacing):
    point = f64(0.3, -0.9)
    model, xT = PointSet(point[None]).eps_model(short), noise_like(3, 2)
    for S in (1, 2, 3, 6):
        assert (last_of(solve(model, short, xT, make_tau(40, S, spacing))) - point).abs().max() < 1e-12, S


# What each of them extrapolates or averages, on steps of different lengths


def test_adams_bashforth_is_exact_after_its_first_step_for_a_slope_linear_in_sigma_bar(short):
    def model(xt, t):
        return torch.full_like(xt, 1 - 0.3 * noise_level(short.alpha_bar[t[0]]).item())

    _, second, *_, last = adams_bashforth_sample(model, short, noise_like(3, 2), UNEVEN)
    level, x_bar = sigma_bar(short, UNEVEN)[-2], second.xt / short.alpha_bar[second.t].sqrt()
    torch.testing.assert_close(last.xt, x_bar - (level - 0.3 * level**2 / 2), rtol=0, atol=1e-10)


def test_heun_is_exact_before_its_last_step_for_a_slope_linear_in_sigma_bar(short):
    def model(xt, t):
        return torch.full_like(xt, 1 - 0.3 * noise_level(short.alpha_bar[t[0]]).item())

    first, *_, before, last = heun_sample(model, short, noise_like(3, 2), UNEVEN)
    a, b = sigma_bar(short, UNEVEN)[[1, -1]]
    x_bar = first.xt / short.alpha_bar[40].sqrt() - (b - 0.3 * b**2 / 2) + (a - 0.3 * a**2 / 2)
    torch.testing.assert_close(before.xt / short.alpha_bar[1].sqrt(), x_bar, rtol=0, atol=1e-10)
    torch.testing.assert_close(last.xt, before.x0_pred, rtol=0, atol=1e-12)


def test_the_exponential_method_holds_the_x0_of_the_middle_of_a_step_if_it_is_linear_in_lambda(short):
    def line(lam):
        return 0.3 - 0.4 * lam

    steps = list(exponential_sample(clean_image_model(short, line), short, noise_like(3, 2), UNEVEN))
    x_bar = [step.xt / short.alpha_bar[step.t].sqrt() for step in steps]
    level = sigma_bar(short, UNEVEN).flip(0).tolist()
    for i in range(1, len(level) - 2):  # not the first step, which knows one x_0 only, nor the last
        target = line(-(math.log(level[i]) + math.log(level[i + 1])) / 2)
        wanted = target + level[i + 1] / level[i] * (x_bar[i] - target)
        torch.testing.assert_close(x_bar[i + 1], wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(steps[-1].xt, steps[-2].x0_pred, rtol=0, atol=1e-14)


# Order


@pytest.fixture(scope="module")
def log_uniform():
    """sigma_bar grows by the same factor from every time to the next, from 1/1000 to 10."""
    level = torch.cat([f64(0.0), torch.logspace(-3, 1, 400, dtype=torch.float64)])
    return Schedule.from_alpha_bar(1 / (1 + level**2))


MU, V = 0.4, 0.25


def gaussian_model(schedule):
    """E[eps | x_t] of data N(MU, V), by the formula for jointly Gaussian variables."""

    def model(xt, t):
        alpha_bar = schedule.alpha_bar[t[0]]
        return (1 - alpha_bar).sqrt() * (xt - alpha_bar.sqrt() * MU) / (alpha_bar * V + 1 - alpha_bar)

    return model


def exact_flow(schedule, xT, t):
    """x_bar moves so that (x_bar - MU) / sqrt(V + sigma_bar^2), its number of standard deviations, stays."""
    start, end = (noise_level(schedule.alpha_bar[time]) for time in (schedule.T, t))
    off = (xT * (1 + start**2).sqrt() - MU) * ((V + end**2) / (V + start**2)).sqrt()
    return (MU + off) / (1 + end**2).sqrt()


def test_the_exact_flow_solves_the_equation(log_uniform):
    xT, t, h = f64(-1.5, 0.3, 2.0), 250, 1e-4

    def x_bar(level):
        nearby = Schedule.from_alpha_bar([1.0, 1 / (1 + level**2), log_uniform.alpha_bar[-1]])
        return exact_flow(nearby, xT, 1) * math.sqrt(1 + level**2)

    level = noise_level(log_uniform.alpha_bar[t]).item()
    slope = (x_bar(level + h) - x_bar(level - h)) / (2 * h)
    wanted = gaussian_model(log_uniform)(exact_flow(log_uniform, xT, t), torch.full((3,), t))
    torch.testing.assert_close(slope, wanted, rtol=0, atol=1e-6)


def error_at_0(solve, schedule, S):
    xT = f64(-1.5, 0.3, 2.0)
    end = last_of(solve(gaussian_model(schedule), schedule, xT, make_tau(schedule.T, S)))
    return (end - exact_flow(schedule, xT, 0)).square().mean().sqrt().item()


@pytest.mark.parametrize("solve", [ddim_sample, *SOLVERS], ids=lambda solve: solve.__name__)
def test_the_error_falls_with_the_order_of_the_method(log_uniform, solve):
    errors = [error_at_0(solve, log_uniform, S) for S in (50, 100, 200, 400)]
    slopes = [math.log2(after / before) for before, after in itertools.pairwise(errors)]
    order = 1 if solve is ddim_sample else 2
    assert sum(slopes) / 3 == pytest.approx(-order, abs=0.1)
    assert slopes == pytest.approx([-order] * 3, abs=0.15)


def test_adams_bashforth_is_of_second_order_on_the_linear_schedule_too(linear):
    # Its neighboring steps differ in length; the others lose their order there, in an Euler step to sigma_bar = 0.
    errors = [error_at_0(adams_bashforth_sample, linear, S) for S in (125, 250, 500, 1000)]
    assert math.log2(errors[-1] / errors[0]) / 3 == pytest.approx(-2, abs=0.02)


@each_solver
def test_twenty_steps_of_second_order_beat_twenty_of_ddim(linear, solve):
    xT, tau = noise_like(100, 1), make_tau(1000, 20)
    ends = [last_of(walk(gaussian_model(linear), linear, xT, tau)) for walk in (solve, ddim_sample)]
    ours, ddims = ((end - exact_flow(linear, xT, 0)).square().mean().sqrt() for end in ends)
    assert ours < ddims / 3


# What a walk refuses


@each_solver
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("t_bad", [40, 20])
def test_nan_from_the_network_is_refused_with_its_time(short, solve, bad, t_bad):
    def model(xt, t):
        return torch.where(t[:, None] == t_bad, bad, 0.0) * torch.ones_like(xt)

    with pytest.raises(ValueError, match=f"NaN or infinity at t = {t_bad}"):
        list(solve(model, short, noise_like(2, 3), make_tau(40, 2)))


@each_solver
def test_a_network_of_another_shape_is_refused(short, solve):
    with pytest.raises(ValueError, match=r"xt and eps must have the same shape .*\(2, 3\) .*\(2, 6\)"):
        list(solve(lambda xt, t: torch.cat([xt, xt], 1), short, noise_like(2, 3), make_tau(40, 2)))


@each_solver
@pytest.mark.parametrize(("tau", "message"), NO_TAUS)
def test_a_tau_that_is_none_is_refused_at_once(short, solve, tau, message):
    with pytest.raises(ValueError, match=message):
        solve(Recorder(), short, noise_like(2, 3), tau)


@each_solver
@pytest.mark.parametrize("xT", [torch.zeros(2, dtype=torch.int64), torch.tensor(1.0), torch.zeros(0, 3)])
def test_a_state_that_is_no_batch_of_floats_is_refused_at_once(short, solve, xT):
    with pytest.raises(ValueError, match=rf"xT must be a floating-point batch .*{re.escape(str(tuple(xT.shape)))}"):
        solve(Recorder(), short, xT, make_tau(40, 2))


@each_solver
def test_times_whose_noise_agrees_to_nine_digits_are_refused(solve):
    near = math.nextafter(0.5, 0)
    schedule, tau = Schedule.from_alpha_bar([1, 0.9, 0.5, near, 0.1]), torch.arange(5)
    message = "tau must have times of different noise, got [2, 3], where sigma_bar agrees to 9 digits"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        solve(lambda xt, t: xt, schedule, torch.zeros(1, 2), tau)
    list(solve(lambda xt, t: xt, schedule, torch.zeros(1, 2), torch.tensor([0, 1, 2, 4])))
