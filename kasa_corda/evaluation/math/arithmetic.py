"""Bounded arithmetic on exact fractions, and on 50-digit complex numbers where a result is irrational.

Every operation either takes microseconds or raises Unreadable, whatever its arguments: 10^9^9 is not computed.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import comb, factorial, isqrt
from typing import Any, TypeAlias

import mpmath

Number: TypeAlias = Any
"""a Fraction, or a complex number of CONTEXT"""
CONTEXT = mpmath.MPContext()
CONTEXT.dps = 50
BITS = 4000
"""longest numerator or denominator"""
SIZE = 10**6
"""largest argument of a function and largest exponent of two of a result"""
FACTORIAL = 300
CLOSE = CONTEXT.mpf(10) ** -35
"""relative difference below which irrational results are the same"""


class Unreadable(Exception):
    """A text that is no bounded mathematical expression."""


def add(a: Number, b: Number) -> Number:
    return _bounded(a + b) if _exact(a, b) else _bounded(_complex(a) + _complex(b))


def multiply(a: Number, b: Number) -> Number:
    return _bounded(a * b) if _exact(a, b) else _bounded(_complex(a) * _complex(b))


def divide(a: Number, b: Number) -> Number:
    if is_zero(b):
        raise Unreadable("division by zero")
    return _bounded(a / b) if _exact(a, b) else _bounded(_complex(a) / _complex(b))


def power(base: Number, exponent: Number) -> Number:
    """base ** exponent; roots of exact squares stay exact."""
    if is_zero(base):
        if isinstance(exponent, Fraction) and exponent >= 0:
            return Fraction(0 if exponent else 1)
        raise Unreadable("zero to a power that is not positive")
    if _exact(base, exponent):
        if exponent.denominator == 1:
            bits = max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent.numerator)
            if bits <= BITS:
                return base**exponent.numerator
        elif exponent == Fraction(1, 2) and base > 0:
            roots = isqrt(base.numerator), isqrt(base.denominator)
            if roots[0] ** 2 == base.numerator and roots[1] ** 2 == base.denominator:
                return Fraction(*roots)
    a, b = _complex(base), _complex(exponent)
    if abs(b) * (1 + abs(CONTEXT.log(a))) > SIZE:
        raise Unreadable("a power too large")
    return _bounded(a**b)


def root(value: Number, degree: Number) -> Number:
    """The principal root; the real one for an odd root of a negative number."""
    if is_zero(degree):
        raise Unreadable("zeroth root")
    if _exact(value, degree) and value < 0 and degree.denominator == 1 and degree.numerator % 2:
        return -root(-value, degree)
    return power(value, divide(Fraction(1), degree))


def function(name: str, value: Number) -> Number:
    """sin, cos, ..., ln, exp, abs, floor, ceil, factorial of a value."""
    if abs(value) > SIZE:
        raise Unreadable(f"{name} of a large number")
    if name in WHOLE:
        if not isinstance(value, Fraction):
            raise Unreadable(f"{name} of an irrational number")
        return Fraction(WHOLE[name](value))
    if name == "abs":
        return abs(value)
    try:
        return _bounded(FUNCTIONS[name](_complex(value)))
    except (ValueError, ZeroDivisionError):
        raise Unreadable(f"{name} is undefined there") from None


def binomial(n: Number, k: Number) -> Number:
    if not (_exact(n, k) and n.denominator == k.denominator == 1 and 0 <= k <= n <= FACTORIAL):
        raise Unreadable("a binomial coefficient out of range")
    return Fraction(comb(int(n), int(k)))


def same(a: Number, b: Number) -> bool:
    """Exact equality of fractions, else equality to 35 digits."""
    if _exact(a, b):
        return bool(a == b)
    x, y = _complex(a), _complex(b)
    return bool(abs(x - y) <= CLOSE * max(1, abs(x), abs(y)))


def is_zero(value: Number) -> bool:
    return bool(value == 0 if isinstance(value, Fraction) else abs(value) <= CLOSE)


def _exact(*values: Number) -> bool:
    return all(isinstance(value, Fraction) for value in values)


def _complex(value: Number) -> Any:
    if isinstance(value, Fraction):
        return CONTEXT.mpc(CONTEXT.mpf(value.numerator) / value.denominator)
    return CONTEXT.mpc(value)


def _bounded(value: Number) -> Number:
    if isinstance(value, Fraction):
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > BITS:
            raise Unreadable("more digits than are compared")
        return value
    if not CONTEXT.isfinite(value) or (value != 0 and abs(CONTEXT.mag(value)) > SIZE):
        raise Unreadable("a number too large")
    return value


def _factorial(value: Fraction) -> int:
    if value.denominator != 1 or not 0 <= value <= FACTORIAL:
        raise Unreadable("a factorial out of range")
    return factorial(int(value))


WHOLE: dict[str, Callable[[Fraction], int]] = {
    "floor": lambda value: value.__floor__(),
    "ceil": lambda value: value.__ceil__(),
    "factorial": _factorial,
}
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    name: getattr(CONTEXT, name)
    for name in ("sin", "cos", "tan", "sec", "csc", "cot", "sinh", "cosh", "tanh", "asin", "acos", "atan", "exp", "ln")
}
