"""The proof machinery: what is right passes, what is wrong is refuted, and nothing else passes."""

import functools
import re
import sys
from itertools import pairwise

import mpmath
import pytest
import sympy as sp
import torch

from ddim_lib import proofs
from ddim_lib.proofs import (
    Counterexample,
    Inconclusive,
    Refuted,
    Verdict,
    define,
    prove,
    prove_by_sampling,
    refute,
    typeset,
)
from ddim_lib.symbols import (
    DOMAIN,
    alpha_bar_r,
    alpha_bar_s,
    alpha_bar_t,
    beta_t,
    beta_tilde,
    eps,
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

Eq, Lt, Le, Gt, Ge = sp.Eq, sp.Lt, sp.Le, sp.Gt, sp.Ge
sqrt, cbrt, log, exp = sp.sqrt, sp.cbrt, sp.log, sp.exp
a_t, a_s, a_r = alpha_bar_t, alpha_bar_s, alpha_bar_r

eta = sp.Symbol("eta", nonnegative=True)
d = sp.Symbol("d", integer=True, positive=True)
k = sp.Symbol("k", integer=True)
mu1, mu2, v, x, y = sp.symbols("mu_1 mu_2 v x y", real=True)
std1, std2, w = sp.symbols("s_1 s_2 w", positive=True)

half = sp.Rational(1, 2)
SOLVED = {m: m_solved, n: n_solved}
AT_DDPM = {sigma: sqrt(beta_tilde)}
old_noise = sqrt(1 - a_s - sigma**2)
noise_in_xt = xt - sqrt(a_t) * x0
spread_t = sqrt(1 - a_t)
gain_t = sqrt(1 - beta_t)


def clean(of_noise=1 - a_t, signal=a_t, sign=1):
    """x_0 as x_t and eps tell it."""
    return (xt - sign * sqrt(of_noise) * eps) / sqrt(signal)


def square(numerator, variance):
    return numerator**2 / variance


def posterior_quadratic(back=beta_t, forward=1 - a_s, gain=1 - beta_t, signal=a_s):
    """-2 log q(x_s | x_t, x_0) by Bayes' rule, up to a constant."""
    likelihood = square(xt - sqrt(gain) * xs, back) + square(xs - sqrt(signal) * x0, forward)
    return likelihood - square(xt - sqrt(a_t) * x0, 1 - a_t)


CURVATURE = sp.diff(posterior_quadratic(), xs, 2) / 2
POSTERIOR_MEAN = -sp.diff(posterior_quadratic(), xs).subs(xs, 0) / 2 / CURVATURE
POSTERIOR = {m: sp.diff(POSTERIOR_MEAN, x0), n: sp.diff(POSTERIOR_MEAN, xt)}


def log_density(deviation, variance):
    return -square(deviation, variance) / 2 - log(2 * sp.pi * variance) / 2


A = sp.Symbol("A", positive=True)
B, C = sp.symbols("B C", real=True)
BELL = log(sqrt(sp.pi) * exp(B**2 / (4 * A) + C) / sqrt(A))  # of the integral of exp(-A x_t^2 + B x_t + C)
JOINT = log_density(xs - m * x0 - n * xt, sigma**2) + log_density(noise_in_xt, 1 - a_t)
POWERS = dict(zip((A, B, C), sp.Poly(sp.expand(JOINT), xt).all_coeffs(), strict=True))


def kl_by_moments(dimension=1):
    """E[log N(mu_1, s_1^2) - log N(mu_2, s_2^2)] under the first, with E[(x - mu_2)^2] written out."""
    second_moment = std1**2 + mu1**2 - 2 * mu1 * mu2 + mu2**2
    logs = log(2 * sp.pi * std2**2) / 2 - log(2 * sp.pi * std1**2) / 2
    return dimension * (logs - half + second_moment / std2**2 / 2)


def kl(ratio=std2 / std1, spread=std1**2, distance=(mu1 - mu2) ** 2, scale=2 * std2**2, offset=half):
    return log(ratio) + (spread + distance) / scale - offset


def weight(mean_x0=m, variance=2 * sigma**2, signal=a_t):
    """Of the squared error of eps in the loss, from the coefficient of x_0 in the mean."""
    return mean_x0**2 * (1 - a_t) / (variance * signal)


def hos_weight(variance=2 * sigma**2, gain=1 - beta_t, noise=1 - a_t):
    return beta_t**2 / (variance * gain * noise)


def eps_form(share=beta_t / spread_t, gain=gain_t, sign=-1):
    return (xt + sign * share * eps) / gain


def paper_mean(noise=noise_in_xt, spread=spread_t, kept=old_noise):
    return sqrt(a_s) * x0 + kept * noise / spread


def update(ratio=a_s / a_t, spread=1 - a_t, kept=old_noise):
    return sqrt(ratio) * xt + (kept - sqrt(ratio) * sqrt(spread)) * eps


MEAN = m * x0 + n * xt
IMPLIED = {x0: clean()}
IMPLIED_AND_SOLVED = SOLVED | IMPLIED
DDPM_IMPLIED = {m: m_ddpm, n: n_ddpm} | IMPLIED
HO = {m: m_solved} | AT_DDPM
STANDARD = sqrt(1 - a_t) / sqrt(1 - a_s)  # turns the coefficient n into a correlation
ETA_SIGMA = {sigma: eta * sqrt((1 - a_s) / (1 - a_t)) * sqrt(1 - a_t / a_s)}

RIGHT = {  # name: claim, and what names in it stand for
    "signal of a step": (Eq(sqrt(1 - beta_t) * sqrt(a_s), sqrt(a_t)), {}),
    "variance of a step": (Eq((1 - beta_t) * (1 - a_s) + beta_t, 1 - a_t), {}),
    "variance of two steps": (Eq(a_t / a_r * (1 - a_r / a_s) + 1 - a_t / a_r, beta_t), {}),
    "beta_tilde": (Eq(v, beta_tilde), {v: 1 / CURVATURE}),
    "m of DDPM": (Eq(m, m_ddpm), {m: POSTERIOR[m]}),
    "n of DDPM": (Eq(n, n_ddpm), {n: POSTERIOR[n]}),
    "completed square": (Eq(posterior_quadratic(), square(xs - m_ddpm * x0 - n_ddpm * xt, beta_tilde)), {}),
    "mean condition": (Eq(m + n * sqrt(a_t), sqrt(a_s)), SOLVED),
    "marginal by integration": (
        Eq(BELL, log_density(xs - sqrt(a_s) * x0, 1 - a_s)),
        POWERS | {A: -POWERS[A]} | SOLVED,
    ),
    "variance condition": (Eq(n**2 * (1 - a_t) + sigma**2, 1 - a_s), {n: n_solved}),
    "variance condition of DDPM": (Eq(n_ddpm**2 * (1 - a_t) + beta_tilde, 1 - a_s), {}),
    "n at beta_tilde": (Eq(n, n_ddpm), {n: n_solved} | AT_DDPM),
    "m at beta_tilde": (Eq(m, m_ddpm), HO),
    "paper's mean": (Eq(MEAN, paper_mean()), SOLVED),
    "correlation": (Eq(n * STANDARD, sqrt(1 - sigma**2 / (1 - a_s))), {n: n_solved}),
    "variance of eta": (Eq(sigma**2, eta**2 * beta_tilde), ETA_SIGMA),
    "largest eta": (Eq(eta**2 * beta_tilde, 1 - a_s), {eta: sqrt((1 - a_t) / beta_t)}),
    "Ho's weight": (Eq(weight(), hos_weight()), HO),
    "KL": (Eq(kl_by_moments(), kl()), {}),
    "KL of d components": (Eq(kl_by_moments(d), d * kl()), {}),
    "eps form": (Eq(MEAN, eps_form()), DDPM_IMPLIED),
    "score": (Eq(-(xt - sqrt(a_t) * x0) / (1 - a_t), -eps / sqrt(1 - a_t)), IMPLIED),
    "Tweedie": (Eq((xt + (1 - a_t) * v) / sqrt(a_t), x0), {v: -eps / sqrt(1 - a_t)} | IMPLIED),
    "update": (Eq(MEAN, sqrt(a_s) * x0 + old_noise * eps), IMPLIED_AND_SOLVED),
    "update in x_t and eps": (Eq(MEAN, update()), IMPLIED_AND_SOLVED),
    "variance of the step forwards": (
        Eq(1 / (n**2 / sigma**2 + 1 / (1 - a_t)), (1 - a_t) / (1 - a_s) * sigma**2),
        {n: n_solved},
    ),
    "order of the times": (Gt(a_s, a_t), {}),
    "the time between": (Lt(a_t, a_r), {}),
    "the time between, from above": (Ge(a_s, a_r), {}),
    "beta_tilde leaves room": (Lt(beta_tilde, 1 - a_s), {}),
    "beta_tilde below beta": (Lt(beta_tilde, beta_t), {}),
    "range of sigma": (Le(sigma**2, 1 - a_s), {}),
    "m of DDPM is positive": (Gt(m * (1 - a_t), 0), {m: m_ddpm}),
    "m is at most the signal": (Le(m, sqrt(a_s)), {m: m_solved}),
    "root of a square": (
        Eq(sqrt((1 - a_s) ** 2 - 2 * (1 - a_s) * sigma**2 + sigma**4), 1 - a_s - sigma**2),
        {},
    ),
    "logarithm of beta_tilde": (Eq(log(v), log(1 - a_s) + log(beta_t) - log(1 - a_t)), {v: beta_tilde}),
    "points of a circle": (Eq(v, 1), {v: sp.sin(x0) ** 2 + sp.cos(x0) ** 2}),
    "a positive integer is at most its square": (Ge(d**2, d), {}),
}

NUMERIC = {  # SymPy does not decide these
    "m is positive": (Gt(m, 0), {m: m_solved}),
    "n falls with sigma": (Le(n, sqrt(1 - a_s) / sqrt(1 - a_t)), {n: n_solved}),
    "KL is not negative": (Ge(kl(), 0), {}),
    "an integer's square": (Ge(k**2, k), {}),
    "pieces": (Eq(sp.Piecewise((x0, x0 > 0), (-x0, True)), sp.Abs(x0)), {}),
    "a square without a root": (Gt((x0**2 + x0 + 1) ** 2, 0), {}),
    "signal to noise": (Gt(log(a_s / (1 - a_s)), log(a_t / (1 - a_t))), {}),
    "complex in between": (
        Eq(v, cbrt((x0**2 + 1) ** 2 + 1)),
        {v: cbrt(x0**2 + 1 + sp.I) * cbrt(x0**2 + 1 - sp.I)},
    ),
}

WRONG = {  # each by a slip or two from one of the right ones
    "signal: no root": (Eq((1 - beta_t) * sqrt(a_s), sqrt(a_t)), {}),
    "signal: root of beta": (Eq(sqrt(beta_t) * sqrt(a_s), sqrt(a_t)), {}),
    "signal: s and t swapped": (Eq(sqrt(1 - beta_t) * sqrt(a_t), sqrt(a_s)), {}),
    "step variance: gain missing": (Eq((1 - a_s) + beta_t, 1 - a_t), {}),
    "step variance: gain under the root": (Eq(sqrt(1 - beta_t) * (1 - a_s) + beta_t, 1 - a_t), {}),
    "step variance: abar for 1 - abar": (Eq((1 - beta_t) * a_s + beta_t, 1 - a_t), {}),
    "step variance: beta squared": (Eq((1 - beta_t) * (1 - a_s) + beta_t**2, 1 - a_t), {}),
    "step variance: minus": (Eq((1 - beta_t) * (1 - a_s) - beta_t, 1 - a_t), {}),
    "two steps: gain missing": (Eq(1 - a_r / a_s + 1 - a_t / a_r, beta_t), {}),
    "two steps: r for s": (Eq(a_t / a_r * (1 - a_r / a_s) + 1 - a_t / a_s, beta_t), {}),
    "beta: s and t swapped": (Eq(beta_t, 1 - a_s / a_t), {}),
    "beta: index off by one": (Eq(beta_t, 1 - a_t / a_r), {}),
    "beta for beta_tilde": (Eq(v, beta_t), {v: 1 / CURVATURE}),
    "beta_tilde: s and t swapped": (Eq(v, (1 - a_t) / (1 - a_s) * beta_t), {v: 1 / CURVATURE}),
    "beta_tilde: abar for 1 - abar": (Eq(v, a_s / a_t * beta_t), {v: 1 / CURVATURE}),
    "beta_tilde: index off by one": (Eq(v, (1 - a_r) / (1 - a_t) * beta_t), {v: 1 / CURVATURE}),
    "beta_tilde: factor 2": (Eq(v, beta_tilde), {v: 2 / CURVATURE}),
    "n and m of DDPM swapped": (Eq(m, n_ddpm), {m: POSTERIOR[m]}),
    "m of DDPM: root missing": (Eq(m, a_s * beta_t / (1 - a_t)), {m: POSTERIOR[m]}),
    "m of DDPM: t for s": (Eq(m, sqrt(a_t) * beta_t / (1 - a_t)), {m: POSTERIOR[m]}),
    "m of DDPM: r for s": (Eq(m, sqrt(a_r) * beta_t / (1 - a_t)), {m: POSTERIOR[m]}),
    "m of DDPM: beta_tilde for beta": (Eq(m, sqrt(a_s) * beta_tilde / (1 - a_t)), {m: POSTERIOR[m]}),
    "n of DDPM: root of beta": (Eq(n, sqrt(beta_t) * (1 - a_s) / (1 - a_t)), {n: POSTERIOR[n]}),
    "n of DDPM: no root": (Eq(n, (1 - beta_t) * (1 - a_s) / (1 - a_t)), {n: POSTERIOR[n]}),
    "n of DDPM: sign": (Eq(n, -n_ddpm), {n: POSTERIOR[n]}),
    "completed square: variance beta": (
        Eq(posterior_quadratic(), square(xs - m_ddpm * x0 - n_ddpm * xt, beta_t)),
        {},
    ),
    "completed square: signs": (Eq(posterior_quadratic(), square(xs + m_ddpm * x0 + n_ddpm * xt, beta_tilde)), {}),
    "completed square: signal without root": (
        Eq(posterior_quadratic(signal=a_s**2), square(xs - m_ddpm * x0 - n_ddpm * xt, beta_tilde)),
        {},
    ),
    "mean condition: root missing": (Eq(m + n * a_t, sqrt(a_s)), SOLVED),
    "mean condition: factor missing": (Eq(m + n, sqrt(a_s)), SOLVED),
    "mean condition: n and m swapped": (Eq(n + m * sqrt(a_t), sqrt(a_s)), SOLVED),
    "mean condition: minus": (Eq(m - n * sqrt(a_t), sqrt(a_s)), SOLVED),
    "marginal by integration: t for s": (
        Eq(BELL, log_density(xs - sqrt(a_s) * x0, 1 - a_t)),
        POWERS | {A: -POWERS[A]} | SOLVED,
    ),
    "marginal by integration: wrong root": (
        Eq(BELL, log_density(xs - sqrt(a_s) * x0, 1 - a_s)),
        POWERS | {A: -POWERS[A], m: m_solved, n: -n_solved},
    ),
    "variance condition: n not squared": (Eq(n * (1 - a_t) + sigma**2, 1 - a_s), {n: n_solved}),
    "variance condition: sigma not squared": (Eq(n**2 * (1 - a_t) + sigma, 1 - a_s), {n: n_solved}),
    "variance condition: t for s": (Eq(n**2 * (1 - a_t) + sigma**2, 1 - a_t), {n: n_solved}),
    "variance condition: abar for 1 - abar": (Eq(n**2 * a_t + sigma**2, 1 - a_s), {n: n_solved}),
    "variance condition of DDPM: beta": (Eq(n_ddpm**2 * (1 - a_t) + beta_t, 1 - a_s), {}),
    "n at beta": (Eq(n, n_ddpm), {n: n_solved, sigma: sqrt(beta_tilde / 2)}),
    "n at sigma, not sigma^2, beta_tilde": (Eq(n, n_ddpm), {n: n_solved, sigma: beta_tilde}),
    "n at beta_tilde: other root": (Eq(n, n_ddpm), {n: -n_solved} | AT_DDPM),
    "m with the other root": (Eq(m, m_ddpm), {m: sqrt(a_s) + sqrt(a_t) * n_solved} | AT_DDPM),
    "m and n swapped at beta_tilde": (Eq(n, m_ddpm), {n: n_solved} | AT_DDPM),
    "paper's mean: root of abar missing": (Eq(MEAN, paper_mean(noise=xt - a_t * x0)), SOLVED),
    "paper's mean: sqrt(abar) missing": (Eq(MEAN, paper_mean(noise=xt - x0)), SOLVED),
    "paper's mean: spread without root": (Eq(MEAN, paper_mean(spread=1 - a_t)), SOLVED),
    "paper's mean: s for t": (Eq(MEAN, paper_mean(spread=sqrt(1 - a_s))), SOLVED),
    "paper's mean: sigma not taken off": (Eq(MEAN, paper_mean(kept=sqrt(1 - a_s))), SOLVED),
    "paper's mean: difference of roots": (Eq(MEAN, paper_mean(kept=sqrt(1 - a_s) - sigma)), SOLVED),
    "correlation: no root": (Eq(n * STANDARD, 1 - sigma**2 / (1 - a_s)), {n: n_solved}),
    "correlation: sigma not squared": (Eq(n * STANDARD, sqrt(1 - sigma / sqrt(1 - a_s))), {n: n_solved}),
    "correlation: t for s": (Eq(n * STANDARD, sqrt(1 - sigma**2 / (1 - a_t))), {n: n_solved}),
    "correlation: spreads swapped": (Eq(n / STANDARD, sqrt(1 - sigma**2 / (1 - a_s))), {n: n_solved}),
    "eta for eta^2": (Eq(sigma**2, eta * beta_tilde), ETA_SIGMA),
    "eta times beta": (Eq(sigma**2, eta**2 * beta_t), ETA_SIGMA),
    "sigma for sigma^2": (Eq(sigma, eta**2 * beta_tilde), ETA_SIGMA),
    "largest eta: no root": (Eq(eta**2 * beta_tilde, 1 - a_s), {eta: (1 - a_t) / beta_t}),
    "largest eta: s for t": (Eq(eta**2 * beta_tilde, 1 - a_s), {eta: sqrt((1 - a_s) / beta_t)}),
    "Ho's weight: m not squared": (Eq(weight(mean_x0=sqrt(m)), hos_weight()), HO),
    "Ho's weight: 2 missing": (Eq(weight(variance=sigma**2), hos_weight()), HO),
    "Ho's weight: s for t": (Eq(weight(signal=a_s), hos_weight()), HO),
    "Ho's weight: abar missing": (Eq(weight(signal=1), hos_weight()), HO),
    "Ho's weight: factor d": (Eq(weight(variance=2 * d * sigma**2), hos_weight()), HO),
    "Ho's weight: beta for 1 - beta": (Eq(weight(), hos_weight(gain=beta_t)), HO),
    "Ho's weight: for all sigma": (Eq(weight(), hos_weight()), {m: m_solved}),
    "Ho's weight: sigma for sigma^2": (Eq(weight(), hos_weight(variance=2 * sigma)), HO),
    "KL: ratio upside down": (Eq(kl_by_moments(), kl(ratio=std1 / std2)), {}),
    "KL: ratio of variances": (Eq(kl_by_moments(), kl(ratio=std2**2 / std1**2)), {}),
    "KL: 2 missing": (Eq(kl_by_moments(), kl(scale=std2**2)), {}),
    "KL: offset missing": (Eq(kl_by_moments(), kl(offset=0)), {}),
    "KL: standard deviation for variance": (Eq(kl_by_moments(), kl(spread=std1)), {}),
    "KL: distance not squared": (Eq(kl_by_moments(), kl(distance=mu1 - mu2)), {}),
    "KL: the other variance": (Eq(kl_by_moments(), kl(scale=2 * std1**2)), {}),
    "KL: d missing": (Eq(kl_by_moments(d), kl()), {}),
    "eps form: sign": (Eq(MEAN, eps_form(sign=1)), DDPM_IMPLIED),
    "eps form: no root below": (Eq(MEAN, eps_form(share=beta_t / (1 - a_t))), DDPM_IMPLIED),
    "eps form: gain without root": (Eq(MEAN, eps_form(gain=1 - beta_t)), DDPM_IMPLIED),
    "eps form: sqrt(beta)": (Eq(MEAN, eps_form(share=sqrt(beta_t) / sqrt(1 - a_t))), DDPM_IMPLIED),
    "eps form: gain of abar": (Eq(MEAN, eps_form(gain=sqrt(a_t))), DDPM_IMPLIED),
    "eps form: x_0 with the wrong sign": (Eq(MEAN, eps_form()), DDPM_IMPLIED | {x0: clean(sign=-1)}),
    "eps form: x_0 not scaled": (Eq(MEAN, eps_form()), DDPM_IMPLIED | {x0: clean(signal=1)}),
    "score: sign": (Eq(-(xt - sqrt(a_t) * x0) / (1 - a_t), eps / sqrt(1 - a_t)), IMPLIED),
    "score: no root": (Eq(-(xt - sqrt(a_t) * x0) / (1 - a_t), -eps / (1 - a_t)), IMPLIED),
    "score: not divided": (Eq(-(xt - sqrt(a_t) * x0) / (1 - a_t), -eps), IMPLIED),
    "score: sqrt(abar) missing": (Eq(-(xt - x0) / (1 - a_t), -eps / sqrt(1 - a_t)), IMPLIED),
    "Tweedie: minus": (Eq((xt - (1 - a_t) * v) / sqrt(a_t), x0), {v: -eps / sqrt(1 - a_t)} | IMPLIED),
    "Tweedie: root": (Eq((xt + sqrt(1 - a_t) * v) / sqrt(a_t), x0), {v: -eps / sqrt(1 - a_t)} | IMPLIED),
    "update: sigma not taken off": (Eq(MEAN, sqrt(a_s) * x0 + sqrt(1 - a_s) * eps), IMPLIED_AND_SOLVED),
    "update: signal of t": (Eq(MEAN, sqrt(a_t) * x0 + old_noise * eps), IMPLIED_AND_SOLVED),
    "update: fresh noise for old": (Eq(MEAN, sqrt(a_s) * x0 + old_noise * z), IMPLIED_AND_SOLVED),
    "update: 1 - abar for its root": (Eq(MEAN, sqrt(a_s) * x0 + old_noise**2 * eps), IMPLIED_AND_SOLVED),
    "update in x_t: ratio upside down": (Eq(MEAN, update(ratio=a_t / a_s)), IMPLIED_AND_SOLVED),
    "update in x_t: s for t": (Eq(MEAN, update(spread=1 - a_s)), IMPLIED_AND_SOLVED),
    "update in x_t: r for s": (Eq(MEAN, update(ratio=a_r / a_t)), IMPLIED_AND_SOLVED),
    "forwards: ratio upside down": (
        Eq(1 / (n**2 / sigma**2 + 1 / (1 - a_t)), (1 - a_s) / (1 - a_t) * sigma**2),
        {n: n_solved},
    ),
    "forwards: sigma not squared": (
        Eq(1 / (n**2 / sigma**2 + 1 / (1 - a_t)), (1 - a_t) / (1 - a_s) * sigma),
        {n: n_solved},
    ),
    "order of the times, reversed": (Lt(a_s, a_t), {}),
    "order of the times, reversed, not strict": (Le(a_s, a_t), {}),
    "the time between is below": (Lt(a_r, a_t), {}),
    "the time between is above": (Ge(a_r, a_s), {}),
    "beta_tilde leaves no room": (Gt(beta_tilde, 1 - a_s), {}),
    "beta leaves room": (Lt(beta_t, 1 - a_s), {}),
    "beta_tilde above beta": (Ge(beta_tilde, beta_t), {}),
    "strict where both sides are equal": (Lt(n**2 * (1 - a_t) + sigma**2, 1 - a_s), {n: n_solved}),
    "strict where both sides are equal, above": (Gt(n**2 * (1 - a_t) + sigma**2, 1 - a_s), {n: n_solved}),
    "strict at the end of the range": (Lt(n, sqrt(1 - a_s) / sqrt(1 - a_t)), {n: n_solved}),
    "sigma is positive": (Gt(sigma, 0), {}),
    "m is above the signal": (Ge(m, sqrt(a_s)), {m: m_solved}),
    "sigma, not its square, in the range": (Le(sigma, 1 - a_s), {}),
    "1 - abar_t bounds the signal": (Lt(1 - a_t, a_s), {}),
    "m is at most n": (Le(m, n), SOLVED),
    "KL is positive": (Gt(kl(), 0), {}),
    "KL is at most the distance": (Le(kl(), (mu1 - mu2) ** 2), {}),
}

BOUNDED = {  # wrong, but only far out
    "abar_t below 0.9": (Lt(a_t, sp.Rational(9, 10)), {}),
    "abar_s below 0.999": (Lt(a_s, sp.Rational(999, 1000)), {}),
    "abar_t above a thousandth": (Gt(a_t, sp.Rational(1, 1000)), {}),
    "beta_t below 0.99": (Lt(beta_t, sp.Rational(99, 100)), {}),
    "beta_t above 0.001": (Gt(beta_t, sp.Rational(1, 1000)), {}),
    "sigma^2 at most 0.99 of the room": (Le(sigma**2, sp.Rational(99, 100) * (1 - a_s)), {}),
    "sigma^2 is none or more than 0.001 of the room": (Ge(sigma * (sigma**2 * 1000 - 1 + a_s), 0), {}),
    "x_0 below 100": (Lt(x0, 100), {}),
    "x_0 above -100": (Gt(x0, -100), {}),
    "d at most 100": (Le(d, 100), {}),
    "x_0 and x_t differ in sign or not by much": (Lt(x0 * xt, 10_000), {}),
    "cut off at 1000": (Eq(sp.Piecewise((x0, x0 < 1000), (1000, True)), x0), {}),
    "pieces that meet at 0 only": (Eq(sp.Piecewise((x0, x0 >= 0), (2 * x0, True)), x0), {}),
    "Abs without a sign": (Eq(sp.Abs(x0 - xt), x0 - xt), {}),
    "square of a real number": (Gt(x0**2, 0), {}),
    "fails at 0 of one symbol alone": (Eq(sp.sign(x0) ** 2 * xt, xt), {}),
    "sum of squares": (Gt(x0**2 + xt**2 + eps**2, 0), {}),
    "a square bounds the number": (Ge(x**2, x), {}),
}

TINY = {  # wrong by less than 50 digits show
    "10^-45 is 0": (Eq(x0 / 10**45, 0), {}),
    "10^-80 is 0": (Eq(x0 / 10**80, 0), {}),
    "1 + 10^-60": (Eq(x, exp(x0)), {x: exp(x0) * (1 + sp.Rational(1, 10**60))}),
    "10^-45, cancelled": (Eq((10**12 + x0) ** 2 - 10**24 - 2 * 10**12 * x0, x0**2 + sp.Rational(1, 10**45)), {}),
    "1 beside 10^45": (Eq(x, x0**2 * 10**45), {x: x0**2 * 10**45 + exp(x0)}),
    "below by 10^-60": (Lt(x, exp(x0)), {x: exp(x0) * (1 + sp.Rational(1, 10**60))}),
    "a density that vanishes": (Eq(x, exp(-(x0**2))), {x: exp(-(x0**2)) * 2}),
}
REFUTABLE = WRONG | BOUNDED | TINY


# Right formulas


@pytest.mark.parametrize("name", RIGHT)
def test_right_formulas_are_proved_symbolically(name):
    claim, where = RIGHT[name]
    assert prove(name, claim, where) == Verdict(name, "symbolic", "proved symbolically", claim)


@pytest.mark.parametrize("name", NUMERIC)
def test_what_sympy_does_not_decide_is_numeric(name):
    claim, where = NUMERIC[name]
    verdict = prove(name, claim, where)
    assert (verdict.label, verdict.kind, verdict.formula) == (name, "numeric", claim)
    assert verdict.detail == "holds at 41 points, evaluated with 50 digits"


@pytest.mark.parametrize("name", RIGHT | NUMERIC)
def test_right_formulas_are_not_refuted(name):
    with pytest.raises(Inconclusive, match=re.escape(f"{name} is not refuted: it holds at all ")):
        refute(name, *(RIGHT | NUMERIC)[name])


@pytest.mark.parametrize(
    "claim",
    [
        Eq((10**12 + x0) ** 2 - 10**24 - 2 * 10**12 * x0, x0**2),
        Gt(exp(-(x0**2)), exp(-(x0**2)) * (1 - sp.Rational(1, 10**60)), evaluate=False),
        Lt(x0 + log(1 + x0**2), x0 + x0**2 / 2 + half + log(1 + x0**2), evaluate=False),
        Le(x0, sp.Abs(x0)),
        Eq(sp.Max(x0, xt), (x0 + xt + sp.Abs(x0 - xt)) / 2),
        Eq((-2) ** sp.Rational(1, 3) * (-2) ** sp.Rational(2, 3) * x0, -2 * x0, evaluate=False),
    ],
    ids=str,
)
def test_rounding_and_tiny_numbers_refute_nothing(claim):
    prove("", claim)


@pytest.mark.parametrize(
    ("difference", "equal"),
    [
        ((1e-49, 1e-100), True),  # at 50 and at 100 digits
        ((1e-49, 1e-70), False),
        ((1e-20, 1e-70), True),
        ((1e-20, 1e-40), False),
        ((1e-30, 1e-30), False),
        ((0, 1e-100), True),
        ((0, 1e-60), False),
        ((0, 0), True),
        ((1e-49, 0), True),
    ],
)
@pytest.mark.parametrize("side", [0, 1, 1000])
def test_equal_is_what_comes_closer_with_more_digits(difference, equal, side):
    with mpmath.workdps(200):
        rough, fine = ((mpmath.mpf(side), side + mpmath.mpf(by)) for by in difference)
    for relation in (Eq, Le, Ge):
        assert proofs._true_at(*rough, *fine, relation) == (equal or relation is Le)
    assert not proofs._true_at(*rough, *fine, Gt)
    assert proofs._true_at(*rough, *fine, Lt) == (not equal)


def test_an_imaginary_part_that_is_rounding_does_not_count():
    rough, fine = mpmath.mpc(2, 1e-50), mpmath.mpc(2, 1e-100)
    assert proofs._true_at(rough, mpmath.mpf(2), fine, mpmath.mpf(2), Eq)
    assert not proofs._true_at(rough, mpmath.mpf(2), rough, mpmath.mpf(2), Eq)


def test_a_claim_without_symbols():
    claim = Lt(sqrt(2) + sqrt(3), sqrt(10), evaluate=False)
    assert prove("roots", claim).formula == claim
    with pytest.raises(Refuted, match=r"^roots is wrong: left side 3\.146, right side 3\.162$"):
        prove("roots", Gt(*claim.args, evaluate=False))


# Wrong variants


@functools.cache
def counterexample(name):
    return refute(name, *REFUTABLE[name])


def sides(claim, where, values):
    """Both sides in plain floats."""
    for _ in where:
        claim = claim.func(*(side.subs(where, simultaneous=True) for side in claim.args), evaluate=False)
    names = {symbol: values[str(symbol)] for symbol in claim.free_symbols}
    return [complex(side.subs(names).evalf()) for side in claim.args]


@pytest.mark.parametrize("name", REFUTABLE)
def test_wrong_variants_are_refuted(name):
    with pytest.raises(Refuted) as caught:
        prove(name, *REFUTABLE[name])
    found = counterexample(name)
    assert str(caught.value) == f"{name} is wrong: {found}"
    assert re.match(r"left side -?\d\S*, right side -?\d\S* at \w+ = -?\d", str(found))
    assert re.findall(r"(\w+) = ", str(found)) == sorted(found.values)
    for value in found.values.values():
        assert f" = {value:.4g}" in str(found)


@pytest.mark.parametrize("name", WRONG | BOUNDED)
def test_a_counterexample_makes_the_claim_fail_in_plain_floats(name):
    claim, where = REFUTABLE[name]
    found = counterexample(name)
    left, right = sides(claim, where, found.values)
    tolerance = 1e-9 * (1 + abs(left) + abs(right))
    assert abs(left - found.left) < tolerance
    assert abs(right - found.right) < tolerance
    if claim.func is Eq:
        assert abs(left - right) > 1e3 * tolerance
    else:
        assert left.imag == right.imag == 0
        above = left.real - right.real
        wrong_way = above if claim.func in (Lt, Le) else -above
        assert wrong_way > -tolerance if claim.func in (Lt, Gt) else wrong_way > tolerance


@pytest.mark.parametrize("name", REFUTABLE)
def test_a_counterexample_lies_in_the_domain(name):
    values = counterexample(name).values
    chain = [1.0, *(values[str(symbol)] for symbol in (a_s, a_r, a_t) if str(symbol) in values), 0.0]
    assert all(low < high for high, low in pairwise(chain))
    if {"sigma", "alphabar_s"} <= values.keys():
        assert 0 <= values["sigma"] ** 2 < 1 - values["alphabar_s"]
    if {"beta_t", "alphabar_s", "alphabar_t"} <= values.keys():
        assert values["beta_t"] == pytest.approx(1 - values["alphabar_t"] / values["alphabar_s"], abs=1e-12)
    assert all(values.get(name, 1) > 0 for name in ("s_1", "s_2", "d"))
    assert values.get("d", 1) == int(values.get("d", 1))


def test_a_counterexample_is_written_with_values_that_a_reader_can_follow():
    assert (
        str(refute("", Eq(a_t, a_s**2 / 2)))
        == "left side 0.25, right side 0.125 at alphabar_s = 0.5, alphabar_t = 0.25"
    )
    assert str(Counterexample({"x": 0.25}, 1 / 3, 1 + 2j)) == "left side 0.3333, right side 1+2j at x = 0.25"


def test_one_side_may_be_complex_in_a_counterexample():
    found = refute("", Eq(sqrt(1 - 2 * sigma - a_s), sqrt(1 - a_s) - sigma))
    assert found.left.imag != 0
    with pytest.raises(Refuted):
        prove("", Le(x, x0), {x: sqrt(-1 - x0**2)})
    with pytest.raises(Refuted):
        prove("", Ge(x0, x), {x: sqrt(-1 - x0**2)})


def test_the_same_counterexample_at_every_call():
    assert refute("", *BOUNDED["x_0 below 100"]) == refute("", *BOUNDED["x_0 below 100"])


# What is not a claim, or cannot be checked, does not pass


def assert_refused(error, match, claim, where=None, **options):
    for check in (prove, refute):
        with pytest.raises(error, match=match):
            check("label", claim, where, **options)


@pytest.mark.parametrize(
    "claim",
    [
        Eq(x0, x0),
        Eq(x0, x0 + 1),
        Lt(1, 2),
        Gt(a_t, 0),
        True,
        sp.true,
        sp.false,
        x0 - xt,
        "x_0 = x_0 + 0",
        "Eq(x_0, x_t)",
        None,
        0,
        (x0, xt),
        sp.Ne(x0, xt),
        sp.And(Lt(x0, xt), Lt(xt, eps)),
        sp.Or(Lt(x0, xt), Lt(xt, eps)),
        sp.Not(Eq(x0, xt)),
        sp.Implies(Eq(x0, xt), Eq(xt, x0)),
        Eq(Lt(x0, 1), Lt(xt, 1)),
        Eq(sp.FiniteSet(x0), sp.FiniteSet(xt)),
        Eq(sp.Tuple(x0), sp.Tuple(xt), evaluate=False),
        sp.ImmutableMatrix([x0, xt]),
    ],
    ids=repr,
)
def test_what_is_no_equation_or_inequality_is_refused(claim):
    assert_refused(ValueError, "claim must be an equation or an inequality that SymPy has not evaluated yet", claim)


def test_a_kind_of_equation_of_ones_own_is_refused():
    class Equation(sp.Eq):
        pass

    assert_refused(ValueError, "claim must be", Equation(x0, xt))


@pytest.mark.parametrize("claim", [sp.Ne(x0, xt), sp.And(Lt(x0, xt), Lt(xt, eps)), None], ids=repr)
def test_the_message_shows_the_claim(claim):
    assert_refused(ValueError, re.escape(repr(claim)), claim)


@pytest.mark.parametrize(
    "symbol",
    [
        sp.Symbol("y"),
        sp.Symbol("y", complex=True),
        sp.Symbol("y", extended_real=True),
        sp.Symbol("y", extended_positive=True),
        sp.Symbol("y", imaginary=True),
        sp.Symbol("y", commutative=False),
        sp.Symbol("y", even=True),
        sp.Symbol("y", odd=True),
        sp.Symbol("y", prime=True),
        sp.Symbol("y", composite=True),
        sp.Symbol("y", zero=True),
        sp.Symbol("alphabar_t"),
        sp.IndexedBase("y")[1],
        sp.MatrixSymbol("y", 1, 1)[0, 0],
    ],
    ids=lambda symbol: f"{symbol} {sorted(getattr(symbol, '_assumptions_orig', []))}",
)
def test_a_symbol_that_is_not_declared_to_be_what_is_tried_is_refused(symbol):
    claim = Eq(symbol * x0, x0 * symbol, evaluate=False)
    assert_refused(ValueError, r"symbol (y|alphabar_t)\S* must be in the domain, or declared real", claim)
    assert_refused(ValueError, "must be in the domain", Eq(m * x0, x0), {m: symbol + 1})


@pytest.mark.parametrize("declared", [{"real": True}, {"negative": True}, {"real": True, "nonzero": True}], ids=str)
@pytest.mark.parametrize("symbol", [a_t, sigma, beta_t], ids=str)
def test_a_namesake_of_a_symbol_of_the_domain_is_refused(symbol, declared):
    namesake = sp.Symbol(symbol.name, **declared)
    message = f"symbol {symbol.name} .*has the name of another symbol"
    assert_refused(ValueError, message, Eq(2 * namesake, namesake + namesake, evaluate=False))
    assert_refused(ValueError, message, Eq(namesake, symbol, evaluate=False))
    assert_refused(ValueError, message, Eq(m, symbol), {m: namesake})


def test_namesakes_in_one_claim_are_refused():
    positive = sp.Symbol("x_0", positive=True)
    assert_refused(ValueError, "symbol x_0 .*has the name of another symbol", Eq(x0, positive))
    assert_refused(ValueError, "symbol x_0 .*has the name of another symbol", Eq(m, x0), {m: positive})


@pytest.mark.parametrize("declared", [{"positive": True}, {"nonnegative": True}, {"real": True}], ids=str)
@pytest.mark.parametrize("name", ["p", "q", "u", "r", "_p", "_q", "pi", "exp", "lambda", "mpf"])
def test_a_name_that_means_something_inside_means_nothing(name, declared):
    symbol = sp.Symbol(name, **declared)
    for value in (1 / (1 + symbol), 1 / (1 + 2 * symbol)):
        for ours in (a_s, a_t):
            with pytest.raises(Refuted):
                prove("", Eq(ours * (1 + x0**2), value * (1 + x0**2)))
    with pytest.raises(Refuted):
        prove("", Eq(symbol * exp(x0), sp.pi * exp(x0)))
    assert prove("", Eq((symbol + 1) ** 2, symbol**2 + 2 * symbol + 1)).kind == "symbolic"


@pytest.mark.parametrize("name", ["f", "exp", "sqrt", "fac", "sinpi"])
def test_a_function_that_is_not_defined_is_refused(name):
    f = sp.Function(name)
    message = rf"functions that are not defined: .*{name}\(x_0"
    assert_refused(ValueError, message, Eq(f(x0), x0))
    assert_refused(ValueError, message, Eq(x0, f(x0)))
    assert_refused(ValueError, message, Eq(f(x0) + f(xt), f(xt) + f(x0), evaluate=False))
    assert_refused(ValueError, message, Eq(m, n), {m: f(x0), n: f(x0)})
    assert_refused(ValueError, message, Eq(m, sp.factorial(d)), {m: f(x0)})


def test_a_derivative_that_is_not_carried_out_is_refused():
    for claim in (Eq(sp.Derivative(x0**2, x0), 2 * x0), Eq(sp.Derivative(sp.Function("f")(x0), x0), 2 * x0)):
        assert_refused(ValueError, None, claim)


@pytest.mark.parametrize(
    "claim",
    [
        Eq(1 / (x0 - 1), (x0 - 1) / (x0 - 1) ** 2, evaluate=False),
        Eq(x0 / (a_s - beta_t - a_s * (1 - beta_t) + beta_t * (1 - a_s)), xt),
        Eq(log(sp.Abs(x0) - 1), 2 * log(sp.Abs(x0) - 1) / 2, evaluate=False),
        Lt(x0, sp.oo, evaluate=False),
        Gt(sp.oo, x0, evaluate=False),
        Eq(sp.oo, sp.oo, evaluate=False),
        Eq(x0, sp.nan, evaluate=False),
        Eq(x0, sp.zoo, evaluate=False),
        Eq(sp.nan, sp.nan, evaluate=False),
        Eq(1 / (a_t + beta_t * a_s - a_s), 1 / (a_t + beta_t * a_s - a_s) ** 2),
        Eq(sp.Piecewise((x0, x0 > 0)), x0),
        Eq(sp.ImmutableMatrix([x0]), sp.ImmutableMatrix([x0]), evaluate=False),
        Eq(sp.MatrixSymbol("A", 2, 2), sp.MatrixSymbol("B", 2, 2)),
        Eq(sqrt(-1 - x0**2), sp.I * sqrt(1 + x0**2)),
        Eq(sp.I * x0**2, x0**2 * sp.I, evaluate=False),
        Eq(sqrt(a_t - a_s), sp.I * sqrt(a_s - a_t)),
        Eq(log(-1 - x0**2) + log(-1 - x0**2), 2 * log(-1 - x0**2), evaluate=False),
    ],
    ids=str,
)
def test_a_claim_without_a_finite_real_value_does_not_pass(claim):
    assert_refused((Inconclusive, ValueError, KeyError), None, claim)


def test_inconclusive_says_where():
    claim = Eq(1 / (x0 - 1), (x0 - 1) / (x0 - 1) ** 2, evaluate=False)
    assert_refused(Inconclusive, r"no finite real value at {x_0: mpf\('1\.0'\)}: ZeroDivisionError", claim)
    assert_refused(Inconclusive, "NameError", Eq(sp.DiracDelta(x0 - 1), 0, evaluate=False))
    assert_refused(Inconclusive, "left side .*inf, right side .*inf", Eq(sp.oo, sp.oo, evaluate=False))


def test_where_nothing_is_0_a_claim_must_have_a_value_and_at_0_it_may_have_none():
    verdict = prove("", Gt(m / sigma**2, 0), {m: m_solved})
    assert (verdict.kind, verdict.detail) == ("numeric", "holds at 40 points, evaluated with 50 digits")
    assert prove("", Eq((x0**2 + x0 * xt) / x0, x0 + xt)).kind == "symbolic"
    with pytest.raises(Refuted, match="sigma = 0"):
        prove("", Gt(sigma + log(1 + sigma), 0))


@pytest.mark.parametrize(
    "value",
    [-2, -half, 0, half, 2, 3, 1000, -1000],
    ids=str,
)
def test_a_claim_that_fails_at_0_alone_or_on_one_side_of_it_is_refuted(value):
    with pytest.raises(Refuted):
        prove("", Gt((value**2 + 1) * sp.Abs(x0) + 0 * xt, 0))
    with pytest.raises(Refuted):
        prove("", Ge(value**2 * x0 + x0, 0))


# Names and their meaning


def test_names_are_put_in_also_into_one_another_and_are_not_printed():
    claim = Eq(x, y)
    verdict = prove("", claim, {x: m + n, y: v * (a_t - 1), m: v * a_t, n: -v})
    assert verdict == Verdict("", "symbolic", "proved symbolically", claim)
    assert refute("", claim, {x: m + n, y: v, m: v * a_t, n: -v}).values.keys() == {"alphabar_t", "v"}


def test_names_are_put_in_at_once():
    assert prove("", Eq(x - y, v), {x: y + v, y: z}).kind == "symbolic"
    assert prove("", Eq(sigma**2, beta_tilde), AT_DDPM).kind == "symbolic"


def test_a_name_may_stand_for_a_number():
    assert prove("", Eq(m * x0, x0), {m: 1}).kind == "symbolic"
    found = refute("", Eq(m * x0, x0), {m: 2})
    assert (found.left, found.right, found.values) == (2, 1, {"x_0": 1})


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ({m: x0}, "m"),
        ({v: x0, m: v}, "m"),
        ({v: m, m: v}, "v"),
        ({x: m, m: n, n: m}, "[mn]"),
        ({x: y, m: n, n: m}, "[mn]"),
        ({x: x}, "x"),
        ({x: x + 1}, "x"),
        ({x: y, y: x}, "[xy]"),
        ({x: v, v: z, z: x}, "[xvz]"),
        ({sp.Symbol("x"): y}, "x"),
        ({sp.Symbol("x", positive=True): y}, "x"),
        ({"x": y}, "x"),
    ],
    ids=str,
)
def test_a_name_that_is_not_used_up_is_refused(where, named):
    assert_refused(
        ValueError, f"^where: {{.*{named}.*}} do not occur in the claim, or stand for", Eq(x, 2 * x - y), where
    )


