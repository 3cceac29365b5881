"""Mistakes that were made before, by name: each in code or as a formula, for the tests that must refute it.

A number such as D4 is an entry of the errata page (`chapters/90_errata.ipynb`), where the slip is quoted.
"""

from dataclasses import dataclass

import sympy as sp
from claims import AT_DDPM, HO, a_r, a_s, a_t, eta, half, paper_mean

from ddim_lib.symbols import (
    beta_t,
    beta_tilde,
    eps,
    eps_theta,
    m,
    m_ddpm,
    m_solved,
    n,
    n_ddpm,
    n_solved,
    sigma,
    x0,
    xs,
    xt,
    z,
)

Eq, Le, Gt, Ge = sp.Eq, sp.Le, sp.Gt, sp.Ge
sqrt, log, exp, pi = sp.sqrt, sp.log, sp.exp, sp.pi


@dataclass(frozen=True)
class FormulaMistake:
    """A claim that is wrong as it was printed, and the one that should stand there.

    Attributes:
        entry: the number of the entry of the errata.
        wrong, right: an equation or an inequality, and what names in it stand for, as ``prove`` takes them.
    """

    entry: str
    wrong: tuple[sp.Basic, dict]
    right: tuple[sp.Basic, dict]


@dataclass(frozen=True)
class CodeMistake:
    """A piece of one function of ddim_lib, and what stood there, or could, by mistake.

    Attributes:
        name: what went wrong.
        seen: where, in words, or the number of the entry of the errata.
        function: its module in ddim_lib and its name.
        right: as it stands in the function, once.
        wrong: what takes its place.
        refuted_by: node ids of tests that must not all pass then; without a parameter, all of a test's.
    """

    name: str
    seen: str
    function: str
    right: str
    wrong: str
    refuted_by: tuple[str, ...]


def tests(module, *names):
    return tuple(f"test_{module}.py::test_{name}" for name in names)


THE_ISSUES = {  # the mistakes of other programs that the book promises to rule out, and the names that they have here
    "eta times variance": "eta times the variance",
    "stride arithmetic": "tau by a stride",
    "indexing alpha_bar one off": "alpha_bar of the time before, in sampling",
    "noise added on the last step": "noise on the last step of sigma-hat",
    "sigma-hat in the mean": "sigma-hat in the mean",
    "clipping x_0 without re-deriving eps": "x_0 clipped, eps left as it was",
}

LAST_STEP = tests("samplers", "the_last_step_adds_no_noise")
BY_HAND = tests("samplers", "a_deterministic_walk_by_hand")
STEP_BY_HAND = tests("samplers", "a_step_by_hand")
SIGMA = tests("samplers", "sigma_by_hand", "sigma_squared_goes_with_eta_squared")
COEFFICIENTS = tests("samplers", "coefficients_by_hand")
FORWARD = tests("forward", "q_sample_by_hand", "each_sample_may_have_its_own_alpha_bar")
TAU = tests("schedules", "tau_by_hand")
SEEN_STATE = tests("train", "the_model_sees_a_state_as_noisy_as_its_time")
COSINE = tests("schedules", "cosine_is_nichol_and_dhariwals_closed_form_where_beta_is_not_capped")
LINEAR = tests("schedules", "alpha_bar_of_linear_is_a_falling_factorial")
MIXTURE = tests("oracle", "eps_of_a_mixture_is_the_numerical_slope_of_its_log_density")
FRECHET = tests(
    "metrics", "points_without_any_spread_are_their_distance_apart", "the_distance_of_covariances_of_rank_1"
)

HARMLESS = CodeMistake("none", "nowhere", "forward.q_sample", "std * noise", "noise * std", FORWARD)

