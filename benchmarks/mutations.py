"""What a mutant is: one small change in the body of a function, of the kind that a slip of the hand makes.

Changed are comparisons, conditions, arithmetic, numbers, truth values, keyword arguments, returns, loops' exits and
the words of SQL; left out are whole statements: calls made for their effect, raises, locks, what a `finally` does. Not
touched: texts of errors, annotations, defaults of arguments, and what stands outside of functions.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.Mod: ast.FloorDiv,
}  # fmt: skip
_SQL = [
    ("IS NOT NULL", "IS NULL"), ("IS NULL", "IS NOT NULL"), (" AND ", " OR "), (" OR ", " AND "), (" <= ", " < "),
    (" >= ", " > "), (" < ", " <= "), (" > ", " >= "), (" DESC", ""), ("max(", "min("), ("min(", "max("),
    (" NOT IN ", " IN "), ("NOT EXISTS", "EXISTS"), ("LEFT JOIN", "JOIN"), (" + 1", " + 2"), ("DISTINCT ", ""),
]  # fmt: skip
_SPEAKS_SQL = re.compile(r"\b(SELECT|FROM|WHERE|UPDATE|DELETE|INSERT|JOIN|AND|OR|NULL)\b")
_LEFT_ALONE = (ast.Raise, ast.Assert, ast.arguments)
_LEFT_ALONE_FIELDS = {"annotation", "returns", "decorator_list", "format_spec"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, eq=False)
class Mutant:
    """One change: `owner.field` (or one element of it) is `new` instead of `old`."""

    path: str
    function: str
    first: int
    line: int
    text: str
    what: str
    tree: ast.Module
    owner: ast.AST
    field: str
    place: int | None
    old: ast.AST
    new: ast.AST

    def told(self) -> dict[str, str | int]:
        """What a report says of it."""
        return {name: getattr(self, name) for name in ("path", "function", "line", "text", "what")}

    def code(self) -> CodeType:
        """The changed function's code; of two on one line that of the same name."""
        self._put(self.new)
        try:
            whole = compile(ast.fix_missing_locations(self.tree), str(Path(self.path).absolute()), "exec")
        finally:
            self._put(self.old)
        return next(c for c in codes(whole) if (c.co_qualname, c.co_firstlineno) == (self.function, self.first))

    def _put(self, node: ast.AST) -> None:
        if self.place is None:
            setattr(self.owner, self.field, node)
        else:
            getattr(self.owner, self.field)[self.place] = node


def codes(code: CodeType) -> Iterator[CodeType]:
    """A code and all that lie in it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from codes(each)


def mutants_of(path: str) -> list[Mutant]:
    """All mutants of a file, from its first line to its last."""
    source = Path(path).read_text()
    tree, lines = ast.parse(source), source.splitlines()
    found = []
    for function, name in _functions(tree, ""):
        first = min([function.lineno, *(each.lineno for each in function.decorator_list)])
        for owner, field, place, old in _slots(function):
            for what, new in _changes(old):
                line = int(getattr(old, "lineno", function.lineno))
                ast.copy_location(new, old)
                text = lines[line - 1].strip()
                column = int(getattr(old, "col_offset", 0)) - lines[line - 1].index(text)
                where = f"{column}: {what}"  # two of one line differ in their columns
                found.append(Mutant(path, name, first, line, text, where, tree, owner, field, place, old, new))
    found.sort(key=lambda mutant: mutant.line)
    seen: Counter[tuple[str, ...]] = Counter()
    for place, mutant in enumerate(found):
        same = (mutant.function, mutant.text, mutant.what)
        seen[same] += 1
        if seen[same] > 1:
            found[place] = replace(mutant, what=f"{mutant.what}, {seen[same]}")
    return found


def _functions(node: ast.AST, inside: str) -> Iterator[tuple[Function, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield child, inside + child.name
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{inside}{child.name}.")


def _slots(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    for field, value in ast.iter_fields(node):
        if field in _LEFT_ALONE_FIELDS:
            continue
        for place, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield node, field, place, child
                if not isinstance(child, _LEFT_ALONE):
                    yield from _slots(child)


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Compare(ops=[op]) if type(op) in _COMPARED:
            other = _COMPARED[type(op)]
            yield f"{_word(op)} -> {other.__name__}", ast.Compare(node.left, [other()], node.comparators)
        case ast.BoolOp(op=ast.And()):
            yield "and -> or", ast.BoolOp(ast.Or(), node.values)
        case ast.BoolOp():
            yield "or -> and", ast.BoolOp(ast.And(), node.values)
        case ast.UnaryOp(op=ast.Not()):
            yield "not dropped", node.operand
        case ast.UnaryOp(op=ast.USub()):
            yield "minus dropped", node.operand
        case ast.BinOp(op=op) if type(op) in _COUNTED:
            sign = _COUNTED[type(op)]
            yield f"{_word(op)} -> {sign.__name__}", ast.BinOp(node.left, sign(), node.right)
        case ast.AugAssign(op=op):
            if type(op) in _COUNTED:
                other_way = ast.AugAssign(node.target, _COUNTED[type(op)](), node.value)
                yield f"{_word(op)}= -> {_COUNTED[type(op)].__name__}=", other_way
            yield "statement dropped", ast.Pass()
        case ast.Constant(value=bool() as truth):
            yield f"{truth} -> {not truth}", ast.Constant(not truth)
        case ast.Constant(value=int() | float() as number):
            yield f"{number} -> {number + 1}", ast.Constant(number + 1)
        case ast.Constant(value=str() as text) if _SPEAKS_SQL.search(text):
            for word, instead in _SQL:
                if word in text:
                    yield f"SQL: {word.strip()} -> {instead.strip()}", ast.Constant(text.replace(word, instead, 1))
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.Raise() | ast.Delete():
            yield "statement dropped", ast.Pass()
        case ast.Return(value=ast.AST() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield "return None", ast.Return(ast.Constant(None))
        case ast.Break():
            yield "break -> continue", ast.Continue()
        case ast.Continue():
            yield "continue -> break", ast.Break()
        case ast.With(items=items) if all(item.optional_vars is None for item in items):
            yield "with dropped", ast.If(ast.Constant(True), node.body, [])
        case ast.Try(finalbody=[_, *_]):
            yield "finally dropped", ast.Try(node.body, node.handlers, node.orelse, [ast.Pass()])
        case ast.If(test=ast.Name() | ast.Attribute() | ast.Call() | ast.NamedExpr() as test):
            yield "condition turned", ast.If(ast.UnaryOp(ast.Not(), test), node.body, node.orelse)
        case ast.IfExp(test=ast.Name() | ast.Attribute() | ast.Call() as test):
            yield "condition turned", ast.IfExp(ast.UnaryOp(ast.Not(), test), node.body, node.orelse)
        case ast.Call(keywords=[_, *_] as words):
            for given in words:
                kept = [each for each in words if each is not given]
                yield f"{given.arg or '**'}= dropped", ast.Call(node.func, node.args, kept)


def _word(node: ast.AST) -> str:
    return type(node).__name__