@pytest.mark.parametrize("where", [{x: x + 1}, {x: m, m: x}], ids=str)
def test_a_circle_on_one_side_is_refused(where):
    for claim in (Eq(x, v), Eq(v, x)):
        assert_refused(ValueError, "stand for one another in a circle", claim, where)


# The domain


def test_a_namesake_of_a_coordinate_is_another_symbol():
    namesake = sp.Symbol("w", real=True)
    with pytest.raises(Refuted):
        prove("", Eq(v * (1 + x0**2), (1 + namesake) * (1 + x0**2)), domain={v: 1 + w})


def test_the_verdict_is_about_the_domain_that_is_given():
    claim = Lt(a_t, 1)
    assert prove("", claim).kind == "symbolic"
    with pytest.raises(Refuted):
        prove("", claim, domain={})
    assert prove("", Gt(v, 1), domain={v: 1 + w}).kind == "symbolic"
    with pytest.raises(Refuted):
        prove("", Gt(v, 2), domain={v: 1 + w})
    assert prove("", Gt(1 / v, half), domain={v: 1 + exp(-w), x: w}).kind in ("symbolic", "numeric")


def test_a_symbol_of_the_domain_needs_no_declaration():
    undeclared = sp.Symbol("g")
    assert prove("", Gt(undeclared, 1), domain={undeclared: 1 + w}).kind == "symbolic"


