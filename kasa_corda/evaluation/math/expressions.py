r"""A small reader of LaTeX and plain expressions: tokens, then values. Nothing is evaluated but what is listed here.

An expression with letters has its values at three fixed points, which tell different expressions apart (the chance
that two different polynomials agree there is nil for answers of this length). i and e are the constants.
"""

from __future__ import annotations

import re
from fractions import Fraction
from hashlib import sha256

from .arithmetic import CONTEXT, Number, Unreadable, add, binomial, divide, function, multiply, power, root

TOKEN = re.compile(
    r"\s*(?:(\d+(?:\.\d+)?|\.\d+)|\\([a-zA-Z]+)|(sqrt|sinh|cosh|tanh|sin|cos|tan|log|ln|exp|pi)|(.))", re.A
)
MIXED = re.compile(r"\\frac (?:\{ \d+ \}|\d) ?(?:\{ \d+ \}|\d)", re.A)
TOKENS = 150
DEPTH = 25
DIGITS = 1000
DECIMAL = "0123456789"
POINTS = 3
FUNCTIONS = (
    "sinh",
    "cosh",
    "tanh",
    "sin",
    "cos",
    "tan",
    "sec",
    "csc",
    "cot",
    "ln",
    "exp",
    "log",
    "arcsin",
    "arccos",
    "arctan",
)
INVERSE = {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}
GREEK = re.compile(
    "(?:var)?(?:alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|upsilon|phi|chi|"
    "psi|omega|Gamma|Delta|Theta|Lambda|Sigma|Phi|Psi|Omega)|infty"
)
TIMES, OVER = {"*", "\\cdot", "\\times", "\\ast"}, {"/", "\\div"}
CLOSING = {"(": ")", "[": "]", "{": "}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
ENDS = {"", "+", "-", ")", "]", "}", "|", "^", "_", "!", "\\rfloor", "\\rceil", *TIMES, *OVER}
"""tokens that no factor starts with"""


def values(text: str) -> tuple[Number, ...]:
    """The value of an expression, or its values at POINTS points if it has letters. Raises Unreadable."""
    tokens = _tokens(text)
    first = _Reader(tokens, 0)
    results = [first.whole()]
    if first.letters:
        results += [_Reader(tokens, point).whole() for point in range(1, POINTS)]
    return tuple(results)


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    for number, command, word, symbol in TOKEN.findall(text.strip()):
        if len(number) > DIGITS:
            raise Unreadable("more digits than are compared")
        found += [number] if number else _command(command) if command else ["\\" + word] if word else [symbol]
        if len(found) > TOKENS:
            raise Unreadable("longer than answers are")
    return found


def _command(name: str) -> list[str]:
    """A command; \\sinx, as normalised data sets have it, is \\sin x."""
    if name in FUNCTIONS or GREEK.fullmatch(name):
        return ["\\" + name]
    stem = next((f for f in FUNCTIONS if name.startswith(f) and len(name) == len(f) + 1), None)
    return ["\\" + stem, name[-1]] if stem else ["\\" + name]


class _Reader:
    """Recursive descent over one expression, at one point."""

    def __init__(self, tokens: list[str], point: int) -> None:
        self.tokens, self.point = list(tokens), point
        self.at = self.depth = 0
        self.letters = False

    @property
    def next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, expected: str | None = None) -> str:
        token = self.next
        if not token or (expected is not None and token != expected):
            raise Unreadable(f"{expected or 'something'} is missing")
        self.at += 1
        return token

    def whole(self) -> Number:
        result = self.sum()
        if self.next:
            raise Unreadable(f"{self.next!r} is left over")
        return result

    def sum(self) -> Number:
        result = self.product()
        while self.next in ("+", "-"):
            sign = Fraction(1 if self.take() == "+" else -1)
            result = add(result, multiply(sign, self.product()))
        return result

    def product(self) -> Number:
        result = self.signed()
        while True:
            if self.next in TIMES:
                self.take()
                result = multiply(result, self.signed())
            elif self.next in OVER:
                self.take()
                result = divide(result, self.signed())
            elif self.next not in ENDS:
                if self.next[-1] in DECIMAL and self.tokens[self.at - 1][-1] in DECIMAL:
                    raise Unreadable("two numbers with nothing between them")
                result = multiply(result, self.powered())
            else:
                return result

    def signed(self) -> Number:
        sign = 1
        while self.next in ("+", "-"):
            sign *= 1 if self.take() == "+" else -1
        return multiply(Fraction(sign), self.powered())

    def powered(self) -> Number:
        result = self.primary()
        while self.next in ("^", "!"):
            if self.take() == "!":
                result = function("factorial", result)
            else:
                result = power(result, self.exponent())
        return result

    def exponent(self) -> Number:
        """What stands behind ^: a group, or one signed token (of 2^10 the whole 10, as written in plain text)."""
        sign = Fraction(-1 if self.next == "-" else 1)
        if self.next in ("+", "-"):
            self.take()
        result = self.primary()
        if self.next == "^":
            self.take()
            result = power(result, self.exponent())
        return multiply(sign, result)

    def argument(self) -> Number:
        r"""A group or one token; of a number one digit, as LaTeX reads \frac12."""
        if len(self.next) > 1 and self.next[0] in DECIMAL:
            self.tokens[self.at : self.at + 1] = [self.next[0], self.next[1:]]
        return self.primary()

    def primary(self) -> Number:
        self.depth += 1
        if self.depth > DEPTH:
            raise Unreadable("deeper than answers are")
        result = self._primary(self.take())
        self.depth -= 1
        return result

    def _primary(self, token: str) -> Number:
        if token[-1] in DECIMAL:
            number = Fraction(token)
            return add(number, self.primary()) if self._mixed(token) else number
        if token in CLOSING:
            inside = self.sum()
            self.take(CLOSING[token])
            return function({"\\lfloor": "floor", "\\lceil": "ceil"}[token], inside) if token[0] == "\\" else inside
        if token == "|":
            inside = self.sum()
            self.take("|")
            return function("abs", inside)
        if token == "\\frac":
            above = self.argument()
            return divide(above, self.argument())
        if token == "\\binom":
            above = self.argument()
            return binomial(above, self.argument())
        if token == "\\sqrt":
            return self._root()
        if token == "\\pi":
            return CONTEXT.mpc(CONTEXT.pi)
        if token[1:] in FUNCTIONS and token[0] == "\\":
            return self._function(token[1:])
        return self._letter(token)

    def _mixed(self, number: str) -> bool:
        r"""Whether a whole number and a fraction of whole numbers follow each other: 3\frac{1}{2}."""
        if not number.isdigit() or self.next != "\\frac":
            return False
        return MIXED.match(" ".join(self.tokens[self.at : self.at + 7])) is not None

    def _root(self) -> Number:
        degree: Number = Fraction(2)
        if self.next == "[":
            self.take()
            degree = self.sum()
            self.take("]")
        return root(self.argument(), degree)

    def _function(self, name: str) -> Number:
        exponent, base = Fraction(1), None
        while self.next in ("^", "_"):
            if self.take() == "^":
                exponent = self.exponent()
            else:
                base = self.argument()
        if self.next in ("(", "{", "["):
            value = self.primary()
        else:
            value = self.powered()
            while self.next not in ENDS and self.next[1:] not in FUNCTIONS:
                value = multiply(value, self.powered())
        if exponent == -1 and name in ("sin", "cos", "tan"):
            return function("a" + name, value)
        result = function("ln" if name == "log" else INVERSE.get(name, name), value)
        if name == "log":
            result = divide(result, function("ln", Fraction(10) if base is None else base))
        return power(result, exponent)

    def _letter(self, token: str) -> Number:
        """i, e, or a variable, whose name may have a subscript."""
        if token in ("i", "e") and self.next != "_":
            return CONTEXT.mpc(0, 1) if token == "i" else CONTEXT.mpc(CONTEXT.e)
        if not (token.isalpha() if len(token) == 1 else GREEK.fullmatch(token, 1)):
            raise Unreadable(f"{token!r} is not known")
        name = token
        while self.next == "_":
            self.take()
            name += "_" + self._subscript()
        self.letters = True
        drawn = int.from_bytes(sha256(f"{name} {self.point}".encode()).digest()[:2], "big")
        return Fraction(drawn, 2**15) + Fraction(1, 3)

    def _subscript(self) -> str:
        token = self.take()
        if token != "{":
            return token
        inside = ""
        while self.next != "}":
            inside += self.take()
        self.take()
        return inside
