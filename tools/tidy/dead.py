# SPDX-License-Identifier: Apache-2.0
"""Files nobody imports and names nobody uses: our own control 3, on ourselves.

A use counts when it stands in src, tools or bench; a name that only tests use is dead code with a test. Names are
followed through imports and through the re-exports of a package's __init__. A module may also be started or copied by
its name: a string that equals it keeps the module and its main() alive. Methods and fields are not looked at.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from tools.tidy.purity import compute_dotted
from tools.tidy.rooms import compute_base
from tools.tidy.tree import OUR_PACKAGE, Finding, Source, Tree

# The packages whose __all__ is for users of ours, who are not in this tree.
PUBLIC_PACKAGES = (OUR_PACKAGE, f"{OUR_PACKAGE}.guard")
# Kept although only tests use them, each for a reason.
KEPT = {
    "firecurtain.bus.memory": "the port's fake: every room tests against it, and one suite holds it to the real broker",
}

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


@dataclass(slots=True)
class Uses:
    """Everything some living file refers to, as dotted names."""

    names: set[str] = field(default_factory=set)
    reexports: dict[str, str] = field(default_factory=dict)  # dotted name in a package -> what it stands for
    texts: set[str] = field(default_factory=set)  # string constants: a module may be started by its name


def find_dead_files(tree: Tree) -> Iterator[Finding]:
    """A module that no other file imports, no command starts and nobody can run by itself."""
    uses = collect_uses(tree)
    entries = {script.partition(":")[0] for script in tree.scripts}
    for source in find_judged_code(tree):
        is_entry = source.module in entries or is_named(source, uses) or has_main_block(source)
        is_imported = any(name == source.module or name.startswith(f"{source.module}.") for name in uses.names)
        if not source.is_package and not is_entry and not is_imported:
            yield source.finding(1, "nobody imports this module and no command starts it: delete it")


def find_unused_names(tree: Tree) -> Iterator[Finding]:
    """A module-level name that no code in src, tools or bench refers to."""
    uses = collect_uses(tree)
    entries = {script.replace(":", ".") for script in tree.scripts}
    entries |= {f"{source.module}.main" for source in tree.sources if is_named(source, uses)}
    dead = {finding.path for finding in find_dead_files(tree)}  # said once already
    bare_names = {name.rpartition(".")[2] for name in uses.names}
    for source in find_judged_code(tree):
        # A copied file stands under another name where it is used, so only the bare name can be looked up.
        copied = is_copied(source, uses)
        for name, node in find_definitions(source) if source.path not in dead else ():
            dotted = f"{source.module}.{name}"
            is_used = dotted in uses.names or dotted in entries or (copied and name in bare_names)
            if not is_used and not is_registered(node, source) and not is_used_beside(name, node, source):
                yield source.finding(node, f"nothing but tests uses {name}: delete it")


def find_judged_code(tree: Tree) -> Iterator[Source]:
    """Modules of packages that must show why they are there."""
    return (source for source in find_living_code(tree) if source.module and source.module not in KEPT)


def find_living_code(tree: Tree) -> Iterator[Source]:
    return (source for source in tree.sources if not source.path.startswith("tests/"))


def is_named(source: Source, uses: Uses) -> bool:
    """Whether some string is the module's dotted name (`python -m`) or the end of its path."""
    return source.module in uses.texts or is_copied(source, uses)


def is_copied(source: Source, uses: Uses) -> bool:
    """Whether some string is the end of the file's path: it is copied into an artifact."""
    return any(text.endswith(".py") and source.path.endswith(f"/{text}") for text in uses.texts)


def has_main_block(source: Source) -> bool:
    """Whether Python can run the module by itself."""
    return source.path.endswith("__main__.py") or any(
        isinstance(node, ast.If) and "__main__" in ast.dump(node.test) for node in source.syntax.body
    )


def find_definitions(source: Source) -> Iterator[tuple[str, Definition]]:
    """Module-level functions, classes and names, but not the dunder names that Python itself reads."""
    for node in source.syntax.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        yield from ((name, node) for name in names if not name.startswith("__"))


def is_registered(node: Definition, source: Source) -> bool:
    """Whether a decorator that is a method of an object of ours hands the function on: `@app.command()`."""
    aliases = compute_aliases(source)
    for decorator in getattr(node, "decorator_list", ()):
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            target = aliases.get(called.value.id, OUR_PACKAGE)
            if target.split(".")[0] == OUR_PACKAGE:
                return True
    return False


def is_used_beside(name: str, definition: Definition, source: Source) -> bool:
    """Whether the same file reads the name outside its own definition."""
    inside = {id(node) for node in ast.walk(definition)}
    return any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load) and id(node) not in inside
        for node in source.nodes
    )


def collect_uses(tree: Tree) -> Uses:
    """Read every living file once, then follow the re-exports until nothing new is found."""
    uses = Uses()
    for source in find_living_code(tree):
        collect_uses_of(source, uses)
    for public in tree.sources:
        if public.module in PUBLIC_PACKAGES and public.is_package:
            uses.names.update(f"{public.module}.{name}" for name in read_all(public))
    pending = list(uses.names)
    while pending:
        target = uses.reexports.get(pending.pop())
        if target and target not in uses.names:
            uses.names.add(target)
            pending.append(target)
    return uses


def collect_uses_of(source: Source, uses: Uses) -> None:
    """Add what one file imports and reads. In an __init__ an import that is read nowhere is a re-export."""
    aliases = compute_aliases(source)
    loaded = {node.id for node in source.nodes if isinstance(node, ast.Name)}
    for local, target in aliases.items():
        if source.is_package and local not in loaded:
            uses.reexports[f"{source.module}.{local}"] = target
            uses.names.add(target.rpartition(".")[0])
        else:
            uses.names.add(target)
    for node in source.nodes:
        if isinstance(node, ast.Attribute):
            first, _, rest = compute_dotted(node).partition(".")
            if first in aliases:
                uses.names.add(f"{aliases[first]}.{rest}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            uses.texts.update([node.value] if "\n" not in node.value else [])


def compute_aliases(source: Source) -> dict[str, str]:
    """What each imported local name stands for, dotted."""
    aliases: dict[str, str] = {}
    for node in source.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                local = alias.asname or alias.name.split(".")[0]
                aliases[local] = alias.name if alias.asname else local
        elif isinstance(node, ast.ImportFrom):
            base = compute_base(source, node)
            aliases.update({alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names})
    return aliases


def read_all(source: Source) -> list[str]:
    """The strings of a module's __all__."""
    for node in source.syntax.body:
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "__all__" for target in node.targets):
            return [
                item.value for item in ast.walk(node) if isinstance(item, ast.Constant) and isinstance(item.value, str)
            ]
    return []