IN_CODE = [
    # Schedules
    CodeMistake(
        "one product for every t",
        "P13",
        "schedules.Schedule._from_beta",
        "torch.cumprod(1 - beta, dim=0)",
        "(1 - beta).prod().expand(len(beta))",
        LINEAR,
    ),
    CodeMistake(
        "1 - beta for its product",
        "programs that follow DDPM's letters where the DDIM paper's are meant: its alpha is a product already",
        "schedules.Schedule._from_beta",
        "torch.cumprod(1 - beta, dim=0)",
        "1 - beta",
        LINEAR,
    ),
    CodeMistake(
        "roots of beta evenly spaced",
        "the schedule called scaled_linear of latent diffusion, taken for DDPM's",
        "schedules.Schedule.linear",
        "torch.linspace(beta_1, beta_T, T, dtype=torch.float64)",
        "torch.linspace(beta_1**0.5, beta_T**0.5, T, dtype=torch.float64).square()",
        LINEAR,
    ),
    CodeMistake(
        "linear betas that stop short of beta_T",
        "linspace taken for a range without its end",
        "schedules.Schedule.linear",
        "torch.linspace(beta_1, beta_T, T, dtype=torch.float64)",
        "torch.linspace(beta_1, beta_T, T + 1, dtype=torch.float64)[:T]",
        LINEAR + tests("schedules", "linear_runs_from_beta_1_to_beta_T"),
    ),
    CodeMistake(
        "the cosine without its square",
        "a slip in transcribing Nichol & Dhariwal 2021, equation 17",
        "schedules.Schedule.cosine",
        "torch.cos(phase).square()",
        "torch.cos(phase)",
        COSINE,
    ),
    CodeMistake(
        "the cosine without its offset in the denominator",
        "a slip in transcribing Nichol & Dhariwal 2021, equation 17",
        "schedules.Schedule.cosine",
        "/ (1 + offset)",
        "",
        COSINE,
    ),
    CodeMistake(
        "betas of the cosine not capped",
        "a slip in transcribing Nichol & Dhariwal 2021: the last beta is 1 then, but for rounding",
        "schedules.Schedule.cosine",
        ".clamp(max=0.999)",
        "",
        tests("schedules", "cosine_caps_beta_at_0_999"),
    ),
    # Times
    CodeMistake(
        "tau by a stride",
        "the authors' program and diffusers' default: T // S, T left out wherever S does not divide it",
        "schedules._spaced",
        "i * T // S  # def-tau",
        "i * (T // S)",
        TAU,
    ),
    CodeMistake("the first S times", "A3", "schedules._spaced", "i * T // S  # def-tau", "i", TAU),
    CodeMistake("a subset without T", "D9", "schedules._spaced", "i * T // S  # def-tau", "i * T // (S + 1)", TAU),
    CodeMistake(
        "quadratic times rounded down",
        "P16",
        "schedules._spaced",
        "-((-T * i * i) // (S * S))",
        "T * i * i // (S * S)",
        TAU,
    ),
    CodeMistake(
        "leading times counted from 0",
        "the authors' times 0..T-1, used as they are where times run from 1 to T",
        "schedules._spaced",
        "1 + (i - 1) * (T // S)",
        "(i - 1) * (T // S)",
        TAU,
    ),
    CodeMistake(
        "the network asked about the time before",
        "1-based times given to a network that was trained on 0-based ones, or the reverse",
        "walks.evaluate",
        "t, dtype=torch.int64",
        "t - 1, dtype=torch.int64",
        tests("samplers", "the_model_is_called_S_times_at_the_reversed_times"),
    ),
    CodeMistake(
        "times of training from 0 to T - 1",
        "randint(0, T) where index 0 is clean data",
        "train.draw_times",
        "(1 + (share * T).long()).clamp(max=T)",
        "(share * T).long()",
        tests("train", "times_are_uniform_on_1_to_T"),
    ),
    # The marginal
    CodeMistake(
        "no roots in the network's input",
        "D7",
        "forward._signal_and_noise",
        "per_sample(root(alpha_bar_t), x), per_sample(root(1 - alpha_bar_t), x)",
        "per_sample(alpha_bar_t, x), per_sample(1 - alpha_bar_t, x)",
        FORWARD,
    ),
    CodeMistake(
        "the noise's share of time t in a state of time 1",
        "P5",
        "forward._signal_and_noise",
        "per_sample(root(1 - alpha_bar_t), x)",
        "per_sample(root(1 - alpha_bar_t**2), x)",
        FORWARD,
    ),
    CodeMistake(
        "signal and noise swapped",
        "sqrt_alphas_cumprod and sqrt_one_minus_alphas_cumprod, mistaken for each other",
        "forward.q_sample",
        "signal * x0 + std * noise",
        "std * x0 + signal * noise",
        FORWARD,
    ),
    CodeMistake(
        "x_0 from x_t without the division",
        "the last factor of the paper's (9) left out",
        "forward.predict_x0",
        "(xt - std * eps) / signal",
        "xt - std * eps",
        STEP_BY_HAND,
    ),
    CodeMistake(
        "x_0 with the noise added",
        "a sign",
        "forward.predict_x0",
        "(xt - std * eps) / signal",
        "(xt + std * eps) / signal",
        STEP_BY_HAND,
    ),
    CodeMistake(
        "the loss of x_0 for that of the noise",
        "D8",
        "train.noise_prediction_loss",
        "F.mse_loss(model(xt, t).to(eps.dtype), eps)",
        "F.mse_loss(model(xt, t).to(eps.dtype), x0)",
        tests("train", "a_model_that_knows_the_noise_has_no_loss"),
    ),
    CodeMistake(
        "beta for 1 - alpha_bar, in training",
        "DDPM's alpha_t, which is 1 - beta_t, taken for its product",
        "train.noise_prediction_loss",
        "schedule.alpha_bar.to(x0.device)[t]",
        "(1 - schedule.beta).to(x0.device)[t]",
        SEEN_STATE,
    ),
    CodeMistake(
        "alpha_bar of the time before, in training",
        "an array without the value for clean data, indexed by times that run from 1",
        "train.noise_prediction_loss",
        "schedule.alpha_bar.to(x0.device)[t]",
        "schedule.alpha_bar.to(x0.device)[t - 1]",
        SEEN_STATE,
    ),
    CodeMistake(
        "the moving average with its weights exchanged",
        "decay and 1 - decay",
        "train.update_ema",
        "list(model.parameters()), 1 - decay",
        "list(model.parameters()), decay",
        tests("train", "the_moving_average_by_hand"),
    ),
    # Sigma
    CodeMistake(
        "eta times the variance",
        "D4, and programs: sigma^2 = eta beta_tilde",
        "samplers.ddim_sigma",
        "eta * ((1 - alpha_bar_s) / (1 - alpha_bar_t) * one_step).sqrt()",
        "(eta * (1 - alpha_bar_s) / (1 - alpha_bar_t) * one_step).sqrt()",
        SIGMA,
    ),
    CodeMistake(
        "the variance for sigma",
        "P7, P13: sigma where sigma^2 stands, or the reverse",
        "samplers.ddim_sigma",
        "eta * ((1 - alpha_bar_s) / (1 - alpha_bar_t) * one_step).sqrt()",
        "eta * (1 - alpha_bar_s) / (1 - alpha_bar_t) * one_step",
        SIGMA,
    ),
    CodeMistake(
        "beta for beta_tilde at eta = 1",
        "programs that call DDPM's larger variance eta = 1",
        "samplers.ddim_sigma",
        "eta * ((1 - alpha_bar_s) / (1 - alpha_bar_t) * one_step).sqrt()",
        "eta * one_step.sqrt()",
        SIGMA,
    ),
    CodeMistake(
        "beta_tilde with s and t exchanged",
        "alphas_cumprod and alphas_cumprod_prev, mistaken for each other",
        "samplers.ddim_sigma",
        "(1 - alpha_bar_s) / (1 - alpha_bar_t) * one_step",
        "(1 - alpha_bar_t) / (1 - alpha_bar_s) * one_step",
        SIGMA,
    ),
    CodeMistake(
        "no upper limit for sigma",
        "P2, and P18",
        "samplers._direction",
        "(sigma >= 0) & (variance <= room * (1 + 1e-12))",
        "sigma >= 0",
        tests("samplers", "a_sigma_without_a_real_root_is_refused"),
    ),
    CodeMistake(
        "no upper limit for eta",
        "P2",
        "samplers.ddim_sigma",
        "eta > bound * (1 + 1e-13)",
        "eta > math.inf",
        tests("samplers", "the_largest_eta_of_a_walk_is_set_by_the_steps_that_add_noise"),
    ),
    # The step
    CodeMistake(
        "sigma^2 not taken off in the direction",
        "programs that add noise to the deterministic update: too much variance",
        "samplers._direction",
        "torch.as_tensor(room - variance, ",
        "torch.as_tensor(room, ",
        STEP_BY_HAND,
    ),
    CodeMistake(
        "sigma for its square in the direction",
        "a square left out",
        "samplers._direction",
        "variance = sigma * sigma",
        "variance = sigma",
        STEP_BY_HAND,
    ),
    CodeMistake(
        "the direction without its root",
        "a root left out",
        "samplers._direction",
        ".clamp(min=0).sqrt()",
        ".clamp(min=0)",
        STEP_BY_HAND,
    ),
    CodeMistake(
        "the other root",
        "A2",
        "samplers._direction",
        "return torch",
        "return -torch",
        STEP_BY_HAND + COEFFICIENTS,
    ),
    CodeMistake(
        "sigma under the root, no noise added",
        "B12",
        "samplers._step_from",
        "return xs + per_sample(sigma, xs) * noise",
        "return xs",
        STEP_BY_HAND,
    ),
    CodeMistake(
        "x_0 predicted at the level of the state that is yet to be drawn",
        "P12",
        "samplers.ddim_step",
        "predict_x0(xt, eps, alpha_bar_t)",
        "predict_x0(xt, eps, alpha_bar_s)",
        STEP_BY_HAND,
    ),
    CodeMistake(
        "the state kept in place of the data",
        "P9",
        "samplers.ddim_step",
        "predict_x0(xt, eps, alpha_bar_t)",
        "xt",
        STEP_BY_HAND,
    ),
    CodeMistake(
        "m with a variance for a standard deviation",
        "D2",
        "samplers.ddim_coefficients",
        "_direction(alpha_bar_s, sigma) / (1 - alpha_bar_t).sqrt()",
        "(1 - alpha_bar_s).square().sub(sigma**2).sqrt() / (1 - alpha_bar_t).sqrt()",
        COEFFICIENTS,
    ),
    CodeMistake(
        "m without the root of alpha_bar_t",
        "D1: a root missing in the factor of x_0",
        "samplers.ddim_coefficients",
        "n * alpha_bar_t.sqrt()",
        "n * alpha_bar_t",
        COEFFICIENTS,
    ),
    # The walk
    CodeMistake(
        "alpha_bar of the time before, in sampling",
        "an array without the value for clean data, indexed by times that run from 1",
        "samplers.ddim_sample",
        "(tau, schedule.alpha_bar[tau], *levels)",
        "(tau, schedule.alpha_bar[(tau - 1).clamp(min=0)], *levels)",
        BY_HAND,
    ),
    CodeMistake(
        "1 - beta for alpha_bar, in sampling",
        "D3: the bar left out",
        "samplers.ddim_sample",
        "(tau, schedule.alpha_bar[tau], *levels)",
        "(tau, 1 - schedule.beta[tau], *levels)",
        BY_HAND,
    ),
    CodeMistake(
        "noise on the last step of sigma-hat",
        "P17",
        "samplers.ddim_sample",
        "        yield Step(0, x, x, eps)",
        "        if variance == 'sigma_hat':\n"
        "            x = x + (1 - alpha_bar[1]) ** 0.5 * _randn_like(x, generator)\n"
        "        yield Step(0, x, x, eps)",
        LAST_STEP,
    ),
    CodeMistake(
        "noise on the last step of DDPM",
        "C6, and P3: sigma_1 above 0",
        "samplers.ddim_sample",
        "        yield Step(0, x, x, eps)",
        "        if eta == 1:\n"
        "            x = x + (1 - alpha_bar[1]) ** 0.5 * _randn_like(x, generator)\n"
        "        yield Step(0, x, x, eps)",
        LAST_STEP,
    ),
    CodeMistake(
        "sigma-hat in the mean",
        "programs with one sigma for the direction and for the noise",
        "samplers._noise_levels",
        "return sigma, std",
        "return torch.minimum(std, (1 - torch.cat([torch.ones(1), alpha_bar[:-1]])).sqrt()), std",
        tests("samplers", "sigma_hat_has_the_mean_of_eta_1_and_the_larger_noise"),
    ),
    CodeMistake(
        "sigma-hat no larger than sigma",
        "beta_tilde, where beta is meant",
        "samplers._noise_levels",
        "return sigma, std",
        "return sigma, sigma",
        tests("samplers", "sigma_hat_has_the_mean_of_eta_1_and_the_larger_noise")
        + tests("paper", "section_5_sigma_hat_is_larger_than_sigma_of_eta_1"),
    ),
    CodeMistake(
        "x_0 clipped, eps left as it was",
        "diffusers' scheduler by default (use_clipped_model_output=False)",
        "samplers.ddim_sample",
        "eps = predict_eps(x, x0_pred, alpha_bar[i])",
        "pass",
        tests("samplers", "clipping_takes_eps_anew_from_the_clipped_image"),
    ),
    CodeMistake(
        "the estimate of another time in the second half of the step",
        "B7",
        "samplers.ddim_sample",
        "eps = evaluate(model, x, times[i])",
        "eps = evaluate(model, x, times[i]) if i == len(times) - 1 else eps",
        tests("samplers", "the_model_is_called_S_times_at_the_reversed_times"),
    ),
    CodeMistake(
        "a fresh noise for the old one",
        "B8, B9: the two noises merged, given x_t",
        "samplers.ddim_sample",
        "            yield Step(times[i], x, x0_pred, eps)",
        "            yield Step(times[i], x, x0_pred, eps)\n            eps = torch.randn_like(x)",
        tests("samplers", "eta_0_draws_no_random_number") + BY_HAND,
    ),
    CodeMistake(
        "encoding with s and t exchanged",
        "the step of sampling, called upwards as it stands",
        "samplers.ddim_encode",
        "alpha_bar[i], alpha_bar[i + 1], sigma=0.0",
        "alpha_bar[i + 1], alpha_bar[i], sigma=0.0",
        tests("samplers", "encoding_by_hand"),
    ),
    CodeMistake(
        "the network asked about time 0",
        "encoding from an image, at a time that no training has seen",
        "samplers.ddim_encode",
        "max(1, int(tau[i]))",
        "int(tau[i])",
        tests("samplers", "encoding_walks_up_tau_and_asks_about_time_1_at_time_0"),
    ),
    CodeMistake(
        "a straight line between two noises",
        "programs that mix starts linearly: too little noise in the middle",
        "samplers.slerp",
        "((1 - weight) * angle).sin() / angle.sin()",
        "1 - weight",
        tests("samplers", "slerp_by_hand"),
    ),
    # Solvers
    CodeMistake(
        "an Euler step in sigma^2",
        "P8: the update of the paper's (15)",
        "solvers.heun_sample",
        "h = level[i - 1] - level[i]",
        "h = (level[i - 1] ** 2 - level[i] ** 2) / (2 * level[i])",
        tests("solvers", "heuns_method_by_hand"),
    ),
    CodeMistake(
        "Heun's second slope at the first time",
        "the state moved on, the time not",
        "solvers.heun_sample",
        "times[i - 1]",
        "times[i]",
        tests("solvers", "heuns_second_slope_is_asked_for_at_the_end_of_an_euler_step"),
    ),
    CodeMistake(
        "Adams-Bashforth's 3/2 and 1/2 on steps of different lengths",
        "PNDM's coefficients, which are those of equal steps",
        "solvers.adams_bashforth_sample",
        "ratio = h / (level[i] - level[i + 1])",
        "ratio = 1",
        tests("solvers", "the_adams_bashforth_method_by_hand"),
    ),
    CodeMistake(
        "the exponential method's steps in sigma_bar",
        "lengths of steps in another coordinate than the extrapolation's",
        "solvers.exponential_sample",
        "math.log(level[j]) - math.log(level[j - 1])",
        "level[j] - level[j - 1]",
        tests(
            "solvers",
            "the_exponential_method_holds_the_x0_of_the_middle_of_a_step_if_it_is_linear_in_lambda",
        ),
    ),
    CodeMistake(
        "the ratio of two steps upside down",
        "DPM-Solver++'s r, and its inverse",
        "solvers.exponential_sample",
        "step / before / 2",
        "before / step / 2",
        tests(
            "solvers",
            "the_exponential_method_holds_the_x0_of_the_middle_of_a_step_if_it_is_linear_in_lambda",
        ),
    ),
    CodeMistake(
        "sigma_bar without the division",
        "P7: the bar missing",
        "solvers.sigma_bar",
        "((1 - alpha_bar) / alpha_bar).sqrt()",
        "(1 - alpha_bar).sqrt()",
        tests("solvers", "sigma_bar_is_noise_over_signal_and_starts_at_0"),
    ),
    # Exact estimates
    CodeMistake(
        "the spread of the data not scaled",
        "the covariance of x_0 in that of x_t, without alpha_bar",
        "oracle.GaussianMixture.expected_x0",
        "alpha_bar_t[:, None, None, None] * self.covariances",
        "1 * self.covariances[None]",
        MIXTURE,
    ),
    CodeMistake(
        "a density that is not normalized",
        "C4: components of different width then have the wrong shares",
        "oracle.GaussianMixture.expected_x0",
        "quadratic + torch.logdet(total)",
        "quadratic + torch.logdet(total) / 2",
        MIXTURE,
    ),
    CodeMistake(
        "the 2 of a Gaussian's exponent missing",
        "a factor",
        "oracle.PointSet.expected_x0",
        "(2 * variance[:, None])",
        "variance[:, None]",
        tests("oracle", "two_points_give_the_hyperbolic_tangent"),
    ),
    # Measures
    CodeMistake(
        "twice the cross term missing",
        "a slip in transcribing the Frechet distance",
        "metrics.frechet_distance",
        "- 2 * cross",
        "- cross",
        FRECHET,
    ),
    CodeMistake(
        "the root of the distance of means",
        "the Frechet distance is published squared",
        "metrics.frechet_distance",
        "(a.mean - b.mean).square().sum()",
        "(a.mean - b.mean).norm()",
        FRECHET,
    ),
    CodeMistake(
        "pairs of an image with itself",
        "the biased estimate of the kernel distance, taken for the unbiased one",
        "metrics._mmd",
        "(kernel(a, a).sum() - kernel(a, a).trace()) / (n * (n - 1))",
        "kernel(a, a).mean()",
        tests("metrics", "the_kernel_distance_by_its_definition"),
    ),
    CodeMistake(
        "an error on the scale from -1 to 1",
        "the paper's Table 2 is on the scale from 0 to 1",
        "inversion.reconstruction_error",
        "(decoded.double() - x0.double()) / 2",
        "decoded.double() - x0.double()",
        tests("inversion", "the_scale_is_that_of_pixels_in_0_to_1"),
    ),
]