def test_without_its_domain_a_root_is_of_anything():
    with pytest.raises((Inconclusive, Refuted)):
        prove("", Eq(sqrt((1 - a_t) ** 2 * (1 + x0**2)), (1 - a_t) * sqrt(1 + x0**2)), domain={})


def test_a_symbol_may_be_held_at_a_number():
    assert prove("", Eq(n_solved * spread_t, sqrt(1 - a_s)), domain=DOMAIN | {sigma: 0}).kind == "symbolic"


@pytest.mark.parametrize(
    ("claim", "domain"),
    [
        (Eq(sqrt(a_t) ** 2 * x0, a_t * x0, evaluate=False), {a_t: y}),
        (Eq(2 * a_t, a_t + a_t, evaluate=False), {a_t: 1 / (1 + y)}),
        (Eq(2 * a_t, a_t + a_t, evaluate=False), {a_t: -w}),
        (Eq(2 * a_t, a_t + a_t, evaluate=False), {a_t: 0}),
        (Eq(2 * sigma, sigma + sigma, evaluate=False), {sigma: y}),
        (Eq(2 * sigma, sigma + sigma, evaluate=False), {sigma: -w}),
        (Eq(sigma**2, sigma * sigma, evaluate=False), {sigma: sqrt(y)}),
        (Eq(2 * x0, x0 + x0, evaluate=False), {x0: sp.I * y}),
    ],
    ids=str,
)
def test_a_domain_that_breaks_what_a_symbol_is_declared_to_be_is_refused(claim, domain):
    assert_refused(
        (ValueError, Inconclusive), "is not as these symbols are declared|no finite real value", claim, domain=domain
    )


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ({a_t: sp.Symbol("g")}, "symbol g must be in the domain, or declared real"),
        ({a_t: 1 / (1 + sp.Symbol("g", even=True) ** 2)}, "symbol g must be in the domain, or declared real"),
        ({a_t: 1 / (1 + x0**2)}, "symbol x_0 is a coordinate of the domain"),
        ({sigma: 1 / (1 + x0**2)}, "symbol x_0 is a coordinate of the domain"),
        (DOMAIN | {v: a_t / 2}, "symbol alphabar_t is a coordinate of the domain"),
        (DOMAIN | {v: a_s / 2}, "symbol alphabar_s is a coordinate of the domain"),
    ],
    ids=str,
)
def test_coordinates_of_a_domain_are_declared_and_its_own(domain, message):
    assert_refused(ValueError, message, Eq(a_t * (x0 + x0), 2 * x0 * a_t, evaluate=False), domain=domain)


