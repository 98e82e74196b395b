r"""The robust rule: two answers are the same if they mean the same, however they are written.

- Numbers and expressions by value: \frac{2}{4} = 1/2 = 0.5, 2\sqrt{3} = \sqrt{12}, (x+1)^2 = x^2+2x+1. Decimals are
  exact: 0.33 is not 1/3 and 3.14 is not \pi. An expression that was not simplified counts.
- Units and words around a number are dropped, unless both sides name different units of measurement. Degree and
  currency signs are dropped. 50\% is 50 and 0.5, but two percentages must agree.
- 1,234 is 1234, and also the list 1, 234. Lists and sets have no order, tuples, vectors and matrices do; brackets of
  intervals count, and a tuple is neither a list nor a column vector.
- 'x = 5' is 5; 'a = b = c' is c, of a gold answer each side counts. Equations are the same if their differences are
  proportional; 2 < x \le 3 is (2, 3].
- A number in a base must have the same digits; the base may be left out, but not be another one.
- Where the gold answer is a rational number, of a prediction in words the first number (behind the last =) counts.
"""

from __future__ import annotations

import re
from fractions import Fraction

from .arithmetic import Number, Unreadable, add, is_zero, multiply, same
from .expressions import values
from .forms import EQUALITIES, FLIPPED, Based, Form, Group, Relation, Scalar, Words, readings, scalar
from .notation import NUMERAL, cleaned

LONGEST = 600
"""characters; longer answers are compared as text"""
SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
"""not between two numbers"""
WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")
ITEMS = 24
"""longest list that is compared without regard to order"""


def equivalent(prediction: str | None, gold: str | None) -> bool:
    """Whether two answers mean the same. Never raises; milliseconds for any text."""
    if not prediction or not gold or max(len(prediction), len(gold)) > LONGEST:
        return bool(prediction) and prediction == gold
    ours, theirs = cleaned(prediction), cleaned(gold)
    if SPACE.sub("", ours) == SPACE.sub("", theirs):
        return bool(ours)
    predictions, golds = readings(ours), readings(theirs)
    if any(_same(a, b) for a in predictions for b in golds):
        return True
    return any(_first_number_is(ours, a, b) for a in predictions for b in golds)


def _same(prediction: Form, gold: Form) -> bool:
    if isinstance(prediction, Relation) or isinstance(gold, Relation):
        return _same_relations(prediction, gold)
    if isinstance(prediction, Scalar) and isinstance(gold, Scalar):
        return _same_scalars(prediction, gold)
    if isinstance(prediction, Group) and isinstance(gold, Group):
        return _same_groups(prediction, gold)
    if isinstance(prediction, Group) and prediction.kind == "list" and len(prediction.items) == 1:
        return _same(prediction.items[0], gold)
    if isinstance(gold, Group) and gold.kind == "list" and len(gold.items) == 1:
        return _same(prediction, gold.items[0])
    if isinstance(prediction, Based) and isinstance(gold, Based):
        return prediction == gold
    if isinstance(prediction, Based) or isinstance(gold, Based):
        based, other = (prediction, gold) if isinstance(prediction, Based) else (gold, prediction)
        return isinstance(based, Based) and other == scalar(based.digits)
    return isinstance(prediction, Words) and prediction == gold and bool(prediction.text)


def _same_scalars(prediction: Scalar, gold: Scalar) -> bool:
    if prediction.unit and gold.unit and prediction.unit != gold.unit:
        return False
    if _same_values(prediction.values, gold.values):
        return True
    if prediction.percent == gold.percent:
        return False
    hundredth = Fraction(1, 100)
    ours, theirs = (
        tuple(multiply(v, hundredth) for v in s.values) if s.percent else s.values for s in (prediction, gold)
    )
    return _same_values(ours, theirs)


def _same_values(ours: tuple[Number, ...], theirs: tuple[Number, ...]) -> bool:
    count = max(len(ours), len(theirs))
    ours, theirs = (v * count if len(v) == 1 else v for v in (ours, theirs))
    return all(same(a, b) for a, b in zip(ours, theirs, strict=True))


def _same_groups(prediction: Group, gold: Group) -> bool:
    if prediction.kind != gold.kind or len(prediction.items) != len(gold.items):
        return False
    if gold.kind != "list":
        return all(_same(a, b) for a, b in zip(prediction.items, gold.items, strict=True))
    if len(gold.items) > ITEMS:
        return False
    left = list(gold.items)
    for item in prediction.items:
        found = next((i for i, other in enumerate(left) if _same(item, other)), None)
        if found is None:
            return False
        del left[found]
    return True


