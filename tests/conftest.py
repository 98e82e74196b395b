"""A tiny real BERT and a tiny learnable data set, so that whole runs take seconds."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from small_models import Pretrained

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

ROOT = Path(__file__).resolve().parents[1]
WORDS = [
    "good",
    "great",
    "fine",
    "bad",
    "awful",
    "dull",
    "film",
    "movie",
    "plot",
    "actor",
    "the",
    "a",
    "is",
    "was",
    "so",
]


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("models") / "tiny-bert")


def save_tiny_bert(folder: Path) -> Path:
    """A 2-layer BERT with a word-level tokenizer, saved as a local model folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = BertTokenizerFast(vocab={w: i for i, w in enumerate(vocabulary)}, model_max_length=64)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, initializer_range=0.2, **shape)
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Pretrained:
    """A small pretrained folder of each architecture, made when asked for."""
    return Pretrained(tmp_path_factory.mktemp("pretrained"), tiny_bert)


@pytest.fixture(scope="session")
def tiny_glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_glue(tmp_path_factory.mktemp("data"))


def write_tiny_glue(data: Path) -> Path:
    """SST-2 and MRPC in the original GLUE layout; the label follows from the words."""
    folder = data / "glue"
    for name, seed, count in (("train", 0, 240), ("dev", 1, 60)):
        generator = random.Random(seed)
        texts = [" ".join(generator.choices(WORDS, k=6)) for _ in range(count)]
        positive = [sum(w in WORDS[:3] for w in t.split()) > sum(w in WORDS[3:6] for w in t.split()) for t in texts]
        write_tsv(
            folder / "SST-2" / f"{name}.tsv", ["sentence", "label"], list(zip(texts, map(int, positive), strict=True))
        )
        pairs = [(t, t if i % 2 else " ".join(reversed(t.split()))) for i, t in enumerate(texts)]
        rows = [(i % 2, i, i, first, second) for i, (first, second) in enumerate(pairs)]
        write_tsv(folder / "MRPC" / f"{name}.tsv", ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"], rows)
    return data


def write_tsv(path: Path, header: list[str], rows: list[tuple]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join("\t".join(map(str, row)) for row in [header, *rows]) + "\n", encoding="utf-8")


class CommandLine:
    """run.py in a process of its own, on the tiny model and data."""

    def __init__(self, folder: Path, model: Path, data: Path) -> None:
        self.folder = folder
        self.run_py = ROOT / "run.py"
        self.defaults = ["model=local", f"model.path={model}", f"data_dir={data}", f"run_root={folder / 'runs'}"]
        self.defaults += ["task=glue/sst2", "task.max_length=32", "trainer.epochs=1"]

    def __call__(
        self, *arguments: str, defaults: bool = True, module: str | None = None
    ) -> subprocess.CompletedProcess:
        start = ["-m", module] if module else [str(ROOT / "run.py")]
        command = [sys.executable, *start, *(self.defaults if defaults and not module else []), *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("KASA_CORDA_DATA", None)
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )


@pytest.fixture
def run_py(tmp_path: Path, tiny_bert: Path, tiny_glue: Path) -> CommandLine:
    return CommandLine(tmp_path, tiny_bert, tiny_glue)


def compose(*overrides: str) -> dict:
    """The plain config of one command line, as run.py composes it."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    from kasa_corda.config import register

    register(ConfigStore.instance())
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return OmegaConf.to_container(hydra_compose("config", list(overrides)), resolve=True)