# Formulas


def over_noise(expression, *noises):
    """The mean over independent standard Gaussian noises, of an expression quadratic in each."""
    for noise in noises:
        powers = sp.expand(expression)
        expression = powers.coeff(noise, 0) + powers.coeff(noise, 2)
    return expression


def normal_density(deviation, variance):
    return exp(-(deviation**2) / (2 * variance)) / sqrt(2 * pi * variance)


def bell_area(curvature):
    """The integral over x of exp(-curvature x^2 / 2)."""
    return sqrt(2 * pi / curvature)


def same(left, right, **where):
    """An equation that SymPy leaves as it is, and what names in it stand for, by the symbols' names."""
    return Eq(left, right, evaluate=False), {symbol: where[symbol.name] for symbol in NAMED if symbol.name in where}


def noisy(level):
    return sqrt(level) * x0 + sqrt(1 - level) * eps


def line_99(of_r, of_t):
    """The mean of x_r without noise, of data that is 1, if these are the alphas of the paper's (7)."""
    return sqrt(of_r) + sqrt(1 - of_r) / sqrt(1 - of_t) * (sqrt(a_t) - sqrt(of_t))


b, c, d, q, u, v, share = sp.symbols("b c d q u v varsigma", positive=True)
error, level = sp.symbols("Delta level", positive=True)
time_t, time_s, k = sp.symbols("t s k", positive=True)
a_1, a_2, s_1, s_2 = sp.symbols("a_1 a_2 s_1 s_2", positive=True)
lam, kappa, rho, other = sp.symbols("lambda kappa rho epsilon_other", real=True)
NAMED = (m, n, sigma, x0, c, k, rho, v, lam, kappa, other, level)

