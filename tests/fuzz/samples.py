"""What is damaged: sound model folders, data files, adapters, caches, checkpoints and runs, all small, made once."""

from __future__ import annotations

import copy
import gzip
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

from conftest import WORDS, compose, write_tsv
from made_runs import Made, make
from small_language_model import save_language_model, write_gsm8k, write_jsonl, write_open_qa
from synthetic import FOLDERS, GLUE, REVIEWS, review_lines, write_files
from test_bad_files import write_family

ADAPTERS = ("lora", "kasa", "corda_ipa", "bitfit", "houlsby", "full", "probe", "prompt_tuning", "vera", "adalora")
"""methods whose stored forms differ: PEFT's, ours, changed bases, whole models"""


class Samples:
    """Folders below ``root``, made when first asked for; a finished one is left as it is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._plain: dict[str, dict[str, Any]] = {}

    def made(self, name: str, make: Any) -> Path:
        folder = self.root / name
        if not folder.exists():
            building = self.root / f".{name}"
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir(parents=True)
            make(building)
            building.replace(folder)
        return folder

    @property
    def bert(self) -> Path:
        return self.made("bert", save_bert)

    @property
    def sharded(self) -> Path:
        return self.made("sharded", lambda folder: save_bert(folder, max_shard_size="8KB"))

    @property
    def llama(self) -> Path:
        return self.made("llama", save_language_model)

    @property
    def data(self) -> Path:
        return self.made("data", write_data)

    @property
    def runs(self) -> Path:
        return self.made("runs", write_runs)

    def trained(self, method: str) -> Path:
        """A finished run directory with its adapter."""
        return self.made(f"trained-{method}", lambda folder: self._train(method, folder))

    @property
    def interrupted(self) -> Path:
        """The run directory of a run that was stopped behind its second of four steps."""
        return self.made("interrupted", self._interrupt)

    def plain(self, *overrides: str) -> dict[str, Any]:
        """The composed config of one run on the small model and data, as run.py resolves it."""
        given = [f"model.path={self.bert}", f"data_dir={self.data}", *overrides]
        key = " ".join(given)
        if key not in self._plain:
            small = ["model=local", "task=glue/sst2", "task.max_length=32", "trainer.epochs=1", "trainer.max_steps=4"]
            self._plain[key] = compose(*small, *given)
        return copy.deepcopy(self._plain[key])

    def _train(self, method: str, folder: Path) -> None:
        from kasa_corda.launch import launch, prepare

        rank = ["method.target_modules=qv"] if method in ("lora", "kasa", "corda_ipa", "vera", "adalora") else []
        plain = self.plain(f"method={method}", f"run_root={folder / 'root'}", *rank)
        if "rank" in plain["method"]:
            plain["method"]["rank"] = 2
        plain["calibration"] |= {"samples": 8, "length": 32}
        config, directory = prepare(plain)
        launch(config, directory, ["fuzz"])
        for file in list(directory.path.iterdir()):
            file.replace(folder / file.name)
        shutil.rmtree(folder / "root")

    def _interrupt(self, folder: Path) -> None:
        from kasa_corda.checkpoint import CheckpointFolder
        from kasa_corda.launch import launch, prepare

        class Stop(KeyboardInterrupt):
            pass

        saved = CheckpointFolder.save

        def save(self: Any, groups: Any, progress: Any, *rest: Any) -> None:
            saved(self, groups, progress, *rest)
            if progress.get("step", 0) >= 2:
                raise Stop

        config, directory = prepare(self.resuming(folder / "root"))
        CheckpointFolder.save = save  # type: ignore[method-assign]
        try:
            launch(config, directory, ["fuzz"])
        except Exception:
            pass
        finally:
            CheckpointFolder.save = saved  # type: ignore[method-assign]
        assert (directory.path / "checkpoint" / "progress.json").exists(), "the sample run left no checkpoint"
        for file in list(directory.path.iterdir()):
            file.replace(folder / file.name)
        shutil.rmtree(folder / "root")

    def resuming(self, run_root: Path) -> dict[str, Any]:
        plain = self.plain("method=lora")
        plain["trainer"]["checkpoint_every"] = 1
        plain["method"]["rank"] = 2
        plain["run_root"] = str(run_root)
        return plain


def save_bert(folder: Path, **options: Any) -> None:
    """A BERT of two narrow layers with random weights and a tokenizer of words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    BertTokenizerFast(vocab={w: i for i, w in enumerate(vocabulary)}, model_max_length=64).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **shape)).save_pretrained(
        folder, **options
    )


