"""GLUE: from a local folder in the original TSV layout, else from the hub.

The public test sets have no labels, so ``test`` is the official validation set, as in the papers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from omegaconf import MISSING

from ..config.schema import option
from ..errors import ConfigError, DataError
from . import TASKS
from ._labels import class_index, number
from ._splits import carve
from ._text import TextConfig, TextTask
from ._tsv import Table, read_tsv
from .base import Example, TaskData

FOLDERS = ("glue", ".", "glue_data")
"""where below data_dir the folder of a task is looked for"""
SCORES = (0.0, 5.0)
"""range of a regression's label (STS-B)"""


@dataclass
class GlueConfig(TextConfig):
    """One GLUE task: its names on the hub and in the original files."""

    splits: dict[str, str] = option(
        {"train": "train", "test": "validation"}, "published name of each split we use; test and test_* are evaluated"
    )
    hub_id: str = option("nyu-mll/glue", "hub data set, or a local folder with that data set's layout")
    hub_config: str = option(MISSING, "its configuration")
    hub_revision: Optional[str] = option(None, "hub branch, tag or commit; null is the default branch")
    folder: str = option(MISSING, "folder of the original files, in data_dir/glue or data_dir")
    files: dict[str, str] = option({"train": "train.tsv", "test": "dev.tsv"}, "original file of each split")
    header: list[str] = option([], "column names where the files have no header line")
    file_columns: list[str] = option([], "columns of the texts in the files; empty is as task.columns")
    file_label: str = option("label", "column of the label in the files")
    file_labels: list[str] = option([], "labels in the files in the order of task.labels; empty is as task.labels")
    lenient: bool = option(
        False, "official files have rows with wrong column counts (skipped, counted) or one empty text"
    )
    full_train: Optional[str] = option(None, "file with the rows of train and validation, completes a short train file")
    validation_ids: Optional[str] = option(None, "file of the validation rows' ids in full_train, no header")
    id_columns: list[str] = option([], "columns of full_train that hold these ids")


