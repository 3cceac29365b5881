"""Wrong versions of a notebook's formulas: one operator, root, number, sign or symbol changed.

A formula here is a claim (a call of ``prove``, ``refute``, ``define`` or ``prove_by_sampling``), a comparison whose
truth is printed or asserted, or a function that the notebook defines. What it is made of stands in its own lines and in
those above it, in the same cell, that assign the names it uses: there the changes are made.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

CLAIMS = ("prove", "refute", "define", "prove_by_sampling")
SWAPS = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}
NEGATED = {ast.Lt: ">=", ast.LtE: ">", ast.Gt: "<=", ast.GtE: "<", ast.Eq: "!=", ast.NotEq: "=="}
PLAIN = ("side", "comparison")  # kinds that make any claim wrong: for where nothing else can be changed
RELATIONS = {"Lt": "Ge", "Le": "Gt", "Gt": "Le", "Ge": "Lt"}
TIMES = {f"{name}_t": f"{name}_s" for name in ("alpha_bar", "ab", "a")}
TIMES |= {earlier: later for later, earlier in TIMES.items()}
# Calls whose arguments are sizes, seeds, places, labels: a change there makes no formula wrong.
NO_FORMULA = """
    manual_seed rand randn randint randperm linspace arange full zeros ones symbols Symbol subplots set stack cat flip
    repeat chunk unbind flatten quantile sum mean std var diff norm argmin argmax squeeze unsqueeze round range fill
    ljust rjust item
"""


@dataclass(frozen=True)
class Formula:
    """A formula of a cell: its kind (a claim's, "check" or "def") and its name.

    Attributes:
        own, shared: what it is made of, nearest first; other formulas may be made of the shared part, too.
        writes: the names to which it gives a value.
    """

    kind: str
    name: str
    own: tuple[ast.AST, ...]
    shared: tuple[ast.AST, ...] = ()
    writes: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def told_apart(self, uses: Counter[int]) -> Formula:
        """The same formula; what only one is made of (``uses`` counts, by ``id``) is its own."""
        alone = tuple(part for part in self.shared if uses[id(part)] == 1)
        return replace(self, own=self.own + alone, shared=tuple(part for part in self.shared if part not in alone))


@dataclass(frozen=True)
class Alteration:
    """One change: of which formula, what in words, and the source of the cell with it."""

    formula: Formula
    what: str
    source: str


def called(node: ast.AST) -> str:
    """The name of the function that a call calls, without what stands before the last dot; else an empty string."""
    function = getattr(node, "func", None) if isinstance(node, ast.Call) else None
    return getattr(function, "attr", "") or getattr(function, "id", "")


def reads(node: ast.AST) -> set[str]:
    """The names that a piece of code loads."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def writes(node: ast.AST) -> set[str]:
    """The names that a piece of code assigns, defines, or changes in place by a method or an index."""
    found = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    found |= {n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef)}
    for n in ast.walk(node):
        inside = n.value if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Store) else None
        if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call) and isinstance(n.value.func, ast.Attribute):
            inside = n.value.func.value
        if isinstance(inside, ast.Name):
            found.add(inside.id)
    return found


