"""Printed numbers of trainable parameters, recomputed from the model's shape.

A low-rank method adds to every adapted layer of shape (out, in) r (in + out) numbers and, by its form, some more. A
printed number is compared with every form of the method, at the stated rank or at any usual one, on every preset of
target modules, with and without a task head for two labels.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .finding import Finding, name_of
from .reading import Reading

if TYPE_CHECKING:
    from ..paper.published import Cell

CHECK = "parameters from the shape"
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

Extra = Callable[[int, int], int]
"""(rank, out) -> numbers in a layer besides its two low-rank matrices"""
_PLAIN: dict[str, Extra] = {"two low-rank matrices": lambda rank, out: 0}
_CORED: dict[str, Extra] = {
    "with a vector of r numbers between the matrices": lambda rank, out: rank,
    "with a dense r x r matrix between the matrices": lambda rank, out: rank * rank,
}
FORMS: dict[str, dict[str, Extra]] = {
    **dict.fromkeys(
        (
            "lora",
            "pissa",
            "milora",
            "olora",
            "eva",
            "loftq",
            "rslora",
            "lora_ga",
            "lora_plus",
            "corda_kpa",
            "corda_ipa",
        ),
        _PLAIN,
    ),
    "dora": {"with one magnitude for each output": lambda rank, out: out},
    "kasa": _CORED,
    "trilora": _CORED,
}
"""method -> its forms, the usual one first"""


@dataclass(frozen=True)
class Count:
    """One way to arrive at a number of parameters."""

    form: str
    rank: int
    targets: str
    layers: int
    adapter: int
    extra: int
    """numbers besides the two matrices, all layers together"""
    head: int = 0

    @property
    def total(self) -> int:
        return self.adapter + self.head

    @property
    def words(self) -> str:
        low_rank = self.adapter - self.extra
        shape = f"{low_rank:,} + {self.layers} x {self.extra // self.layers}" if self.extra else f"{low_rank:,}"
        return f"{shape} (rank {self.rank}, {self.layers} layers, {self.form})" + (
            f" + {self.head:,} of the head" if self.head else ""
        )


@dataclass(frozen=True)
class _Seen:
    """A number of parameters, exact to the last digit, and what gives it."""

    model: str
    method: str
    printed: int
    origin: str
    fits: tuple[Count, ...]
    cells: tuple[Cell, ...] = ()

    @property
    def forms(self) -> set[str]:
        return {count.form for count in self.fits}


def check_parameters(readings: Sequence[Reading]) -> Iterator[Finding]:
    """Counts that no form of the method has on this model, and those of a form that others of the source refute."""
    groups: dict[tuple[Any, ...], list[Cell]] = defaultdict(list)
    for cell in (reading.cell for reading in readings):
        if cell.parameters and cell.method in FORMS and _model(cell.model):
            groups[cell.model, cell.method, cell.parameters, _rank(cell), _origin(cell.source)].append(cell)
    seen: list[_Seen] = []
    for (model, method, number, rank, origin), cells in groups.items():
        counts = counts_of(model, method, rank)
        fits = tuple(count for count in counts if abs(count.total - number) <= rounding(number))
        if not fits:
            yield Finding("inconsistent", CHECK, tuple(cells), _misfit(cells, number, counts))
        elif rounding(number) < 1:
            seen.append(_Seen(model, method, number, origin, fits, tuple(cells)))
    yield from _two_forms(seen, [*seen, *_stored()])


def counts_of(model: str, method: str, rank: int | None = None) -> list[Count]:
    """Every count of a method on a model of ours; ConfigError if the model has no such layers."""
    from ..models.architecture import PRESETS, match_targets

    config = _model(model)
    assert config is not None
    found = []
    for preset in PRESETS:
        try:
            shapes = list(match_targets(config, preset).values())
        except ConfigError:
            continue
        for form, extra in FORMS[method].items():
            for r in (rank,) if rank else RANKS:
                more = sum(extra(r, out) for out, _ in shapes)
                adapter = sum(r * (out + into) for out, into in shapes) + more
                found += [Count(form, r, preset, len(shapes), adapter, more, head) for head in (0, *_heads(config))]
    return found


def rounding(number: int) -> float:
    """How far the true count may be from a printed one: a unit of its last digit other than 0, as it may be cut."""
    text = str(number)
    zeros = len(text) - len(text.rstrip("0"))
    return 10**zeros * 0.999 if zeros > 1 else 0.5


def _misfit(cells: Sequence[Cell], number: int, counts: Sequence[Count]) -> str:
    near = min(counts, key=lambda count: abs(count.total - number))
    return (
        f"{name_of(cells[0])}: {number:,} trainable parameters are printed, which {cells[0].method} has at no usual "
        f"rank on any preset of target modules; the nearest is {near.total:,} = {near.words}."
    )


def _two_forms(numbers: Sequence[_Seen], evidence: Sequence[_Seen]) -> Iterator[Finding]:
    """Of one source, one number that only one form gives and another that only another form gives."""
    reported: set[tuple[str, str, int]] = set()
    for one in numbers:
        others = [
            other
            for other in evidence
            if (other.origin, other.method) == (one.origin, one.method) and one.origin and not one.forms & other.forms
        ]
        key = (one.model, one.method, one.printed)
        if not others or key in reported:
            continue
        reported.add(key)
        mine, other = one.fits[0], others[0]
        theirs = other.fits[0]
        true = next(
            count
            for count in counts_of(one.model, one.method, mine.rank)
            if (count.form, count.targets, count.head) == (theirs.form, mine.targets, mine.head)
        )
        cells = tuple(cell for seen in numbers if (seen.model, seen.method, seen.printed) == key for cell in seen.cells)
        sentence = (
            f"{one.cells[0].paper}, {one.cells[0].table}: {one.method} on {one.model} is printed with {one.printed:,} "
            f"trainable parameters = {mine.words}. The same source has {other.printed:,} for {other.model} = "
            f"{theirs.words}. If all its runs had that form, the true number here is {true.total:,} = {true.words}: "
            f"{true.extra // true.layers} numbers a layer, of which {mine.extra // mine.layers} were counted."
        )
        yield Finding("inconsistent", CHECK, cells, sentence)


@cache
def _stored() -> tuple[_Seen, ...]:
    """The exact counts of paper/parameter_counts.csv that come from somebody's runs."""
    from ..paper.counts import rows

    found = []
    for row in rows():
        if (
            row.method in FORMS
            and rounding(row.published) < 1
            and (origin := _origin(row.source))
            and _model(row.model)
        ):
            rank = re.search(r"rank=(\d+)", row.setting)
            counts = counts_of(row.model, row.method, int(rank.group(1)) if rank else None)
            fits = tuple(c for c in counts if c.total == row.published and (c.head == 0 or row.with_head))
            if fits:
                found.append(_Seen(row.model, row.method, row.published, origin, fits))
    return tuple(found)