def _same_relations(prediction: Form, gold: Form) -> bool:
    ours, theirs = _interval(prediction), _interval(gold)
    if isinstance(ours, Relation) and isinstance(theirs, Relation):
        if not set(ours.operators + theirs.operators) <= EQUALITIES:
            return _same_order(ours, theirs)
        if _proportional(ours, theirs):
            return True
        if _unsolved(ours) or _unsolved(theirs) or _other_variable(ours, theirs):
            return False
    elif not isinstance(ours, Relation) and not isinstance(theirs, Relation):
        return _same(ours, theirs)
    return any(_same(a, b) for a in _meant(ours)[:1] for b in _meant(theirs))


def _meant(form: Form) -> tuple[Form, ...]:
    """The sides of a chain of equalities that can be its answer, the likeliest first: the last exact one."""
    if not isinstance(form, Relation):
        return (form,)
    if not set(form.operators) <= EQUALITIES:
        return ()
    start = 1 if form.names[0] else 0
    exact = form.sides[start : form.operators.find("≈") + 1 or None] or form.sides[start:]
    return (exact[-1], *form.sides[start:])


def _unsolved(relation: Relation) -> bool:
    """Whether the first side is an expression with letters: of 2x + y = 0 the 0 is not the answer."""
    first = relation.sides[0]
    return not relation.names[0] and isinstance(first, Scalar) and len(first.values) > 1


def _other_variable(ours: Relation, theirs: Relation) -> bool:
    """x = 5 and y = 5 differ, f(x) = 2x and y = 2x do not."""
    if not all(len(r.names[0]) == 1 and isinstance(r.sides[-1], Scalar) for r in (ours, theirs)):
        return False
    constant = all(len(r.sides[-1].values) == 1 for r in (ours, theirs) if isinstance(r.sides[-1], Scalar))
    return constant and ours.names[0] != theirs.names[0]


def _proportional(ours: Relation, theirs: Relation) -> bool:
    try:
        a, b = _difference(ours), _difference(theirs)
        if a is None or b is None or is_zero(a[0]) or is_zero(b[0]):
            return False
        return all(same(multiply(a[i], b[0]), multiply(b[i], a[0])) for i in range(3))
    except Unreadable:
        return False


def _difference(relation: Relation) -> tuple[Number, ...] | None:
    """Left minus right at three points, for an equation with letters."""
    if relation.operators != "=":
        return None
    left, right = relation.sides
    if not isinstance(left, Scalar) or not isinstance(right, Scalar) or len(left.values) + len(right.values) == 2:
        return None
    pairs = zip(*(s.values * (3 // len(s.values)) for s in (left, right)), strict=True)
    return tuple(add(a, multiply(Fraction(-1), b)) for a, b in pairs)


def _same_order(ours: Relation, theirs: Relation) -> bool:
    for operators, sides in (
        (theirs.operators, theirs.sides),
        (theirs.operators[::-1].translate(FLIPPED), theirs.sides[::-1]),
    ):
        if ours.operators == operators and all(_same(a, b) for a, b in zip(ours.sides, sides, strict=True)):
            return True
    return False


def _interval(form: Form) -> Form:
    """2 < x <= 3 as (2, 3], x > 5 as (5, infinity); other forms as they are."""
    if not isinstance(form, Relation):
        return form
    operators, sides, names = form.operators, form.sides, form.names
    if set(operators) <= set(">≥"):
        operators, sides, names = operators[::-1].translate(FLIPPED), sides[::-1], names[::-1]
    if not set(operators) <= set("<≤"):
        return form
    at = [i for i, name in enumerate(names) if len(name) == 1]
    if len(operators) == 2 and at == [1]:
        return Group(
            ("[" if operators[0] == "≤" else "(") + ("]" if operators[1] == "≤" else ")"), (sides[0], sides[2])
        )
    if len(operators) == 1 and at == [0]:
        return Group("(" + ("]" if operators == "≤" else ")"), (Scalar(values("-\\infty")), sides[1]))
    if len(operators) == 1 and at == [1]:
        return Group(("[" if operators == "≤" else "(") + ")", (sides[0], Scalar(values("\\infty"))))
    return form


def _first_number_is(text: str, prediction: Form, gold: Form) -> bool:
    """Whether the first number of a sentence is the gold one, where that is a plain rational number."""
    if not isinstance(gold, Scalar) or len(gold.values) != 1 or not isinstance(gold.values[0], Fraction):
        return False
    if not _has_words(prediction):
        return False
    found = NUMERAL.findall(text.rpartition("=")[2])
    sentence = WORD.search(text) or (len(found) == 1 and not any(map(str.isalpha, text)))
    return bool(sentence and found) and _same(scalar(found[0].replace(",", "")), Scalar(gold.values))


def _has_words(form: Form) -> bool:
    if isinstance(form, Group):
        return any(map(_has_words, form.items))
    return isinstance(form, Words) or (isinstance(form, Relation) and any(map(_has_words, form.sides)))