NEGATIVE = sp.Symbol("g", negative=True)
NONPOSITIVE = sp.Symbol("g", nonpositive=True)
NONZERO = sp.Symbol("g", real=True, nonzero=True)


def test_values_have_the_sign_that_is_declared():
    assert prove("", Eq(sp.Abs(v), -v), domain={v: -w}).kind in ("symbolic", "numeric")
    for symbol in (NEGATIVE, NONPOSITIVE):
        assert prove("", Le(x, -exp(x0) * x), {x: symbol * (1 + x0**2)}).kind in ("symbolic", "numeric")
        for claim in (Lt(-10 * symbol, exp(x0)), Gt(symbol + 1, -x0), Lt(symbol, -half), Gt(symbol, -half)):
            assert refute("", claim).values["g"] <= 0
    assert refute("", Lt(NONPOSITIVE * 2, NONPOSITIVE)).values["g"] == 0
    assert refute("", Lt(NEGATIVE * x0, x0)).values["g"] < 0
    assert prove("", Gt(x, 0), {x: NONZERO**2 * exp(x0)}).kind in ("symbolic", "numeric")
    assert refute("", Lt(NONZERO, 1)).values["g"] > 0
    assert refute("", Gt(NONZERO, -1)).values["g"] < 0


def test_integers_are_integers():
    with pytest.raises(Refuted):
        prove("", *BOUNDED["a square bounds the number"])
    for claim in (Le(k, 50), Ge(k, -50), Gt(k**2, 0), Lt(d, 1000)):
        value = refute("", claim).values.popitem()[1]
        assert value == int(value)