def _origin(source: str) -> str:
    """Repository, commit and first folder of a source's words: one set of runs. '' if no repository is named."""
    paths = re.findall(r"(?<![\w./-])[A-Za-z][\w.-]*(?:/[\w.*-]+)+", source)
    if not paths or len(paths) < 2:
        return ""
    repository, path = paths[0], paths[1]
    commit = re.search(r"\bcommit ([0-9a-f]{6,40})\b", source)
    return ":".join((repository, commit.group(1) if commit else "", path.partition("/")[0]))


def _rank(cell: Cell) -> int | None:
    said = f"{cell.setting} {cell.where}"
    match = re.search(r"\brank\W{0,4}(\d+)|\br\s*=?\s*(\d+)\b", said)
    return int(match.group(1) or match.group(2)) if match else None


@cache
def _model(name: str) -> dict[str, Any] | None:
    """The shape of a model of ours; None for a name that is not in ``configs/model``."""
    import yaml

    path = Path(__file__).parents[2] / "configs" / "model" / f"{name}.yaml"
    if not re.fullmatch(r"\w+", name) or not path.is_file():
        return None
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    return config if isinstance(config, dict) and isinstance(config.get("hidden_size"), int) else None


def _heads(config: dict[str, Any]) -> tuple[int, ...]:
    """Trained numbers of a classification head for two labels, by family; none for a language model."""
    hidden = config["hidden_size"]
    dense, out = hidden * hidden + hidden, 2 * hidden + 2
    return {"roberta": (dense + out,), "bert": (out,), "deberta-v2": (out, dense + out)}.get(config["architecture"], ())