def above(needed: set[str], statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements, last first, that make the names that are needed, or the names that those need."""
    needed = set(needed)
    for statement in reversed(statements):
        if writes(statement) & needed:
            needed |= reads(statement)
            yield statement


def checks(statement: ast.stmt) -> list[ast.AST]:
    """The comparisons in a statement that are claims, not choices: those of ``if``, ``while`` and filters are left."""
    chosen = [getattr(n, "test", None) for n in ast.walk(statement) if not isinstance(n, ast.Assert)]
    chosen += [test for n in ast.walk(statement) for test in getattr(n, "ifs", ())]
    chosen += [n.slice for n in ast.walk(statement) if isinstance(n, ast.Subscript)]
    left = {id(n) for test in chosen if test is not None for n in ast.walk(test)}
    return [n for n in ast.walk(statement) if isinstance(n, ast.Compare) and id(n) not in left]


def formulas(source: str) -> list[Formula]:
    """The formulas of a cell, in order."""
    statements, found, uses = ast.parse(source).body, [], Counter()
    shown = [s for s in statements if not isinstance(s, ast.FunctionDef) and "print" in reads(s)]
    told = {id(s) for s in shown} | {id(s) for p in shown for s in above(reads(p), statements)}
    for place, statement in enumerate(statements):
        if isinstance(statement, ast.FunctionDef):
            found.append(Formula("def", statement.name, (*statement.body,), writes=frozenset({statement.name})))
            continue
        claims = [node for node in ast.walk(statement) if called(node) in CLAIMS]
        if id(statement) in told or any(isinstance(n, ast.Assert) for n in ast.walk(statement)):
            claims += checks(statement)
        for node in sorted(claims, key=lambda n: (n.lineno, n.col_offset)):
            made_of = [statement, *above(reads(statement), statements[:place])] if called(node) in CLAIMS else []
            uses.update(map(id, made_of))
            found.append(Formula(called(node) or "check", label(node), (node,), (*made_of,)))
    return [formula.told_apart(uses) for formula in found]


def label(node: ast.AST) -> str:
    """The label of a claim; a comparison's own text."""
    if not isinstance(node, ast.Call):
        return ast.unparse(node)
    first = node.args[0]
    return first.value if isinstance(first, ast.Constant) else f"labelled {ast.unparse(first)}"


def alterations(source: str, formula: Formula) -> list[Alteration]:
    """All changes of a formula: of its own parts first, and of one kind after the other, so that the first differ."""
    found, seen = [], set()
    for parts in (formula.own, formula.shared):
        by_kind = {}
        for node in (n for part in parts for n in parts_of_formulas(part) if id(n) not in seen):
            seen.add(id(node))
            for kind, new in changes(node):
                by_kind.setdefault(kind, []).append(altered(source, formula, node, new))
        better = [some for kind, some in by_kind.items() if kind not in PLAIN] or list(by_kind.values())
        found += [some[i] for i in range(max(map(len, better), default=0)) for some in better if i < len(some)]
    return found


def altered(source: str, formula: Formula, node: ast.AST, new: str) -> Alteration:
    """The alteration that puts a text in the place of a node."""
    lines = source.encode().splitlines(keepends=True)  # columns count bytes
    begin = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    code = source.encode()
    old = " ".join(code[begin:end].decode().split())
    whole = (code[:begin] + new.encode() + code[end:]).decode()
    return Alteration(formula, f"line {node.lineno}, column {node.col_offset}: {old} -> {new}", whole)


def parts_of_formulas(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes in which a change makes a formula wrong: not those of texts, labels, sizes and seeds."""
    if isinstance(node, ast.JoinedStr | ast.keyword) or called(node) in NO_FORMULA.split():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield from parts_of_formulas(node.func.value)
        return
    yield node
    for name, child in ast.iter_fields(node):
        if not (isinstance(node, ast.Subscript) and name == "slice"):
            for part in child if isinstance(child, list) else [child]:
                if isinstance(part, ast.AST) and not is_setting(node, part):
                    yield from parts_of_formulas(part)


def is_setting(node: ast.AST, part: ast.AST) -> bool:
    """Whether a part of a node is a bound to compare with (of an error, say), or an option of a Monte Carlo check."""
    if isinstance(node, ast.Dict) and part in node.values:
        key = node.keys[node.values.index(part)]
        return isinstance(key, ast.Constant) and key.value in ("resolution", "count", "seed")
    if isinstance(node, ast.Compare):
        return part in node.comparators or (isinstance(part, ast.expr) and not reads(part))
    return called(node) in RELATIONS and isinstance(part, ast.Constant)


def changes(node: ast.AST) -> Iterator[tuple[str, str]]:
    """(kind, text to put in place of the node) of each change."""
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS and not isinstance(node.left, ast.List | ast.JoinedStr):
        left, right = ast.unparse(node.left), ast.unparse(node.right)
        yield "operator", f"(({left}) {SWAPS[type(node.op)]} ({right}))"
    elif called(node) == "sqrt":
        yield "root", f"({ast.unparse(node.args[0] if node.args else node.func.value)})"
    elif called(node) in RELATIONS:
        new = RELATIONS[called(node)]
        yield "relation", ast.unparse(node).replace(called(node), new, 1)
    elif called(node) in CLAIMS[:3]:
        first, claim, *others = map(ast.unparse, [*node.args, *node.keywords])
        wrong = f"(lambda claim: claim.func(claim.lhs, claim.rhs + 1))({claim})"
        yield "side", f"{ast.unparse(node.func)}({', '.join([first, wrong, *others])})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "sign", f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield "number", repr(node.value + 1 if isinstance(node.value, int) else node.value * 1.01 or 0.01)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in NEGATED:
        sides = (ast.unparse(side) for side in (node.left, node.comparators[0]))
        yield "comparison", "({} {op} {})".format(*sides, op=NEGATED[type(node.ops[0])])
    elif isinstance(node, ast.Compare):
        yield "comparison", f"(not ({ast.unparse(node)}))"
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in TIMES:
        yield "time", TIMES[node.id]
