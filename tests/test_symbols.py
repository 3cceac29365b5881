import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from ddim_lib import symbols
from ddim_lib.proofs import Inconclusive, prove, refute
from ddim_lib.symbols import (
    DOMAIN,
    alpha_bar_r,
    alpha_bar_s,
    alpha_bar_t,
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

COORDINATES = {symbol.name: symbol for chart in DOMAIN.values() for symbol in chart.free_symbols}
sizes = st.floats(1e-4, 1e4)
fractions = st.floats(0.01, 0.99)
v = sp.Symbol("v", real=True)


def at(point):
    """Symbol -> its value at a point of the domain, given by coordinates."""
    values = {COORDINATES[name]: value for name, value in point.items()}
    return {symbol: float(chart.subs(values)) for symbol, chart in DOMAIN.items()}


# The domain: 1 > alpha_bar_s > alpha_bar_r > alpha_bar_t > 0, 0 <= sigma^2 < 1 - alpha_bar_s


@given(sizes, sizes, sizes, st.floats(0, 1e4))
def test_every_choice_of_coordinates_is_a_point_of_the_domain(p, q, u, r):
    value = at({"p": p, "q": q, "u": u, "r": r})
    assert 1 > value[alpha_bar_s] > value[alpha_bar_r] > value[alpha_bar_t] > 0
    assert 0 <= value[sigma] ** 2 < 1 - value[alpha_bar_s]
    assert value[beta_t] == pytest.approx(1 - value[alpha_bar_t] / value[alpha_bar_s])


@given(fractions, fractions, fractions, st.floats(0, 0.99))
def test_every_point_of_the_domain_has_coordinates(ab_s, between, last, share):
    ab_t = ab_s * last
    ab_r = ab_t + between * (ab_s - ab_t)
    weight = (1 / ab_r - 1 / ab_s) / (1 / ab_t - 1 / ab_s)
    point = {"p": 1 / ab_s - 1, "q": 1 / ab_t - 1 / ab_s, "u": weight / (1 - weight), "r": share / (1 - share)}
    value = at(point)
    expected = [ab_s, ab_r, ab_t, 1 - ab_t / ab_s, (share * (1 - ab_s)) ** 0.5]
    assert [value[s] for s in (alpha_bar_s, alpha_bar_r, alpha_bar_t, beta_t, sigma)] == pytest.approx(expected)


@pytest.mark.parametrize(
    "inequality",
    [
        sp.Lt(alpha_bar_s, 1),
        sp.Lt(alpha_bar_r, alpha_bar_s),
        sp.Lt(alpha_bar_t, alpha_bar_r),
        sp.Lt(beta_t, 1),
        sp.Lt(sigma**2, 1 - alpha_bar_s),
    ],
    ids=str,
)
def test_the_inequalities_of_the_domain_are_proved(inequality):
    assert prove("", inequality).kind == "symbolic"


@pytest.mark.parametrize(
    "inequality",
    [
        sp.Lt(alpha_bar_s, sp.Rational(9, 10)),
        sp.Gt(alpha_bar_t, sp.Rational(1, 10)),
        sp.Gt(sigma, 0),
        sp.Lt(sigma**2, (1 - alpha_bar_s) / 2),
        sp.Lt(alpha_bar_r, (alpha_bar_s + alpha_bar_t) / 2),
        sp.Gt(alpha_bar_r, (alpha_bar_s + alpha_bar_t) / 2),
    ],
    ids=str,
)
def test_the_domain_is_no_smaller(inequality):
    refute("", inequality)


def test_coordinates_are_nobody_elses():
    assert sorted(COORDINATES) == ["p", "q", "r", "u"]
    assert all(isinstance(symbol, sp.Dummy) for symbol in COORDINATES.values())
    assert len(set().union(*(chart.free_symbols for chart in DOMAIN.values()))) == 4
    assert {name for name, symbol in COORDINATES.items() if symbol.is_positive} == {"p", "q", "u"}
    assert COORDINATES["r"].is_nonnegative


# The symbols


def test_symbols_are_declared_as_the_derivations_need_them():
    positive = (alpha_bar_t, alpha_bar_s, alpha_bar_r, beta_t)
    assert all(symbol.is_positive for symbol in positive)
    assert sigma.is_nonnegative
    assert sigma.is_zero is None
    for symbol in (m, n, x0, xt, xs, eps, eps_theta, z):
        assert symbol.is_real
        assert symbol.is_positive is None


def test_every_symbol_with_a_bound_is_in_the_domain():
    declared = {value for value in vars(symbols).values() if isinstance(value, sp.Symbol)}
    assert {symbol for symbol in declared if symbol.is_nonnegative and symbol not in COORDINATES.values()} == set(
        DOMAIN
    )


def test_symbols_are_named_in_messages_as_on_the_pages():
    found = (alpha_bar_t, alpha_bar_s, alpha_bar_r, beta_t, sigma, m, n, x0, xt, xs, eps, eps_theta, z)
    names = "alphabar_t alphabar_s alphabar_r beta_t sigma m n x_0 x_t x_s epsilon epsilon_theta z"
    assert [str(symbol) for symbol in found] == names.split()


def test_no_two_symbols_share_a_name():
    declared = [value for value in vars(symbols).values() if isinstance(value, sp.Symbol)]
    assert len({symbol.name for symbol in declared}) == len(declared)


@pytest.mark.parametrize(
    ("symbol", "latex"),
    [
        (alpha_bar_t, r"\bar{\alpha}_{t}"),
        (alpha_bar_s, r"\bar{\alpha}_{s}"),
        (alpha_bar_r, r"\bar{\alpha}_{r}"),
        (beta_t, r"\beta_{t}"),
        (eps, r"\epsilon"),
        (eps_theta, r"\epsilon_{\theta}"),
        (sigma, r"\sigma"),
        (x0, "x_{0}"),
        (xt, "x_{t}"),
        (xs, "x_{s}"),
        (m, "m"),
        (n, "n"),
        (z, "z"),
    ],
    ids=lambda value: str(value).replace("\\", ""),
)
def test_symbols_print_as_the_pages_write_them(symbol, latex):
    assert sp.latex(symbol) == latex


def test_the_solution_satisfies_the_two_conditions():
    solved = {m: m_solved, n: n_solved}
    assert prove("", sp.Eq(m + n * sp.sqrt(alpha_bar_t), sp.sqrt(alpha_bar_s)), solved).kind == "symbolic"
    variance = sp.Eq(n**2 * (1 - alpha_bar_t) + sigma**2, 1 - alpha_bar_s)
    assert prove("", variance, {n: n_solved}).kind == "symbolic"


def test_the_posterior_of_ddpm_by_hand():
    signal, earlier = sp.Rational(1, 4), sp.Rational(16, 25)  # roots 0.5 and 0.8; beta_t = 39 / 64
    values = {alpha_bar_t: signal, alpha_bar_s: earlier, beta_t: 1 - signal / earlier}
    found = [formula.subs(values) for formula in (beta_tilde, m_ddpm, n_ddpm)]
    assert found == [sp.Rational(2925, 10_000), sp.Rational(65, 100), sp.Rational(3, 10)]


# Roots on the domain


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1 - alpha_bar_t, sp.sqrt((1 - alpha_bar_t) ** 2)),
        (sp.sqrt((1 - alpha_bar_s) ** 2), 1 - alpha_bar_s),
        (sp.sqrt((alpha_bar_s - alpha_bar_t) ** 2), alpha_bar_s - alpha_bar_t),
        (
            sp.sqrt((1 - alpha_bar_s) ** 2 - 2 * (1 - alpha_bar_s) * sigma**2 + sigma**4),
            1 - alpha_bar_s - sigma**2,
        ),
        ((xt - x0) * (xt + x0), v),
        (sp.sqrt(alpha_bar_t / alpha_bar_s) * sp.sqrt(alpha_bar_s) * v, sp.sqrt(alpha_bar_t) * (xt**2 - x0**2)),
    ],
    ids=str,
)
def test_identities_on_the_domain_are_proved_and_not_refuted(left, right):
    where = {v: xt**2 - x0**2} if sp.Eq(left, right).has(v) else {}
    assert prove("", sp.Eq(left, right), where).kind == "symbolic"
    with pytest.raises(Inconclusive):
        refute("", sp.Eq(left, right), where)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (sigma, 0),
        (1 - alpha_bar_t, alpha_bar_s),
        (sp.sqrt((alpha_bar_s - alpha_bar_t) ** 2), alpha_bar_t - alpha_bar_s),  # the other root
        (sp.sqrt(1 - alpha_bar_s - sigma**2), sp.sqrt(1 - alpha_bar_s) - sigma),
        (m, n),
        (
            sp.sqrt(((1 - alpha_bar_s) ** 2 - sigma**2) / (1 - alpha_bar_t)),
            sp.sqrt((1 - alpha_bar_s - sigma**2) / (1 - alpha_bar_t)),
        ),  # a slip of one of the seeds
    ],
    ids=str,
)
def test_what_is_no_identity_is_refuted(left, right):
    refute("", sp.Eq(left, right))
