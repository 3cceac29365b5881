"""The proof machinery on distributions, and what it prints."""

import re
import sys

import pytest
import sympy as sp
import torch
from claims import NUMERIC, RIGHT, Eq, a_s, a_t, v

from ddim_lib import proofs
from ddim_lib.proofs import (
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
    m,
    m_solved,
    n,
    n_solved,
    sigma,
    x0,
    xt,
)

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
    usual = prove_by_sampling("", wide, 0.0, resolution=0.02).detail
    assert usual == "holds by Monte Carlo, standard error 0.01, 100,000 draws, seed 0"


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
    with pytest.raises(ValueError, match=r"^draw must draw from the generator that it is given$"):
        prove_by_sampling("", draw, 0.0, **MC)


def test_draws_without_any_spread_are_compared_exactly():
    def draws(count, generator):
        return torch.randn(count, generator=generator, dtype=torch.float64) * 0 + 0.7

    prove_by_sampling("", draws, 0.7, **MC | {"resolution": 0.0})
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


@pytest.mark.parametrize("formula", [None, "x = 1", r"\bar\alpha_t", 1], ids=["None", "text", "LaTeX", "number"])
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
