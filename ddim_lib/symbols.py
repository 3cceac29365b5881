"""The book's symbols for SymPy, with the assumptions that its derivations use, and their typesetting."""

from __future__ import annotations

import sympy as sp
from IPython.display import Math, display

alpha_bar_t, alpha_bar_s = sp.symbols("alphabar_t alphabar_s", positive=True)  # SymPy prints the bar over the letter
beta_t = sp.Symbol("beta_t", positive=True)
sigma = sp.Symbol("sigma", nonnegative=True)
m, n = sp.symbols("m n", real=True)
x0, xt, xs = sp.symbols("x_0 x_t x_s", real=True)
eps = sp.Symbol("epsilon", real=True)


# q(x_s | x_t, x_0) = N(m x_0 + n x_t, sigma^2): the solution that the chapter on undetermined coefficients derives
n_solved = sp.sqrt(1 - alpha_bar_s - sigma**2) / sp.sqrt(1 - alpha_bar_t)
m_solved = sp.sqrt(alpha_bar_s) - sp.sqrt(alpha_bar_t) * n_solved


def vanishes(expression: sp.Expr) -> bool:
    """Whether an expression is 0 on the whole domain 1 > alpha_bar_s > alpha_bar_t > 0, 0 <= sigma^2 < 1 - alpha_bar_s.

    SymPy cannot be told inequalities between symbols. So the domain is first written in free positive numbers p, q, r,
    as alpha_bar_s = 1 / (1 + p), alpha_bar_t = 1 / (1 + p + q) and sigma^2 = (1 - alpha_bar_s) r / (1 + r); then every
    root on it is of a positive number, and simplification is safe.
    """
    p, q = sp.symbols("p q", positive=True)
    r = sp.Symbol("r", nonnegative=True)
    spread = p / (1 + p) * r / (1 + r)
    domain = {alpha_bar_s: 1 / (1 + p), alpha_bar_t: 1 / (1 + p + q), sigma: sp.sqrt(spread)}
    on_domain = sp.factor(expression.subs(domain, simultaneous=True), deep=True)
    return sp.simplify(sp.expand(sp.numer(sp.together(on_domain)))) == 0


def typeset(label: str, formula: sp.Basic) -> None:
    """Hand a formula to the page, where ``{glue:math}`` prints it as an equation under ``label``.

    What is printed is the SymPy object that the chapter has at hand, not a copy typed by hand. Where MyST-NB is not
    installed (on Colab, say) the formula is displayed at once.
    """
    latex = Math(sp.latex(formula, order="none"))
    try:
        from myst_nb import glue
    except ImportError:
        display(latex)
    else:
        glue(label, latex, display=False)
