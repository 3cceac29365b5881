"""The book's symbols for SymPy, with the assumptions that its derivations use."""

from __future__ import annotations

import sympy as sp

# Times: s < t, with r between them. SymPy prints `alphabar` as a letter with a bar.
alpha_bar_t, alpha_bar_s, alpha_bar_r = sp.symbols("alphabar_t alphabar_s alphabar_r", positive=True)
beta_t = sp.Symbol("beta_t", positive=True)  # 1 - alpha_bar_t / alpha_bar_s; DDPM's beta_t where s = t - 1
sigma = sp.Symbol("sigma", nonnegative=True)
m, n = sp.symbols("m n", real=True)
x0, xt, xs = sp.symbols("x_0 x_t x_s", real=True)
eps, eps_theta, z = sp.symbols("epsilon epsilon_theta z", real=True)  # in x_t; its estimate; freshly drawn

# SymPy cannot be told inequalities between symbols. So the domain 1 > alpha_bar_s > alpha_bar_r > alpha_bar_t > 0,
# 0 <= sigma^2 < 1 - alpha_bar_s is written in free positive numbers p, q, u and r >= 0: every choice of them is a
# point of the domain, and every root on it is of a positive number. The ends of the domain follow by continuity.
_p, _q, _u = (sp.Dummy(name, positive=True) for name in "pqu")  # Dummy: nobody else's p is this one
_r = sp.Dummy("r", nonnegative=True)
DOMAIN = {
    alpha_bar_s: 1 / (1 + _p),
    alpha_bar_r: 1 / (1 + _p + _q * _u / (1 + _u)),
    alpha_bar_t: 1 / (1 + _p + _q),
    beta_t: _q / (1 + _p + _q),
    sigma: sp.sqrt(_p / (1 + _p) * _r / (1 + _r)),
}

# DDPM's posterior q(x_s | x_t, x_0) = N(m_ddpm x_0 + n_ddpm x_t, beta_tilde), derived in the chapter on it
beta_tilde = (1 - alpha_bar_s) / (1 - alpha_bar_t) * beta_t
m_ddpm = sp.sqrt(alpha_bar_s) * beta_t / (1 - alpha_bar_t)
n_ddpm = sp.sqrt(1 - beta_t) * (1 - alpha_bar_s) / (1 - alpha_bar_t)

# q(x_s | x_t, x_0) = N(m x_0 + n x_t, sigma^2): the solution that the chapter on undetermined coefficients derives
n_solved = sp.sqrt(1 - alpha_bar_s - sigma**2) / sp.sqrt(1 - alpha_bar_t)
m_solved = sp.sqrt(alpha_bar_s) - sp.sqrt(alpha_bar_t) * n_solved
