"""The proof machinery: what is right passes, what is wrong is refuted, and nothing else passes."""

import functools
import re
from itertools import pairwise

import mpmath
import pytest
import sympy as sp
from claims import (
    AT_DDPM,
    BOUNDED,
    NUMERIC,
    REFUTABLE,
    RIGHT,
    WRONG,
    Eq,
    Ge,
    Gt,
    Le,
    Lt,
    a_r,
    a_s,
    a_t,
    d,
    exp,
    half,
    k,
    log,
    spread_t,
    sqrt,
    v,
    w,
    x,
    y,
)

from ddim_lib import proofs
from ddim_lib.proofs import (
    Counterexample,
    Inconclusive,
    Refuted,
    Verdict,
    prove,
    refute,
)
from ddim_lib.symbols import (
    DOMAIN,
    beta_t,
    beta_tilde,
    eps,
    m,
    m_solved,
    n,
    n_solved,
    sigma,
    x0,
    xt,
    z,
)

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
    assert str(Counterexample({}, 1 + 1e-21j, 0.5j)) == "left side 1, right side 0+0.5j"


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
    ids=lambda claim: " ".join(repr(claim).split()),
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


def test_a_verdict_on_another_domain_says_so():
    assert str(prove("held", Eq(n_solved * spread_t, sqrt(1 - a_s)), domain=DOMAIN | {sigma: 0})).endswith("own domain")
    assert str(prove("whole", Lt(a_t, a_s))) == "whole: proved symbolically"


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
