"""Small copies of every original file layout, and of the hub data set, made up from the same rows."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from conftest import compose
from omegaconf import OmegaConf

from kasa_corda.tasks import TASKS, Task

GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
FOLDERS = dict(zip(GLUE, ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI"), strict=True))
ENTAILS = ("entailment", "not_entailment")
THREE = ("entailment", "neutral", "contradiction")
REVIEWS = "movieReviewSnippets_GroundTruth.txt"


@cache
def composed(name: str) -> dict[str, Any]:
    return compose(f"task={name}")["task"]


def make_task(name: str, **changes: Any) -> Task:
    """The task as a run gets it: composed from configs/, checked against its dataclass."""
    plain = composed(name)
    family = TASKS[plain["family"]]
    task = family(OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(family.Config), plain, changes)))
    task.check()
    return task


def texts(split: str, i: int) -> tuple[str, str]:
    """Text with what real files have: quotes, accents, an odd line separator, trailing space."""
    return f'{split} says " text {i}, caf\u00e9\u2028or not ', f"{split}: it's text {i} again"


def row(task: str, split: str, i: int) -> list[Any]:
    """One line of the original file."""
    a, b = texts(split, i)
    filler = ["x"] * 8
    number = i if split == "train" else 5000 + i
    return {
        "cola": ["gj04", i % 2, "" if i % 2 else "*", a],
        "sst2": [a, i % 2],
        "mrpc": [i % 2, number, 10_000 + number, a, b],
        "stsb": [i, "main", "MSRvid", "2012test", "0001", "none", "none", a, b, f"{i % 26 / 5:.3f}"],
        "qqp": [i, 2 * i, 2 * i + 1, a, b, i % 2],
        "mnli": [i, *filler[:7], a, b, *["neutral"] * (1 if split == "train" else 5), THREE[i % 3]],
        "qnli": [i, a, b, ENTAILS[i % 2]],
        "rte": [i, a, b, ENTAILS[i % 2]],
        "wnli": [i, a, b, i % 2],
    }[task]


def header(task: str, split: str) -> list[str]:
    """The first line of the original file; empty where it has none."""
    parses = "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse"
    votes = ["label1"] if split == "train" else [f"label{i}" for i in range(1, 6)]
    return {
        "cola": [],
        "sst2": ["sentence", "label"],
        "mrpc": ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
        "stsb": [
            "index",
            "genre",
            "filename",
            "year",
            "old_index",
            "source1",
            "source2",
            "sentence1",
            "sentence2",
            "score",
        ],
        "qqp": ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
        "mnli": [*parses.split(), "sentence1", "sentence2", *votes, "gold_label"],
        "qnli": ["index", "question", "sentence", "label"],
        "rte": ["index", "sentence1", "sentence2", "label"],
        "wnli": ["index", "sentence1", "sentence2", "label"],
    }[task]


def split_files(task: str) -> dict[str, str]:
    """Published split -> original file."""
    if task == "mnli":
        matched = {f"validation_{kind}": f"dev_{kind}.tsv" for kind in ("matched", "mismatched")}
        return {"train": "train.tsv", **matched}
    return {"train": "train.tsv", "validation": "dev.tsv"}


def lines(task: str, split: str, count: int) -> list[str]:
    rows = [header(task, split), *(row(task, split, i) for i in range(count))]
    return ["\t".join(map(str, fields)) for fields in rows if fields]


def write_files(root: Path, task: str, train: int = 60, other: int = 20) -> Path:
    """The original layout below ``root``; returns the folder of the task."""
    folder = root / FOLDERS[task]
    folder.mkdir(parents=True)
    for split, file in split_files(task).items():
        text = "\n".join(lines(task, split, train if split == "train" else other)) + "\n"
        (folder / file).write_text(text, encoding="utf-8", newline="\n")
    return folder


def hub_row(task: str, split: str, i: int) -> tuple[list[str], Any]:
    """(texts, label) as the hub data set has them."""
    pair = texts(split, i)
    single = task in ("cola", "sst2")
    label = i % 26 / 5 if task == "stsb" else i % 3 if task == "mnli" else i % 2
    return list(pair[:1] if single else pair), label


def write_hub(repository: Path, task: str, train: int = 60, other: int = 20) -> Path:
    """A folder laid out as nyu-mll/glue: <config>/<split>-00000-of-00001.parquet and a README with the configs."""
    import datasets

    config = composed(f"glue/{task}")
    label = datasets.ClassLabel(names=config["labels"]) if config["labels"] else datasets.Value("float32")
    names = config["columns"]
    features = {**dict.fromkeys(names, datasets.Value("string")), "label": label, "idx": datasets.Value("int32")}
    (repository / task).mkdir(parents=True)
    card = ["---", "configs:", f"- config_name: {task}", "  data_files:"]
    for split in split_files(task):
        rows = [hub_row(task, split, i) for i in range(train if split == "train" else other)]
        columns = {name: [values[k] for values, _ in rows] for k, name in enumerate(names)}
        columns |= {"label": [target for _, target in rows], "idx": list(range(len(rows)))}
        table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
        table.to_parquet(repository / task / f"{split}-00000-of-00001.parquet")
        card += [f"  - split: {split}", f"    path: {task}/{split}-*"]
    (repository / "README.md").write_text("\n".join([*card, "---", ""]), encoding="utf-8")
    return repository


def review_lines(count: int = 400) -> list[str]:
    """Ratings run evenly from -3.9 to 4; every 50th text repeats the one before in other case."""
    made = []
    for i in range(1, count + 1):
        text = f"Sentence Number {i - 1}  again" if i % 50 == 0 else f"sentence number {i} again"
        made.append(f"{i}\t{(i % 80 - 39) / 10}\t{text}")
    return made