LAST = {a_s: 1}  # of the step to time 0
MEAN, DDPM_MEAN = m_solved * x0 + n_solved * xt, m_ddpm * x0 + n_ddpm * xt
TRUE, GUESS = ((xt - sqrt(1 - a_t) * noise) / sqrt(a_t) for noise in (eps, eps + error))  # x_0, and its estimate
OLD = 1 - a_s - sigma**2  # the variance of the noise that is kept
X1_VARIANCE = a_t * v + 1 - a_t  # of x_1, for data of variance v
X1_MISS = v - 2 * c * sqrt(a_t) * v + c**2 * X1_VARIANCE  # E (x_0 - c x_1)^2
X1_BEST = {c: sqrt(a_t) * v / X1_VARIANCE, b: v * (1 - a_t) / X1_VARIANCE}
BOUND = (1 - log(2 * pi) + log(1 - a_t) - log(b) - X1_VARIANCE - X1_MISS / b) / 2
LIKELIHOOD = -(1 + log(2 * pi * v)) / 2
VLB_WEIGHT = beta_t**2 / (2 * q * (1 - beta_t) * (1 - a_t))
FAMILY_WEIGHT = m_solved**2 * (1 - a_t) / (2 * sigma**2 * a_t)
SIGMA_BAR = sqrt((1 - a_t) / a_t)
CORRELATED = rho * eps + sqrt(1 - rho**2) * z
MERGED = n * sqrt(1 - a_t) * eps + sigma * CORRELATED
PAIR = a_1 * s_1 * eps + a_2 * s_2 * CORRELATED
MARKOV = Eq(sqrt(a_t) - sqrt(a_s) * (m * sqrt(a_t) + n), 0)  # Cov(x_0, x_t | x_s), for data of variance 1
COVARIANCE = over_noise((n_solved * sqrt(1 - a_t) * eps + sigma * z) * sqrt(1 - a_t) * eps, eps, z)
DDIM_UPDATE = sqrt(a_s) * TRUE + sqrt(1 - a_s) * eps
PAPER_SIGMA = eta * sqrt((1 - a_s) / (1 - a_t)) * sqrt(1 - a_t / a_s)
STEP_R, STEP_T = a_r / a_s, a_t / a_r  # 1 - beta of the steps to r and to t
EULER_IN_T = (time_s - time_t) * k * time_t ** (k - 1)

