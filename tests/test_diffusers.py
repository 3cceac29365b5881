"""The samplers beside those of diffusers, where it is installed: `make diffusers`.

diffusers counts times from 0, so that its k is t = k + 1 here. It holds alpha_bar in float32 and takes every
coefficient from that; ``exact=True`` hands it the list in float64, and then only rounding is left.
"""

import itertools
from fractions import Fraction

import pytest
import torch

from ddim_lib import Schedule, ddim_sample, ddim_sigma, ddim_step, make_tau, predict_x0

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed; `make diffusers` installs it")

BOUND = 1e-5  # on every difference in float32; the states are of size 4
ETAS = (0.0, 0.3, 1.0)
OURS = {"leading": "leading", "trailing": "uniform"}  # where S divides T
VARIANCES = {"fixed_small": {"eta": 1.0}, "fixed_large": {"variance": "sigma_hat"}}
each_eta = pytest.mark.parametrize("eta", ETAS)
each_spacing = pytest.mark.parametrize("spacing", OURS)
each_variance = pytest.mark.parametrize("variance_type", VARIANCES)


def random_schedule(T, rising):
    """Random betas between 0.8 / T and 8 / T, in any order or rising; alpha_bar[T] is about 0.01."""
    beta = 8 / T * (0.1 + 0.9 * torch.rand(T, generator=generator(T), dtype=torch.float64))
    alpha_bar = torch.cumprod(1 - (beta.sort().values if rising else beta), dim=0)
    return Schedule.from_alpha_bar([1.0, *alpha_bar.tolist()])


@pytest.fixture(params=[(24, False), (24, True), (60, True), (100, False)], ids=str)
def schedule(request):
    return random_schedule(*request.param)


@pytest.fixture
def few():
    return random_schedule(24, rising=True)


def generator(seed=2):
    return torch.Generator().manual_seed(seed)


def noise_like(seed, dtype=torch.float32):
    return torch.randn(16, 3, generator=generator(seed), dtype=dtype)


def divisors(T):
    return [S for S in range(1, T + 1) if T % S == 0]


def network(schedule):
    """A smooth function of x and t, near enough to a noise estimate for the walk to stay of size 1."""
    std = (1 - schedule.alpha_bar).sqrt()
    return lambda x, t: std[t].to(x.dtype)[:, None] * x + 0.1 * torch.sin(3 * x + 0.1 * t[:, None])


def theirs(name, schedule, S=None, exact=False, **options):
    betas = schedule.beta[1:].tolist()
    options = {"clip_sample": False, **options}
    scheduler = getattr(diffusers, name)(num_train_timesteps=schedule.T, trained_betas=betas, **options)
    if exact:
        scheduler.alphas_cumprod = schedule.alpha_bar[1:]
    if S is not None:
        scheduler.set_timesteps(S)
    return scheduler


def times_of(scheduler):
    """The times of a scheduler as a tau of this book."""
    return torch.tensor([0, *(scheduler.timesteps.flip(0) + 1).tolist()])


def walk_ours(schedule, tau, dtype=torch.float32, **kind):
    steps = ddim_sample(network(schedule), schedule, noise_like(1, dtype), tau, **kind, generator=generator())
    return torch.stack([step.xt for step in steps])


def walk_theirs(scheduler, schedule, tau=None, dtype=torch.float32, **kind):
    """Their states from x_T on; with ``tau``, DDIMScheduler is told before each step where it leads.

    DDIMScheduler takes no list of times, and the time before k is always k - T // num_inference_steps. The only way to
    walk along another list is to set num_inference_steps anew before each step; Fraction(T, t - s) makes it t - s.
    """
    model, x, source = network(schedule), noise_like(1, dtype), generator()
    times = times_of(scheduler) if tau is None else tau
    states = [x]
    for t, s in itertools.pairwise(times.flip(0).tolist()):
        if tau is not None:
            scheduler.num_inference_steps = Fraction(schedule.T, t - s)
        x = scheduler.step(model(x, torch.full((len(x),), t)), t - 1, x, **kind, generator=source).prev_sample
        states.append(x)
    return torch.stack(states)


def difference(a, b):
    assert a.dtype == b.dtype
    return (a - b).abs().max().item()


def too_far(differences, bound=BOUND):
    return {case: value for case, value in differences.items() if not value < bound}


