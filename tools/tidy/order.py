# SPDX-License-Identifier: Apache-2.0
"""Pure rooms never iterate over a set without sorting: its order changes from run to run, and replays would differ.

A set is recognised by how it is written (a display, set(), a set operation), by the annotation of a local name, and by
an attribute that every class in the package annotates as a set. It does not infer types through function calls.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tools.tidy.purity import is_pure
from tools.tidy.tree import Finding, Source, Tree

SET_TYPES = frozenset({"set", "frozenset", "Set", "AbstractSet", "MutableSet"})
SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference"})
SET_OPERATORS = (ast.BitOr, ast.BitAnd, ast.BitXor, ast.Sub)
# Calls that give the same result for every order of their argument, and calls that do not. A sum is neither: over
# floats its last bits depend on the order.
ORDER_BLIND = frozenset({"sorted", "set", "frozenset", "any", "all", "len"})
ORDER_SEEING = frozenset({"list", "tuple", "iter", "enumerate", "map", "filter", "zip", "sum", "dict", "next"})
ORDER_SEEING_METHODS = frozenset({"join", "extend", "fromkeys", "chain"})


def find_unordered_iteration(tree: Tree) -> Iterator[Finding]:
    """A loop, comprehension or call in a pure module whose result depends on the order of a set."""
    attributes = compute_set_attributes(tree)
    for source in filter(is_pure, tree.sources):
        visitor = _Visitor(attributes)
        visitor.visit(source.syntax)
        for node in visitor.unordered:
            text = "iterates over a set, whose order changes from run to run: wrap it in sorted()"
            yield source.finding(node, text)


def compute_set_attributes(tree: Tree) -> frozenset[str]:
    """Attribute names that are annotated as a set in every class of ours that has them."""
    sets: set[str] = set()
    others: set[str] = set()
    for source in tree.shipped():
        for name, annotation in find_class_fields(source):
            (sets if is_set_type(annotation) else others).add(name)
    return frozenset(sets - others)


def find_class_fields(source: Source) -> Iterator[tuple[str, ast.expr]]:
    for node in source.nodes:
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    yield item.target.id, item.annotation


def is_set_type(annotation: ast.expr | None) -> bool:
    """Whether an annotation names a set.

    >>> is_set_type(ast.parse("frozenset[str]", mode="eval").body)
    True
    """
    node = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name in SET_TYPES


class _Visitor(ast.NodeVisitor):
    """Walks one module, remembers which local names hold sets, and collects what depends on their order."""

    def __init__(self, set_attributes: frozenset[str]) -> None:
        self.unordered: list[ast.AST] = []
        self._set_attributes = set_attributes
        self._scopes: list[dict[str, bool]] = [{}]
        self._blind: set[int] = set()  # ids of comprehensions whose consumer does not see the order

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        self._scopes.append({argument.arg: is_set_type(argument.annotation) for argument in arguments})
        self.generic_visit(node)
        self._scopes.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast's name

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            if isinstance(target, ast.Name):
                self._scopes[-1][target.id] = self._is_set(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.generic_visit(node)
        if isinstance(node.target, ast.Name):
            self._scopes[-1][node.target.id] = is_set_type(node.annotation)

    def visit_For(self, node: ast.For) -> None:
        self._check(node.iter)
        self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp | ast.GeneratorExp | ast.DictComp) -> None:
        if id(node) not in self._blind:
            for generator in node.generators:
                self._check(generator.iter)
        self.generic_visit(node)

    visit_GeneratorExp = visit_ListComp  # noqa: N815 - ast's name
    visit_DictComp = visit_ListComp  # noqa: N815 - ast's name

    def visit_Starred(self, node: ast.Starred) -> None:
        self._check(node.value)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        # min and max see the order only through a key, by which two different members may be equal.
        if name in ORDER_BLIND or (name in ("min", "max") and not node.keywords):
            self._blind.update(id(argument) for argument in node.args)
        elif name in ORDER_SEEING or method in ORDER_SEEING_METHODS or name in ("min", "max"):
            for argument in node.args:
                self._check(argument)
        elif isinstance(node.func, ast.Attribute) and method == "pop" and not node.args:
            self._check(node.func.value)
        self.generic_visit(node)

    def _check(self, node: ast.expr) -> None:
        if self._is_set(node):
            self.unordered.append(node)

    def _is_set(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return next((scope[node.id] for scope in reversed(self._scopes) if node.id in scope), False)
        if isinstance(node, ast.Attribute):
            return node.attr in self._set_attributes
        if isinstance(node, ast.BinOp):
            return isinstance(node.op, SET_OPERATORS) and (self._is_set(node.left) or self._is_set(node.right))
        if isinstance(node, ast.IfExp):
            return self._is_set(node.body) or self._is_set(node.orelse)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            return node.func.attr in SET_METHODS and self._is_set(node.func.value)
        if isinstance(node, ast.Call):
            return isinstance(node.func, ast.Name) and node.func.id in ("set", "frozenset")
        return isinstance(node, ast.Set | ast.SetComp)