# Distributions

AB_T, AB_S, SIGMA, CLEAN = 0.25, 0.64, 0.3, 0.7
M, N = (float(c.subs({a_t: AB_T, a_s: AB_S, sigma: SIGMA})) for c in (m_solved, n_solved))
MC = {"count": 40_000, "resolution": 0.01}


def pairs(count, generator):
    """(x_t, x_s), the latter drawn given the former."""
    noise, fresh = torch.randn(2, count, generator=generator, dtype=torch.float64)
    noisy = AB_T**0.5 * CLEAN + (1 - AB_T) ** 0.5 * noise
    return noisy, M * CLEAN + N * noisy + SIGMA * fresh


def standardized(count, generator):
    noisy, earlier = pairs(count, generator)
    return (noisy - AB_T**0.5 * CLEAN) / (1 - AB_T) ** 0.5, (earlier - AB_S**0.5 * CLEAN) / (1 - AB_S) ** 0.5


def value_of_xs(count, generator):
    return pairs(count, generator)[1]


def deviation_of_xs(count, generator):
    return (value_of_xs(count, generator) - AB_S**0.5 * CLEAN) ** 2


def fourth_power(count, generator):
    return standardized(count, generator)[1] ** 4


def product(count, generator):
    noise, earlier = standardized(count, generator)
    return noise * earlier