def explicit_taus(T):
    """Lists of S times where S does not divide T: every S for a small T, some for others; uniform, and any."""
    for S in set(range(1, T) if T < 50 else (7, 11, T // 2 - 1, T - 1)) - set(divisors(T)):
        yield make_tau(T, S)
        yield torch.cat([torch.tensor([0]), 1 + torch.randperm(T, generator=generator(S))[:S].sort().values])


# The lists


@pytest.mark.parametrize("T", [24, 60, 100, 1000])
def test_leading_times_are_those_of_make_tau_for_every_S(T):
    schedule = Schedule.linear(T)
    for name in ("DDIMScheduler", "DDPMScheduler"):
        scheduler = theirs(name, schedule)
        for S in range(1, T + 1) if T < 1000 else (*divisors(T), 30, 48, 61, 501):
            scheduler.set_timesteps(S)
            assert torch.equal(times_of(scheduler), make_tau(T, S, "leading"))


@pytest.mark.parametrize("T", [24, 60, 100, 1000])
def test_trailing_times_are_uniform_ones_where_S_divides_T(T):
    for S in divisors(T):
        scheduler = theirs("DDIMScheduler", Schedule.linear(T), S, timestep_spacing="trailing")
        assert torch.equal(times_of(scheduler), make_tau(T, S))


@pytest.mark.parametrize(("T", "S"), [(60, 13), (100, 29), (1000, 61)])
def test_trailing_has_one_time_too_many_for_some_S(T, S):
    scheduler = theirs("DDIMScheduler", Schedule.linear(T), S, timestep_spacing="trailing")
    assert len(scheduler.timesteps) == S + 1
    assert scheduler.timesteps[-1] == -1  # in alphas_cumprod that is the noisiest time


def test_the_named_schedules_are_the_same(linear):
    default = diffusers.DDIMScheduler()
    torch.testing.assert_close(default.alphas_cumprod.double(), linear.alpha_bar[1:], rtol=1e-5, atol=0)
    cosine = diffusers.DDIMScheduler(beta_schedule="squaredcos_cap_v2")
    torch.testing.assert_close(cosine.betas.double(), Schedule.cosine(1000).beta[1:], rtol=1e-5, atol=1e-7)


# Single steps


@each_eta
def test_every_step_of_DDIMScheduler_is_ddim_step(schedule, eta):
    differences = {}
    for S in divisors(schedule.T):
        scheduler = theirs("DDIMScheduler", schedule, S)
        for s, t in itertools.pairwise(make_tau(schedule.T, S, "leading").tolist()):
            x, noise, eps = noise_like(t), noise_like(t + 1), noise_like(t) + 0.1 * noise_like(t + 2)
            a_s, a_t = schedule.alpha_bar[[s, t]].tolist()
            found = scheduler.step(eps, t - 1, x, eta=eta, variance_noise=noise)
            step = ddim_step(x, eps, a_t, a_s, ddim_sigma(a_t, a_s, eta), noise)
            differences[S, t, "x_s"] = difference(found.prev_sample, step)
            differences[S, t, "x_0"] = difference(found.pred_original_sample, predict_x0(x, eps, a_t))
    assert too_far(differences) == {}


# Whole walks


@each_eta
@each_spacing
def test_walks_of_DDIMScheduler_are_ours_where_S_divides_T(schedule, spacing, eta):
    differences = {}
    for S in divisors(schedule.T):
        scheduler = theirs("DDIMScheduler", schedule, S, timestep_spacing=spacing)
        ours = walk_ours(schedule, make_tau(schedule.T, S, OURS[spacing]), eta=eta)
        differences[S] = difference(walk_theirs(scheduler, schedule, eta=eta), ours)
    assert too_far(differences) == {}


@each_variance
def test_walks_of_DDPMScheduler_are_those_of_eta_1_and_of_sigma_hat(schedule, variance_type):
    differences = {}
    for S in divisors(schedule.T):
        scheduler = theirs("DDPMScheduler", schedule, S, variance_type=variance_type)
        ours = walk_ours(schedule, make_tau(schedule.T, S, "leading"), **VARIANCES[variance_type])
        differences[S] = difference(walk_theirs(scheduler, schedule), ours)
    assert too_far(differences) == {}


@each_eta
def test_leading_walks_of_DDIMScheduler_are_ours_for_every_S(few, eta):
    differences = {}
    for S in range(1, few.T + 1):  # the list has the stride T // S that the scheduler takes
        ours = walk_ours(few, make_tau(few.T, S, "leading"), eta=eta)
        differences[S] = difference(walk_theirs(theirs("DDIMScheduler", few, S), few, eta=eta), ours)
    assert too_far(differences) == {}


@each_eta
def test_clipping_is_that_of_use_clipped_model_output(few, eta):
    tau, options = make_tau(few.T, 6, "leading"), {"eta": eta, "use_clipped_model_output": True}
    scheduler = theirs("DDIMScheduler", few, 6, clip_sample=True)
    ours = walk_ours(few, tau, eta=eta, clip_x0=True)
    assert difference(ours, walk_ours(few, tau, eta=eta)) > 0.01
    assert difference(walk_theirs(scheduler, few, **options), ours) < BOUND
    # Without that option, its default, it keeps the eps that belongs to the image before clipping.
    assert difference(walk_theirs(scheduler, few, eta=eta), ours) > 0.01


@each_variance
def test_clipping_is_that_of_DDPMScheduler(few, variance_type):
    scheduler = theirs("DDPMScheduler", few, 6, variance_type=variance_type, clip_sample=True)
    ours = walk_ours(few, make_tau(few.T, 6, "leading"), **VARIANCES[variance_type], clip_x0=True)
    assert difference(walk_theirs(scheduler, few), ours) < BOUND


# The usual thousand steps


@each_eta
def test_DDIMScheduler_with_its_list_in_float64_is_ours_on_the_linear_schedule(linear, eta):
    differences = {}
    for S in divisors(linear.T):
        ours = walk_ours(linear, make_tau(linear.T, S, "leading"), eta=eta)
        differences[S] = difference(walk_theirs(theirs("DDIMScheduler", linear, S, exact=True), linear, eta=eta), ours)
    assert too_far(differences) == {}


@each_variance
def test_DDPMScheduler_with_its_list_in_float64_is_ours_on_the_linear_schedule(linear, variance_type):
    differences = {}
    for S in divisors(linear.T):
        scheduler = theirs("DDPMScheduler", linear, S, exact=True, variance_type=variance_type)
        ours = walk_ours(linear, make_tau(linear.T, S, "leading"), **VARIANCES[variance_type])
        differences[S] = difference(walk_theirs(scheduler, linear), ours)
    assert too_far(differences) == {}


def test_a_list_in_float32_costs_diffusers_digits_on_the_linear_schedule(linear):
    # 1 - alpha_bar[1] = 1e-4 keeps three digits of seven. Above, with the list in float64, these walks keep the bound.
    ours = walk_ours(linear, make_tau(linear.T, linear.T), eta=1.0)
    ddim = walk_theirs(theirs("DDIMScheduler", linear, linear.T), linear, eta=1.0)
    ddpm = walk_theirs(theirs("DDPMScheduler", linear), linear)
    assert difference(ddim, ours) < 5e-5
    assert BOUND < difference(ddpm, ours) < 5e-4


def test_in_float64_twelve_digits_are_the_same(few):
    differences, dtype = {}, torch.float64
    for S in divisors(few.T):
        tau = make_tau(few.T, S, "leading")
        for eta in ETAS:
            found = walk_theirs(theirs("DDIMScheduler", few, S, exact=True), few, dtype=dtype, eta=eta)
            differences[S, eta] = difference(found, walk_ours(few, tau, dtype, eta=eta))
        for variance_type, kind in VARIANCES.items():
            scheduler = theirs("DDPMScheduler", few, S, exact=True, variance_type=variance_type)
            found = walk_theirs(scheduler, few, dtype=dtype)
            differences[S, variance_type] = difference(found, walk_ours(few, tau, dtype, **kind))
    assert too_far(differences, bound=1e-12) == {}


# Lists given explicitly


@each_variance
def test_DDPMScheduler_takes_any_list(schedule, variance_type):
    differences, scheduler = {}, theirs("DDPMScheduler", schedule, variance_type=variance_type)
    for tau in explicit_taus(schedule.T):
        scheduler.set_timesteps(timesteps=(tau[1:].flip(0) - 1).tolist())
        end = -1 if variance_type == "fixed_large" else None  # its last step: see below
        ours = walk_ours(schedule, tau, **VARIANCES[variance_type])
        differences[tuple(tau.tolist())] = difference(walk_theirs(scheduler, schedule)[:end], ours[:end])
    assert too_far(differences) == {}


def test_fixed_large_adds_noise_to_the_clean_image_unless_the_list_ends_at_its_time_0(few):
    scheduler, tau = theirs("DDPMScheduler", few, variance_type="fixed_large"), torch.tensor([0, 5, 9, 24])
    scheduler.set_timesteps(timesteps=[23, 8, 4])
    source = generator()
    *_, noise = (torch.randn(16, 3, generator=source) for _ in range(3))
    ours = walk_ours(few, tau, variance="sigma_hat")[-1]
    assert difference(walk_theirs(scheduler, few)[-1], ours + (1 - few.alpha_bar[5]).sqrt().float() * noise) < BOUND


@each_eta
def test_DDIMScheduler_is_ours_on_any_list_when_told_where_each_step_leads(schedule, eta):
    scheduler, differences = theirs("DDIMScheduler", schedule), {}
    for tau in explicit_taus(schedule.T):
        found = walk_theirs(scheduler, schedule, tau, eta=eta)
        differences[tuple(tau.tolist())] = difference(found, walk_ours(schedule, tau, eta=eta))
    assert too_far(differences) == {}


def test_DDIMScheduler_takes_no_list(few):
    with pytest.raises(TypeError, match="timesteps"):
        theirs("DDIMScheduler", few).set_timesteps(timesteps=[23, 8, 0])


# Where DDIMScheduler is wrong: the time before t is T // S earlier, whatever its list says


def walk_by_stride(schedule, tau, eta):
    """Our steps along tau, asked at its times, but each one leading to t - T // S, or to 0."""
    model, x, source = network(schedule), noise_like(1), generator()
    states = [x]
    for t in tau[1:].flip(0).tolist():
        s = max(t - schedule.T // (len(tau) - 1), 0)
        noise = torch.randn(x.shape, generator=source)
        a_s, a_t = schedule.alpha_bar[[s, t]]
        x = ddim_step(x, model(x, torch.full((len(x),), t)), a_t, a_s, ddim_sigma(a_t, a_s, eta), noise)
        states.append(x)
    return torch.stack(states)


@each_eta
@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_DDIMScheduler_leaves_its_own_list(few, spacing, eta):
    # Right at S = 1 and S = T, where there is one step or the stride is 1; trailing moreover where S divides T.
    right = [1, few.T] if spacing == "linspace" else divisors(few.T)
    for S in range(1, few.T + 1):
        scheduler = theirs("DDIMScheduler", few, S, timestep_spacing=spacing)
        tau = times_of(scheduler)
        found, ours = walk_theirs(scheduler, few, eta=eta), walk_ours(few, tau, eta=eta)
        assert difference(found, ours) < BOUND if S in right else difference(found, ours) > 1e-2
        assert difference(found, walk_by_stride(few, tau, eta)) < BOUND
        assert difference(walk_theirs(scheduler, few, tau, eta=eta), ours) < BOUND  # told the list's own


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_DDPMScheduler_keeps_to_its_list(few, spacing):
    differences = {}
    for S in range(1, few.T + 1):
        scheduler = theirs("DDPMScheduler", few, S, timestep_spacing=spacing)
        ours = walk_ours(few, times_of(scheduler), eta=1.0)
        differences[S] = difference(walk_theirs(scheduler, few), ours)
    assert too_far(differences) == {}


# set_alpha_to_one=False: there is no time 0


@each_eta
def test_without_alpha_to_one_the_last_step_does_nothing_and_the_end_is_our_x_1(few, eta):
    differences = {}
    for S in divisors(few.T):
        scheduler = theirs("DDIMScheduler", few, S, set_alpha_to_one=False)
        found = walk_theirs(scheduler, few, eta=eta)
        ours = walk_ours(few, make_tau(few.T, S, "leading"), eta=eta)
        differences[S, "before"] = difference(found[:-1], ours[:-1])
        differences[S, "end"] = difference(found[-1], ours[-2])
    assert too_far(differences) == {}


@each_eta
def test_with_an_offset_of_1_the_last_step_leads_to_our_x_1(few, eta):
    differences = {}
    for S in divisors(few.T)[:-1]:  # at S = T the first time would be T + 1
        scheduler = theirs("DDIMScheduler", few, S, set_alpha_to_one=False, steps_offset=1)
        times = make_tau(few.T, S, "leading")[1:] + 1
        ours = walk_ours(few, torch.cat([torch.tensor([0, 1]), times]), eta=eta)
        differences[S] = difference(walk_theirs(scheduler, few, eta=eta), ours[:-1])
    assert too_far(differences) == {}
