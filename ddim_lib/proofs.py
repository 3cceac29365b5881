"""Checks of printed formulas: by SymPy, else at 50 digits at random points, else (distributions) by Monte Carlo.

A formula is printed on a page by :func:`typeset`, which takes the :class:`Verdict` of a check: what was not checked
cannot be printed. Wrong claims raise :class:`Refuted` with a counterexample; undecided ones :class:`Inconclusive`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import eq, ge, gt, le, lt

import mpmath
import sympy as sp
import torch
from IPython.display import Math, display
from torch import Tensor

from .symbols import DOMAIN

DIGITS = 50  # of an evaluation; another with twice as many tells a small difference from rounding
POINTS = 41  # of the domain, at which a claim is evaluated
STANDARD_ERRORS = 4.0  # a mean further off than this is refuted
RELATIONS = {sp.Eq: eq, sp.Lt: lt, sp.Le: le, sp.Gt: gt, sp.Ge: ge}
Domain = Mapping[sp.Symbol, sp.Expr]
Draw = Callable[[int, torch.Generator], Tensor]


class Refuted(AssertionError):  # noqa: N818 (a verdict)
    """A claim is wrong: there are values at which its sides differ (or at which its inequality fails)."""


class Inconclusive(RuntimeError):  # noqa: N818
    """A claim was neither proved nor refuted. It does not pass."""


@dataclass(frozen=True)
class Verdict:
    """A check that was passed, or a definition, which needs none.

    Attributes:
        label: the equation's label on the page, or a name in words.
        kind: ``"definition"``, ``"symbolic"``, ``"numeric"`` or ``"Monte Carlo"``.
        detail: how it was checked, in words.
        formula: what :func:`typeset` prints.
    """

    label: str
    kind: str
    detail: str
    formula: sp.Basic | None = None

    def __str__(self) -> str:
        return f"{self.label}: {self.detail}"


@dataclass(frozen=True)
class Counterexample:
    """Values at which a claim fails: the symbols' values, and those of the two sides."""

    values: Mapping[str, float]
    left: complex
    right: complex

    def __str__(self) -> str:
        at = ", ".join(f"{name} = {_short(value)}" for name, value in self.values.items())
        return f"left side {_short(self.left)}, right side {_short(self.right)}" + (f" at {at}" if at else "")


def define(label: str, formula: sp.Basic) -> Verdict:
    """A definition: nothing to check, but typeset from the SymPy object that the page goes on with."""
    return Verdict(label, "definition", "definition", formula)


def prove(label: str, claim: sp.Basic, where: Domain | None = None, *, domain: Domain = DOMAIN) -> Verdict:
    """Prove an equation or an inequality on the whole domain.

    Args:
        label: the equation's label on the page, or a name in words.
        claim: ``sp.Eq``, ``sp.Lt``, ``sp.Le``, ``sp.Gt`` or ``sp.Ge``.
        where: what names in the claim stand for; put in, also into one another, before the check, but not printed.
        domain: symbol -> expression in free symbols whose every admissible value is a point of the domain. A symbol
            that is not in it is free itself and must be declared real, or more. The verdict names another domain.

    Raises:
        Refuted: the claim fails at a point of the domain, which the message gives.
        Inconclusive: it has no finite real value at a point of the domain at which nothing is 0.
        ValueError: no such claim, a symbol without the assumption that it needs, or a ``where`` that is not used up.
    """
    left, right, relation = _sides(claim, where or {}, domain)
    found, tried = _search(left, right, relation, domain)
    if found is not None:
        raise Refuted(f"{label} is wrong: {found}")
    kind, detail = "numeric", f"holds at {tried} points, evaluated with {DIGITS} digits"
    if _holds_symbolically(*(side.subs(domain) for side in (left, right)), relation):
        kind, detail = "symbolic", "proved symbolically"
    return Verdict(label, kind, detail if domain is DOMAIN else f"{detail}, on its own domain", claim)


def refute(label: str, claim: sp.Basic, where: Domain | None = None, *, domain: Domain = DOMAIN) -> Counterexample:
    """Find values at which a claim fails. Arguments as in :func:`prove`; raises Inconclusive if it finds none."""
    found, tried = _search(*_sides(claim, where or {}, domain), domain)
    if found is None:
        raise Inconclusive(f"{label} is not refuted: it holds at all {tried} points that were tried")
    return found