IN_FORMULAS = [
    # The paper: bound and family
    FormulaMistake("P1", (Le(LIKELIHOOD, BOUND), X1_BEST), (Ge((v - 1 - log(v)) / 2, 0), {})),
    FormulaMistake("P2", (Ge(OLD, 0), {sigma: 2 * sqrt(1 - a_s)}), (Ge(OLD, 0), {})),
    FormulaMistake("P2", same(sigma, sqrt(1 - a_s), sigma=sqrt(beta_tilde)), (Gt((1 - a_t) / beta_t, 1), {})),
    FormulaMistake("P3", (Ge(OLD.subs(LAST), 0), {}), same(beta_tilde.subs(LAST), 0)),
    FormulaMistake(
        "P4",
        same(FAMILY_WEIGHT, 1 / (2 * d * sigma**2 * a_t)),
        same(FAMILY_WEIGHT, (MEAN.subs(x0, TRUE) - MEAN.subs(x0, GUESS)) ** 2 / (2 * sigma**2) / error**2),
    ),
    FormulaMistake(
        "P5",
        same(over_noise((sqrt(1 - level) * eps) ** 2, eps), 1 - a_s, level=a_t),
        same(over_noise((sqrt(1 - level) * eps) ** 2, eps), 1 - a_s, level=a_s),
    ),
    FormulaMistake("P6", same((log(2 * pi) + X1_VARIANCE) / 2, 0), (Ge((log(2 * pi) + X1_VARIANCE) / 2, 0), {})),
    FormulaMistake(
        "P6",
        same(normal_density(z, 1), log(normal_density(z, 1))),
        same(log(normal_density(z, 1)), -(z**2) / 2 - log(2 * pi) / 2),
    ),
    # The differential equation
    FormulaMistake("P7", same(1 / a_t, SIGMA_BAR), same(1 / a_t, 1 + SIGMA_BAR**2)),
    FormulaMistake(
        "P8",
        same(EULER_IN_T, (time_s ** (2 * k) - time_t ** (2 * k)) / (2 * time_t**k), k=1),
        same(EULER_IN_T, (time_s ** (2 * k) - time_t ** (2 * k)) / (2 * time_t**k), k=half),
    ),
    FormulaMistake("P8", same(EULER_IN_T, time_s**k - time_t**k, k=half), same(EULER_IN_T, time_s**k - time_t**k, k=1)),
    FormulaMistake(
        "P9",
        same(sqrt(1 - a_t) * eps / (1 - sqrt(a_t)), noisy(a_t)),  # the solution of x_t = ... x_t + ... eps
        same(noisy(a_t) / sqrt(a_t), x0 + SIGMA_BAR * eps),
    ),
    # The paper's appendices
    FormulaMistake("P10", same(normal_density(0, sigma**2), 1), same(normal_density(0, v) * bell_area(1 / v), 1)),
    FormulaMistake(
        "P11",
        same(normal_density(0, v) * bell_area(c**2 / v), 1),  # the integral over x_1 of N(x_0; c x_1, v)
        same(normal_density(0, v) * bell_area(1 / v), 1),  # over x_0
    ),
    FormulaMistake("P12", same(TRUE.subs(xt, noisy(a_s)), x0), same(TRUE.subs(xt, noisy(a_t)), x0)),
    FormulaMistake(
        "P13",
        same(-sp.diff(log(normal_density(z, sigma)), z) / z, 1 / sigma**2),
        same(-sp.diff(log(normal_density(z, sigma**2)), z) / z, 1 / sigma**2),
    ),
    FormulaMistake(
        "P14",
        same(over_noise((u - 1) * z**2 / 2, z) - log(u) / 2, 0),
        same(over_noise((u - 1) * z**2 / 2, z) - log(u) / 2, (u - 1 - log(u)) / 2),
    ),
    FormulaMistake("P17", same((1 - a_t / a_s).subs(LAST), 0), same(beta_tilde.subs(LAST), 0)),
    FormulaMistake(
        "P18",
        (Ge((1 - a_s) - (1 - a_t) * share, 0), {share: 1}),
        (Ge((1 - a_s) - (1 - a_t) * share, 0), {share: (1 - a_s) / (1 - a_t)}),
    ),
    # A
    FormulaMistake(
        "A1",
        same(over_noise(MERGED**2, eps, z), n**2 * (1 - a_t) + sigma**2),
        same(over_noise(MERGED**2, eps, z), n**2 * (1 - a_t) + sigma**2, rho=0),
    ),
    FormulaMistake("A2", (Eq(n, n_ddpm), {n: -n_solved} | AT_DDPM), (Eq(n, n_ddpm), {n: n_solved} | AT_DDPM)),
    FormulaMistake("A2", (Eq(m, m_ddpm), {m: sqrt(a_s) + sqrt(a_t) * n_solved} | AT_DDPM), (Eq(m, m_ddpm), HO)),
    # B
    FormulaMistake("B1", (MARKOV, {m: m_solved, n: n_solved}), (MARKOV, {m: m_ddpm, n: n_ddpm})),
    FormulaMistake("B2", same(c * (v / c) ** (2 * k), v, k=1), same(c * (v / c) ** (2 * k), v, k=half)),
    FormulaMistake(
        "B3",
        same(DDIM_UPDATE, xt + beta_t / 2 * (xt - eps / sqrt(1 - a_t))),
        same(DDIM_UPDATE / sqrt(a_s), xt / sqrt(a_t) + (sqrt((1 - a_s) / a_s) - SIGMA_BAR) * eps),
    ),
    FormulaMistake(
        "B4",
        (Le(VLB_WEIGHT, 1000), {q: beta_tilde}),  # no limit: at t = 1 it is infinite
        (Eq(VLB_WEIGHT, beta_t / (2 * (1 - beta_t) * (1 - a_s))), {q: beta_tilde}),
    ),
    FormulaMistake("B5", (Eq(DDPM_MEAN, MEAN), {}), (Eq(DDPM_MEAN, MEAN), AT_DDPM)),
    FormulaMistake(
        "B6",
        (Eq(FAMILY_WEIGHT, VLB_WEIGHT), {q: beta_tilde}),
        (Eq(m**2 * (1 - a_t) / (2 * sigma**2 * a_t), VLB_WEIGHT), {q: beta_tilde, m: m_ddpm} | AT_DDPM),
    ),
    FormulaMistake(
        "B7",
        same((noisy(a_t) - sqrt(a_s) * x0) ** 2, (1 - a_s) * eps**2),
        same((noisy(a_s) - sqrt(a_s) * x0) ** 2, (1 - a_s) * eps**2),
    ),
    FormulaMistake(
        "B7",
        same(sqrt(a_s) * TRUE.subs(xt, noisy(a_t)) + sqrt(1 - a_s) * other, noisy(a_s)),
        same(sqrt(a_s) * TRUE.subs(xt, noisy(a_t)) + sqrt(1 - a_s) * other, noisy(a_s), epsilon_other=eps),
    ),
    FormulaMistake("B8", same(COVARIANCE, 0), same(COVARIANCE, sqrt(1 - a_t) * sqrt(OLD))),
    FormulaMistake("B9", same(OLD + sigma**2, sigma**2), same(paper_mean(), MEAN)),
    FormulaMistake(
        "B10",
        (Eq(COVARIANCE, sqrt(1 - beta_t) * (1 - a_s)), {}),
        (Eq(COVARIANCE, sqrt(1 - beta_t) * (1 - a_s)), AT_DDPM),
    ),
    FormulaMistake(
        "B12",
        same(over_noise((sqrt(OLD) * eps) ** 2, eps), 1 - a_s),
        same(over_noise((sqrt(OLD) * eps + sigma * z) ** 2, eps, z), 1 - a_s),
    ),
    # C
    FormulaMistake(
        "C1",
        same(normal_density(xs - x0, 1) * normal_density(xt - c * xs, v), normal_density(xs - x0, 1)),
        same(normal_density(xs - x0, 1) * normal_density(0, v) * bell_area(1 / v), normal_density(xs - x0, 1)),
    ),
    FormulaMistake(
        "C2",
        same(over_noise(PAIR**2, eps, z), a_1**2 * s_1**2 + a_2**2 * s_2**2),
        same(over_noise(PAIR**2, eps, z), a_1**2 * s_1**2 + a_2**2 * s_2**2, rho=0),
    ),
    FormulaMistake("C3", (Ge(a_t - a_t / a_s, 0), {}), (Gt(a_t / a_r - a_t / a_s, 0), {})),
    FormulaMistake(
        "C4",
        same(bell_area(1 / s_1**2) / sqrt(2 * pi * s_1), 1),
        same(bell_area(1 / s_1**2) / (sqrt(2 * pi) * s_1), 1),
    ),
    FormulaMistake(
        "C5",
        same(sp.Abs(eps - eps_theta**2), (eps - eps_theta) ** 2),
        same(sp.Abs(eps - eps_theta) ** 2, (eps - eps_theta) ** 2),
    ),
    FormulaMistake("C6", same((1 - a_t / a_s).subs(LAST), 0), same(beta_tilde.subs(LAST), 0)),
    FormulaMistake(
        "C7",
        same(n_solved, n_solved.subs(sigma, 0)),
        same(n_solved**2 * (1 - a_t) + sigma**2, 1 - a_s),
    ),
    FormulaMistake(
        "C8",
        (MARKOV, {m: m_solved, n: n_solved}),
        (MARKOV, {m: m_solved, n: n_solved} | AT_DDPM),
    ),
    # D
    FormulaMistake(
        "D1",
        same(m_ddpm, sqrt(a_s) - (1 - beta_t) * (1 - a_s) / (1 - a_t)),
        same(m_ddpm, sqrt(a_s) - sqrt(a_s) * (1 - beta_t) * (1 - a_s) / (1 - a_t)),
    ),
    FormulaMistake(
        "D2",
        same(kappa**2 * (1 - a_t) + sigma**2, 1 - a_s, kappa=sqrt(((1 - a_s) ** 2 - sigma**2) / (1 - a_t))),
        same(kappa**2 * (1 - a_t) + sigma**2, 1 - a_s, kappa=sqrt((1 - a_s - sigma**2) / (1 - a_t))),
    ),
    FormulaMistake("D3", same(line_99(STEP_R, STEP_T), sqrt(a_r)), same(line_99(a_r, a_t), sqrt(a_r))),
    FormulaMistake("D4", same(PAPER_SIGMA**2, eta * beta_tilde), same(PAPER_SIGMA**2, eta**2 * beta_tilde)),
    FormulaMistake("D5", same(X1_VARIANCE, 1), same(X1_VARIANCE, 1, v=1)),
    FormulaMistake(
        "D7",
        same(over_noise((a_t * z + (1 - a_t) * eps) ** 2, eps, z), 1),
        same(over_noise((sqrt(a_t) * z + sqrt(1 - a_t) * eps) ** 2, eps, z), 1),
    ),
    FormulaMistake(
        "D8",
        same((TRUE - GUESS) ** 2, error**2),
        same((TRUE - GUESS) ** 2, (1 - a_t) / a_t * error**2),
    ),
]

IN_WORDS = {  # entries that no formula and no line of code can commit, and why
    "P15": "a remark on which schedules have betas that tell the times apart; nothing is computed from it",
    "B11": "it denies that a chain can be shortened; that it can is what every tau relies on",
    "D6": "the word 'directly' for 'without further randomness'; the walk is the same",
    "D10": "a reading of the paper's tables",
}
