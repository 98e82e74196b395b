"""From the published tests of a code problem to what the sandbox runs (``evaluation.sandbox.Program``)."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """What tests use that they do not define themselves."""

    names: list[str]
    """functions and classes of the program"""
    imports: str
    """import statements for modules of the standard library that they use without importing them"""


def needs(tests: Sequence[str], reference: str) -> Needs:
    """What MBPP's asserts need, given the reference program.

    They call the program's functions by name, now and then one that hides a built-in (``sum``), now and then through a
    module that only the reference program imports (``math.isclose``). SyntaxError if either is not Python.
    """
    trees = [ast.parse(test) for test in tests]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    bases = {n.value.id for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}
    own = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            own |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.arg):
            own.add(node.arg)
    defined = defined_in(reference)
    modules = {name for name in used & bases if name in sys.stdlib_module_names} - defined - own
    free = {name for name in used if name in defined or not hasattr(builtins, name)} - own - modules
    return Needs(sorted(free), "".join(f"import {name}\n" for name in sorted(modules)))


def defined_in(program: str) -> set[str]:
    """Functions, classes and variables that a program defines at its top level."""
    found = set()
    for node in ast.parse(program).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found
