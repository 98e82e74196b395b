"""A small report for the tests of the page, what it consists of, and its numbers computed again from result.json."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

from made_runs import Made, ablation_runs, make, pocket_runs

from kasa_corda.paper.claims import Claim
from kasa_corda.paper.published import read_published
from kasa_corda.report.paper import write
from kasa_corda.report.paper.material import Material, gather
from kasa_corda.verdicts import beside, judge

EVIL = "<script>alert('run')</script>"
PRINTED = """paper,table,model,task,metric,method,parameters,value,std,source,kind,setting
kasa,table1,minilm,glue/rte,accuracy,lora,1000,66.1,0.4,made,paper,
kasa,table1,minilm,glue/mrpc,accuracy,lora,1000,12.3,,made,paper,
kasa,table1,minilm,glue/rte,accuracy,kasa,,99.9,,made,paper,
kasa,readme,minilm,glue/rte,accuracy,kasa,,88.8,,made,authors,
kasa,table1,minilm,glue/rte,accuracy,pissa,,,,made,paper,
corda,table6,llama2_7b,wikitext2,perplexity,discarded,,5.5,,made,paper,"plain SVD, 16 discarded"
corda,table6,llama2_7b,wikitext2,perplexity,discarded,,73.9,,made,paper,"plain SVD, 1024 discarded"
"""


def make_store(root: Path) -> None:
    """Two GLUE tasks with a search, KaSA's components, a failed run, and a label that tries to be a script."""
    runs = list(pocket_runs(("lora", "kasa", "full"), ("glue/mrpc", "glue/rte"), fresh_seeds=(100, 101, 102)))
    runs += ablation_runs(seeds=(100, 101, 102))
    runs += [Made(method="dora", seed=seed, changes={"method.label": f"dora {EVIL}"}) for seed in (100, 101)]
    runs += [Made(method="adalora", state="failed", error=f"{EVIL} CUDA out of memory")]
    for run in runs:
        make(root, run)


def material_of(root: Path, printed: Path) -> Material:
    """Judged by the real claims, beside a few printed numbers that the made runs are of."""
    printed.write_text(PRINTED, encoding="utf-8")
    material = gather([root], "pocket")
    material.cells = read_published(printed)
    material.claims += [of_made_runs(claim) for claim in material.claims if claim.id == "kasa.glue_roberta_large"]
    material.verdicts = {lr: judge(material.claims, material.records, "pocket", lr) for lr in ("paper", "tuned")}
    material.results = {lr: beside(material.cells, material.records, lr) for lr in ("paper", "tuned")}
    return material


def of_made_runs(claim: Claim) -> Claim:
    """The same claim on the two tasks that were made."""
    parts = tuple(replace(part, tasks=("glue/mrpc", "glue/rte")) for part in claim.pocket)
    return replace(claim, id="made.kasa_above_full", pocket=parts)


def written(folder: Path) -> Path:
    """index.html of the small report."""
    make_store(folder / "runs")
    return write(material_of(folder / "runs", folder / "printed.csv"), folder / "report")


@dataclass
class Number:
    """A table cell that claims to be the mean of some runs."""

    text: str
    value: float
    runs: list[str]
    path: list[str]
    times: float

    def again(self, results: dict[str, dict]) -> float:
        """The mean, computed from the files."""
        values = []
        for run in self.runs:
            value = results[run]
            for key in self.path[:2]:
                value = value[key]
            values.append(value[".".join(self.path[2:])] if self.path[2:] else value)
        return self.times * math.fsum(values) / len(values)


@dataclass
class Seen(HTMLParser):
    """What a reader without scripts gets."""

    numbers: list[Number] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    states: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._cell: dict[str, str | None] | None = None
        self._words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        for name in ("href", "src", "xlink:href", "action", "srcset"):
            if link := found.get(name):
                (self.links if link.startswith("#") else self.outside).append(link)
        if tag in ("td", "th"):
            self._cell, self._words = found, []

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("td", "th") or self._cell is None:
            return
        cell, text = self._cell, "".join(self._words).strip()
        if cell.get("data-runs"):
            times = float(cell.get("data-times") or 1)
            path = str(cell["data-path"]).split(".")
            self.numbers.append(
                Number(text, float(str(cell["data-value"])), str(cell["data-runs"]).split(), path, times)
            )
        state = [name for name in str(cell.get("class") or "").split() if name.startswith("s-")]
        self.states += [(name, text) for name in state]
        self._cell = None

    def handle_data(self, data: str) -> None:
        self._words.append(data)
        self.text.append(data)


def seen(page: str) -> Seen:
    parser = Seen()
    parser.feed(page)
    return parser


def results_of(roots: Iterable[Path]) -> dict[str, dict]:
    """run id -> result.json, read without the package."""
    return {path.parent.name: json.loads(path.read_text()) for root in roots for path in root.rglob("result.json")}