def prove_by_sampling(
    label: str, draw: Draw, expected: Tensor | float, *, resolution: float, count: int = 100_000, seed: int = 0
) -> Verdict:
    """Check a claim about a distribution, written as a mean (a variance is the mean of a square).

    Args:
        draw: ``draw(count, generator)`` gives ``count`` independent draws, (count,) or (count, K).
        expected: the claimed means, a number or (K,).
        resolution: the largest standard error with which the check counts as one.

    Raises:
        Refuted: a mean is more than 4 standard errors from its claim.
        Inconclusive: NaN, or a standard error above ``resolution``: too few draws to tell.
    """
    expected, generator = torch.as_tensor(expected, dtype=torch.float64), torch.Generator().manual_seed(seed)
    before, draws = generator.get_state(), torch.as_tensor(draw(count, generator), dtype=torch.float64)
    if torch.equal(generator.get_state(), before):
        raise ValueError("draw must draw from the generator that it is given")
    if draws.ndim not in (1, 2) or len(draws) != count or expected.shape not in ((), draws.shape[1:]):
        raise ValueError(f"draws {[*draws.shape]} must be [{count}(, K)], expected {[*expected.shape]} [] or [K]")
    mean, error = draws.mean(0), draws.std(0) / count**0.5
    if not torch.isfinite(mean - expected).all() or not (error <= resolution).all():
        raise Inconclusive(f"{label}: standard error {error.max():.2g} with {count} draws, asked for {resolution:g}")
    if not ((mean - expected).abs() <= STANDARD_ERRORS * error + 1e-12).all():
        raise Refuted(f"{label} is wrong: mean {mean.tolist()}, error {error.tolist()}, claimed {expected.tolist()}")
    detail = f"holds by Monte Carlo, standard error {error.max():.1g}, {count:,} draws, seed {seed}"
    return Verdict(label, "Monte Carlo", detail)


def typeset(verdict: Verdict) -> None:
    """Print a verdict, and hand its formula to the page, where ``{glue:math}`` shows it as an equation under the label.

    What is printed is the SymPy object that was checked, not a copy typed by hand. Where MyST-NB is not installed (on
    Colab, say) the formula is displayed at once.
    """
    if not isinstance(verdict.formula, sp.Basic):  # a claim about a distribution is typed on the page
        raise ValueError(f"{verdict.label} has no formula to typeset, got {verdict.formula!r}")
    print(verdict)
    latex = Math(sp.latex(verdict.formula, order="none"))
    try:
        from myst_nb import glue
    except ImportError:
        display(latex)
    else:
        glue(verdict.label, latex, display=False)


def _sides(claim: sp.Basic, where: Domain, domain: Domain) -> tuple[sp.Expr, sp.Expr, type]:
    if type(claim) not in RELATIONS or not all(isinstance(side, sp.Expr) for side in claim.args):
        raise ValueError(f"claim must be an equation or an inequality that SymPy has not evaluated yet, got {claim!r}")
    left, right, unused = claim.lhs, claim.rhs, set(where)
    for _ in where:  # a definition may use other names
        unused -= {name for name in where if left.has(name) or right.has(name)}
        left, right = (side.subs(where, simultaneous=True) for side in (left, right))
    if unused or left.has(*where) or right.has(*where):
        raise ValueError(f"where: {unused or {*where}} do not occur in the claim, or stand for one another in a circle")
    if undefined := sp.Tuple(left, right).atoms(sp.core.function.AppliedUndef):
        raise ValueError(f"claim has functions that are not defined: {undefined}")
    known = left.free_symbols | right.free_symbols | domain.keys()
    coordinates = set().union(*(sp.sympify(chart).free_symbols for chart in domain.values()))
    for symbol in (known - domain.keys()) | coordinates:
        if not symbol.is_real or symbol.is_even is not None or symbol.is_prime or symbol.is_composite:
            raise ValueError(f"symbol {symbol} must be in the domain, or declared real, signed or integer at most")
        if symbol in coordinates & known or [s.name for s in known].count(symbol.name) > 1:
            raise ValueError(f"symbol {symbol} is a coordinate of the domain, or has the name of another symbol")
    return left, right, claim.func


