"""EvalPlus' comparison: the program and the reference solution on many inputs, with its rules for special problems.

Rules of EvalPlus 0.3.1 (Liu et al. 2023), written anew. Runs in the judge.
"""

from __future__ import annotations

import copy
import json
import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

RELATIVE = 1e-7
SAME_SET = {
    "similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum",
    "intersection_array", "find_dissimilar", "Diff",
}  # fmt: skip
FOUND_OR_NOT = {"check_str", "text_match_three", "text_starta_endb"}
"""references return match objects: only whether there is one counts"""
TUPLES_AT = {
    1: {2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809},
    2: {63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780},
}
"""depth of the lists inside the arguments that are tuples in MBPP's problem of that number: JSON has no tuples"""
FIRST_IS_TUPLE = {250, 405, 446, 617, 720, 763, 808, 307}
FIRST_HOLDS_TUPLES = {75, 413, 444, 753}
TUPLES_TWICE = {259, 401, 445}
TUPLES_EVERYWHERE = {580, 615, 791}


def check(name: str, number: int | None, program: Any, reference: Any, inputs: str, tolerance: float) -> None:
    """AssertionError at the first input on which the two differ. ``number`` of an MBPP problem, None for HumanEval;
    ``inputs`` is a JSON list of argument lists."""
    for arguments in json.loads(inputs):
        given = arguments if number is None else typed(number, arguments)
        expected = reference(*copy.deepcopy(given))
        assert agree(name, number is not None, program(*copy.deepcopy(given)), expected, given, tolerance)


def agree(name: str, is_mbpp: bool, found: Any, expected: Any, given: Any, tolerance: float) -> bool:
    """Whether a result counts as the expected one."""
    if not is_mbpp and name == "find_zero":
        coefficients = given[0]
        return abs(sum(c * math.pow(found, i) for i, c in enumerate(coefficients))) <= tolerance
    if is_mbpp:
        if name in SAME_SET:
            return set(found) == set(expected)
        if name in FOUND_OR_NOT:
            there = expected if isinstance(expected, bool) else expected is not None
            return there == (found if isinstance(found, bool) else found is not None)
        special = _SPECIAL.get(name)
        if special and special(found, given, tolerance):
            return True
    if found == expected:
        return True
    if tolerance == 0 and _floats(expected):
        tolerance = 1e-6
    return tolerance != 0 and type(found) is type(expected) and _close(found, expected, tolerance)


def typed(number: int, arguments: list[Any]) -> Any:
    """Arguments of an MBPP problem with the types that JSON lost."""
    first = arguments[0]
    if number in TUPLES_AT[1]:
        return [tuple(a) for a in arguments]
    if number in TUPLES_AT[2]:
        return [[tuple(b) for b in a] for a in arguments]
    if number in TUPLES_TWICE:
        return [tuple(tuple(b) for b in a) for a in arguments]
    if number in FIRST_HOLDS_TUPLES:
        return [[tuple(b) for b in first], arguments[1]]
    if number in FIRST_IS_TUPLE:
        return [tuple(first), *arguments[1:]]
    if number in (106, 750):
        return [first, tuple(arguments[1])]
    if number == 115:
        return [[set(item) if isinstance(item, list) and item else {} for item in first]]
    if number == 124:
        return [float(first), complex(arguments[1])]
    if number == 252:
        return [complex(first)]
    if number == 278:
        return [tuple(tuple(item) if isinstance(item, list) else item for item in first)]
    if number == 722:
        return [{key: tuple(value) for key, value in first.items()}, *arguments[1:]]
    return _tuples(arguments) if number in TUPLES_EVERYWHERE else arguments


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _floats(value: Any) -> bool:
    return isinstance(value, float) or (
        isinstance(value, (list, tuple)) and bool(value) and all(isinstance(item, float) for item in value)
    )


def _close(found: Any, expected: Any, tolerance: float) -> bool:
    """Equal shape, and every number within tolerance + 1e-7 |expected|."""
    if isinstance(expected, (list, tuple)):
        same = isinstance(found, (list, tuple)) and len(found) == len(expected)
        return same and all(_close(f, e, tolerance) for f, e in zip(found, expected, strict=True))
    if not isinstance(found, (int, float, complex)) or not isinstance(expected, (int, float, complex)):
        return found == expected
    return bool(found == expected or abs(found - expected) <= tolerance + RELATIVE * abs(expected))


def _surface(found: Any, given: Any, tolerance: float) -> bool:
    edge, height = given
    slant = math.sqrt((edge / 2) ** 2 + height**2)
    return abs(found - round(edge**2 + 2 * edge * slant)) <= tolerance


def _digit_distance(found: Any, given: Any, _: float) -> bool:
    first, second = (str(number) for number in given)
    width = max(len(first), len(second))
    return found == sum(abs(int(a) - int(b)) for a, b in zip(first.zfill(width), second.zfill(width), strict=True))


_SPECIAL: dict[str, Callable[[Any, Any, float], bool]] = {
    "are_equivalent": lambda found, given, tolerance: True,  # as EvalPlus: the problem is ambiguous
    "sum_div": lambda found, given, tolerance: found == 0,
    "surface_Area": _surface,
    "digit_distance_nums": _digit_distance,
}
