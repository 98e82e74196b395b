"""Question sets and plain text as data: local files in the published layouts, else the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ConfigError, DataError
from . import SOURCES, RunData, Source, Texts


@dataclass(frozen=True)
class Corpus:
    """Where one corpus is found."""

    folder: str
    files: tuple[str, ...]
    """patterns of its files in data_dir/folder, training files first; the first that exists is read"""
    field: str
    """key of the text in JSON lines"""
    train_files: int
    """how many of the patterns are training data"""
    hub: tuple[str, str | None] | None
    """data set and configuration on the hub, split train"""


CORPORA = {
    "nq_open": Corpus(
        "nq_open",
        ("NQ-open.train.jsonl", "NQ-open.efficientqa.dev.1.1.jsonl", "NQ-open.dev.jsonl"),
        "question",
        1,
        ("google-research-datasets/nq_open", None),
    ),
    "triviaqa": Corpus(
        "triviaqa",
        ("*train*.jsonl", "*train*.json", "*.jsonl", "*.json"),
        "question",
        2,
        ("mandarjoshi/trivia_qa", "rc.nocontext"),
    ),
    "webqs": Corpus(
        "webqs",
        ("WebQuestions-train.txt", "*train*.jsonl", "*.jsonl"),
        "question",
        2,
        ("stanfordnlp/web_questions", None),
    ),
    "wikitext2": Corpus(
        "wikitext2",
        ("wiki.train.raw", "wiki.train.*", "*.txt"),
        "text",
        2,
        ("Salesforce/wikitext", "wikitext-2-raw-v1"),
    ),
    "ptb": Corpus("ptb", ("ptb.train.txt", "*.txt"), "sentence", 1, ("ptb-text-only/ptb_text_only", None)),
    "c4": Corpus("c4", ("*train*.json*", "*.json*", "*.txt"), "text", 1, None),
}
"""NQ-open: questions of the efficient-QA challenge stand in for absent training questions, apart from the dev set on
which forgetting is measured"""


class CorpusSource(Source):
    """Texts of one corpus."""

    name: str

    def load(self, run: RunData) -> list[Texts]:
        corpus = CORPORA[self.name]
        folder = run.data_dir / corpus.folder if run.data_dir else None
        for index, pattern in enumerate(corpus.files):
            file = next(iter(sorted(folder.glob(pattern))), None) if folder else None
            if file is not None:
                notes = [] if index < corpus.train_files else [f"calibrated on {file.name}, not on training data"]
                return [Texts(f"local file {file}", read_texts(file, corpus.field), notes=notes)]
        return [self._from_hub(corpus, folder)]

    def _from_hub(self, corpus: Corpus, folder: Path | None) -> Texts:
        from ...tasks._hub import load_hub

        local = f"{folder} has no {' or '.join(corpus.files)}" if folder else "data_dir is not given"
        reason = "it is too large to be loaded from the hub"
        try:
            if corpus.hub is not None:
                found = load_hub(*corpus.hub, ["train"])
                return Texts(found.source, [text for text in found.splits["train"][corpus.field] if text.strip()])
        except DataError as error:
            reason = str(error)
        raise DataError(
            f"calibration.source={self.name} can't be read: {local}; {reason}. Ways on: connect to the hub; give"
            f" data_dir=FOLDER with {corpus.folder}/{corpus.files[0]}; or use calibration.source=train, or"
            " calibration.source=file calibration.path=FILE"
        )


for _name in CORPORA:
    SOURCES.register(_name)(type(f"Corpus_{_name}", (CorpusSource,), {"name": _name}))


@SOURCES.register("file")
class FileSource(Source):
    """Texts of ``calibration.path``: one per line of a text file, or ``calibration.field`` of each line of JSONL."""

    def check(self) -> None:
        if not self.config.path:
            raise ConfigError("calibration.source=file needs calibration.path=FILE (text or JSONL)")
        if not Path(self.config.path).expanduser().is_file():
            raise DataError(f"calibration.path={self.config.path} is not a file")

    def load(self, run: RunData) -> list[Texts]:
        file = Path(str(self.config.path)).expanduser()
        return [Texts(f"local file {file.name}", read_texts(file, self.config.field))]


def read_texts(file: Path, field: str) -> list[str]:
    """Non-empty texts of a file: lines of plain text, or ``field`` (any case) of JSON lines or of TriviaQA's JSON."""
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} can't be read as UTF-8 text: {error}") from None
    if content.lstrip().startswith("{"):
        texts = list(_json_texts(file, content, field))
    else:
        texts = content.splitlines()
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise DataError(f"the calibration set is empty: {file} holds no text")
    return texts


def _json_texts(file: Path, content: str, field: str) -> Iterator[str]:
    try:
        whole = json.loads(content)
        rows = list(enumerate(whole["Data"], 1)) if "Data" in whole else [(1, whole)]
    except ValueError:
        lines = [(number, line) for number, line in enumerate(content.split("\n"), 1) if line.strip()]
        rows = [(number, _parsed(file, number, line)) for number, line in lines]
    for number, row in rows:
        found = next((row[key] for key in (field, field.capitalize()) if isinstance(row.get(key), str)), None)
        if found is None:
            raise DataError(f"{file}, row {number}: no text called {field!r}; it has {', '.join(row)}")
        yield found


def _parsed(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{file}, line {number} is not JSON ({error})") from None
    if not isinstance(row, dict):
        raise DataError(f"{file}, line {number} is not a JSON object")
    return row