def _search(left: sp.Expr, right: sp.Expr, relation: type, domain: Domain) -> tuple[Counterexample | None, int]:
    """The first point of the domain at which the relation fails, or None; and at how many points it holds."""
    named = sorted(left.free_symbols | right.free_symbols, key=str)
    coordinates = [sp.sympify(domain.get(symbol, symbol)) for symbol in named]
    free = sorted(set().union(*(c.free_symbols for c in coordinates)), key=str)
    to_values = sp.lambdify([free], coordinates, modules="mpmath", dummify=True)  # a symbol may be called pi
    to_sides = sp.lambdify([named], [left, right], modules="mpmath", dummify=True)
    tried = 0
    for point in _points(free):
        try:
            (values, *rough), (_, *fine) = (_evaluate(to_values, to_sides, point, n) for n in (DIGITS, 2 * DIGITS))
        except (ArithmeticError, ValueError, TypeError, NameError) as error:
            if 0 in point:  # 1 / sigma at 0, say: the claim is about where it has a value
                continue
            raise Inconclusive(f"no finite real value at {dict(zip(free, point, strict=True))}: {error!r}") from error
        if not all(map(_admits, named, values)):
            raise ValueError(f"domain: {named} = {values} is not as these symbols are declared")
        if not _true_at(*rough, *fine, relation):
            names = {str(symbol): float(value) for symbol, value in zip(named, values, strict=True)}
            return Counterexample(names, *map(complex, fine)), tried
        tried += 1
    return None, tried


def _evaluate(to_values: Callable, to_sides: Callable, point: list, digits: int) -> tuple:
    with mpmath.workdps(digits):
        values = to_values(point)
        left, right = map(mpmath.mpmathify, to_sides(values))
    if not (mpmath.isfinite(left) and mpmath.isfinite(right)) or (mpmath.im(left) and mpmath.im(right)):
        raise ValueError(f"left side {left}, right side {right}")
    return values, left, right


def _admits(symbol: sp.Symbol, value: mpmath.mpf) -> bool:
    """Whether a symbol is declared so that it may have this value."""
    signs = {-1: symbol.is_negative, 0: symbol.is_zero, 1: symbol.is_positive}
    return not mpmath.im(value) and signs[int(mpmath.sign(value))] is not False


def _true_at(a0: mpmath.mpf, b0: mpmath.mpf, a: mpmath.mpf, b: mpmath.mpf, relation: type) -> bool:
    """Whether the relation holds between a and b, which are a0 and b0 with more digits."""
    shrunk = abs(a0 - b0) * mpmath.mpf(10) ** (10 - DIGITS)  # rounding does; where it was 0 by luck, it may grow
    equal = abs(a - b) <= (shrunk or mpmath.mpf(10) ** (30 - 2 * DIGITS) * (abs(a) + abs(b) if a and b else 1))
    return (relation is sp.Eq or mpmath.im(a) == mpmath.im(b) == 0) and RELATIONS[relation](a, a if equal else b)


def _points(free: list[sp.Symbol]) -> Iterator[list[mpmath.mpf]]:
    """The same at every call: a simple point, for readers; its symbols at 0; then random points, ever further out."""
    zeros = tuple(symbol for symbol in free if _admits(symbol, 0))
    at_zero = list(dict.fromkeys([(), zeros, *((symbol,) for symbol in zeros)]))
    for gone in at_zero:
        yield [mpmath.mpf(0) if symbol in gone else _signed(symbol, 1 + i % 2, 1) for i, symbol in enumerate(free)]
    dice = random.Random(0)
    for i in range(len(at_zero), POINTS):
        logs = [20 * i / POINTS * dice.choice((dice.uniform(-1, 1), -1, 1)) for _ in free]
        yield [_signed(symbol, mpmath.exp(log), dice.choice((-1, 1))) for symbol, log in zip(free, logs, strict=True)]


def _signed(symbol: sp.Symbol, size: mpmath.mpf, sign: int) -> mpmath.mpf:
    size = mpmath.ceil(mpmath.sqrt(size)) if symbol.is_integer else mpmath.mpf(size)
    return sign * size if _admits(symbol, sign) else -sign * size


def _holds_symbolically(left: sp.Expr, right: sp.Expr, relation: type) -> bool:
    """Whether SymPy finds a relation to hold for all values of its free symbols, by their assumptions alone."""
    difference = sp.factor(sp.expand_log(left - right), deep=True)
    if relation is sp.Eq:
        return sp.simplify(sp.expand(sp.expand_log(sp.numer(sp.together(difference))))) == 0
    gap = sp.factor(sp.together(difference if relation in (sp.Gt, sp.Ge) else -difference))
    return bool(gap.is_positive if relation in (sp.Gt, sp.Lt) else gap.is_nonnegative)


def _short(value: complex) -> str:
    return f"{value.real:.4g}" if abs(value.imag) < 1e-20 else f"{value:.4g}"