@TASKS.register("glue")
class Glue(TextTask):
    Config = GlueConfig

    def check(self) -> None:
        super().check()
        config = self.config
        for key in ("splits", "files"):
            names = list(getattr(config, key))
            if "train" not in names or "test" not in names:
                raise ConfigError(f"task.{key} names {', '.join(names) or 'no split'}, but train and test are needed")
        if set(config.splits) != set(config.files):
            raise ConfigError(
                f"task.splits names {', '.join(config.splits)}, but task.files names {', '.join(config.files)}"
            )
        if len(self._text_columns()) != len(config.columns):
            raise ConfigError(
                f"task.file_columns={list(config.file_columns)} must be as many as task.columns={list(config.columns)}"
            )
        if config.file_labels and len(config.file_labels) != len(config.labels):
            raise ConfigError(
                f"task.file_labels={list(config.file_labels)} must be as many as task.labels={list(config.labels)}"
            )

    def load(self, data_dir: Path | None, selection: str) -> TaskData:
        folder = self._folder(data_dir)
        missing = [file for file in self.config.files.values() if folder and not (folder / file).exists()]
        if folder and not missing:
            splits, source, notes = self._from_files(folder)
        else:
            local = f"{folder} lacks {' and '.join(missing)}" if folder else self._no_folder(data_dir)
            splits, source, notes = self._from_hub(local)
            notes += [f"local folder not used: {local}"] if folder else []
        published = self.config.splits
        notes += self.size_notes({published[name]: len(examples) for name, examples in splits.items()})
        train = splits.pop("train")
        if selection == "held_out":
            train, select = carve(train, self.config.held_out)
        else:
            select = [example for examples in splits.values() for example in examples]
        return self.assemble(train, select, splits, source=source, notes=notes)

    def _folder(self, data_dir: Path | None) -> Path | None:
        if data_dir is None:
            return None
        candidates = [data_dir / parent / self.config.folder for parent in FOLDERS]
        candidates += [data_dir] if data_dir.name == self.config.folder else []
        return next((folder for folder in candidates if folder.is_dir()), None)

    def _no_folder(self, data_dir: Path | None) -> str:
        name = self.config.folder
        return f"{data_dir} has neither glue/{name} nor {name}" if data_dir else "data_dir is not given"

    def _from_files(self, folder: Path) -> tuple[dict[str, list[Example]], str, list[str]]:
        config = self.config
        tables = {name: self._table(folder / file) for name, file in config.files.items()}
        skips = [table for table in tables.values() if table.skipped]
        notes = [f"{table.path.name}: {table.skipped} rows with a wrong number of columns skipped" for table in skips]
        complete = self._complete_train(folder, tables["train"])
        if complete is not None:
            added = len(complete.rows) - len(tables["train"].rows)
            notes.append(f"{added} training row(s) that train.tsv lacks restored from {complete.path.name}")
            tables["train"] = complete
        return {name: self._examples(name, table) for name, table in tables.items()}, f"local folder {folder}", notes

    def _table(self, path: Path) -> Table:
        return read_tsv(path, list(self.config.header) or None, lenient=self.config.lenient)

    def _complete_train(self, folder: Path, train: Table) -> Table | None:
        """full_train without the validation rows, if it holds every row of ``train`` and more; else None."""
        config = self.config
        if not (config.full_train and config.validation_ids):
            return None
        pool, ids = folder / config.full_train, folder / config.validation_ids
        if not (pool.exists() and ids.exists()):
            return None
        table = self._table(pool)
        positions = [table.position(name) for name in config.id_columns]
        held_back = {tuple(fields) for _, fields in read_tsv(ids, list(config.id_columns)).rows}
        rows = [row for row in table.rows if tuple(row[1][i] for i in positions) not in held_back]
        have = {tuple(fields) for _, fields in rows}
        if len(rows) <= len(train.rows) or any(tuple(fields) not in have for _, fields in train.rows):
            return None
        return Table(pool, table.columns, rows, table.skipped)

    def _text_columns(self) -> list[str]:
        return list(self.config.file_columns or self.config.columns)

    def _examples(self, split: str, table: Table) -> list[Example]:
        names, file_label = self._text_columns(), self.config.file_label
        texts, label = [table.position(name) for name in names], table.position(file_label)
        examples = []
        for index, (line, fields) in enumerate(table.rows):
            values = [fields[i] for i in texts]
            empty = [name for name, value in zip(names, values, strict=True) if not value.strip()]
            if empty and not (self.config.lenient and len(empty) < len(names)):
                raise DataError(f"{table.path}, line {line}, column {empty[0]!r}: the text is empty")
            where = f"{table.path}, line {line}, column {file_label!r}"
            target = self._label(fields[label].strip(), list(self.config.file_labels or self.config.labels), where)
            examples.append(Example(f"{split}-{index}", values[0], values[1] if len(values) == 2 else None, target))
        return examples

    def _label(self, value: Any, names: Sequence[Any], where: str) -> int | float:
        if self.config.kind == "regression":
            return number(value, *SCORES, where)
        return class_index(value, names, where)

    def _from_hub(self, local: str) -> tuple[dict[str, list[Example]], str, list[str]]:
        from ._hub import load_hub

        config = self.config
        try:
            found = load_hub(config.hub_id, config.hub_config, list(config.splits.values()), config.hub_revision)
        except DataError as error:
            files = " and ".join(f"{config.folder}/{file}" for file in config.files.values())
            raise DataError(
                f"task {config.name} can't be read: {local}; {error}. Ways on: connect to the hub; give "
                f"data_dir=FOLDER (or set KASA_CORDA_DATA) with {files}; or use a built-in task such as task=reviews"
            ) from None
        splits = {name: self._hub_examples(name, found.splits[theirs]) for name, theirs in config.splits.items()}
        return splits, found.source, []

    def _hub_examples(self, split: str, rows: Any) -> list[Example]:
        config = self.config
        where = f"hub {config.hub_id} ({config.hub_config}), split {config.splits[split]}"
        missing = [name for name in (*config.columns, "label") if name not in rows.column_names]
        if missing:
            raise DataError(f"{where}: column {missing[0]!r} is missing; found {', '.join(rows.column_names)}")
        names = getattr(rows.features["label"], "names", None)
        if names is not None and list(names) != list(config.labels):
            raise DataError(f"{where}: the labels are {', '.join(names)}, expected {', '.join(config.labels)}")
        texts = [list(rows[name]) for name in config.columns]
        examples = []
        for index, (*values, value) in enumerate(zip(*texts, list(rows["label"]), strict=True)):
            place = f"{where}, row {index}, column"
            for name, text in zip(config.columns, values, strict=True):
                if not isinstance(text, str):
                    raise DataError(f"{place} {name!r}: {text!r} is not a text")
            target = self._label(value, range(len(config.labels)), f"{place} 'label'")
            examples.append(Example(f"{split}-{index}", values[0], values[1] if len(values) == 2 else None, target))
        return examples