LAYOUTS: dict[str, str] = {
    **{f"glue/{name}": folder for name, folder in FOLDERS.items()},
    **{name: name for name in ("gsm8k", "nq_open", "webqs", "triviaqa", "e2e", "dart", "mbpp", "humaneval", "alpaca")},
    **{name: name for name in ("no_robots", "mt_bench", "math", "metamath", "wikitext2")},
    "commonsense/arc_easy": "commonsense",
    "reviews": REVIEWS,
}
"""task -> its files or folder below the data folder"""


def write_data(folder: Path) -> None:
    """A small copy of every family's published layout."""
    for name in GLUE:
        if name != "sst2":
            write_files(folder, name)
    draw = random.Random(0)
    for split, count in (("train", 120), ("dev", 20)):
        rows = [(" ".join(draw.choices(WORDS, k=6)), i % 2) for i in range(count)]
        write_tsv(folder / "SST-2" / f"{split}.tsv", ["sentence", "label"], rows)
    (folder / REVIEWS).write_text("\n".join(review_lines()) + "\n", encoding="utf-8")
    write_gsm8k(folder)
    write_open_qa(folder)
    for name in ("e2e", "mbpp", "commonsense/arc_easy"):
        write_family(name, folder)
    trivia = [{"question": f"who is {i}", "answer": {"value": f"P{i}", "aliases": [f"P{i}"]}} for i in range(20)]
    write_jsonl(folder / "triviaqa" / "validation.jsonl", trivia)
    for split in ("train", "test"):
        told = [{"tripleset": [["a", "b", str(i)]], "target": f"A is {i}.", "references": [f"A is {i}."]}
                for i in range(500 if split == "train" else 20)]  # fmt: skip
        write_jsonl(folder / "dart" / f"{split}.jsonl", told)
        talks = [{"prompt": f"{split} {i}", "messages": talk(f"{split} {i}?")} for i in range(300)]
        write_jsonl(folder / "no_robots" / f"{split}.jsonl", talks)
    solved = [
        {"problem": f"{i}+1?", "level": "Level 1", "type": "Algebra", "solution": f"It is $\\boxed{{{i + 1}}}$."}
        for i in range(60)
    ]
    for name in ("algebra", "counting_and_probability", "number_theory", "prealgebra"):
        rows = [{**row, "problem": f"{name}: {row['problem']}"} for row in solved]
        write_jsonl(folder / "math" / f"{name}_train.jsonl", rows)
    write_jsonl(folder / "math" / "MATH_test.jsonl", solved)
    meta = [{"query": f"What is {i}?", "response": f"It is {i}. The answer is: {i}"} for i in range(200)]
    write(folder / "metamath" / "MetaMathQA-395K.json", json.dumps(meta).encode())
    told = [{"instruction": f"Do {i}.", "input": "", "output": f"Done {i}."} for i in range(400)]
    write(folder / "alpaca" / "alpaca_data_cleaned.json", json.dumps(told).encode())
    asked = [{"question_id": 81 + i, "category": "writing", "turns": [f"Write {i}.", "Shorter."]} for i in range(5)]
    write_jsonl(folder / "mt_bench" / "question.jsonl", asked)
    coded = [{"task_id": f"HumanEval/{i}", "prompt": f"def f{i}(x):\n", "entry_point": f"f{i}",
              "canonical_solution": "    return x\n", "test": f"def check(c):\n    assert c({i}) == {i}\n"}
             for i in range(10)]  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in coded).encode()
    write(folder / "humaneval" / "HumanEval.jsonl.gz", gzip.compress(lines, mtime=0))
    write(folder / "wikitext2" / "wiki.test.raw", b" = Title = \n\n A line of text .\n" * 6)


def talk(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": f"Yes: {question}"}]


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_runs(folder: Path) -> None:
    """A store of finished runs, one of them with predictions and layers, and one that is running."""
    for method in ("lora", "kasa"):
        for seed in (100, 101):
            path = make(folder, Made(method=method, seed=seed))
    rows = [{"id": str(i), "prediction": i % 2, "reference": 1, "score": i % 2} for i in range(20)]
    write_jsonl(path / "predictions" / "test.jsonl", rows)
    write_jsonl(path / "layers.jsonl", [{"layer": "query", "rank": 8, "singular_values": [1.0, 0.5]}])
    going = make(folder, Made(method="pissa", state="running"))
    status = {"state": "running", "attempt": 1, "pid": os.getpid(), "host": "elsewhere", "time": 1.0}
    (going / "status.json").write_text(json.dumps(status))
    events = [{"time": float(i), "event": "train", "step": i, "epoch": i / 10, "loss": 0.5} for i in range(1, 9)]
    write_jsonl(going / "metrics.jsonl", events)