def moments(count, generator):
    return torch.stack([value_of_xs(count, generator), deviation_of_xs(count, generator)], dim=1)


def is_above_its_mean(count, generator):
    return value_of_xs(count, generator) > AB_S**0.5 * CLEAN


RHO = (1 - SIGMA**2 / (1 - AB_S)) ** 0.5
SAMPLED = {
    "mean": (value_of_xs, AB_S**0.5 * CLEAN),
    "variance": (deviation_of_xs, 1 - AB_S),
    "both": (moments, torch.tensor([AB_S**0.5 * CLEAN, 1 - AB_S])),
    "correlation": (product, RHO),
    "median": (is_above_its_mean, 0.5),
    "in single precision": (lambda count, generator: value_of_xs(count, generator).float(), AB_S**0.5 * CLEAN),
    "list": (lambda count, generator: value_of_xs(count, generator).tolist(), AB_S**0.5 * CLEAN),
    "one number for all": (lambda count, generator: torch.randn(count, 3, generator=generator), 0),
}
SAMPLED_WRONG = {
    "mean: root missing": (value_of_xs, AB_S * CLEAN),
    "mean: t for s": (value_of_xs, AB_T**0.5 * CLEAN),
    "mean: sign": (value_of_xs, -(AB_S**0.5) * CLEAN),
    "mean: of x_t": (value_of_xs, CLEAN),
    "variance: standard deviation": (deviation_of_xs, (1 - AB_S) ** 0.5),
    "variance: abar": (deviation_of_xs, AB_S),
    "variance: t for s": (deviation_of_xs, 1 - AB_T),
    "variance: of the fresh noise alone": (deviation_of_xs, SIGMA**2),
    "variance: fresh noise missing": (deviation_of_xs, 1 - AB_S - SIGMA**2),
    "second moment for variance": (deviation_of_xs, 1 - AB_S + AB_S * CLEAN**2),
    "correlation: no root": (product, RHO**2),
    "correlation: sign": (product, -RHO),
    "correlation: 1": (product, 1.0),
    "correlation: sigma not squared": (product, (1 - SIGMA / (1 - AB_S) ** 0.5) ** 0.5),
    "correlation: t for s": (product, (1 - SIGMA**2 / (1 - AB_T)) ** 0.5),
    "one of two: mean": (moments, torch.tensor([AB_S * CLEAN, 1 - AB_S])),
    "one of two: variance": (moments, torch.tensor([AB_S**0.5 * CLEAN, (1 - AB_S) ** 0.5])),
    "swapped": (moments, torch.tensor([1 - AB_S, AB_S**0.5 * CLEAN])),
    "one number for both": (moments, 1 - AB_S),
    "a little off": (value_of_xs, AB_S**0.5 * CLEAN + 6 * 0.6 / 200),
    "a little off, below": (value_of_xs, AB_S**0.5 * CLEAN - 6 * 0.6 / 200),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_right_claims_about_distributions_hold_by_monte_carlo(name):
    verdict = prove_by_sampling(name, *SAMPLED[name], **MC)
    assert (verdict.label, verdict.kind, verdict.formula) == (name, "Monte Carlo", None)
    assert re.fullmatch(r"holds by Monte Carlo, standard error 0\.00\d, 40,000 draws, seed 0", verdict.detail)


@pytest.mark.parametrize("seed", range(1, 6))
def test_right_claims_hold_with_other_seeds(seed):
    for draw, expected in (SAMPLED["both"], SAMPLED["correlation"]):
        assert prove_by_sampling("", draw, expected, seed=seed, **MC).detail.endswith(f"seed {seed}")


@pytest.mark.parametrize("name", SAMPLED_WRONG)
def test_wrong_claims_about_distributions_are_refuted(name):
    draw, expected = SAMPLED_WRONG[name]
    with pytest.raises(Refuted) as caught:
        prove_by_sampling(name, draw, expected, **MC)
    shown = re.fullmatch(rf"{name} is wrong: mean (.+), error (.+), claimed (.+)", str(caught.value))
    for numbers in shown.groups():
        assert re.search(r"\d\.\d", numbers)


def test_the_standard_error_is_that_of_the_mean():
    def wide(count, generator):
        return 3 * torch.randn(count, generator=generator, dtype=torch.float64)

    detail = prove_by_sampling("", wide, 0.0, count=90_000, resolution=0.02, seed=3).detail
    assert detail == "holds by Monte Carlo, standard error 0.01, 90,000 draws, seed 3"


def test_the_largest_standard_error_is_stated_and_compared():
    def draws(count, generator):
        return torch.randn(count, 2, generator=generator) * torch.tensor([0.001, 2.0])

    assert "standard error 0.02," in prove_by_sampling("", draws, 0.0, count=10_000, resolution=0.03).detail
    with pytest.raises(Inconclusive):
        prove_by_sampling("", draws, 0.0, count=10_000, resolution=0.01)


def test_a_mean_may_be_four_standard_errors_off_and_no_more():
    def shifted(by):
        def draws(count, generator):
            noise = torch.randn(count, generator=generator, dtype=torch.float64)
            return (noise - noise.mean()) / noise.std() + by / 100

        return draws

    for by in (3.9, -3.9):
        prove_by_sampling("", shifted(by), 0.0, count=10_000, resolution=0.011)
    for by in (4.1, -4.1):
        with pytest.raises(Refuted):
            prove_by_sampling("", shifted(by), 0.0, count=10_000, resolution=0.011)


def test_the_same_seed_gives_the_same_verdict_and_another_one_other_draws():
    seen = []

    def draw(count, generator):
        seen.append(value_of_xs(count, generator))
        return seen[-1]

    verdicts = [prove_by_sampling("", draw, AB_S**0.5 * CLEAN, seed=seed, **MC) for seed in (0, 0, 1)]
    assert str(verdicts[0]) == str(verdicts[1])
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_the_global_seed_has_no_say():
    torch.manual_seed(0)
    first = prove_by_sampling("", *SAMPLED["both"], **MC)
    torch.manual_seed(1)
    assert prove_by_sampling("", *SAMPLED["both"], **MC) == first


@pytest.mark.parametrize(("count", "resolution"), [(40_000, 0.002), (100, 0.05), (2, 0.001), (40_000, 0), (40_000, -1)])
def test_too_few_draws_for_the_resolution_are_inconclusive(count, resolution):
    for expected in (AB_S**0.5 * CLEAN, AB_S * CLEAN):
        with pytest.raises(
            Inconclusive, match=rf"^mean: standard error \S+ with {count} draws, asked for {resolution}$"
        ):
            prove_by_sampling("mean", value_of_xs, expected, count=count, resolution=resolution)


def test_a_resolution_that_is_no_number_is_inconclusive():
    with pytest.raises(Inconclusive):
        prove_by_sampling("", value_of_xs, AB_S**0.5 * CLEAN, resolution=float("nan"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_draws_that_are_no_numbers_are_inconclusive(value):
    def draws(count, generator):
        numbers = torch.randn(count, 2, generator=generator)
        numbers[17, 1] = value
        return numbers

    with pytest.raises(Inconclusive):
        prove_by_sampling("", draws, 0.0, **MC)
    with pytest.raises(Inconclusive):
        prove_by_sampling("", value_of_xs, value, **MC)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((), 0.0),
        ((1,), 0.0),
        ((39_999,), 0.0),
        ((2, 40_000), 0.0),
        ((40_000, 1, 1), 0.0),
        ((40_000,), [0.0]),
        ((40_000,), [0.0, 0.0]),
        ((40_000, 2), [0.0]),
        ((40_000, 2), [0.0, 0.0, 0.0]),
        ((40_000, 2), [[0.0], [0.0]]),
        ((40_000, 2), [[0.0, 0.0]]),
        ((40_000, 1), [0.0, 0.0]),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused(shape, expected):
    with pytest.raises(ValueError, match=re.escape(f"draws {list(shape)} must be [40000(, K)], expected ")):
        prove_by_sampling("", lambda _, g: torch.randn(shape, generator=g), torch.tensor(expected), **MC)


def test_no_columns_are_refused():
    with pytest.raises((RuntimeError, UserWarning)):
        prove_by_sampling("", lambda count, g: torch.randn(count + 1, generator=g)[1:, None][:, :0], 0.0, **MC)


@pytest.mark.parametrize("draw", [lambda count, _: torch.zeros(count), lambda count, _: torch.randn(count)], ids="01")
def test_draws_that_are_not_drawn_from_the_generator_are_refused(draw):
    with pytest.raises(ValueError, match="draw must draw from the generator"):
        prove_by_sampling("", draw, 0.0, **MC)


def test_draws_without_any_spread_are_compared_exactly():
    def draws(count, generator):
        return torch.randn(count, generator=generator, dtype=torch.float64) * 0 + 0.7

    prove_by_sampling("", draws, 0.7, **MC)
    prove_by_sampling("", draws, 0.7 + 1e-14, **MC)
    with pytest.raises(Refuted):
        prove_by_sampling("", draws, 0.7 + 1e-9, **MC)


# Verdicts and their formulas


@pytest.fixture
def glued(monkeypatch):
    """(label, LaTeX, display) of every formula that is handed to the page."""
    import myst_nb

    calls = []
    monkeypatch.setattr(myst_nb, "glue", lambda name, math, display: calls.append((name, math.data, display)))
    return calls


def test_typeset_prints_the_verdict_and_hands_its_formula_to_the_page(glued, capsys):
    claim = Eq(n, n_solved)
    verdict = prove("eq-n", claim, {n: n_solved})
    typeset(verdict)
    assert capsys.readouterr().out == "eq-n: proved symbolically\n"
    assert glued == [("eq-n", sp.latex(claim, order="none"), False)]


@pytest.mark.parametrize("name", ["update", "paper's mean", "KL", "range of sigma", "order of the times"])
def test_what_is_typeset_is_the_claim_in_the_order_in_which_it_is_written(name, glued, capsys):
    claim = RIGHT[name][0]
    verdict = prove(name, *RIGHT[name])
    assert verdict.formula is claim
    typeset(verdict)
    assert glued[0][1] == sp.latex(claim, order="none")
    assert capsys.readouterr().out == f"{name}: proved symbolically\n"


def test_the_order_matters():
    claim = Eq(v, sp.Add(xt, -x0, 1, evaluate=False))
    assert sp.latex(claim, order="none") != sp.latex(claim)


def test_typeset_without_myst_nb_displays(monkeypatch, capsys):
    shown = []
    monkeypatch.setitem(sys.modules, "myst_nb", None)
    monkeypatch.setattr(proofs, "display", shown.append)
    typeset(define("def-sum", Eq(v, sp.Add(xt, -x0, 1, evaluate=False))))
    assert capsys.readouterr().out == "def-sum: definition\n"
    assert [math.data for math in shown] == ["v = x_{t} - x_{0} + 1"]


def test_a_definition_needs_no_check_and_says_so():
    formula = Eq(v, m * x0)
    verdict = define("def-v", formula)
    assert verdict == Verdict("def-v", "definition", "definition", formula)
    assert str(verdict) == "def-v: definition"


def test_numeric_and_monte_carlo_verdicts_say_how_they_were_found(glued, capsys):
    typeset(prove("eq-m-positive", *NUMERIC["m is positive"]))
    assert capsys.readouterr().out == "eq-m-positive: holds at 41 points, evaluated with 50 digits\n"
    assert str(prove_by_sampling("marginal", *SAMPLED["mean"], **MC)).startswith("marginal: holds by Monte Carlo, ")
    assert len(glued) == 1


@pytest.mark.parametrize("formula", [None, "x = 1", r"\bar\alpha_t", 1], ids=str)
def test_what_is_no_formula_is_not_typeset(formula, glued, capsys):
    with pytest.raises(ValueError, match=re.escape(f"eq-x has no formula to typeset, got {formula!r}")):
        typeset(Verdict("eq-x", "Monte Carlo", "holds", formula))
    assert glued == []
    assert capsys.readouterr().out == ""


def test_a_distribution_has_no_formula_to_typeset(glued):
    with pytest.raises(ValueError, match="marginal has no formula to typeset"):
        typeset(prove_by_sampling("marginal", *SAMPLED["mean"], **MC))
    assert glued == []


def test_verdicts_and_counterexamples_cannot_be_changed():
    with pytest.raises(AttributeError):
        define("", Eq(v, m)).formula = Eq(v, n)
    with pytest.raises(AttributeError):
        refute("", Eq(v, m)).left = 0


def test_the_two_failures_are_no_kind_of_one_another():
    assert issubclass(Refuted, AssertionError)
    assert not issubclass(Inconclusive, AssertionError | ValueError)
    assert not issubclass(Refuted, ValueError)
